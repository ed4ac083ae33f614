-- What can happen to a job, one step at a time (how it waits: 0510). These functions take jobs that the caller has
-- locked.

-- Tells the kind's SQL function what happened to a job.
create function ops._announce(job_id bigint, kind text, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_function text := (select k.on_event from ops.job_kinds k where k.kind = _announce.kind);
  v_before text := current_setting('backlot.correlation_id', true);
  v_job ops.jobs;
begin
  if v_function is not null then
    select * into v_job from ops.jobs j where j.id = job_id;
    -- charges and jobs that come of it are its own
    perform set_config('backlot.correlation_id', v_job.correlation_id::text, true);
    -- the shape of the name is held by a constraint of ops.job_kinds
    execute 'select ' || v_function || '($1, $2)' using v_job, event;
    perform set_config('backlot.correlation_id', coalesce(v_before, ''), true);
  end if;
end $$;
comment on function ops._announce(bigint, text, text) is 'Calls the on_event function of a job''s kind.';
revoke all on function ops._announce from public, anon, authenticated, service_role;

-- Takes jobs out of the claims they are in (claim_id, where it is known). Returns the limit keys under which they
-- counted.
create function ops._leave_claims(ids bigint[], claim_id bigint default null) returns bigint[]
language plpgsql
set search_path = ''
as $$
declare
  v_claims bigint[] := case when claim_id is null
    then array(select c.id from ops.claims c where c.job_ids && ids) else array[claim_id] end;
  v_keys bigint[];
begin
  select array_agg(s.key) into v_keys
  from ops.claims c cross join lateral unnest(c.slot_jobs, c.slot_keys) as s (job_id, key)
  where c.id = any (v_claims) and s.job_id = any (ids);
  delete from ops.claims c where c.id = any (v_claims) and c.job_ids <@ ids;
  update ops.claims c
  set job_ids = array(select u.id from unnest(c.job_ids) with ordinality as u (id, place)
      where u.id <> all (ids) order by u.place),
    slot_jobs = array(select s.id from unnest(c.slot_jobs) with ordinality as s (id, place)
      where s.id <> all (ids) order by s.place),
    slot_keys = array(select s.key from unnest(c.slot_jobs, c.slot_keys) with ordinality as s (id, key, place)
      where s.id <> all (ids) order by s.place)
  where c.id = any (v_claims) and c.job_ids && ids;
  return v_keys;
end $$;
comment on function ops._leave_claims(bigint[], bigint) is
  'Takes jobs out of their claims; returns the limit keys they held.';
revoke all on function ops._leave_claims from public, anon, authenticated, service_role;

-- Slots that came free; the next claim lets others take them.
create function ops._release_slots(keys bigint[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  if cardinality(keys) > 0 then
    insert into ops.openings (keys) values (_release_slots.keys);
  end if;
end $$;
comment on function ops._release_slots(bigint[]) is 'Tells the next claim that slots of these limit keys are free.';
revoke all on function ops._release_slots from public, anon, authenticated, service_role;

create function ops._leave_parked_slots(job_id bigint) returns void
language sql
set search_path = ''
as $$
  with gone as (
    delete from ops.parked_slots p where p.job_id = _leave_parked_slots.job_id returning p.key
  )
  insert into ops.openings (keys) select array_agg(g.key) from gone g having count(*) > 0
$$;
comment on function ops._leave_parked_slots(bigint) is 'Frees the slots of a job that waited with them.';
revoke all on function ops._leave_parked_slots from public, anon, authenticated, service_role;

-- Changes what a parent knows of its children, live or ended: one that has ended keeps counting, so that it knows them
-- when it is replayed. Returns the live parent; null when it has ended.
create function ops._count_children(parent_id bigint, pending integer, failed integer) returns ops.live_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_parent ops.live_jobs;
begin
  loop
    update ops.live_jobs p
    set pending_children = p.pending_children + pending, failed_children = p.failed_children + failed
    where p.id = _count_children.parent_id returning p.* into v_parent;
    exit when found;
    update ops.finished_jobs p
    set pending_children = p.pending_children + pending, failed_children = p.failed_children + failed
    where p.id = _count_children.parent_id;
    -- one that was being replayed at this moment was not there yet, and is not here any more
    exit when found or not exists (select from ops.jobs p where p.id = _count_children.parent_id);
  end loop;
  return v_parent;
end $$;
comment on function ops._count_children(bigint, integer, integer) is
  'Adds to the pending and failed children of a job; returns it while it lives.';
revoke all on function ops._count_children from public, anon, authenticated, service_role;

-- Counts the end of children on their parent. A parent that waits for its children is woken once, by the last of
-- them; with more failures than it allows, the others are cancelled first.
create function ops._count_ended_children(parent_id bigint, ended integer, failed integer) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_parent ops.live_jobs := ops._count_children(parent_id, -ended, failed);
begin
  if v_parent.id is null then
    return;
  end if;
  if failed > 0 and v_parent.failed_children > v_parent.max_failed_children
    and v_parent.failed_children - failed <= v_parent.max_failed_children and v_parent.pending_children > 0 then
    perform ops._lock_family(v_parent.id);
    perform ops._cancel_children(v_parent.id);
    return;
  end if;
  if v_parent.pending_children = 0 and v_parent.state = 'waiting' and v_parent.wait_key is null
    and ops._make_ready(array[v_parent.id]) = 'queued' then
    perform ops._wake_worker();
  end if;
end $$;
comment on function ops._count_ended_children(bigint, integer, integer) is
  'Counts children that ended, and how many of them failed, on their parent; wakes it after the last.';
revoke all on function ops._count_ended_children from public, anon, authenticated, service_role;

-- Ends a locked live job as it is given (its attempt may be newer than its row's); its kind and its parent hear of it.
-- counts: false where the caller counts it on its parent, with others.
create function ops._end_job(job ops.live_jobs, state text, output jsonb, error text, counts boolean default true)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.live_jobs := job;
begin
  delete from ops.live_jobs j where j.id = job.id;
  v_job.state := state;
  v_job.output := output;
  v_job.error := coalesce(error, job.error);
  v_job.progress := case when state = 'completed' then 100 else job.progress end;
  v_job.finished_at := private.now();
  insert into ops.finished_jobs select v_job.*;
  perform ops._leave_parked_slots(job.id);
  if job.wait_key is not null then
    perform ops._close_callback(job.wait_key, job.id, job.correlation_id);
  end if;
  perform ops._announce(job.id, job.kind, state);
  if counts and job.parent_id is not null then
    perform ops._count_ended_children(job.parent_id, 1, (state <> 'completed')::integer);
  end if;
end $$;
comment on function ops._end_job(ops.live_jobs, text, jsonb, text, boolean) is
  'Ends a job as completed, dead or cancelled; its kind''s function and its parent hear of it in the same transaction.';
revoke all on function ops._end_job from public, anon, authenticated, service_role;

-- Seconds until the next attempt: 2, 4, 8 ... up to an hour, each 25 % early or late.
create function ops._backoff(failed_attempts integer) returns interval
language sql volatile
set search_path = ''
as $$
  select pg_catalog.make_interval(secs => least(3600, power(2, least(failed_attempts, 12))) * (0.75 + random() / 2))
$$;
comment on function ops._backoff(integer) is 'Exponential backoff with jitter, 2 seconds to about an hour.';
revoke all on function ops._backoff from public, anon, authenticated, service_role;

-- Writes down the attempt that has ended and when the next one may begin: now, or later.
create function ops._try_again(job ops.live_jobs, run_at timestamptz) returns void
language plpgsql
set search_path = ''
as $$
begin
  update ops.live_jobs j
  set attempt = job.attempt, failed_attempts = job.failed_attempts, worker = job.worker, claimed_at = job.claimed_at,
    started_at = job.started_at, error = job.error, wait_key = null, run_at = _try_again.run_at,
    state = 'scheduled'
  where j.id = job.id;
  perform ops._leave_parked_slots(job.id);
  if _try_again.run_at <= private.now() then
    perform ops._make_ready(array[job.id]);
  end if;
end $$;
comment on function ops._try_again(ops.live_jobs, timestamptz) is
  'Schedules the next attempt of a job whose last one ended.';
revoke all on function ops._try_again from public, anon, authenticated, service_role;

-- One attempt of a locked job failed: try again later, or give up. Returns retrying or dead. What the job
-- waited for is forgotten: it says anew what it waits for, and finds an event that came meanwhile.
create function ops._fail_attempt(job ops.live_jobs, error text, retry_in interval, retry boolean) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.live_jobs := job;
  v_run_at timestamptz;
begin
  v_job.failed_attempts := least(job.failed_attempts + 1, job.max_attempts);
  v_run_at := private.now() + coalesce(retry_in, ops._backoff(v_job.failed_attempts));
  if retry and v_job.failed_attempts < job.max_attempts and (job.deadline_at is null or v_run_at < job.deadline_at) then
    v_job.error := error;
    perform ops._try_again(v_job, v_run_at);
    return 'retrying';
  end if;
  perform ops._end_job(v_job, 'dead', null, error);
  return 'dead';
end $$;
comment on function ops._fail_attempt(ops.live_jobs, text, interval, boolean) is
  'Counts a failed attempt of a locked job and schedules the next one or ends the job as dead.';
revoke all on function ops._fail_attempt from public, anon, authenticated, service_role;

-- The same, for callers that must go on whatever the kind's function does. Where it refuses to hear that its
-- job is dead, the end is put off: nobody works on the job, and the clock tries again in a minute.
create function ops._fail_attempt_or_put_off(job ops.live_jobs, error text, retry_in interval, retry boolean)
returns text
language plpgsql
set search_path = ''
as $$
begin
  return ops._fail_attempt(job, error, retry_in, retry);
exception
  when deadlock_detected or serialization_failure then
    raise;
  when others then
    update ops.live_jobs j
    set state = 'queued', ticket = j.ticket + 1, attempt = job.attempt, worker = job.worker,
      claimed_at = job.claimed_at, started_at = job.started_at,
      error = format('%s [end refused: %s]', _fail_attempt_or_put_off.error, sqlerrm)
    where j.id = job.id;
    insert into ops.claims (worker, lease, started_at, expires_at, job_ids)
    values ('', interval '1 minute', private.now(), private.now() + interval '1 minute', array[job.id]);
    return 'retrying';
end $$;
comment on function ops._fail_attempt_or_put_off(ops.live_jobs, text, interval, boolean) is
  'Counts a failed attempt; an end that the job''s kind refuses is tried again in a minute.';
revoke all on function ops._fail_attempt_or_put_off from public, anon, authenticated, service_role;

-- The job after the attempt that it was claimed for.
create function ops._attempted(job ops.live_jobs, claim ops.claims) returns ops.live_jobs
language plpgsql immutable
set search_path = ''
as $$
declare
  v_job ops.live_jobs := job;
begin
  v_job.attempt := job.attempt + 1;
  v_job.worker := claim.worker;
  v_job.claimed_at := claim.started_at;
  v_job.started_at := coalesce(job.started_at, claim.started_at);
  return v_job;
end $$;
comment on function ops._attempted(ops.live_jobs, ops.claims) is 'A job as its row is after the attempt of a claim.';
revoke all on function ops._attempted from public, anon, authenticated, service_role;
