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
    "credits_micro": 10000000, "paid_at": "2026-11-21T12:00:00+00:00", "error_code": null}'),
  ('payment.failed', 'A payment has failed; nothing was charged.', '{
    "id": "8a4f7e02-3f0e-4f57-9d4c-0c6f2b1f7d11", "kind": "auto_reload", "amount_minor": 1000, "currency": "USD",
    "credits_micro": 10000000, "paid_at": null, "error_code": "card_declined"}'),
  ('subscription.changed', 'A subscription has begun, ended, or changed its plan, price, status or schedule.', '{
    "id": "0f1f8c39-6a0e-4d7b-8c7e-3d1a5b9e2c44", "app": "selify", "plan": "pro", "status": "past_due",
    "current_period_end": "2026-12-21T12:00:00+00:00", "cancel_at_period_end": false, "cancel_at": null,
    "scheduled_plan": null, "scheduled_at": null, "ended_at": null,
    "previous": {"plan": "pro", "status": "active"}}'),
  ('payout.paid', 'A payout has arrived at the workspace''s bank.', '{
    "id": "b3b8b4f2-4c1d-49c7-9a53-6f4f2f2f0c31", "status": "paid", "amount_minor": 12500,
    "currency": "USD", "settled_minor": 12500, "returned_minor": 0, "failure_code": null,
    "arrives_at": "2026-11-24T00:00:00+00:00", "finished_at": "2026-11-24T09:30:00+00:00"}'),
  ('payout.failed', 'A payout has failed; its amount is payable again.', '{
    "id": "b3b8b4f2-4c1d-49c7-9a53-6f4f2f2f0c31", "status": "failed", "amount_minor": 12500,
    "currency": "USD", "settled_minor": 0, "returned_minor": 12500, "failure_code": "account_closed",
    "arrives_at": "2026-11-24T00:00:00+00:00", "finished_at": "2026-11-24T09:30:00+00:00"}'),
  ('payout.reversed', 'A payout was taken back; its amount is payable again.', '{
    "id": "b3b8b4f2-4c1d-49c7-9a53-6f4f2f2f0c31", "status": "reversed", "amount_minor": 12500,
    "currency": "USD", "settled_minor": 0, "returned_minor": 12500, "failure_code": null,
    "arrives_at": "2026-11-24T00:00:00+00:00", "finished_at": "2026-11-24T09:30:00+00:00"}'),
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

-- A payment may fail several times before it succeeds: each time is told.
create function private.tell_payment() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' and old.status = new.status then
    return null;
  end if;
  perform private.emit_event(new.workspace_id, 'payment.' || new.status,
    jsonb_build_object('id', new.id, 'kind', new.kind, 'amount_minor', new.amount_minor, 'currency', new.currency,
      'credits_micro', new.credits_micro, 'paid_at', new.paid_at, 'error_code', new.error_code),
    concat_ws(':', 'payment.' || new.status, new.id,
      case new.status when 'failed' then pg_catalog.pg_current_xact_id()::text end));
  return null;
end $$;
comment on function private.tell_payment() is 'Trigger: emits payment.succeeded or .failed.';
revoke all on function private.tell_payment from public, anon, authenticated, service_role;
create constraint trigger payments_tell after insert or update of status on billing.payments
  deferrable initially deferred for each row when (new.status in ('succeeded', 'failed'))
  execute function private.tell_payment();

create function private.subscription_facts(subscription billing.subscriptions) returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object('id', subscription.id, 'app', subscription.app,
    'plan', (select p.slug from billing.plans p where p.id = subscription.plan_id), 'status', subscription.status,
    'current_period_end', subscription.current_period_end,
    'cancel_at_period_end', subscription.cancel_at_period_end, 'cancel_at', subscription.cancel_at,
    'scheduled_plan', (select p.slug from billing.plans p where p.id = subscription.scheduled_plan_id),
    'scheduled_at', subscription.scheduled_at, 'ended_at', subscription.ended_at)
$$;
comment on function private.subscription_facts(billing.subscriptions) is 'What customers are told of a subscription.';
revoke all on function private.subscription_facts from public, anon, authenticated, service_role;

-- Judged at the end of the transaction, against what was before it: several changes in one are one, and one that is
-- taken back is none. A period that follows another of the same plan is no change.
create function private.tell_subscription_changed() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_now billing.subscriptions := (select s from billing.subscriptions s where s.id = new.id);
  v_before billing.subscriptions := case when tg_op = 'UPDATE' then old end;
  v_judged text := coalesce(current_setting('backlot.subscriptions_judged', true), '');
begin
  -- the first change knows what was before the transaction
  if strpos(v_judged, new.id::text) > 0 then
    return null;
  end if;
  perform set_config('backlot.subscriptions_judged', v_judged || new.id, true);
  if v_now.id is null or (v_now.plan_id, v_now.plan_price_id, v_now.status, v_now.cancel_at_period_end, v_now.cancel_at,
      v_now.scheduled_plan_id, v_now.scheduled_at, v_now.ended_at)
    is not distinct from (v_before.plan_id, v_before.plan_price_id, v_before.status, v_before.cancel_at_period_end,
      v_before.cancel_at, v_before.scheduled_plan_id, v_before.scheduled_at, v_before.ended_at) then
    return null;
  end if;
  perform private.emit_event(v_now.workspace_id, 'subscription.changed', private.subscription_facts(v_now)
      || jsonb_build_object('previous', case when v_before.id is not null then jsonb_build_object(
        'plan', (select p.slug from billing.plans p where p.id = v_before.plan_id), 'status', v_before.status) end),
    format('subscription.changed:%s:%s', v_now.id, pg_catalog.pg_current_xact_id()));
  return null;
end $$;
comment on function private.tell_subscription_changed() is 'Trigger: emits subscription.changed.';
revoke all on function private.tell_subscription_changed from public, anon, authenticated, service_role;
create constraint trigger subscriptions_tell_changed
  after insert or update of plan_id, plan_price_id, status, cancel_at_period_end, cancel_at, scheduled_plan_id,
    scheduled_at, ended_at on billing.subscriptions
  deferrable initially deferred for each row execute function private.tell_subscription_changed();

-- What was paid may come back later, which is told by an event of its own.
create function private.tell_payout() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.emit_event(new.workspace_id, 'payout.' || new.status,
    jsonb_build_object('id', new.id, 'status', new.status, 'amount_minor', new.amount_minor, 'currency', new.currency,
      'settled_minor', new.settled_minor, 'returned_minor', new.returned_minor, 'failure_code', new.failure_code,
      'arrives_at', new.arrives_at, 'finished_at', new.finished_at), format('payout.%s:%s', new.status, new.id));
  return null;
end $$;
comment on function private.tell_payout() is 'Trigger: emits payout.paid, .failed or .reversed.';
revoke all on function private.tell_payout from public, anon, authenticated, service_role;
create constraint trigger payouts_tell after update of status on billing.payouts
  deferrable initially deferred for each row
  when (old.status is distinct from new.status and new.status in ('paid', 'failed', 'reversed'))
  execute function private.tell_payout();

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
