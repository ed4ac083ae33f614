-- Payments by card and the like: a payment is recorded before the provider is asked, and brings its credits once,
-- when the provider says it is paid: by webhook, by the client's proof, or because a job asked. Whoever settles a
-- payment locks its row first and the wallet after it.

create table billing.payments (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  kind text not null default 'top_up',
  provider text not null default 'stripe',
  credit_package_id uuid,
  plan_id uuid,
  billing_cycle text,
  amount_minor bigint not null,
  currency text not null,
  credits_micro bigint not null default 0,
  status text not null default 'pending',
  key text,
  provider_session_id text,
  provider_payment_id text,
  receipt_url text,
  refunded_minor bigint not null default 0,
  error text,
  error_code text,
  metadata jsonb not null default '{}',
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  paid_at timestamptz,
  constraint payments_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint payments_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint payments_credit_package_id_fkey foreign key (credit_package_id) references billing.credit_packages (id),
  constraint payments_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint payments_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint payments_session_key unique (provider, provider_session_id),
  constraint payments_provider_payment_key unique (provider, provider_payment_id),
  constraint payments_kind_known check (kind in ('top_up', 'auto_reload', 'subscription')),
  constraint payments_provider_known check (provider in ('stripe', 'razorpay')),
  constraint payments_billing_cycle_known check (billing_cycle in ('weekly', 'monthly', 'yearly')),
  constraint payments_status_known
    check (status in ('pending', 'requires_action', 'processing', 'succeeded', 'failed', 'expired', 'cancelled',
      'refunded', 'partially_refunded')),
  constraint payments_amounts_in_range
    check (amount_minor > 0 and credits_micro >= 0 and refunded_minor between 0 and amount_minor),
  constraint payments_paid_has_time
    check ((status in ('succeeded', 'refunded', 'partially_refunded')) = (paid_at is not null)),
  constraint payments_refunds_fit_status check (refunded_minor = case status when 'refunded' then amount_minor
    when 'partially_refunded' then greatest(least(refunded_minor, amount_minor - 1), 1) else 0 end),
  constraint payments_top_up_has_package check (kind <> 'top_up' or credit_package_id is not null),
  constraint payments_bring_credits check (kind = 'subscription' or credits_micro > 0)
);
comment on table billing.payments is 'Payments of workspaces; amount_minor is in minor units of the currency.';
comment on column billing.payments.provider_session_id is
  'Stripe: the checkout session, or the invoice of a subscription; Razorpay: the order.';
comment on column billing.payments.provider_payment_id is 'Stripe: the payment intent; Razorpay: the payment.';
comment on column billing.payments.error_code is 'The provider''s word for what went wrong: card_declined.';
create unique index payments_key on billing.payments (workspace_id, key) where key is not null;
create index payments_workspace_id on billing.payments (workspace_id, created_at desc);
create index payments_user_id on billing.payments (user_id) where user_id is not null;
create index payments_credit_package_id on billing.payments (credit_package_id);
create index payments_plan_id on billing.payments (plan_id);
create index payments_correlation_id on billing.payments (correlation_id) where correlation_id is not null;
create index payments_currency on billing.payments (currency);
create trigger payments_touch before update on billing.payments for each row
  execute function private.touch_updated_at();
alter table billing.payments enable row level security;
create policy "Members may read their workspace's payments" on billing.payments for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.payments from public, anon, authenticated, service_role;
grant select on table billing.payments to authenticated, service_role;
alter table billing.ledger_transactions add constraint ledger_transactions_payment_id_fkey
  foreign key (payment_id) references billing.payments (id);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_payment', 'PT404', 'Check the payment''s id.'),
  ('payment_mismatch', 'PT409', 'What was paid differs from what was asked; look at the payment at the provider.');

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('webhook.stripe', 'Applies one event of Stripe.', 'ops.on_webhook_job', null),
  ('billing.reconcile_payment', 'Asks the provider about a payment whose webhook may have been lost.', null,
    interval '30 days');
insert into ops.webhook_providers (provider, job_kind) values ('stripe', 'webhook.stripe');

-- Notes the provider's checkout session on a payment, once. Errors: unknown_payment, key_reused (the payment
-- has another session, or the session another payment), invalid_argument.
create function billing.attach_checkout(payment_id uuid, session_id text) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  if coalesce(session_id, '') = '' then
    perform private.fail('invalid_argument', 'session_id is required.', '{"argument": "session_id"}');
  end if;
  update billing.payments p set provider_session_id = attach_checkout.session_id
  where p.id = attach_checkout.payment_id
    and (p.provider_session_id is null or p.provider_session_id = attach_checkout.session_id)
    and not exists (select from billing.payments o where o.provider = p.provider
      and o.provider_session_id = attach_checkout.session_id and o.id <> p.id)
  returning * into v_payment;
  if not found then
    perform private.fail(case when exists (select from billing.payments p where p.id = attach_checkout.payment_id)
      then 'key_reused' else 'unknown_payment' end, 'The checkout session cannot be attached to this payment.',
      jsonb_build_object('payment_id', payment_id));
  end if;
  return v_payment;
end $$;
comment on function billing.attach_checkout is 'Links a payment to its checkout session at the provider.';
revoke all on function billing.attach_checkout from public, anon, authenticated, service_role;
grant execute on function billing.attach_checkout to service_role;

-- Moves a payment that is not paid yet on to another state; back, it never goes, so that its end does not depend
-- on the order in which news of it arrives. The caller holds its lock.
create function billing._advance_payment(payment billing.payments, status text, error text default null,
  error_code text default null, provider_session_id text default null, provider_payment_id text default null)
returns billing.payments
language plpgsql
set search_path = ''
as $$
declare
  v_progress text[] := array['pending', 'requires_action', 'processing', 'expired', 'cancelled', 'failed'];
  v_payment billing.payments := payment;
begin
  if array_position(v_progress, status) > array_position(v_progress, payment.status) then
    update billing.payments p
    set status = _advance_payment.status, error = _advance_payment.error, error_code = _advance_payment.error_code,
      provider_session_id = coalesce(_advance_payment.provider_session_id, p.provider_session_id),
      provider_payment_id = coalesce(_advance_payment.provider_payment_id, p.provider_payment_id)
    where p.id = payment.id
    returning * into v_payment;
  end if;
  return v_payment;
end $$;
comment on function billing._advance_payment is 'Moves an unpaid payment on to another state, never back.';
revoke all on function billing._advance_payment from public, anon, authenticated, service_role;

-- What is paid, or promised, is what was asked for. Error: payment_mismatch.
create function billing._check_paid(payment billing.payments, amount_minor bigint, currency text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if amount_minor is distinct from payment.amount_minor or upper(currency) is distinct from payment.currency then
    perform private.fail('payment_mismatch', format('Payment %s asked for %s %s, and %s %s was paid.', payment.id,
      payment.amount_minor, payment.currency, amount_minor, upper(currency)),
      jsonb_build_object('payment_id', payment.id));
  end if;
end $$;
comment on function billing._check_paid is 'Refuses money that is not what a payment asked for.';
revoke all on function billing._check_paid from public, anon, authenticated, service_role;

-- The provider says it has the money: credits arrive, then the payment is paid. What else follows (documents, an
-- auto-reload's end) hangs on the change of paid_at and finds the credits there. The caller holds the payment's
-- lock and has seen that it is not paid. Errors: payment_mismatch.
create function billing._pay(payment billing.payments, amount_minor bigint, currency text, provider_payment_id text,
  provider_session_id text default null) returns billing.payments
language plpgsql
set search_path = ''
as $$
declare
  v_package billing.credit_packages;
  v_payment billing.payments;
begin
  perform private.correlate(payment.correlation_id);
  perform billing._check_paid(payment, amount_minor, currency);
  select * into v_package from billing.credit_packages p where p.id = payment.credit_package_id;
  if payment.credits_micro > 0 then
    perform billing._grant(payment.workspace_id, payment.credits_micro,
      case when v_package.valid_days is null then 'prepaid' else 'purchase' end, 'payment:' || payment.id,
      private.now() + make_interval(days => v_package.valid_days), '{}', payment.id);
  end if;
  update billing.payments p
  set status = 'succeeded', paid_at = private.now(), error = null, error_code = null,
    provider_payment_id = coalesce(_pay.provider_payment_id, p.provider_payment_id),
    provider_session_id = coalesce(_pay.provider_session_id, p.provider_session_id)
  where p.id = payment.id
  returning * into v_payment;
  if v_payment.user_id is not null and v_payment.kind = 'top_up' then
    perform private.notify_user(v_payment.user_id, v_payment.workspace_id, 'success', 'Credits bought',
      format('The package %s has been added to the balance.', v_package.name), '/billing',
      jsonb_build_object('payment_id', v_payment.id, 'credits_micro', v_payment.credits_micro),
      'payment:' || v_payment.id, 'billing.payment_succeeded');
  end if;
  return v_payment;
end $$;
comment on function billing._pay is 'Books a payment that has been paid: its credits arrive once.';
revoke all on function billing._pay from public, anon, authenticated, service_role;

-- A workspace's customer at Stripe, noted once.
create function billing._note_customer(workspace_id uuid, customer_id text) returns void
language sql
set search_path = ''
as $$
  update billing.wallets w set provider_customer_id = customer_id
  where w.workspace_id = _note_customer.workspace_id and w.provider_customer_id is null and customer_id is not null
    and not exists (select from billing.wallets o where o.provider_customer_id = customer_id)
$$;
comment on function billing._note_customer is 'Notes the customer a workspace is at the payment provider, once.';
revoke all on function billing._note_customer from public, anon, authenticated, service_role;

-- Applies the state of a Stripe Checkout session to its payment: paid brings the credits, once; unpaid and
-- complete waits; failed and expired end it. Returns the payment, or null when the session is not one of ours. A
-- session that is not attached yet is known by its metadata, which only our key writes: whoever opens a payment
-- link chooses its client_reference_id in the address.
-- Source: a session's status is open, complete or expired, its payment_status paid, unpaid or
-- no_payment_required; credits may be given only for the first and last of these (Stripe API, Checkout).
create function billing.settle_checkout(session jsonb, failed boolean default false) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p
  where p.provider = 'stripe' and (p.provider_session_id = session ->> 'id'
    or (p.provider_session_id is null and p.id = private.try_uuid(session ->> 'client_reference_id')
      and (session ->> 'id' is null or p.id::text = session -> 'metadata' ->> 'payment_id')))
  for update;
  if not found or v_payment.paid_at is not null then
    return v_payment;
  end if;
  if coalesce(session ->> 'payment_status' in ('paid', 'no_payment_required'), false) then
    v_payment := billing._pay(v_payment, (session ->> 'amount_total')::bigint, session ->> 'currency',
      session ->> 'payment_intent', session ->> 'id');
    perform billing._note_customer(v_payment.workspace_id, session ->> 'customer');
    return v_payment;
  end if;
  return billing._advance_payment(v_payment, case when failed then 'failed'
    when session ->> 'status' = 'expired' then 'expired'
    when session ->> 'status' = 'complete' then 'processing' else 'pending' end,
    case when failed then 'the payment failed' end, provider_session_id => session ->> 'id');
end $$;
comment on function billing.settle_checkout is
  'Brings a payment to the state of its Stripe Checkout session; credits arrive once.';
revoke all on function billing.settle_checkout from public, anon, authenticated, service_role;
grant execute on function billing.settle_checkout to service_role;

-- Which SQL functions hear of which Stripe events: each domain names its own, so that a new one touches no other.
create table billing.stripe_event_handlers (
  event_type text not null,
  function_name text not null,
  position smallint not null default 0,
  created_at timestamptz not null default now(),
  constraint stripe_event_handlers_pkey primary key (event_type, function_name),
  constraint stripe_event_handlers_event_type_shape check (event_type ~ '^[a-z0-9_.]+$'),
  constraint stripe_event_handlers_function_name_shape check (function_name ~ '^[a-z_]+\.[a-z_]+$')
);
comment on table billing.stripe_event_handlers is 'Which functions apply a type of Stripe event, in order of position.';
comment on column billing.stripe_event_handlers.function_name is
  'Called as f(event ops.webhook_events) returns boolean: whether the event was of its concern.';
alter table billing.stripe_event_handlers enable row level security;
revoke all on table billing.stripe_event_handlers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table billing.stripe_event_handlers to service_role;

create function billing._apply_checkout_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_payment billing.payments := billing.settle_checkout(event.payload -> 'data' -> 'object',
    event.event_type = 'checkout.session.async_payment_failed');
begin
  return v_payment.id is not null;
end $$;
comment on function billing._apply_checkout_event(ops.webhook_events) is
  'Settles the payment that a checkout session belongs to.';
revoke all on function billing._apply_checkout_event from public, anon, authenticated, service_role;

insert into billing.stripe_event_handlers (event_type, function_name) values
  ('checkout.session.completed', 'billing._apply_checkout_event'),
  ('checkout.session.async_payment_succeeded', 'billing._apply_checkout_event'),
  ('checkout.session.async_payment_failed', 'billing._apply_checkout_event'),
  ('checkout.session.expired', 'billing._apply_checkout_event');

-- Applies a stored Stripe event. Returns applied, or ignored for types and objects that are not ours.
create function billing.apply_stripe_event(webhook_event_id bigint) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event ops.webhook_events;
  v_function text;
  v_applied boolean;
  v_any boolean := false;
begin
  select * into v_event from ops.webhook_events e where e.id = webhook_event_id and e.provider = 'stripe';
  perform private.correlate(v_event.correlation_id);
  for v_function in
    select h.function_name from billing.stripe_event_handlers h
    where h.event_type = v_event.event_type order by h.position, h.function_name
  loop
    -- the shape of the name is held by a constraint of the table
    execute 'select ' || v_function || '($1)' into v_applied using v_event;
    v_any := v_any or coalesce(v_applied, false);
  end loop;
  return case when v_any then 'applied' else 'ignored' end;
end $$;
comment on function billing.apply_stripe_event(bigint) is
  'Applies one Stripe event of the inbox; safe to repeat and in any order.';
revoke all on function billing.apply_stripe_event from public, anon, authenticated, service_role;
grant execute on function billing.apply_stripe_event to service_role;
