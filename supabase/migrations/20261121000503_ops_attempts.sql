-- The history of work: one row for each attempt. An attempt that completed its job is told by the finished job
-- itself, so that the usual way costs nothing here; every other one that ended is a row of ops.ended_attempts; one
-- that is under way is its job's. There is no foreign key, because jobs may be deleted before their history is.

create table ops.ended_attempts (
  job_id bigint not null,
  attempt integer not null,
  kind text not null,
  provider text,
  worker text,
  outcome text not null,
  error text,
  started_at timestamptz not null,
  ended_at timestamptz not null,
  constraint ended_attempts_pkey primary key (job_id, attempt),
  constraint ended_attempts_outcome_known
    check (outcome in ('waiting', 'queued', 'paused', 'busy', 'retrying', 'dead', 'cancelled')),
  constraint ended_attempts_failed_has_error check (outcome not in ('retrying', 'dead') or error is not null)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table ops.ended_attempts is
  'Attempts that ended otherwise than by completing their job; see ops.job_attempts.';
comment on column ops.ended_attempts.provider is
  'Whom the work depended on: from the job, its checkpoint or payload, or its kind (webhook.<provider>).';
comment on column ops.ended_attempts.outcome is
  'waiting, queued (goes on at once), paused, busy (a provider asked to wait), retrying, dead or cancelled.';
create index ended_attempts_ended_at on ops.ended_attempts (ended_at);
create index ended_attempts_failed on ops.ended_attempts (ended_at) where outcome in ('retrying', 'dead');
create trigger ended_attempts_immutable before update on ops.ended_attempts
  for each row execute function private.forbid_change();
alter table ops.ended_attempts enable row level security;
revoke all on table ops.ended_attempts from public, anon, authenticated, service_role;
grant select on table ops.ended_attempts to service_role;

create function ops._provider_of(provider text, kind text, checkpoint jsonb, payload jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(provider, checkpoint ->> 'provider', payload ->> 'provider', substring(kind from '^webhook\.(.+)'))
$$;
comment on function ops._provider_of(text, text, jsonb, jsonb) is 'Whom an attempt depended on; null: nobody known.';
revoke all on function ops._provider_of from public, anon, authenticated, service_role;
grant execute on function ops._provider_of to service_role;

create view ops.job_attempts with (security_invoker = true) as
select a.job_id, a.attempt, a.kind, a.provider, a.worker, a.outcome, a.error, a.started_at, a.ended_at
from ops.ended_attempts a
union all
select f.id, f.attempt, f.kind, ops._provider_of(f.provider, f.kind, f.checkpoint, f.payload), f.worker, 'completed',
  null, coalesce(f.claimed_at, f.created_at), f.finished_at
from ops.finished_jobs f where f.state = 'completed';
comment on view ops.job_attempts is 'Every attempt that has ended: which worker, how long, what it came to.';
revoke all on table ops.job_attempts from public, anon, authenticated, service_role;
grant select on table ops.job_attempts to service_role;

-- Notes an attempt that ended without completing its job. job is as the attempt left it: its attempt, worker and
-- claimed_at are those of the attempt.
create function ops._note_attempt(job ops.live_jobs, outcome text, error text) returns void
language sql
set search_path = ''
as $$
  insert into ops.ended_attempts (job_id, attempt, kind, provider, worker, outcome, error, started_at, ended_at)
  values (job.id, job.attempt, job.kind, ops._provider_of(job.provider, job.kind, job.checkpoint, job.payload),
    job.worker, outcome, left(error, 2000), coalesce(job.claimed_at, job.started_at, private.now()), private.now())
$$;
comment on function ops._note_attempt(ops.live_jobs, text, text) is
  'Writes the history''s row of an attempt that ends now.';
revoke all on function ops._note_attempt from public, anon, authenticated, service_role;

-- Which jobs belong to a correlation. Apart from the jobs, because an index there would cost every claim and every
-- end (a tenth of their throughput), and here a job costs one insert; and for ever, like the keys of jobs.
create table ops.job_correlations (
  correlation_id uuid not null,
  job_id bigint not null,
  constraint job_correlations_pkey primary key (correlation_id, job_id)
);
comment on table ops.job_correlations is 'Which jobs belong to a correlation, kept when the jobs are put away.';
alter table ops.job_correlations enable row level security;
revoke all on table ops.job_correlations from public, anon, authenticated, service_role;
grant select on table ops.job_correlations to service_role;

create function ops.note_job_correlations() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- a job that is replayed comes back with the correlation it had
  insert into ops.job_correlations (correlation_id, job_id) select n.correlation_id, n.id from new_jobs n
  on conflict do nothing;
  return null;
end $$;
comment on function ops.note_job_correlations() is 'Trigger: notes the correlation of new jobs.';
revoke all on function ops.note_job_correlations from public, anon, authenticated, service_role;
create trigger live_jobs_note_correlations after insert on ops.live_jobs
  referencing new table as new_jobs for each statement execute function ops.note_job_correlations();
