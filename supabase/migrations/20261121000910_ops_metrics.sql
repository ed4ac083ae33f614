-- Figures of the queue for operators and for GET /worker/metrics. Each view reads what is open or recent by a
-- partial index or by time; none reads through jobs that have ended.

create view ops.queue_depth with (security_invoker = true) as
with at_work as materialized (
  select u.id as job_id, c.started_at from ops.claims c cross join lateral unnest(c.job_ids) as u (id)
  where c.worker <> ''
), held_back as materialized (
  select h.job_id from ops.held_back h
)
select d.queue, d.kind, d.state, count(*) as jobs, min(d.since) as oldest_at
from (
  select j.queue, j.kind, case when w.job_id is not null then 'running' when h.job_id is not null then 'held_back'
      else j.state end as state,
    case when w.job_id is not null then w.started_at else nullif(j.run_at, 'infinity') end as since
  from ops.live_jobs j left join at_work w on w.job_id = j.id left join held_back h on h.job_id = j.id
  union all
  select f.queue, f.kind, f.state, f.finished_at from ops.finished_jobs f where f.state = 'dead'
) d
group by d.queue, d.kind, d.state;
comment on view ops.queue_depth is
  'Live and dead jobs by queue, kind and state (held_back: ready, but for a limit), and since when the oldest is so, or
  is next due.';
revoke all on table ops.queue_depth from public, anon, authenticated, service_role;
grant select on table ops.queue_depth to service_role;

create view ops.throughput with (security_invoker = true) as
select date_trunc('minute', a.ended_at) as minute_at, a.kind,
  count(*) filter (where a.outcome = 'completed') as completed,
  count(*) filter (where a.outcome in ('retrying', 'dead')) as failed,
  count(*) filter (where a.outcome in ('waiting', 'queued')) as parked,
  avg(extract(epoch from a.ended_at - a.started_at))::double precision as mean_seconds
from ops.job_attempts a
where a.ended_at > private.now() - interval '1 hour'
group by 1, 2;
comment on view ops.throughput is 'Attempts that ended in each minute of the last hour, by kind.';
revoke all on table ops.throughput from public, anon, authenticated, service_role;
grant select on table ops.throughput to service_role;

-- Errors of ours begin with their code; what has none is one of others.
create view ops.failures with (security_invoker = true) as
select a.kind, a.provider, coalesce(substring(a.error from '^([a-z][a-z0-9_]*): '), 'unnamed') as code,
  count(*) filter (where a.outcome = 'retrying') as retried, count(*) filter (where a.outcome = 'dead') as dead,
  max(a.ended_at) as last_at, (array_agg(a.error order by a.ended_at desc))[1] as last_error
from ops.job_attempts a
where a.outcome in ('retrying', 'dead') and a.ended_at > private.now() - interval '1 hour'
group by 1, 2, 3;
comment on view ops.failures is 'Failed attempts of the last hour by kind, provider and error.';
revoke all on table ops.failures from public, anon, authenticated, service_role;
grant select on table ops.failures to service_role;

-- One row a sample, as a scraper wants them; the worker knows their help texts.
create view ops.metrics with (security_invoker = true) as
with depth as materialized (select * from ops.queue_depth),
recent as materialized (
  select a.kind, a.outcome, count(*) as attempts, avg(extract(epoch from a.ended_at - a.started_at)) as mean_seconds
  from ops.job_attempts a
  where a.ended_at > private.now() - interval '5 minutes'
  group by 1, 2
), inbox as materialized (
  select e.provider, count(*) as events, min(e.created_at) as oldest_at
  from ops.webhook_events e where e.status = 'pending'
  group by 1
)
select m.name, m.labels, m.value::double precision as value
from (
  select 'backlot_queue_jobs' as name, jsonb_build_object('queue', d.queue, 'kind', d.kind, 'state', d.state) as labels,
    d.jobs::numeric as value
  from depth d
  union all
  select 'backlot_queue_oldest_ready_seconds', jsonb_build_object('queue', d.queue, 'kind', d.kind),
    greatest(0, extract(epoch from private.now() - d.oldest_at))
  from depth d where d.state = 'queued'
  union all
  select 'backlot_attempts_per_minute', jsonb_build_object('kind', r.kind, 'outcome', r.outcome), r.attempts / 5.0
  from recent r
  union all
  select 'backlot_attempt_mean_seconds', jsonb_build_object('kind', r.kind, 'outcome', r.outcome), r.mean_seconds
  from recent r
  union all
  select 'backlot_failures_last_hour',
    jsonb_build_object('kind', f.kind, 'provider', coalesce(f.provider, ''), 'code', f.code), f.retried + f.dead
  from ops.failures f
  union all
  select 'backlot_workers_alive', '{}', count(*) from ops.workers w where w.expires_at > private.now()
  union all
  select 'backlot_webhooks_pending', jsonb_build_object('provider', i.provider), i.events from inbox i
  union all
  select 'backlot_webhooks_oldest_pending_seconds', jsonb_build_object('provider', i.provider),
    greatest(0, extract(epoch from private.now() - i.oldest_at))
  from inbox i
  union all
  select 'backlot_schedules_failing', '{}', count(*) from ops.schedules s
  where s.is_enabled and s.last_error is not null
  union all
  select 'backlot_schedules_late_seconds', '{}',
    coalesce(greatest(0, max(extract(epoch from private.now() - s.next_run_at))), 0)
  from ops.schedules s where s.is_enabled
  union all
  select 'backlot_sweeps_failing', '{}', count(*) from ops.sweeps s where s.last_error is not null
  union all
  select 'backlot_circuits_open', '{}', count(*) from ops.circuit_breakers b where b.state <> 'closed'
  union all
  select 'backlot_meters_below_cost', '{}', count(*) from billing.meter_losses l
  where l.day = (private.now() at time zone 'UTC')::date - 1
) m;
comment on view ops.metrics is 'Samples of all figures that GET /worker/metrics answers.';
revoke all on table ops.metrics from public, anon, authenticated, service_role;
grant select on table ops.metrics to service_role;
