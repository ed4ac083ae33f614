-- The one queue that drives all long work. A job is a row of ops.live_jobs from enqueueing to its end and a row of
-- ops.finished_jobs after it; ops.jobs is both. What a busy queue does to a row is to insert it once, move it
-- once, and nothing between: a claim is one row for all the jobs of a batch, so that leases, heartbeats and
-- recovery cost the same for one job or fifty, and an old transaction that keeps dead rows alive slows nothing.
-- A kind may name a SQL function that is called in the same transaction, so a domain row (a creation, a payment)
-- always changes together with its job. The public functions of the queue are in the next files.

create schema if not exists ops;
comment on schema ops is 'Queue, webhook inbox, sweeps and operational records; never exposed to clients.';
revoke all on schema ops from public, anon, authenticated;
grant usage on schema ops to service_role;

create table ops.job_kinds (
  kind text primary key,
  description text not null,
  on_event text,
  timeout interval,
  provider text,
  created_at timestamptz not null default now(),
  constraint job_kinds_kind_shape check (kind ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$'),
  constraint job_kinds_on_event_shape check (on_event ~ '^[a-z_]+\.[a-z_]+$'),
  constraint job_kinds_timeout_positive check (timeout > interval '0'),
  constraint job_kinds_provider_shape check (provider ~ '^[a-z][a-z0-9_-]*$')
);
comment on table ops.job_kinds is 'What kinds of work exist, and the SQL function that hears of their events.';
comment on column ops.job_kinds.on_event is
  'Called as f(job ops.jobs, event text): completed, dead, cancelled, replayed or progressed, in its transaction.';
comment on column ops.job_kinds.timeout is
  'How long after enqueueing a job of this kind may still end well; null: for ever.';
comment on column ops.job_kinds.provider is
  'Whom its jobs depend on, unless a job says otherwise: limits and circuit breakers of a provider go by it.';
alter table ops.job_kinds enable row level security;
revoke all on table ops.job_kinds from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.job_kinds to service_role;

create sequence ops.job_ids;
revoke all on sequence ops.job_ids from public, anon, authenticated, service_role;

-- workspace_id and parent_id have no foreign keys: jobs are machinery, not the tenant's data, and the hot table
-- pays for every index. enqueue_job refuses an unknown workspace or parent. No index covers a column that the way
-- from claim to completion writes.
create table ops.live_jobs (
  id bigint not null default nextval('ops.job_ids'),
  kind text not null,
  queue text not null default 'default',
  workspace_id uuid,
  state text not null default 'queued',
  priority smallint not null default 0,
  run_at timestamptz not null default now(),
  payload jsonb not null default '{}',
  provider text,
  limit_key text,
  ticket integer not null default 0,
  paused boolean not null default false,
  is_heard boolean not null default false,
  attempt integer not null default 0,
  failed_attempts integer not null default 0,
  max_attempts integer not null default 5,
  progress smallint not null default 0,
  stage text,
  checkpoint jsonb not null default '{}',
  output jsonb,
  error text,
  parent_id bigint,
  pending_children integer not null default 0,
  failed_children integer not null default 0,
  max_failed_children integer,
  wait_key text,
  callback jsonb,
  deadline_at timestamptz,
  correlation_id uuid not null
    default coalesce(nullif(current_setting('backlot.correlation_id', true), '')::uuid, gen_random_uuid()),
  created_at timestamptz not null default now(),
  started_at timestamptz,
  claimed_at timestamptz,
  worker text,
  finished_at timestamptz,
  constraint live_jobs_pkey primary key (id),
  constraint live_jobs_state_known check (state in ('scheduled', 'queued', 'waiting', 'paused')),
  constraint live_jobs_not_ended check (finished_at is null),
  constraint live_jobs_attempts_in_range
    check (failed_attempts between 0 and max_attempts and max_attempts between 1 and 100),
  constraint live_jobs_progress_in_range check (progress between 0 and 100),
  constraint live_jobs_children_in_range check (pending_children >= 0 and failed_children >= 0)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.live_jobs is 'Work that has not ended: one row from enqueueing to its end.';
comment on column ops.live_jobs.state is
  'scheduled (until run_at), queued (ready, held back by a limit, or at work), waiting (for a callback, children or a '
  'time) or paused. Who is at work on it is in ops.claims; ops.jobs says running.';
comment on column ops.live_jobs.ticket is
  'Counts how often the job was made ready: only its newest place in line counts.';
comment on column ops.live_jobs.paused is 'Paused by an operator: when it would become ready, it becomes paused.';
comment on column ops.live_jobs.is_heard is 'Somebody hears of its end: its kind''s function or its parent.';
comment on column ops.live_jobs.attempt is
  'Claims that have ended. A worker holds attempt + 1, which fences what a late worker says.';
comment on column ops.live_jobs.failed_attempts is
  'Attempts that failed or lost their lease; at max_attempts the job is dead.';
comment on column ops.live_jobs.max_failed_children is
  'With more failed children than this, its other children are cancelled; null: however many fail, all are tried.';
comment on column ops.live_jobs.correlation_id is
  'What it belongs to: shared with the request or webhook at its root, its parent, its charge; see ops.trace.';
comment on column ops.live_jobs.claimed_at is 'When the last ended attempt began; started_at is of the first.';
comment on column ops.live_jobs.wait_key is 'provider:event_id of the webhook this job waits for.';
comment on column ops.live_jobs.callback is 'The webhook payload that ended the wait; null after a poll.';
comment on column ops.live_jobs.limit_key is 'A free key that limits go by, such as instagram:<account>.';

create index live_jobs_due on ops.live_jobs (run_at) where state in ('scheduled', 'waiting');
create index live_jobs_deadlines on ops.live_jobs (deadline_at) where deadline_at is not null;
create index live_jobs_wait_key on ops.live_jobs (wait_key) where wait_key is not null;
create index live_jobs_parent_id on ops.live_jobs (parent_id) where parent_id is not null;
alter table ops.live_jobs enable row level security;
revoke all on table ops.live_jobs from public, anon, authenticated, service_role;
grant select on table ops.live_jobs to service_role;

create table ops.finished_jobs (
  like ops.live_jobs including comments,
  constraint finished_jobs_pkey primary key (id),
  constraint finished_jobs_state_known check (state in ('completed', 'dead', 'cancelled')),
  constraint finished_jobs_has_time check (finished_at is not null),
  constraint finished_jobs_dead_has_error check (state <> 'dead' or error is not null)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table ops.finished_jobs is 'Work that has ended, with its last attempt, until its retention is over.';
-- Rows come in the order of their time: the index of their blocks is enough, and costs the end of a job nothing.
create index finished_jobs_finished_at on ops.finished_jobs using brin (finished_at) with (pages_per_range = 16);
create index finished_jobs_dead on ops.finished_jobs (finished_at desc) where state = 'dead';
create index finished_jobs_dead_children on ops.finished_jobs (parent_id)
  where state = 'dead' and parent_id is not null;
alter table ops.finished_jobs enable row level security;
revoke all on table ops.finished_jobs from public, anon, authenticated, service_role;
grant select on table ops.finished_jobs to service_role;

-- What a worker has taken at once. slot_jobs and slot_keys are pairs: which jobs count under which limit keys.
create table ops.claims (
  id bigint generated always as identity primary key,
  worker text not null,
  lease interval not null,
  started_at timestamptz not null,
  expires_at timestamptz not null,
  job_ids bigint[] not null,
  slot_jobs bigint[] not null default '{}',
  slot_keys bigint[] not null default '{}',
  is_plain boolean not null default false,
  constraint claims_slots_in_pairs check (cardinality(slot_jobs) = cardinality(slot_keys))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table ops.claims is 'Who is at work on which jobs, and until when the lease runs.';
comment on column ops.claims.worker is
  'Empty: nobody; the jobs'' end was refused by their kind''s function and is tried again when the lease is over.';
comment on column ops.claims.is_plain is 'Nobody hears of the end of any of its jobs, so they may end all at once.';
create index claims_worker on ops.claims (worker);
create index claims_expires_at on ops.claims (expires_at);
alter table ops.claims enable row level security;
revoke all on table ops.claims from public, anon, authenticated, service_role;
grant select on table ops.claims to service_role;

-- All jobs, as operators, kinds' functions and tests see them.
create view ops.jobs with (security_invoker = true) as
select j.id, j.kind, j.queue, j.workspace_id, case when c.id is not null then 'running' else j.state end as state,
  j.priority, j.run_at, j.payload, j.provider, j.limit_key, j.paused,
  j.attempt + case when c.worker <> '' then 1 else 0 end as attempt,
  j.failed_attempts, j.max_attempts, c.worker, c.lease, c.expires_at as lease_expires_at,
  j.progress, j.stage, j.checkpoint, j.output, j.error, j.parent_id, j.pending_children, j.failed_children,
  j.max_failed_children, j.wait_key, j.callback, j.deadline_at, j.correlation_id, j.created_at,
  coalesce(j.started_at, c.started_at) as started_at, coalesce(c.started_at, j.claimed_at) as claimed_at, j.finished_at
from ops.live_jobs j
left join lateral (
  select o.id, o.worker, o.lease, o.started_at, o.expires_at from ops.claims o where j.id = any (o.job_ids) limit 1
) c on true
union all
select f.id, f.kind, f.queue, f.workspace_id, f.state, f.priority, f.run_at, f.payload, f.provider, f.limit_key,
  f.paused, f.attempt, f.failed_attempts, f.max_attempts, f.worker, null::interval, null::timestamptz,
  f.progress, f.stage, f.checkpoint,
  f.output, f.error, f.parent_id, f.pending_children, f.failed_children, f.max_failed_children, f.wait_key,
  f.callback, f.deadline_at, f.correlation_id, f.created_at, f.started_at, f.claimed_at, f.finished_at
from ops.finished_jobs f;
comment on view ops.jobs is 'Every piece of long work, live or ended, with the state that its readers care about.';
comment on column ops.jobs.attempt is 'Number of the current or last attempt.';
revoke all on table ops.jobs from public, anon, authenticated, service_role;
grant select on table ops.jobs to service_role;

-- Keys live apart from the jobs they made: jobs are deleted one day, keys never.
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
  ('wait_key_taken', 'PT409', 'Let one job wait for each event; give this one a key of its own.'),
  ('job_ended', 'PT409', 'The job has ended already; nothing can be added to it.');

-- A kind that gets a function is heard from then on, jobs in line included.
create function ops.job_kind_changed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update ops.live_jobs j set is_heard = new.on_event is not null or j.parent_id is not null where j.kind = new.kind;
  return null;
end $$;
comment on function ops.job_kind_changed() is 'Trigger: notes on live jobs whether their kind has a function.';
revoke all on function ops.job_kind_changed from public, anon, authenticated, service_role;
create trigger job_kind_changed after update of on_event on ops.job_kinds
  for each row when (old.on_event is distinct from new.on_event) execute function ops.job_kind_changed();
