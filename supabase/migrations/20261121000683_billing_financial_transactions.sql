-- Money in and out of a workspace, beside what it did to the balance. The ledger counts credits; this counts money.

create table billing.financial_transactions (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  transaction_type text not null,
  amount_minor bigint not null,
  currency text not null,
  amount_micro bigint not null default 0,
  payment_id uuid,
  provider text,
  provider_payment_id text,
  provider_session_id text,
  provider_subscription_id text,
  provider_invoice_id text,
  provider_customer_id text,
  plan_slug text,
  period_start timestamptz,
  period_end timestamptz,
  balance_before_micro bigint,
  balance_after_micro bigint,
  status text not null default 'completed',
  description text not null,
  notes text,
  metadata jsonb not null default '{}',
  key text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  completed_at timestamptz,
  refunded_at timestamptz,
  constraint financial_transactions_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint financial_transactions_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint financial_transactions_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint financial_transactions_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint financial_transactions_key unique (workspace_id, key),
  constraint financial_transactions_key_length check (length(key) between 1 and 300),
  constraint financial_transactions_type_known check (transaction_type in ('top_up', 'auto_reload',
    'subscription_payment', 'subscription_renewal', 'refund', 'dispute', 'dispute_reversal', 'adjustment',
    'shopify_order')),
  constraint financial_transactions_status_known check (status in ('pending', 'completed', 'failed')),
  constraint financial_transactions_completed_has_time check ((status = 'completed') = (completed_at is not null)),
  constraint financial_transactions_balances_add_up check (balance_after_micro - balance_before_micro = amount_micro)
);
comment on table billing.financial_transactions is
  'Money that came (positive) or went, in minor units, with what could be spent before and after, in micro-units.';
create index financial_transactions_workspace_id on billing.financial_transactions (workspace_id, created_at desc);
create index financial_transactions_type on billing.financial_transactions (transaction_type, created_at desc);
create index financial_transactions_user_id on billing.financial_transactions (user_id) where user_id is not null;
create index financial_transactions_payment_id on billing.financial_transactions (payment_id)
  where payment_id is not null;
create index financial_transactions_currency on billing.financial_transactions (currency);
create trigger financial_transactions_touch before update on billing.financial_transactions for each row
  execute function private.touch_updated_at();
alter table billing.financial_transactions enable row level security;
create policy "Members may read their workspace's money" on billing.financial_transactions for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.financial_transactions from public, anon, authenticated, service_role;
grant select on table billing.financial_transactions to authenticated;
grant select, insert, update on table billing.financial_transactions to service_role;

-- Records a movement of money on a payment, once for a key. The credits it moved have been booked already and the
-- wallet is locked, so the balance is the one after it.
create function billing._record_money(key text, payment billing.payments, transaction_type text, amount_minor bigint,
  amount_micro bigint, status text, description text, user_id uuid default null, extra jsonb default '{}')
returns void
language sql
set search_path = ''
as $$
  insert into billing.financial_transactions (workspace_id, user_id, transaction_type, amount_minor, currency,
    amount_micro, payment_id, provider, provider_payment_id, provider_session_id, provider_subscription_id,
    provider_invoice_id, provider_customer_id, plan_slug, period_start, period_end, balance_before_micro,
    balance_after_micro, status, description, key, completed_at)
  select payment.workspace_id, coalesce(user_id, payment.user_id), transaction_type, amount_minor, payment.currency,
    amount_micro, payment.id, payment.provider, payment.provider_payment_id, payment.provider_session_id,
    extra ->> 'subscription_id', extra ->> 'invoice_id', w.provider_customer_id,
    (select p.slug from billing.plans p where p.id = payment.plan_id), to_timestamp((extra ->> 'period_start')::bigint),
    to_timestamp((extra ->> 'period_end')::bigint), b.balance - amount_micro, b.balance, _record_money.status,
    description, key, case when _record_money.status = 'completed' then private.now() end
  from billing.wallets w
  cross join lateral (select w.allowance_micro + w.lots_micro + w.prepaid_micro as balance) b
  where w.workspace_id = payment.workspace_id
  on conflict on constraint financial_transactions_key do nothing
$$;
comment on function billing._record_money is 'Records money that came or went on a payment, once for a key.';
revoke all on function billing._record_money from public, anon, authenticated, service_role;

-- Ends a refund's pending record; the payment's own record says when it was refunded.
create function billing._end_money(refund billing.payment_refunds, status text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update billing.financial_transactions t
  set status = _end_money.status, completed_at = case _end_money.status when 'completed' then private.now() end
  where t.workspace_id = refund.workspace_id and t.key = 'refund:' || refund.id;
  update billing.financial_transactions t
  set refunded_at = case _end_money.status when 'completed' then private.now() end
  where t.workspace_id = refund.workspace_id and t.key = 'payment:' || refund.payment_id;
end $$;
comment on function billing._end_money is 'Ends the record of a refund.';
revoke all on function billing._end_money from public, anon, authenticated, service_role;

create function private.record_payment() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  -- a plan's payment moves no credits, and whoever opens plans takes the wallet last
  perform billing._lock_wallet(new.workspace_id) where new.credits_micro > 0;
  perform billing._record_money('payment:' || new.id, new,
    case new.kind when 'subscription' then 'subscription_payment' else new.kind end, new.amount_minor,
    new.credits_micro, 'completed', case new.kind when 'auto_reload' then 'Automatic reload'
      when 'subscription' then 'Plan bought' else 'Credits bought' end);
  return null;
end $$;
comment on function private.record_payment() is 'Trigger: a payment that is paid is money that came.';
revoke all on function private.record_payment from public, anon, authenticated, service_role;
-- by its name before payments_bonus, which moves the balance on
create trigger payments_account after update of paid_at on billing.payments for each row
  when (old.paid_at is null and new.paid_at is not null)
  execute function private.record_payment();

-- What was paid on an invoice of Stripe for a subscription: a payment, so that it can be refunded and disputed like
-- any other, and money that came. The intent that paid it may be told by an event of its own.
-- Source: since version 2025-03-31 an invoice names no payment intent; its payments do (Stripe API, Invoices).
create function billing._record_subscription_payment(workspace_id uuid, invoice jsonb, subscription_id text)
returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_payment billing.payments;
  v_subscription billing.subscriptions;
  v_reason text := invoice ->> 'billing_reason';
begin
  select * into v_subscription from billing.subscriptions s
  where s.provider = 'stripe' and s.provider_subscription_id = subscription_id;
  insert into billing.payments (workspace_id, kind, provider, plan_id, billing_cycle, amount_minor, currency, status,
    provider_session_id, provider_payment_id, receipt_url, paid_at)
  values (workspace_id, 'subscription', 'stripe', v_subscription.plan_id,
    (select case pr.billing_period when 'week' then 'weekly' when 'month' then 'monthly' else 'yearly' end
      from billing.plan_prices pr where pr.id = v_subscription.plan_price_id),
    (invoice ->> 'amount_paid')::bigint, upper(invoice ->> 'currency'), 'succeeded', invoice ->> 'id',
    coalesce(invoice ->> 'payment_intent',
      invoice -> 'payments' -> 'data' -> 0 -> 'payment' ->> 'payment_intent'),
    invoice ->> 'hosted_invoice_url', private.now())
  on conflict do nothing
  returning * into v_payment;
  if not found then
    return;
  end if;
  update billing.invoices i set payment_id = v_payment.id
  where i.provider = 'stripe' and i.provider_invoice_id = invoice ->> 'id';
  perform billing._lock_wallet(workspace_id);
  perform billing._record_money('payment:' || v_payment.id, v_payment,
    case v_reason when 'subscription_cycle' then 'subscription_renewal' else 'subscription_payment' end,
    v_payment.amount_minor, 0, 'completed',
    case v_reason when 'subscription_cycle' then 'Subscription renewed' else 'Subscription' end, null,
    jsonb_build_object('subscription_id', subscription_id, 'invoice_id', invoice ->> 'id',
      'period_start', invoice ->> 'period_start', 'period_end', invoice ->> 'period_end'));
end $$;
comment on function billing._record_subscription_payment is
  'Records what was paid on an invoice of a subscription, once.';
revoke all on function billing._record_subscription_payment from public, anon, authenticated, service_role;

-- Which intent paid an invoice. While the invoice is ours but not known to be paid, the event is tried again.
create function billing._apply_invoice_payment_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_paid jsonb := event.payload -> 'data' -> 'object';
begin
  update billing.payments p set provider_payment_id = v_paid -> 'payment' ->> 'payment_intent'
  where p.provider = 'stripe' and p.provider_session_id = v_paid ->> 'invoice' and p.kind = 'subscription'
    and p.provider_payment_id is null and v_paid -> 'payment' ->> 'payment_intent' is not null;
  if not found and exists (select from billing.invoices i where i.provider_invoice_id = v_paid ->> 'invoice'
    and i.payment_id is null) then
    perform private.fail('unknown_payment', 'The invoice has not been paid yet.',
      jsonb_build_object('invoice', v_paid ->> 'invoice'));
  end if;
  return exists (select from billing.payments p where p.provider_session_id = v_paid ->> 'invoice');
end $$;
comment on function billing._apply_invoice_payment_event(ops.webhook_events) is
  'Notes the intent that paid an invoice.';
revoke all on function billing._apply_invoice_payment_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name) values
  ('invoice_payment.paid', 'billing._apply_invoice_payment_event');
