-- The history of work: one row for each attempt that has ended, written by the statement that settles it, many at
-- once. An attempt that is under way is its job's row. Rows are only added, so that a busy queue pays one insert
-- an attempt, and there is no foreign key, because jobs may be put away before their history is.

create table ops.job_attempts (
  job_id bigint not null,
  attempt integer not null,
  kind text not null,
  provider text,
  worker text,
  outcome text not null,
  error text,
  started_at timestamptz not null,
  ended_at timestamptz not null,
  constraint job_attempts_pkey primary key (job_id, attempt),
  constraint job_attempts_outcome_known
    check (outcome in ('completed', 'waiting', 'queued', 'retrying', 'dead', 'cancelled')),
  constraint job_attempts_failed_has_error check (outcome not in ('retrying', 'dead') or error is not null)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table ops.job_attempts is 'Every attempt that has ended: which worker, how long, what it came to.';
comment on column ops.job_attempts.provider is
  'Whom the work depended on: from the job''s checkpoint or payload, or from its kind (webhook.<provider>).';
comment on column ops.job_attempts.outcome is
  'completed, waiting, queued (goes on at once), retrying, dead or cancelled, as complete_jobs answers.';
create index job_attempts_ended_at on ops.job_attempts (ended_at);
create index job_attempts_failed on ops.job_attempts (ended_at) where outcome in ('retrying', 'dead');
create trigger job_attempts_immutable before update on ops.job_attempts
  for each row execute function private.forbid_change();
alter table ops.job_attempts enable row level security;
revoke all on table ops.job_attempts from public, anon, authenticated, service_role;
grant select on table ops.job_attempts to service_role;

-- The history's row for an attempt that ends now; job is as it was before.
create function ops._ended_attempt(job ops.jobs, outcome text, error text) returns ops.job_attempts
language plpgsql stable
set search_path = ''
as $$
begin
  return row(job.id, job.attempt, job.kind,
    coalesce(job.checkpoint ->> 'provider', job.payload ->> 'provider', substring(job.kind from '^webhook\.(.+)')),
    job.worker, outcome, left(error, 2000), coalesce(job.claimed_at, job.started_at, private.now()),
    private.now())::ops.job_attempts;
end $$;
comment on function ops._ended_attempt(ops.jobs, text, text) is 'The history''s row for an attempt that ends now.';
revoke all on function ops._ended_attempt from public, anon, authenticated, service_role;

-- Sweep: the history is kept for 90 days.
create function ops.prune_job_attempts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_pruned integer;
begin
  delete from ops.job_attempts a using (
    select o.job_id, o.attempt from ops.job_attempts o
    where o.ended_at < private.now() - interval '90 days' order by o.ended_at limit 5000
  ) old
  where a.job_id = old.job_id and a.attempt = old.attempt;
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_job_attempts() is 'Sweep: deletes attempts that ended 90 days ago; returns how many.';
revoke all on function ops.prune_job_attempts from public, anon, authenticated, service_role;
grant execute on function ops.prune_job_attempts to service_role;

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
  insert into ops.job_correlations (correlation_id, job_id) select n.correlation_id, n.id from new_jobs n;
  return null;
end $$;
comment on function ops.note_job_correlations() is 'Trigger: notes the correlation of new jobs.';
revoke all on function ops.note_job_correlations from public, anon, authenticated, service_role;
create trigger jobs_note_correlations after insert on ops.jobs
  referencing new table as new_jobs for each statement execute function ops.note_job_correlations();
