-- How workers take work: a claim takes jobs from the line, asks the limits, and is one row for all of them.

-- Makes jobs ready whose time has come.
create function ops._promote_due_jobs(most integer) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_ids bigint[] := array(
    select d.id from ops.live_jobs d where d.state in ('scheduled', 'waiting') and d.run_at <= private.now()
    order by d.run_at limit most for update skip locked);
begin
  if v_ids <> '{}' then
    perform ops._make_ready(v_ids);
  end if;
  return cardinality(v_ids);
end $$;
comment on function ops._promote_due_jobs(integer) is 'Makes due jobs ready, at most so many; returns how many.';
revoke all on function ops._promote_due_jobs from public, anon, authenticated, service_role;

create type ops.claimed_job as (
  id bigint, claim_id bigint, kind text, queue text, workspace_id uuid, priority smallint, payload jsonb,
  attempt integer, failed_attempts integer, max_attempts integer, checkpoint jsonb, callback jsonb, wait_key text,
  parent_id bigint, pending_children integer, failed_children integer, correlation_id uuid, created_at timestamptz
);
comment on type ops.claimed_job is
  'A job as its worker gets it; claim_id and attempt fence what the worker says of it.';

create type ops.claim as (claim_id bigint, jobs ops.live_jobs[]);
comment on type ops.claim is 'What a claim took: the jobs'' rows, in order.';

-- The first places in line of these queues, by an index of their own: what others have in front of them is not read.
-- The default queue is in no such index, because every job would pay for it; by its name the line itself is read.
create function ops._places_of_queues(queues text[], lane smallint, front bigint, most integer) returns tid[]
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  if 'default' = any (queues) then
    return array(
      select q.ctid from ops.ready q
      where q.lane = _places_of_queues.lane and q.tag >= front and q.queue = any (queues)
      order by q.lane, q.tag, q.job_id limit most);
  end if;
  return array(
    select f.place from (select distinct u.name from unnest(queues) u (name)) n
    cross join lateral (
      select q.ctid as place, q.tag, q.job_id from ops.ready q
      where q.queue <> 'default' and q.queue = n.name and q.lane = _places_of_queues.lane and q.tag >= front
      order by q.queue, q.lane, q.tag, q.job_id limit most) f
    order by f.tag, f.job_id limit most);
end $$;
comment on function ops._places_of_queues is 'The first places in a lane of the jobs of some queues.';
revoke all on function ops._places_of_queues from public, anon, authenticated, service_role;

-- Takes the next jobs from the line for a worker and leases them. One claim at a time: what arrives, what comes free
-- and what limits allow is decided under one lock, and whoever holds it waits for nobody. As many statements whatever
-- is in line; each place in the line is passed once. A place that no longer counts (the job is cancelled, paused, out
-- of time or in line again) is dropped; a job whose row somebody holds at this moment goes back into line.
create function ops._claim(worker text, queues text[], most integer, lease interval) returns ops.claim
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_now timestamptz := private.now();
  v_times bigint[];
  v_fronts bigint[];
  v_is_limited boolean;
  v_kinds text[];
  v_want integer;
  v_taken record;
  v_admitted record;
  v_claim ops.claim := row (null, '{}');
  v_slot_jobs bigint[] := '{}';
  v_slot_keys bigint[] := '{}';
begin
  perform pg_catalog.pg_advisory_xact_lock(ops._claim_lock());
  v_times := ops._lane_times();
  v_is_limited := exists (select from ops.limits l where l.is_active) or exists (select from ops.limit_keys);
  if v_is_limited then
    v_kinds := array(select l.subject from ops.limits l where l.scope in ('kind', 'workspace') and l.is_active);
    perform ops._reopen(v_now, v_times);
  end if;
  perform ops._absorb(v_times);
  v_fronts := array[(select s.last_value from ops.lane_0_front s), (select s.last_value from ops.lane_1_front s),
    (select s.last_value from ops.lane_2_front s)];
  for v_lane in 0..2 loop
    -- the normal lane is seldom empty, and then its claim tells
    if v_lane <> 1 then
      perform from ops.ready q where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1] order by q.lane, q.tag limit 1;
      continue when not found;
    end if;
    -- a second round only when limits have left the batch short
    for v_round in 1..20 loop
      v_want := most - cardinality(v_claim.jobs);
      with taken as (
        delete from ops.ready r where r.ctid = any (case when _claim.queues is null then array(
            select q.ctid from ops.ready q where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1]
            order by q.lane, q.tag, q.job_id limit v_want)
          else ops._places_of_queues(_claim.queues, v_lane::smallint, v_fronts[v_lane + 1], v_want) end)
        returning r.tag, r.job_id, r.ticket, r.held_key, r.held_tag
      )
      -- the jobs' rows are locked, so that whoever ends or pauses one either is before this claim or sees it
      select count(*) as places, min(t.tag) as first, max(t.tag) as last,
        coalesce(array_agg(t.job) filter (where t.id is not null), '{}') as jobs,
        array_agg(t.held_key) filter (where t.id is not null) as held_keys,
        array_agg(t.held_tag) filter (where t.id is not null) as held_tags,
        array_agg(t.job_id) filter (where t.id is null) as missed,
        array_agg(t.ticket) filter (where t.id is null) as missed_tickets,
        array_agg(t.held_key) filter (where t.id is null and t.held_key is not null) as missed_keys,
        bool_or(t.concerned or t.held_key is not null) as concerned
      into v_taken
      from (
        select p.tag, p.job_id, p.ticket, p.held_key, p.held_tag, j.id, j.job,
          j.provider is not null or j.limit_key is not null or j.kind = any (v_kinds) as concerned
        from taken p left join lateral (
          select l as job, l.id, l.provider, l.limit_key, l.kind from ops.live_jobs l
          where l.id = p.job_id and l.ticket = p.ticket and l.state = 'queued'
            and (l.deadline_at is null or l.deadline_at > v_now)
          for key share skip locked) j on true
        order by p.tag, p.job_id) t;
      exit when v_taken.places = 0;
      if v_taken.missed is not null then
        perform ops._line_up_again(v_taken.missed, v_taken.missed_tickets, v_now);
        -- they were let out of their keys' lines for slots that others may have now
        perform ops._release_slots(v_taken.missed_keys);
      end if;
      if _claim.queues is not null then
        -- whoever works some queues alone does not move the present past what waits in others
        v_taken.last := least(v_taken.last, (select q.tag from ops.ready q
          where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1] order by q.lane, q.tag limit 1));
        v_taken.first := least(v_taken.first, v_taken.last);
      end if;
      -- where the line began before this claim, which may be undone
      if v_round = 1 and v_taken.first > v_fronts[v_lane + 1] then
        perform setval(('ops.lane_' || v_lane || '_front')::regclass, v_taken.first);
      end if;
      if v_taken.last > v_times[v_lane + 1] then
        perform setval(('ops.lane_' || v_lane || '_time')::regclass, v_taken.last);
        v_times[v_lane + 1] := v_taken.last;
      end if;
      if v_is_limited and v_taken.concerned then
        v_admitted := ops._admit(v_taken.jobs, v_lane::smallint, v_taken.held_keys, v_taken.held_tags, v_now,
          v_slot_keys);
        v_slot_jobs := v_slot_jobs || v_admitted.slot_jobs;
        v_slot_keys := v_slot_keys || v_admitted.slot_keys;
        if v_admitted.blocked is not null then
          v_taken.jobs := array(select v_taken.jobs[p] from generate_series(1, cardinality(v_taken.jobs)) p
            where p <> all (v_admitted.blocked));
        end if;
      end if;
      v_claim.jobs := v_claim.jobs || v_taken.jobs;
      exit when cardinality(v_claim.jobs) >= most or v_taken.places < v_want;
    end loop;
    exit when cardinality(v_claim.jobs) >= most;
  end loop;
  if v_claim.jobs = '{}' then
    return v_claim;
  end if;
  if v_is_limited and exists (select from ops.parked_slots) then
    -- what waited for a provider's answer comes with its slots
    with moved as (
      delete from ops.parked_slots p where p.job_id = any (array(select j.id from unnest(v_claim.jobs) j))
      returning p.job_id, p.key
    )
    select v_slot_jobs || coalesce(array_agg(m.job_id), '{}'), v_slot_keys || coalesce(array_agg(m.key), '{}')
    into v_slot_jobs, v_slot_keys from moved m;
  end if;
  insert into ops.claims (worker, lease, started_at, expires_at, job_ids, slot_jobs, slot_keys, is_plain)
  select _claim.worker, _claim.lease, v_now, v_now + _claim.lease, array_agg(j.id), v_slot_jobs, v_slot_keys,
    bool_and(not j.is_heard and j.wait_key is null)
  from unnest(v_claim.jobs) j
  returning id into v_claim.claim_id;
  if v_claim.claim_id % 32 = 0 then
    perform setval('ops.claims_front', c.id) from ops.claims c
    where c.id >= (select f.last_value from ops.claims_front f) order by c.id limit 1;
  end if;
  return v_claim;
end $$;
comment on function ops._claim(text, text[], integer, interval) is
  'Takes up to so many jobs from the line and leases them to a worker.';
revoke all on function ops._claim from public, anon, authenticated, service_role;

-- Jobs that a claim found locked go back to the front of the line, if they still count.
create function ops._line_up_again(ids bigint[], tickets integer[], now timestamptz) returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
  select ops._flow_of(j.workspace_id), ops._lane(j.priority), j.queue, true, array_agg(j.id), array_agg(j.ticket)
  from unnest(_line_up_again.ids, _line_up_again.tickets) as u (id, ticket)
  join ops.live_jobs j on j.id = u.id and j.ticket = u.ticket and j.state = 'queued'
    and (j.deadline_at is null or j.deadline_at > _line_up_again.now)
  group by 1, 2, 3;
end $$;
comment on function ops._line_up_again is 'Puts jobs back into line that a claim could not lock.';
revoke all on function ops._line_up_again from public, anon, authenticated, service_role;

-- The clock's share of the same work, so that a claim after a quiet time finds little of it; only where no claim is
-- at work.
create function ops._tidy_line() returns void
language plpgsql
set search_path = ''
as $$
declare
  v_times bigint[];
begin
  if pg_catalog.pg_try_advisory_xact_lock(ops._claim_lock()) then
    v_times := ops._lane_times();
    perform ops._reopen(private.now(), v_times);
    perform ops._absorb(v_times);
  end if;
end $$;
comment on function ops._tidy_line() is 'Takes arrivals and freed jobs into the line, unless a claim is doing so.';
revoke all on function ops._tidy_line from public, anon, authenticated, service_role;

create function ops._check_claim(worker text, max integer, lease interval) returns void
language plpgsql
set search_path = ''
as $$
begin
  if coalesce(length(worker), 0) not between 1 and 200 then
    perform private.fail('invalid_argument', 'worker must have 1 to 200 characters.', '{"argument": "worker"}');
  end if;
  if max is null or max not between 1 and 1000 then
    perform private.fail('invalid_argument', 'max must be between 1 and 1000.', '{"argument": "max"}');
  end if;
  if lease is null or lease <= interval '0' or lease > interval '1 day' then
    perform private.fail('invalid_argument', 'lease must be more than 0 and at most a day.', '{"argument": "lease"}');
  end if;
end $$;
comment on function ops._check_claim is 'Checks the arguments of a claim. Errors: invalid_argument.';
revoke all on function ops._check_claim from public, anon, authenticated, service_role;

-- Claims up to max ready jobs for a worker: urgent lanes first, then fairly between workspaces. The worker must end,
-- park or heartbeat each within the lease. A worker's name must be unique to one invocation. Errors: invalid_argument.
-- Its transaction does not wait for the disk: claims come one after the other, and one that a crash of the server
-- forgets is made again, as if its worker had died.
create function ops.claim_jobs(worker text, queues text[] default null, max integer default 10,
  lease interval default '60 seconds') returns setof ops.claimed_job
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_claim ops.claim;
begin
  perform ops._check_claim(worker, max, lease);
  perform pg_catalog.set_config('synchronous_commit', 'off', true);
  if (select j.run_at <= private.now() from ops.live_jobs j where j.state in ('scheduled', 'waiting')
    order by j.run_at limit 1) then
    perform ops._promote_due_jobs(100);
  end if;
  -- with little to do, what the clock would do; before the claim's lock, because ends of jobs wait for wallets
  if ops._is_any_overdue() and ops._count_ready_jobs(max) < max then
    perform ops._end_overdue_jobs(100);
  end if;
  v_claim := ops._claim(worker, queues, max, lease);
  return query
    select j.id, v_claim.claim_id, j.kind, j.queue, j.workspace_id, j.priority, j.payload, j.attempt + 1,
      j.failed_attempts, j.max_attempts, j.checkpoint, j.callback, j.wait_key, j.parent_id, j.pending_children,
      j.failed_children, j.correlation_id, j.created_at
    from unnest(v_claim.jobs) j;
end $$;
comment on function ops.claim_jobs is
  'Claims up to max ready jobs (default 10) by a lease (default 60 seconds); no two workers get the same job.';
revoke all on function ops.claim_jobs from public, anon, authenticated, service_role;
grant execute on function ops.claim_jobs to service_role;
