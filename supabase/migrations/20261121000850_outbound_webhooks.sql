-- Outbound webhooks: addresses of a workspace to which Backlot sends its own events by the Standard Webhooks
-- scheme (https://www.standardwebhooks.com). Here is what is kept; what admins do with it is in the next two files,
-- the sending in the two after them, the events in 0860. How it looks from outside: docs/outbound-webhooks.md.

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
