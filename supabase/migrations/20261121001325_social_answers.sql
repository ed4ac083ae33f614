-- What the bot does with a message. It is silent while a member talks, after the person opted out, and where it is
-- switched off. Business hours hold back what begins, not what has begun. All under the conversation's lock.

create function private.is_stop_word(text text) returns boolean
language sql immutable
set search_path = ''
as $$ select trim(private.keyword_text(text)) in ('stop', 'unsubscribe', 'opt out', 'stop bot', 'no more messages') $$;
comment on function private.is_stop_word(text) is 'Does a message ask the bot to stop? Only when it says nothing else.';
revoke all on function private.is_stop_word from public, anon, authenticated, service_role;

-- The person's choice counts whoever talks. Null: the message is no such wish.
create function private.answer_choice(conversation social.conversations, message social.messages,
  rules private.bot_rules) returns text
language plpgsql
set search_path = ''
as $$
begin
  if private.is_stop_word(message.message_text) then
    if conversation.opted_out_at is null then
      update social.conversations c set opted_out_at = private.now() where c.id = conversation.id;
      perform private.record_step(conversation, 'opted_out', 'opt_out:' || message.platform_message_id);
      if rules.auto_reply_enabled and not private.is_taken_over(conversation) then
        perform private.bot_says(conversation, rules, 'opted_out', 'opted_out:' || message.id);
      end if;
    end if;
    return 'opted_out';
  end if;
  if conversation.opted_out_at is not null and trim(private.keyword_text(message.message_text)) in ('start', 'unstop')
  then
    update social.conversations c set opted_out_at = null where c.id = conversation.id returning * into conversation;
    perform private.record_step(conversation, 'opted_in', 'opt_in:' || message.platform_message_id);
    if rules.auto_reply_enabled and not private.is_taken_over(conversation) then
      perform private.bot_says(conversation, rules, 'opted_in', 'opted_in:' || message.id);
    end if;
    return 'opted_in';
  end if;
  return null;
end $$;
comment on function private.answer_choice is 'STOP and START: whether a person wants the bot''s messages.';
revoke all on function private.answer_choice from public, anon, authenticated, service_role;

-- Once for each time that the account is closed.
create function private.say_closed(conversation social.conversations, rules private.bot_rules, opens_at timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
begin
  if conversation.bot_data ->> 'closed_until' is distinct from coalesce(opens_at::text, 'never') then
    update social.conversations c
    set bot_data = c.bot_data || jsonb_build_object('closed_until', coalesce(opens_at::text, 'never'))
    where c.id = conversation.id;
    perform private.bot_says(conversation, rules, 'outside_hours',
      format('outside_hours:%s', coalesce(opens_at::text, private.now()::date::text)));
  end if;
  return 'closed';
end $$;
comment on function private.say_closed(social.conversations, private.bot_rules, timestamptz) is
  'Says that the account is closed, once until it opens.';
revoke all on function private.say_closed from public, anon, authenticated, service_role;

-- A photo begins a try-on with the garment that is being talked about: one at a time, so many a day and person.
create function private.answer_photo(conversation social.conversations, message social.messages,
  rules private.bot_rules) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_url text := (select a.item ->> 'url' from jsonb_array_elements(message.attachments) a (item)
    where a.item ->> 'type' = 'image' and a.item ->> 'url' is not null limit 1);
  v_tryon social.tryons;
begin
  if exists (select from social.tryons t where t.conversation_id = conversation.id
    and t.status in ('photo', 'processing')) then
    return 'busy';
  end if;
  if not rules.tryon_enabled then
    return 'bot_disabled';
  end if;
  if rules.binding_id is null then
    perform private.bot_says(conversation, rules, 'no_garment', 'no_garment:' || message.id);
    return 'no_garment';
  end if;
  if v_url is null then
    perform private.bot_says(conversation, rules, 'bad_photo', 'bad_photo:' || message.id);
    return 'bad_photo';
  end if;
  if (select count(*) from social.tryons t where t.workspace_id = conversation.workspace_id
    and t.conversation_id = conversation.id and t.created_at > private.now() - interval '1 day'
    and t.status in ('completed', 'failed', 'refused')) >= rules.daily_tryons_per_person then
    perform private.bot_says(conversation, rules, 'limit_reached', 'limit_reached:' || message.id);
    return 'limit_reached';
  end if;
  insert into social.tryons (workspace_id, conversation_id, message_id, post_id, binding_id, garment_id, source_url)
  values (conversation.workspace_id, conversation.id, message.id, rules.post_id, rules.binding_id, rules.garment_id,
    v_url)
  returning * into v_tryon;
  update social.conversations c set stage = 'processing' where c.id = conversation.id;
  perform ops.enqueue_job('social.photo', jsonb_build_object('tryon_id', v_tryon.id), v_tryon.workspace_id,
    priority => 5, max_attempts => 4, key => 'social-photo:' || v_tryon.id);
  return 'photo';
end $$;
comment on function private.answer_photo is 'A photo has come: it is fetched, or the bot says why not.';
revoke all on function private.answer_photo from public, anon, authenticated, service_role;

-- A post of the account that the person shares is the one to be talked about.
create function private.answer_share(conversation social.conversations, message social.messages) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_post_id uuid := (select p.id from social.posts p
    join social.post_garment_bindings b on b.post_id = p.id and b.is_active
    where p.connected_account_id = conversation.connected_account_id and p.platform_post_id = any (
      array(select a.item ->> 'post_id' from jsonb_array_elements(message.attachments) a (item))) limit 1);
  v_rules private.bot_rules := private.bot_rules_of(conversation.connected_account_id, v_post_id);
begin
  if v_post_id is null or not v_rules.tryon_enabled or conversation.stage = 'processing' then
    return null;
  end if;
  update social.conversations c set post_id = v_post_id, binding_id = v_rules.binding_id, stage = 'awaiting_photo'
  where c.id = conversation.id returning * into conversation;
  perform private.bot_says(conversation, v_rules, 'photo_request', 'photo_request:' || message.id);
  return 'photo_requested';
end $$;
comment on function private.answer_share(social.conversations, social.messages) is
  'A shared post of the account begins a try-on of its garment.';
revoke all on function private.answer_share from public, anon, authenticated, service_role;

-- A person's first answer to a private reply, or a trigger word, is answered with a request for a photo. What else
-- people write is for people: they are told, once a day and conversation.
create function private.answer_text(conversation social.conversations, message social.messages,
  rules private.bot_rules, stage_before text) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_word text := private.matching_keyword(message.message_text, rules.trigger_keywords);
begin
  if conversation.stage = 'processing' then
    return 'busy';
  end if;
  if rules.tryon_enabled and v_word is not null then
    perform private.record_step(conversation, 'keyword_matched', 'keyword:' || message.platform_message_id, null,
      jsonb_build_object('trigger_word', v_word, 'source', 'message', 'text', message.message_text));
  end if;
  if rules.tryon_enabled and rules.binding_id is not null and (v_word is not null or stage_before = 'awaiting_reply')
  then
    update social.conversations c set stage = 'awaiting_photo' where c.id = conversation.id;
    perform private.bot_says(conversation, rules, 'photo_request', 'photo_request:' || message.id);
    return 'photo_requested';
  end if;
  if rules.tryon_enabled and v_word is not null then
    perform private.bot_says(conversation, rules, 'no_garment', 'no_garment:' || message.id);
    return 'no_garment';
  end if;
  return null;
end $$;
comment on function private.answer_text is 'Words have come: where they begin a try-on, the bot asks for a photo.';
revoke all on function private.answer_text from public, anon, authenticated, service_role;

create function private.tell_people(conversation social.conversations, rules private.bot_rules, title text,
  description text, key text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if rules.notifications_enabled then
    perform private.notify_user(a.user_id, a.workspace_id, 'info', tell_people.title, tell_people.description,
      '/social/conversations/' || conversation.id, jsonb_build_object('conversation_id', conversation.id),
      tell_people.key, 'social.message_received')
    from integrations.connected_accounts a where a.id = conversation.connected_account_id and a.user_id is not null;
  end if;
end $$;
comment on function private.tell_people is 'Tells the person who connected the account of a conversation.';
revoke all on function private.tell_people from public, anon, authenticated, service_role;

-- Returns what it did; null: nothing, the message is for people.
create function private.answer_message(conversation social.conversations, message social.messages, stage_before text)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_rules private.bot_rules := private.bot_rules_of(conversation.connected_account_id, conversation.post_id);
  v_opens_at timestamptz := private.next_opening(v_rules, private.now());
  v_done text := private.answer_choice(conversation, message, v_rules);
begin
  if v_done is not null then
    return v_done;
  end if;
  if v_rules.auto_reply_enabled and conversation.opted_out_at is null and not private.is_taken_over(conversation)
    and message.created_at > private.now() - interval '24 hours' then
    if v_opens_at is distinct from private.now() and stage_before in ('initial', 'completed') then
      v_done := private.say_closed(conversation, v_rules, v_opens_at);
    elsif message.message_type = 'share' then
      v_done := private.answer_share(conversation, message);
    elsif message.message_type = 'image' then
      v_done := private.answer_photo(conversation, message, v_rules);
    elsif message.message_text is not null then
      v_done := private.answer_text(conversation, message, v_rules, stage_before);
    end if;
  end if;
  if v_done is null then
    perform private.tell_people(conversation, v_rules,
      format('New message from %s', coalesce(conversation.platform_username, 'Instagram')),
      left(message.message_text, 200), format('message:%s:%s', conversation.id, private.now()::date));
  end if;
  return v_done;
end $$;
comment on function private.answer_message(social.conversations, social.messages, text) is
  'What the bot does with a message that has come.';
revoke all on function private.answer_message from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('social.photo', 'Fetches a photo that somebody sent to the bot and requests the try-on.', interval '1 day');
