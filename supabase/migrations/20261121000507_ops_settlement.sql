-- How jobs end: completed, parked or failed by their worker, cancelled or replayed from outside. The functions
-- are for service_role only.

-- What one attempt came to, for one held job. Outcomes: completed (output), waiting (wait_key, poll_in
-- seconds, checkpoint), failed (error, retry_in seconds, retry false to give up at once).
create function ops._settle_attempt(job ops.jobs, result jsonb) returns text
language plpgsql
set search_path = ''
as $$
begin
  case coalesce(result ->> 'outcome', 'completed')
    when 'completed' then
      perform ops._end_job(job.id, 'completed', result -> 'output', null);
      return 'completed';
    when 'waiting' then
      return ops._park_job(job, result ->> 'wait_key',
        private.now() + make_interval(secs => (result ->> 'poll_in')::double precision), result -> 'checkpoint');
    when 'failed' then
      return ops._fail_attempt(job, coalesce(result ->> 'error', 'failed'),
        make_interval(secs => (result ->> 'retry_in')::double precision),
          coalesce((result ->> 'retry')::boolean, true));
    else
      perform private.fail('invalid_argument', 'outcome must be completed, waiting or failed.',
        '{"argument": "results"}');
  end case;
  return null;
end $$;
comment on function ops._settle_attempt(ops.jobs, jsonb) is 'Applies the outcome of one attempt to a held job.';
revoke all on function ops._settle_attempt from public, anon, authenticated, service_role;

-- Completes, in one statement, those held jobs of a batch whose end nobody hears of: no function of the kind, no
-- parent, no callback to close. Nothing can refuse it. The caller holds the jobs' locks. Returns their ids.
create function ops._complete_plain_jobs(worker text, ids bigint[], results jsonb) returns bigint[]
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ids bigint[];
begin
  with given as (
    select (r ->> 'id')::bigint as id, (r ->> 'attempt')::integer as attempt, r -> 'output' as output
    from jsonb_array_elements(results) r where coalesce(r ->> 'outcome', 'completed') = 'completed'
  ), ended as (
    update ops.jobs j
    set state = 'completed', output = g.output, progress = 100, finished_at = private.now(), worker = null,
      lease = null, lease_expires_at = null
    from given g
    where j.id = any (_complete_plain_jobs.ids) and j.id = g.id
      and j.state = 'running' and j.worker = _complete_plain_jobs.worker and j.lease_expires_at > private.now()
      and (g.attempt is null or g.attempt = j.attempt) and j.parent_id is null and j.wait_key is null
      and not exists (select from ops.job_kinds k where k.kind = j.kind and k.on_event is not null)
    returning j as job
  ), noted as (
    insert into ops.job_attempts (job_id, attempt, kind, provider, worker, outcome, started_at, ended_at)
    select a.job_id, a.attempt, a.kind, a.provider, _complete_plain_jobs.worker, a.outcome, a.started_at, a.ended_at
    from ended e cross join lateral ops._ended_attempt(e.job, 'completed', null) a
  )
  select coalesce(array_agg((e.job).id), '{}') into v_ids from ended e;
  return v_ids;
end $$;
comment on function ops._complete_plain_jobs(text, bigint[], jsonb) is
  'Completes the jobs of a batch whose end needs nothing else; returns their ids.';
revoke all on function ops._complete_plain_jobs from public, anon, authenticated, service_role;

-- Ends or parks jobs of a worker: results is an array of {id, attempt?, outcome?, ...} (see _settle_attempt).
-- Answers one row a result: completed, waiting, queued, retrying, dead, or lost when the lease was lost and
-- nothing changed. One result's failure does not touch the others. All take their locks in one order: jobs
-- with their parents by id, then what the kinds' functions touch, by workspace.
create function ops.complete_jobs(worker text, results jsonb) returns table (job_id bigint, result text)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ids bigint[];
  v_plain bigint[];
  v_result jsonb;
  v_job ops.jobs;
  v_error text;
  v_attempts ops.job_attempts[] := '{}';
begin
  if results is null or jsonb_typeof(results) <> 'array'
    or exists (select from jsonb_array_elements(results) r where (r ->> 'id') ~ '^[0-9]{1,18}$' is not true
      or (r ->> 'attempt') !~ '^[0-9]{1,9}$') then
    perform private.fail('invalid_argument', 'results must be an array of objects with an integer id (and attempt).',
      '{"argument": "results"}');
  end if;
  v_ids := array(select (r ->> 'id')::bigint from jsonb_array_elements(results) r);
  -- all locks on jobs first, so that nobody waits for a job while holding a wallet
  perform from ops.jobs j
  where j.id = any (v_ids || array(select c.parent_id from ops.jobs c where c.id = any (v_ids)))
  order by j.id for update;
  v_plain := ops._complete_plain_jobs(worker, v_ids, results);
  return query select unnest(v_plain), 'completed';
  for v_result in
    select r.result
    from (select e.result, (e.result ->> 'id')::bigint as id,
        row_number() over (partition by (e.result ->> 'id')::bigint order by e.place) as nth
      from jsonb_array_elements(results) with ordinality as e (result, place)) r
    left join ops.jobs j on j.id = r.id
    where r.id <> all (v_plain) or r.nth > 1
    order by j.workspace_id, j.parent_id, j.id
  loop
    job_id := (v_result ->> 'id')::bigint;
    v_job := ops._held_job(worker, job_id, (v_result ->> 'attempt')::integer);
    if v_job.id is null then
      result := 'lost';
    else
      begin
        v_error := case v_result ->> 'outcome' when 'failed' then coalesce(v_result ->> 'error', 'failed') end;
        result := ops._settle_attempt(v_job, v_result);
      exception
        when deadlock_detected or serialization_failure then raise;
        when others then
          v_error := sqlerrm;
          result := ops._fail_attempt_or_put_off(v_job, v_error, null, true);
      end;
      v_attempts := v_attempts || ops._ended_attempt(v_job, result, v_error);
    end if;
    return next;
  end loop;
  insert into ops.job_attempts select * from unnest(v_attempts);
end $$;
comment on function ops.complete_jobs is
  'Ends or parks held jobs, each with its domain row, money and parent in one transaction; tells what became of each.';
revoke all on function ops.complete_jobs from public, anon, authenticated, service_role;
grant execute on function ops.complete_jobs to service_role;

-- One attempt failed. Answers retrying, dead, or lost. retry_in null: exponential backoff.
create function ops.fail_job(worker text, id bigint, error text, retry_in interval default null)
returns table (job_id bigint, result text)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.jobs;
begin
  perform ops._lock_with_parent(id);
  v_job := ops._held_job(worker, id);
  job_id := id;
  result := 'lost';
  if v_job.id is not null then
    result := ops._fail_attempt_or_put_off(v_job, coalesce(error, 'failed'), retry_in, true);
    insert into ops.job_attempts select a.* from ops._ended_attempt(v_job, result, coalesce(error, 'failed')) a;
  end if;
  return next;
end $$;
comment on function ops.fail_job is
  'Counts a failed attempt of a held job: retried with backoff, or dead after max_attempts.';
revoke all on function ops.fail_job from public, anon, authenticated, service_role;
grant execute on function ops.fail_job to service_role;

-- Cancels a job and its unfinished children. A worker that runs it loses its lease. Cancelling again
-- changes nothing; an ended job stays as it ended.
create function ops.cancel_job(id bigint) returns table (job_id bigint, state text, changed boolean)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.jobs := ops._lock_with_parent(id);
  v_child bigint;
begin
  if v_job.id is null then
    perform private.fail('unknown_job', 'There is no such job.', jsonb_build_object('job_id', id));
  end if;
  changed := v_job.finished_at is null;
  if changed then
    if v_job.state = 'running' and v_job.worker <> '' then
      insert into ops.job_attempts select a.* from ops._ended_attempt(v_job, 'cancelled', null) a;
    end if;
    v_job := ops._end_job(v_job.id, 'cancelled', null, null);
    for v_child in select j.id from ops.jobs j where j.parent_id = v_job.id and j.finished_at is null order by j.id loop
      perform ops.cancel_job(v_child);
    end loop;
  end if;
  job_id := v_job.id;
  state := v_job.state;
  return next;
end $$;
comment on function ops.cancel_job is
  'Cancels a job and its children at once; what it held (charges) is released by its kind.';
revoke all on function ops.cancel_job from public, anon, authenticated, service_role;
grant execute on function ops.cancel_job to service_role;

-- Gives a dead job all its attempts again. Its kind may refuse (a charge that can no longer be held).
create function ops.replay_job(id bigint) returns table (job_id bigint, state text)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job ops.jobs := ops._lock_with_parent(id);
begin
  if v_job.id is null then
    perform private.fail('unknown_job', 'There is no such job.', jsonb_build_object('job_id', id));
  elsif v_job.state <> 'dead' then
    perform private.fail('job_not_dead', format('Job %s is %s.', id, v_job.state),
      jsonb_build_object('state', v_job.state));
  end if;
  update ops.jobs j
  set state = 'queued', failed_attempts = 0, finished_at = null, progress = 0, stage = null, wait_key = null,
    callback = null, checkpoint = '{}', run_at = private.now(),
    deadline_at = private.now() + (select k.timeout from ops.job_kinds k where k.kind = j.kind)
  where j.id = v_job.id
  returning j.* into v_job;
  update ops.jobs p
  set pending_children = p.pending_children + 1, failed_children = p.failed_children - 1
  where p.id = v_job.parent_id;
  perform ops._announce(v_job, 'replayed');
  perform ops._wake_worker();
  job_id := v_job.id;
  state := v_job.state;
  return next;
end $$;
comment on function ops.replay_job is 'Puts a dead job back in the queue with all its attempts.';
revoke all on function ops.replay_job from public, anon, authenticated, service_role;
grant execute on function ops.replay_job to service_role;
