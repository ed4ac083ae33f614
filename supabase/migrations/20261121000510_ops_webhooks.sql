-- The inbox of webhooks. An event is stored once, whatever the sender repeats, and is then either
-- handed to the job that waits for it or given a job of its own, in the transaction that stores it.

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
  constraint webhook_events_provider_fkey foreign key (provider) references ops.webhook_providers (provider),
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

-- Stores a verified webhook once and starts the work on it. A duplicate (same event id, or same
-- fingerprint where there is no id) answers the first one's id and created = false, and does nothing.
-- headers must hold no secret. Errors: unknown_provider, invalid_argument.
create function ops.receive_webhook(provider text, event_id text, event_type text, payload jsonb,
  headers jsonb default '{}', fingerprint text default null) returns table (webhook_event_id bigint, created boolean)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_provider ops.webhook_providers :=
    (select p from ops.webhook_providers p where p.provider = receive_webhook.provider);
  v_fingerprint text := fingerprint;
  v_wait_key text := provider || ':' || event_id;
  v_job_id bigint;
  v_correlation_id uuid;
begin
  if v_provider.provider is null then
    perform private.fail('unknown_provider', format('No webhooks are taken from "%s".', provider),
      jsonb_build_object('provider', provider));
  end if;
  if payload is null or event_type is null then
    perform private.fail('invalid_argument', 'event_type and payload are required.', '{"argument": "payload"}');
  end if;
  if event_id = '' or fingerprint = '' then
    perform private.fail('invalid_argument', 'event_id and fingerprint must not be empty; leave out what is missing.',
      jsonb_build_object('argument', case event_id when '' then 'event_id' else 'fingerprint' end));
  end if;
  if event_id is null then
    v_fingerprint := coalesce(fingerprint, encode(private.content_hash(jsonb_build_array(event_type, payload)), 'hex'));
  end if;

  -- the root of what comes of it, unless a job has been waiting for it
  perform private.correlate_as(gen_random_uuid());
  insert into ops.webhook_events (provider, event_id, fingerprint, event_type, payload, headers)
  values (provider, event_id, v_fingerprint, event_type, payload, coalesce(headers, '{}'))
  on conflict do nothing
  returning id into webhook_event_id;
  created := webhook_event_id is not null;
  if not created then
    select e.id into webhook_event_id from ops.webhook_events e
    where e.provider = receive_webhook.provider
      and ((receive_webhook.event_id is not null and e.event_id = receive_webhook.event_id)
        or (receive_webhook.event_id is null and e.event_id is null and e.fingerprint = v_fingerprint));
    return next;
    return;
  end if;

  if v_provider.job_kind is not null then
    -- no key: the event was stored just now, and is stored only once
    select j.job_id into v_job_id
    from ops.enqueue_job(v_provider.job_kind, jsonb_build_object('webhook_event_id', webhook_event_id),
      queue => 'webhooks', priority => 10) j;
    update ops.webhook_events e set job_id = v_job_id where e.id = webhook_event_id;
  elsif v_wait_key is not null then
    -- same lock as ops._park_job: either this sees the waiting job, or the job will see this event
    perform pg_advisory_xact_lock(hashtextextended(v_wait_key, 0));
    update ops.jobs j
    set state = 'queued', callback = receive_webhook.payload, run_at = private.now()
    where j.wait_key = v_wait_key and j.state in ('waiting', 'queued')
    returning j.id, j.correlation_id into v_job_id, v_correlation_id;
    if v_job_id is not null then
      update ops.webhook_events e
      set status = 'processed', processed_at = private.now(), job_id = v_job_id, correlation_id = v_correlation_id
      where e.id = webhook_event_id;
      perform ops._wake_worker();
    end if;
  end if;
  return next;
end $$;
comment on function ops.receive_webhook is
  'Stores a verified webhook once and hands it to the waiting job or to a new one, in one transaction.';
revoke all on function ops.receive_webhook from public, anon, authenticated, service_role;
grant execute on function ops.receive_webhook to service_role;

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
