-- Everything that came of one cause, in one list.

-- What carries the id is found by its index, what hangs on it by the ids found: as arrays, because for a join the
-- planner may choose to read through whole tables.
create function ops.trace(correlation_id uuid)
returns table (at timestamptz, what text, id text, state text, detail jsonb)
language sql stable
set search_path = ''
as $$
  with known as materialized (
    select array_agg(c.job_id) as ids from ops.job_correlations c where c.correlation_id = trace.correlation_id
  ), held as materialized (
    select c.worker, c.expires_at, c.started_at, u.id as job_id
    from ops.claims c cross join lateral unnest(c.job_ids) as u (id)
    where c.job_ids && (select k.ids from known k)
  ), jobs as materialized (
    select l.id, l.kind, l.parent_id, l.attempt + (h.worker is not null and h.worker <> '')::integer as attempt,
      l.failed_attempts, l.run_at, l.wait_key, l.progress, l.stage, l.finished_at, l.error, l.created_at,
      case when h.job_id is null then l.state else 'running' end as state, l.checkpoint, h.worker,
      h.started_at as claimed_at, h.expires_at
    from known k join ops.live_jobs l on l.id = any (k.ids) left join held h on h.job_id = l.id
    union all
    select f.id, f.kind, f.parent_id, f.attempt, f.failed_attempts, f.run_at, f.wait_key, f.progress, f.stage,
      f.finished_at, f.error, f.created_at, f.state, f.checkpoint, null, null, null
    from known k join ops.finished_jobs f on f.id = any (k.ids)
  ), charges as materialized (
    select u.* from billing.usage_events u where u.correlation_id = trace.correlation_id
  ), payments as materialized (
    select p.* from billing.payments p where p.correlation_id = trace.correlation_id
  ), transactions as materialized (
    select t.* from billing.ledger_transactions t
    where t.correlation_id = trace.correlation_id and t.usage_event_id is null
    union
    select t.* from billing.ledger_transactions t where t.usage_event_id = any (array(select c.id from charges c))
    union
    select t.* from billing.ledger_transactions t where t.payment_id = any (array(select p.id from payments p))
  ), found as (
    select e.created_at as at, 1 as rank, 'webhook_event' as what, e.id::text as id, e.status as state,
      jsonb_build_object('provider', e.provider, 'event_id', e.event_id, 'event_type', e.event_type,
        'processed_at', e.processed_at, 'job_id', e.job_id, 'error', e.error) as detail
    from ops.webhook_events e where e.correlation_id = trace.correlation_id
    union all
    select p.created_at, 2, 'payment', p.id::text, p.status, jsonb_build_object('provider', p.provider,
      'provider_session_id', p.provider_session_id, 'amount_minor', p.amount_minor, 'currency', p.currency,
      'credits_micro', p.credits_micro, 'paid_at', p.paid_at, 'error', p.error)
    from payments p
    union all
    select c.created_at, 2, 'creation', c.id::text, c.status, jsonb_build_object('creation_type', c.creation_type,
      'provider', c.provider, 'provider_request_id', c.provider_request_id, 'completed_at', c.completed_at,
      'cost_micro', c.cost_micro, 'error', c.error_message)
    from studio.creations c where c.usage_event_id = any (array(select u.id from charges u))
    union all
    select u.created_at, 3, 'usage_event', u.id::text, u.status, jsonb_build_object('amount_micro', u.amount_micro,
      'captured_micro', u.captured_micro, 'refunded_micro', u.refunded_micro, 'completed_at', u.completed_at,
      'reason', u.reason)
    from charges u
    union all
    select t.created_at, 4, 'ledger_transaction', t.id::text, t.kind, jsonb_build_object(
      'amount_micro', (select sum(n.amount_micro) from billing.ledger_entries n
        where n.transaction_id = t.id and n.amount_micro > 0),
      'usage_event_id', t.usage_event_id, 'payment_id', t.payment_id, 'reason', t.reason)
    from transactions t
    union all
    select j.created_at, 5, 'job', j.id::text, j.state, jsonb_build_object('kind', j.kind, 'parent_id', j.parent_id,
      'attempt', j.attempt, 'failed_attempts', j.failed_attempts, 'run_at', nullif(j.run_at, 'infinity'),
      'wait_key', j.wait_key, 'progress', j.progress, 'stage', j.stage, 'finished_at', j.finished_at,
      'error', j.error)
    from jobs j
    union all
    select a.started_at, 6, 'attempt', a.job_id || ':' || a.attempt, a.outcome, jsonb_build_object('kind', a.kind,
      'provider', a.provider, 'worker', a.worker, 'ended_at', a.ended_at, 'error', a.error)
    from known k join ops.ended_attempts a on a.job_id = any (k.ids)
    union all
    select coalesce(c.claimed_at, c.created_at), 6, 'attempt', c.id || ':' || c.attempt, 'completed',
      jsonb_build_object('kind', c.kind, 'provider', ops._provider_of(c.provider, c.kind, c.checkpoint, c.payload),
        'worker', c.worker, 'ended_at', c.finished_at)
    from known k join ops.finished_jobs c on c.id = any (k.ids) and c.state = 'completed'
    union all
    select j.claimed_at, 6, 'attempt', j.id || ':' || j.attempt, 'running', jsonb_build_object('kind', j.kind,
      'provider', j.checkpoint ->> 'provider', 'worker', j.worker, 'lease_expires_at', j.expires_at)
    from jobs j where j.state = 'running' and j.worker <> ''
  )
  select f.at, f.what, f.id, f.state, jsonb_strip_nulls(f.detail)
  from found f
  order by f.at, f.rank, length(f.id), f.id
$$;
comment on function ops.trace(uuid) is
  'Webhooks, requests, charges, ledger, jobs and attempts of one correlation, in the order of time.';
revoke all on function ops.trace from public, anon, authenticated, service_role;
grant execute on function ops.trace to service_role;
