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
  constraint limits_rule_key unique (scope, subject, per),
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

-- total is cumulative, so that the starts in a window are a difference of two rows, however long the window is.
create table ops.starts (
  key bigint not null,
  total bigint not null,
  starts integer not null,
  started_at timestamptz not null,
  constraint starts_pkey primary key (key, total)
) with (autovacuum_vacuum_scale_factor = 0.05);
comment on table ops.starts is 'Starts of jobs whose key has a rate limit: a row for each claim and key.';
comment on column ops.starts.total is 'Starts of the key up to and with this row.';
create index starts_key_started_at on ops.starts (key, started_at);
create index starts_started_at on ops.starts (started_at);
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

-- Starts of a key in the window that ends now.
create function ops._starts_within(key bigint, per interval, now timestamptz) returns bigint
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  return coalesce((select s.total from ops.starts s where s.key = _starts_within.key order by s.total desc limit 1), 0)
    - coalesce(
      (select s.total from ops.starts s where s.key = _starts_within.key and s.started_at <= _starts_within.now - per
        order by s.started_at desc, s.total desc limit 1),
      (select s.total - s.starts from ops.starts s where s.key = _starts_within.key order by s.total limit 1), 0);
end $$;
comment on function ops._starts_within(bigint, interval, timestamptz) is
  'How many jobs of a key have started in the last stretch of time.';
revoke all on function ops._starts_within from public, anon, authenticated, service_role;

-- When a window has room for one more start: when the oldest start that fills it leaves it.
create function ops._window_opens(key bigint, max_starts integer, per interval) returns timestamptz
language sql stable
set search_path = ''
as $$
  select s.started_at + per from ops.starts s
  where s.key = _window_opens.key and max_starts > 0
    and s.total > (select max(l.total) from ops.starts l where l.key = _window_opens.key) - max_starts
  order by s.total limit 1
$$;
comment on function ops._window_opens(bigint, integer, interval) is
  'When a full window lets the next job of its key start; null: never, until the rule changes.';
revoke all on function ops._window_opens from public, anon, authenticated, service_role;

-- A row for each of these jobs and each active rule that concerns it; for a provider or a limit key also where there
-- is no rule, because it may be closed. Jobs that hold their slots already are asked nothing again, unless parked.
create function ops._rules_of(ids bigint[], parked boolean default false)
returns table (job_id bigint, key bigint, name text, max_running integer, max_starts integer, per interval)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  with j as materialized (
    select l.id, l.kind, l.workspace_id, l.provider, l.limit_key
    from ops.live_jobs l
    where l.id = any (_rules_of.ids)
      and (_rules_of.parked or l.id <> all (array(
        select p.job_id from ops.parked_slots p where p.job_id = any (_rules_of.ids))))
  ), named as (
    select j.id, 'workspace:' || j.workspace_id || ':' || j.kind as name, r.max_running, r.max_starts, r.per
    from j join ops.limits r on r.scope = 'workspace' and r.subject = j.kind and r.is_active
    where j.workspace_id is not null
    union all
    select j.id, 'kind:' || j.kind, r.max_running, r.max_starts, r.per
    from j join ops.limits r on r.scope = 'kind' and r.subject = j.kind and r.is_active
    union all
    select j.id, 'provider:' || j.provider, r.max_running, r.max_starts, r.per
    from j left join ops.limits r on r.scope = 'provider' and r.subject = j.provider and r.is_active
    where j.provider is not null
    union all
    select j.id, 'key:' || j.limit_key, r.max_running, r.max_starts, r.per
    from j left join ops.limits r on r.scope = 'key' and r.subject = split_part(j.limit_key, ':', 1) and r.is_active
    where j.limit_key is not null
  )
  select n.id, pg_catalog.hashtextextended(n.name, 0), n.name, n.max_running, n.max_starts, n.per from named n;
end $$;
comment on function ops._rules_of(bigint[], boolean) is
  'The limits that concern these jobs: a row for each job and rule.';
revoke all on function ops._rules_of from public, anon, authenticated, service_role;

-- Of the jobs at the head of the line, those that may start now, in order. The others go to the line of the key that
-- holds them back; places that no longer count are dropped. A key with room left whose line is not empty is opened
-- further, so that no slot stays free because another key held back those whom it was meant for. Called only by the
-- claim, under its lock, so that what is counted here cannot change but by slots coming free. The arrays are parallel.
create function ops._admit(ids bigint[], tickets integer[], lane smallint, queues text[], held_keys bigint[],
  held_tags bigint[], now timestamptz, taken bigint[], out admitted bigint[], out their_tickets integer[],
  out slot_jobs bigint[], out slot_keys bigint[])
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_blocked bigint[];
  v_blocked_keys bigint[];
  v_places bigint[];
  v_rated boolean;
  v_probed text[];
  v_open bigint[];
  v_kinds text[] := array(select r.subject from ops.limits r where r.scope in ('kind', 'workspace') and r.is_active);
  v_limited boolean;
begin
  -- most batches concern no limit at all
  select array_agg(l.id order by l.place), array_agg(l.ticket order by l.place),
    bool_or(j.provider is not null or j.limit_key is not null or j.kind = any (v_kinds))
  into admitted, their_tickets, v_limited
  from unnest(_admit.ids, _admit.tickets) with ordinality as l (id, ticket, place)
  join ops.live_jobs j on j.id = l.id and j.ticket = l.ticket and j.state = 'queued';
  slot_jobs := '{}';
  slot_keys := '{}';
  if v_limited is not true and array_remove(_admit.held_keys, null) = '{}' then
    admitted := coalesce(admitted, '{}');
    their_tickets := coalesce(their_tickets, '{}');
    return;
  end if;
  with line as materialized (
    select l.id, l.ticket, l.place from unnest(_admit.ids, _admit.tickets) with ordinality as l (id, ticket, place)
    join ops.live_jobs j on j.id = l.id and j.ticket = l.ticket and j.state = 'queued'
  ), rules as materialized (
    select r.*, l.place from ops._rules_of(_admit.ids) r join line l on l.id = r.job_id
  ), keys as materialized (
    select r.key, min(r.name) as name, min(r.max_running) as max_running, bool_or(r.max_starts is not null) as rated
    from rules r group by r.key
  ), held as materialized (
    select h.key, count(*)::integer as n
    from (select unnest(c.slot_keys) as key from ops.claims c where c.slot_keys <> '{}'
      union all
      select unnest(_admit.taken)
      union all
      select p.key from ops.parked_slots p where p.key = any (array(select k.key from keys k))) h
    group by h.key
  ), rates as materialized (
    select k.key, min(r.max_starts - ops._starts_within(k.key, r.per, _admit.now)) as free
    from keys k join (select distinct x.key, x.max_starts, x.per from rules x where x.max_starts is not null) r
      on r.key = k.key
    group by k.key
  ), circuits as (
    select k.key, c.name, c.probe_at from keys k join ops.circuit_breakers c on c.name = k.name and c.state <> 'closed'
  ), free as materialized (
    select k.key, k.rated, least(
        k.max_running - coalesce(h.n, 0),
        t.free,
        case when x.closed_until > _admit.now then 0 end,
        case when c.probe_at > _admit.now then 0 when c.probe_at is not null then 1 end) as free, c.name as probe
    from keys k left join held h on h.key = k.key left join rates t on t.key = k.key
    left join ops.limit_keys x on x.key = k.key left join circuits c on c.key = k.key
  ), ranked as (
    select p.job_id, p.key, p.place, f.free, row_number() over (partition by p.key order by p.place) as nth
    from (select distinct r.job_id, r.key, r.place from rules r) p join free f on f.key = p.key
  ), blocked as materialized (
    select distinct on (r.job_id) r.job_id, r.key, r.place from ranked r where r.nth > r.free order by r.job_id, r.key
  ), slots as materialized (
    select r.job_id, r.key, r.place from ranked r where r.job_id not in (select b.job_id from blocked b)
  ), open as (
    select f.key, least(100, coalesce(f.free - u.n, 80) + 20) as n
    from free f cross join lateral (select count(*) as n from slots s where s.key = f.key) u
    where (f.free is null or f.free > u.n)
      and (exists (select from ops.held_back h where h.key = f.key) or f.key in (select b.key from blocked b))
    union all
    -- the line of a key that holds back nobody any more
    select distinct u.key, 100 from unnest(_admit.held_keys) u (key)
    where u.key not in (select k.key from keys k) and exists (select from ops.held_back h where h.key = u.key)
  )
  select (select array_agg(l.id order by l.place) from line l where l.id not in (select b.job_id from blocked b)),
    (select array_agg(l.ticket order by l.place) from line l where l.id not in (select b.job_id from blocked b)),
    (select array_agg(s.job_id order by s.place, s.key) from slots s),
    (select array_agg(s.key order by s.place, s.key) from slots s),
    (select array_agg(b.job_id order by b.place) from blocked b),
    (select array_agg(b.key order by b.place) from blocked b),
    (select array_agg(b.place order by b.place) from blocked b),
    (select bool_or(k.rated) from keys k),
    (select array_agg(distinct f.probe) from free f join slots s on s.key = f.key where f.probe is not null),
    (select array_agg(o.key) from open o cross join generate_series(1, o.n))
  into admitted, their_tickets, slot_jobs, slot_keys, v_blocked, v_blocked_keys, v_places, v_rated, v_probed, v_open;
  admitted := coalesce(admitted, '{}');
  their_tickets := coalesce(their_tickets, '{}');
  slot_jobs := coalesce(slot_jobs, '{}');
  slot_keys := coalesce(slot_keys, '{}');
  if v_rated and slot_keys <> '{}' then
    perform ops._note_starts(admitted, slot_keys, _admit.now);
  end if;
  -- the one call that may try whether a provider is back
  perform ops.enter_circuit(p.name) from unnest(v_probed) p (name) order by p.name;
  if v_blocked is not null then
    perform ops._hold_back(v_blocked, v_blocked_keys, _admit.lane,
      array(select _admit.tickets[u.place::integer] from unnest(v_places) with ordinality u (place, n) order by u.n),
      array(select _admit.queues[u.place::integer] from unnest(v_places) with ordinality u (place, n) order by u.n),
      array(select _admit.held_keys[u.place::integer] from unnest(v_places) with ordinality u (place, n) order by u.n),
      array(select _admit.held_tags[u.place::integer] from unnest(v_places) with ordinality u (place, n) order by u.n));
    perform ops._note_held_back(v_blocked, v_blocked_keys, _admit.now);
  end if;
  if v_open is not null then
    insert into ops.openings (keys) values (v_open);
  end if;
end $$;
comment on function ops._admit is
  'Which of these jobs may start now by all their limits; the others join the line of a key.';
revoke all on function ops._admit from public, anon, authenticated, service_role;

-- Counts starts in the windows of rated keys. A claim that waited for its turn may have an earlier time than the one
-- before it: times of a key never go back.
create function ops._note_starts(ids bigint[], keys bigint[], now timestamptz) returns void
language sql
set search_path = ''
as $$
  insert into ops.starts (key, total, starts, started_at)
  select s.key, coalesce(l.total, 0) + s.n, s.n, greatest(_note_starts.now, l.started_at)
  from (select u.key, count(*)::integer as n from unnest(_note_starts.keys) u (key) group by u.key) s
  left join lateral (
    select t.total, t.started_at from ops.starts t where t.key = s.key order by t.total desc limit 1) l on true
  where s.key in (select r.key from ops._rules_of(_note_starts.ids) r where r.max_starts is not null)
$$;
comment on function ops._note_starts(bigint[], bigint[], timestamptz) is
  'Counts starts of jobs under their rated keys.';
revoke all on function ops._note_starts from public, anon, authenticated, service_role;

-- Puts jobs into the lines of the keys that hold them back. Such a line has a present of its own, the tag at its
-- head, and shares the key between workspaces as the queue shares its capacity: who comes late with little is not
-- behind all who wait. A job that had been let out of the same line goes back to its place. Arrays are parallel.
create function ops._hold_back(ids bigint[], keys bigint[], lane smallint, tickets integer[], queues text[],
  held_keys bigint[], held_tags bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
begin
  with given as materialized (
    select u.id, u.key, u.ticket, u.queue, u.place, case when u.held_key = u.key then u.held_tag end as tag,
      coalesce(j.workspace_id, '00000000-0000-0000-0000-000000000000') as flow
    from unnest(_hold_back.ids, _hold_back.keys, _hold_back.tickets, _hold_back.queues, _hold_back.held_keys,
      _hold_back.held_tags) with ordinality as u (id, key, ticket, queue, held_key, held_tag, place)
    join ops.live_jobs j on j.id = u.id
  ), presents as materialized (
    select k.key, coalesce(least(k.tag,
        (select b.tag from ops.held_back b where b.key = k.key and b.lane = _hold_back.lane
          order by b.key, b.lane, b.tag limit 1)),
      (select max(f.present) from ops.held_flows f where f.key = k.key and f.lane = _hold_back.lane), 0) as present
    from (select g.key, min(g.tag) as tag from given g group by g.key) k
  ), fresh as materialized (
    select g.*, row_number() over (partition by g.key, g.flow order by g.place) as nth,
      ops._cost(g.flow, _hold_back.lane) as cost
    from given g where g.tag is null
  ), moved as (
    insert into ops.held_flows as f (key, lane, flow, present, next_tag)
    select r.key, _hold_back.lane, r.flow, p.present, p.present + sum(r.cost)
    from fresh r join presents p on p.key = r.key group by r.key, r.flow, p.present order by r.key, r.flow
    on conflict on constraint held_flows_pkey do update
    set present = excluded.present,
      next_tag = greatest(f.next_tag, excluded.present) + excluded.next_tag - excluded.present
    returning f.key, f.flow, f.next_tag
  ), counted as (
    select r.key, r.flow, count(*) as n from fresh r group by r.key, r.flow
  )
  insert into ops.held_back (key, lane, tag, job_id, ticket, queue, flow)
  select g.key, _hold_back.lane, g.tag, g.id, g.ticket, g.queue, g.flow from given g where g.tag is not null
  union all
  select r.key, _hold_back.lane, m.next_tag - (c.n - r.nth + 1) * r.cost, r.id, r.ticket, r.queue, r.flow
  from fresh r join moved m on m.key = r.key and m.flow = r.flow join counted c on c.key = r.key and c.flow = r.flow;
end $$;
comment on function ops._hold_back is 'Puts jobs into the lines of the limit keys that hold them back.';
revoke all on function ops._hold_back from public, anon, authenticated, service_role;

-- Names the keys that hold jobs back, and says when time alone opens them.
create function ops._note_held_back(ids bigint[], keys bigint[], now timestamptz) returns void
language plpgsql
set search_path = ''
as $$
begin
  with rules as (
    select distinct r.key, r.name, r.max_starts, r.per
    from ops._rules_of(_note_held_back.ids) r join unnest(_note_held_back.ids, _note_held_back.keys) b (id, key)
      on b.id = r.job_id and b.key = r.key
  ), opening as (
    select r.key, min(r.name) as name, max(greatest(
      case when ops._starts_within(r.key, r.per, _note_held_back.now) >= r.max_starts
        then ops._window_opens(r.key, r.max_starts, r.per) end,
      case when x.closed_until > _note_held_back.now then x.closed_until end,
      case when c.probe_at > _note_held_back.now then c.probe_at end)) as at
    from rules r left join ops.limit_keys x on x.key = r.key
    left join ops.circuit_breakers c on c.name = r.name and c.state <> 'closed'
    group by r.key
  )
  insert into ops.limit_keys as k (key, name, opens_at) select o.key, o.name, o.at from opening o
  on conflict on constraint limit_keys_pkey do update set opens_at = excluded.opens_at
  where k.opens_at is distinct from excluded.opens_at;
end $$;
comment on function ops._note_held_back is 'Notes the keys that jobs wait for, and when time alone opens them.';
revoke all on function ops._note_held_back from public, anon, authenticated, service_role;

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
      + (row_number() over (partition by h.lane, h.flow order by h.tag, h.job_id) - 1) * ops._cost(h.flow, h.lane),
    h.job_id, h.ticket, h.queue, h.key, h.tag
  from heads h;
end $$;
comment on function ops._reopen(timestamptz, bigint[]) is 'Lets held-back jobs of freed keys into the line again.';
revoke all on function ops._reopen from public, anon, authenticated, service_role;

-- The sweep behind _reopen: a key that holds jobs back although it has room is opened, whatever was missed. Also
-- how a changed rule is noticed.
create function ops.reopen_limit_keys() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_keys bigint[];
begin
  with recursive lines as (
    (select b.key from ops.held_back b order by b.key limit 1)
    union all
    select (select b.key from ops.held_back b where b.key > l.key order by b.key limit 1) from lines l
    where l.key is not null
  )
  select array_agg(l.key) into v_keys
  from lines l join ops.limit_keys k on k.key = l.key
  cross join generate_series(1, 10)
  where k.opens_at is null;
  if v_keys is not null then
    insert into ops.openings (keys) values (v_keys);
  end if;
  return coalesce(cardinality(v_keys), 0) / 10;
end $$;
comment on function ops.reopen_limit_keys() is
  'Sweep: has the lines of all limit keys looked at again; returns how many there are.';
revoke all on function ops.reopen_limit_keys from public, anon, authenticated, service_role;
grant execute on function ops.reopen_limit_keys to service_role;

-- Counts under every rule what is at work already, for a rule that was not there when it began. Takes the claim's lock
-- until the rule is committed. What is ending or beating at this moment is passed over: whoever holds it may be
-- waiting for the lock.
create function ops._count_slots_anew() returns void
language plpgsql
set search_path = ''
as $$
declare
  v_claims bigint[];
begin
  perform pg_catalog.pg_advisory_xact_lock(7203850871);
  v_claims := array(select c.id from ops.claims c where c.worker <> '' for update skip locked);
  update ops.claims c set slot_jobs = c.slot_jobs || a.jobs, slot_keys = c.slot_keys || a.keys
  from (
    select o.id, array_agg(r.job_id) as jobs, array_agg(r.key) as keys
    from ops.claims o cross join lateral (
      select x.job_id, x.key from ops._rules_of(o.job_ids, true) x
      except select u.job_id, u.key from unnest(o.slot_jobs, o.slot_keys) u (job_id, key)) r
    where o.id = any (v_claims) group by o.id
  ) a where c.id = a.id;
  insert into ops.parked_slots (key, job_id)
  select distinct r.key, r.job_id from ops._rules_of(
    array(select j.id from ops.live_jobs j where j.wait_key is not null and j.state = 'waiting' and j.callback is null
      for update skip locked), true) r
  on conflict do nothing;
end $$;
comment on function ops._count_slots_anew() is 'Counts jobs at work under rules that came after they began.';
revoke all on function ops._count_slots_anew from public, anon, authenticated, service_role;

-- A changed rule counts at once. With its owner's rights, because operators change rules as the service, which only
-- reads limit keys.
create function ops.limits_changed() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform ops._count_slots_anew();
  perform ops.reopen_limit_keys();
  update ops.limit_keys k set opens_at = private.now() where k.opens_at is not null and k.closed_until is null;
  return null;
end $$;
comment on function ops.limits_changed() is 'Trigger: jobs that a rule held back are looked at again.';
revoke all on function ops.limits_changed from public, anon, authenticated, service_role;
create trigger limits_changed after insert or update or delete on ops.limits
  for each statement execute function ops.limits_changed();

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

create function ops.prune_starts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_longest interval := coalesce((select max(l.per) from ops.limits l), interval '0');
  v_pruned integer;
begin
  delete from ops.starts s using (
    select o.key, o.total from ops.starts o where o.started_at < private.now() - v_longest order by o.started_at
      limit 5000
  ) old
  where s.key = old.key and s.total = old.total
    -- the last row says how far its key has counted
    and exists (select from ops.starts l where l.key = s.key and l.total > s.total);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_starts() is 'Sweep: deletes starts that have left every window; returns how many.';
revoke all on function ops.prune_starts from public, anon, authenticated, service_role;
grant execute on function ops.prune_starts to service_role;

-- Presets of the providers. Sources: Meta, Instagram Platform, rate limiting (200 messages an hour an account; the
-- day's bound is Backlot's own); fal, concurrency limits (2 for a new account, raised on request, so an operator's
-- row); Shopify, API limits (a shop's leaky bucket: at most 2 jobs a shop at once keep below it).
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('key', 'instagram', null, 200, interval '1 hour', 'Messages an Instagram account may send in an hour.'),
  ('key', 'instagram', null, 1000, interval '1 day', 'Messages an Instagram account may send in a day.'),
  ('provider', 'fal', 40, null, null, 'Requests at fal at the same time; set it to what the account allows.'),
  ('key', 'shopify', 2, null, null, 'Jobs at work on one shop at the same time.');
