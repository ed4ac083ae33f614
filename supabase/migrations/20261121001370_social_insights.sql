-- What the platform itself says of an account and its posts: reach, views, likes, comments, shares, saves. A job reads
-- it every six hours; figures of the last two days may still change there, so they are written over.

-- One row a post and day: all since the post began, as it stood when it was read last that day.
create table social.post_insights (
  post_id uuid not null,
  day date not null,
  workspace_id uuid not null,
  account_id uuid not null,
  reach bigint,
  views bigint,
  likes bigint,
  comments bigint,
  shares bigint,
  saves bigint,
  interactions bigint,
  read_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint post_insights_pkey primary key (post_id, day),
  constraint post_insights_post_fkey foreign key (workspace_id, post_id)
    references social.posts (workspace_id, id) on delete cascade,
  constraint post_insights_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint post_insights_not_negative check (reach >= 0 and views >= 0 and likes >= 0 and comments >= 0
    and shares >= 0 and saves >= 0 and interactions >= 0)
);
comment on table social.post_insights is
  'What the platform counted of a post since it began, by day of reading (UTC); null: it does not say.';
create index post_insights_post on social.post_insights (workspace_id, post_id);
create index post_insights_account on social.post_insights (workspace_id, account_id, day desc);
alter table social.post_insights enable row level security;
revoke all on table social.post_insights from public, anon, authenticated, service_role;
grant select on table social.post_insights to authenticated;
grant select, insert, update, delete on table social.post_insights to service_role;
create policy "Members see what platforms say of their workspaces' posts" on social.post_insights
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table social.account_insights (
  account_id uuid not null,
  day date not null,
  workspace_id uuid not null,
  reach bigint,
  views bigint,
  likes bigint,
  comments bigint,
  shares bigint,
  saves bigint,
  interactions bigint,
  followers bigint,
  read_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint account_insights_pkey primary key (account_id, day),
  constraint account_insights_account_fkey foreign key (workspace_id, account_id)
    references integrations.connected_accounts (workspace_id, id) on delete cascade,
  constraint account_insights_not_negative check (reach >= 0 and views >= 0 and likes >= 0 and comments >= 0
    and shares >= 0 and saves >= 0 and interactions >= 0 and followers >= 0)
);
comment on table social.account_insights is
  'What the platform counted of an account on a day (UTC); null: it does not say. followers: as of reading.';
create index account_insights_account on social.account_insights (workspace_id, account_id, day desc);
alter table social.account_insights enable row level security;
revoke all on table social.account_insights from public, anon, authenticated, service_role;
grant select on table social.account_insights to authenticated;
grant select, insert, update, delete on table social.account_insights to service_role;
create policy "Members see what platforms say of their workspaces' accounts" on social.account_insights
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

insert into ops.job_kinds (kind, description, timeout) values
  ('social.insights', 'Reads what the platform counts of an account and its posts of the last 30 days.',
    interval '1 hour');

-- Sweep: has every live account read once in six hours, by a key for each of them. Returns how many jobs were new.
create function social.request_insights() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_period text := to_char(date_bin(interval '6 hours', private.now(), timestamptz '2000-01-01 00:00:00+00')
    at time zone 'UTC', 'YYYY-MM-DD"T"HH24');
  v_account record;
  v_new integer := 0;
begin
  for v_account in
    select a.id, a.workspace_id from integrations.connected_accounts a
    where a.provider = 'instagram' and a.status = 'active' and not exists (
      select from social.account_insights i where i.account_id = a.id
        and i.read_at > private.now() - interval '5 hours')
    order by a.id
  loop
    select v_new + e.created::integer into v_new from ops.enqueue_job('social.insights',
      jsonb_build_object('account_id', v_account.id), v_account.workspace_id,
      key => 'insights:' || v_account.id || ':' || v_period) e;
  end loop;
  return v_new;
end $$;
comment on function social.request_insights() is
  'Sweep: has the platform''s figures of every live account read, once in six hours; returns how many jobs were new.';
revoke all on function social.request_insights from public, anon, authenticated, service_role;
grant execute on function social.request_insights to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('request insights', 'social.request_insights', interval '15 minutes');

-- Which posts are read: those of the last 30 days, the newest 50.
create function social.posts_to_read(account_id uuid)
returns table (post_id uuid, platform_post_id text, media_type text)
language sql stable
set search_path = ''
as $$
  select p.id, p.platform_post_id, p.media_type from social.posts p
  where p.connected_account_id = posts_to_read.account_id and p.deleted_at is null
    and p.posted_at > private.now() - interval '30 days'
  order by p.posted_at desc limit 50
$$;
comment on function social.posts_to_read(uuid) is 'The posts of an account whose figures the platform is asked for.';
revoke all on function social.posts_to_read from public, anon, authenticated, service_role;
grant execute on function social.posts_to_read to service_role;

-- account: {day: {reach, views, ...}}; posts: [{post_id, reach, ...}]. What is null leaves what is known.
create function social.keep_insights(account_id uuid, account jsonb, posts jsonb) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace_id uuid;
  v_kept integer;
begin
  select a.workspace_id into v_workspace_id from integrations.connected_accounts a
  where a.id = keep_insights.account_id;
  insert into social.account_insights as k (account_id, day, workspace_id, reach, views, likes, comments, shares, saves,
    interactions, followers, read_at)
  select keep_insights.account_id, d.key::date, v_workspace_id, f.reach, f.views, f.likes, f.comments, f.shares,
    f.saves, f.interactions, f.followers, private.now()
  from jsonb_each(keep_insights.account) d
  cross join lateral jsonb_populate_record(null::social.account_insights, d.value) f
  where v_workspace_id is not null
  on conflict on constraint account_insights_pkey do update
  set reach = coalesce(excluded.reach, k.reach), views = coalesce(excluded.views, k.views),
    likes = coalesce(excluded.likes, k.likes), comments = coalesce(excluded.comments, k.comments),
    shares = coalesce(excluded.shares, k.shares), saves = coalesce(excluded.saves, k.saves),
    interactions = coalesce(excluded.interactions, k.interactions),
    followers = coalesce(excluded.followers, k.followers), read_at = excluded.read_at;
  insert into social.post_insights as k (post_id, day, workspace_id, account_id, reach, views, likes, comments, shares,
    saves, interactions, read_at)
  select p.id, (private.now() at time zone 'UTC')::date, p.workspace_id, p.connected_account_id, f.reach, f.views,
    f.likes, f.comments, f.shares, f.saves, f.interactions, private.now()
  from jsonb_array_elements(keep_insights.posts) e
  cross join lateral jsonb_populate_record(null::social.post_insights, e) f
  join social.posts p on p.id = f.post_id and p.connected_account_id = keep_insights.account_id
  on conflict on constraint post_insights_pkey do update
  set reach = coalesce(excluded.reach, k.reach), views = coalesce(excluded.views, k.views),
    likes = coalesce(excluded.likes, k.likes), comments = coalesce(excluded.comments, k.comments),
    shares = coalesce(excluded.shares, k.shares), saves = coalesce(excluded.saves, k.saves),
    interactions = coalesce(excluded.interactions, k.interactions), read_at = excluded.read_at;
  get diagnostics v_kept = row_count;
  return v_kept;
end $$;
comment on function social.keep_insights(uuid, jsonb, jsonb) is
  'Keeps what the platform counted of an account by day and of its posts; returns of how many posts.';
revoke all on function social.keep_insights from public, anon, authenticated, service_role;
grant execute on function social.keep_insights to service_role;
