-- How verified webhooks are stored: many in one statement, each once and for itself, with the work on it begun in the
-- same transaction. Requests that arrive together share a statement and so a commit.

-- An event on its way into the inbox.
create type ops.received_webhook as (
  position bigint, first_position bigint, fault text, provider text, job_kind text, event_id text, fingerprint text,
  event_type text, payload jsonb, headers jsonb, connected_account_id uuid, subscription_id uuid,
  webhook_event_id bigint, created boolean, job_id bigint
);
comment on type ops.received_webhook is
  'An event as ops.receive_webhooks takes it, the position of the first that is the same, and what became of it.';

-- The account of the address it came to, else the one that the event names.
create function ops._account_of_webhook(subscription_id uuid, account jsonb) returns uuid
language plpgsql stable
set search_path = ''
as $$
begin
  if subscription_id is not null then
    return (select s.connected_account_id from integrations.webhook_subscriptions s
      where s.id = _account_of_webhook.subscription_id);
  end if;
  return (select a.id from integrations.connected_accounts a
    where a.provider = account ->> 'provider' and a.external_account_id = any (
        array(select jsonb_array_elements_text(account -> 'ids')))
      and a.status in ('active', 'pending')
    order by a.created_at limit 1);
end $$;
comment on function ops._account_of_webhook(uuid, jsonb) is 'The connected account that an event belongs to, if any.';
revoke all on function ops._account_of_webhook from public, anon, authenticated, service_role;

-- The events as they will be stored: ids below their subscription, so that one sender cannot take another's. One that
-- is known has its id; one that comes twice is created once. fault names what is wrong.
create function ops._read_webhooks(events jsonb) returns ops.received_webhook[]
language plpgsql
set search_path = ''
as $$
begin
  return (
    with given as (
      select e.*, p.provider as known_provider, p.job_kind, coalesce(e.subscription_id || ':', '') as scope
      from rows from (jsonb_to_recordset(events) as (provider text, event_id text, fingerprint text, event_type text,
        payload jsonb, headers jsonb, account jsonb, subscription_id uuid)) with ordinality
        as e (provider, event_id, fingerprint, event_type, payload, headers, account, subscription_id, position)
      left join ops.webhook_providers p on p.provider = e.provider
    ), named as (
      select g.*, g.scope || g.event_id as stored_id, case
        when g.fingerprint is not null then g.scope || g.fingerprint
        when g.event_id is null then g.scope
          || encode(private.content_hash(jsonb_build_array(g.event_type, g.payload)), 'hex') end as stored_fingerprint
      from given g
    ), known as (
      select n.*, min(n.position) over (partition by n.provider, n.stored_id,
          case when n.stored_id is null then n.stored_fingerprint end) as first_position,
        case when n.event_id is null
          then (select e.id from ops.webhook_events e where e.provider = n.provider and e.event_id is null
            and e.fingerprint = n.stored_fingerprint)
          else (select e.id from ops.webhook_events e where e.provider = n.provider and e.event_id = n.stored_id)
          end as known_id
      from named n
    )
    select coalesce(array_agg(row(k.position, k.first_position, case
        when k.known_provider is null then 'provider' when k.event_type is null or k.payload is null then 'payload'
        when k.event_id = '' then 'event_id' when k.fingerprint = '' then 'fingerprint' end,
      k.provider, k.job_kind, k.stored_id, k.stored_fingerprint, k.event_type, k.payload, k.headers,
      case when k.subscription_id is not null or k.account is not null
        then ops._account_of_webhook(k.subscription_id, k.account) end,
      k.subscription_id, k.known_id, k.known_id is null and k.position = k.first_position,
      null)::ops.received_webhook order by k.position), '{}')
    from known k
  );
end $$;
comment on function ops._read_webhooks(jsonb) is
  'The events of ops.receive_webhooks as they will be stored, in their order.';
revoke all on function ops._read_webhooks from public, anon, authenticated, service_role;

create function ops._refuse_webhook(event ops.received_webhook) returns void
language plpgsql
set search_path = ''
as $$
begin
  case event.fault
    when 'provider' then
      perform private.fail('unknown_provider', format('No webhooks are taken from "%s".', event.provider),
        jsonb_build_object('provider', event.provider));
    when 'payload' then
      perform private.fail('invalid_argument', 'event_type and payload are required.', '{"argument": "payload"}');
    else
      perform private.fail('invalid_argument', format('%s must not be empty; leave out what is missing.', event.fault),
        jsonb_build_object('argument', event.fault));
  end case;
end $$;
comment on function ops._refuse_webhook(ops.received_webhook) is 'Raises what is wrong with an event.';
revoke all on function ops._refuse_webhook from public, anon, authenticated, service_role;

-- Gives new events their ids, and their jobs where there is a kind: made first, so that the event is written once, with
-- its job in it. Each job is a root of its own, and its event has its correlation.
create function ops._begin_webhooks(inout events ops.received_webhook[])
language plpgsql
set search_path = ''
as $$
declare
  v_event ops.received_webhook;
  v_before text := current_setting('backlot.correlation_id', true);
  v_kind text;
  v_places bigint[];
  v_jobs bigint[];
begin
  for i in 1 .. cardinality(events) loop
    v_event := events[i];
    if v_event.fault is not null then
      perform ops._refuse_webhook(v_event);
    end if;
    continue when v_event.webhook_event_id is not null;
    v_event.webhook_event_id := case when v_event.created then nextval('ops.webhook_events_id_seq')
      else events[v_event.first_position].webhook_event_id end;
    events[i] := v_event;
  end loop;
  perform private.correlate_as(null);
  for v_kind, v_places in
    select e.job_kind, array_agg(e.position order by e.position)
    from unnest(events) e where e.created and e.job_kind is not null group by e.job_kind order by e.job_kind
  loop
    -- no key: the event is stored in this transaction or the job is not
    v_jobs := array(select j.job_id from ops.enqueue_jobs(v_kind,
      array(select jsonb_build_object('webhook_event_id', events[p].webhook_event_id) from unnest(v_places) p),
      queue => 'webhooks', priority => 10) j);
    for i in 1 .. cardinality(v_places) loop
      events[v_places[i]].job_id := v_jobs[i];
    end loop;
  end loop;
  perform private.correlate_as(nullif(v_before, '')::uuid);
end $$;
comment on function ops._begin_webhooks(ops.received_webhook[]) is
  'Gives new events their ids, and their jobs where there is a kind.';
revoke all on function ops._begin_webhooks from public, anon, authenticated, service_role;

-- An event that answers a job wakes the one that waits for it; where none does, the job will find the event.
create function ops._answer_job(event ops.received_webhook) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_wait_key text := event.provider || ':' || event.event_id;
  v_job_id bigint;
  v_correlation_id uuid;
begin
  -- same lock as ops._park_job: either this sees the waiting job, or the job will see this event
  perform pg_advisory_xact_lock(hashtextextended(v_wait_key, 0));
  select a.job_id, a.correlation_id into v_job_id, v_correlation_id
  from ops._answer_waiting_job(v_wait_key, event.payload) a;
  if v_job_id is not null then
    update ops.webhook_events e
    set status = 'processed', processed_at = private.now(), job_id = v_job_id, correlation_id = v_correlation_id
    where e.id = event.webhook_event_id;
  end if;
end $$;
comment on function ops._answer_job(ops.received_webhook) is 'Hands a stored event to the job that waits for it.';
revoke all on function ops._answer_job from public, anon, authenticated, service_role;

-- Sorted, so that two transactions that store the same events meet them in one order.
create function ops._store_webhooks(events ops.received_webhook[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into ops.webhook_events (id, provider, event_id, fingerprint, event_type, payload, headers,
    connected_account_id, subscription_id, job_id, created_at, correlation_id)
  overriding system value
  select e.webhook_event_id, e.provider, e.event_id, e.fingerprint, e.event_type, e.payload, coalesce(e.headers, '{}'),
    e.connected_account_id, e.subscription_id, e.job_id, private.now(),
    coalesce((select j.correlation_id from ops.live_jobs j where j.id = e.job_id), gen_random_uuid())
  from unnest(events) e where e.created
  order by e.provider, e.event_id collate "C", e.fingerprint collate "C";
  perform ops._answer_job(e)
  from unnest(events) e where e.created and e.job_kind is null and e.event_id is not null;
end $$;
comment on function ops._store_webhooks(ops.received_webhook[]) is
  'Writes the new ones of these events and wakes the jobs that wait for them.';
revoke all on function ops._store_webhooks from public, anon, authenticated, service_role;

-- events: [{provider, event_id, fingerprint, event_type, payload, headers, account: {provider, ids},
-- subscription_id}]. Without an id the fingerprint, without that the content tells a repetition. Answers a row for each
-- in their order; a repetition has the first one's id and created = false, and does nothing. All or none are stored.
-- headers must hold no secret. Errors: unknown_provider, invalid_argument.
create function ops.receive_webhooks(events jsonb) returns table (webhook_event_id bigint, created boolean)
language plpgsql security definer
set search_path = ''
as $$
declare
  v_events ops.received_webhook[];
  v_constraint text;
begin
  for tries in 1 .. 5 loop
    begin
      v_events := ops._begin_webhooks(ops._read_webhooks(events));
      perform ops._store_webhooks(v_events);
      return query select e.webhook_event_id, e.created from unnest(v_events) e;
      return;
    exception when unique_violation then
      -- another transaction has stored one of them since we looked: look again
      get stacked diagnostics v_constraint = constraint_name;
      if tries = 5 or v_constraint not in ('webhook_events_event_id', 'webhook_events_fingerprint') then
        raise;
      end if;
    end;
  end loop;
end $$;
comment on function ops.receive_webhooks(jsonb) is
  'Stores verified webhooks, each once, and begins the work on each, in one transaction.';
revoke all on function ops.receive_webhooks from public, anon, authenticated, service_role;
grant execute on function ops.receive_webhooks to service_role;

create function ops.receive_webhook(provider text, event_id text, event_type text, payload jsonb,
  headers jsonb default '{}', fingerprint text default null) returns table (webhook_event_id bigint, created boolean)
language sql security definer
set search_path = ''
as $$
  select * from ops.receive_webhooks(jsonb_build_array(jsonb_build_object('provider', provider, 'event_id', event_id,
    'event_type', event_type, 'payload', payload, 'headers', headers, 'fingerprint', fingerprint)))
$$;
comment on function ops.receive_webhook is 'Stores one verified webhook once and begins the work on it.';
revoke all on function ops.receive_webhook from public, anon, authenticated, service_role;
grant execute on function ops.receive_webhook to service_role;
