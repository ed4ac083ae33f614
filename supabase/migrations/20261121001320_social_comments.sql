-- Comments under posts. One with a trigger word of a bound post gets one private reply, at once or when the account
-- opens, within seven days. Every function here may be called again with the same event and changes nothing then.

-- Meta's times are seconds or milliseconds.
create function private.meta_time(value jsonb) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return case when jsonb_typeof(value) <> 'number' then null
    when value::numeric > 1e11 then to_timestamp(value::numeric / 1000) else to_timestamp(value::numeric) end;
end $$;
comment on function private.meta_time(jsonb) is 'A time as Meta writes it, in seconds or milliseconds.';
revoke all on function private.meta_time from public, anon, authenticated, service_role;

-- Of two at once, both get the one that is there, locked.
create function private.open_conversation(account integrations.connected_accounts, person_id text, username text,
  by_comment boolean) returns social.conversations
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations;
begin
  select * into v_conversation from social.conversations c
  where c.connected_account_id = account.id and c.platform_user_id = person_id for update;
  if v_conversation.id is null then
    insert into social.conversations as c (workspace_id, connected_account_id, platform_user_id, platform_username,
      category, is_accepted, last_message_at)
    values (account.workspace_id, account.id, person_id, username,
      case when by_comment then 'general' else 'requests' end, by_comment, private.now())
    on conflict on constraint conversations_once do update set platform_user_id = excluded.platform_user_id
    returning c.* into v_conversation;
  end if;
  if username is not null and username is distinct from v_conversation.platform_username then
    update social.conversations c set platform_username = username where c.id = v_conversation.id
    returning * into v_conversation;
  end if;
  return v_conversation;
end $$;
comment on function private.open_conversation is 'The conversation with a person, begun where there is none; locked.';
revoke all on function private.open_conversation from public, anon, authenticated, service_role;

create function private.skip_comment(comment social.comments, reason text) returns text
language plpgsql
set search_path = ''
as $$
begin
  update social.comments o set reply_status = 'skipped', reply_reason = reason where o.id = comment.id;
  return 'skipped';
end $$;
comment on function private.skip_comment(social.comments, text) is 'A comment gets no private reply, for a reason.';
revoke all on function private.skip_comment from public, anon, authenticated, service_role;

-- Called once the reply is due; what has changed since the comment came counts.
create function private.reply_to_comment(comment social.comments) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_conversation social.conversations;
  v_rules private.bot_rules := private.bot_rules_of(comment.connected_account_id, comment.post_id);
  v_draft social.messages;
begin
  select * into v_account from integrations.connected_accounts a where a.id = comment.connected_account_id;
  v_conversation := private.open_conversation(v_account, comment.platform_user_id, comment.platform_username, true);
  update social.comments o set conversation_id = v_conversation.id where o.id = comment.id;
  case
    when v_conversation.opted_out_at is not null then return private.skip_comment(comment, 'opted_out');
    when private.is_taken_over(v_conversation) then return private.skip_comment(comment, 'taken_over');
    when v_rules.binding_id is null then return private.skip_comment(comment, 'no_garment');
    when not v_rules.tryon_enabled or not v_rules.auto_reply_enabled then
      return private.skip_comment(comment, 'bot_disabled');
    when comment.commented_at <= private.now() - interval '7 days' then
      return private.skip_comment(comment, 'private_reply_expired');
    else null;
  end case;
  update social.conversations c
  set post_id = comment.post_id, binding_id = v_rules.binding_id, status = 'active',
    stage = case c.stage when 'processing' then c.stage else 'awaiting_reply' end
  where c.id = v_conversation.id returning * into v_conversation;
  -- once a minute, by whoever comes first: a crowd of comments must not queue at one row
  update social.post_garment_bindings b set last_used_at = private.now()
  where b.id = any (array(select o.id from social.post_garment_bindings o where o.id = v_rules.binding_id
    and (o.last_used_at is null or o.last_used_at < private.now() - interval '1 minute')
    for no key update skip locked));
  v_draft.source := 'bot';
  v_draft.purpose := 'private_reply';
  v_draft.comment_id := comment.id;
  v_draft.key := 'private_reply:' || comment.id;
  v_draft.message_text := private.fill_message(v_rules, 'private_reply', comment.platform_username);
  perform private.queue_message(v_conversation, v_draft);
  return 'replied';
end $$;
comment on function private.reply_to_comment(social.comments) is
  'Queues the private reply to a comment, or says why not.';
revoke all on function private.reply_to_comment from public, anon, authenticated, service_role;

-- What matched: the reply is sent now, or is a job for when the account opens.
create function private.schedule_reply(comment social.comments, rules private.bot_rules) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_at timestamptz := private.next_opening(rules, private.now());
begin
  if not rules.tryon_enabled or not rules.auto_reply_enabled then
    return private.skip_comment(comment, 'bot_disabled');
  end if;
  if comment.commented_at <= private.now() - interval '7 days' then
    return private.skip_comment(comment, 'private_reply_expired');
  end if;
  if v_at is null or v_at >= comment.commented_at + interval '7 days' then
    return private.skip_comment(comment, 'closed_too_long');
  end if;
  update social.comments o set reply_at = v_at where o.id = comment.id;
  if v_at <= private.now() then
    return private.reply_to_comment(comment);
  end if;
  perform ops.enqueue_job('social.reply_to_comment', jsonb_build_object('comment_id', comment.id),
    comment.workspace_id, run_at => v_at,
    key => format('comment-reply:%s:%s', comment.id, extract(epoch from v_at)::bigint));
  return 'scheduled';
end $$;
comment on function private.schedule_reply(social.comments, private.bot_rules) is
  'Sends or schedules the private reply of a comment with a trigger word.';
revoke all on function private.schedule_reply from public, anon, authenticated, service_role;

create function social.reply_to_comment(comment_id uuid) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_comment social.comments;
begin
  select * into v_comment from social.comments o where o.id = reply_to_comment.comment_id for update;
  if v_comment.reply_status is distinct from 'pending' or exists (select from social.messages m
    where m.comment_id = v_comment.id) then
    return 'unchanged';
  end if;
  return private.schedule_reply(v_comment, private.bot_rules_of(v_comment.connected_account_id, v_comment.post_id));
end $$;
comment on function social.reply_to_comment(uuid) is
  'Answers a comment whose reply waited for the account to open; where its hours have changed, it waits on.';
revoke all on function social.reply_to_comment from public, anon, authenticated, service_role;
grant execute on function social.reply_to_comment to service_role;

-- A comment under an advertised post names the original one too.
create function private.apply_comment(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_value jsonb := event.payload -> 'value';
  v_media jsonb := v_value -> 'media';
  v_post_id uuid := (select p.id from social.posts p where p.connected_account_id = account.id
    and p.platform_post_id in (v_media ->> 'id', v_media ->> 'original_media_id')
    order by p.platform_post_id = v_media ->> 'id' desc limit 1);
  v_rules private.bot_rules := private.bot_rules_of(account.id, v_post_id);
  v_word text;
  v_comment social.comments;
  v_details jsonb;
begin
  if account.external_account_id in (v_value #>> '{from,id}', v_value #>> '{from,self_ig_scoped_id}') then
    return 'own';
  end if;
  if v_rules.binding_id is not null then
    v_word := private.matching_keyword(v_value ->> 'text', v_rules.trigger_keywords);
  end if;
  insert into social.comments (workspace_id, connected_account_id, post_id, binding_id, platform_comment_id,
    platform_post_id, parent_comment_id, platform_user_id, platform_username, comment_text, trigger_word, reply_status,
    commented_at)
  values (account.workspace_id, account.id, v_post_id, v_rules.binding_id, v_value ->> 'id', v_media ->> 'id',
    v_value ->> 'parent_id', v_value #>> '{from,id}', v_value #>> '{from,username}',
    left(v_value ->> 'text', 10000), v_word, case when v_word is null then 'none' else 'pending' end,
    least(coalesce(private.meta_time(event.payload -> 'time'), event.created_at), private.now()))
  on conflict on constraint comments_once do nothing
  returning * into v_comment;
  if v_comment.id is null then
    return 'duplicate';
  end if;
  v_details := jsonb_strip_nulls(jsonb_build_object('platform_user_id', v_comment.platform_user_id,
    'username', v_comment.platform_username, 'binding_id', v_comment.binding_id,
    'comment_id', v_comment.platform_comment_id, 'text', v_comment.comment_text));
  perform social.record_interaction(account.workspace_id, account.id, 'comment_received',
    'comment:' || v_comment.platform_comment_id, v_post_id, details => v_details);
  if v_word is null then
    return 'noted';
  end if;
  perform social.record_interaction(account.workspace_id, account.id, 'keyword_matched',
    'keyword:' || v_comment.platform_comment_id, v_post_id,
    details => v_details || jsonb_build_object('trigger_word', v_word, 'source', 'comment'));
  return private.schedule_reply(v_comment, v_rules);
end $$;
comment on function private.apply_comment(ops.webhook_events, integrations.connected_accounts) is
  'comments and live_comments: a comment is kept, and answered where it holds a trigger word.';
revoke all on function private.apply_comment from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('social.reply_to_comment', 'Answers a comment privately once the account is open.', interval '8 days');
