-- What is erased of a person: their conversations, with the creations made of their photos, and what else names them.
-- Files whose rows are gone stand in the request until storage has deleted them. What is counted or owed stays: steps
-- of the funnel, orders and charges keep their figures and name nobody. In which steps it goes: next file.

-- Whom an event of Meta is about: the one in it who is not the account.
create function private.person_of_meta(payload jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(nullif(payload #>> '{value,sender,id}', payload ->> 'entry_id'), payload #>> '{value,recipient,id}',
    payload #>> '{value,from,id}')
$$;
comment on function private.person_of_meta(jsonb) is 'The person that a webhook of Meta is about, by Meta''s id.';
revoke all on function private.person_of_meta from public, anon, authenticated, service_role;
grant execute on function private.person_of_meta to service_role;
create index webhook_events_meta_person on ops.webhook_events (private.person_of_meta(payload))
  where provider = 'meta';
create index conversations_person on social.conversations (platform_user_id);
create index comments_person on social.comments (platform_user_id);
create index creations_of_sent_photos on studio.creations (model_storage_path)
  where split_part(model_storage_path, '/', 2) = 'instagram';

-- Conversations of the person with any account, and all of accounts that are the person's own.
create function private.conversations_of_person(request integrations.data_requests, accounts uuid[], most integer)
returns uuid[]
language sql stable
set search_path = ''
as $$
  select coalesce(array_agg(c.id order by c.id), '{}') from (
    (select o.id from social.conversations o where o.platform_user_id = request.external_user_id
      and o.platform = case request.provider when 'facebook' then 'messenger' else request.provider end limit most)
    union
    (select o.id from social.conversations o where o.connected_account_id = any (accounts) limit most)) c
$$;
comment on function private.conversations_of_person is 'Conversations that an erasure takes next.';
revoke all on function private.conversations_of_person from public, anon, authenticated, service_role;

-- Creations that show whom these conversations are with, whoever asked for them.
create function private.creations_of_conversations(conversation_ids uuid[]) returns setof studio.creations
language sql stable
set search_path = ''
as $$
  select c.* from studio.creations c where c.id in (
    select t.creation_id from social.tryons t where t.conversation_id = any (conversation_ids)
    union all
    select p.id from social.tryons t join studio.creations p on p.model_storage_path = t.photo_path
      and split_part(p.model_storage_path, '/', 2) = 'instagram'
    where t.conversation_id = any (conversation_ids))
$$;
comment on function private.creations_of_conversations(uuid[]) is
  'Creations made of photos that were sent in these conversations.';
revoke all on function private.creations_of_conversations from public, anon, authenticated, service_role;

-- One at a time: each has a job and a wallet to lock. False: none is left that could be cancelled.
create function private.cancel_one_creation(conversation_ids uuid[]) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_creation studio.creations;
begin
  for v_creation in
    select c.* from private.creations_of_conversations(conversation_ids) c where c.completed_at is null order by c.id
  loop
    begin
      perform private.cancel_creation(v_creation.id);
      return true;
    exception when sqlstate 'PT409' then
      -- it is being stored, and ends by itself
      null;
    end;
  end loop;
  return false;
end $$;
comment on function private.cancel_one_creation(uuid[]) is 'Cancels a creation under way in these conversations.';
revoke all on function private.cancel_one_creation from public, anon, authenticated, service_role;

-- A photo that was being fetched may lie under each of three names. Members' own pictures stay.
create function private.files_of_conversations(conversation_ids uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(distinct jsonb_build_object('bucket', f.bucket, 'path', f.path)), '[]') from (
    select 'studio-uploads' as bucket, p.path from social.tryons t
    cross join lateral (select t.photo_path where t.photo_path is not null union all
      select format('%s/instagram/%s/%s.%s', t.workspace_id, t.conversation_id, t.id, e.extension)
      from unnest('{png,jpg,webp}'::text[]) e (extension) where t.photo_path is null) p (path)
    where t.conversation_id = any (conversation_ids)
    union all
    select 'studio-results', r.path from private.creations_of_conversations(conversation_ids) c
    cross join lateral (select unnest(c.result_paths) union all select c.thumbnail_path) r (path)
    where r.path is not null
  ) f
$$;
comment on function private.files_of_conversations(uuid[]) is 'Files that show whom these conversations are with.';
revoke all on function private.files_of_conversations from public, anon, authenticated, service_role;

-- Steps of a conversation, or of comments.
create function private.forget_steps(conversation_ids uuid[], comments social.comments[]) returns void
language sql
set search_path = ''
as $$
  update social.bot_interactions i
  set details = i.details - '{platform_user_id,username,text,comment_id}'::text[],
    dedupe_key = case when i.dedupe_key ~ '^(comment|keyword|message|photo|private_reply):' then 'forgotten:' || i.id
      else i.dedupe_key end
  where i.id in (
    select s.id from social.bot_interactions s where s.conversation_id = any (conversation_ids)
    union all
    select s.id from unnest(comments) c join social.bot_interactions s on s.account_id = c.connected_account_id
      and s.dedupe_key in ('comment:' || c.platform_comment_id, 'keyword:' || c.platform_comment_id,
        'private_reply:' || c.platform_comment_id, format('private_reply:%s:failed', c.platform_comment_id)))
    and (i.details ?| '{platform_user_id,username,text,comment_id}'
      or i.dedupe_key ~ '^(comment|keyword|message|photo|private_reply):')
$$;
comment on function private.forget_steps is 'Steps of the funnel name nobody any more; they still count.';
revoke all on function private.forget_steps from public, anon, authenticated, service_role;

-- The assistant knows people of Instagram by Meta's id, with or without the platform before it, or by the conversation.
create function private.forget_preferences(conversation social.conversations) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_names text[] := array[conversation.platform_user_id, conversation.platform || ':' || conversation.platform_user_id];
begin
  delete from ai.customer_preferences p where p.workspace_id = conversation.workspace_id
    and (p.anonymous_id = any (v_names) or p.customer_id = conversation.id);
  delete from ai.conversation_sessions s where s.workspace_id = conversation.workspace_id
    and (s.anonymous_id = any (v_names) or s.customer_id = conversation.id
      or (s.channel = conversation.platform
        and s.platform_session_id in (conversation.platform_user_id, conversation.id::text)));
end $$;
comment on function private.forget_preferences(social.conversations) is
  'What the assistant knows of the person of a conversation goes.';
revoke all on function private.forget_preferences from public, anon, authenticated, service_role;

-- Jobs that sent messages note to whom.
create function private.forget_recipients(conversation_id uuid) returns void
language sql
set search_path = ''
as $$
  update ops.finished_jobs f set output = f.output - '{recipient_id,platform_message_id}'::text[]
  where f.output ?| '{recipient_id,platform_message_id}' and f.id in (
    select m.job_id from social.messages m where m.conversation_id = forget_recipients.conversation_id)
$$;
comment on function private.forget_recipients(uuid) is 'Jobs of a conversation''s messages name nobody any more.';
revoke all on function private.forget_recipients from public, anon, authenticated, service_role;

-- One conversation with all that belongs to it; false: something in it is still under way. Locks: conversation, its
-- creations, then what refers to them.
create function private.erase_conversation(conversation_id uuid) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_conversation social.conversations;
begin
  select * into v_conversation from social.conversations c where c.id = conversation_id for update;
  if exists (select from social.tryons t where t.conversation_id = erase_conversation.conversation_id
      and t.status = 'photo')
    or exists (select from social.messages m join ops.live_jobs j on j.id = m.job_id
      where m.conversation_id = erase_conversation.conversation_id and m.status = 'sending'
        and m.attempted_at is not null)
    or exists (select from private.creations_of_conversations(array[conversation_id]) c where c.completed_at is null)
  then
    return false;
  end if;
  perform private.forget_preferences(v_conversation);
  perform private.forget_recipients(conversation_id);
  perform private.redact_orders_of(a.id, '[]', array[private.person_ref(a.id, v_conversation.platform_username)])
  from integrations.connected_accounts a
  where a.workspace_id = v_conversation.workspace_id and a.provider = 'shopify'
    and v_conversation.platform_username is not null;
  delete from messaging.notifications n where n.workspace_id = v_conversation.workspace_id
    and n.metadata ->> 'conversation_id' = conversation_id::text;
  perform private.forget_steps(array[conversation_id], array(select c from social.comments c
    where c.workspace_id = v_conversation.workspace_id and c.conversation_id = erase_conversation.conversation_id));
  delete from social.comments c where c.workspace_id = v_conversation.workspace_id
    and c.conversation_id = erase_conversation.conversation_id;
  delete from studio.creations c where c.id in (
    select o.id from private.creations_of_conversations(array[conversation_id]) o);
  delete from social.conversations c where c.id = conversation_id;
  return true;
end $$;
comment on function private.erase_conversation(uuid) is
  'Deletes a conversation, its comments and creations, and what is known of its person.';
revoke all on function private.erase_conversation from public, anon, authenticated, service_role;
