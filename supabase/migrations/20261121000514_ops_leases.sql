-- How workers hold work: a heartbeat or a checkpoint extends the lease of a claim. And the order in which jobs and
-- claims are locked by whoever ends or takes back work: a parent, then jobs by id, then claims by id.

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

-- Locks parents before their children. One that has ended is kept from being replayed and may be counted on by many;
-- for one that is being replayed at this moment this waits, and locks it as a live one. The caller locks jobs after it.
create function ops._lock_parents(ids bigint[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform from ops.finished_jobs p where p.id = any (ids) order by p.id for key share;
  perform from ops.live_jobs p where p.id = any (ids) order by p.id for update;
end $$;
comment on function ops._lock_parents(bigint[]) is 'Locks parents, live or ended.';
revoke all on function ops._lock_parents from public, anon, authenticated, service_role;

-- Locks a job after its parent, the order of complete_jobs.
create function ops._lock_with_parent(id bigint) returns ops.live_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_parent bigint := (select j.parent_id from ops.live_jobs j where j.id = _lock_with_parent.id);
  v_job ops.live_jobs;
begin
  if v_parent is not null then
    perform ops._lock_parents(array[v_parent]);
  end if;
  select * into v_job from ops.live_jobs j where j.id = _lock_with_parent.id for update;
  return v_job;
end $$;
comment on function ops._lock_with_parent(bigint) is
  'Locks a live job and its parent, the parent first; null when there is no such live job.';
revoke all on function ops._lock_with_parent from public, anon, authenticated, service_role;

-- The job and all its unfinished descendants, parents before children.
create function ops._family(id bigint) returns bigint[]
language sql stable
set search_path = ''
as $$
  with recursive family as (
    select j.id, 0 as depth from ops.live_jobs j where j.id = _family.id
    union all
    select c.id, f.depth + 1 from family f join ops.live_jobs c on c.parent_id = f.id
  )
  select coalesce(array_agg(f.id order by f.depth, f.id), '{}') from family f
$$;
comment on function ops._family(bigint) is 'A live job and its unfinished descendants, parents first.';
revoke all on function ops._family from public, anon, authenticated, service_role;

-- Locks a live job, its unfinished descendants and their claims, in the order of complete_jobs: jobs by id, and only
-- then claims by id. The caller has locked the job with its parent; while it holds a job, that gets no more children.
create function ops._lock_family(id bigint) returns bigint[]
language plpgsql
set search_path = ''
as $$
declare
  v_ids bigint[] := ops._family(id);
begin
  perform from ops.live_jobs j where j.id = any (v_ids) order by j.id for update;
  -- what has come to a descendant before it was locked
  v_ids := ops._family(id);
  perform from ops.live_jobs j where j.id = any (v_ids) order by j.id for update;
  perform from ops.claims c where c.job_ids && v_ids order by c.id for update;
  return v_ids;
end $$;
comment on function ops._lock_family(bigint) is
  'Locks a live job, its unfinished descendants and their claims; returns the jobs, parents first.';
revoke all on function ops._lock_family from public, anon, authenticated, service_role;

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
    select c.* into v_claim from ops.claims c where c.id = claim_id;
  end if;
  return case when v_claim.worker = worker and job.id = any (v_claim.job_ids) and v_claim.expires_at > private.now()
    then v_claim end;
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
