-- Conversations with the assistant: by people of the workspace in an app, or by its customers on any channel. A turn is
-- one question and all that it took to answer it; its charge is held before a model is asked (next file).

-- A thousand units: a token that is read counts one, a token that is written eight (see private.turn_units).
insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('assistant', 'Assistant', '1,000 token units', 60);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_session', 'PT404', 'Use the id of a conversation of one of your workspaces.'),
  ('session_ended', 'PT409', 'Start a new conversation.'),
  ('unknown_turn', 'PT404', 'Use the id of a turn of one of your conversations.'),
  ('turn_running', 'PT409', 'Wait for the answer that is being written, or cancel it.');

create table ai.conversation_sessions (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  created_by uuid,
  customer_id uuid,
  anonymous_id text,
  channel text not null,
  platform_session_id text,
  title text,
  started_at timestamptz not null default now(),
  last_activity_at timestamptz not null default now(),
  ended_at timestamptz,
  is_active boolean not null generated always as (ended_at is null) stored,
  session_state jsonb not null default '{}',
  extracted_preferences jsonb not null default '{}',
  message_count integer not null default 0,
  tool_calls_count integer not null default 0,
  conversion_value_cents bigint not null default 0,
  cost_micro bigint not null default 0,
  constraint conversation_sessions_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint conversation_sessions_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint conversation_sessions_one_customer check (num_nonnulls(customer_id, anonymous_id) <= 1),
  constraint conversation_sessions_channel_shape check (channel ~ '^[a-z][a-z_]{1,39}$'),
  constraint conversation_sessions_text_lengths check (length(title) <= 300 and length(anonymous_id) <= 255
    and length(platform_session_id) <= 255),
  constraint conversation_sessions_counts_not_negative check (message_count >= 0 and tool_calls_count >= 0
    and conversion_value_cents >= 0 and cost_micro >= 0),
  constraint conversation_sessions_json_are_objects
    check (jsonb_typeof(session_state) = 'object' and jsonb_typeof(extracted_preferences) = 'object')
);
comment on table ai.conversation_sessions is
  'Conversations with the assistant, by channel and customer, with what came of them and cost (micro-units).';
comment on column ai.conversation_sessions.customer_id is 'The workspace''s own id of a customer it knows.';
comment on column ai.conversation_sessions.anonymous_id is 'A visitor who is not known yet, by the client''s own id.';
comment on column ai.conversation_sessions.conversion_value_cents is 'What the customer bought after it.';
-- One that has ended makes room for the next with the same visitor.
create unique index conversation_sessions_once on ai.conversation_sessions (workspace_id, channel, platform_session_id)
  where ended_at is null and platform_session_id is not null;
create index conversation_sessions_workspace_id
  on ai.conversation_sessions (workspace_id, last_activity_at desc, id);
create index conversation_sessions_active on ai.conversation_sessions (workspace_id, last_activity_at desc)
  where ended_at is null;
create index conversation_sessions_customer on ai.conversation_sessions (workspace_id, customer_id)
  where customer_id is not null;
create index conversation_sessions_anonymous on ai.conversation_sessions (workspace_id, anonymous_id)
  where anonymous_id is not null;
create index conversation_sessions_created_by on ai.conversation_sessions (created_by);
alter table ai.conversation_sessions enable row level security;
revoke all on table ai.conversation_sessions from public, anon, authenticated, service_role;
grant select, delete, update (title) on table ai.conversation_sessions to authenticated;
grant select, insert, update, delete on table ai.conversation_sessions to service_role;
create policy "Members see the conversations of their workspaces" on ai.conversation_sessions
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may name conversations" on ai.conversation_sessions
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete conversations" on ai.conversation_sessions
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create table ai.conversation_turns (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  session_id uuid not null,
  status text not null default 'running',
  key text,
  usage_event_id uuid,
  input_tokens integer not null default 0,
  output_tokens integer not null default 0,
  cost_micro bigint not null default 0,
  claimed_at timestamptz,
  cancel_requested_at timestamptz,
  error_message text,
  created_by uuid,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint conversation_turns_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint conversation_turns_session_id_fkey foreign key (session_id)
    references ai.conversation_sessions (id) on delete cascade,
  constraint conversation_turns_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint conversation_turns_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint conversation_turns_key unique (session_id, key),
  constraint conversation_turns_key_length check (length(key) between 1 and 255),
  constraint conversation_turns_status_known check (status in ('running', 'completed', 'failed', 'cancelled')),
  constraint conversation_turns_ended_has_time check ((status = 'running') = (completed_at is null)),
  constraint conversation_turns_failed_says_why check ((status = 'failed') = (error_message is not null)),
  constraint conversation_turns_counts_not_negative
    check (input_tokens >= 0 and output_tokens >= 0 and cost_micro >= 0)
);
comment on table ai.conversation_turns is
  'A question and what it took to answer it: tokens over all calls of the model, and one charge for them.';
comment on column ai.conversation_turns.claimed_at is 'When the function assistant began to answer; it does so once.';
create unique index conversation_turns_running on ai.conversation_turns (session_id) where status = 'running';
create index conversation_turns_session_id on ai.conversation_turns (session_id, created_at desc);
create index conversation_turns_workspace_id on ai.conversation_turns (workspace_id, created_at desc);
create index conversation_turns_usage_event_id on ai.conversation_turns (usage_event_id);
create index conversation_turns_created_by on ai.conversation_turns (created_by);
create index conversation_turns_stale on ai.conversation_turns (created_at) where status = 'running';
alter table ai.conversation_turns enable row level security;
revoke all on table ai.conversation_turns from public, anon, authenticated, service_role;
grant select on table ai.conversation_turns to authenticated;
grant select, insert, update, delete on table ai.conversation_turns to service_role;
create policy "Members see the turns of their workspaces' conversations" on ai.conversation_turns
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table ai.conversation_messages (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  session_id uuid not null,
  turn_id uuid,
  role text not null,
  content text not null,
  tool_name text,
  tool_input jsonb,
  tool_output jsonb,
  citations uuid[] not null default '{}',
  model_used text,
  input_tokens integer,
  output_tokens integer,
  tokens_used integer generated always as (input_tokens + output_tokens) stored,
  latency_ms integer,
  confidence numeric(3, 2),
  cost_micro bigint not null default 0,
  position bigint generated always as identity,
  created_at timestamptz not null default now(),
  constraint conversation_messages_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint conversation_messages_session_id_fkey foreign key (session_id)
    references ai.conversation_sessions (id) on delete cascade,
  constraint conversation_messages_turn_id_fkey foreign key (turn_id)
    references ai.conversation_turns (id) on delete set null,
  constraint conversation_messages_role_known check (role in ('user', 'assistant', 'tool', 'system')),
  constraint conversation_messages_tool_has_name check ((role = 'tool') = (tool_name is not null)),
  constraint conversation_messages_content_length check (length(content) <= 100000),
  constraint conversation_messages_confidence_in_range check (confidence between 0 and 1),
  constraint conversation_messages_counts_not_negative
    check (input_tokens >= 0 and output_tokens >= 0 and latency_ms >= 0 and cost_micro >= 0)
);
comment on table ai.conversation_messages is
  'What was said in a conversation, and which tools the assistant used, in order of position.';
comment on column ai.conversation_messages.citations is 'Chunks of ai.knowledge_chunks that the answer names.';
comment on column ai.conversation_messages.confidence is
  'Similarity of the best cited chunk to the question; null: the answer cites none.';
comment on column ai.conversation_messages.latency_ms is 'From the question to the end of the answer, milliseconds.';
create index conversation_messages_session_id on ai.conversation_messages (session_id, position desc);
create index conversation_messages_workspace_id on ai.conversation_messages (workspace_id, created_at desc);
create index conversation_messages_turn_id on ai.conversation_messages (turn_id);
alter table ai.conversation_messages enable row level security;
revoke all on table ai.conversation_messages from public, anon, authenticated, service_role;
grant select on table ai.conversation_messages to authenticated;
grant select, insert, update, delete on table ai.conversation_messages to service_role;
create policy "Members see the messages of their workspaces' conversations" on ai.conversation_messages
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create function private.start_session(workspace_id uuid, channel text, title text, customer_id uuid,
  anonymous_id text, platform_session_id text, state jsonb) returns ai.conversation_sessions
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_session ai.conversation_sessions;
  v_wrong text := case
    when channel is null or channel !~ '^[a-z][a-z_]{1,39}$' then 'channel: must be a short name such as app'
    when num_nonnulls(customer_id, anonymous_id) > 1 then 'customer_id: only one of it and anonymous_id'
    when length(title) > 300 then 'title: must have at most 300 characters'
    when length(anonymous_id) > 255 then 'anonymous_id: must have at most 255 characters'
    when length(platform_session_id) > 255 then 'platform_session_id: must have at most 255 characters'
    when jsonb_typeof(state) is distinct from 'object' then 'state: must be a JSON object' end;
begin
  perform private.require_role(start_session.workspace_id, 'member');
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  insert into ai.conversation_sessions as s (workspace_id, channel, title, customer_id, anonymous_id,
    platform_session_id, session_state, created_by, started_at, last_activity_at)
  values (start_session.workspace_id, start_session.channel, start_session.title, start_session.customer_id,
    start_session.anonymous_id, start_session.platform_session_id, state, auth.uid(), private.now(), private.now())
  on conflict (workspace_id, channel, platform_session_id) where ended_at is null and platform_session_id is not null
  do update set last_activity_at = s.last_activity_at
  returning * into v_session;
  return v_session;
end $$;
comment on function private.start_session is 'Core of ai.start_session.';
revoke all on function private.start_session from public, anon, authenticated, service_role;
grant execute on function private.start_session to authenticated, service_role;

create function ai.start_session(workspace_id uuid, channel text default 'app', title text default null,
  customer_id uuid default null, anonymous_id text default null, platform_session_id text default null,
  state jsonb default '{}') returns ai.conversation_sessions
language sql
set search_path = ''
as $$
  select private.start_session(start_session.workspace_id, start_session.channel, start_session.title,
    start_session.customer_id, start_session.anonymous_id, start_session.platform_session_id, start_session.state)
$$;
comment on function ai.start_session is
  'Starts a conversation, or answers the one under way that the channel knows by the same platform_session_id; '
  'members may.';
revoke all on function ai.start_session from public, anon, authenticated, service_role;
grant execute on function ai.start_session to authenticated, service_role;

create function private.session_of_caller(session_id uuid) returns ai.conversation_sessions
language plpgsql
set search_path = ''
as $$
declare
  v_session ai.conversation_sessions;
begin
  select * into v_session from ai.conversation_sessions s
  where s.id = session_id and private.has_role(s.workspace_id, 'viewer') for no key update;
  if not found then
    perform private.fail('unknown_session', 'There is no such conversation among those of your workspaces.',
      jsonb_build_object('session_id', session_id));
  end if;
  return v_session;
end $$;
comment on function private.session_of_caller(uuid) is 'A conversation that the caller sees, locked.';
revoke all on function private.session_of_caller from public, anon, authenticated, service_role;

create function private.end_session(session_id uuid, conversion_value_cents bigint)
returns ai.conversation_sessions
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_session ai.conversation_sessions := private.session_of_caller(end_session.session_id);
begin
  perform private.require_role(v_session.workspace_id, 'member');
  if end_session.conversion_value_cents < 0 then
    perform private.fail('invalid_argument', 'conversion_value_cents must not be negative.',
      '{"argument": "conversion_value_cents"}');
  end if;
  update ai.conversation_sessions s
  set ended_at = coalesce(s.ended_at, private.now()),
    conversion_value_cents = coalesce(end_session.conversion_value_cents, s.conversion_value_cents)
  where s.id = v_session.id returning * into v_session;
  return v_session;
end $$;
comment on function private.end_session(uuid, bigint) is 'Core of ai.end_session.';
revoke all on function private.end_session from public, anon, authenticated, service_role;
grant execute on function private.end_session to authenticated, service_role;

create function ai.end_session(session_id uuid, conversion_value_cents bigint default null)
returns ai.conversation_sessions
language sql
set search_path = ''
as $$ select private.end_session(end_session.session_id, end_session.conversion_value_cents) $$;
comment on function ai.end_session(uuid, bigint) is
  'Ends a conversation, and may say what the customer bought after it; members may.';
revoke all on function ai.end_session from public, anon, authenticated, service_role;
grant execute on function ai.end_session to authenticated, service_role;
