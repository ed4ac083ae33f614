-- What keeps a call to the outside from being made twice or in vain: idempotency keys of HTTP
-- requests, and circuit breakers of providers. As with all of ops: RLS is on, there are no policies
-- because only the service comes here, and service_role bypasses RLS.

-- A key stands for one request for ever (no window after which it would be forgotten). While the
-- request runs its holder has a lease, so that a crashed holder does not lock the key.
create table ops.idempotency_keys (
  id bigint generated always as identity primary key,
  workspace_id uuid,
  scope text not null,
  key text not null,
  content_hash bytea not null,
  status text not null default 'in_progress',
  attempt integer not null default 1,
  lease_expires_at timestamptz,
  response_status integer,
  response_body jsonb,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint idempotency_keys_key_key unique nulls not distinct (workspace_id, scope, key),
  constraint idempotency_keys_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint idempotency_keys_scope_length check (length(scope) between 1 and 255),
  constraint idempotency_keys_key_length check (length(key) between 1 and 255),
  constraint idempotency_keys_hash_length check (length(content_hash) = 32),
  constraint idempotency_keys_status_known check (status in ('in_progress', 'completed')),
  constraint idempotency_keys_attempt_positive check (attempt > 0),
  constraint idempotency_keys_in_progress_has_lease
    check ((status = 'in_progress') = (lease_expires_at is not null)),
  constraint idempotency_keys_completed_has_answer
    check ((status = 'completed') = (completed_at is not null and response_status is not null)),
  constraint idempotency_keys_answer_has_end check (completed_at is not null or response_body is null),
  constraint idempotency_keys_response_status_known check (response_status between 200 and 499)
);
comment on table ops.idempotency_keys is 'Requests by idempotency key with the answer that every repeat of them gets.';
comment on column ops.idempotency_keys.scope is
  'What the key is for, such as billing.top_up: the same key elsewhere is another one.';
comment on column ops.idempotency_keys.attempt is 'Number of the current claim; fences a holder that lost its lease.';
create index idempotency_keys_in_progress on ops.idempotency_keys (lease_expires_at) where status = 'in_progress';
alter table ops.idempotency_keys enable row level security;
revoke all on table ops.idempotency_keys from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.idempotency_keys to service_role;

-- Names of endpoints outside that failed lately. Calls that succeed while all is well write nothing,
-- so a busy provider is no hot row.
create table ops.circuit_breakers (
  name text primary key,
  state text not null default 'closed',
  failures integer not null default 0,
  failure_threshold integer not null default 5,
  cool_down interval not null default '30 seconds',
  last_error text,
  last_failure_at timestamptz,
  opened_at timestamptz,
  probe_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint circuit_breakers_name_length check (length(name) between 1 and 255),
  constraint circuit_breakers_state_known check (state in ('closed', 'open', 'half_open')),
  constraint circuit_breakers_failures_in_range check (failures >= 0),
  constraint circuit_breakers_threshold_positive check (failure_threshold > 0),
  constraint circuit_breakers_cool_down_positive check (cool_down > interval '0'),
  constraint circuit_breakers_open_has_opened_at check ((state <> 'closed') = (opened_at is not null)),
  constraint circuit_breakers_open_has_probe_at check ((state <> 'closed') = (probe_at is not null)),
  constraint circuit_breakers_failed_has_time check (failures = 0 or last_failure_at is not null)
);
comment on table ops.circuit_breakers is
  'Outside endpoints and whether calls to them are let through after failures in a row.';
comment on column ops.circuit_breakers.probe_at is
  'Open: when one call may try again; half open: when that call counts as lost and another may try.';
create index circuit_breakers_not_closed on ops.circuit_breakers (probe_at) where state <> 'closed';
create trigger touch_circuit_breakers before update on ops.circuit_breakers
  for each row execute function private.touch_updated_at();
alter table ops.circuit_breakers enable row level security;
revoke all on table ops.circuit_breakers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.circuit_breakers to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('request_in_progress', 'PT409', 'The first request with this key still runs: wait and repeat it for its answer.');

create function ops.claim_idempotency_key(
  scope text, key text, content jsonb, workspace_id uuid default null, lease interval default '60 seconds'
) returns table (
  idempotency_key_id bigint, claimed boolean, attempt integer, response_status integer, response_body jsonb
)
language plpgsql
set search_path = ''
as $$
declare
  v_hash bytea := private.content_hash(content);
  v_row ops.idempotency_keys;
  v_claimed boolean;
begin
  insert into ops.idempotency_keys as k (workspace_id, scope, key, content_hash, lease_expires_at)
  values (claim_idempotency_key.workspace_id, claim_idempotency_key.scope, claim_idempotency_key.key, v_hash,
    private.now() + lease)
  on conflict on constraint idempotency_keys_key_key do nothing
  returning k.* into v_row;
  v_claimed := found;
  if not v_claimed then
    select k.* into strict v_row from ops.idempotency_keys k
    where k.workspace_id is not distinct from claim_idempotency_key.workspace_id
      and k.scope = claim_idempotency_key.scope and k.key = claim_idempotency_key.key
    for update;
    if v_row.content_hash <> v_hash then
      perform private.fail('key_reused', 'The key stands for a different request.', jsonb_build_object('key', key));
    end if;
    if v_row.lease_expires_at > private.now() then
      perform private.fail('request_in_progress', 'The request with this key has not ended yet.',
        jsonb_build_object('key', key, 'lease_expires_at', v_row.lease_expires_at));
    end if;
    v_claimed := v_row.status = 'in_progress';
  end if;
  if v_claimed and v_row.lease_expires_at <= private.now() then
    update ops.idempotency_keys k set attempt = k.attempt + 1, lease_expires_at = private.now() + lease
    where k.id = v_row.id
    returning k.* into v_row;
  end if;
  return query select v_row.id, v_claimed, v_row.attempt, v_row.response_status, v_row.response_body;
end $$;
comment on function ops.claim_idempotency_key(text, text, jsonb, uuid, interval) is
  'Takes the key for a request (claimed), or gives the answer that the same request got before.';
revoke all on function ops.claim_idempotency_key from public, anon, authenticated, service_role;
grant execute on function ops.claim_idempotency_key to service_role;

-- Answers that the caller should try again after (5xx) are not kept: the key is given back instead.
create function ops.settle_idempotency_key(
  idempotency_key_id bigint, attempt integer, response_status integer, response_body jsonb default null
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update ops.idempotency_keys k
  set status = case when v.kept then 'completed' else 'in_progress' end,
    completed_at = case when v.kept then private.now() end,
    response_status = case when v.kept then settle_idempotency_key.response_status end,
    response_body = case when v.kept then settle_idempotency_key.response_body end,
    lease_expires_at = case when not v.kept then private.now() end
  from (values (settle_idempotency_key.response_status < 500)) v (kept)
  where k.id = settle_idempotency_key.idempotency_key_id and k.status = 'in_progress'
    and k.attempt = settle_idempotency_key.attempt;
  return found;
end $$;
comment on function ops.settle_idempotency_key(bigint, integer, integer, jsonb) is
  'Stores the answer of a claimed request, or gives its key back after a 5xx; false when the claim was lost.';
revoke all on function ops.settle_idempotency_key from public, anon, authenticated, service_role;
grant execute on function ops.settle_idempotency_key to service_role;

create function ops.enter_circuit(name text) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from ops.circuit_breakers c where c.name = enter_circuit.name and c.state <> 'closed') then
    return true;
  end if;
  update ops.circuit_breakers c set state = 'half_open', probe_at = private.now() + c.cool_down
  where c.name = enter_circuit.name and c.state <> 'closed' and c.probe_at <= private.now();
  return found;
end $$;
comment on function ops.enter_circuit(text) is
  'May the endpoint be called? While its circuit is open: only one caller, once its cool-down is over.';
revoke all on function ops.enter_circuit from public, anon, authenticated, service_role;
grant execute on function ops.enter_circuit to service_role;

-- A success closes a half-open circuit and forgets failures of a closed one; while open it is the
-- late answer of an earlier call and proves nothing.
create function ops.record_circuit_call(name text, succeeded boolean, error text default null) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_circuit ops.circuit_breakers;
begin
  if succeeded then
    update ops.circuit_breakers c set state = 'closed', failures = 0, opened_at = null, probe_at = null
    where c.name = record_circuit_call.name
      and (c.state = 'half_open' or (c.state = 'closed' and c.failures > 0));
    return coalesce((select c.state from ops.circuit_breakers c where c.name = record_circuit_call.name), 'closed');
  end if;
  insert into ops.circuit_breakers as c (name, failures, last_error, last_failure_at)
  values (record_circuit_call.name, 1, record_circuit_call.error, private.now())
  on conflict on constraint circuit_breakers_pkey do update
  set failures = c.failures + 1, last_error = excluded.last_error, last_failure_at = excluded.last_failure_at
  returning c.* into v_circuit;
  if v_circuit.state = 'half_open'
    or (v_circuit.state = 'closed' and v_circuit.failures >= v_circuit.failure_threshold) then
    update ops.circuit_breakers c
    set state = 'open', opened_at = coalesce(c.opened_at, private.now()), probe_at = private.now() + c.cool_down
    where c.name = record_circuit_call.name;
    return 'open';
  end if;
  return v_circuit.state;
end $$;
comment on function ops.record_circuit_call(text, boolean, text) is
  'Tells how a call to an endpoint ended; enough failures in a row open its circuit. Returns its state.';
revoke all on function ops.record_circuit_call from public, anon, authenticated, service_role;
grant execute on function ops.record_circuit_call to service_role;

-- A provider that is well again takes all who wait for it: the call that tried may keep its slot for long, because it
-- waits for its answer. Nothing is locked, because claims lock circuits after their keys. With its owner's rights,
-- because the service may not write what limits have counted.
create function ops.circuit_closed() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform ops._release_slots(array_fill(ops._limit_key(new.name), array[100]));
  return null;
end $$;
comment on function ops.circuit_closed() is 'Trigger: jobs that a circuit held back are looked at when it closes.';
revoke all on function ops.circuit_closed from public, anon, authenticated, service_role;
create trigger circuit_closed after update of state on ops.circuit_breakers
  for each row when (old.state <> 'closed' and new.state = 'closed') execute function ops.circuit_closed();
