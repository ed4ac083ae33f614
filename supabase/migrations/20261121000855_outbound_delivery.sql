-- The sending of webhooks: one job a delivery. Whoever touches deliveries of an endpoint locks the endpoint
-- first, and after the job where there is one: job, endpoint, delivery.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('integrations.deliver_webhook', 'Sends one event to one webhook endpoint, again until it is taken.',
    'ops.on_webhook_delivery', null);

-- One slow receiver must not keep every worker waiting. An ordered endpoint has one job at a time anyway.
insert into ops.limits (scope, subject, max_running, description) values
  ('key', 'webhook_endpoint', 5, 'Events on their way to one webhook endpoint at the same time.');

-- Puts a pending delivery on its way. Attempts that the receiver fails are put off by the job itself and count
-- no attempt of it: max_attempts bounds only crashes of ours.
create function private.start_webhook_delivery(delivery integrations.webhook_deliveries) returns void
language sql
set search_path = ''
as $$
  update integrations.webhook_deliveries d
  set next_attempt_at = private.now(), job_id = (select j.job_id
    from ops.enqueue_job('integrations.deliver_webhook', jsonb_build_object('delivery_id', delivery.id),
      delivery.workspace_id, max_attempts => 20, limit_key => 'webhook_endpoint:' || delivery.endpoint_id) j)
  where d.id = delivery.id
$$;
comment on function private.start_webhook_delivery(integrations.webhook_deliveries) is
  'Enqueues the job of a delivery.';
revoke all on function private.start_webhook_delivery from public, anon, authenticated, service_role;

-- Pending deliveries without a job get theirs: all of them, or only the earliest where the endpoint is ordered.
-- The caller holds the endpoint's lock.
create function private.dispatch_webhooks(endpoint integrations.webhook_endpoints) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_delivery integrations.webhook_deliveries;
begin
  for v_delivery in
    select * from integrations.webhook_deliveries d
    where d.endpoint_id = endpoint.id and d.state = 'pending' order by d.outbox_id
    limit case when endpoint.ordered then 1 end
  loop
    if v_delivery.job_id is null then
      perform private.start_webhook_delivery(v_delivery);
    end if;
  end loop;
end $$;
comment on function private.dispatch_webhooks(integrations.webhook_endpoints) is
  'Enqueues what may go to an endpoint now.';
revoke all on function private.dispatch_webhooks from public, anon, authenticated, service_role;

-- One more event for an endpoint. In order, it waits while an earlier one is on its way.
create function private.add_webhook_delivery(endpoint integrations.webhook_endpoints, event ops.outbox) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_delivery integrations.webhook_deliveries;
  v_free boolean := not endpoint.ordered or not exists (select from integrations.webhook_deliveries d
    where d.endpoint_id = endpoint.id and d.state = 'pending');
begin
  insert into integrations.webhook_deliveries (endpoint_id, workspace_id, outbox_id, event_id, event_type, event_at)
  values (endpoint.id, event.workspace_id, event.id, event.event_id, event.type, event.created_at)
  returning * into v_delivery;
  if v_free then
    perform private.start_webhook_delivery(v_delivery);
  end if;
end $$;
comment on function private.add_webhook_delivery(integrations.webhook_endpoints, ops.outbox) is
  'Stores a delivery and, when nothing holds it back, enqueues its job.';
revoke all on function private.add_webhook_delivery from public, anon, authenticated, service_role;

-- Stores an event and what is to be delivered, once for a key; answers its id, or null when the workspace has
-- no endpoint at all, which is all that this costs most workspaces. Of a disabled endpoint's workspace the
-- event is stored, so that it can be replayed. Ordered endpoints are locked until the transaction ends, so that
-- the order of events is that of commits: call it late, best from a deferred trigger (see the next file).
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
  update integrations.webhook_deliveries d set state = 'cancelled', next_attempt_at = null, job_id = null
  where d.endpoint_id = endpoint.id and d.state = 'pending';
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

-- The delivery with its endpoint locked before it; null when either is gone.
create function ops._lock_webhook_delivery(delivery_id bigint) returns integrations.webhook_deliveries
language plpgsql
set search_path = ''
as $$
declare
  v_delivery integrations.webhook_deliveries;
begin
  perform from integrations.webhook_endpoints e where e.id = (select d.endpoint_id
    from integrations.webhook_deliveries d where d.id = _lock_webhook_delivery.delivery_id) for no key update;
  select * into v_delivery from integrations.webhook_deliveries d
  where d.id = _lock_webhook_delivery.delivery_id for update;
  return v_delivery;
end $$;
comment on function ops._lock_webhook_delivery(bigint) is 'Locks a delivery after its endpoint.';
revoke all on function ops._lock_webhook_delivery from public, anon, authenticated, service_role;

-- What the worker needs for one attempt. state: send; wait (not due yet: wait_seconds); held (an earlier event
-- goes first, whose end enqueues this one again); ended (nothing is to be sent, or another job does it).
create function ops.begin_webhook_attempt(delivery_id bigint, job_id bigint) returns table (
  state text, wait_seconds double precision, url text, webhook_id uuid, body text, secrets text[]
)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_delivery integrations.webhook_deliveries := ops._lock_webhook_delivery(delivery_id);
  v_endpoint integrations.webhook_endpoints;
begin
  select * into v_endpoint from integrations.webhook_endpoints e where e.id = v_delivery.endpoint_id;
  if v_delivery.state is distinct from 'pending' or v_delivery.job_id is distinct from begin_webhook_attempt.job_id
    or exists (select from identity.workspaces w
    where w.id = v_delivery.workspace_id and w.deleted_at is not null) then
    state := 'ended';
  elsif v_endpoint.ordered and exists (select from integrations.webhook_deliveries d
    where d.endpoint_id = v_endpoint.id and d.state = 'pending' and d.outbox_id < v_delivery.outbox_id) then
    update integrations.webhook_deliveries d set job_id = null, next_attempt_at = null where d.id = v_delivery.id;
    perform private.dispatch_webhooks(v_endpoint);
    state := 'held';
  elsif v_delivery.next_attempt_at > private.now() then
    state := 'wait';
    wait_seconds := extract(epoch from v_delivery.next_attempt_at - private.now());
  else
    state := 'send';
    url := v_endpoint.url;
    secrets := array(select s.secret from ops.webhook_signing_secrets s where s.endpoint_id = v_endpoint.id
      and (s.expires_at is null or s.expires_at > private.now()) order by s.id desc);
    -- as a text, so that each attempt sends the same bytes and no number is rounded on the way
    select o.event_id, json_build_object('type', o.type, 'timestamp',
      to_char(o.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', o.payload)::text
    into webhook_id, body
    from ops.outbox o where o.id = v_delivery.outbox_id;
  end if;
  return next;
end $$;
comment on function ops.begin_webhook_attempt(bigint, bigint) is
  'Whether a delivery is to be sent now, and then where to, what, and signed with which secrets.';
revoke all on function ops.begin_webhook_attempt from public, anon, authenticated, service_role;
grant execute on function ops.begin_webhook_attempt to service_role;

-- Source of the schedule: the example of the Standard Webhooks specification; up to a fifth later, so that what
-- failed together does not come back together. Null when it is over, after about three days.
create function private.webhook_retry_in(round_attempts integer) returns interval
language sql volatile
set search_path = ''
as $$
  select (array['5 seconds', '5 minutes', '30 minutes', '2 hours', '5 hours', '10 hours', '14 hours', '20 hours',
    '24 hours']::interval[])[round_attempts] * (1 + random() / 5)
$$;
comment on function private.webhook_retry_in(integer) is 'The pause after so many failed attempts, with jitter.';
revoke all on function private.webhook_retry_in from public, anon, authenticated, service_role;

-- Failures of an endpoint: one more. A gap of two days without any attempt begins the time of failing anew.
create function private.count_webhook_failure(endpoint_id uuid) returns integrations.webhook_endpoints
language sql
set search_path = ''
as $$
  update integrations.webhook_endpoints e
  set consecutive_failures = e.consecutive_failures + 1, last_failure_at = private.now(), first_failure_at = case
    when e.last_failure_at > private.now() - interval '2 days' then coalesce(e.first_failure_at, private.now())
    else private.now() end
  where e.id = count_webhook_failure.endpoint_id
  returning e.*
$$;
comment on function private.count_webhook_failure(uuid) is 'Notes a failed attempt on its endpoint.';
revoke all on function private.count_webhook_failure from public, anon, authenticated, service_role;

-- Notes how an attempt ended: delivered by a 2xx; else it is tried again, not before retry_after seconds, until
-- the schedule is over (of an ordered endpoint it never is). Answers what became of the delivery, and in how
-- many seconds the next attempt is due. An attempt at what has ended meanwhile changes nothing.
create function ops.record_webhook_attempt(delivery_id bigint, response_status integer default null,
  response_body text default null, error text default null, duration_ms integer default null,
  retry_after double precision default null) returns table (state text, retry_in double precision)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_delivery integrations.webhook_deliveries := ops._lock_webhook_delivery(delivery_id);
  v_endpoint integrations.webhook_endpoints;
  v_delivered boolean := coalesce(response_status between 200 and 299, false);
  v_pause interval;
begin
  if v_delivery.state is distinct from 'pending' then
    state := coalesce(v_delivery.state, 'deleted');
    return next;
    return;
  end if;
  if v_delivered then
    update integrations.webhook_endpoints e
    set consecutive_failures = 0, first_failure_at = null, last_success_at = private.now()
    where e.id = v_delivery.endpoint_id returning * into v_endpoint;
  else
    v_endpoint := private.count_webhook_failure(v_delivery.endpoint_id);
    v_pause := greatest(
      private.webhook_retry_in(case when v_endpoint.ordered then least(v_delivery.round_attempts + 1, 9)
        else v_delivery.round_attempts + 1 end),
      make_interval(secs => case when retry_after > 86400 then 86400 else retry_after end));
    if v_delivery.round_attempts >= 9 and not v_endpoint.ordered then
      v_pause := null;
    end if;
  end if;
  state := case when v_delivered then 'delivered' when v_pause is null then 'failed' else 'pending' end;
  update integrations.webhook_deliveries d
  set state = record_webhook_attempt.state, attempts = d.attempts + 1, round_attempts = d.round_attempts + 1,
    last_attempt_at = private.now(), response_status = record_webhook_attempt.response_status,
    response_body = left(record_webhook_attempt.response_body, 1024), error = left(record_webhook_attempt.error, 500),
    duration_ms = record_webhook_attempt.duration_ms, next_attempt_at = private.now() + v_pause,
    delivered_at = case when v_delivered then private.now() end,
    job_id = case when record_webhook_attempt.state = 'pending' then d.job_id end
  where d.id = v_delivery.id;
  if response_status = 410 then
    v_endpoint := private.disable_webhook_endpoint(v_endpoint, 'gone');
  elsif v_endpoint.first_failure_at <= private.now() - interval '5 days' then
    v_endpoint := private.disable_webhook_endpoint(v_endpoint, 'failing');
  end if;
  if v_endpoint.status = 'disabled' then
    state := case when state = 'pending' then 'cancelled' else state end;
  elsif state = 'pending' then
    retry_in := extract(epoch from v_pause);
  elsif v_endpoint.ordered then
    perform private.dispatch_webhooks(v_endpoint);
  end if;
  return next;
end $$;
comment on function ops.record_webhook_attempt is
  'Notes how an attempt ended, minds the endpoint''s health and says when to try again.';
revoke all on function ops.record_webhook_attempt from public, anon, authenticated, service_role;
grant execute on function ops.record_webhook_attempt to service_role;

-- on_event of integrations.deliver_webhook. A job that ends well has said so by record_webhook_attempt; one that
-- is given up fails its delivery, so that an ordered endpoint goes on; a replayed one takes it up again.
create function ops.on_webhook_delivery(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_delivery integrations.webhook_deliveries;
begin
  if event not in ('dead', 'cancelled', 'replayed') then
    return;
  end if;
  v_delivery := ops._lock_webhook_delivery((job.payload ->> 'delivery_id')::bigint);
  if event = 'replayed' then
    update integrations.webhook_deliveries d
    set state = 'pending', round_attempts = 0, job_id = job.id, next_attempt_at = private.now()
    where d.id = v_delivery.id and d.state in ('failed', 'cancelled')
      and exists (select from integrations.webhook_endpoints e where e.id = d.endpoint_id and e.status = 'enabled');
  elsif v_delivery.state = 'pending' and v_delivery.job_id = job.id then
    update integrations.webhook_deliveries d
    set state = 'failed', next_attempt_at = null, job_id = null,
      error = left(coalesce(job.error, 'cancelled: The delivery was cancelled by an operator.'), 500)
    where d.id = v_delivery.id;
    perform private.dispatch_webhooks(e) from integrations.webhook_endpoints e
    where e.id = v_delivery.endpoint_id and e.ordered;
  end if;
end $$;
comment on function ops.on_webhook_delivery(ops.jobs, text) is
  'Keeps a delivery in step with a job that was given up, cancelled or replayed.';
revoke all on function ops.on_webhook_delivery from public, anon, authenticated, service_role;
