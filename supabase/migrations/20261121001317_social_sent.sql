-- What becomes of a message that was on its way: taken by the platform, or not to be sent. In the transaction that ends
-- its job, which also sends the next.

-- The platform knows the person by another id than the comment said: the conversation takes it, or, where there is one
-- with that id already, the message moves there.
create function private.settle_recipient(message social.messages, recipient_id text) returns social.conversations
language plpgsql
set search_path = ''
as $$
declare
  v_from social.conversations;
  v_to social.conversations;
begin
  select * into v_from from social.conversations c where c.id = message.conversation_id;
  if recipient_id is null or recipient_id = v_from.platform_user_id then
    return v_from;
  end if;
  select * into v_to from social.conversations c
  where c.connected_account_id = v_from.connected_account_id and c.platform_user_id = recipient_id for update;
  if v_to.id is null then
    update social.conversations c set platform_user_id = recipient_id where c.id = v_from.id returning * into v_to;
    return v_to;
  end if;
  -- not as one on its way, of which that conversation may have another; private.note_sent says that it is sent
  update social.messages m set conversation_id = v_to.id, status = 'queued' where m.id = message.id;
  update social.comments o set conversation_id = v_to.id where o.id = message.comment_id;
  update social.conversations c set message_count = c.message_count - 1 where c.id = v_from.id;
  update social.conversations c
  set message_count = c.message_count + 1, post_id = v_from.post_id, binding_id = v_from.binding_id,
    last_message_text = case when message.created_at >= c.last_message_at
      then left(message.message_text, 500) else c.last_message_text end,
    last_message_at = greatest(c.last_message_at, message.created_at),
    stage = case c.stage when 'processing' then c.stage else 'awaiting_reply' end
  where c.id = v_to.id
  returning * into v_to;
  delete from social.conversations c where c.id = v_from.id and c.message_count = 0;
  return v_to;
end $$;
comment on function private.settle_recipient(social.messages, text) is
  'Brings a private reply into the conversation of the person who got it.';
revoke all on function private.settle_recipient from public, anon, authenticated, service_role;

create function private.note_sent(message social.messages, output jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations := private.settle_recipient(message, output ->> 'recipient_id');
  v_at timestamptz := private.now();
  v_comment social.comments;
  v_echo social.messages;
begin
  -- the platform's echo was quicker and stands as a message of its own
  delete from social.messages m where m.conversation_id = v_conversation.id and m.id <> message.id
    and m.platform_message_id = output ->> 'platform_message_id' and m.source = 'app'
  returning * into v_echo;
  if v_echo.id is not null then
    update social.conversations c set message_count = c.message_count - 1 where c.id = v_conversation.id
    returning * into v_conversation;
    -- nobody has talked but ourselves
    if v_conversation.bot_data ->> 'silenced_by' = v_echo.id::text and v_conversation.taken_over_by is null
      and not exists (select from social.messages m where m.conversation_id = v_conversation.id and m.source = 'app'
        and m.position > v_echo.position) then
      v_conversation := private.end_takeover(v_conversation);
    end if;
  end if;
  update social.messages m
  set status = 'sent', platform_message_id = output ->> 'platform_message_id', sent_at = v_at
  where m.id = message.id;
  perform private.record_step(v_conversation, 'message_sent', 'sent:' || message.id, message.creation_id,
    jsonb_build_object('source', case message.source when 'member' then 'human' else message.source end,
      'purpose', message.purpose));
  case message.purpose
    when 'private_reply' then
      update social.comments o set reply_status = 'sent', conversation_id = v_conversation.id
      where o.id = message.comment_id returning * into v_comment;
      v_conversation.post_id := v_comment.post_id;
      perform private.record_step(v_conversation, 'private_reply_sent',
        'private_reply:' || v_comment.platform_comment_id, null, jsonb_build_object(
          'message_id', message.id, 'response_time_ms',
          greatest(0, round(extract(epoch from v_at - v_comment.commented_at) * 1000))));
    when 'photo_request' then
      perform private.record_step(v_conversation, 'photo_requested', 'photo_request:' || message.id);
    when 'result_picture' then
      perform private.record_step(v_conversation, 'result_sent', 'result:' || message.creation_id,
        message.creation_id, jsonb_build_object('message_id', message.id));
    when 'promo' then
      perform private.record_step(v_conversation, 'promo_sent', message.key, substr(message.key, 7)::uuid,
        jsonb_build_object('promo_code', (private.bot_rules_of(message.connected_account_id,
          v_conversation.post_id)).promo_code));
    else
      null;
  end case;
end $$;
comment on function private.note_sent(social.messages, jsonb) is 'A message has been taken by the platform.';
revoke all on function private.note_sent from public, anon, authenticated, service_role;

create function private.note_unsent(message social.messages, status text, reason text, detail text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations := (select c from social.conversations c where c.id = message.conversation_id);
  v_comment social.comments;
begin
  update social.messages m set status = note_unsent.status, error_code = reason, error_message = detail
  where m.id = message.id;
  perform private.record_step(v_conversation, 'send_failed', format('sent:%s:failed', message.id), message.creation_id,
    jsonb_build_object('error', reason, 'purpose', message.purpose));
  if message.comment_id is not null then
    update social.comments o
    set reply_status = case note_unsent.status when 'cancelled' then 'skipped' else 'failed' end, reply_reason = reason
    where o.id = message.comment_id returning * into v_comment;
    v_conversation.post_id := v_comment.post_id;
    perform private.record_step(v_conversation, 'private_reply_failed',
      format('private_reply:%s:failed', v_comment.platform_comment_id), null, jsonb_build_object('error', reason));
  end if;
end $$;
comment on function private.note_unsent(social.messages, text, text, text) is 'A message will not be sent.';
revoke all on function private.note_unsent from public, anon, authenticated, service_role;

-- on_event of social.send. Output: {platform_message_id, recipient_id}, or {dropped: why} for what was not to be sent.
create function social.on_send_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_message social.messages;
  v_dropped text := job.output ->> 'dropped';
begin
  if event = 'progressed' then
    return;
  end if;
  select * into v_message from social.messages m where m.id = (job.payload ->> 'message_id')::uuid;
  perform from social.conversations c where c.id = v_message.conversation_id for update;
  select * into v_message from social.messages m where m.id = v_message.id for update;
  if v_message.id is null then
    return;
  end if;
  if event = 'replayed' then
    -- in its turn; the new attempt looks first whether the old one arrived
    if v_message.status in ('failed', 'cancelled') and not exists (select from social.messages m
      where m.conversation_id = v_message.conversation_id and m.status = 'sending') then
      update social.messages m set status = 'sending', error_code = null, error_message = null
      where m.id = v_message.id;
    end if;
    return;
  end if;
  if v_message.status <> 'sending' then
    return;
  end if;
  if event = 'completed' and v_dropped is null then
    perform private.note_sent(v_message, job.output);
  elsif event = 'completed' then
    perform private.note_unsent(v_message, case when v_dropped in ('taken_over', 'opted_out') then 'cancelled'
      else 'failed' end, v_dropped, null);
  else
    perform private.note_unsent(v_message, case event when 'cancelled' then 'cancelled' else 'failed' end,
      case event when 'cancelled' then 'cancelled' else split_part(coalesce(job.error, 'internal_error'), ':', 1) end,
      case when event = 'dead' then job.error end);
  end if;
  perform private.send_next(v_message.conversation_id);
end $$;
comment on function social.on_send_job(ops.jobs, text) is 'Keeps a message in step with its job, and sends the next.';
revoke all on function social.on_send_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('social.send', 'Sends one message of a conversation.', 'social.on_send_job', interval '8 days');
