-- Outbound webhooks: addresses of a workspace to which Backlot sends its own events by the Standard Webhooks
-- scheme (https://www.standardwebhooks.com). Here is what admins see and do; the sending is in the next file,
-- the events are in the one after it. How it looks from outside: docs/outbound-webhooks.md.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_endpoint', 'PT404', 'Use the id of a webhook endpoint of a workspace that you belong to.'),
  ('unknown_event_type', 'PT404', 'Use the types of integrations.webhook_event_types.'),
  ('endpoint_disabled', 'PT409', 'Enable the endpoint with integrations.update_webhook_endpoint first.'),
  ('too_many_endpoints', 'PT409', 'Delete an endpoint of the workspace that is not needed any more.'),
  ('replay_too_large', 'PT422', 'Replay a shorter time.');

create table integrations.webhook_event_types (
  type text primary key,
  description text not null,
  example jsonb not null,
  created_at timestamptz not null default now(),
  constraint webhook_event_types_type_shape check (type ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$'),
  constraint webhook_event_types_example_is_object check (jsonb_typeof(example) = 'object')
);
comment on table integrations.webhook_event_types is
  'What workspaces can be told by webhook, with an example of each event''s data.';
alter table integrations.webhook_event_types enable row level security;
revoke all on table integrations.webhook_event_types from public, anon, authenticated, service_role;
grant select on table integrations.webhook_event_types to authenticated, service_role;
create policy "Everybody signed in may read the types of events" on integrations.webhook_event_types
  for select to authenticated using (true);
alter table ops.outbox add constraint outbox_type_fkey foreign key (type)
  references integrations.webhook_event_types (type);
create index outbox_type on ops.outbox (type);

-- Only admins see it: an address often carries a token of the receiver.
create table integrations.webhook_endpoints (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  created_by uuid,
  url text not null,
  description text,
  event_types text[] not null default '{}',
  ordered boolean not null default false,
  status text not null default 'enabled',
  disabled_reason text,
  disabled_at timestamptz,
  consecutive_failures integer not null default 0,
  first_failure_at timestamptz,
  last_success_at timestamptz,
  last_failure_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_endpoints_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint webhook_endpoints_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint webhook_endpoints_url_shape
    check (url ~ '^https?://[^][/?#@\\[:space:][:cntrl:]]+([/?][^#[:space:][:cntrl:]]*)?$'),
  constraint webhook_endpoints_url_length check (char_length(url) <= 2048),
  constraint webhook_endpoints_description_length check (char_length(description) <= 500),
  constraint webhook_endpoints_status_known check (status in ('enabled', 'disabled')),
  constraint webhook_endpoints_reason_known check (disabled_reason in ('by_admin', 'gone', 'failing')),
  constraint webhook_endpoints_disabled_is_explained
    check ((status = 'disabled') = (disabled_reason is not null) and (status = 'disabled') = (disabled_at is not null)),
  constraint webhook_endpoints_failures_in_range check (consecutive_failures >= 0),
  constraint webhook_endpoints_failing_has_time check (
    (consecutive_failures > 0) = (first_failure_at is not null)
    and (consecutive_failures = 0 or last_failure_at is not null)
  )
);
comment on table integrations.webhook_endpoints is
  'Addresses to which a workspace''s events are sent, and how well that goes.';
comment on column integrations.webhook_endpoints.event_types is 'Which events are sent; empty: all.';
comment on column integrations.webhook_endpoints.ordered is
  'One event at a time, in the order in which they happened: one that fails holds back those after it.';
comment on column integrations.webhook_endpoints.disabled_reason is
  'by_admin; gone: it answered 410; failing: nothing but failures for five days.';
create index webhook_endpoints_workspace_id on integrations.webhook_endpoints (workspace_id, created_at);
create index webhook_endpoints_created_by on integrations.webhook_endpoints (created_by);
create trigger touch_webhook_endpoints before update on integrations.webhook_endpoints
  for each row execute function private.touch_updated_at();
alter table integrations.webhook_endpoints enable row level security;
revoke all on table integrations.webhook_endpoints from public, anon, authenticated, service_role;
grant select on table integrations.webhook_endpoints to authenticated, service_role;
create policy "Admins see the webhook endpoints of their workspaces" on integrations.webhook_endpoints
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

-- No role may read it, the service neither: secrets leave it by ops.begin_webhook_attempt alone.
create table ops.webhook_signing_secrets (
  id bigint generated always as identity primary key,
  endpoint_id uuid not null,
  secret text not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  constraint webhook_signing_secrets_endpoint_id_fkey foreign key (endpoint_id)
    references integrations.webhook_endpoints (id) on delete cascade,
  constraint webhook_signing_secrets_shape check (secret ~ '^whsec_[A-Za-z0-9+/]{32,86}={0,2}$')
);
comment on table ops.webhook_signing_secrets is
  'Secrets that sign what is sent to webhook endpoints; one without an end, older ones until a rotation is over.';
create unique index webhook_signing_secrets_current on ops.webhook_signing_secrets (endpoint_id)
  where expires_at is null;
create index webhook_signing_secrets_endpoint_id on ops.webhook_signing_secrets (endpoint_id, id);
alter table ops.webhook_signing_secrets enable row level security;
revoke all on table ops.webhook_signing_secrets from public, anon, authenticated, service_role;

create table integrations.webhook_deliveries (
  id bigint generated always as identity primary key,
  endpoint_id uuid not null,
  workspace_id uuid not null,
  outbox_id bigint not null,
  event_id uuid not null,
  event_type text not null,
  event_at timestamptz not null,
  state text not null default 'pending',
  attempts integer not null default 0,
  round_attempts integer not null default 0,
  next_attempt_at timestamptz,
  last_attempt_at timestamptz,
  response_status integer,
  response_body text,
  error text,
  duration_ms integer,
  delivered_at timestamptz,
  job_id bigint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_deliveries_endpoint_id_fkey foreign key (endpoint_id)
    references integrations.webhook_endpoints (id) on delete cascade,
  constraint webhook_deliveries_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint webhook_deliveries_outbox_id_fkey foreign key (outbox_id) references ops.outbox (id) on delete cascade,
  constraint webhook_deliveries_once unique (endpoint_id, outbox_id),
  constraint webhook_deliveries_state_known check (state in ('pending', 'delivered', 'failed', 'cancelled')),
  constraint webhook_deliveries_delivered_has_time check ((state = 'delivered') = (delivered_at is not null)),
  constraint webhook_deliveries_only_pending_goes_on
    check (state = 'pending' or (next_attempt_at is null and job_id is null)),
  constraint webhook_deliveries_attempts_in_range check (round_attempts between 0 and attempts),
  constraint webhook_deliveries_attempted_has_time check ((attempts > 0) = (last_attempt_at is not null)),
  constraint webhook_deliveries_status_in_range check (response_status between 100 and 999),
  constraint webhook_deliveries_texts_are_cut check (char_length(response_body) <= 1024 and char_length(error) <= 500),
  constraint webhook_deliveries_duration_positive check (duration_ms >= 0)
);
comment on table integrations.webhook_deliveries is
  'What became of each event at each endpoint: state, attempts and the last answer; kept for 30 days.';
comment on column integrations.webhook_deliveries.state is
  'pending, delivered (2xx), failed (no attempt is left) or cancelled (the endpoint was disabled).';
comment on column integrations.webhook_deliveries.round_attempts is 'Attempts since the event or its last replay.';
comment on column integrations.webhook_deliveries.next_attempt_at is
  'Null while pending: it goes out as soon as it may, or waits for an earlier event of an ordered endpoint.';
comment on column integrations.webhook_deliveries.job_id is 'The job on its way; null: none is.';
create index webhook_deliveries_pending on integrations.webhook_deliveries (endpoint_id, outbox_id)
  where state = 'pending';
create index webhook_deliveries_outbox_id on integrations.webhook_deliveries (outbox_id);
create index webhook_deliveries_workspace_id on integrations.webhook_deliveries (workspace_id, id desc);
create trigger touch_webhook_deliveries before update on integrations.webhook_deliveries
  for each row execute function private.touch_updated_at();
alter table integrations.webhook_deliveries enable row level security;
revoke all on table integrations.webhook_deliveries from public, anon, authenticated, service_role;
grant select (
  id, endpoint_id, workspace_id, event_id, event_type, event_at, state, attempts, next_attempt_at, last_attempt_at,
  response_status, response_body, error, duration_ms, delivered_at, created_at, updated_at
) on table integrations.webhook_deliveries to authenticated;
grant select on table integrations.webhook_deliveries to service_role;
create policy "Admins see the deliveries of their workspaces" on integrations.webhook_deliveries
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

create type integrations.new_webhook_endpoint as (
  id uuid, workspace_id uuid, url text, event_types text[], ordered boolean, created_at timestamptz, secret text
);
comment on type integrations.new_webhook_endpoint is 'An endpoint with its signing secret, shown this once.';

create type integrations.new_webhook_secret as (endpoint_id uuid, secret text, previous_valid_until timestamptz);
comment on type integrations.new_webhook_secret is
  'A new signing secret, shown this once, and how long the ones before it sign, too.';

-- The shape is a first sieve: where a name leads is checked by the worker at every attempt. Plain http is for
-- the local stack alone: an operator allows it with the row (webhooks, allow_http) = true of ops.kv_store.
create function private.check_webhook_endpoint(url text, event_types text[], description text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_http boolean := exists (select from ops.kv_store v
    where v.namespace = 'webhooks' and v.key = 'allow_http' and v.value = 'true');
  v_unknown text[];
begin
  if url !~ '^https?://[^][/?#@\\[:space:][:cntrl:]]+([/?][^#[:space:][:cntrl:]]*)?$' or char_length(url) > 2048
    or (url !~ '^https://' and not v_http) then
    perform private.fail('invalid_argument',
      'The address must be https:// with a host name, without user, password or fragment.', '{"argument": "url"}');
  elsif char_length(description) > 500 then
    perform private.fail('invalid_argument', 'A description has at most 500 characters.',
      '{"argument": "description"}');
  elsif array_position(event_types, null) is not null or cardinality(event_types) > 100 then
    perform private.fail('invalid_argument', 'event_types are at most 100 texts.', '{"argument": "event_types"}');
  end if;
  v_unknown := array(select t from unnest(event_types) t where not exists (
    select from integrations.webhook_event_types e where e.type = t));
  if v_unknown <> '{}' then
    perform private.fail('unknown_event_type', format('There is no event "%s".', v_unknown[1]),
      jsonb_build_object('event_types', v_unknown));
  end if;
end $$;
comment on function private.check_webhook_endpoint(text, text[], text) is
  'Raises unless address, event types and description of an endpoint may be stored; null is not looked at.';
revoke all on function private.check_webhook_endpoint from public, anon, authenticated, service_role;

-- The endpoint, locked, if the caller is an admin of its workspace; a stranger is not told that it exists.
create function private.lock_webhook_endpoint(id uuid) returns integrations.webhook_endpoints
language plpgsql
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints;
begin
  select * into v_endpoint from integrations.webhook_endpoints e
  where e.id = lock_webhook_endpoint.id and private.has_role(e.workspace_id, 'viewer') for no key update;
  if not found then
    perform private.fail('unknown_endpoint', 'There is no such endpoint among those of your workspaces.',
      jsonb_build_object('endpoint_id', lock_webhook_endpoint.id));
  end if;
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  return v_endpoint;
end $$;
comment on function private.lock_webhook_endpoint(uuid) is 'Locks an endpoint for an admin of its workspace.';
revoke all on function private.lock_webhook_endpoint from public, anon, authenticated, service_role;

-- 32 bytes; the ones before it end at the time given, and of these only the four newest go on.
create function private.add_webhook_secret(endpoint_id uuid, previous_valid_until timestamptz) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_secret text := 'whsec_' || encode(decode(private.new_token(), 'hex'), 'base64');
begin
  update ops.webhook_signing_secrets s set expires_at = add_webhook_secret.previous_valid_until
  where s.endpoint_id = add_webhook_secret.endpoint_id
    and (s.expires_at is null or s.expires_at > add_webhook_secret.previous_valid_until);
  delete from ops.webhook_signing_secrets s
  where s.endpoint_id = add_webhook_secret.endpoint_id and (s.expires_at <= private.now() or s.id not in (
    select n.id from ops.webhook_signing_secrets n where n.endpoint_id = add_webhook_secret.endpoint_id
    order by n.id desc limit 4));
  insert into ops.webhook_signing_secrets (endpoint_id, secret) values (add_webhook_secret.endpoint_id, v_secret);
  return v_secret;
end $$;
comment on function private.add_webhook_secret(uuid, timestamptz) is
  'Gives an endpoint a new signing secret and the older ones an end.';
revoke all on function private.add_webhook_secret from public, anon, authenticated, service_role;

create function private.create_webhook_endpoint(workspace_id uuid, url text, event_types text[], description text,
  ordered boolean) returns integrations.new_webhook_endpoint
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints;
begin
  perform private.require_role(create_webhook_endpoint.workspace_id, 'admin');
  perform private.check_webhook_endpoint(coalesce(url, ''), event_types, description);
  -- one at a time, so that the limit holds
  perform from identity.workspaces w
  where w.id = create_webhook_endpoint.workspace_id and w.deleted_at is null for no key update;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', create_webhook_endpoint.workspace_id));
  elsif (select count(*) from integrations.webhook_endpoints e
    where e.workspace_id = create_webhook_endpoint.workspace_id) >= 20 then
    perform private.fail('too_many_endpoints', 'A workspace has at most 20 webhook endpoints.',
      jsonb_build_object('workspace_id', create_webhook_endpoint.workspace_id));
  end if;
  insert into integrations.webhook_endpoints (workspace_id, created_by, url, event_types, description, ordered)
  values (create_webhook_endpoint.workspace_id, auth.uid(), create_webhook_endpoint.url,
    coalesce(create_webhook_endpoint.event_types, '{}'), create_webhook_endpoint.description,
    coalesce(create_webhook_endpoint.ordered, false))
  returning * into v_endpoint;
  return row(v_endpoint.id, v_endpoint.workspace_id, v_endpoint.url, v_endpoint.event_types, v_endpoint.ordered,
    v_endpoint.created_at,
    private.add_webhook_secret(v_endpoint.id, private.now()))::integrations.new_webhook_endpoint;
end $$;
comment on function private.create_webhook_endpoint(uuid, text, text[], text, boolean) is
  'Core of integrations.create_webhook_endpoint.';
revoke all on function private.create_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.create_webhook_endpoint to authenticated, service_role;

create function integrations.create_webhook_endpoint(workspace_id uuid, url text, event_types text[] default '{}',
  description text default null, ordered boolean default false) returns integrations.new_webhook_endpoint
language sql
set search_path = ''
as $$
  select private.create_webhook_endpoint(create_webhook_endpoint.workspace_id, create_webhook_endpoint.url,
    create_webhook_endpoint.event_types, create_webhook_endpoint.description, create_webhook_endpoint.ordered)
$$;
comment on function integrations.create_webhook_endpoint(uuid, text, text[], text, boolean) is
  'An admin adds an address for the workspace''s events (none named: all); the signing secret is shown this once.';
revoke all on function integrations.create_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.create_webhook_endpoint to authenticated, service_role;

-- What is null stays. Enabling begins the count of failures anew and sends nothing of what was missed: that is
-- what replaying is for.
create function private.update_webhook_endpoint(id uuid, url text, event_types text[], description text,
  ordered boolean, enabled boolean) returns integrations.webhook_endpoints
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  perform private.check_webhook_endpoint(url, event_types, description);
  update integrations.webhook_endpoints e
  set url = coalesce(update_webhook_endpoint.url, e.url),
    event_types = coalesce(update_webhook_endpoint.event_types, e.event_types),
    description = coalesce(update_webhook_endpoint.description, e.description),
    ordered = coalesce(update_webhook_endpoint.ordered, e.ordered)
  where e.id = v_endpoint.id
  returning * into v_endpoint;
  if not enabled and v_endpoint.status = 'enabled' then
    v_endpoint := private.disable_webhook_endpoint(v_endpoint, 'by_admin');
  elsif enabled and v_endpoint.status = 'disabled' then
    update integrations.webhook_endpoints e
    set status = 'enabled', disabled_reason = null, disabled_at = null, consecutive_failures = 0,
      first_failure_at = null
    where e.id = v_endpoint.id
    returning * into v_endpoint;
  end if;
  perform private.dispatch_webhooks(v_endpoint);
  return v_endpoint;
end $$;
comment on function private.update_webhook_endpoint(uuid, text, text[], text, boolean, boolean) is
  'Core of integrations.update_webhook_endpoint.';
revoke all on function private.update_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.update_webhook_endpoint to authenticated, service_role;

create function integrations.update_webhook_endpoint(id uuid, url text default null, event_types text[] default null,
  description text default null, ordered boolean default null, enabled boolean default null)
returns integrations.webhook_endpoints
language sql
set search_path = ''
as $$
  select private.update_webhook_endpoint(update_webhook_endpoint.id, update_webhook_endpoint.url,
    update_webhook_endpoint.event_types, update_webhook_endpoint.description, update_webhook_endpoint.ordered,
    update_webhook_endpoint.enabled)
$$;
comment on function integrations.update_webhook_endpoint(uuid, text, text[], text, boolean, boolean) is
  'An admin changes an endpoint, disables or enables it; what is left out stays as it is.';
revoke all on function integrations.update_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.update_webhook_endpoint to authenticated, service_role;

create function private.delete_webhook_endpoint(id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  delete from integrations.webhook_endpoints e where e.id = v_endpoint.id;
end $$;
comment on function private.delete_webhook_endpoint(uuid) is 'Core of integrations.delete_webhook_endpoint.';
revoke all on function private.delete_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.delete_webhook_endpoint to authenticated, service_role;

create function integrations.delete_webhook_endpoint(id uuid) returns void
language sql
set search_path = ''
as $$ select private.delete_webhook_endpoint(delete_webhook_endpoint.id) $$;
comment on function integrations.delete_webhook_endpoint(uuid) is
  'An admin deletes an endpoint with its secrets and deliveries; nothing more is sent to it.';
revoke all on function integrations.delete_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.delete_webhook_endpoint to authenticated, service_role;

create function private.rotate_webhook_secret(id uuid, at_once boolean) returns integrations.new_webhook_secret
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
  v_until timestamptz := private.now() + case when at_once then interval '0' else interval '24 hours' end;
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  return row(v_endpoint.id, private.add_webhook_secret(v_endpoint.id, v_until), v_until)
    ::integrations.new_webhook_secret;
end $$;
comment on function private.rotate_webhook_secret(uuid, boolean) is 'Core of integrations.rotate_webhook_secret.';
revoke all on function private.rotate_webhook_secret from public, anon, authenticated, service_role;
grant execute on function private.rotate_webhook_secret to authenticated, service_role;

create function integrations.rotate_webhook_secret(id uuid, at_once boolean default false)
returns integrations.new_webhook_secret
language sql
set search_path = ''
as $$ select private.rotate_webhook_secret(rotate_webhook_secret.id, rotate_webhook_secret.at_once) $$;
comment on function integrations.rotate_webhook_secret(uuid, boolean) is
  'An admin gets a new signing secret; old and new both sign for 24 hours, or the new one alone at_once.';
revoke all on function integrations.rotate_webhook_secret from public, anon, authenticated, service_role;
grant execute on function integrations.rotate_webhook_secret to authenticated, service_role;

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
