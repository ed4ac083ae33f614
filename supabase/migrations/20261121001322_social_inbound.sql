-- What is said in conversations: by people, and by the account itself, whose messages the platform echoes. Each may
-- come twice and in any order. Everything about a conversation happens under its lock.

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
  v_was_silent boolean;
  v_id uuid;
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
    private.attachments_of(v_body), v_at, v_at)
  returning id into v_id;
  update social.conversations c
  set message_count = c.message_count + 1,
    last_message_text = case when v_at >= c.last_message_at
      then coalesce(left(v_body ->> 'text', 500), '[' || private.inbound_type(v_body) || ']')
      else c.last_message_text end,
    last_message_at = greatest(c.last_message_at, v_at)
  where c.id = v_conversation.id returning * into v_conversation;
  v_was_silent := private.is_taken_over(v_conversation);
  perform private.begin_takeover(v_conversation, null,
    private.silent_until(v_conversation, v_at + make_interval(mins => v_minutes)));
  -- should it turn out to be a message of ours after all: see private.note_sent
  update social.conversations c set bot_data = c.bot_data || jsonb_build_object('silenced_by', v_id)
  where c.id = v_conversation.id and not v_was_silent;
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

-- Writing silences the bot for a while, and never for a shorter one than it was to be silent anyway.
create function private.silent_until(conversation social.conversations, until timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return case when until is null or not private.is_taken_over(conversation) then until
    when conversation.taken_over_until is not null then greatest(conversation.taken_over_until, until) end;
end $$;
comment on function private.silent_until(social.conversations, timestamptz) is
  'Until when the bot is silent after somebody of the account wrote; null: until it is handed back.';
revoke all on function private.silent_until from public, anon, authenticated, service_role;

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
