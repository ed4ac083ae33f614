-- What operators and domains do with work: cancel, pause and resume it, replay what died, one by one or by filter.

insert into private.error_codes (name, sqlstate, hint) values
  ('job_not_paused', 'PT409', 'Only a paused job can be resumed.');

-- Cancels a job that is locked with its descendants and all their claims.
create function ops._cancel_locked(job ops.live_jobs, counts boolean) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.live_jobs := job;
  v_claim ops.claims;
  v_keys bigint[];
begin
  select c.* into v_claim from ops.claims c where job.id = any (c.job_ids) limit 1;
  if v_claim.id is not null then
    v_keys := ops._leave_claims(array[job.id]);
    if v_claim.worker <> '' then
      v_job := ops._attempted(job, v_claim);
      perform ops._note_attempt(v_job, 'cancelled', null);
    end if;
  end if;
  perform ops._end_job(v_job, 'cancelled', null, null, counts);
  perform ops._release_slots(v_keys);
  if job.pending_children > 0 then
    perform ops._cancel_children(job.id);
  end if;
end $$;
comment on function ops._cancel_locked(ops.live_jobs, boolean) is 'Cancels a locked job and its children.';
revoke all on function ops._cancel_locked from public, anon, authenticated, service_role;

-- Counted on their parent together: ten thousand versions of its row would make a second of it a minute.
create function ops._cancel_children(parent_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id bigint;
  v_child ops.live_jobs;
  v_cancelled integer := 0;
begin
  for v_id in select j.id from ops.live_jobs j where j.parent_id = _cancel_children.parent_id order by j.id loop
    -- read here: the end of one job may have ended another
    select j.* into v_child from ops.live_jobs j where j.id = v_id;
    continue when not found;
    perform ops._cancel_locked(v_child, false);
    v_cancelled := v_cancelled + 1;
  end loop;
  if v_cancelled > 0 then
    perform ops._count_ended_children(parent_id, v_cancelled, v_cancelled);
  end if;
end $$;
comment on function ops._cancel_children(bigint) is 'Cancels the locked children of a job and counts them on it.';
revoke all on function ops._cancel_children from public, anon, authenticated, service_role;

-- Cancels a job and its unfinished descendants. A worker that runs one loses its lease. Cancelling again
-- changes nothing; an ended job stays as it ended.
create function ops.cancel_job(id bigint) returns table (job_id bigint, state text, changed boolean)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.live_jobs := ops._lock_with_parent(id);
begin
  job_id := id;
  changed := v_job.id is not null;
  if not changed then
    select f.state into state from ops.finished_jobs f where f.id = cancel_job.id;
    if not found then
      perform private.fail('unknown_job', 'There is no such job.', jsonb_build_object('job_id', id));
    end if;
    return next;
    return;
  end if;
  if v_job.pending_children > 0 then
    perform ops._lock_family(id);
  end if;
  perform ops._cancel_locked(v_job, true);
  state := 'cancelled';
  return next;
end $$;
comment on function ops.cancel_job is
  'Cancels a job and its children at once; what it held (charges) is released by its kind.';
revoke all on function ops.cancel_job from public, anon, authenticated, service_role;
grant execute on function ops.cancel_job to service_role;

-- Locks a job with its parent and its descendants. Errors: unknown_job, job_ended.
create function ops._lock_live_family(id bigint) returns bigint[]
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.live_jobs := ops._lock_with_parent(id);
begin
  if v_job.id is null then
    perform private.fail(case when exists (select from ops.finished_jobs f where f.id = _lock_live_family.id)
      then 'job_ended' else 'unknown_job' end, 'There is no such live job.', jsonb_build_object('job_id', id));
  end if;
  return ops._lock_family(id);
end $$;
comment on function ops._lock_live_family(bigint) is 'Locks a live job and its unfinished descendants; returns them.';
revoke all on function ops._lock_live_family from public, anon, authenticated, service_role;

-- Pauses a job and its unfinished descendants: none of them begins an attempt any more. What is at work ends its
-- attempt. Pausing again changes nothing. Returns how many were paused by this call. Errors: unknown_job, job_ended.
create function ops.pause_job(id bigint) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ids bigint[];
  v_paused integer;
begin
  v_ids := ops._lock_live_family(id);
  update ops.live_jobs j
  set paused = true, ticket = j.ticket + case when j.state = 'queued' and not a.at_work then 1 else 0 end,
    state = case when j.state = 'queued' and not a.at_work then 'paused' else j.state end
  from (select u.id, exists (select from ops.claims c where u.id = any (c.job_ids)) as at_work
    from unnest(v_ids) u (id)) a
  where j.id = a.id and not j.paused;
  get diagnostics v_paused = row_count;
  perform ops._leave_parked_slots(j.id) from ops.live_jobs j where j.id = any (v_ids) and j.state = 'paused';
  return v_paused;
end $$;
comment on function ops.pause_job(bigint) is
  'Pauses a job and its descendants: what is at work ends its attempt, nothing new begins; returns how many.';
revoke all on function ops.pause_job from public, anon, authenticated, service_role;
grant execute on function ops.pause_job to service_role;

-- Lets a paused job and its descendants go on. Returns how many were paused. Errors: unknown_job, job_ended,
-- job_not_paused.
create function ops.resume_job(id bigint) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ids bigint[];
  v_resumed integer;
begin
  v_ids := ops._lock_live_family(id);
  if not exists (select from ops.live_jobs j where j.id = any (v_ids) and j.paused) then
    perform private.fail('job_not_paused', format('Job %s is not paused.', id), jsonb_build_object('job_id', id));
  end if;
  update ops.live_jobs j set paused = false where j.id = any (v_ids) and j.paused;
  get diagnostics v_resumed = row_count;
  perform ops._make_ready(array(select j.id from ops.live_jobs j where j.id = any (v_ids) and j.state = 'paused'));
  perform ops._wake_worker();
  return v_resumed;
end $$;
comment on function ops.resume_job(bigint) is 'Lets a paused job and its descendants go on; returns how many.';
revoke all on function ops.resume_job from public, anon, authenticated, service_role;
grant execute on function ops.resume_job to service_role;

-- Gives a dead job all its attempts again. Its kind may refuse (a charge that can no longer be held). Below a paused
-- parent it is paused, too. Errors: unknown_job, job_not_dead.
create function ops.replay_job(id bigint) returns table (job_id bigint, state text)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.finished_jobs;
begin
  select * into v_job from ops.finished_jobs f where f.id = replay_job.id;
  if v_job.parent_id is not null then
    perform ops._lock_parents(array[v_job.parent_id]);
  end if;
  select * into v_job from ops.finished_jobs f where f.id = replay_job.id for update;
  if not found then
    if not exists (select from ops.live_jobs j where j.id = replay_job.id) then
      perform private.fail('unknown_job', 'There is no such job.', jsonb_build_object('job_id', id));
    end if;
    perform private.fail('job_not_dead', format('Job %s has not ended.', id), jsonb_build_object('job_id', id));
  elsif v_job.state <> 'dead' then
    perform private.fail('job_not_dead', format('Job %s is %s.', id, v_job.state),
      jsonb_build_object('state', v_job.state));
  end if;
  delete from ops.finished_jobs f where f.id = v_job.id;
  v_job.state := 'scheduled';
  -- as one that is added now: held with a paused parent, and heard of as its kind is
  v_job.paused := coalesce((select p.paused from ops.live_jobs p where p.id = v_job.parent_id), false);
  v_job.is_heard := v_job.parent_id is not null
    or exists (select from ops.job_kinds k where k.kind = v_job.kind and k.on_event is not null);
  v_job.failed_attempts := 0;
  v_job.finished_at := null;
  v_job.progress := 0;
  v_job.stage := null;
  v_job.wait_key := null;
  v_job.callback := null;
  v_job.checkpoint := '{}';
  v_job.deadline_at := private.now() + (select k.timeout from ops.job_kinds k where k.kind = v_job.kind);
  insert into ops.live_jobs select v_job.*;
  state := ops._make_ready(array[v_job.id]);
  if v_job.parent_id is not null then
    perform ops._count_children(v_job.parent_id, 1, -1);
  end if;
  perform ops._announce(v_job.id, v_job.kind, 'replayed');
  perform ops._wake_worker();
  job_id := v_job.id;
  return next;
end $$;
comment on function ops.replay_job is 'Puts a dead job back in the queue with all its attempts.';
revoke all on function ops.replay_job from public, anon, authenticated, service_role;
grant execute on function ops.replay_job to service_role;

-- Replays dead jobs, newest first, at most so many; null arguments do not narrow. Each is replayed by itself: one
-- whose kind refuses stays dead and is told of. Returns a row for each job: queued, paused, or the refusal.
create function ops.replay_jobs(kind text default null, parent_id bigint default null, workspace_id uuid default null,
  provider text default null, error_like text default null, since timestamptz default null,
  until timestamptz default null, max integer default 1000) returns table (job_id bigint, state text, error text)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_id bigint;
begin
  if max is null or max not between 1 and 10000 then
    perform private.fail('invalid_argument', 'max must be between 1 and 10,000.', '{"argument": "max"}');
  end if;
  for v_id in
    select f.id from ops.finished_jobs f
    where f.state = 'dead' and (replay_jobs.kind is null or f.kind = replay_jobs.kind)
      and (replay_jobs.parent_id is null or f.parent_id = replay_jobs.parent_id)
      and (replay_jobs.workspace_id is null or f.workspace_id = replay_jobs.workspace_id)
      and (replay_jobs.provider is null or f.provider = replay_jobs.provider)
      and (error_like is null or f.error like error_like)
      and (since is null or f.finished_at >= since) and (until is null or f.finished_at < until)
    order by f.finished_at desc, f.id desc limit max
  loop
    job_id := v_id;
    error := null;
    begin
      select r.state into state from ops.replay_job(v_id) r;
    exception
      when deadlock_detected or serialization_failure then raise;
      when others then
        state := 'dead';
        error := sqlerrm;
    end;
    return next;
  end loop;
end $$;
comment on function ops.replay_jobs is
  'Replays dead jobs by kind, parent, workspace, provider, error or time; tells what became of each.';
revoke all on function ops.replay_jobs from public, anon, authenticated, service_role;
grant execute on function ops.replay_jobs to service_role;

-- Gives the dead children of a job, and nothing else, all their attempts again. A parent that has ended is not
-- woken by them; one that lives waits for them. Returns how many go on. Errors: unknown_job.
create function ops.retry_failed_children(parent_id bigint) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_retried integer;
begin
  if not exists (select from ops.jobs p where p.id = retry_failed_children.parent_id) then
    perform private.fail('unknown_job', 'There is no such job.', jsonb_build_object('job_id', parent_id));
  end if;
  select count(*) into v_retried
  from ops.replay_jobs(parent_id => retry_failed_children.parent_id, max => 10000) r where r.state <> 'dead';
  return v_retried;
end $$;
comment on function ops.retry_failed_children(bigint) is 'Replays the dead children of a job; returns how many go on.';
revoke all on function ops.retry_failed_children from public, anon, authenticated, service_role;
grant execute on function ops.retry_failed_children to service_role;
