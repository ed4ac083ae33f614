-- A turn: begun with its hold, finished with what it really took, in one transaction each. What nobody finishes within
-- five minutes (the function that wrote the answer died) is closed by a sweep, and its hold goes back.

create function private.turn_units(input_tokens integer, output_tokens integer) returns numeric
language sql immutable
set search_path = ''
as $$ select round((input_tokens + 8 * output_tokens) / 1000.0, 6) $$;
comment on function private.turn_units(integer, integer) is
  'What tokens count on the meter assistant: what a model writes costs its provider eight times what it reads.';
revoke all on function private.turn_units from public, anon, authenticated, service_role;
grant execute on function private.turn_units to service_role;

create function private.turn_limit() returns numeric
language sql immutable
set search_path = ''
as $$ select 60::numeric $$;
comment on function private.turn_limit() is 'Units that are held for a turn, and the most it may take.';
revoke all on function private.turn_limit from public, anon, authenticated, service_role;
grant execute on function private.turn_limit to service_role;

create function private.begin_turn(session_id uuid, content text, key text) returns ai.conversation_turns
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_session ai.conversation_sessions := private.session_of_caller(begin_turn.session_id);
  v_turn ai.conversation_turns;
begin
  perform private.require_role(v_session.workspace_id, 'member');
  if begin_turn.content is null or length(btrim(begin_turn.content)) not between 1 and 8000 then
    perform private.fail('invalid_argument', 'content must have 1 to 8,000 characters.', '{"argument": "content"}');
  end if;
  select * into v_turn from ai.conversation_turns t where t.session_id = v_session.id and t.key = begin_turn.key;
  if v_turn.id is not null then
    if (select m.content from ai.conversation_messages m where m.turn_id = v_turn.id and m.role = 'user')
        is distinct from btrim(begin_turn.content) then
      perform private.fail('key_reused', 'This key has been used for another question.',
        jsonb_build_object('key', key));
    end if;
    return v_turn;
  elsif v_session.ended_at is not null then
    perform private.fail('session_ended', 'This conversation has ended.');
  elsif exists (select from ai.conversation_turns t where t.session_id = v_session.id and t.status = 'running') then
    perform private.fail('turn_running', 'The last question is still being answered.',
      jsonb_build_object('session_id', v_session.id));
  end if;
  perform private.correlate();
  insert into ai.conversation_turns (workspace_id, session_id, key, created_by, created_at)
  values (v_session.workspace_id, v_session.id, begin_turn.key, auth.uid(), private.now())
  returning * into v_turn;
  insert into ai.conversation_messages (workspace_id, session_id, turn_id, role, content)
  values (v_session.workspace_id, v_session.id, v_turn.id, 'user', btrim(begin_turn.content));
  update ai.conversation_sessions s
  set message_count = s.message_count + 1, last_activity_at = private.now(),
    title = coalesce(s.title, left(btrim(begin_turn.content), 80))
  where s.id = v_session.id;
  update ai.conversation_turns t set usage_event_id = (billing.authorize_usage(v_session.workspace_id, 'assistant',
    private.turn_limit(), 'turn:' || v_turn.id, jsonb_strip_nulls(jsonb_build_object('source_id', v_session.id,
      'service_subtype', 'turn', 'user_id', auth.uid())))).usage_event_id
  where t.id = v_turn.id returning * into v_turn;
  return v_turn;
end $$;
comment on function private.begin_turn(uuid, text, text) is 'Core of ai.begin_turn.';
revoke all on function private.begin_turn from public, anon, authenticated, service_role;
grant execute on function private.begin_turn to authenticated, service_role;

-- Errors: unknown_session, role_too_low, invalid_argument, session_ended, turn_running, key_reused,
-- insufficient_credits, wallet_frozen.
create function ai.begin_turn(session_id uuid, content text, key text default null) returns ai.conversation_turns
language sql
set search_path = ''
as $$ select private.begin_turn(begin_turn.session_id, begin_turn.content, begin_turn.key) $$;
comment on function ai.begin_turn(uuid, text, text) is
  'Stores a question and holds the most its answer may cost; the function assistant calls it and answers.';
revoke all on function ai.begin_turn from public, anon, authenticated, service_role;
grant execute on function ai.begin_turn to authenticated, service_role;

create function private.cancel_turn(turn_id uuid) returns ai.conversation_turns
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_turn ai.conversation_turns;
begin
  select * into v_turn from ai.conversation_turns t where t.id = cancel_turn.turn_id;
  if v_turn.id is null or not private.has_role(v_turn.workspace_id, 'viewer') then
    perform private.fail('unknown_turn', 'There is no such turn among those of your workspaces.',
      jsonb_build_object('turn_id', turn_id));
  end if;
  perform private.require_role(v_turn.workspace_id, 'member');
  update ai.conversation_turns t set cancel_requested_at = coalesce(t.cancel_requested_at, private.now())
  where t.id = v_turn.id and t.status = 'running' returning * into v_turn;
  if not found then
    select * into v_turn from ai.conversation_turns t where t.id = cancel_turn.turn_id;
  end if;
  return v_turn;
end $$;
comment on function private.cancel_turn(uuid) is 'Core of ai.cancel_turn.';
revoke all on function private.cancel_turn from public, anon, authenticated, service_role;
grant execute on function private.cancel_turn to authenticated, service_role;

create function ai.cancel_turn(turn_id uuid) returns ai.conversation_turns
language sql
set search_path = ''
as $$ select private.cancel_turn(cancel_turn.turn_id) $$;
comment on function ai.cancel_turn(uuid) is
  'Stops an answer within a second or two; what has been written is kept and charged, the rest goes back.';
revoke all on function ai.cancel_turn from public, anon, authenticated, service_role;
grant execute on function ai.cancel_turn to authenticated, service_role;

-- What the model is told before the question: who it speaks for, who is asking, what was said. The history goes back
-- as far as so many messages, and no further than so many characters.
create function ai.turn_context(turn_id uuid, most_messages integer default 20, most_characters integer default 12000)
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object('turn_id', t.id, 'session_id', s.id, 'workspace_id', t.workspace_id,
    'status', t.status, 'created_by', t.created_by, 'channel', s.channel,
    'customer_id', s.customer_id, 'anonymous_id', s.anonymous_id,
    'brand', w.name, 'brand_description', w.description, 'voice', coalesce(b.voice_attributes, '{}'),
    'limit_units', private.turn_limit(),
    'preferences', (select coalesce(jsonb_object_agg(p.category || '.' || p.preference_key, p.preference_value), '{}')
      from ai.customer_profile(t.workspace_id, s.customer_id, s.anonymous_id, 0.3) p),
    'question', (select m.content from ai.conversation_messages m where m.turn_id = t.id and m.role = 'user'),
    'history', (select coalesce(jsonb_agg(jsonb_build_object('role', h.role, 'content', h.content)
        order by h.position), '[]')
      from (select r.*, sum(length(r.content)) over (order by r.position desc) as characters
        from (select m.role, m.content, m.position from ai.conversation_messages m
          where m.session_id = s.id and m.role in ('user', 'assistant') and m.turn_id is distinct from t.id
            and m.content <> '' order by m.position desc limit most_messages) r) h
      where h.characters <= most_characters))
  from ai.conversation_turns t
  join ai.conversation_sessions s on s.id = t.session_id
  join identity.workspaces w on w.id = t.workspace_id
  left join ai.brand_intelligence b on b.workspace_id = t.workspace_id
  where t.id = turn_context.turn_id
$$;
comment on function ai.turn_context is 'All that a model is told of a turn: brand, customer, history and question.';
revoke all on function ai.turn_context from public, anon, authenticated, service_role;
grant execute on function ai.turn_context to service_role;

-- status: completed, cancelled (what was written counts) or failed (nothing is charged). messages, in order:
-- [{role: tool | assistant, content, tool_name, tool_input, tool_output, citations, confidence, latency_ms}].
-- Repeating it answers the first result.
create function ai.finish_turn(turn_id uuid, status text, messages jsonb, input_tokens integer, output_tokens integer,
  model text, error_message text default null) returns ai.conversation_turns
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_turn ai.conversation_turns;
  v_cost bigint := 0;
  v_added integer;
begin
  perform from ai.conversation_sessions s
  where s.id = (select t.session_id from ai.conversation_turns t where t.id = finish_turn.turn_id) for no key update;
  select * into v_turn from ai.conversation_turns t where t.id = finish_turn.turn_id for no key update;
  if v_turn.id is null then
    perform private.fail('unknown_turn', 'There is no such turn.', jsonb_build_object('turn_id', turn_id));
  elsif v_turn.status <> 'running' then
    return v_turn;
  end if;
  if finish_turn.status = 'failed' or finish_turn.input_tokens + finish_turn.output_tokens = 0 then
    perform billing.release_usage(v_turn.usage_event_id, coalesce(finish_turn.error_message, finish_turn.status));
  else
    v_cost := (billing.capture_usage(v_turn.usage_event_id, least(private.turn_limit(),
      private.turn_units(finish_turn.input_tokens, finish_turn.output_tokens)))).amount_micro;
  end if;
  insert into ai.conversation_messages (workspace_id, session_id, turn_id, role, content, tool_name, tool_input,
    tool_output, citations, model_used, input_tokens, output_tokens, latency_ms, confidence, cost_micro)
  select v_turn.workspace_id, v_turn.session_id, v_turn.id, m.role, coalesce(m.content, ''), m.tool_name, m.tool_input,
    m.tool_output, coalesce(m.citations, '{}'), model,
    case m.role when 'assistant' then finish_turn.input_tokens end,
    case m.role when 'assistant' then finish_turn.output_tokens end, m.latency_ms, m.confidence,
    case m.role when 'assistant' then v_cost else 0 end
  from rows from (jsonb_to_recordset(messages) as (role text, content text, tool_name text, tool_input jsonb,
    tool_output jsonb, citations uuid[], latency_ms integer, confidence numeric)) with ordinality as m (role, content,
    tool_name, tool_input, tool_output, citations, latency_ms, confidence, place)
  order by m.place;
  get diagnostics v_added = row_count;
  update ai.conversation_sessions s
  set message_count = s.message_count + v_added, cost_micro = s.cost_micro + v_cost, last_activity_at = private.now(),
    tool_calls_count = s.tool_calls_count
      + (select count(*) from jsonb_array_elements(messages) m where m ->> 'role' = 'tool')
  where s.id = v_turn.session_id;
  update ai.conversation_turns t
  set status = finish_turn.status, completed_at = private.now(), input_tokens = finish_turn.input_tokens,
    output_tokens = finish_turn.output_tokens, cost_micro = v_cost,
    error_message = case finish_turn.status when 'failed'
      then coalesce(finish_turn.error_message, 'internal_error: The answer failed for a reason on our side.') end
  where t.id = v_turn.id returning * into v_turn;
  return v_turn;
end $$;
comment on function ai.finish_turn is 'Stores an answer and charges the tokens it took, or gives the hold back.';
revoke all on function ai.finish_turn from public, anon, authenticated, service_role;
grant execute on function ai.finish_turn to service_role;

create function ai.close_stale_turns() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  -- all conversations before any wallet, and none that somebody holds: see ai.finish_turn. Wallets by workspace, as
  -- everywhere.
  v_turns uuid[] := array(select o.id from (
      select t.id, t.workspace_id from ai.conversation_turns t
      join ai.conversation_sessions s on s.id = t.session_id
      where t.status = 'running' and t.created_at < private.now() - interval '5 minutes'
      order by t.created_at limit 100 for no key update of s skip locked) o
    order by o.workspace_id, o.id);
  v_turn uuid;
begin
  foreach v_turn in array v_turns loop
    perform ai.finish_turn(v_turn, 'failed', '[]', 0, 0, null, 'answer_lost: The answer broke off.');
  end loop;
  return cardinality(v_turns);
end $$;
comment on function ai.close_stale_turns() is 'Sweep: ends turns that nobody finished, and gives their holds back.';
revoke all on function ai.close_stale_turns from public, anon, authenticated, service_role;
grant execute on function ai.close_stale_turns to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('close stale turns', 'ai.close_stale_turns', interval '1 minute');

create constraint trigger release_deleted_turns after delete on ai.conversation_turns
  deferrable initially deferred
  for each row when (old.status = 'running') execute function billing._release_deleted_hold();
create constraint trigger release_deleted_batches after delete on ai.embedding_batches
  deferrable initially deferred
  for each row when (old.status = 'pending') execute function billing._release_deleted_hold();
create constraint trigger release_deleted_brands after delete on ai.brand_intelligence
  deferrable initially deferred
  for each row when (old.analysis_status = 'pending') execute function billing._release_deleted_hold();
