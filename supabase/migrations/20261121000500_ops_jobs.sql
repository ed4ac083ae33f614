-- The one queue that drives all long work. Workers claim jobs in batches, hold them by a lease,
-- and end them; a kind may name a SQL function that is called in the same transaction, so a
-- domain row (a creation, a payment) always changes together with its job.
-- The public functions of the queue are in the next file.

create schema if not exists ops;
comment on schema ops is 'Queue, webhook inbox, sweeps and operational records; never exposed to clients.';
revoke all on schema ops from public, anon, authenticated;
grant usage on schema ops to service_role;

create table ops.job_kinds (
  kind text primary key,
  description text not null,
  on_event text,
  timeout interval,
  created_at timestamptz not null default now(),
  constraint job_kinds_kind_shape check (kind ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$'),
  constraint job_kinds_on_event_shape check (on_event ~ '^[a-z_]+\.[a-z_]+$'),
  constraint job_kinds_timeout_positive check (timeout > interval '0')
);
comment on table ops.job_kinds is 'What kinds of work exist, and the SQL function that hears of their events.';
comment on column ops.job_kinds.on_event is
  'Called as f(job ops.jobs, event text): completed, dead, cancelled, replayed or progressed, in its transaction.';
comment on column ops.job_kinds.timeout is
  'How long after enqueueing a job of this kind may still end well; null: for ever.';
alter table ops.job_kinds enable row level security;
revoke all on table ops.job_kinds from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.job_kinds to service_role;

-- workspace_id has no foreign key: jobs are machinery, not the tenant's data, and the hot table pays
-- for every index. enqueue_job refuses an unknown workspace.
create table ops.jobs (
  id bigint generated always as identity primary key,
  kind text not null,
  queue text not null default 'default',
  workspace_id uuid,
  state text not null default 'queued',
  priority smallint not null default 0,
  run_at timestamptz not null default now(),
  payload jsonb not null default '{}',
  attempt integer not null default 0,
  failed_attempts integer not null default 0,
  max_attempts integer not null default 5,
  worker text,
  lease interval,
  lease_expires_at timestamptz,
  progress smallint not null default 0,
  stage text,
  checkpoint jsonb not null default '{}',
  output jsonb,
  error text,
  parent_id bigint,
  pending_children integer not null default 0,
  failed_children integer not null default 0,
  wait_key text,
  callback jsonb,
  deadline_at timestamptz,
  correlation_id uuid not null
    default coalesce(nullif(current_setting('backlot.correlation_id', true), '')::uuid, gen_random_uuid()),
  created_at timestamptz not null default now(),
  started_at timestamptz,
  claimed_at timestamptz,
  finished_at timestamptz,
  constraint jobs_parent_id_fkey foreign key (parent_id) references ops.jobs (id) on delete cascade,
  constraint jobs_state_known
    check (state in ('scheduled', 'queued', 'running', 'waiting', 'completed', 'dead', 'cancelled')),
  constraint jobs_running_has_lease
    check ((state = 'running') = (worker is not null and lease_expires_at is not null and lease is not null)),
  constraint jobs_ended_has_time check ((state in ('completed', 'dead', 'cancelled')) = (finished_at is not null)),
  constraint jobs_attempts_in_range
    check (failed_attempts between 0 and max_attempts
    and max_attempts between 1 and 100),
  constraint jobs_progress_in_range check (progress between 0 and 100),
  constraint jobs_children_in_range check (pending_children >= 0 and failed_children >= 0),
  constraint jobs_dead_has_error check (state <> 'dead' or error is not null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.jobs is 'Every piece of long work: one row from enqueueing to its end.';
comment on column ops.jobs.attempt is 'Number of the current claim; fences writes of a worker that lost its lease.';
comment on column ops.jobs.failed_attempts is
  'Attempts that failed or lost their lease; at max_attempts the job is dead.';
comment on column ops.jobs.correlation_id is
  'What it belongs to: shared with the request or webhook at its root, its parent, its charge; see ops.trace.';
comment on column ops.jobs.claimed_at is 'When the current or last attempt began; started_at is of the first.';
comment on column ops.jobs.wait_key is 'provider:event_id of the webhook this job waits for.';
comment on column ops.jobs.callback is 'The webhook payload that ended the wait; null after a poll.';

-- Only what may be claimed now is in this index: jobs for later are in the next one.
create index jobs_ready on ops.jobs (priority desc, id) where state = 'queued';
create index jobs_due on ops.jobs (run_at) where state in ('scheduled', 'waiting');
create index jobs_leases on ops.jobs (lease_expires_at) where state = 'running';
create index jobs_deadlines on ops.jobs (deadline_at)
  where deadline_at is not null and state in ('scheduled', 'queued', 'waiting');
create unique index jobs_wait_key on ops.jobs (wait_key) where state in ('waiting', 'queued') and wait_key is not null;
create index jobs_parent_id on ops.jobs (parent_id) where parent_id is not null;
create index jobs_dead on ops.jobs (finished_at desc) where state = 'dead';
alter table ops.jobs enable row level security;
revoke all on table ops.jobs from public, anon, authenticated, service_role;
grant select on table ops.jobs to service_role;

-- Keys live apart from the jobs they made: jobs may be deleted one day, keys never.
create table ops.job_keys (
  workspace_id uuid not null,
  key text not null,
  job_id bigint not null,
  content_hash bytea not null,
  created_at timestamptz not null default now(),
  constraint job_keys_pkey primary key (workspace_id, key),
  constraint job_keys_key_length check (length(key) between 1 and 255)
);
comment on table ops.job_keys is
  'Idempotency keys of jobs, kept for ever; the zero workspace holds keys without a tenant.';
alter table ops.job_keys enable row level security;
revoke all on table ops.job_keys from public, anon, authenticated, service_role;
grant select on table ops.job_keys to service_role;

-- Live worker invocations. Unlogged: after a crash of the server no worker is alive anyway.
create unlogged table ops.workers (
  worker text primary key,
  started_at timestamptz not null default now(),
  expires_at timestamptz not null
);
comment on table ops.workers is
  'Worker invocations that are running now; a row outlives its worker by at most its lease.';
alter table ops.workers enable row level security;
revoke all on table ops.workers from public, anon, authenticated, service_role;
grant select on table ops.workers to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_job', 'PT404', 'Check the job''s id.'),
  ('unknown_job_kind', 'PT404', 'Register the kind in ops.job_kinds before enqueueing.'),
  ('job_not_dead', 'PT409', 'Only dead jobs can be replayed.'),
  ('job_ended', 'PT409', 'The job has ended already; nothing can be added to it.');

-- Tells the kind's SQL function what happened to a job.
create function ops._announce(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_function text := (select k.on_event from ops.job_kinds k where k.kind = job.kind);
  v_before text := current_setting('backlot.correlation_id', true);
begin
  if v_function is not null then
    -- charges and jobs that come of it are its own
    perform set_config('backlot.correlation_id', job.correlation_id::text, true);
    -- the shape of the name is held by a constraint of ops.job_kinds
    execute 'select ' || v_function || '($1, $2)' using job, event;
    perform set_config('backlot.correlation_id', coalesce(v_before, ''), true);
  end if;
end $$;
comment on function ops._announce(ops.jobs, text) is 'Calls the on_event function of a job''s kind.';
revoke all on function ops._announce from public, anon, authenticated, service_role;

-- Closes the inbox row of a callback that came while its job was at work and ended without it.
create function ops._close_callback(wait_key text, job_id bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  update ops.webhook_events e
  set status = 'processed', processed_at = private.now(), job_id = _close_callback.job_id,
    correlation_id = (select j.correlation_id from ops.jobs j where j.id = _close_callback.job_id)
  where e.provider = split_part(_close_callback.wait_key, ':', 1)
    and e.event_id = substr(_close_callback.wait_key, strpos(_close_callback.wait_key, ':') + 1)
    and e.status = 'pending';
end $$;
comment on function ops._close_callback(text, bigint) is 'Marks the pending webhook of a wait key as processed.';
revoke all on function ops._close_callback from public, anon, authenticated, service_role;

-- Ends a locked job, tells its kind and its parent; null when it has ended already. A parent that waits
-- for its children is woken once, by the last of them. A parent that has ended keeps counting, so that it
-- knows its children when it is replayed.
create function ops._end_job(job_id bigint, state text, output jsonb, error text) returns ops.jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job ops.jobs;
  v_woken boolean;
begin
  update ops.jobs j
  set state = _end_job.state, output = _end_job.output, error = coalesce(_end_job.error, j.error),
    progress = case when _end_job.state = 'completed' then 100 else j.progress end,
    finished_at = private.now(), worker = null, lease = null, lease_expires_at = null
  where j.id = _end_job.job_id and j.finished_at is null
  returning j.* into v_job;
  if not found then
    return null;
  end if;
  if v_job.wait_key is not null then
    perform ops._close_callback(v_job.wait_key, v_job.id);
  end if;
  perform ops._announce(v_job, v_job.state);
  if v_job.parent_id is not null then
    update ops.jobs p
    set pending_children = p.pending_children - 1,
      failed_children = p.failed_children + (v_job.state <> 'completed')::integer,
      state = case when p.state = 'waiting' and p.wait_key is null and p.pending_children = 1
        then 'queued' else p.state end,
      run_at = case when p.state = 'waiting' and p.wait_key is null and p.pending_children = 1
        then private.now() else p.run_at end
    where p.id = v_job.parent_id
    returning p.state = 'queued' and p.pending_children = 0 into v_woken;
    if v_woken then
      perform ops._wake_worker();
    end if;
  end if;
  return v_job;
end $$;
comment on function ops._end_job(bigint, text, jsonb, text) is
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

-- One attempt of a locked job failed: try again later, or give up. Returns retrying or dead. What the job
-- waited for is forgotten: it says anew what it waits for, and finds an event that came meanwhile.
create function ops._fail_attempt(job ops.jobs, error text, retry_in interval, retry boolean) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_failed integer := least(job.failed_attempts + 1, job.max_attempts);
  v_run_at timestamptz := private.now() + coalesce(retry_in, ops._backoff(v_failed));
begin
  if retry and v_failed < job.max_attempts and (job.deadline_at is null or v_run_at < job.deadline_at) then
    update ops.jobs j
    set failed_attempts = v_failed, error = _fail_attempt.error, worker = null, lease = null, lease_expires_at = null,
      run_at = v_run_at, state = case when v_run_at > private.now() then 'scheduled' else 'queued' end, wait_key = null
    where j.id = job.id;
    return 'retrying';
  end if;
  update ops.jobs j set failed_attempts = v_failed where j.id = job.id;
  perform ops._end_job(job.id, 'dead', null, error);
  return 'dead';
end $$;
comment on function ops._fail_attempt(ops.jobs, text, interval, boolean) is
  'Counts a failed attempt of a locked job and schedules the next one or ends the job as dead.';
revoke all on function ops._fail_attempt from public, anon, authenticated, service_role;

-- The same, for callers that must go on whatever the kind's function does. Where it refuses to hear that its
-- job is dead, the end is put off: nobody works on the job, and the clock tries again in a minute.
create function ops._fail_attempt_or_put_off(job ops.jobs, error text, retry_in interval, retry boolean) returns text
language plpgsql
set search_path = ''
as $$
begin
  return ops._fail_attempt(job, error, retry_in, retry);
exception
  when deadlock_detected or serialization_failure then
    raise;
  when others then
    update ops.jobs j
    set state = 'running', worker = '', lease = interval '1 minute',
      lease_expires_at = private.now() + interval '1 minute',
      error = format('%s [end refused: %s]', _fail_attempt_or_put_off.error, sqlerrm)
    where j.id = job.id;
    return 'retrying';
end $$;
comment on function ops._fail_attempt_or_put_off(ops.jobs, text, interval, boolean) is
  'Counts a failed attempt; an end that the job''s kind refuses is tried again in a minute.';
revoke all on function ops._fail_attempt_or_put_off from public, anon, authenticated, service_role;

-- Waits without a worker: for a webhook (wait_key), for children, or until run_at. A webhook that came
-- before the job began to wait is found here; the lock makes the two orders exclusive.
create function ops._park_job(job ops.jobs, wait_key text, run_at timestamptz, checkpoint jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_callback jsonb;
  v_ready boolean := false;
begin
  if wait_key is not null then
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(wait_key, 0));
    update ops.webhook_events e
    set status = 'processed', processed_at = private.now(), job_id = job.id, correlation_id = job.correlation_id
    where e.provider = split_part(_park_job.wait_key, ':', 1)
      and e.event_id = substr(_park_job.wait_key, strpos(_park_job.wait_key, ':') + 1)
      and e.status = 'pending'
    returning e.payload into v_callback;
    v_ready := v_callback is not null;
  elsif _park_job.run_at is null then
    -- nothing but children to wait for: if all have ended already, go on at once
    select j.pending_children = 0 into v_ready from ops.jobs j where j.id = job.id;
  end if;
  update ops.jobs j
  set state = case when v_ready then 'queued' else 'waiting' end, wait_key = _park_job.wait_key, callback = v_callback,
    run_at = case when v_ready then private.now() else coalesce(_park_job.run_at, 'infinity') end,
    checkpoint = coalesce(nullif(_park_job.checkpoint, 'null'), j.checkpoint),
    worker = null, lease = null, lease_expires_at = null
  where j.id = job.id;
  return case when v_ready then 'queued' else 'waiting' end;
end $$;
comment on function ops._park_job(ops.jobs, text, timestamptz, jsonb) is
  'Lets a running job wait for a webhook, its children or a time without holding a worker.';
revoke all on function ops._park_job from public, anon, authenticated, service_role;
