-- Sending. A conversation has one message on its way at a time, so that they arrive in the order in which they were
-- written; the others are queued. A message on its way is a job under the limits of its account: 200 an hour and 1,000
-- a day (ops.limits), or fewer where the account says so. Whether it may be sent is decided when it goes, not when
-- it was
-- written. Locks: job, then conversation, then message; no row of an account, because jobs of many accounts end
-- together.

insert into private.error_codes (name, sqlstate, hint) values
  ('private_reply_expired', 'PT409', 'A comment can be answered privately within seven days.'),
  ('message_not_queued', 'PT409', 'Only a message that waits can be cancelled.');

create function private.is_taken_over(conversation social.conversations) returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  return conversation.taken_over_at is not null
    and (conversation.taken_over_until is null or conversation.taken_over_until > private.now());
end $$;
comment on function private.is_taken_over(social.conversations) is 'Is the bot to be silent, because a member talks?';
revoke all on function private.is_taken_over from public, anon, authenticated, service_role;

create function private.record_step(conversation social.conversations, kind text, dedupe_key text,
  creation_id uuid default null, details jsonb default '{}') returns void
language plpgsql
set search_path = ''
as $$
begin
  perform social.record_interaction(conversation.workspace_id, conversation.connected_account_id, record_step.kind,
    record_step.dedupe_key, conversation.post_id, conversation.id, record_step.creation_id,
    jsonb_strip_nulls(jsonb_build_object('platform_user_id', conversation.platform_user_id,
      'username', conversation.platform_username, 'binding_id', conversation.binding_id) || record_step.details));
end $$;
comment on function private.record_step(social.conversations, text, text, uuid, jsonb) is
  'Records a step of the funnel of a conversation.';
revoke all on function private.record_step from public, anon, authenticated, service_role;

-- The conversation is locked by the caller, or is here: whoever holds it decides what goes next. Members go before the
-- bot; private replies, which have seven days, come last.
create function private.send_next(conversation_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_message social.messages;
begin
  perform from social.conversations c where c.id = conversation_id for update;
  if exists (select from social.messages m where m.conversation_id = send_next.conversation_id
    and m.status = 'sending') then
    return;
  end if;
  select * into v_message from social.messages m
  where m.conversation_id = send_next.conversation_id and m.status = 'queued' order by m.position limit 1;
  if v_message.id is null then
    return;
  end if;
  update social.messages m
  set status = 'sending', job_id = (select j.job_id from ops.enqueue_job('social.send',
    jsonb_build_object('message_id', m.id), m.workspace_id, max_attempts => 8,
    priority => case when m.source = 'member' then 8 when m.comment_id is null then 5 else 0 end,
    key => 'social-send:' || m.id, limit_key => 'instagram:' || m.connected_account_id) j)
  where m.id = v_message.id;
end $$;
comment on function private.send_next(uuid) is 'Puts the oldest queued message of a conversation on its way.';
revoke all on function private.send_next from public, anon, authenticated, service_role;

-- draft: the message's own columns; with a key, a second one is the first.
create function private.queue_message(conversation social.conversations, draft social.messages) returns social.messages
language plpgsql
set search_path = ''
as $$
declare
  v_message social.messages;
begin
  perform from social.conversations c where c.id = conversation.id for update;
  insert into social.messages (workspace_id, connected_account_id, conversation_id, direction, source, purpose, status,
    sender_platform_id, sent_by, message_type, message_text, media_path, comment_id, creation_id, key)
  select conversation.workspace_id, a.id, conversation.id, 'outbound', draft.source, draft.purpose, 'queued',
    a.external_account_id, draft.sent_by, coalesce(draft.message_type, 'text'), draft.message_text, draft.media_path,
    draft.comment_id, draft.creation_id, draft.key
  from integrations.connected_accounts a where a.id = conversation.connected_account_id
  on conflict do nothing
  returning * into v_message;
  if v_message.id is null then
    select * into v_message from social.messages m where m.conversation_id = conversation.id
      and (m.key = draft.key or m.comment_id = draft.comment_id) limit 1;
    return v_message;
  end if;
  update social.conversations c
  set message_count = c.message_count + 1, last_message_at = greatest(c.last_message_at, v_message.created_at),
    last_message_text = coalesce(left(v_message.message_text, 500), '[' || v_message.message_type || ']')
  where c.id = conversation.id;
  perform private.send_next(conversation.id);
  select * into v_message from social.messages m where m.id = v_message.id;
  return v_message;
end $$;
comment on function private.queue_message(social.conversations, social.messages) is
  'Writes an outbound message and sends it when its turn has come.';
revoke all on function private.queue_message from public, anon, authenticated, service_role;

create function private.bot_says(conversation social.conversations, rules private.bot_rules, name text, key text,
  link text default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_draft social.messages;
begin
  v_draft.source := 'bot';
  v_draft.purpose := name;
  v_draft.key := key;
  v_draft.message_text := private.fill_message(rules, name, conversation.platform_username, link);
  perform private.queue_message(conversation, v_draft);
end $$;
comment on function private.bot_says(social.conversations, private.bot_rules, text, text, text) is
  'Has the bot say one of its messages, once for a key.';
revoke all on function private.bot_says from public, anon, authenticated, service_role;

-- Why a message may not be sent now; null: it may. What the bot says on opting out is the last it says.
create function private.refusal_to_send(message social.messages, conversation social.conversations) returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return (
    select case
      when not exists (select from integrations.connected_accounts a
        where a.id = message.connected_account_id and a.status <> 'disconnected') then 'account_not_connected'
      when message.source = 'bot' and private.is_taken_over(conversation) then 'taken_over'
      when message.source = 'bot' and conversation.opted_out_at is not null and message.purpose <> 'opted_out'
        then 'opted_out'
      when message.comment_id is not null then
        case when (select o.commented_at from social.comments o where o.id = message.comment_id)
          <= private.now() - interval '7 days' then 'private_reply_expired' end
      when conversation.window_ends_at is null or conversation.window_ends_at <= private.now()
        then 'outside_message_window' end
  );
end $$;
comment on function private.refusal_to_send(social.messages, social.conversations) is
  'Why a message may not be sent now, as the name of an error.';
revoke all on function private.refusal_to_send from public, anon, authenticated, service_role;

-- Seconds until an account that stays below the platform's limits may send again; null: now. What has been handed over
-- and not yet answered counts like what was sent, but for the message itself.
create function private.seconds_until_allowed(account_id uuid, message_id uuid default null) returns double precision
language plpgsql stable
set search_path = ''
as $$
begin
  return (
    select max(extract(epoch from (
      select o.at + w.per from (
        (select m.sent_at as at from social.messages m
          where m.connected_account_id = l.account_id and m.direction = 'outbound' and m.source <> 'app'
            and m.sent_at > private.now() - w.per
          order by m.sent_at desc limit w.most)
        union all
        select m.attempted_at from social.messages m
        where m.connected_account_id = l.account_id and m.status = 'sending'
          and m.attempted_at > private.now() - w.per and m.id is distinct from seconds_until_allowed.message_id) o
      order by o.at desc offset w.most - 1 limit 1) - private.now()))
    from social.send_limits l
    cross join lateral (values (l.hourly_limit, interval '1 hour'), (l.daily_limit, interval '1 day')) as w (most, per)
    where l.account_id = seconds_until_allowed.account_id
  );
end $$;
comment on function private.seconds_until_allowed(uuid, uuid) is 'How long an account''s own send limits hold it back.';
revoke all on function private.seconds_until_allowed from public, anon, authenticated, service_role;

-- What the job of a message is to do: {action: send, ...}, {action: wait, seconds}, {action: drop, reason}, or
-- {action: none} where the message is no longer on its way. again: it was handed over before, and may have arrived.
create function social.begin_send(message_id uuid) returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_message social.messages;
  v_conversation social.conversations;
  v_refusal text;
  v_seconds double precision;
begin
  select * into v_message from social.messages m where m.id = message_id;
  select * into v_conversation from social.conversations c where c.id = v_message.conversation_id for update;
  select * into v_message from social.messages m where m.id = message_id for update;
  if v_message.status is distinct from 'sending' then
    return '{"action": "none"}';
  end if;
  v_refusal := private.refusal_to_send(v_message, v_conversation);
  -- what may have arrived is looked for first
  if v_refusal is not null and v_message.attempted_at is null then
    return jsonb_build_object('action', 'drop', 'reason', v_refusal);
  end if;
  -- one after the other, or two would each find room for one
  perform from social.send_limits l where l.account_id = v_message.connected_account_id for no key update;
  v_seconds := private.seconds_until_allowed(v_message.connected_account_id, v_message.id);
  if v_seconds > 0 then
    update social.send_limits l set reset_at = private.now() + make_interval(secs => v_seconds)
    where l.account_id = v_message.connected_account_id;
    return jsonb_build_object('action', 'wait', 'seconds', v_seconds);
  end if;
  update social.messages m set attempted_at = coalesce(m.attempted_at, private.now()) where m.id = v_message.id;
  update social.send_limits l set last_message_at = private.now(), reset_at = null
  where l.account_id = v_message.connected_account_id;
  return jsonb_strip_nulls(jsonb_build_object('action', 'send', 'again', v_message.attempted_at is not null,
    'attempted_at', coalesce(v_message.attempted_at, private.now()), 'refusal', v_refusal,
    'account_id', v_message.connected_account_id, 'platform_user_id', v_conversation.platform_user_id,
    'comment_id', (select o.platform_comment_id from social.comments o where o.id = v_message.comment_id),
    'platform_message_id', v_message.platform_message_id, 'message_type', v_message.message_type,
    'text', v_message.message_text, 'media_path', v_message.media_path,
    'bucket', case when v_message.creation_id is null then 'studio-uploads' else 'studio-results' end));
end $$;
comment on function social.begin_send(uuid) is 'What is to be sent for a message that is on its way, or why not.';
revoke all on function social.begin_send from public, anon, authenticated, service_role;
grant execute on function social.begin_send to service_role;
