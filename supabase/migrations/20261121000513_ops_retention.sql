-- For how long what has ended is kept: rows that an operator may change, and the sweeps that go by them.

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
  ('clock runs', interval '3 days', 'Notes of pg_cron about each of its runs.'),
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
