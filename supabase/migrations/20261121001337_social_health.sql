-- How well the calls for an account go, and what came and went for it today.

-- fault null: the call succeeded. Three failures in a row make an account degraded, ten or a dead token unhealthy.
create function social.note_api_call(account_id uuid, took_ms integer, fault text default null) returns void
language sql security definer
set search_path = ''
as $$
  update social.account_health h
  set last_success_at = case when fault is null then private.now() else h.last_success_at end,
    last_failure_at = case when fault is null then h.last_failure_at else private.now() end,
    consecutive_failures = n.failures, token_valid = n.token_valid,
    health_status = case when not n.token_valid or n.failures >= 10 then 'unhealthy'
      when n.failures >= 3 then 'degraded' else 'healthy' end,
    error_types = case when fault is null then h.error_types else h.error_types
      || jsonb_build_object(fault, coalesce((h.error_types ->> fault)::integer, 0) + 1) end,
    avg_response_time_ms = case when fault is null
      then round(coalesce(h.avg_response_time_ms * 0.9 + took_ms * 0.1, took_ms)) else h.avg_response_time_ms end
  from (select o.account_id, case when fault is null then 0 else o.consecutive_failures + 1 end as failures,
      case when fault is null then true when fault = 'unauthorized' then false else o.token_valid end as token_valid
    from social.account_health o where o.account_id = note_api_call.account_id) n
  where h.account_id = n.account_id
$$;
comment on function social.note_api_call(uuid, integer, text) is 'Keeps how a call for an account went.';
revoke all on function social.note_api_call from public, anon, authenticated, service_role;
grant execute on function social.note_api_call to service_role;

create index messages_failed on social.messages (connected_account_id, created_at) where status = 'failed';

-- Those first that were looked at longest ago.
create function private.refresh_account_health() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_day timestamptz := date_trunc('day', private.now(), 'UTC');
  v_refreshed integer;
begin
  with due as (
    select h.account_id from social.account_health h join integrations.connected_accounts a on a.id = h.account_id
    where a.status <> 'disconnected' order by h.updated_at limit 500 for update of h skip locked
  )
  update social.account_health h
  set counted_on = (private.now() at time zone 'UTC')::date,
    messages_processed_today = (select count(*) from social.messages m
      where m.connected_account_id = h.account_id and m.sent_at >= v_day),
    messages_failed_today = (select count(*) from social.messages m
      where m.connected_account_id = h.account_id and m.status = 'failed' and m.created_at >= v_day),
    webhook_delivery_rate = coalesce((
      select round(100.0 * count(*) filter (where e.status <> 'dead') / nullif(count(*), 0), 2)
      from ops.webhook_events e where e.connected_account_id = h.account_id
        and e.created_at > private.now() - interval '1 day' and e.status <> 'pending'), 100)
  from due where h.account_id = due.account_id;
  get diagnostics v_refreshed = row_count;
  return v_refreshed;
end $$;
comment on function private.refresh_account_health() is
  'Sweep: counts messages of today and webhooks of the last day for the accounts'' health.';
revoke all on function private.refresh_account_health from public, anon, authenticated, service_role;
grant execute on function private.refresh_account_health to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('refresh account health', 'private.refresh_account_health', interval '10 minutes');
