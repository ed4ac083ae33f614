-- Members' calls that order the inbox: read, categories, open and closed, reactions, what may still be sent.

create function private.mark_read(conversation_id uuid) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_conversation social.conversations := private.conversation_of_caller(mark_read.conversation_id);
begin
  perform private.require_role(v_conversation.workspace_id, 'member');
  update social.messages m set read_at = private.now()
  where m.conversation_id = v_conversation.id and m.direction = 'inbound' and m.read_at is null;
  update social.conversations c set unread_count = 0 where c.id = v_conversation.id returning * into v_conversation;
  return v_conversation;
end $$;
comment on function private.mark_read(uuid) is 'Core of social.mark_read; checks the caller first.';
revoke all on function private.mark_read from public, anon, authenticated, service_role;
grant execute on function private.mark_read to authenticated, service_role;

create function social.mark_read(conversation_id uuid) returns social.conversations
language sql
set search_path = ''
as $$ select private.mark_read(mark_read.conversation_id) $$;
comment on function social.mark_read(uuid) is 'A member has seen a conversation: nothing in it is unread.';
revoke all on function social.mark_read from public, anon, authenticated, service_role;
grant execute on function social.mark_read to authenticated, service_role;

create function private.categorise_conversation(conversation_id uuid, category text) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_conversation social.conversations :=
    private.conversation_of_caller(categorise_conversation.conversation_id);
begin
  perform private.require_role(v_conversation.workspace_id, 'member');
  if coalesce(category, '') not in ('primary', 'general', 'requests', 'hidden') then
    perform private.fail('invalid_argument', 'category must be primary, general, requests or hidden.',
      '{"argument": "category"}');
  end if;
  update social.conversations c
  set category = categorise_conversation.category,
    is_accepted = case categorise_conversation.category when 'requests' then false when 'hidden' then c.is_accepted
      else true end
  where c.id = v_conversation.id returning * into v_conversation;
  return v_conversation;
end $$;
comment on function private.categorise_conversation(uuid, text) is
  'Core of social.categorise_conversation; checks the caller first.';
revoke all on function private.categorise_conversation from public, anon, authenticated, service_role;
grant execute on function private.categorise_conversation to authenticated, service_role;

create function social.categorise_conversation(conversation_id uuid, category text) returns social.conversations
language sql
set search_path = ''
as $$
  select private.categorise_conversation(categorise_conversation.conversation_id, categorise_conversation.category)
$$;
comment on function social.categorise_conversation(uuid, text) is
  'A member moves a conversation to primary, general, requests or hidden; out of the requests it is accepted.';
revoke all on function social.categorise_conversation from public, anon, authenticated, service_role;
grant execute on function social.categorise_conversation to authenticated, service_role;

create function private.set_conversation_status(conversation_id uuid, status text) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_before social.conversations :=
    private.conversation_of_caller(set_conversation_status.conversation_id);
  v_conversation social.conversations;
begin
  perform private.require_role(v_before.workspace_id, 'member');
  if coalesce(status, '') not in ('active', 'closed') then
    perform private.fail('invalid_argument', 'status must be active or closed.', '{"argument": "status"}');
  end if;
  update social.conversations c
  set status = set_conversation_status.status,
    stage = case when set_conversation_status.status = 'closed' and c.stage <> 'processing' then 'initial'
      else c.stage end
  where c.id = v_before.id returning * into v_conversation;
  if v_conversation.status = 'closed' and v_before.status <> 'closed' then
    perform private.record_step(v_conversation, 'conversation_ended', format('ended:%s:%s', v_conversation.id,
      round(extract(epoch from private.now()) * 1000)), null, jsonb_build_object('user_id', auth.uid()));
  end if;
  return v_conversation;
end $$;
comment on function private.set_conversation_status(uuid, text) is
  'Core of social.set_conversation_status; checks the caller first.';
revoke all on function private.set_conversation_status from public, anon, authenticated, service_role;
grant execute on function private.set_conversation_status to authenticated, service_role;

create function social.set_conversation_status(conversation_id uuid, status text) returns social.conversations
language sql
set search_path = ''
as $$
  select private.set_conversation_status(set_conversation_status.conversation_id, set_conversation_status.status)
$$;
comment on function social.set_conversation_status(uuid, text) is
  'A member closes a conversation or opens it again; a new message of the person opens it too.';
revoke all on function social.set_conversation_status from public, anon, authenticated, service_role;
grant execute on function social.set_conversation_status to authenticated, service_role;

-- Shown at once; the job tells the platform, which knows the heart only when it comes from an app.
create function private.react(message_id uuid, emoji text) returns social.messages
language plpgsql security definer
set search_path = ''
as $$
declare
  v_message social.messages := (select m from social.messages m where m.id = react.message_id
    and (private.is_service() or private.has_role(m.workspace_id, 'viewer')));
  v_ms numeric := round(extract(epoch from private.now()) * 1000);
begin
  if v_message.id is null then
    perform private.fail('unknown_message', 'There is no such message among those of your workspaces.',
      jsonb_build_object('message_id', react.message_id));
  end if;
  perform private.require_role(v_message.workspace_id, 'member');
  perform private.conversation_of_caller(v_message.conversation_id);
  if v_message.direction <> 'inbound' or length(emoji) not between 1 and 32 then
    perform private.fail('invalid_argument', 'React to a message of the person, with one emoji or null.',
      '{"argument": "message_id"}');
  end if;
  perform private.set_reaction(v_message, a.external_account_id, emoji, v_ms)
  from integrations.connected_accounts a where a.id = v_message.connected_account_id;
  perform ops.enqueue_job('social.react', jsonb_build_object('message_id', v_message.id), v_message.workspace_id,
    priority => 5, max_attempts => 4, key => format('react:%s:%s', v_message.id, v_ms));
  select * into v_message from social.messages m where m.id = v_message.id;
  return v_message;
end $$;
comment on function private.react(uuid, text) is 'Core of social.react; checks the caller first.';
revoke all on function private.react from public, anon, authenticated, service_role;
grant execute on function private.react to authenticated, service_role;

create function social.react(message_id uuid, emoji text default null) returns social.messages
language sql
set search_path = ''
as $$ select private.react(react.message_id, react.emoji) $$;
comment on function social.react(uuid, text) is
  'A member reacts to a message of the person, or with null takes it back.';
revoke all on function social.react from public, anon, authenticated, service_role;
grant execute on function social.react to authenticated, service_role;
insert into ops.job_kinds (kind, description, timeout) values
  ('social.react', 'Reacts to a message at the platform.', interval '1 hour');

-- Counted from the messages: what was sent in the hour and the day that end now.
create function social.send_allowance(account_id uuid)
returns table (sent_last_hour integer, sent_last_day integer, hourly_limit integer, daily_limit integer,
  waiting integer, last_message_at timestamptz, reset_at timestamptz)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select (select count(*)::integer from social.messages m where m.connected_account_id = l.account_id
      and m.sent_at > private.now() - interval '1 hour' and m.direction = 'outbound' and m.source <> 'app'),
    (select count(*)::integer from social.messages m where m.connected_account_id = l.account_id
      and m.sent_at > private.now() - interval '1 day' and m.direction = 'outbound' and m.source <> 'app'),
    l.hourly_limit, l.daily_limit,
    (select count(*)::integer from social.messages m where m.connected_account_id = l.account_id
      and m.status in ('queued', 'sending')),
    l.last_message_at, case when l.reset_at > private.now() then l.reset_at end
  from social.send_limits l where l.account_id = send_allowance.account_id;
end $$;
comment on function social.send_allowance(uuid) is
  'How many messages an account has sent in the last hour and day, how many it may, and how many wait.';
revoke all on function social.send_allowance from public, anon, authenticated, service_role;
grant execute on function social.send_allowance to authenticated, service_role;
create index messages_outgoing on social.messages (connected_account_id) where status in ('queued', 'sending');
