-- Attempts at a delivery, one after the other, by its job: may it go out, what came of it, when is it tried again.
-- Locks: job, endpoint, delivery.

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
  if v_delivery.state is distinct from 'pending' or v_delivery.job_id is distinct from begin_webhook_attempt.job_id then
    state := 'ended';
  elsif v_endpoint.status = 'disabled' or exists (select from identity.workspaces w
    where w.id = v_delivery.workspace_id and w.deleted_at is not null) then
    -- told while the endpoint was being disabled, or of a workspace that is no more
    perform private.cancel_webhook_deliveries(v_endpoint.id);
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
-- many seconds the next attempt is due. An attempt at what has ended meanwhile changes nothing, and one at an address
-- that the endpoint has no more (sent_to) says nothing bad of the new one.
create function ops.record_webhook_attempt(delivery_id bigint, response_status integer default null,
  response_body text default null, error text default null, duration_ms integer default null,
  retry_after double precision default null, sent_to text default null)
returns table (state text, retry_in double precision)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_delivery integrations.webhook_deliveries := ops._lock_webhook_delivery(delivery_id);
  v_endpoint integrations.webhook_endpoints;
  v_delivered boolean := coalesce(response_status between 200 and 299, false);
  v_elsewhere boolean;
  v_pause interval;
begin
  if v_delivery.state is distinct from 'pending' then
    state := coalesce(v_delivery.state, 'deleted');
    return next;
    return;
  end if;
  select * into v_endpoint from integrations.webhook_endpoints e where e.id = v_delivery.endpoint_id;
  v_elsewhere := coalesce(sent_to <> v_endpoint.url, false);
  if v_delivered then
    update integrations.webhook_endpoints e
    set consecutive_failures = 0, first_failure_at = null, last_success_at = private.now()
    where e.id = v_delivery.endpoint_id returning * into v_endpoint;
  else
    if not v_elsewhere then
      v_endpoint := private.count_webhook_failure(v_delivery.endpoint_id);
    end if;
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
  if v_endpoint.status = 'disabled' then
    perform private.cancel_webhook_deliveries(v_endpoint.id);
  elsif response_status = 410 and not v_elsewhere then
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
