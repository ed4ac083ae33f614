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

-- A job and the event that it waits for find each other whichever comes first.

-- Waits without a worker: for a webhook (wait_key), for children, or until run_at. A webhook that came
-- before the job began to wait is found here; the lock makes the two orders exclusive.
create function ops._park_job(job ops.live_jobs, wait_key text, run_at timestamptz, checkpoint jsonb) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_callback jsonb;
  v_ready boolean := false;
begin
  if wait_key is not null then
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(wait_key, 0));
    -- one that is at work has not said yet what it waits for next
    if exists (select from ops.live_jobs j where j.wait_key = _park_job.wait_key and j.id <> job.id
      and not exists (select from ops.claims c where j.id = any (c.job_ids))) then
      perform private.fail('wait_key_taken', format('Another job waits for %s.', wait_key),
        jsonb_build_object('wait_key', wait_key));
    end if;
    update ops.webhook_events e
    set status = 'processed', processed_at = private.now(), job_id = job.id, correlation_id = job.correlation_id
    where e.provider = split_part(_park_job.wait_key, ':', 1)
      and e.event_id = substr(_park_job.wait_key, strpos(_park_job.wait_key, ':') + 1)
      and e.status = 'pending'
    returning e.payload into v_callback;
    v_ready := v_callback is not null;
  elsif _park_job.run_at is null then
    -- nothing but children to wait for: if all have ended already, go on at once
    select j.pending_children = 0 into v_ready from ops.live_jobs j where j.id = job.id;
  end if;
  update ops.live_jobs j
  set state = 'waiting', wait_key = _park_job.wait_key, callback = v_callback, attempt = job.attempt,
    worker = job.worker, claimed_at = job.claimed_at, started_at = job.started_at,
    run_at = coalesce(_park_job.run_at, 'infinity'),
    checkpoint = coalesce(nullif(_park_job.checkpoint, 'null'), j.checkpoint)
  where j.id = job.id;
  return case when v_ready then ops._make_ready(array[job.id]) else 'waiting' end;
end $$;
comment on function ops._park_job(ops.live_jobs, text, timestamptz, jsonb) is
  'Lets a job wait for a webhook, its children or a time without holding a worker.';
revoke all on function ops._park_job from public, anon, authenticated, service_role;

-- Hands a webhook to the job that waits for it. The caller holds the lock of the wait key. A job that is at work
-- at this moment finds the event when it waits, or closes it when it ends. One that is being claimed is waited for, and
-- one that is found is not claimed before it has the event: whoever locks the row waits for a claim, and a claim passes
-- a locked row over.
create function ops._answer_waiting_job(wait_key text, payload jsonb, out job_id bigint, out correlation_id uuid)
language plpgsql
set search_path = ''
as $$
declare
  v_state text;
begin
  perform from ops.live_jobs j
  where j.wait_key = _answer_waiting_job.wait_key and j.state in ('waiting', 'queued', 'paused')
    and not exists (select from ops.claims c where j.id = any (c.job_ids))
  for update;
  -- asked again: a claim that was waited for has been made since
  update ops.live_jobs j set callback = _answer_waiting_job.payload
  where j.wait_key = _answer_waiting_job.wait_key and j.state in ('waiting', 'queued', 'paused')
    and not exists (select from ops.claims c where j.id = any (c.job_ids))
  returning j.id, j.correlation_id, j.state into job_id, correlation_id, v_state;
  if v_state = 'waiting' and ops._make_ready(array[job_id]) = 'queued' then
    perform ops._wake_worker();
  end if;
end $$;
comment on function ops._answer_waiting_job(text, jsonb) is
  'Gives a webhook''s payload to the job that waits for it; nulls when none does.';
revoke all on function ops._answer_waiting_job from public, anon, authenticated, service_role;

-- Closes the inbox row of a callback that came while its job was at work and ended without it.
create function ops._close_callback(wait_key text, job_id bigint, correlation_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  update ops.webhook_events e
  set status = 'processed', processed_at = private.now(), job_id = _close_callback.job_id,
    correlation_id = _close_callback.correlation_id
  where e.provider = split_part(_close_callback.wait_key, ':', 1)
    and e.event_id = substr(_close_callback.wait_key, strpos(_close_callback.wait_key, ':') + 1)
    and e.status = 'pending';
end $$;
comment on function ops._close_callback(text, bigint, uuid) is 'Marks the pending webhook of a wait key as processed.';
revoke all on function ops._close_callback from public, anon, authenticated, service_role;

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
