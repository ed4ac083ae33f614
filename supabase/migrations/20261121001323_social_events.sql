-- What is told about messages that are known: reactions, deletions, receipts; and who works on which event.

-- The message of an event under its conversation's lock; null: it is not here (yet).
create function private.message_of_event(account integrations.connected_accounts, person_id text, mid text)
returns social.messages
language plpgsql
set search_path = ''
as $$
declare
  v_conversation_id uuid;
  v_message social.messages;
begin
  select c.id into v_conversation_id from social.conversations c
  where c.connected_account_id = account.id and c.platform_user_id = person_id for update;
  select * into v_message from social.messages m
  where m.conversation_id = v_conversation_id and m.platform_message_id = mid for update;
  return v_message;
end $$;
comment on function private.message_of_event is 'The message that an event is about, locked.';
revoke all on function private.message_of_event from public, anon, authenticated, service_role;

-- An actor has one reaction to a message: the last by time. early: the message has not come yet.
create function private.apply_reaction(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_actor text := v_value #>> '{sender,id}';
  v_person text := case when v_actor = account.external_account_id then v_value #>> '{recipient,id}' else v_actor end;
  v_message social.messages := private.message_of_event(account, v_person, v_value #>> '{reaction,mid}');
  v_time numeric := (v_value ->> 'timestamp')::numeric;
  v_emoji text := coalesce(v_value #>> '{reaction,emoji}', v_value #>> '{reaction,reaction}');
begin
  if v_message.id is null then
    return 'early';
  end if;
  if (v_message.reaction_times ->> v_actor)::numeric >= v_time then
    return 'stale';
  end if;
  perform private.set_reaction(v_message, v_actor,
    case when v_value #>> '{reaction,action}' = 'react' then v_emoji end, v_time);
  if v_value #>> '{reaction,action}' = 'react' and v_message.creation_id is not null and v_actor = v_person then
    perform private.record_step((select c from social.conversations c where c.id = v_message.conversation_id),
      'result_reaction', format('reaction:%s:%s', v_message.id, v_emoji), v_message.creation_id,
      jsonb_build_object('emoji', v_emoji));
  end if;
  return 'applied';
end $$;
comment on function private.apply_reaction(ops.webhook_events, integrations.connected_accounts) is
  'reaction: somebody reacted to a message or took it back.';
revoke all on function private.apply_reaction from public, anon, authenticated, service_role;

create function private.set_reaction(message social.messages, actor text, emoji text, at_ms numeric) returns void
language sql
set search_path = ''
as $$
  update social.messages m
  set reaction_times = m.reaction_times || jsonb_build_object(actor, at_ms),
    reactions = coalesce((select jsonb_agg(r.item order by r.place)
        from jsonb_array_elements(m.reactions) with ordinality as r (item, place)
        where r.item ->> 'actor_id' <> actor), '[]')
      || case when emoji is null then '[]' else jsonb_build_array(jsonb_build_object('emoji', emoji,
        'actor_id', actor, 'created_at', to_timestamp(at_ms / 1000))) end
  where m.id = message.id
$$;
comment on function private.set_reaction(social.messages, text, text, numeric) is
  'Sets the reaction of an actor to a message; null takes it away.';
revoke all on function private.set_reaction from public, anon, authenticated, service_role;

create function private.apply_deletion(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_message social.messages := private.message_of_event(account,
    case when v_value #>> '{sender,id}' = account.external_account_id then v_value #>> '{recipient,id}'
      else v_value #>> '{sender,id}' end, v_value #>> '{message,mid}');
begin
  if v_message.id is null then
    return 'early';
  end if;
  update social.messages m
  set deleted_at = coalesce(m.deleted_at, private.now()), message_text = null, attachments = '[]'
  where m.id = v_message.id;
  update social.conversations c set last_message_text = '[deleted]'
  where c.id = v_message.conversation_id and not exists (select from social.messages m
    where m.conversation_id = c.id and (m.created_at, m.position) > (v_message.created_at, v_message.position));
  return 'applied';
end $$;
comment on function private.apply_deletion(ops.webhook_events, integrations.connected_accounts) is
  'message_deleted: what a message said goes; that there was one stays.';
revoke all on function private.apply_deletion from public, anon, authenticated, service_role;

create function private.apply_receipt(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_message social.messages := private.message_of_event(account, v_value #>> '{sender,id}', v_value #>> '{read,mid}');
begin
  if v_message.id is null then
    return 'early';
  end if;
  update social.messages m set read_at = coalesce(private.meta_time(v_value -> 'timestamp'), event.created_at)
  where m.conversation_id = v_message.conversation_id and m.direction = 'outbound' and m.status = 'sent'
    and m.read_at is null and (m.created_at, m.position) <= (v_message.created_at, v_message.position);
  return 'applied';
end $$;
comment on function private.apply_receipt(ops.webhook_events, integrations.connected_accounts) is
  'read: the person has seen a message and all before it.';
revoke all on function private.apply_receipt from public, anon, authenticated, service_role;

create table social.meta_event_handlers (
  event_type text primary key,
  function_name text not null,
  created_at timestamptz not null default now(),
  constraint meta_event_handlers_function_name_shape check (function_name ~ '^[a-z_]+\.[a-z_]+$')
);
comment on table social.meta_event_handlers is
  'What works on an event of Meta: f(event ops.webhook_events, account integrations.connected_accounts) returns text.';
alter table social.meta_event_handlers enable row level security;
revoke all on table social.meta_event_handlers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table social.meta_event_handlers to service_role;
insert into social.meta_event_handlers (event_type, function_name) values
  ('instagram.comments', 'private.apply_comment'),
  ('instagram.live_comments', 'private.apply_comment'),
  ('instagram.message', 'private.apply_message'),
  ('instagram.postback', 'private.apply_message'),
  ('instagram.message_echo', 'private.apply_echo'),
  ('instagram.message_deleted', 'private.apply_deletion'),
  ('instagram.reaction', 'private.apply_reaction'),
  ('instagram.read', 'private.apply_receipt');

create function social.keep_profile(conversation_id uuid, username text, picture_url text) returns void
language sql security definer
set search_path = ''
as $$
  update social.conversations c
  set platform_username = coalesce(keep_profile.username, c.platform_username),
    platform_profile_url = coalesce(keep_profile.picture_url, c.platform_profile_url)
  where c.id = keep_profile.conversation_id
$$;
comment on function social.keep_profile(uuid, text, text) is 'Keeps how the person of a conversation is shown.';
revoke all on function social.keep_profile from public, anon, authenticated, service_role;
grant execute on function social.keep_profile to service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('social.profile', 'Asks how the person of a new conversation is to be shown.', interval '1 day');

-- Returns what became of it; ignored when it concerned nobody, early when what it is about has not come yet.
create function social.apply_meta_event(webhook_event_id bigint) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event ops.webhook_events;
  v_account integrations.connected_accounts;
  v_function text;
  v_result text;
begin
  select * into v_event from ops.webhook_events e where e.id = webhook_event_id and e.provider = 'meta';
  perform private.correlate(v_event.correlation_id);
  select h.function_name into v_function from social.meta_event_handlers h where h.event_type = v_event.event_type;
  -- live at this moment, not when the event was stored
  select * into v_account from integrations.connected_accounts a
  where a.provider = 'instagram' and a.status in ('active', 'expired', 'error')
    and a.external_account_id = v_event.payload ->> 'entry_id'
  order by a.connected_at desc nulls last limit 1;
  if v_account.id is null or v_function is null then
    return 'ignored';
  end if;
  -- the shape of the name is held by a constraint of the table
  execute 'select ' || v_function || '($1, $2)' into v_result using v_event, v_account;
  return v_result;
end $$;
comment on function social.apply_meta_event(bigint) is
  'Applies one Instagram webhook of the inbox; safe to repeat and in any order.';
revoke all on function social.apply_meta_event from public, anon, authenticated, service_role;
grant execute on function social.apply_meta_event to service_role;
