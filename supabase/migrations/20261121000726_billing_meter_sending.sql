-- How usage gets to Stripe's billing meters: a sweep writes down what is to be reported, a job sends it.

-- What is to be reported of one hour: its sum, less what has been written down of it before.
create function billing._meter_difference(workspace_id uuid, meter billing.reported_meters, starts_at timestamptz)
returns bigint
language sql stable
set search_path = ''
as $$
  select (
    select coalesce(round(sum(case meter.measure when 'cost' then r.captured_micro - r.refunded_micro
      else (r.quantity - r.refunded_quantity) * meter.scale end)), 0)
    from billing.usage_rollups r
    where r.workspace_id = _meter_difference.workspace_id and r.grain = 'hour'
      and r.starts_at = _meter_difference.starts_at and r.meter_id = meter.meter_id
  )::bigint - (
    select coalesce(sum(m.value), 0) from billing.meter_reports m
    where m.workspace_id = _meter_difference.workspace_id and m.meter_id = meter.meter_id
      and m.starts_at = _meter_difference.starts_at
  )::bigint
$$;
comment on function billing._meter_difference is 'What the provider has not been told of an hour''s usage.';
revoke all on function billing._meter_difference from public, anon, authenticated, service_role;

-- Sweep: writes down what is to be reported of hours that ended five minutes ago or earlier, up to 2,000 hours, and
-- sees to it that each workspace with reports has a job. Under the lock of the sums, which so stand still.
create function billing.plan_meter_reports() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_made integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('billing.usage_rollups', 0)) then
    return 0;
  end if;
  with due as (
    select d.workspace_id, d.meter_id, d.starts_at, r.provider_customer_id
    from billing.due_meter_reports d
    join billing.meter_reporting r on r.workspace_id = d.workspace_id and r.is_active
    where d.starts_at <= private.now() - interval '65 minutes'
    order by d.starts_at, d.workspace_id, d.meter_id limit 2000
  ), taken as (
    delete from billing.due_meter_reports d using due
    where d.workspace_id = due.workspace_id and d.meter_id = due.meter_id and d.starts_at = due.starts_at
  )
  insert into billing.meter_reports (workspace_id, meter_id, starts_at, event_name, provider_customer_id, value, status,
    error)
  select due.workspace_id, due.meter_id, due.starts_at, m.event_name, due.provider_customer_id, v.value,
    case when v.too_old then 'skipped' else 'pending' end,
    case when v.too_old then 'the provider takes no usage of more than 35 days ago' end
  from due
  join billing.reported_meters m on m.meter_id = due.meter_id
  cross join lateral (
    select billing._meter_difference(due.workspace_id, m, due.starts_at) as value,
      due.starts_at < private.now() - interval '34 days 12 hours' as too_old
  ) v
  where v.value <> 0;
  get diagnostics v_made = row_count;
  update billing.meter_reporting r
  set job_id = (select j.job_id from ops.enqueue_job('billing.report_usage',
    jsonb_build_object('workspace_id', r.workspace_id), r.workspace_id, max_attempts => 20) j)
  where r.is_active
    and exists (select from billing.meter_reports p where p.workspace_id = r.workspace_id and p.status = 'pending')
    and not exists (select from ops.jobs j where j.id = r.job_id
      and j.state in ('queued', 'scheduled', 'running', 'waiting'));
  return v_made;
end $$;
comment on function billing.plan_meter_reports() is
  'Sweep: writes down what is to be reported to the provider''s meters; returns how many reports.';
revoke all on function billing.plan_meter_reports from public, anon, authenticated, service_role;
grant execute on function billing.plan_meter_reports to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('plan meter reports', 'billing.plan_meter_reports', interval '5 minutes');

-- The next reports to send, oldest first. One that has become too old is skipped; one that was sent 23 hours ago
-- without an answer is left to a person, because the provider may have forgotten its identifier.
create function billing.take_meter_reports(workspace_id uuid, most integer default 100)
returns table (report_id uuid, event_name text, provider_customer_id text, value bigint, starts_at timestamptz)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
  update billing.meter_reports m
  set status = case when m.tried_at <= private.now() - interval '23 hours' then 'uncertain' else 'skipped' end,
    error = case when m.tried_at <= private.now() - interval '23 hours' then 'no answer came within a day'
      else 'the provider takes no usage of more than 35 days ago' end
  where m.workspace_id = take_meter_reports.workspace_id and m.status = 'pending'
    and (m.tried_at <= private.now() - interval '23 hours'
      or m.starts_at < private.now() - interval '34 days 12 hours');
  return query
  with taken as (
    update billing.meter_reports m
    set attempts = m.attempts + 1, tried_at = coalesce(m.tried_at, private.now())
    where m.id in (
      select p.id from billing.meter_reports p
      where p.workspace_id = take_meter_reports.workspace_id and p.status = 'pending'
        and exists (select from billing.meter_reporting r where r.workspace_id = p.workspace_id and r.is_active)
      order by p.created_at, p.starts_at, p.id limit most)
    returning m.*
  )
  select t.id, t.event_name, t.provider_customer_id, t.value, t.starts_at
  from taken t order by t.created_at, t.starts_at, t.id;
end $$;
comment on function billing.take_meter_reports is 'The next reports of a workspace''s usage to send to the provider.';
revoke all on function billing.take_meter_reports from public, anon, authenticated, service_role;
grant execute on function billing.take_meter_reports to service_role;

-- What became of reports: [{id, outcome, error}]; outcome is sent, refused (it will never be taken), held_back (it
-- was certainly not taken, try again) or lost (no answer: try again with the same identifier).
create function billing.settle_meter_reports(results jsonb) returns integer
language sql security definer
set search_path = ''
as $$
  with settled as (
    update billing.meter_reports m
    set status = case r.outcome when 'sent' then 'sent' when 'refused' then 'refused' else m.status end,
      sent_at = case when r.outcome = 'sent' then private.now() end, error = left(r.error, 1000),
      attempts = m.attempts - case when r.outcome = 'held_back' then 1 else 0 end,
      tried_at = case when r.outcome = 'held_back' and m.attempts = 1 then null else m.tried_at end
    from jsonb_to_recordset(results) as r (id uuid, outcome text, error text)
    where m.id = r.id and m.status = 'pending' and m.attempts > 0
    returning 1
  )
  select count(*)::integer from settled
$$;
comment on function billing.settle_meter_reports(jsonb) is 'Notes what became of reports; returns how many it knew.';
revoke all on function billing.settle_meter_reports from public, anon, authenticated, service_role;
grant execute on function billing.settle_meter_reports to service_role;

-- An operator's word on a report that was refused or is uncertain, after a look at the provider: it counts there, or
-- it is to be sent again, with a new identifier, because Stripe may know the old one and count nothing by it.
-- Error: unknown_meter_report.
create function billing.decide_meter_report(report_id uuid, counted boolean) returns billing.meter_reports
language plpgsql security definer
set search_path = ''
as $$
declare
  v_report billing.meter_reports;
begin
  update billing.meter_reports m
  set id = case when counted then m.id else gen_random_uuid() end,
    status = case when counted then 'sent' else 'pending' end,
    sent_at = case when counted then private.now() end, error = null,
    attempts = case when counted then m.attempts else 0 end, tried_at = case when counted then m.tried_at end
  where m.id = report_id and m.status in ('refused', 'uncertain')
  returning * into v_report;
  if not found then
    perform private.fail('unknown_meter_report', 'There is no such report to decide on.',
      jsonb_build_object('report_id', report_id));
  end if;
  return v_report;
end $$;
comment on function billing.decide_meter_report is 'Ends the doubt about a report: it was counted, or is sent again.';
revoke all on function billing.decide_meter_report from public, anon, authenticated, service_role;
grant execute on function billing.decide_meter_report to service_role;
