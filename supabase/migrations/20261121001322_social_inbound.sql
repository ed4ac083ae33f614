-- What people and the platform tell about conversations: messages, echoes of what the account itself said, reactions,
-- deletions, receipts. Each may come twice and in any order. Everything about a conversation happens under its lock.

create function private.inbound_type(message jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when coalesce((message ->> 'is_unsupported')::boolean, false) then 'unsupported'
    when message #>> '{attachments,0,type}' in ('image', 'video', 'audio', 'file') then
      message #>> '{attachments,0,type}'
    when message #>> '{attachments,0,type}' in ('share', 'ig_post', 'ig_reel', 'reel') then 'share'
    when message #>> '{attachments,0,type}' = 'story_mention' then 'story_mention'
    when message #> '{attachments,0}' is not null then 'unsupported'
    when message #> '{reply_to,story}' is not null then 'story_reply'
    else 'text' end
$$;
comment on function private.inbound_type(jsonb) is 'The kind of a message as Meta sent it.';
revoke all on function private.inbound_type from public, anon, authenticated, service_role;

create function private.attachments_of(message jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('type', a.item ->> 'type',
    'url', a.item #>> '{payload,url}', 'title', a.item #>> '{payload,title}',
    'post_id', coalesce(a.item #>> '{payload,ig_post_media_id}', a.item #>> '{payload,reel_video_id}')))
    order by a.place), '[]')
  from jsonb_array_elements(case when jsonb_typeof(message -> 'attachments') = 'array'
    then message -> 'attachments' else '[]' end) with ordinality as a (item, place)
$$;
comment on function private.attachments_of(jsonb) is 'The attachments of a message as Meta sent it, in our form.';
revoke all on function private.attachments_of from public, anon, authenticated, service_role;

-- The message and what it changes about the conversation; null: it is known.
create function private.keep_inbound(conversation social.conversations, event ops.webhook_events)
returns social.messages
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_body jsonb := coalesce(v_value -> 'message', v_value -> 'postback');
  v_message social.messages;
  v_at timestamptz := least(coalesce(private.meta_time(v_value -> 'timestamp'), event.created_at), private.now());
begin
  insert into social.messages (workspace_id, connected_account_id, conversation_id, direction, source, status,
    platform_message_id, sender_platform_id, message_type, message_text, attachments, reply_to_message_id, sent_at,
    created_at)
  values (conversation.workspace_id, conversation.connected_account_id, conversation.id, 'inbound', 'person',
    'received', v_body ->> 'mid', conversation.platform_user_id,
    case when v_value ? 'postback' then 'postback' else private.inbound_type(v_body) end,
    left(coalesce(v_body ->> 'text', v_body ->> 'title'), 10000), private.attachments_of(v_body),
    v_body #>> '{reply_to,mid}', v_at, v_at)
  on conflict (conversation_id, platform_message_id) where platform_message_id is not null do nothing
  returning * into v_message;
  if v_message.id is not null then
    update social.conversations c
    set status = 'active', message_count = c.message_count + 1, unread_count = c.unread_count + 1,
      last_message_text = case when v_at >= c.last_message_at or c.message_count = 0
        then coalesce(left(v_message.message_text, 500), '[' || v_message.message_type || ']')
        else c.last_message_text end,
      last_message_at = case when c.message_count = 0 then v_at else greatest(c.last_message_at, v_at) end,
      last_inbound_at = greatest(c.last_inbound_at, v_at),
      window_ends_at = greatest(c.last_inbound_at, v_at) + interval '24 hours',
      stage = case c.stage when 'awaiting_reply' then 'awaiting_photo' else c.stage end
    where c.id = conversation.id;
  end if;
  return v_message;
end $$;
comment on function private.keep_inbound(social.conversations, ops.webhook_events) is
  'Keeps a message that somebody sent, once; it opens the window of 24 hours.';
revoke all on function private.keep_inbound from public, anon, authenticated, service_role;

create function private.apply_message(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_conversation social.conversations;
  v_message social.messages;
  v_before social.conversations;
begin
  if v_value #>> '{sender,id}' = account.external_account_id then
    return 'own';
  end if;
  -- a button of another app of the account names no message
  if coalesce(v_value #>> '{message,mid}', v_value #>> '{postback,mid}') is null then
    return 'ignored';
  end if;
  v_before := private.open_conversation(account, v_value #>> '{sender,id}', null, false);
  v_message := private.keep_inbound(v_before, event);
  if v_message.id is null then
    return 'duplicate';
  end if;
  select * into v_conversation from social.conversations c where c.id = v_before.id;
  perform private.record_step(v_conversation, 'message_received', 'message:' || v_message.platform_message_id, null,
    jsonb_build_object('message_type', v_message.message_type));
  if v_before.last_inbound_at is null then
    perform private.record_step(v_conversation, 'conversation_started', format('conversation:%s:1', v_conversation.id),
      null, jsonb_build_object('source', case when exists (select from social.messages m
        where m.conversation_id = v_conversation.id and m.comment_id is not null) then 'comment' else 'message' end));
    -- whoever has written may be asked for by name
    perform ops.enqueue_job('social.profile', jsonb_build_object('conversation_id', v_conversation.id),
      v_conversation.workspace_id, max_attempts => 3, key => 'social-profile:' || v_conversation.id);
  end if;
  return coalesce(private.answer_message(v_conversation, v_message, v_before.stage), 'kept');
end $$;
comment on function private.apply_message(ops.webhook_events, integrations.connected_accounts) is
  'message and postback: a message of somebody is kept and, where the bot may, answered.';
revoke all on function private.apply_message from public, anon, authenticated, service_role;

-- What the account said. Of the message on its way it is the receipt; what nobody here sent was written in Instagram
-- itself by the account's people, who have taken over by that.
create function private.apply_echo(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_body jsonb := v_value -> 'message';
  v_at timestamptz := least(coalesce(private.meta_time(v_value -> 'timestamp'), event.created_at), private.now());
  v_conversation social.conversations;
  v_minutes integer := (select s.takeover_minutes from social.bot_settings s where s.account_id = account.id);
begin
  select * into v_conversation from social.conversations c
  where c.connected_account_id = account.id and c.platform_user_id = v_value #>> '{recipient,id}';
  if v_conversation.id is null then
    return 'ignored';
  end if;
  perform from social.conversations c where c.id = v_conversation.id for update;
  if exists (select from social.messages m where m.conversation_id = v_conversation.id
    and m.platform_message_id = v_body ->> 'mid') then
    return 'own';
  end if;
  update social.messages m set platform_message_id = v_body ->> 'mid'
  where m.conversation_id = v_conversation.id and m.status = 'sending' and m.attempted_at is not null
    and m.platform_message_id is null
    and case when m.message_type = 'text' then private.same_text(m.message_text, v_body ->> 'text')
      else v_body #>> '{attachments,0,type}' = m.message_type end;
  if found then
    return 'own';
  end if;
  insert into social.messages (workspace_id, connected_account_id, conversation_id, direction, source, status,
    platform_message_id, sender_platform_id, message_type, message_text, attachments, sent_at, created_at)
  values (account.workspace_id, account.id, v_conversation.id, 'outbound', 'app', 'sent', v_body ->> 'mid',
    account.external_account_id, private.inbound_type(v_body), left(v_body ->> 'text', 10000),
    private.attachments_of(v_body), v_at, v_at);
  update social.conversations c
  set message_count = c.message_count + 1,
    last_message_text = case when v_at >= c.last_message_at
      then coalesce(left(v_body ->> 'text', 500), '[' || private.inbound_type(v_body) || ']')
      else c.last_message_text end,
    last_message_at = greatest(c.last_message_at, v_at)
  where c.id = v_conversation.id returning * into v_conversation;
  perform private.begin_takeover(v_conversation, null, v_at + make_interval(mins => v_minutes));
  return 'kept';
end $$;
comment on function private.apply_echo(ops.webhook_events, integrations.connected_accounts) is
  'message_echo: the receipt of a message of ours, or what the account''s people wrote in Instagram.';
revoke all on function private.apply_echo from public, anon, authenticated, service_role;

create function private.same_text(a text, b text) returns boolean
language sql immutable
set search_path = ''
as $$ select regexp_replace(trim(a), '\s+', ' ', 'g') = regexp_replace(trim(b), '\s+', ' ', 'g') $$;
comment on function private.same_text(text, text) is 'Are two texts the same but for white space?';
revoke all on function private.same_text from public, anon, authenticated, service_role;

-- A member has begun to talk. Again: only the time in which the bot is silent changes.
create function private.begin_takeover(conversation social.conversations, person uuid, until timestamptz)
returns social.conversations
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations;
begin
  update social.conversations c
  set taken_over_at = case when private.is_taken_over(conversation) then c.taken_over_at else private.now() end,
    taken_over_until = until, taken_over_by = coalesce(person, c.taken_over_by)
  where c.id = conversation.id returning * into v_conversation;
  if not private.is_taken_over(conversation) then
    perform private.record_step(v_conversation, 'human_takeover', format('takeover:%s:%s', v_conversation.id,
      round(extract(epoch from v_conversation.taken_over_at) * 1000)), null,
      jsonb_build_object('user_id', person, 'until', until));
  end if;
  return v_conversation;
end $$;
comment on function private.begin_takeover(social.conversations, uuid, timestamptz) is
  'Silences the bot in a conversation, until a time or until it is handed back.';
revoke all on function private.begin_takeover from public, anon, authenticated, service_role;

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
