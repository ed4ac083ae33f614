-- Limits: how many jobs may be at work at once, and how many may start in a time, by kind, by workspace and kind, by
-- provider, and by a free key. Rules are rows that an operator may change at any time. They are applied where
-- claims are made, which happens one claim at a time, so that no limit is ever exceeded; a job that may not start
-- leaves the line of ready jobs for the line of its key, so that a claim never reads past what it cannot take.

create table ops.limits (
  id bigint generated always as identity primary key,
  scope text not null,
  subject text not null,
  max_running integer,
  max_starts integer,
  per interval,
  description text not null,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint limits_rule_key unique nulls not distinct (scope, subject, per),
  constraint limits_scope_known check (scope in ('kind', 'workspace', 'provider', 'key')),
  constraint limits_one_rule check ((max_running is null) <> (max_starts is null)),
  constraint limits_window_whole check ((max_starts is null) = (per is null)),
  constraint limits_amounts_in_range check (max_running >= 0 and max_starts >= 0
    and per between interval '1 second' and interval '31 days')
);
comment on table ops.limits is 'Rules of how many jobs may be at work or start, changed by operators at run time.';
comment on column ops.limits.scope is
  'kind: all jobs of a kind; workspace: a workspace''s jobs of a kind, each workspace by itself; provider: all jobs '
  'that depend on a provider; key: the jobs of a limit key, each key with this prefix by itself.';
comment on column ops.limits.subject is
  'The kind, the provider, or what stands before the colon of the limit key.';
comment on column ops.limits.max_running is 'At work, or waiting for a provider''s answer, at the same time.';
comment on column ops.limits.max_starts is 'Starts in any stretch of time as long as per: a sliding window.';
create trigger limits_touch before update on ops.limits for each row execute function private.touch_updated_at();
alter table ops.limits enable row level security;
revoke all on table ops.limits from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.limits to service_role;

-- Keys are known by a 64-bit hash of their name.
create table ops.limit_keys (
  key bigint primary key,
  name text not null,
  closed_until timestamptz,
  reason text,
  opens_at timestamptz,
  created_at timestamptz not null default now()
);
comment on table ops.limit_keys is 'Keys that held a job back or were closed, by name, and when they open again.';
comment on column ops.limit_keys.closed_until is 'No job of the key starts before: a provider asked to wait.';
comment on column ops.limit_keys.opens_at is
  'When jobs that are held back are to be looked at again; null: when a slot frees.';
create index limit_keys_opens_at on ops.limit_keys (opens_at) where opens_at is not null;
alter table ops.limit_keys enable row level security;
revoke all on table ops.limit_keys from public, anon, authenticated, service_role;
grant select on table ops.limit_keys to service_role;

create table ops.held_back (
  key bigint not null,
  lane smallint not null,
  tag bigint not null,
  job_id bigint not null,
  ticket integer not null,
  queue text not null,
  flow uuid not null,
  constraint held_back_pkey primary key (key, lane, tag, job_id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.held_back is
  'Jobs in the line of a limit key: fair between workspaces, by tags of the key''s own.';
alter table ops.held_back enable row level security;
revoke all on table ops.held_back from public, anon, authenticated, service_role;
grant select on table ops.held_back to service_role;

create table ops.held_flows (
  key bigint not null,
  lane smallint not null,
  flow uuid not null,
  present bigint not null,
  next_tag bigint not null,
  constraint held_flows_pkey primary key (key, lane, flow)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.held_flows is 'Where each workspace stands in the line of a limit key.';
comment on column ops.held_flows.present is 'Tag at the head of the line when a job of the workspace joined it last.';
alter table ops.held_flows enable row level security;
revoke all on table ops.held_flows from public, anon, authenticated, service_role;
grant select on table ops.held_flows to service_role;

create table ops.parked_slots (
  key bigint not null,
  job_id bigint not null,
  constraint parked_slots_pkey primary key (key, job_id)
);
comment on table ops.parked_slots is
  'Slots held by jobs that wait for a provider''s answer: nobody works on them, the provider does.';
create index parked_slots_job_id on ops.parked_slots (job_id);
alter table ops.parked_slots enable row level security;
revoke all on table ops.parked_slots from public, anon, authenticated, service_role;
grant select on table ops.parked_slots to service_role;

-- Each release is one row for all its keys; the next claim takes it away and lets as many jobs of each key back
-- into the line. No index: the table is empty most of the time.
create table ops.openings (
  keys bigint[] not null
) with (autovacuum_vacuum_cost_delay = 0);
comment on table ops.openings is 'Slots that have come free since the last claim: a key as often as it was released.';
alter table ops.openings enable row level security;
revoke all on table ops.openings from public, anon, authenticated, service_role;
grant select on table ops.openings to service_role;

-- total is cumulative, so that the starts in a window are a difference of two rows, however long the window is. Times
-- of a key never go back, so one index gives its newest row and the first of a window.
create table ops.starts (
  key bigint not null,
  started_at timestamptz not null,
  total bigint not null,
  starts integer not null,
  constraint starts_pkey primary key (key, started_at, total)
) with (autovacuum_vacuum_scale_factor = 0.05);
comment on table ops.starts is 'Starts of jobs whose key has a rate limit: a row for each claim and key.';
comment on column ops.starts.total is 'Starts of the key up to and with this row.';
-- rows come in the order of their time, and only the sweep reads by that alone
create index starts_started_at on ops.starts using brin (started_at) with (pages_per_range = 16);
alter table ops.starts enable row level security;
revoke all on table ops.starts from public, anon, authenticated, service_role;
grant select on table ops.starts to service_role;

create function ops._limit_key(name text) returns bigint
language sql immutable
set search_path = ''
as $$ select pg_catalog.hashtextextended(name, 0) $$;
comment on function ops._limit_key(text) is 'The key of a limit''s name, such as provider:fal or key:instagram:178.';
revoke all on function ops._limit_key from public, anon, authenticated, service_role;
grant execute on function ops._limit_key to service_role;

-- When a full window lets the next job of its key start: when as many of the oldest starts have left it as makes room
-- for one. Null: it is not full, or never lets one start (a rule of 0).
create function ops._window_opens(key bigint, max_starts integer, per interval, now timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_total bigint := (select s.total from ops.starts s where s.key = _window_opens.key
    order by s.started_at desc, s.total desc limit 1);
  v_before bigint := (select s.total - s.starts from ops.starts s
    where s.key = _window_opens.key and s.started_at > _window_opens.now - per order by s.started_at, s.total limit 1);
begin
  return (
    select s.started_at + per from ops.starts s
    where s.key = _window_opens.key and s.started_at > _window_opens.now - per
      and v_total - v_before >= max_starts and s.total > v_total - max_starts
    order by s.started_at, s.total limit 1);
end $$;
comment on function ops._window_opens(bigint, integer, interval, timestamptz) is
  'When a full window lets the next job of its key start; null: at once, or never, until the rule changes.';
revoke all on function ops._window_opens from public, anon, authenticated, service_role;

-- Lets jobs that were held back into the line again: for each key as many as slots came free, and a hundred of each
-- key that time has opened. Whether they may start is seen when they are claimed. Called under the claim's lock.
create function ops._reopen(now timestamptz, times bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_keys bigint[];
begin
  if exists (select from ops.openings) then
    with gone as (delete from ops.openings o returning o.keys)
    select array_agg(u.key) into v_keys from gone g cross join unnest(g.keys) u (key);
    perform ops._shrink('ops.openings');
  end if;
  if exists (select from ops.limit_keys k where k.opens_at <= _reopen.now) then
    with due as (
      update ops.limit_keys k set opens_at = null, closed_until = case when k.closed_until > _reopen.now
        then k.closed_until end where k.opens_at <= _reopen.now returning k.key
    )
    select coalesce(v_keys, '{}') || array_agg(d.key) into v_keys from due d cross join generate_series(1, 100);
  end if;
  if v_keys is null or not exists (select from ops.held_back) then
    return;
  end if;
  with freed as materialized (
    select u.key, count(*) as n from unnest(v_keys) u (key) group by u.key
  ), heads as materialized (
    select h.* from freed f cross join lateral (
      select b.ctid as place, b.* from ops.held_back b where b.key = f.key order by b.lane, b.tag, b.job_id limit f.n
    ) h
  ), moved as (
    delete from ops.held_back b where b.ctid = any (array(select h.place from heads h))
  )
  -- their place in line was paid for: they stand at the front, each workspace's at its pace
  insert into ops.ready (lane, tag, job_id, ticket, queue, held_key, held_tag)
  select h.lane, _reopen.times[h.lane + 1]
      + (row_number() over (partition by h.lane, h.flow order by h.tag, h.job_id) - 1) * ops._cost(h.flow),
    h.job_id, h.ticket, h.queue, h.key, h.tag
  from heads h;
end $$;
comment on function ops._reopen(timestamptz, bigint[]) is 'Lets held-back jobs of freed keys into the line again.';
revoke all on function ops._reopen from public, anon, authenticated, service_role;

-- Keys that hold jobs back and that time alone does not open, from one on, among so many; null: from the lowest, all.
create function ops._held_keys(first bigint, most integer) returns bigint[]
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
begin
  return (
    with recursive lines as (
      (select b.key from ops.held_back b where b.key >= coalesce(first, '-9223372036854775808') order by b.key limit 1)
      union all
      select (select b.key from ops.held_back b where b.key > l.key order by b.key limit 1) from lines l
      where l.key is not null
    ), seen as materialized (
      select l.key from lines l limit most
    )
    select coalesce(array_agg(k.key), '{}') from seen s join ops.limit_keys k on k.key = s.key
    where k.opens_at is null);
end $$;
comment on function ops._held_keys(bigint, integer) is 'Limit keys that hold jobs back, from one on.';
revoke all on function ops._held_keys from public, anon, authenticated, service_role;

-- The sweep behind _reopen: lines are looked at again, whatever was missed. A hundred of them, from a random one on,
-- and one job of each, because what may not start yet costs the next claim as much as what may; where there is room
-- left, the claim opens the line further.
create function ops.reopen_limit_keys() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_keys bigint[] := ops._held_keys(((random() - 0.5) * 18446744073709550000)::bigint, 100);
begin
  v_keys := array(
    select u.key from unnest(v_keys || ops._held_keys(null, 100 - cardinality(v_keys))) u (key)
    group by u.key);
  if v_keys <> '{}' then
    insert into ops.openings (keys) values (v_keys);
  end if;
  return cardinality(v_keys);
end $$;
comment on function ops.reopen_limit_keys() is
  'Sweep: has the lines of up to 100 limit keys looked at again; returns of how many.';
revoke all on function ops.reopen_limit_keys from public, anon, authenticated, service_role;
grant execute on function ops.reopen_limit_keys to service_role;

-- Closes a key for every worker at once, because its provider asked to wait (429 with Retry-After). name is
-- provider:<provider> or key:<limit key>. A longer closing stands.
create function ops.close_limit_key(name text, seconds double precision, reason text default null) returns timestamptz
language sql security definer
set search_path = ''
as $$
  insert into ops.limit_keys as k (key, name, closed_until, opens_at, reason)
  select ops._limit_key(close_limit_key.name), close_limit_key.name, t.until, t.until, left(close_limit_key.reason, 500)
  from (select private.now() + make_interval(secs => greatest(0, least(seconds, 86400 * 31))) as until) t
  on conflict on constraint limit_keys_pkey do update
  set closed_until = greatest(k.closed_until, excluded.closed_until),
    opens_at = greatest(k.opens_at, excluded.opens_at), reason = excluded.reason
  returning closed_until
$$;
comment on function ops.close_limit_key(text, double precision, text) is
  'Lets no job of a provider or limit key start for so many seconds; returns until when.';
revoke all on function ops.close_limit_key from public, anon, authenticated, service_role;
grant execute on function ops.close_limit_key to service_role;

-- Opens a key before its time, because an operator knows that its provider is back. Returns whether it was closed.
create function ops.open_limit_key(name text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  update ops.limit_keys k set closed_until = null, reason = null, opens_at = private.now()
  where k.key = ops._limit_key(open_limit_key.name) and k.closed_until > private.now();
  return found;
end $$;
comment on function ops.open_limit_key(text) is
  'Lets jobs of a closed provider or limit key start again; returns whether it was closed.';
revoke all on function ops.open_limit_key from public, anon, authenticated, service_role;
grant execute on function ops.open_limit_key to service_role;

create function ops.prune_starts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_longest interval := coalesce((select max(l.per) from ops.limits l), interval '0');
  v_pruned integer;
begin
  delete from ops.starts s where s.ctid = any (array(
    select o.ctid from ops.starts o
    where o.started_at < private.now() - v_longest
      -- the last row says how far its key has counted
      and exists (select from ops.starts l
        where l.key = o.key and (l.started_at, l.total) > (o.started_at, o.total))
    limit 5000));
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_starts() is 'Sweep: deletes starts that have left every window; returns how many.';
revoke all on function ops.prune_starts from public, anon, authenticated, service_role;
grant execute on function ops.prune_starts to service_role;
