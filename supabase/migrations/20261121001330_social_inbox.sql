-- Members' calls on conversations. Lists go by keys, newest first: the last row of a page is where the next begins.

create function private.conversation_of_caller(conversation_id uuid) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_conversation social.conversations;
begin
  select * into v_conversation from social.conversations c where c.id = conversation_of_caller.conversation_id
    and (private.is_service() or private.has_role(c.workspace_id, 'viewer')) for update;
  if v_conversation.id is null then
    perform private.fail('unknown_conversation', 'There is no such conversation among those of your workspaces.',
      jsonb_build_object('conversation_id', conversation_of_caller.conversation_id));
  end if;
  return v_conversation;
end $$;
comment on function private.conversation_of_caller(uuid) is 'A conversation that the caller may see, locked.';
revoke all on function private.conversation_of_caller from public, anon, authenticated, service_role;

-- Row security has its own condition on the workspace beside the caller's, and the server takes both together to find
-- next to nothing: it would rather read all conversations of a category and sort them than read a page in the index's
-- order. So it is told not to.

-- Planned anew for the filters that are given, so that each has its index. most: at most 200.
create function social.list_conversations(workspace_id uuid, account_id uuid default null, category text default null,
  unread_only boolean default false, before timestamptz default null, before_id uuid default null,
  most integer default 50) returns setof social.conversations
language plpgsql stable
set search_path = ''
set enable_sort = off
set enable_bitmapscan = off
as $$
begin
  return query execute 'select * from social.conversations c where '
    || case when account_id is null then 'c.workspace_id = $1'
      else 'c.workspace_id = $1 and c.connected_account_id = $2' end
    || case when category is null then '' else ' and c.category = $3' end
    || case when unread_only then ' and c.unread_count > 0' else '' end
    || case when before is null then '' else ' and (c.last_message_at, c.id) < ($4, $5)' end
    || ' order by c.last_message_at desc, c.id desc limit $6'
  using list_conversations.workspace_id, account_id, category, before,
    coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid), least(greatest(most, 1), 200);
end $$;
comment on function social.list_conversations is
  'A page of a workspace''s inbox, by last message; before and before_id are those of the page''s last row.';
revoke all on function social.list_conversations from public, anon, authenticated, service_role;
grant execute on function social.list_conversations to authenticated, service_role;

create function social.list_messages(conversation_id uuid, before timestamptz default null,
  before_position bigint default null, most integer default 50) returns setof social.messages
language plpgsql stable
set search_path = ''
set enable_sort = off
set enable_bitmapscan = off
as $$
begin
  return query
  select * from social.messages m
  where m.conversation_id = list_messages.conversation_id
    and (m.created_at, m.position) < (coalesce(before, 'infinity'), coalesce(before_position, 9223372036854775807))
  order by m.created_at desc, m.position desc limit least(greatest(most, 1), 200);
end $$;
comment on function social.list_messages is
  'A page of a conversation, newest first; before and before_position are those of the page''s last row.';
revoke all on function social.list_messages from public, anon, authenticated, service_role;
grant execute on function social.list_messages to authenticated, service_role;

-- What is written is sent in its turn and within the limits; status says how it went. Writing takes over: the bot is
-- silent for takeover_minutes of the settings, or until it is handed back.
-- The message that a key stands for, when it is the one that is asked for again; of an erased one nobody can tell.
-- Error: key_reused.
create function private.same_message(known social.messages, message_text text, media_path text)
returns social.messages
language plpgsql
set search_path = ''
as $$
begin
  if coalesce(known.message_text, known.media_path) is not null
    and (known.message_text, known.media_path) is distinct from (message_text, media_path) then
    perform private.fail('key_reused', 'This key has been used for a different message.',
      jsonb_build_object('key', substr(known.key, 8), 'message_id', known.id));
  end if;
  return known;
end $$;
comment on function private.same_message(social.messages, text, text) is
  'The message of a key; refuses the key for another one.';
revoke all on function private.same_message from public, anon, authenticated, service_role;

create function private.send_message(conversation_id uuid, message_text text, media_path text, key text)
returns social.messages
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_conversation social.conversations := private.conversation_of_caller(conversation_id);
  v_draft social.messages;
  v_refusal text;
  v_minutes integer;
begin
  perform private.require_role(v_conversation.workspace_id, 'member');
  if (message_text is null) = (media_path is null)
    or octet_length(convert_to(message_text, 'UTF8')) not between 1 and 1000 then
    perform private.fail('invalid_argument', 'A message is a text of 1 to 1000 bytes in UTF-8, or a picture.',
      '{"argument": "message_text"}');
  end if;
  if media_path is not null then
    perform private.require_image(media_path, v_conversation.workspace_id);
  end if;
  if length(key) not between 1 and 200 then
    perform private.fail('invalid_argument', 'key must have 1 to 200 characters.', '{"argument": "key"}');
  elsif key is not null then
    select * into v_draft from social.messages m
    where m.conversation_id = v_conversation.id and m.key = 'member:' || key;
    if v_draft.id is not null then
      return private.same_message(v_draft, message_text, media_path);
    end if;
  end if;
  v_draft.source := 'member';
  v_draft.sent_by := auth.uid();
  v_draft.message_type := case when media_path is null then 'text' else 'image' end;
  v_draft.message_text := message_text;
  v_draft.media_path := media_path;
  v_draft.key := 'member:' || key;
  v_draft.connected_account_id := v_conversation.connected_account_id;
  v_refusal := private.refusal_to_send(v_draft, v_conversation);
  if v_refusal = 'outside_message_window' then
    perform private.fail(v_refusal, 'The person wrote last more than 24 hours ago, or never.',
      jsonb_build_object('last_inbound_at', v_conversation.last_inbound_at,
        'window_ends_at', v_conversation.window_ends_at));
  elsif v_refusal is not null then
    perform private.fail(v_refusal, 'The account of this conversation is not connected any more.');
  end if;
  select s.takeover_minutes into v_minutes from social.bot_settings s
  where s.account_id = v_conversation.connected_account_id;
  v_conversation := private.begin_takeover(v_conversation, auth.uid(),
    private.silent_until(v_conversation, private.now() + make_interval(mins => v_minutes)));
  update social.conversations c set status = 'active', is_accepted = true,
    category = case c.category when 'requests' then 'general' else c.category end
  where c.id = v_conversation.id;
  return private.same_message(private.queue_message(v_conversation, v_draft), message_text, media_path);
end $$;
comment on function private.send_message(uuid, text, text, text) is
  'Core of social.send_message; checks the caller first.';
revoke all on function private.send_message from public, anon, authenticated, service_role;
grant execute on function private.send_message to authenticated, service_role;

-- Errors: unknown_conversation, role_too_low, invalid_argument, unknown_image, outside_message_window (the details say
-- when it ended), account_not_connected, key_reused. With a key, a repeat answers the first message.
create function social.send_message(conversation_id uuid, message_text text default null, media_path text default null,
  key text default null) returns social.messages
language sql
set search_path = ''
as $$
  select private.send_message(send_message.conversation_id, send_message.message_text, send_message.media_path,
    send_message.key)
$$;
comment on function social.send_message is
  'A member writes to the person: a text, or a picture of the bucket studio-uploads. The bot is silent from then on.';
revoke all on function social.send_message from public, anon, authenticated, service_role;
grant execute on function social.send_message to authenticated, service_role;

create function private.cancel_message(message_id uuid) returns social.messages
language plpgsql security definer
set search_path = ''
as $$
declare
  v_message social.messages := (select m from social.messages m where m.id = cancel_message.message_id
    and (private.is_service() or private.has_role(m.workspace_id, 'viewer')));
begin
  if v_message.id is null then
    perform private.fail('unknown_message', 'There is no such message among those of your workspaces.',
      jsonb_build_object('message_id', cancel_message.message_id));
  end if;
  perform private.require_role(v_message.workspace_id, 'member');
  perform private.conversation_of_caller(v_message.conversation_id);
  update social.messages m set status = 'cancelled', error_code = 'cancelled'
  where m.id = v_message.id and m.status = 'queued' returning * into v_message;
  if v_message.id is null then
    perform private.fail('message_not_queued', 'The message is on its way or has ended.');
  end if;
  update social.comments o set reply_status = 'skipped', reply_reason = 'cancelled' where o.id = v_message.comment_id;
  return v_message;
end $$;
comment on function private.cancel_message(uuid) is 'Core of social.cancel_message; checks the caller first.';
revoke all on function private.cancel_message from public, anon, authenticated, service_role;
grant execute on function private.cancel_message to authenticated, service_role;

create function social.cancel_message(message_id uuid) returns social.messages
language sql
set search_path = ''
as $$ select private.cancel_message(cancel_message.message_id) $$;
comment on function social.cancel_message(uuid) is 'A member takes back a message that still waits for its turn.';
revoke all on function social.cancel_message from public, anon, authenticated, service_role;
grant execute on function social.cancel_message to authenticated, service_role;

create function private.take_over(conversation_id uuid, until timestamptz) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_conversation social.conversations := private.conversation_of_caller(take_over.conversation_id);
begin
  perform private.require_role(v_conversation.workspace_id, 'member');
  if until <= private.now() then
    perform private.fail('invalid_argument', 'until must be in the future.', '{"argument": "until"}');
  end if;
  return private.begin_takeover(v_conversation, auth.uid(), until);
end $$;
comment on function private.take_over(uuid, timestamptz) is 'Core of social.take_over; checks the caller first.';
revoke all on function private.take_over from public, anon, authenticated, service_role;
grant execute on function private.take_over to authenticated, service_role;

create function social.take_over(conversation_id uuid, until timestamptz default null) returns social.conversations
language sql
set search_path = ''
as $$ select private.take_over(take_over.conversation_id, take_over.until) $$;
comment on function social.take_over(uuid, timestamptz) is
  'A member talks from now on: the bot is silent until then, or until the conversation is handed back.';
revoke all on function social.take_over from public, anon, authenticated, service_role;
grant execute on function social.take_over to authenticated, service_role;

create function private.end_takeover(conversation social.conversations) returns social.conversations
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations := conversation;
begin
  if conversation.taken_over_at is not null then
    update social.conversations c set taken_over_at = null, taken_over_until = null, taken_over_by = null
    where c.id = conversation.id returning * into v_conversation;
    perform private.record_step(v_conversation, 'human_handback', format('handback:%s:%s', conversation.id,
      round(extract(epoch from conversation.taken_over_at) * 1000)));
  end if;
  return v_conversation;
end $$;
comment on function private.end_takeover(social.conversations) is 'Lets the bot talk again.';
revoke all on function private.end_takeover from public, anon, authenticated, service_role;

create function private.hand_back(conversation_id uuid) returns social.conversations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_conversation social.conversations := private.conversation_of_caller(hand_back.conversation_id);
begin
  perform private.require_role(v_conversation.workspace_id, 'member');
  return private.end_takeover(v_conversation);
end $$;
comment on function private.hand_back(uuid) is 'Core of social.hand_back; checks the caller first.';
revoke all on function private.hand_back from public, anon, authenticated, service_role;
grant execute on function private.hand_back to authenticated, service_role;

create function social.hand_back(conversation_id uuid) returns social.conversations
language sql
set search_path = ''
as $$ select private.hand_back(hand_back.conversation_id) $$;
comment on function social.hand_back(uuid) is 'A member hands a conversation back to the bot.';
revoke all on function social.hand_back from public, anon, authenticated, service_role;
grant execute on function social.hand_back to authenticated, service_role;

create function private.end_due_takeovers() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations;
  v_ended integer := 0;
begin
  for v_conversation in
    select * from social.conversations c where c.taken_over_until <= private.now()
    order by c.taken_over_until limit 500 for update skip locked
  loop
    perform private.end_takeover(v_conversation);
    v_ended := v_ended + 1;
  end loop;
  return v_ended;
end $$;
comment on function private.end_due_takeovers() is 'Sweep: the bot may talk again where its time to be silent is over.';
revoke all on function private.end_due_takeovers from public, anon, authenticated, service_role;
grant execute on function private.end_due_takeovers to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('end takeovers', 'private.end_due_takeovers', interval '1 minute');
