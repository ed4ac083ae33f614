-- Which events there are and where they come from. Each has a trigger, so that it is told whoever makes the
-- change, and only for the rows that matter. All are deferred to the end of the transaction: the lock that keeps
-- ordered endpoints in order is taken last and held shortest. A new event: a row in
-- integrations.webhook_event_types and a trigger here, or a call of private.emit_event where no row changes.

insert into integrations.webhook_event_types (type, description, example) values
  ('creation.completed', 'A creation is ready.', '{
    "id": "5d0f5dd6-5ea4-4d0c-a6f4-6d3a55ab1c6c", "project_id": null, "creation_type": "tryon", "status": "completed",
    "result_paths": ["0b6e2f6a-0a44-4c8c-b6a0-7d5f4f0f8f3e/5d0f5dd6-5ea4-4d0c-a6f4-6d3a55ab1c6c/1.png"],
    "cost_micro": 10000, "error_code": null, "created_at": "2026-11-21T12:00:00+00:00",
    "completed_at": "2026-11-21T12:00:09+00:00"}'),
  ('creation.failed', 'A creation could not be made; nothing was charged.', '{
    "id": "5d0f5dd6-5ea4-4d0c-a6f4-6d3a55ab1c6c", "project_id": null, "creation_type": "tryon", "status": "failed",
    "result_paths": [], "cost_micro": null, "error_code": "provider_rejected",
    "created_at": "2026-11-21T12:00:00+00:00", "completed_at": "2026-11-21T12:00:09+00:00"}'),
  ('creation.cancelled', 'A creation was cancelled; nothing was charged.', '{
    "id": "5d0f5dd6-5ea4-4d0c-a6f4-6d3a55ab1c6c", "project_id": null, "creation_type": "tryon", "status": "cancelled",
    "result_paths": [], "cost_micro": null, "error_code": null, "created_at": "2026-11-21T12:00:00+00:00",
    "completed_at": "2026-11-21T12:00:09+00:00"}'),
  ('payment.succeeded', 'A payment has arrived and its credits with it.', '{
    "id": "8a4f7e02-3f0e-4f57-9d4c-0c6f2b1f7d11", "kind": "top_up", "amount_minor": 1000, "currency": "USD",
    "credits_micro": 10000000, "paid_at": "2026-11-21T12:00:00+00:00"}'),
  ('credits.low', 'The credits available fell below the workspace''s threshold.',
    '{"available_micro": 900000, "threshold_micro": 1000000}'),
  ('member.joined', 'Somebody became a member of the workspace.', '{
    "user_id": "c2f6a9f0-8f0b-4b39-9d2e-5a7f0a3d1e42", "role": "member", "joined_at": "2026-11-21T12:00:00+00:00"}'),
  ('webhook.test', 'Sent on request, to try an endpoint.', '{"endpoint_id": "e7b8d4de-9d0b-4d29-8a51-1f4f9a8f6c55"}');

-- A creation that is replayed ends anew: each time it has another charge.
create function private.tell_creation_ended() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.emit_event(new.workspace_id, 'creation.' || new.status,
    jsonb_build_object('id', new.id, 'project_id', new.project_id, 'creation_type', new.creation_type,
      'status', new.status, 'result_paths', new.result_paths, 'cost_micro', new.cost_micro,
      'error_code', new.error_code, 'created_at', new.created_at, 'completed_at', new.completed_at),
    format('creation:%s:%s:%s', new.id, new.status, new.usage_event_id));
  return null;
end $$;
comment on function private.tell_creation_ended() is 'Trigger: emits creation.completed, .failed or .cancelled.';
revoke all on function private.tell_creation_ended from public, anon, authenticated, service_role;
create constraint trigger creations_tell_ended after update of status on studio.creations
  deferrable initially deferred for each row
  when (old.status is distinct from new.status and new.status in ('completed', 'failed', 'cancelled'))
  execute function private.tell_creation_ended();

create function private.tell_payment_succeeded() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.emit_event(new.workspace_id, 'payment.succeeded',
    jsonb_build_object('id', new.id, 'kind', new.kind, 'amount_minor', new.amount_minor, 'currency', new.currency,
      'credits_micro', new.credits_micro, 'paid_at', new.paid_at), 'payment.succeeded:' || new.id);
  return null;
end $$;
comment on function private.tell_payment_succeeded() is 'Trigger: emits payment.succeeded.';
revoke all on function private.tell_payment_succeeded from public, anon, authenticated, service_role;
create constraint trigger payments_tell_succeeded after update of status on billing.payments
  deferrable initially deferred for each row
  when (old.status is distinct from new.status and new.status = 'succeeded')
  execute function private.tell_payment_succeeded();

-- Judged at the end of the transaction: one in which an allowance ends and the next one comes tells nothing.
-- The key makes several movements of one transaction one crossing.
create function private.tell_credits_low() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_available bigint;
begin
  select w.allowance_micro + w.lots_micro + w.prepaid_micro into v_available
  from billing.wallets w where w.workspace_id = new.workspace_id;
  if v_available < new.low_balance_threshold_micro then
    perform private.emit_event(new.workspace_id, 'credits.low',
      jsonb_build_object('available_micro', v_available, 'threshold_micro', new.low_balance_threshold_micro),
      format('credits.low:%s', pg_catalog.pg_current_xact_id()));
  end if;
  return null;
end $$;
comment on function private.tell_credits_low() is
  'Trigger: emits credits.low when the balance has crossed its threshold.';
revoke all on function private.tell_credits_low from public, anon, authenticated, service_role;
create constraint trigger wallets_tell_credits_low
  after update of allowance_micro, lots_micro, prepaid_micro on billing.wallets
  deferrable initially deferred for each row
  when (old.allowance_micro + old.lots_micro + old.prepaid_micro >= new.low_balance_threshold_micro
    and new.allowance_micro + new.lots_micro + new.prepaid_micro < new.low_balance_threshold_micro)
  execute function private.tell_credits_low();

create function private.tell_member_joined() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.emit_event(new.workspace_id, 'member.joined',
    jsonb_build_object('user_id', new.user_id, 'role', new.role, 'joined_at', new.joined_at),
    'member.joined:' || new.id);
  return null;
end $$;
comment on function private.tell_member_joined() is 'Trigger: emits member.joined.';
revoke all on function private.tell_member_joined from public, anon, authenticated, service_role;
create constraint trigger workspace_members_tell_joined after insert on identity.workspace_members
  deferrable initially deferred for each row execute function private.tell_member_joined();

create function private.set_low_balance_threshold(workspace_id uuid, amount_micro bigint) returns billing.wallets
language plpgsql security definer
set search_path = ''
as $$
declare
  v_wallet billing.wallets;
begin
  perform private.require_role(set_low_balance_threshold.workspace_id, 'admin');
  if amount_micro < 0 then
    perform private.fail('invalid_argument', 'amount_micro must be 0 or more, or null for no threshold.',
      '{"argument": "amount_micro"}');
  end if;
  perform billing._lock_wallet(set_low_balance_threshold.workspace_id);
  update billing.wallets w set low_balance_threshold_micro = set_low_balance_threshold.amount_micro
  where w.workspace_id = set_low_balance_threshold.workspace_id
  returning * into v_wallet;
  return v_wallet;
end $$;
comment on function private.set_low_balance_threshold(uuid, bigint) is 'Core of billing.set_low_balance_threshold.';
revoke all on function private.set_low_balance_threshold from public, anon, authenticated, service_role;
grant execute on function private.set_low_balance_threshold to authenticated, service_role;

create function billing.set_low_balance_threshold(workspace_id uuid, amount_micro bigint) returns billing.wallets
language sql
set search_path = ''
as $$
  select private.set_low_balance_threshold(set_low_balance_threshold.workspace_id,
    set_low_balance_threshold.amount_micro)
$$;
comment on function billing.set_low_balance_threshold(uuid, bigint) is
  'An admin says below how many micro-units the workspace is told that its credits run low; null: never.';
revoke all on function billing.set_low_balance_threshold from public, anon, authenticated, service_role;
grant execute on function billing.set_low_balance_threshold to authenticated, service_role;
