-- Operational state beside the queue: what a workflow shows, what is to be sent out, which requests
-- were answered already, how often something was done lately, which provider is down, small settings.
-- All of it is the service's: RLS is on and no table has a policy, so that a client role would see
-- nothing even if it were ever granted one of them; service_role bypasses RLS.

-- What people see of long work that spans many jobs. Legacy statuses were upper case and began as
-- RUNNING; here they are lower case like every status of Backlot.
create table ops.workflows (
  id uuid primary key default gen_random_uuid(),
  workflow_id text not null,
  workflow_type text not null,
  status text not null default 'running',
  progress_percentage smallint not null default 0,
  current_step text,
  steps_completed text[] not null default '{}',
  total_steps integer,
  task_queue text,
  workspace_id uuid,
  friendly_name text,
  job_id bigint,
  error_message text,
  metadata jsonb not null default '{}',
  started_at timestamptz not null default now(),
  completed_at timestamptz,
  updated_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  constraint workflows_workflow_id_key unique (workflow_id),
  constraint workflows_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint workflows_workflow_id_length check (length(workflow_id) between 1 and 255),
  constraint workflows_workflow_type_length check (length(workflow_type) between 1 and 255),
  constraint workflows_status_known
    check (status in ('running', 'completed', 'failed', 'cancelled', 'terminated', 'timed_out')),
  constraint workflows_progress_in_range check (progress_percentage between 0 and 100),
  constraint workflows_steps_in_range check (total_steps >= cardinality(steps_completed)),
  constraint workflows_ended_has_time check ((status = 'running') = (completed_at is null)),
  constraint workflows_ends_after_start check (completed_at >= started_at),
  constraint workflows_completed_is_whole check (status <> 'completed' or progress_percentage = 100),
  constraint workflows_failed_has_error check (status <> 'failed' or error_message is not null),
  constraint workflows_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);
comment on table ops.workflows is 'State of long workflows as people see it: step, progress and end of each.';
comment on column ops.workflows.workflow_id is
  'Name of the execution, chosen by who starts it; starting it twice finds the first.';
comment on column ops.workflows.job_id is 'The job at its root; no foreign key, because finished jobs leave ops.jobs.';
create index workflows_active on ops.workflows (started_at) where status = 'running';
create index workflows_workspace_id on ops.workflows (workspace_id, status);
create index workflows_workflow_type on ops.workflows (workflow_type, status);
create trigger touch_workflows before update on ops.workflows
  for each row execute function private.touch_updated_at();
alter table ops.workflows enable row level security;
revoke all on table ops.workflows from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.workflows to service_role;

-- The log of what workspaces may hear about, written in the transaction of the change it tells about
-- (private.emit_event). What is delivered where, and what became of it, is in integrations.webhook_deliveries.
create table ops.outbox (
  id bigint generated always as identity primary key,
  event_id uuid not null default gen_random_uuid(),
  workspace_id uuid not null,
  type text not null,
  key text not null default gen_random_uuid()::text,
  payload jsonb not null,
  created_at timestamptz not null default now(),
  constraint outbox_event_id_key unique (event_id),
  constraint outbox_key_key unique (workspace_id, key),
  constraint outbox_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint outbox_key_length check (length(key) between 1 and 255),
  constraint outbox_payload_is_object check (jsonb_typeof(payload) = 'object')
);
comment on table ops.outbox is
  'Events that workspaces may hear about, each stored once, with the change that it tells about.';
comment on column ops.outbox.event_id is 'Goes along as webhook-id; the receiver tells repeats by it.';
comment on column ops.outbox.key is 'Names the occasion: a workspace hears of it once.';
create index outbox_created_at on ops.outbox (created_at);
create index outbox_workspace_id on ops.outbox (workspace_id, created_at);
alter table ops.outbox enable row level security;
revoke all on table ops.outbox from public, anon, authenticated, service_role;
grant select, delete on table ops.outbox to service_role;

-- How often something was done in the current window and in the one before. One row a bucket and
-- period, so callers of different buckets never wait for each other.
create table ops.rate_limits (
  bucket text not null,
  period_seconds integer not null,
  window_started_at timestamptz not null,
  hits integer not null,
  previous_hits integer not null default 0,
  created_at timestamptz not null default now(),
  constraint rate_limits_pkey primary key (bucket, period_seconds),
  constraint rate_limits_bucket_length check (length(bucket) between 1 and 255),
  constraint rate_limits_period_positive check (period_seconds > 0),
  constraint rate_limits_hits_in_range check (hits > 0 and previous_hits >= 0)
) with (fillfactor = 50);
comment on table ops.rate_limits is
  'Counters of rate limits: hits of the current and the previous window of each bucket.';
alter table ops.rate_limits enable row level security;
revoke all on table ops.rate_limits from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.rate_limits to service_role;

-- Sliding: the previous window counts for the part of it that lies within the last period, so that
-- the edge of a window does not let twice the limit through. A refused call counts nothing.
create function ops.check_rate_limit(bucket text, max_count integer, per interval) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_now numeric := extract(epoch from private.now());
  v_seconds integer := extract(epoch from per);
  v_begin numeric;
  v_rest numeric;
begin
  if coalesce(length(bucket), 0) not between 1 and 255 or coalesce(max_count, 0) < 1 or coalesce(v_seconds, 0) < 1
    or v_seconds <> extract(epoch from per) then
    perform private.fail('invalid_argument', 'A rate limit needs a bucket, a count of 1 or more and whole seconds.',
      jsonb_build_object('bucket', bucket, 'max_count', max_count, 'per', per));
  end if;
  v_begin := floor(v_now / v_seconds) * v_seconds;
  v_rest := 1 - (v_now - v_begin) / v_seconds;
  insert into ops.rate_limits as r (bucket, period_seconds, window_started_at, hits)
  values (check_rate_limit.bucket, v_seconds, pg_catalog.to_timestamp(v_begin), 1)
  on conflict on constraint rate_limits_pkey do update
  set
    previous_hits = case
      when r.window_started_at >= excluded.window_started_at then r.previous_hits
      when r.window_started_at = pg_catalog.to_timestamp(v_begin - v_seconds) then r.hits
      else 0 end,
    hits = case when r.window_started_at >= excluded.window_started_at then r.hits else 0 end + 1,
    -- a transaction that began before the window did must not turn it back
    window_started_at = greatest(r.window_started_at, excluded.window_started_at)
  where case
      when r.window_started_at >= excluded.window_started_at then r.hits + r.previous_hits * v_rest
      when r.window_started_at = pg_catalog.to_timestamp(v_begin - v_seconds) then r.hits * v_rest
      else 0 end + 1 <= max_count;
  return found;
end $$;
comment on function ops.check_rate_limit(text, integer, interval) is
  'Counts one use of a bucket and says whether it is within max_count in any period of that length.';
revoke all on function ops.check_rate_limit from public, anon, authenticated, service_role;
grant execute on function ops.check_rate_limit to service_role;

-- Small values without a table of their own; several apps had one kv table a purpose, here the
-- namespace is the purpose.
create table ops.kv_store (
  namespace text not null,
  key text not null,
  value jsonb not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint kv_store_pkey primary key (namespace, key),
  constraint kv_store_namespace_shape check (namespace ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint kv_store_key_length check (length(key) between 1 and 255),
  constraint kv_store_expires_later check (expires_at > created_at)
);
comment on table ops.kv_store is 'Small values of the service by namespace and key, with an end if they have one.';
create index kv_store_expires_at on ops.kv_store (expires_at) where expires_at is not null;
create trigger touch_kv_store before update on ops.kv_store
  for each row execute function private.touch_updated_at();
alter table ops.kv_store enable row level security;
revoke all on table ops.kv_store from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.kv_store to service_role;
