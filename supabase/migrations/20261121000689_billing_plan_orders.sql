-- A plan bought for one period by an order at Razorpay: paid beforehand, it runs out unless it is bought again. What
-- is bought while it runs is added at its end.

-- Does another plan hold the app's place, so that this one cannot open? A period of ours that is over holds nothing.
create function billing._plan_is_barred(subscription billing.subscriptions, plan_id uuid) returns boolean
language sql stable
set search_path = ''
as $$
  select coalesce(billing._holds_place(subscription) and not (subscription.provider = 'razorpay'
    and (subscription.plan_id = _plan_is_barred.plan_id or subscription.current_period_end <= private.now())), false)
$$;
comment on function billing._plan_is_barred is 'Whether another subscription keeps a plan from opening.';
revoke all on function billing._plan_is_barred from public, anon, authenticated, service_role;

create function private.start_plan_order(workspace_id uuid, plan_price_id uuid, key text, currency text)
returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_price billing.plan_prices;
  v_plan billing.plans;
  v_row billing.subscriptions;
  v_payment billing.payments;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in user can buy a plan.');
  end if;
  perform private.require_role(workspace_id, 'admin');
  if key is not null then
    perform billing._check_key(key);
  end if;
  select * into v_price from billing.plan_prices p where p.id = plan_price_id and p.is_active and p.amount_minor > 0;
  select * into v_plan from billing.plans p where p.id = v_price.plan_id and p.is_active and p.is_visible
    and not p.is_legacy and p.deleted_at is null;
  if v_plan.id is null then
    perform private.fail('unknown_price', 'There is no such price of a plan for sale.',
      jsonb_build_object('plan_price_id', plan_price_id));
  elsif not exists (select from billing.sale_currencies c where c.currency = start_plan_order.currency and c.is_active
    and c.provider = 'razorpay') then
    perform private.fail('currency_not_sold', format('Razorpay is not paid in %s.', currency),
      jsonb_build_object('currency', currency, 'provider', 'razorpay'));
  end if;
  select * into v_payment from billing.payments p where p.workspace_id = start_plan_order.workspace_id
    and p.key = start_plan_order.key;
  if found then
    if v_payment.metadata ->> 'plan_price_id' is distinct from plan_price_id::text
      or v_payment.currency <> currency then
      perform private.fail('key_reused', 'This key has been used for a different purchase.',
        jsonb_build_object('key', key, 'payment_id', v_payment.id));
    end if;
    return v_payment;
  end if;
  select * into v_row from billing.subscriptions s where s.workspace_id = start_plan_order.workspace_id
    and s.app = v_plan.app;
  if billing._plan_is_barred(v_row, v_plan.id) then
    perform private.fail('already_subscribed', 'The workspace has another plan of this app.',
      jsonb_build_object('subscription_id', v_row.id, 'plan_id', v_row.plan_id, 'status', v_row.status));
  end if;
  return billing._order_plan(workspace_id, v_price, key, currency);
end $$;
comment on function private.start_plan_order is 'Core of billing.start_plan_order; checks the caller first.';
revoke all on function private.start_plan_order from public, anon, authenticated, service_role;
grant execute on function private.start_plan_order to authenticated;

-- The pending payment of a plan, and the job that will ask Razorpay about it.
create function billing._order_plan(workspace_id uuid, price billing.plan_prices, key text, currency text)
returns billing.payments
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_payment billing.payments;
begin
  perform billing._check_open_payments(auth.uid(), workspace_id, key);
  perform private.correlate();
  insert into billing.payments (workspace_id, user_id, kind, provider, plan_id, billing_cycle, amount_minor, currency,
    key, metadata)
  values (workspace_id, auth.uid(), 'subscription', 'razorpay', price.plan_id,
    case price.billing_period when 'week' then 'weekly' when 'month' then 'monthly' else 'yearly' end,
    billing.convert_minor(price.amount_minor, price.currency, currency), currency, key,
    jsonb_build_object('plan_price_id', price.id))
  on conflict do nothing
  returning * into v_payment;
  if not found then
    return private.start_plan_order(workspace_id, price.id, key, currency);
  end if;
  perform ops.enqueue_job('billing.reconcile_payment',
    jsonb_build_object('payment_id', v_payment.id, 'provider', 'razorpay'), workspace_id,
    run_at => private.now() + interval '2 minutes', max_attempts => 20, key => 'reconcile:' || v_payment.id,
    provider => v_payment.provider);
  return v_payment;
end $$;
comment on function billing._order_plan is 'Records the pending payment of a plan.';
revoke all on function billing._order_plan from public, anon, authenticated, service_role;

-- Starts the purchase of one period of a plan through Razorpay, at the plan's price in the currency. Admins may; with
-- a key, a repeat answers the same payment. Errors: unknown_workspace, role_too_low, unknown_price,
-- already_subscribed, currency_not_sold, no_currency_rate, too_many_payments, key_reused, key_required,
-- not_signed_in.
create function billing.start_plan_order(workspace_id uuid, plan_price_id uuid, key text default null,
  currency text default 'INR') returns billing.payments
language sql
set search_path = ''
as $$ select private.start_plan_order(workspace_id, plan_price_id, key, currency) $$;
comment on function billing.start_plan_order is
  'Records a pending payment for one period of a plan; the caller is an admin of the workspace.';
revoke all on function billing.start_plan_order from public, anon, authenticated, service_role;
grant execute on function billing.start_plan_order to authenticated;

create function billing._period_of(price billing.plan_prices) returns interval
language sql immutable
set search_path = ''
as $$
  select price.billing_interval * case price.billing_period when 'week' then interval '7 days'
    when 'month' then interval '1 month' else interval '1 year' end
$$;
comment on function billing._period_of(billing.plan_prices) is 'How long a price pays for.';
revoke all on function billing._period_of from public, anon, authenticated, service_role;

-- Opens the plan of a payment for so long, or lets it go on for so much longer. Returns since when, null where another
-- plan has taken its place meanwhile.
create function billing._open_plan(payment billing.payments, period interval) returns timestamptz
language plpgsql
set search_path = ''
as $$
declare
  v_price_id uuid := (payment.metadata ->> 'plan_price_id')::uuid;
  v_app text := (select p.app from billing.plans p where p.id = payment.plan_id);
  v_row billing.subscriptions;
  v_start timestamptz := private.now();
begin
  perform billing._lock_place(payment.workspace_id, v_app);
  select * into v_row from billing.subscriptions s where s.workspace_id = payment.workspace_id and s.app = v_app
    for no key update;
  if billing._plan_is_barred(v_row, payment.plan_id) then
    return null;
  elsif coalesce(v_row.provider = 'razorpay' and v_row.status = 'active' and v_row.plan_id = payment.plan_id
    and v_row.current_period_end > private.now(), false) then
    v_start := v_row.current_period_end;
    update billing.subscriptions s
    set current_period_end = v_start + period, cancel_at = v_start + period, plan_price_id = v_price_id
    where s.id = v_row.id;
  else
    insert into billing.subscriptions (workspace_id, app, plan_id, plan_price_id, provider, provider_subscription_id,
      current_period_start, current_period_end, allowance_anchor_at, cancel_at_period_end, cancel_at)
    values (payment.workspace_id, v_app, payment.plan_id, v_price_id, 'razorpay', payment.provider_session_id, v_start,
      v_start + period, v_start, true, v_start + period)
    on conflict on constraint subscriptions_workspace_app_key do update
    set plan_id = excluded.plan_id, plan_price_id = excluded.plan_price_id, status = 'active', provider = 'razorpay',
      provider_subscription_id = excluded.provider_subscription_id, provider_schedule_id = null,
      provider_created_at = null, current_period_start = excluded.current_period_start,
      current_period_end = excluded.current_period_end, allowance_anchor_at = excluded.allowance_anchor_at,
      trial_start = null, trial_end = null, cancel_at_period_end = true, cancel_at = excluded.cancel_at,
      cancelled_at = null, ended_at = null, scheduled_plan_id = null, scheduled_plan_price_id = null,
      scheduled_at = null, payment_url = null, grace_ends_at = null;
  end if;
  update billing.payments p
  set metadata = p.metadata || jsonb_build_object('period_start', extract(epoch from v_start),
    'period_end', extract(epoch from v_start + period))
  where p.id = payment.id;
  return v_start;
end $$;
comment on function billing._open_plan is 'Opens a plan bought for a period, or prolongs it; returns since when.';
revoke all on function billing._open_plan from public, anon, authenticated, service_role;

-- A plan that is paid opens now, or goes on longer. Where another provider's plan has taken its place meanwhile, the
-- money goes back.
create function private.open_paid_plan() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_period interval := (select billing._period_of(p) from billing.plan_prices p
    where p.id = (new.metadata ->> 'plan_price_id')::uuid);
  v_start timestamptz := billing._open_plan(new, v_period);
begin
  if v_start is null then
    perform billing._refund_surplus(new);
    return null;
  end if;
  perform private.notify_user(new.user_id, new.workspace_id, 'success', 'Plan paid',
    format('It runs until %s.', to_char((v_start + v_period) at time zone 'UTC', 'YYYY-MM-DD')),
    '/billing', jsonb_build_object('payment_id', new.id), 'payment:' || new.id, 'billing.payment_succeeded');
  return null;
end $$;
comment on function private.open_paid_plan() is 'Trigger: a plan bought for a period opens when it is paid.';
revoke all on function private.open_paid_plan from public, anon, authenticated, service_role;
create trigger payments_open_plan after update of paid_at on billing.payments for each row
  when (old.paid_at is null and new.paid_at is not null and new.kind = 'subscription' and new.provider = 'razorpay')
  execute function private.open_paid_plan();

create function billing._refund_surplus(payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_refund billing.payment_refunds := billing._open_refund(payment, payment.amount_minor,
    'the workspace has a plan of this app already', 'surplus', null, null);
begin
  perform ops.enqueue_job('billing.refund_payment', jsonb_build_object('refund_id', v_refund.id),
    payment.workspace_id, max_attempts => 50, key => 'refund:' || v_refund.id, provider => payment.provider);
end $$;
comment on function billing._refund_surplus(billing.payments) is
  'Gives back what was paid for a plan that cannot open.';
revoke all on function billing._refund_surplus from public, anon, authenticated, service_role;

-- A period whose money has gone back is taken off the plan; with nothing left, the plan ends, and with it what is
-- unspent of its allowance.
create function private.shorten_refunded_plan() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_unused interval := to_timestamp((new.metadata ->> 'period_end')::numeric)
    - greatest(to_timestamp((new.metadata ->> 'period_start')::numeric), private.now());
  v_ended uuid;
begin
  if v_unused > interval '0' then
    update billing.subscriptions s
    set current_period_end = greatest(s.current_period_end - v_unused,
        s.current_period_start + interval '1 second'),
      cancel_at = greatest(s.current_period_end - v_unused, s.current_period_start + interval '1 second'),
      status = case when s.current_period_end - v_unused > private.now() then s.status else 'cancelled' end,
      cancelled_at = coalesce(s.cancelled_at, private.now())
    where s.workspace_id = new.workspace_id and s.plan_id = new.plan_id and s.provider = 'razorpay'
      and s.status = 'active'
    returning s.id into v_ended;
    perform billing._lock_wallet(new.workspace_id);
    update billing.credit_lots l set expires_at = private.now()
    from billing.subscriptions s
    where s.id = v_ended and s.status = 'cancelled' and l.workspace_id = s.workspace_id and l.is_open
      and l.kind in ('allowance', 'rollover') and l.expires_at > private.now()
      and l.metadata ->> 'subscription_id' = s.id::text;
    update billing.payments p set metadata = p.metadata || jsonb_build_object('period_taken', v_unused)
    where p.id = new.id;
  end if;
  return null;
end $$;
comment on function private.shorten_refunded_plan() is 'Trigger: a refunded period is taken off its plan.';
revoke all on function private.shorten_refunded_plan from public, anon, authenticated, service_role;
create trigger payments_shorten_plan after update of status on billing.payments for each row
  when (new.status = 'refunded' and old.status <> 'refunded' and new.kind = 'subscription'
    and new.provider = 'razorpay' and new.metadata ? 'period_end')
  execute function private.shorten_refunded_plan();

-- The money did not go back after all: what was taken off the plan is open again.
create function private.restore_paid_plan() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform billing._open_plan(new, (new.metadata ->> 'period_taken')::interval);
  update billing.payments p set metadata = p.metadata - 'period_taken' where p.id = new.id;
  return null;
end $$;
comment on function private.restore_paid_plan() is 'Trigger: a plan whose refund failed gets its period back.';
revoke all on function private.restore_paid_plan from public, anon, authenticated, service_role;
create trigger payments_restore_plan after update of status on billing.payments for each row
  when (old.status = 'refunded' and new.status = 'succeeded' and new.kind = 'subscription'
    and new.provider = 'razorpay' and new.metadata ? 'period_taken')
  execute function private.restore_paid_plan();

-- Sweep: ends the plans whose paid period is over. It waits for no wallet (a busy one has its turn next time), so it is
-- never part of a deadlock.
create function billing.end_paid_plans() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ended integer;
begin
  update billing.subscriptions s set status = 'cancelled', cancelled_at = coalesce(s.cancelled_at, private.now())
  where s.id in (select d.id from billing.subscriptions d
    join billing.wallets w on w.workspace_id = d.workspace_id
    where d.provider = 'razorpay' and d.status = 'active' and d.current_period_end <= private.now()
    order by d.current_period_end limit 500 for no key update of w, d skip locked);
  get diagnostics v_ended = row_count;
  return v_ended;
end $$;
comment on function billing.end_paid_plans() is 'Sweep: ends up to 500 plans whose paid period is over.';
revoke all on function billing.end_paid_plans from public, anon, authenticated, service_role;
grant execute on function billing.end_paid_plans to service_role;
create index subscriptions_paid_until on billing.subscriptions (current_period_end)
  where provider = 'razorpay' and status = 'active';
insert into ops.sweeps (name, function_name, every) values
  ('end paid plans', 'billing.end_paid_plans', interval '1 minute');
