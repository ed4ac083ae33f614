-- What the service side may do with the queue. All functions are for service_role only; ops is
-- not exposed, so clients reach jobs through the domain functions that enqueue them.

-- Adds a job, at most once for a key. kind must be registered. Children count on their parent.
-- Errors: unknown_job_kind, unknown_workspace, unknown_job, job_ended, key_reused, invalid_argument.
create function ops.enqueue_job(
  kind text, payload jsonb, workspace_id uuid default null, queue text default 'default', priority integer default 0,
  run_at timestamptz default null, max_attempts integer default 5, key text default null, parent_id bigint default null
) returns table (job_id bigint, created boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_kind ops.job_kinds := (select k from ops.job_kinds k where k.kind = enqueue_job.kind);
  v_workspace uuid := coalesce(workspace_id, (select p.workspace_id from ops.jobs p where p.id = parent_id));
  v_key_workspace uuid := coalesce(v_workspace, '00000000-0000-0000-0000-000000000000');
  v_queue text := coalesce(queue, 'default');
  v_hash bytea;
  v_known ops.job_keys;
  v_run_at timestamptz := coalesce(run_at, private.now());
begin
  if v_kind.kind is null then
    perform private.fail('unknown_job_kind', format('There is no job kind "%s".', kind),
      jsonb_build_object('kind', kind));
  end if;
  if payload is null or jsonb_typeof(payload) <> 'object' then
    perform private.fail('invalid_argument', 'payload must be a JSON object.', '{"argument": "payload"}');
  end if;
  if max_attempts is null or max_attempts not between 1 and 100 then
    perform private.fail('invalid_argument', 'max_attempts must be between 1 and 100.', '{"argument": "max_attempts"}');
  end if;
  if priority is null or priority not between -32768 and 32767 then
    perform private.fail('invalid_argument', 'priority must be between -32768 and 32767.', '{"argument": "priority"}');
  end if;
  if length(key) not between 1 and 255 then
    perform private.fail('invalid_argument', 'key must have 1 to 255 characters.', '{"argument": "key"}');
  end if;
  if workspace_id is not null and not exists (select from identity.workspaces w where w.id = workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;

  job_id := nextval('ops.jobs_id_seq');
  created := true;
  if key is not null then
    -- run_at as a number, because its text depends on the session's time zone
    v_hash := private.content_hash(jsonb_build_object('kind', kind, 'payload', payload, 'queue', v_queue,
      'priority', priority, 'run_at', extract(epoch from run_at), 'max_attempts', max_attempts, 'parent_id',
        parent_id));
    insert into ops.job_keys (workspace_id, key, job_id, content_hash)
    values (v_key_workspace, key, job_id, v_hash)
    on conflict on constraint job_keys_pkey do nothing;
    if not found then
      select * into v_known from ops.job_keys k where k.workspace_id = v_key_workspace and k.key = enqueue_job.key;
      if v_known.content_hash <> v_hash then
        perform private.fail('key_reused', 'This key has been used for a different job.',
          jsonb_build_object('key', key, 'job_id', v_known.job_id));
      end if;
      job_id := v_known.job_id;
      created := false;
      return next;
      return;
    end if;
  end if;

  if parent_id is not null then
    update ops.jobs p set pending_children = p.pending_children + 1
    where p.id = parent_id and p.finished_at is null;
    if not found then
      perform private.fail(case
        when exists (select from ops.jobs p where p.id = parent_id) then 'job_ended' else 'unknown_job' end,
        'The parent job cannot take children.', jsonb_build_object('parent_id', parent_id));
    end if;
  end if;

  insert into ops.jobs (id, kind, payload, workspace_id, queue, priority, run_at, state, max_attempts, parent_id,
    deadline_at, correlation_id)
  overriding system value
  values (job_id, kind, payload, v_workspace, v_queue, priority, v_run_at,
    case when v_run_at > private.now() then 'scheduled' else 'queued' end, max_attempts, parent_id,
    greatest(v_run_at, private.now()) + v_kind.timeout,
    coalesce((select p.correlation_id from ops.jobs p where p.id = parent_id),
      nullif(current_setting('backlot.correlation_id', true), '')::uuid, gen_random_uuid()));
  if v_run_at <= private.now() then
    perform ops._wake_worker();
  end if;
  return next;
end $$;
comment on function ops.enqueue_job is
  'Adds a job, once for a key for ever; returns its id and whether this call created it.';
revoke all on function ops.enqueue_job from public, anon, authenticated, service_role;
grant execute on function ops.enqueue_job to service_role;

-- Ends jobs past their deadline and takes back what lost workers held, at most so many of each, so that it
-- may run inside a claim. Sorted as complete_jobs sorts, so that they take wallets alike. It waits for no
-- job, nor for a parent: whoever holds one may be waiting for a job that is locked here.
create function ops._end_overdue_jobs(most integer) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_ids bigint[] := array(
      select j.id from ops.jobs j
      where j.deadline_at <= private.now() and j.state in ('scheduled', 'queued', 'waiting')
      order by j.deadline_at limit most for update skip locked
    ) || array(
      select j.id from ops.jobs j where j.state = 'running' and j.lease_expires_at <= private.now()
      order by j.lease_expires_at limit most for update skip locked
    );
  v_id bigint;
  v_job ops.jobs;
  v_lost text := 'worker_lost: The worker let its lease run out.';
  v_attempts ops.job_attempts[] := '{}';
  v_ended integer := 0;
begin
  for v_id in select j.id from ops.jobs j where j.id = any (v_ids) order by j.workspace_id, j.parent_id, j.id loop
    -- read here: the end of one job may have ended another
    select * into v_job from ops.jobs j where j.id = v_id;
    continue when v_job.finished_at is not null;
    if v_job.parent_id is not null then
      perform from ops.jobs p where p.id = v_job.parent_id for update skip locked;
      continue when not found;
    end if;
    if v_job.state <> 'running' then
      perform ops._fail_attempt_or_put_off(v_job, 'timed_out: The job did not end in time.', null, false);
    elsif v_job.worker = '' then
      perform ops._fail_attempt_or_put_off(v_job, split_part(v_job.error, ' [end refused: ', 1), null, false);
    else
      v_attempts := v_attempts || ops._ended_attempt(v_job,
        ops._fail_attempt_or_put_off(v_job, v_lost, interval '0', true), v_lost);
    end if;
    v_ended := v_ended + 1;
  end loop;
  insert into ops.job_attempts select * from unnest(v_attempts);
  return v_ended;
end $$;
comment on function ops._end_overdue_jobs(integer) is
  'Ends jobs past their deadline and recovers lost leases, at most so many of each; returns how many.';
revoke all on function ops._end_overdue_jobs from public, anon, authenticated, service_role;

-- Makes jobs ready whose time has come.
create function ops._promote_due_jobs(most integer) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_promoted integer;
begin
  -- an array, because the planner joins with the whole table when it expects many rows
  update ops.jobs j set state = 'queued'
  where j.id = any (array(
    select d.id from ops.jobs d where d.state in ('scheduled', 'waiting') and d.run_at <= private.now()
    order by d.run_at limit most for update skip locked));
  get diagnostics v_promoted = row_count;
  return v_promoted;
end $$;
comment on function ops._promote_due_jobs(integer) is 'Makes due jobs ready, at most so many; returns how many.';
revoke all on function ops._promote_due_jobs from public, anon, authenticated, service_role;

-- Claims up to max ready jobs for a worker, highest priority first, then oldest. The worker must end,
-- park or heartbeat each within the lease. A worker's name must be unique to one invocation.
create function ops.claim_jobs(worker text, queues text[] default null, max integer default 10,
  lease interval default '60 seconds') returns setof ops.jobs
language plpgsql security definer
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
  perform ops._end_overdue_jobs(100);
  perform ops._promote_due_jobs(100);
  return query
    with claimed as (
      update ops.jobs j
      set state = 'running', worker = claim_jobs.worker, attempt = j.attempt + 1, lease = claim_jobs.lease,
        lease_expires_at = private.now() + claim_jobs.lease, started_at = coalesce(j.started_at, private.now()),
        claimed_at = private.now()
      where j.id = any (array(
        select r.id from ops.jobs r
        where r.state = 'queued' and (claim_jobs.queues is null or r.queue = any (claim_jobs.queues))
        order by r.priority desc, r.id limit claim_jobs.max for update skip locked))
      returning j.*
    )
    select * from claimed order by priority desc, id;
end $$;
comment on function ops.claim_jobs is
  'Claims up to max ready jobs (default 10) by a lease (default 60 seconds); no two workers get the same job.';
revoke all on function ops.claim_jobs from public, anon, authenticated, service_role;
grant execute on function ops.claim_jobs to service_role;

-- Extends the leases of jobs this worker still holds. held = false: the lease was lost or the job was
-- cancelled, so the worker must stop working on it.
create function ops.heartbeat_jobs(worker text, ids bigint[]) returns table (job_id bigint, held boolean)
language sql security definer
set search_path = ''
as $$
  -- locked in the order of complete_jobs, which the same worker may be calling
  with still as (
    select j.id from ops.jobs j
    where j.id = any (heartbeat_jobs.ids) and j.state = 'running' and j.worker = heartbeat_jobs.worker
      and j.lease_expires_at > private.now()
    order by j.id for update
  ), extended as (
    update ops.jobs j set lease_expires_at = private.now() + j.lease from still where j.id = still.id
    returning j.id
  )
  select i.id, exists (select from extended e where e.id = i.id) from unnest(heartbeat_jobs.ids) as i (id)
$$;
comment on function ops.heartbeat_jobs is 'Extends leases; tells for each job whether the worker still holds it.';
revoke all on function ops.heartbeat_jobs from public, anon, authenticated, service_role;
grant execute on function ops.heartbeat_jobs to service_role;

-- Locks a job after its parent, the order of complete_jobs.
create function ops._lock_with_parent(id bigint) returns ops.jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.jobs;
begin
  perform from ops.jobs p
  where p.id = (select j.parent_id from ops.jobs j where j.id = _lock_with_parent.id) for update;
  select * into v_job from ops.jobs j where j.id = _lock_with_parent.id for update;
  return v_job;
end $$;
comment on function ops._lock_with_parent(bigint) is
  'Locks a job and its parent, the parent first; null when there is no such job.';
revoke all on function ops._lock_with_parent from public, anon, authenticated, service_role;

-- The job, locked, if this worker holds it (and, where given, in this attempt); else a null row.
create function ops._held_job(worker text, id bigint, attempt integer default null) returns ops.jobs
language sql
set search_path = ''
as $$
  select j from ops.jobs j
  where j.id = _held_job.id and j.state = 'running' and j.worker = _held_job.worker
    and (_held_job.attempt is null or j.attempt = _held_job.attempt)
    and j.lease_expires_at > private.now()
  for update
$$;
comment on function ops._held_job(text, bigint, integer) is
  'Locks a job that a worker holds; null when its lease was lost.';
revoke all on function ops._held_job from public, anon, authenticated, service_role;

-- Saves where a job stands and extends its lease. progress is 0 to 100; null leaves a value as it is.
-- Returns false, and changes nothing, when the worker no longer holds the job.
create function ops.checkpoint_job(worker text, id bigint, checkpoint jsonb default null, progress integer default null,
  stage text default null) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.jobs := ops._held_job(worker, id);
begin
  if v_job.id is null then
    return false;
  end if;
  update ops.jobs j
  set checkpoint = coalesce(nullif(checkpoint_job.checkpoint, 'null'), j.checkpoint),
    progress = greatest(0, least(100, coalesce(checkpoint_job.progress, j.progress))),
    stage = coalesce(checkpoint_job.stage, j.stage), lease_expires_at = private.now() + j.lease
  where j.id = v_job.id
  returning j.* into v_job;
  perform ops._announce(v_job, 'progressed');
  return true;
end $$;
comment on function ops.checkpoint_job is 'Saves checkpoint, progress and stage of a held job and extends its lease.';
revoke all on function ops.checkpoint_job from public, anon, authenticated, service_role;
grant execute on function ops.checkpoint_job to service_role;
