-- What operators and domains do with work that runs: pause and resume it, retry what failed, replay by filter, and
-- how long what has ended is kept.

insert into private.error_codes (name, sqlstate, hint) values
  ('job_not_paused', 'PT409', 'Only a paused job can be resumed.');

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

-- Replays dead jobs, newest first, at most so many; null arguments do not narrow. Each is replayed by itself: one
-- whose kind refuses stays dead and is told of. Returns a row for each job: queued, or the refusal.
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
  from ops.replay_jobs(parent_id => retry_failed_children.parent_id, max => 10000) r where r.state = 'queued';
  return v_retried;
end $$;
comment on function ops.retry_failed_children(bigint) is 'Replays the dead children of a job; returns how many go on.';
revoke all on function ops.retry_failed_children from public, anon, authenticated, service_role;
grant execute on function ops.retry_failed_children to service_role;

create table ops.retention (
  what text primary key,
  keep interval not null,
  description text not null,
  updated_at timestamptz not null default now(),
  constraint retention_keep_at_least_a_day check (keep >= interval '1 day')
);
comment on table ops.retention is 'For how long what has ended is kept; an operator''s setting.';
create trigger retention_touch before update on ops.retention for each row execute function private.touch_updated_at();
alter table ops.retention enable row level security;
revoke all on table ops.retention from public, anon, authenticated, service_role;
grant select, update on table ops.retention to service_role;
insert into ops.retention (what, keep, description) values
  ('jobs', interval '30 days', 'Jobs that were completed or cancelled.'),
  ('dead jobs', interval '180 days', 'Jobs that died and may be replayed.'),
  ('logs', interval '30 days', 'Requests and errors.'),
  ('outbox', interval '30 days', 'Events that were handed on.'),
  ('refreshes', interval '90 days', 'Refreshes of materialized views.'),
  ('attempts', interval '90 days', 'Attempts that did not complete their job.'),
  ('webhooks', interval '180 days',
    'Webhooks that were processed or ignored; their ids keep them from being taken twice.'),
  ('dead webhooks', interval '365 days', 'Webhooks whose job died.');

create function ops._kept_since(what text) returns timestamptz
language sql stable
set search_path = ''
as $$ select private.now() - r.keep from ops.retention r where r.what = _kept_since.what $$;
comment on function ops._kept_since(text) is 'What ended before is no longer kept.';
revoke all on function ops._kept_since from public, anon, authenticated, service_role;
grant execute on function ops._kept_since to service_role;

-- A finished job with children that are at work stays until they have ended.
create function ops.prune_finished_jobs() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ended timestamptz := ops._kept_since('jobs');
  v_died timestamptz := ops._kept_since('dead jobs');
  v_pruned integer;
  v_dead integer;
begin
  delete from ops.finished_jobs f using (
    select o.id from ops.finished_jobs o
    where o.finished_at < v_ended and o.state <> 'dead' and o.pending_children = 0
    order by o.finished_at limit 10000
  ) old where f.id = old.id;
  get diagnostics v_pruned = row_count;
  delete from ops.finished_jobs f using (
    select o.id from ops.finished_jobs o where o.state = 'dead' and o.finished_at < v_died
    order by o.finished_at limit 1000
  ) old where f.id = old.id;
  get diagnostics v_dead = row_count;
  return v_pruned + v_dead;
end $$;
comment on function ops.prune_finished_jobs() is 'Sweep: deletes jobs whose retention is over; returns how many.';
revoke all on function ops.prune_finished_jobs from public, anon, authenticated, service_role;
grant execute on function ops.prune_finished_jobs to service_role;

create function ops.prune_job_attempts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_pruned integer;
begin
  delete from ops.ended_attempts a using (
    select o.job_id, o.attempt from ops.ended_attempts o
    where o.ended_at < ops._kept_since('attempts') order by o.ended_at limit 5000
  ) old
  where a.job_id = old.job_id and a.attempt = old.attempt;
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_job_attempts() is 'Sweep: deletes attempts whose retention is over; returns how many.';
revoke all on function ops.prune_job_attempts from public, anon, authenticated, service_role;
grant execute on function ops.prune_job_attempts to service_role;
