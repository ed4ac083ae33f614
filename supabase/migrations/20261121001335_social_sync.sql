-- Reading an account's posts by a job, page by page, as often as the account posts; what is subscribed for it.

create function private.note_social_account() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.begin_social_account(new);
  return null;
end $$;
comment on function private.note_social_account() is
  'Trigger: an Instagram account has its settings from the beginning.';
revoke all on function private.note_social_account from public, anon, authenticated, service_role;
create trigger note_social_account after insert on integrations.connected_accounts for each row
  when (new.provider = 'instagram') execute function private.note_social_account();
select private.begin_social_account(a) from integrations.connected_accounts a where a.provider = 'instagram';

-- One reading of an account at a time.
create function private.begin_post_sync(account_id uuid) returns social.account_sync
language plpgsql
set search_path = ''
as $$
declare
  v_sync social.account_sync;
begin
  update social.account_sync s set sync_status = 'running', last_sync_started_at = private.now()
  where s.account_id = begin_post_sync.account_id and s.sync_status <> 'running'
  returning * into v_sync;
  if v_sync.account_id is null then
    select * into v_sync from social.account_sync s where s.account_id = begin_post_sync.account_id;
    return v_sync;
  end if;
  update social.account_sync s
  set job_id = (select j.job_id from ops.enqueue_job('social.sync_posts',
    jsonb_build_object('account_id', v_sync.account_id), v_sync.workspace_id, max_attempts => 4,
    key => format('post-sync:%s:%s', v_sync.account_id, extract(epoch from clock_timestamp()))) j)
  where s.account_id = v_sync.account_id returning * into v_sync;
  return v_sync;
end $$;
comment on function private.begin_post_sync(uuid) is 'Begins to read an account''s posts, or finds it begun.';
revoke all on function private.begin_post_sync from public, anon, authenticated, service_role;

create function private.request_post_sync(account_id uuid) returns social.account_sync
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
begin
  select * into v_account from integrations.connected_accounts a where a.id = request_post_sync.account_id
    and a.provider = 'instagram' and (private.is_service() or private.has_role(a.workspace_id, 'viewer'));
  if v_account.id is null then
    perform private.fail('unknown_account', 'There is no such account among those of your workspaces.',
      jsonb_build_object('account_id', request_post_sync.account_id));
  end if;
  perform private.require_role(v_account.workspace_id, 'member');
  if v_account.status = 'disconnected' then
    perform private.fail('account_not_connected', 'The account has been disconnected.');
  end if;
  return private.begin_post_sync(v_account.id);
end $$;
comment on function private.request_post_sync(uuid) is 'Core of social.request_post_sync; checks the caller first.';
revoke all on function private.request_post_sync from public, anon, authenticated, service_role;
grant execute on function private.request_post_sync to authenticated, service_role;

create function social.request_post_sync(account_id uuid) returns social.account_sync
language sql
set search_path = ''
as $$ select private.request_post_sync(request_post_sync.account_id) $$;
comment on function social.request_post_sync(uuid) is
  'A member has an account''s posts read now; the row says how it goes. One that runs is answered.';
revoke all on function social.request_post_sync from public, anon, authenticated, service_role;
grant execute on function social.request_post_sync to authenticated, service_role;

-- posts: [{platform_post_id, platform_url, caption, media_type, media_urls, thumbnail_url, like_count, comment_count,
-- view_count, posted_at}]. Returns how many there are.
create function social.apply_posts(account_id uuid, posts jsonb, seen timestamptz) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_applied integer;
begin
  insert into social.posts as p (workspace_id, connected_account_id, platform_post_id, platform_url, caption,
    media_type, media_urls, thumbnail_url, like_count, comment_count, view_count, posted_at, last_synced_at)
  select a.workspace_id, a.id, n.platform_post_id, n.platform_url, n.caption, n.media_type,
    coalesce(n.media_urls, '[]'), n.thumbnail_url, coalesce(n.like_count, 0), coalesce(n.comment_count, 0),
    coalesce(n.view_count, 0), n.posted_at, seen
  from integrations.connected_accounts a, jsonb_to_recordset(posts) as n (platform_post_id text, platform_url text,
    caption text, media_type text, media_urls jsonb, thumbnail_url text, like_count integer, comment_count integer,
    view_count integer, posted_at timestamptz)
  where a.id = apply_posts.account_id
  order by n.platform_post_id collate "C"
  on conflict on constraint posts_once do update
  set platform_url = excluded.platform_url, caption = excluded.caption, media_type = excluded.media_type,
    media_urls = excluded.media_urls, thumbnail_url = excluded.thumbnail_url, like_count = excluded.like_count,
    comment_count = excluded.comment_count, view_count = excluded.view_count,
    last_synced_at = greatest(p.last_synced_at, excluded.last_synced_at), deleted_at = null
  where p.last_synced_at <= excluded.last_synced_at;
  get diagnostics v_applied = row_count;
  return v_applied;
end $$;
comment on function social.apply_posts(uuid, jsonb, timestamptz) is
  'A page of an account''s posts as they were at a time.';
revoke all on function social.apply_posts from public, anon, authenticated, service_role;
grant execute on function social.apply_posts to service_role;

-- What was not found is gone. How often the account is read follows from how often it posts.
create function social.finish_post_sync(account_id uuid, seen timestamptz, calls integer) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_activity text := (select case when count(*) filter (where p.posted_at > seen - interval '7 days') >= 7 then 'high'
    when count(*) filter (where p.posted_at > seen - interval '7 days') > 0 then 'normal'
    when count(*) filter (where p.posted_at > seen - interval '30 days') > 0 then 'low' else 'dormant' end
    from social.posts p where p.connected_account_id = finish_post_sync.account_id);
  v_minutes integer := case v_activity when 'high' then 15 when 'normal' then 60 when 'low' then 360 else 1440 end;
begin
  update social.posts p set deleted_at = seen
  where p.connected_account_id = finish_post_sync.account_id and p.last_synced_at < seen and p.deleted_at is null;
  update social.account_sync s
  set sync_status = 'completed', last_sync_completed_at = private.now(), consecutive_errors = 0, last_error = null,
    posts_synced_count = n.posts, last_post_id = l.platform_post_id, last_post_at = l.posted_at,
    activity_classification = v_activity, sync_frequency_minutes = v_minutes,
    next_sync_at = private.now() + make_interval(mins => v_minutes),
    api_calls_this_hour = calls
      + case when s.hour_window_start > private.now() - interval '1 hour' then s.api_calls_this_hour else 0 end,
    hour_window_start = case when s.hour_window_start > private.now() - interval '1 hour' then s.hour_window_start
      else private.now() end
  from (select count(*) as posts from social.posts p
      where p.connected_account_id = finish_post_sync.account_id and p.deleted_at is null) n
  left join lateral (select p.platform_post_id, p.posted_at from social.posts p
    where p.connected_account_id = finish_post_sync.account_id and p.deleted_at is null
    order by p.posted_at desc limit 1) l on true
  where s.account_id = finish_post_sync.account_id;
  update integrations.connected_accounts a set last_sync_at = private.now() where a.id = finish_post_sync.account_id;
end $$;
comment on function social.finish_post_sync(uuid, timestamptz, integer) is 'Ends a reading of an account''s posts.';
revoke all on function social.finish_post_sync from public, anon, authenticated, service_role;
grant execute on function social.finish_post_sync to service_role;

-- on_event of social.sync_posts: what fails is tried again later and later, up to a day.
create function social.on_sync_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update social.account_sync s
  set sync_status = 'failed', consecutive_errors = s.consecutive_errors + 1,
    last_error = coalesce(job.error, event), last_error_at = private.now(),
    next_sync_at = private.now() + least(interval '1 day',
      interval '5 minutes' * power(2, least(s.consecutive_errors, 10)))
  where s.account_id = (job.payload ->> 'account_id')::uuid and s.sync_status = 'running'
    and event in ('dead', 'cancelled');
end $$;
comment on function social.on_sync_job(ops.jobs, text) is 'Notes that the posts of an account could not be read.';
revoke all on function social.on_sync_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('social.sync_posts', 'Reads the posts of an Instagram account.', 'social.on_sync_job', interval '6 hours'),
  ('social.subscribe', 'Keeps what Instagram is to tell of an account subscribed.', null, interval '1 day');

create function private.begin_due_post_syncs() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account_id uuid;
  v_begun integer := 0;
begin
  for v_account_id in
    select s.account_id from social.account_sync s join integrations.connected_accounts a on a.id = s.account_id
    where s.sync_status <> 'running' and s.next_sync_at <= private.now() and a.status = 'active'
    order by s.next_sync_at limit 500
  loop
    perform private.begin_post_sync(v_account_id);
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.begin_due_post_syncs() is 'Sweep: reads the posts of accounts whose time has come.';
revoke all on function private.begin_due_post_syncs from public, anon, authenticated, service_role;
grant execute on function private.begin_due_post_syncs to service_role;

create function private.begin_subscription(account_id uuid, workspace_id uuid) returns void
language sql
set search_path = ''
as $$
  select ops.enqueue_job('social.subscribe', jsonb_build_object('account_id', begin_subscription.account_id),
    begin_subscription.workspace_id, key => format('social-subscribe:%s:%s', begin_subscription.account_id,
      extract(epoch from date_trunc('minute', private.now()))::bigint))
$$;
comment on function private.begin_subscription(uuid, uuid) is 'Has the webhooks of an account subscribed or checked.';
revoke all on function private.begin_subscription from public, anon, authenticated, service_role;

create function private.verify_social_webhooks() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account record;
  v_begun integer := 0;
begin
  for v_account in
    select a.id, a.workspace_id from integrations.connected_accounts a
    where a.provider = 'instagram' and a.status = 'active' and a.connected_at < private.now() - interval '1 hour'
      and not exists (select from integrations.webhook_subscriptions s where s.connected_account_id = a.id
        and s.status = 'active' and s.last_verified_at > private.now() - interval '1 day')
    order by a.last_used_at nulls first limit 200
  loop
    perform private.begin_subscription(v_account.id, v_account.workspace_id);
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.verify_social_webhooks() is 'Sweep: has the webhooks of each account checked once a day.';
revoke all on function private.verify_social_webhooks from public, anon, authenticated, service_role;
grant execute on function private.verify_social_webhooks to service_role;

create function social.note_subscription(account_id uuid, fields text[]) returns void
language sql
set search_path = ''
as $$
  insert into integrations.webhook_subscriptions as s
    (connected_account_id, provider, topic, subscribed_fields, status, last_verified_at)
  values (note_subscription.account_id, 'meta', 'instagram', fields, 'active', private.now())
  on conflict (connected_account_id, provider, topic) where status <> 'ended' do update
  set subscribed_fields = excluded.subscribed_fields, status = 'active', last_verified_at = excluded.last_verified_at,
    error_count = 0, last_error = null
$$;
comment on function social.note_subscription(uuid, text[]) is
  'What Instagram tells of an account, as it said just now.';
revoke all on function social.note_subscription from public, anon, authenticated, service_role;
grant execute on function social.note_subscription to service_role;

create function private.begin_instagram(account integrations.connected_accounts) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform private.begin_social_account(account);
  update social.account_health h set token_valid = true, consecutive_failures = 0, health_status = 'healthy'
  where h.account_id = account.id;
  perform private.begin_subscription(account.id, account.workspace_id);
  perform private.begin_post_sync(account.id);
end $$;
comment on function private.begin_instagram(integrations.connected_accounts) is
  'An Instagram account has been connected: its webhooks are subscribed and its posts are read.';
revoke all on function private.begin_instagram from public, anon, authenticated, service_role;
insert into integrations.connect_handlers (provider, function_name) values ('instagram', 'private.begin_instagram');

insert into ops.sweeps (name, function_name, every) values
  ('sync social posts', 'private.begin_due_post_syncs', interval '1 minute'),
  ('verify social webhooks', 'private.verify_social_webhooks', interval '10 minutes');
