-- What is to be sent: one delivery for an event and an endpoint, one job a delivery (its attempts: next file). Whoever
-- touches deliveries of an endpoint locks the endpoint first, and after the job where there is one: job, endpoint,
-- delivery.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('integrations.deliver_webhook', 'Sends one event to one webhook endpoint, again until it is taken.',
    'ops.on_webhook_delivery', null);

-- One slow receiver must not keep every worker waiting. An ordered endpoint has one job at a time anyway.
insert into ops.limits (scope, subject, max_running, description) values
  ('key', 'webhook_endpoint', 5, 'Events on their way to one webhook endpoint at the same time.');

-- Puts pending deliveries on their way, at most 10,000. Attempts that the receiver fails are put off by the job itself
-- and count no attempt of it: max_attempts bounds only crashes of ours.
create function private.start_webhook_deliveries(endpoint integrations.webhook_endpoints, ids bigint[]) returns void
language sql
set search_path = ''
as $$
  update integrations.webhook_deliveries d set next_attempt_at = private.now(), job_id = q.job_id
  from unnest(ids) with ordinality u (id, n) join ops.enqueue_jobs('integrations.deliver_webhook',
      array(select jsonb_build_object('delivery_id', p.id) from unnest(ids) with ordinality p (id, n) order by p.n),
      endpoint.workspace_id, max_attempts => 20, limit_key => 'webhook_endpoint:' || endpoint.id)
    with ordinality q (job_id, created, n) on q.n = u.n
  where d.id = u.id
$$;
comment on function private.start_webhook_deliveries(integrations.webhook_endpoints, bigint[]) is
  'Enqueues the jobs of an endpoint''s deliveries.';
revoke all on function private.start_webhook_deliveries from public, anon, authenticated, service_role;

-- Pending deliveries without a job get theirs: all of them, or only the earliest where the endpoint is ordered.
-- The caller holds the endpoint's lock.
create function private.dispatch_webhooks(endpoint integrations.webhook_endpoints) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_ids bigint[];
begin
  loop
    v_ids := case
      when endpoint.ordered then array(
        select f.id from (select d.id, d.job_id from integrations.webhook_deliveries d
          where d.endpoint_id = endpoint.id and d.state = 'pending' order by d.outbox_id limit 1) f
        where f.job_id is null)
      else array(
        select d.id from integrations.webhook_deliveries d
        where d.endpoint_id = endpoint.id and d.state = 'pending' and d.job_id is null
        order by d.outbox_id limit 10000) end;
    exit when v_ids = '{}';
    perform private.start_webhook_deliveries(endpoint, v_ids);
  end loop;
end $$;
comment on function private.dispatch_webhooks(integrations.webhook_endpoints) is
  'Enqueues what may go to an endpoint now.';
revoke all on function private.dispatch_webhooks from public, anon, authenticated, service_role;

-- One more event for an endpoint. In order, it waits for an earlier one, which is on its way.
create function private.add_webhook_delivery(endpoint integrations.webhook_endpoints, event ops.outbox) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_delivery integrations.webhook_deliveries;
begin
  insert into integrations.webhook_deliveries (endpoint_id, workspace_id, outbox_id, event_id, event_type, event_at)
  values (endpoint.id, event.workspace_id, event.id, event.event_id, event.type, event.created_at)
  returning * into v_delivery;
  if endpoint.ordered then
    perform private.dispatch_webhooks(endpoint);
  else
    perform private.start_webhook_deliveries(endpoint, array[v_delivery.id]);
  end if;
end $$;
comment on function private.add_webhook_delivery(integrations.webhook_endpoints, ops.outbox) is
  'Stores a delivery and, when nothing holds it back, enqueues its job.';
revoke all on function private.add_webhook_delivery from public, anon, authenticated, service_role;

-- Stores an event and what is to be delivered, once for a key; answers its id, or null when the workspace has
-- no endpoint at all, which is all that this costs most workspaces. Of a disabled endpoint's workspace the
-- event is stored, so that it can be replayed. Ordered endpoints are locked until the transaction ends, so that
-- the order of events is that of commits: call it late, best from a deferred trigger (see 0860).
-- Errors: unknown_event_type.
create function private.emit_event(workspace_id uuid, type text, data jsonb, key text default null) returns uuid
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_event ops.outbox;
  v_endpoint integrations.webhook_endpoints;
begin
  if not exists (select from integrations.webhook_endpoints e where e.workspace_id = emit_event.workspace_id) then
    return null;
  elsif not exists (select from integrations.webhook_event_types t where t.type = emit_event.type) then
    perform private.fail('unknown_event_type', format('There is no event "%s".', emit_event.type),
      jsonb_build_object('event_types', array[emit_event.type]));
  end if;
  perform from integrations.webhook_endpoints e
  where e.workspace_id = emit_event.workspace_id and e.ordered order by e.id for no key update;
  insert into ops.outbox as o (workspace_id, type, payload, key, created_at)
  values (emit_event.workspace_id, emit_event.type, emit_event.data,
    coalesce(emit_event.key, gen_random_uuid()::text), private.now())
  on conflict on constraint outbox_key_key do nothing
  returning o.* into v_event;
  if v_event.id is null then
    return (select o.event_id from ops.outbox o
      where o.workspace_id = emit_event.workspace_id and o.key = emit_event.key);
  end if;
  for v_endpoint in
    select * from integrations.webhook_endpoints e
    where e.workspace_id = emit_event.workspace_id and e.status = 'enabled'
      and (e.event_types = '{}' or emit_event.type = any (e.event_types))
    order by e.id
  loop
    perform private.add_webhook_delivery(v_endpoint, v_event);
  end loop;
  return v_event.event_id;
end $$;
comment on function private.emit_event(uuid, text, jsonb, text) is
  'Tells a workspace''s webhook endpoints what happened, in the transaction in which it happens, once for a key.';
revoke all on function private.emit_event from public, anon, authenticated, service_role;
grant execute on function private.emit_event to service_role;

create function private.cancel_webhook_deliveries(endpoint_id uuid) returns void
language sql
set search_path = ''
as $$
  update integrations.webhook_deliveries d set state = 'cancelled', next_attempt_at = null, job_id = null
  where d.endpoint_id = cancel_webhook_deliveries.endpoint_id and d.state = 'pending'
$$;
comment on function private.cancel_webhook_deliveries(uuid) is 'Cancels what is pending for an endpoint.';
revoke all on function private.cancel_webhook_deliveries from public, anon, authenticated, service_role;

-- Ends an endpoint's work: what is pending is cancelled; a job on its way finds that and ends. Admins are told
-- unless one of them did it. The caller holds the endpoint's lock.
create function private.disable_webhook_endpoint(endpoint integrations.webhook_endpoints, reason text)
returns integrations.webhook_endpoints
language plpgsql
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints;
begin
  update integrations.webhook_endpoints e
  set status = 'disabled', disabled_reason = reason, disabled_at = private.now()
  where e.id = endpoint.id
  returning * into v_endpoint;
  perform private.cancel_webhook_deliveries(endpoint.id);
  if reason <> 'by_admin' then
    perform private.notify_user(m.user_id, m.workspace_id, 'warning', 'A webhook endpoint has been disabled',
      format('%s %s. Enable it again when it works, then replay what it missed.',
        split_part(v_endpoint.url, '?', 1),
        case reason when 'gone' then 'says that it is gone (410)' else 'has done nothing but fail for five days' end),
      '/settings/webhooks/' || v_endpoint.id,
      jsonb_build_object('endpoint_id', v_endpoint.id, 'reason', reason),
      format('webhook_endpoint:%s:%s', v_endpoint.id, extract(epoch from v_endpoint.disabled_at)),
      'integrations.webhook_endpoint_disabled')
    from identity.workspace_members m
    where m.workspace_id = v_endpoint.workspace_id and m.role in ('admin', 'owner') and not m.is_suspended
      and (m.expires_at is null or m.expires_at > private.now());
  end if;
  return v_endpoint;
end $$;
comment on function private.disable_webhook_endpoint(integrations.webhook_endpoints, text) is
  'Disables an endpoint, cancels what is pending for it and tells the workspace''s admins.';
revoke all on function private.disable_webhook_endpoint from public, anon, authenticated, service_role;

-- What is still on its way (a replay of old events) stays until it has ended: an ordered endpoint goes on from there.
create function ops.prune_outbox() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_pruned integer;
begin
  delete from ops.outbox o where o.id in (
    select s.id from ops.outbox s
    where s.created_at < ops._kept_since('outbox') and not exists (select from integrations.webhook_deliveries d
      where d.outbox_id = s.id and d.state = 'pending')
    order by s.created_at limit 5000);
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_outbox() is
  'Sweep: deletes events whose retention is over, with their deliveries; returns how many.';
revoke all on function ops.prune_outbox from public, anon, authenticated, service_role;
grant execute on function ops.prune_outbox to service_role;
insert into ops.sweeps (name, function_name, every) values ('prune outbox', 'ops.prune_outbox', interval '5 minutes');
