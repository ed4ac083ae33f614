-- Which of the jobs at the head of the line may start now by all limits. A job that may not leaves the line of ready
-- jobs for the line of the key that holds it back. All of this is called by claims only, under their lock, so that
-- what is counted here cannot change but by slots coming free. Sequential scans are off where the tables are empty
-- most of the time: a plan that was made then lasts.

create type ops.limit_pair as (place integer, key bigint);
comment on type ops.limit_pair is 'A job, by its place in a batch, and a key that concerns it.';
create type ops.limit_demand as (
  key bigint, wanted integer, free integer, is_rated boolean, total bigint, started_at timestamptz, probe text
);
comment on type ops.limit_demand is
  'What a batch wants of a key: jobs wanted and free (null: any number), its newest start, the circuit it probes.';

-- A row for each of these jobs and each key whose rules concern it, with the rules; for a provider or a limit key also
-- where there is no rule, because it may be closed. place is the job's in the array; max_starts and per are parallel.
create function ops._rules_of(jobs ops.live_jobs[]) returns table (place integer, job_id bigint, key bigint, name text,
  max_running integer, max_starts integer[], per interval[])
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  with j as materialized (
    select u.ordinality::integer as place, u.id, u.kind, u.workspace_id, u.provider, u.limit_key
    from unnest(_rules_of.jobs) with ordinality u
  ), rules as materialized (
    select l.scope, l.subject, max(l.max_running) as max_running,
      array_agg(l.max_starts) filter (where l.max_starts is not null) as max_starts,
      array_agg(l.per) filter (where l.max_starts is not null) as per
    from ops.limits l where l.is_active group by l.scope, l.subject
  ), named as (
    select j.place, j.id, 'workspace:' || j.workspace_id || ':' || j.kind as name, r.max_running, r.max_starts, r.per
    from j join rules r on r.scope = 'workspace' and r.subject = j.kind
    where j.workspace_id is not null
    union all
    select j.place, j.id, 'kind:' || j.kind, r.max_running, r.max_starts, r.per
    from j join rules r on r.scope = 'kind' and r.subject = j.kind
    union all
    select j.place, j.id, 'provider:' || j.provider, r.max_running, r.max_starts, r.per
    from j left join rules r on r.scope = 'provider' and r.subject = j.provider
    where j.provider is not null
    union all
    select j.place, j.id, 'key:' || j.limit_key, r.max_running, r.max_starts, r.per
    from j left join rules r on r.scope = 'key' and r.subject = split_part(j.limit_key, ':', 1)
    where j.limit_key is not null
  )
  select n.place, n.id, pg_catalog.hashtextextended(n.name, 0), n.name, n.max_running, n.max_starts, n.per
  from named n;
end $$;
comment on function ops._rules_of(ops.live_jobs[]) is
  'The limits that concern these jobs: a row for each job and key.';
revoke all on function ops._rules_of from public, anon, authenticated, service_role;

-- blocked: the places of those jobs that may not start; null: none. slot_jobs and slot_keys are pairs: the jobs that
-- start and the keys whose running jobs are counted. held_keys and held_tags tell where a job stood that had been held
-- back before. taken: the keys of the slots that this claim has taken already.
create function ops._admit(jobs ops.live_jobs[], lane smallint, held_keys bigint[], held_tags bigint[],
  now timestamptz, taken bigint[], out blocked integer[], out slot_jobs bigint[], out slot_keys bigint[])
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  -- these are rare, and where there are none nobody asks each key for them
  v_any_closed boolean := exists (select from ops.limit_keys k where k.closed_until > _admit.now);
  v_any_trouble boolean := exists (select from ops.circuit_breakers c where c.state <> 'closed');
  v_any_held boolean := exists (select from ops.held_back);
  v_pairs ops.limit_pair[];
  v_demands ops.limit_demand[];
  v_is_tight boolean;
  v_is_probed boolean;
  v_blocked_keys bigint[];
begin
  -- by the statement that counts, because a job may go from its claim to a parked slot at any moment
  with parked as materialized (
    select exists (select from ops.parked_slots) as is_any
  ), pairs as materialized (
    select p.* from ops._rules_of(_admit.jobs) p
    -- a job that holds its slots is asked nothing again
    where not ((select is_any from parked) and exists (select from ops.parked_slots s where s.job_id = p.job_id))
  ), keys as materialized (
    select p.key, min(p.name) as name, min(p.max_running) as max_running, min(p.max_starts) as max_starts,
      min(p.per) as per, count(*)::integer as wanted
    from pairs p group by p.key
  ), held as (
    select h.key, count(*)::integer as n
    from (select unnest(c.slot_keys) as key from ops.claims c
        where c.id >= (select f.last_value from ops.claims_front f)
      union all
      select unnest(_admit.taken)) h
    group by h.key
  ), demands as materialized (
    select k.key, k.wanted, k.max_running is not null or c.name is not null as has_slots,
      k.max_starts is not null as is_rated, l.total, l.started_at, c.name as probe,
      least(
        k.max_running - coalesce(h.n, 0)
          - case when (select is_any from parked)
            then (select count(*) from ops.parked_slots s where s.key = k.key) else 0 end,
        (select min(w.max_starts - case
            -- so few have ever started that when does not matter
            when l.total + k.wanted <= w.max_starts then l.total
            else coalesce(l.total - (select f.total - f.starts from ops.starts f
              where f.key = k.key and f.started_at > _admit.now - w.per order by f.started_at, f.total limit 1), 0) end)
          from unnest(k.max_starts, k.per) as w (max_starts, per)),
        case when v_any_closed then (
          select 0 from ops.limit_keys x where x.key = k.key and x.closed_until > _admit.now) end,
        case when c.probe_at > _admit.now then 0 when c.probe_at is not null then 1 end)::integer as free
    from keys k left join held h on h.key = k.key
    left join lateral (
      select s.total, s.started_at from ops.starts s where k.max_starts is not null and s.key = k.key
      order by s.started_at desc, s.total desc limit 1) l on true
    left join lateral (
      select c.name, c.probe_at from ops.circuit_breakers c
      where v_any_trouble and c.name = k.name and c.state <> 'closed') c on true
  ), verdict as materialized (
    select coalesce(bool_or(d.wanted > d.free), false) as is_tight, bool_or(d.probe is not null) as is_probed
    from demands d
  ), noted as (
    -- a claim that waited for its turn may have an earlier time than the one before it
    insert into ops.starts (key, started_at, total, starts)
    select d.key, greatest(_admit.now, d.started_at), coalesce(d.total, 0) + d.wanted, d.wanted
    from demands d cross join verdict v where d.is_rated and not v.is_tight
  )
  select v.is_tight, v.is_probed, s.jobs, s.keys,
    case when v.is_tight or v_any_held or v.is_probed then
      (select array_agg(row (p.place, p.key)::ops.limit_pair) from pairs p) end,
    case when v.is_tight or v_any_held or v.is_probed then (
      select array_agg(row (d.key, d.wanted, d.free, d.is_rated, d.total, d.started_at, d.probe)::ops.limit_demand)
      from demands d) end
  into v_is_tight, v_is_probed, slot_jobs, slot_keys, v_pairs, v_demands
  from verdict v cross join (
    select coalesce(array_agg(p.job_id), '{}') as jobs, coalesce(array_agg(p.key), '{}') as keys
    from pairs p join demands d on d.key = p.key and d.has_slots) s;
  if v_is_tight then
    select array_agg(b.place order by b.place), array_agg(b.key order by b.place) into blocked, v_blocked_keys
    from (
      select distinct on (n.place) n.place, n.key
      from (select p.place, p.key, d.free, row_number() over (partition by p.key order by p.place) as nth
        from unnest(v_pairs) p join unnest(v_demands) d on d.key = p.key and d.wanted > d.free) n
      where n.nth > n.free order by n.place, n.key) b;
    select coalesce(array_agg(s.job_id), '{}'), coalesce(array_agg(s.key), '{}') into slot_jobs, slot_keys
    from unnest(slot_jobs, slot_keys) as s (job_id, key)
    where s.job_id <> all (array(select (_admit.jobs[b.place]).id from unnest(blocked) b (place)));
    insert into ops.starts (key, started_at, total, starts)
    select d.key, greatest(_admit.now, d.started_at), coalesce(d.total, 0) + u.n, u.n
    from unnest(v_demands) d join (
      select p.key, count(*)::integer as n from unnest(v_pairs) p
      where blocked is null or p.place <> all (blocked) group by p.key) u on u.key = d.key
    where d.is_rated;
    perform ops._hold_back(_admit.jobs, blocked, v_blocked_keys, _admit.lane, _admit.held_keys, _admit.held_tags,
      _admit.now, case when v_is_probed then array(
        select d.key from unnest(v_demands) d where d.probe is not null and d.key = any (slot_keys)) end);
  end if;
  if v_is_probed then
    -- the one call that may try whether a provider is back
    perform ops.enter_circuit(d.probe) from unnest(v_demands) d
    where d.probe is not null and d.key = any (slot_keys) order by d.probe;
  end if;
  if v_any_held or blocked is not null then
    perform ops._open_further(v_pairs, v_demands, blocked, v_blocked_keys, _admit.held_keys);
  end if;
end $$;
comment on function ops._admit is
  'Which of these jobs may not start now, by all their limits; they join the line of a key.';
revoke all on function ops._admit from public, anon, authenticated, service_role;

-- A key with room left whose line is not empty is opened further, so that no slot stays free because another key held
-- back those whom it was meant for.
create function ops._open_further(pairs ops.limit_pair[], demands ops.limit_demand[], blocked integer[],
  blocked_keys bigint[], held_keys bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  insert into ops.openings (keys)
  select array_agg(o.key)
  from (
    select d.key, least(100, coalesce(d.free - u.n, 80) + 20) as n
    from unnest(_open_further.demands) d join (
      select p.key, count(*) filter (where blocked is null or p.place <> all (blocked)) as n
      from unnest(_open_further.pairs) p group by p.key) u on u.key = d.key
    where (d.free is null or d.free > u.n)
      and (d.key = any (blocked_keys) or exists (select from ops.held_back h where h.key = d.key))
    union all
    -- the line of a key that holds back nobody any more
    select distinct h.key, 100 from unnest(held_keys) h (key)
    where h.key <> all (array(select d.key from unnest(_open_further.demands) d))
      and exists (select from ops.held_back b where b.key = h.key)
  ) o cross join generate_series(1, o.n)
  having count(*) > 0;
end $$;
comment on function ops._open_further is 'Opens keys that have room left for more of the jobs in their lines.';
revoke all on function ops._open_further from public, anon, authenticated, service_role;

-- Puts jobs (those at these places) into the lines of the keys that hold them back, and notes when time alone opens
-- these. Such a line has a present of its own, the tag at its head, and shares the key between workspaces as the queue
-- shares its capacity: who comes late with little is not behind all who wait. A job that had been let out of the same
-- line goes back to its place. places and keys are parallel.
create function ops._hold_back(jobs ops.live_jobs[], places integer[], keys bigint[], lane smallint,
  held_keys bigint[], held_tags bigint[], now timestamptz, probed bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  with given as materialized (
    select j.id, u.key, j.ticket, j.queue, u.place,
      case when _hold_back.held_keys[u.place] = u.key then _hold_back.held_tags[u.place] end as tag,
      ops._flow_of(j.workspace_id) as flow
    from unnest(_hold_back.places, _hold_back.keys) as u (place, key)
    join unnest(_hold_back.jobs) with ordinality j on j.ordinality = u.place
  ), presents as materialized (
    select k.key, coalesce(least(k.tag,
        (select b.tag from ops.held_back b where b.key = k.key and b.lane = _hold_back.lane
          order by b.key, b.lane, b.tag limit 1)),
      (select max(f.present) from ops.held_flows f where f.key = k.key and f.lane = _hold_back.lane), 0) as present
    from (select g.key, min(g.tag) as tag from given g group by g.key) k
  ), fresh as materialized (
    select g.*, row_number() over (partition by g.key, g.flow order by g.place) as nth,
      ops._cost(g.flow) as cost
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
  perform ops._note_held_back(array(select _hold_back.jobs[u.place] from unnest(_hold_back.places) u (place)),
    _hold_back.keys, _hold_back.now, _hold_back.probed);
end $$;
comment on function ops._hold_back is 'Puts jobs into the lines of the limit keys that hold them back.';
revoke all on function ops._hold_back from public, anon, authenticated, service_role;

-- Names the keys that hold jobs back, and says when time alone opens them. jobs and keys are parallel. probed: keys
-- whose circuit this claim tries; another may when that call counts as lost.
create function ops._note_held_back(jobs ops.live_jobs[], keys bigint[], now timestamptz, probed bigint[]) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  with rules as materialized (
    select distinct on (r.key) r.key, r.name, r.max_starts, r.per
    from ops._rules_of(_note_held_back.jobs) r where r.key = _note_held_back.keys[r.place] order by r.key
  ), opening as (
    select r.key, r.name, greatest(
      (select max(ops._window_opens(r.key, w.max_starts, w.per, _note_held_back.now))
        from unnest(r.max_starts, r.per) as w (max_starts, per)),
      (select x.closed_until from ops.limit_keys x where x.key = r.key and x.closed_until > _note_held_back.now),
      (select case when c.probe_at > _note_held_back.now then c.probe_at
          when r.key = any (_note_held_back.probed) then _note_held_back.now + c.cool_down end
        from ops.circuit_breakers c where c.name = r.name and c.state <> 'closed')) as at
    from rules r
  )
  insert into ops.limit_keys as k (key, name, opens_at) select o.key, o.name, o.at from opening o
  on conflict on constraint limit_keys_pkey do update set opens_at = excluded.opens_at
  where k.opens_at is distinct from excluded.opens_at;
end $$;
comment on function ops._note_held_back is 'Notes the keys that jobs wait for, and when time alone opens them.';
revoke all on function ops._note_held_back from public, anon, authenticated, service_role;
