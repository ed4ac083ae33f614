-- Stripe counts meter events some time after it has taken them, and tells by an event of its own which it could not
-- count. That event is thin: a job asks for the rest, and what it names becomes refused.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.meter_errors', 'Asks Stripe which meter events it could not count.', null, interval '2 days');

create function billing._apply_meter_error_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  perform ops.enqueue_job('billing.meter_errors', jsonb_build_object('event_id', event.event_id),
    max_attempts => 20, key => 'meter-errors:' || event.event_id);
  return true;
end $$;
comment on function billing._apply_meter_error_event(ops.webhook_events) is
  'Has the details of a report of meter errors fetched.';
revoke all on function billing._apply_meter_error_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name) values
  ('v1.billing.meter.error_report_triggered', 'billing._apply_meter_error_event'),
  ('v1.billing.meter.no_meter_found', 'billing._apply_meter_error_event');

-- Notes a report of meter errors, once for its event: the reports it names are refused, and the audit log holds how
-- many there were, since Stripe names samples only. errors: [{identifier, message}]. Returns how many it refused.
create function billing.note_meter_errors(event_id text, summary text, error_count bigint, errors jsonb)
returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_refused integer;
begin
  insert into ops.audit_log (event_id, action, resource, status, error_message, risk_level, metadata)
  values ('meter_errors:' || note_meter_errors.event_id, 'billing.meter.error', 'billing.meter_reports', 'failure',
    left(summary, 1000), 'critical', jsonb_build_object('error_count', error_count, 'errors', errors))
  on conflict on constraint audit_log_event_id_key do nothing;
  if not found then
    return 0;
  end if;
  update billing.meter_reports m set status = 'refused', sent_at = null, error = left(e.message, 1000)
  from (select distinct on (private.try_uuid(s ->> 'identifier')) private.try_uuid(s ->> 'identifier') as id,
      s ->> 'message' as message
    from jsonb_array_elements(errors) s) e
  where m.id = e.id and m.status in ('pending', 'sent', 'uncertain');
  get diagnostics v_refused = row_count;
  return v_refused;
end $$;
comment on function billing.note_meter_errors is
  'Notes which meter events the provider could not count; returns how many reports are refused for it.';
revoke all on function billing.note_meter_errors from public, anon, authenticated, service_role;
grant execute on function billing.note_meter_errors to service_role;
