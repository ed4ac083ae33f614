-- What admins have sent to an endpoint: an event to try it with, and events of the past again.

insert into private.error_codes (name, sqlstate, hint) values
  ('endpoint_disabled', 'PT409', 'Enable the endpoint with integrations.update_webhook_endpoint first.'),
  ('replay_too_large', 'PT422', 'Replay a shorter time.');

create function private.send_test_event(id uuid) returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
  v_event ops.outbox;
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  if v_endpoint.status = 'disabled' then
    perform private.fail('endpoint_disabled', 'The endpoint is disabled.',
      jsonb_build_object('endpoint_id', v_endpoint.id, 'reason', v_endpoint.disabled_reason));
  end if;
  insert into ops.outbox (workspace_id, type, payload, created_at)
  values (v_endpoint.workspace_id, 'webhook.test', jsonb_build_object('endpoint_id', v_endpoint.id), private.now())
  returning * into v_event;
  perform private.add_webhook_delivery(v_endpoint, v_event);
  return v_event.event_id;
end $$;
comment on function private.send_test_event(uuid) is 'Core of integrations.send_test_event.';
revoke all on function private.send_test_event from public, anon, authenticated, service_role;
grant execute on function private.send_test_event to authenticated, service_role;

create function integrations.send_test_event(id uuid) returns uuid
language sql
set search_path = ''
as $$ select private.send_test_event(send_test_event.id) $$;
comment on function integrations.send_test_event(uuid) is
  'An admin sends the event webhook.test to an endpoint, whatever types it asked for; answers the event''s id.';
revoke all on function integrations.send_test_event from public, anon, authenticated, service_role;
grant execute on function integrations.send_test_event to authenticated, service_role;

-- Events keep their ids, so that a receiver that had one knows it again. What is pending stays as it is.
create function private.replay_webhook_events(id uuid, from_at timestamptz, until_at timestamptz, delivered boolean)
returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
  v_events bigint[];
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  if v_endpoint.status = 'disabled' then
    perform private.fail('endpoint_disabled', 'The endpoint is disabled.',
      jsonb_build_object('endpoint_id', v_endpoint.id, 'reason', v_endpoint.disabled_reason));
  elsif from_at is null or until_at <= from_at then
    perform private.fail('invalid_argument', 'from_at must be given and lie before until_at.',
      '{"argument": "from_at"}');
  end if;
  v_events := array(
    select o.id from ops.outbox o
    left join integrations.webhook_deliveries d on d.endpoint_id = v_endpoint.id and d.outbox_id = o.id
    where o.workspace_id = v_endpoint.workspace_id and o.created_at >= from_at
      and (until_at is null or o.created_at < until_at)
      and (o.type = any (v_endpoint.event_types) or v_endpoint.event_types = '{}') and o.type <> 'webhook.test'
      and (d.id is null or d.state in ('failed', 'cancelled')
        or (replay_webhook_events.delivered and d.state = 'delivered'))
    order by o.id limit 10001);
  if cardinality(v_events) > 10000 then
    perform private.fail('replay_too_large', 'More than 10,000 events lie in this time.',
      jsonb_build_object('from_at', from_at, 'until_at', until_at));
  end if;
  insert into integrations.webhook_deliveries
    (endpoint_id, workspace_id, outbox_id, event_id, event_type, event_at)
  select v_endpoint.id, o.workspace_id, o.id, o.event_id, o.type, o.created_at
  from ops.outbox o where o.id = any (v_events) order by o.id
  on conflict on constraint webhook_deliveries_once do update
  set state = 'pending', round_attempts = 0, delivered_at = null;
  perform private.dispatch_webhooks(v_endpoint);
  return cardinality(v_events);
end $$;
comment on function private.replay_webhook_events(uuid, timestamptz, timestamptz, boolean) is
  'Core of integrations.replay_webhook_events.';
revoke all on function private.replay_webhook_events from public, anon, authenticated, service_role;
grant execute on function private.replay_webhook_events to authenticated, service_role;

create function integrations.replay_webhook_events(id uuid, from_at timestamptz, until_at timestamptz default null,
  delivered boolean default false) returns integer
language sql
set search_path = ''
as $$
  select private.replay_webhook_events(replay_webhook_events.id, replay_webhook_events.from_at,
    replay_webhook_events.until_at, replay_webhook_events.delivered)
$$;
comment on function integrations.replay_webhook_events(uuid, timestamptz, timestamptz, boolean) is
  'An admin sends the events of a time again, those not delivered or also the delivered; answers how many.';
revoke all on function integrations.replay_webhook_events from public, anon, authenticated, service_role;
grant execute on function integrations.replay_webhook_events to authenticated, service_role;
