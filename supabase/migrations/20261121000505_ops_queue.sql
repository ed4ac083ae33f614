-- How work comes into the queue and how workers take and hold it. All functions are for service_role only; ops is
-- not exposed, so clients reach jobs through the domain functions that enqueue them.

-- Adds many jobs of one kind in one statement: payloads is an array of objects. keys, where given, is an array as
-- long (null: without a key); a job whose key is known is not added again. Returns the ids in the order of payloads,
-- and whether this call created each. Errors: unknown_job_kind, unknown_workspace, unknown_job, job_ended,
-- key_reused, invalid_argument.
create function ops.enqueue_jobs(
  kind text, payloads jsonb[], workspace_id uuid default null, queue text default 'default',
  priority integer default 0, run_at timestamptz default null, max_attempts integer default 5, keys text[] default null,
  parent_id bigint default null, provider text default null, limit_key text default null,
  max_failed_children integer default null
) returns table (job_id bigint, created boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_kind ops.job_kinds := (select k from ops.job_kinds k where k.kind = enqueue_jobs.kind);
  v_parent ops.live_jobs;
  v_workspace uuid := workspace_id;
  v_count integer := coalesce(cardinality(payloads), 0);
  v_now timestamptz := private.now();
  v_run_at timestamptz := coalesce(run_at, v_now);
  v_later boolean := coalesce(run_at, v_now) > v_now;
  v_ids bigint[];
  v_created boolean[];
  v_bad text;
  v_added integer;
begin
  if v_kind.kind is null then
    perform private.fail('unknown_job_kind', format('There is no job kind "%s".', kind),
      jsonb_build_object('kind', kind));
  end if;
  v_bad := case
    when v_count not between 1 and 10000 then 'payloads must have 1 to 10,000 elements'
    when exists (select from unnest(payloads) p where jsonb_typeof(p) is distinct from 'object')
      then case v_count when 1 then 'payload must be a JSON object' else 'payloads must be JSON objects' end
    when max_attempts is null or max_attempts not between 1 and 100 then 'max_attempts must be between 1 and 100'
    when priority is null or priority not between -32768 and 32767
      then 'priority must be between -32768 and 32767'
    when keys is not null and cardinality(keys) <> v_count then 'keys must have as many elements as payloads'
    when exists (select from unnest(keys) k where length(k) not between 1 and 255)
      then 'key must have 1 to 255 characters'
    when length(limit_key) > 255 or strpos(limit_key, ':') < 2 then 'limit_key must be <prefix>:<name>'
    when max_failed_children < 0 then 'max_failed_children must not be negative' end;
  if v_bad is not null then
    perform private.fail('invalid_argument', v_bad || '.',
      jsonb_build_object('argument', split_part(v_bad, ' ', 1)));
  end if;
  if workspace_id is not null and not exists (select from identity.workspaces w where w.id = workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  if parent_id is not null then
    select * into v_parent from ops.live_jobs p where p.id = parent_id for update;
    if not found and keys is null then
      perform private.fail(case
        when exists (select from ops.finished_jobs p where p.id = parent_id) then 'job_ended' else 'unknown_job' end,
        'The parent job cannot take children.', jsonb_build_object('parent_id', parent_id));
    end if;
    v_workspace := coalesce(workspace_id, v_parent.workspace_id,
      (select p.workspace_id from ops.finished_jobs p where p.id = parent_id));
  end if;

  v_ids := array(select nextval('ops.job_ids') from generate_series(1, v_count));
  v_created := array_fill(true, array[v_count]);
  if keys is not null then
    select k.ids, k.created into v_ids, v_created from ops._take_keys(coalesce(v_workspace,
      '00000000-0000-0000-0000-000000000000'), keys, v_ids,
      jsonb_build_object('kind', kind, 'queue', coalesce(queue, 'default'),
      'priority', priority, 'run_at', extract(epoch from run_at), 'max_attempts', max_attempts,
      'parent_id', parent_id), payloads) k;
    if not (true = any (v_created)) then
      return query select u.id, false from unnest(v_ids) u (id);
      return;
    end if;
    if parent_id is not null and v_parent.id is null then
      perform private.fail(case
        when exists (select from ops.finished_jobs p where p.id = parent_id) then 'job_ended' else 'unknown_job' end,
        'The parent job cannot take children.', jsonb_build_object('parent_id', parent_id));
    end if;
  end if;

  insert into ops.live_jobs (id, kind, payload, workspace_id, queue, priority, run_at, state, max_attempts, parent_id,
    provider, limit_key, max_failed_children, deadline_at, is_heard, correlation_id)
  select u.id, kind, u.payload, v_workspace, coalesce(queue, 'default'), priority, v_run_at,
    case when v_later then 'scheduled' else 'queued' end, max_attempts, parent_id,
    coalesce(provider, v_kind.provider), limit_key, max_failed_children, greatest(v_run_at, v_now) + v_kind.timeout,
    parent_id is not null or v_kind.on_event is not null,
    coalesce(v_parent.correlation_id, nullif(current_setting('backlot.correlation_id', true), '')::uuid,
      gen_random_uuid())
  from unnest(v_ids, v_created, payloads) as u (id, created, payload)
  where u.created;
  get diagnostics v_added = row_count;
  if parent_id is not null then
    update ops.live_jobs p set pending_children = p.pending_children + v_added where p.id = parent_id;
  end if;
  if not v_later then
    insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
    select coalesce(v_workspace, '00000000-0000-0000-0000-000000000000'), ops._lane(priority),
      coalesce(queue, 'default'), false, array_agg(u.id order by u.place), array_fill(0, array[v_added])
    from unnest(v_ids, v_created) with ordinality as u (id, created, place) where u.created;
    perform ops._wake_worker();
  end if;
  return query select u.id, u.created from unnest(v_ids, v_created) u (id, created);
end $$;
comment on function ops.enqueue_jobs is
  'Adds up to 10,000 jobs of a kind at once, each once for its key for ever; returns ids and which are new.';
revoke all on function ops.enqueue_jobs from public, anon, authenticated, service_role;
grant execute on function ops.enqueue_jobs to service_role;

-- Takes idempotency keys for jobs: one that is known keeps its job. The same key twice in a call is one job.
-- Errors: key_reused.
create function ops._take_keys(workspace_id uuid, keys text[], job_ids bigint[], content jsonb, payloads jsonb[],
  out ids bigint[], out created boolean[])
language plpgsql
set search_path = ''
as $$
declare
  v_hashes bytea[] := array(select case when u.key is not null
      then private.content_hash(content || jsonb_build_object('payload', u.payload)) end
    from unnest(keys, payloads) with ordinality as u (key, payload, place) order by u.place);
  v_reused record;
begin
  insert into ops.job_keys (workspace_id, key, job_id, content_hash)
  select _take_keys.workspace_id, u.key, u.id, u.hash from unnest(keys, job_ids, v_hashes) u (key, id, hash)
  where u.key is not null order by u.key, u.id
  on conflict on constraint job_keys_pkey do nothing;
  select k.key, k.job_id into v_reused from unnest(keys, v_hashes) u (key, hash)
  join ops.job_keys k on k.workspace_id = _take_keys.workspace_id and k.key = u.key
  where k.content_hash <> u.hash limit 1;
  if found then
    perform private.fail('key_reused', 'This key has been used for a different job.',
      jsonb_build_object('key', v_reused.key, 'job_id', v_reused.job_id));
  end if;
  select array_agg(coalesce(k.job_id, u.id) order by u.place),
    array_agg(coalesce(k.job_id = u.id, true) order by u.place)
  into ids, created
  from unnest(keys, job_ids) with ordinality as u (key, id, place)
  left join ops.job_keys k on k.workspace_id = _take_keys.workspace_id and k.key = u.key;
end $$;
comment on function ops._take_keys is 'Takes the idempotency keys of new jobs; says whose they are and which are new.';
revoke all on function ops._take_keys from public, anon, authenticated, service_role;

-- Adds a job, at most once for a key. kind must be registered. Children count on their parent.
-- Errors: as of enqueue_jobs.
create function ops.enqueue_job(
  kind text, payload jsonb, workspace_id uuid default null, queue text default 'default', priority integer default 0,
  run_at timestamptz default null, max_attempts integer default 5, key text default null,
  parent_id bigint default null, provider text default null, limit_key text default null,
  max_failed_children integer default null
) returns table (job_id bigint, created boolean)
language sql security definer
set search_path = ''
as $$
  select j.job_id, j.created from ops.enqueue_jobs(kind, array[payload], workspace_id, queue, priority, run_at,
    max_attempts, case when key is not null then array[key] end, parent_id, provider, limit_key,
    max_failed_children) j
$$;
comment on function ops.enqueue_job is
  'Adds a job, once for a key for ever; returns its id and whether this call created it.';
revoke all on function ops.enqueue_job from public, anon, authenticated, service_role;
grant execute on function ops.enqueue_job to service_role;

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

-- Takes the next jobs from the line for a worker and leases them; gives their ids in order. One claim at a time:
-- what arrives, what comes free and what limits allow is decided under one lock, and whoever holds it waits for
-- nobody. As many statements whatever is in line; each place in the line is passed once.
create function ops._claim(worker text, queues text[], most integer, lease interval, out claim_id bigint,
  out ids bigint[], out tickets integer[])
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := private.now();
  v_times bigint[];
  v_fronts bigint[];
  v_limited boolean;
  v_want integer;
  v_taken integer;
  v_first bigint;
  v_last bigint;
  v_ids bigint[];
  v_tickets integer[];
  v_queues text[];
  v_held_keys bigint[];
  v_held_tags bigint[];
  v_admitted record;
  v_slot_jobs bigint[] := '{}';
  v_slot_keys bigint[] := '{}';
begin
  ids := '{}';
  tickets := '{}';
  perform pg_catalog.pg_advisory_xact_lock(7203850871);
  v_times := ops._lane_times();
  v_limited := exists (select from ops.limits) or exists (select from ops.limit_keys);
  if v_limited then
    perform ops._reopen(v_now, v_times);
  end if;
  perform ops._absorb(v_times);
  v_fronts := array[(select s.last_value from ops.lane_0_front s), (select s.last_value from ops.lane_1_front s),
    (select s.last_value from ops.lane_2_front s)];
  for v_lane in 0..2 loop
    -- with an order, because the planner may read the whole table for a bare exists
    perform from ops.ready q where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1] order by q.lane, q.tag limit 1;
    continue when not found;
    -- a second round only when limits have left the batch short
    for v_round in 1..20 loop
      v_want := most - cardinality(ids);
      with taken as (
        delete from ops.ready r where r.ctid = any (array(
          select q.ctid from ops.ready q
          where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1]
            and (_claim.queues is null or q.queue = any (_claim.queues))
          order by q.lane, q.tag, q.job_id limit v_want))
        returning r.tag, r.job_id, r.ticket, r.queue, r.held_key, r.held_tag
      )
      select count(*), min(t.tag), max(t.tag), array_agg(t.job_id order by t.tag, t.job_id),
        array_agg(t.ticket order by t.tag, t.job_id), array_agg(t.queue order by t.tag, t.job_id),
        array_agg(t.held_key order by t.tag, t.job_id), array_agg(t.held_tag order by t.tag, t.job_id)
      into v_taken, v_first, v_last, v_ids, v_tickets, v_queues, v_held_keys, v_held_tags
      from taken t;
      exit when v_taken = 0;
      if v_round = 1 and _claim.queues is null and v_first > v_fronts[v_lane + 1] then
        perform setval(('ops.lane_' || v_lane || '_front')::regclass, v_first);
      end if;
      if _claim.queues is not null then
        -- whoever works one queue alone does not move the present past what waits in others
        v_last := least(v_last, (select q.tag from ops.ready q
          where q.lane = v_lane and q.tag >= v_fronts[v_lane + 1] order by q.lane, q.tag limit 1));
      end if;
      if v_last > v_times[v_lane + 1] then
        perform setval(('ops.lane_' || v_lane || '_time')::regclass, v_last);
        v_times[v_lane + 1] := v_last;
      end if;
      if v_limited then
        v_admitted := ops._admit(v_ids, v_tickets, v_lane::smallint, v_queues, v_held_keys, v_held_tags, v_now,
          v_slot_keys);
        v_ids := v_admitted.admitted;
        v_tickets := v_admitted.their_tickets;
        v_slot_jobs := v_slot_jobs || v_admitted.slot_jobs;
        v_slot_keys := v_slot_keys || v_admitted.slot_keys;
      end if;
      ids := ids || v_ids;
      tickets := tickets || v_tickets;
      exit when cardinality(ids) >= most or v_taken < v_want;
    end loop;
    exit when cardinality(ids) >= most;
  end loop;
  if v_limited and ids <> '{}' then
    -- what waited for a provider's answer comes with its slots
    with moved as (
      delete from ops.parked_slots p where p.job_id = any (ids) returning p.job_id, p.key
    )
    select v_slot_jobs || coalesce(array_agg(m.job_id), '{}'), v_slot_keys || coalesce(array_agg(m.key), '{}')
    into v_slot_jobs, v_slot_keys from moved m;
  end if;
  if ids <> '{}' then
    insert into ops.claims (worker, lease, started_at, expires_at, job_ids, slot_jobs, slot_keys)
    values (worker, lease, v_now, v_now + lease, ids, v_slot_jobs, v_slot_keys)
    returning id into claim_id;
  end if;
end $$;
comment on function ops._claim is 'Takes up to so many jobs from the line and leases them to a worker.';
revoke all on function ops._claim from public, anon, authenticated, service_role;

-- The clock's share of the same work, so that a claim after a quiet time finds little of it; only where no claim is
-- at work.
create function ops._tidy_line() returns void
language plpgsql
set search_path = ''
as $$
declare
  v_times bigint[];
begin
  if pg_catalog.pg_try_advisory_xact_lock(7203850871) then
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

-- Takes back what a claim took and could not have: places that no longer count (the job is cancelled, paused, out of
-- time or in line again) are gone; a job whose row somebody holds at this moment goes back into line.
create function ops._amend_claim(claim_id bigint, ids bigint[], tickets integer[]) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_had bigint[] := array(
    select j.id from unnest(_amend_claim.ids, _amend_claim.tickets) as u (id, ticket)
    join ops.live_jobs j on j.id = u.id and j.ticket = u.ticket and j.state = 'queued'
      and (j.deadline_at is null or j.deadline_at > private.now())
    for key share of j skip locked);
begin
  perform ops._release_slots(ops._leave_claims(
    array(select u.id from unnest(_amend_claim.ids) u (id) where u.id <> all (v_had)), claim_id));
  update ops.claims c set job_ids = array(select distinct u.id from unnest(c.job_ids) u (id))
  where c.id = _amend_claim.claim_id;
  insert into ops.arrivals (flow, lane, queue, resumed, job_ids, tickets)
  select coalesce(j.workspace_id, '00000000-0000-0000-0000-000000000000'), ops._lane(j.priority), j.queue, true,
    array_agg(j.id), array_agg(j.ticket)
  from unnest(_amend_claim.ids, _amend_claim.tickets) as u (id, ticket)
  join ops.live_jobs j on j.id = u.id and j.ticket = u.ticket and j.state = 'queued'
  where j.id <> all (v_had)
  group by 1, 2, 3;
end $$;
comment on function ops._amend_claim is 'Takes out of a claim the jobs that it could not have.';
revoke all on function ops._amend_claim from public, anon, authenticated, service_role;

-- Claims up to max ready jobs for a worker: urgent lanes first, then fairly between workspaces. The worker must end,
-- park or heartbeat each within the lease. A worker's name must be unique to one invocation. Errors: invalid_argument.
-- Its transaction does not wait for the disk: claims come one after the other, and one that a crash of the server
-- forgets is made again, as if its worker had died.
create function ops.claim_jobs(worker text, queues text[] default null, max integer default 10,
  lease interval default '60 seconds') returns setof ops.claimed_job
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := private.now();
  v_claim record;
  v_found integer;
begin
  perform ops._check_claim(worker, max, lease);
  perform pg_catalog.set_config('synchronous_commit', 'off', true);
  if (select j.run_at <= v_now from ops.live_jobs j where j.state in ('scheduled', 'waiting')
    order by j.run_at limit 1) then
    perform ops._promote_due_jobs(100);
  end if;
  -- with little to do, what the clock would do; before the claim's lock, because ends of jobs wait for wallets
  if ops._count_ready_jobs(max) < max then
    perform ops._end_overdue_jobs(100);
  end if;
  v_claim := ops._claim(worker, queues, max, lease);
  if v_claim.claim_id is null then
    return;
  end if;
  -- locked, so that whoever ends or pauses a job either is before this claim or sees it
  return query
    select j.id, v_claim.claim_id, j.kind, j.queue, j.workspace_id, j.priority, j.payload, j.attempt + 1,
      j.failed_attempts, j.max_attempts, j.checkpoint, j.callback, j.wait_key, j.parent_id, j.pending_children,
      j.failed_children, j.correlation_id, j.created_at
    from unnest(v_claim.ids, v_claim.tickets) with ordinality as u (id, ticket, place)
    join ops.live_jobs j on j.id = u.id and j.ticket = u.ticket and j.state = 'queued'
      and (j.deadline_at is null or j.deadline_at > v_now)
    order by u.place for key share of j skip locked;
  get diagnostics v_found = row_count;
  if v_found < cardinality(v_claim.ids) then
    perform ops._amend_claim(v_claim.claim_id, v_claim.ids, v_claim.tickets);
  end if;
end $$;
comment on function ops.claim_jobs is
  'Claims up to max ready jobs (default 10) by a lease (default 60 seconds); no two workers get the same job.';
revoke all on function ops.claim_jobs from public, anon, authenticated, service_role;
grant execute on function ops.claim_jobs to service_role;

-- Extends the leases of jobs this worker still holds. held = false: the lease was lost or the job was cancelled or
-- ended, so the worker must stop working on it.
create function ops.heartbeat_jobs(worker text, ids bigint[]) returns table (job_id bigint, held boolean)
language sql security definer
set search_path = ''
as $$
  with still as (
    select c.id, c.lease, c.job_ids from ops.claims c
    where c.worker = heartbeat_jobs.worker and c.expires_at > private.now() and c.job_ids && heartbeat_jobs.ids
    order by c.id for update
  ), extended as (
    update ops.claims c set expires_at = private.now() + s.lease from still s where c.id = s.id
    returning c.job_ids
  )
  select i.id, exists (select from extended e where i.id = any (e.job_ids))
    and exists (select from ops.live_jobs j where j.id = i.id)
  from unnest(heartbeat_jobs.ids) as i (id)
$$;
comment on function ops.heartbeat_jobs is 'Extends leases; tells for each job whether the worker still holds it.';
revoke all on function ops.heartbeat_jobs from public, anon, authenticated, service_role;
grant execute on function ops.heartbeat_jobs to service_role;

-- Locks a job after its parent, the order of complete_jobs.
create function ops._lock_with_parent(id bigint) returns ops.live_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.live_jobs;
begin
  perform from ops.live_jobs p
  where p.id = (select j.parent_id from ops.live_jobs j where j.id = _lock_with_parent.id) for update;
  select * into v_job from ops.live_jobs j where j.id = _lock_with_parent.id for update;
  return v_job;
end $$;
comment on function ops._lock_with_parent(bigint) is
  'Locks a live job and its parent, the parent first; null when there is no such live job.';
revoke all on function ops._lock_with_parent from public, anon, authenticated, service_role;

-- The claim under which a worker holds a job (in this attempt and under this claim, where given). The caller has
-- locked the job: who ends or takes back a job locks it before it touches its claim, so what is found here stays so.
create function ops._holding_claim(worker text, job ops.live_jobs, attempt integer, claim_id bigint)
returns ops.claims
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_claim ops.claims;
begin
  if job.id is null or attempt <> job.attempt + 1 then
    return null;
  end if;
  if claim_id is null then
    select c.* into v_claim from ops.claims c where c.worker = worker and job.id = any (c.job_ids);
  else
    select c.* into v_claim from ops.claims c
    where c.id = claim_id and c.worker = worker and job.id = any (c.job_ids);
  end if;
  return case when v_claim.expires_at > private.now() then v_claim end;
end $$;
comment on function ops._holding_claim is
  'The claim under which a worker holds a locked job; null when its lease was lost.';
revoke all on function ops._holding_claim from public, anon, authenticated, service_role;

-- Saves where a job stands and extends its claim's lease. progress is 0 to 100; null leaves a value as it is.
-- attempt fences a worker that lost the job and got it again. Returns false, and changes nothing, when the worker
-- no longer holds the job.
create function ops.checkpoint_job(worker text, id bigint, checkpoint jsonb default null, progress integer default null,
  stage text default null, attempt integer default null, claim_id bigint default null) returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_job ops.live_jobs;
  v_claim ops.claims;
begin
  select j.* into v_job from ops.live_jobs j where j.id = checkpoint_job.id for update;
  v_claim := ops._holding_claim(worker, v_job, checkpoint_job.attempt, checkpoint_job.claim_id);
  if v_claim.id is null then
    return false;
  end if;
  update ops.claims c set expires_at = private.now() + c.lease where c.id = v_claim.id;
  update ops.live_jobs j
  set checkpoint = coalesce(nullif(checkpoint_job.checkpoint, 'null'), j.checkpoint),
    progress = greatest(0, least(100, coalesce(checkpoint_job.progress, j.progress))),
    stage = coalesce(checkpoint_job.stage, j.stage)
  where j.id = v_job.id
  returning j.* into v_job;
  perform ops._announce(v_job.id, v_job.kind, 'progressed');
  return true;
end $$;
comment on function ops.checkpoint_job is 'Saves checkpoint, progress and stage of a held job and extends its lease.';
revoke all on function ops.checkpoint_job from public, anon, authenticated, service_role;
grant execute on function ops.checkpoint_job to service_role;
