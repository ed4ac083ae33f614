-- The inbox of webhooks. An event is stored once, whatever the sender repeats, and is then either
-- handed to the job that waits for it or given a job of its own, in the transaction that stores it
-- (ops.receive_webhooks, in a later file).

create table ops.webhook_providers (
  provider text primary key,
  job_kind text,
  created_at timestamptz not null default now(),
  constraint webhook_providers_job_kind_fkey foreign key (job_kind) references ops.job_kinds (kind)
);
comment on table ops.webhook_providers is 'Who may send webhooks, and the job kind that works on their events.';
comment on column ops.webhook_providers.job_kind is
  'Null: the events answer jobs that wait for them (wait_key provider:event_id).';
create index webhook_providers_job_kind on ops.webhook_providers (job_kind);
alter table ops.webhook_providers enable row level security;
revoke all on table ops.webhook_providers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.webhook_providers to service_role;

-- provider has no foreign key: its check would lock the provider's one row for every event; ops.receive_webhooks
-- refuses an unknown one.
create table ops.webhook_events (
  id bigint generated always as identity primary key,
  provider text not null,
  event_id text,
  fingerprint text,
  event_type text not null,
  payload jsonb not null,
  headers jsonb not null default '{}',
  status text not null default 'pending',
  connected_account_id uuid,
  job_id bigint,
  error text,
  result jsonb,
  correlation_id uuid not null
    default coalesce(nullif(current_setting('backlot.correlation_id', true), '')::uuid, gen_random_uuid()),
  created_at timestamptz not null default now(),
  processed_at timestamptz,
  constraint webhook_events_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete set null,
  constraint webhook_events_status_known check (status in ('pending', 'processed', 'ignored', 'dead')),
  constraint webhook_events_processed_has_time check ((status = 'pending') = (processed_at is null)),
  constraint webhook_events_dead_has_error check (status <> 'dead' or error is not null),
  constraint webhook_events_identified check (event_id is not null or fingerprint is not null)
);
comment on table ops.webhook_events is 'Every webhook ever accepted, once: the inbox and its history.';
comment on column ops.webhook_events.fingerprint is 'Hash that identifies an event whose provider gives it no id.';
create unique index webhook_events_event_id on ops.webhook_events (provider, event_id);
create unique index webhook_events_fingerprint on ops.webhook_events (provider, fingerprint) where event_id is null;
create index webhook_events_pending on ops.webhook_events (created_at) where status = 'pending';
create index webhook_events_correlation_id on ops.webhook_events (correlation_id);
create index webhook_events_account on ops.webhook_events (connected_account_id, created_at desc)
  where connected_account_id is not null;
alter table ops.webhook_events enable row level security;
revoke all on table ops.webhook_events from public, anon, authenticated, service_role;
grant select on table ops.webhook_events to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_provider', 'PT404', 'Register the provider in ops.webhook_providers.');

-- on_event of the kinds that work on webhooks: the event ends as its job ends.
create function ops.on_webhook_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update ops.webhook_events e
  set status = case event
      when 'completed' then case
        when coalesce((job.output ->> 'ignored')::boolean, false) then 'ignored' else 'processed' end
      when 'replayed' then 'pending' else 'dead' end,
    processed_at = case when event = 'replayed' then null else private.now() end,
    error = case when event in ('dead', 'cancelled') then coalesce(job.error, event) end,
    result = job.output
  where e.id = (job.payload ->> 'webhook_event_id')::bigint and event <> 'progressed';
end $$;
comment on function ops.on_webhook_job(ops.jobs, text) is 'Keeps a webhook event''s status the same as its job''s.';
revoke all on function ops.on_webhook_job from public, anon, authenticated, service_role;

-- Events that no job waited for within a day (a callback for work that was cancelled) are closed.
create function ops.close_unmatched_webhooks() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_closed integer;
begin
  with stale as (
    select e.id from ops.webhook_events e
    where e.status = 'pending' and e.job_id is null and e.created_at < private.now() - interval '1 day'
    order by e.created_at limit 1000 for update skip locked
  )
  update ops.webhook_events e
  set status = 'ignored', processed_at = private.now(), error = 'no job waited for this event'
  from stale where e.id = stale.id;
  get diagnostics v_closed = row_count;
  return v_closed;
end $$;
comment on function ops.close_unmatched_webhooks() is
  'Sweep: closes events that answered no job for a day; returns how many.';
revoke all on function ops.close_unmatched_webhooks from public, anon, authenticated, service_role;
grant execute on function ops.close_unmatched_webhooks to service_role;

-- Rows come in the order of their time, so the index of their blocks is enough.
create index webhook_events_created_at on ops.webhook_events using brin (created_at) with (pages_per_range = 16);

create function ops.prune_webhook_events() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ended timestamptz := ops._kept_since('webhooks');
  v_died timestamptz := ops._kept_since('dead webhooks');
  v_pruned integer;
begin
  delete from ops.webhook_events e where e.id = any (array(
    select o.id from ops.webhook_events o
    where o.created_at < greatest(v_ended, v_died)
      and (o.status in ('processed', 'ignored') and o.processed_at < v_ended
        or o.status = 'dead' and o.processed_at < v_died)
    limit 5000));
  get diagnostics v_pruned = row_count;
  return v_pruned;
end $$;
comment on function ops.prune_webhook_events() is 'Sweep: deletes webhooks whose retention is over; returns how many.';
revoke all on function ops.prune_webhook_events from public, anon, authenticated, service_role;
grant execute on function ops.prune_webhook_events to service_role;
