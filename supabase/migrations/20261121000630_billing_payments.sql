-- Payments by card and the like: a top-up is recorded before the provider is asked, and brings its credits
-- once, when the provider says it is paid: by webhook, or because the reconcile job asked.

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
  error text,
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
  constraint payments_kind_known check (kind in ('top_up', 'subscription')),
  constraint payments_provider_known check (provider in ('stripe', 'razorpay')),
  constraint payments_billing_cycle_known check (billing_cycle in ('weekly', 'monthly', 'yearly')),
  constraint payments_status_known
    check (status in ('pending', 'processing', 'succeeded', 'failed', 'expired', 'cancelled', 'refunded',
      'partially_refunded')),
  constraint payments_amounts_in_range check (amount_minor > 0 and credits_micro >= 0),
  constraint payments_paid_has_time
    check ((status in ('succeeded', 'refunded', 'partially_refunded')) = (paid_at is not null)),
  constraint payments_top_up_has_package
    check (kind <> 'top_up' or (credit_package_id is not null and credits_micro > 0))
);
comment on table billing.payments is 'Payments of workspaces; amount_minor is in minor units of the currency.';
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
  ('unknown_package', 'PT404', 'Choose one of the active billing.credit_packages by its slug.'),
  ('unknown_payment', 'PT404', 'Check the payment''s id.'),
  ('too_many_payments', 'PT429', 'Pay or let expire what was begun; a checkout expires after a day.'),
  ('payment_mismatch', 'PT409', 'What was paid differs from what was asked; look at the payment at the provider.');

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('webhook.stripe', 'Applies one event of Stripe.', 'ops.on_webhook_job', null),
  ('billing.reconcile_payment', 'Asks Stripe about a payment whose webhook may have been lost.', null,
    interval '2 days');
insert into ops.webhook_providers (provider, job_kind) values ('stripe', 'webhook.stripe');

create function private.start_top_up(workspace_id uuid, package text, key text) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_package billing.credit_packages;
  v_payment billing.payments;
  v_user uuid := auth.uid();
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in user can buy credits.');
  end if;
  perform private.require_role(workspace_id, 'admin');
  if key is not null then
    perform billing._check_key(key);
  end if;
  select * into v_package from billing.credit_packages p where p.slug = package and p.is_active;
  if not found then
    perform private.fail('unknown_package', format('There is no active credit package "%s".', package),
      jsonb_build_object('package', package));
  end if;
  -- Each payment that was begun is asked about at the provider until it ends, and the provider limits how often all
  -- of us may ask.
  perform pg_advisory_xact_lock(hashtextextended('start_top_up:' || v_user, 0));
  if (select count(*) from billing.payments p where p.user_id = v_user and p.status = 'pending'
      and p.created_at > private.now() - interval '1 day') >= 20
    and not exists (select from billing.payments p where p.workspace_id = start_top_up.workspace_id
      and p.key = start_top_up.key) then
    perform private.fail('too_many_payments', '20 payments of yours are open.', '{"most": 20}');
  end if;
  perform private.correlate();
  insert into billing.payments (workspace_id, user_id, credit_package_id, amount_minor, currency, credits_micro, key)
  values (workspace_id, v_user, v_package.id, v_package.price_minor, v_package.currency, v_package.credits_micro, key)
  on conflict do nothing
  returning * into v_payment;
  if not found then
    select * into v_payment from billing.payments p where p.workspace_id = start_top_up.workspace_id
      and p.key = start_top_up.key;
    if v_payment.credit_package_id <> v_package.id then
      perform private.fail('key_reused', 'This key has been used for a different purchase.',
        jsonb_build_object('key', key, 'payment_id', v_payment.id));
    end if;
    return v_payment;
  end if;
  perform ops.enqueue_job('billing.reconcile_payment',
    jsonb_build_object('payment_id', v_payment.id, 'provider', v_payment.provider), workspace_id,
    run_at => private.now() + interval '2 minutes', max_attempts => 20, key => 'reconcile:' || v_payment.id);
  return v_payment;
end $$;
comment on function private.start_top_up is 'Core of billing.start_top_up; checks the caller first.';
revoke all on function private.start_top_up from public, anon, authenticated, service_role;
grant execute on function private.start_top_up to authenticated;

-- Starts the purchase of a credit package: a pending payment, and the job that will ask the provider if no
-- webhook comes. Admins of the workspace may; with a key, a repeat answers the same payment. The edge
-- function billing makes the checkout session for it. Errors: unknown_workspace, role_too_low,
-- unknown_package, too_many_payments, key_reused, key_required, not_signed_in.
create function billing.start_top_up(workspace_id uuid, package text, key text default null) returns billing.payments
language sql
set search_path = ''
as $$ select private.start_top_up(workspace_id, package, key) $$;
comment on function billing.start_top_up is
  'Records a pending payment for a credit package; the caller is an admin of the workspace.';
revoke all on function billing.start_top_up from public, anon, authenticated, service_role;
grant execute on function billing.start_top_up to authenticated;

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

-- Applies the state of a Stripe Checkout session to its payment: paid brings the credits, once; unpaid and
-- complete waits; failed and expired end it. A payment only moves on (pending, processing, expired, failed,
-- succeeded), so that its end does not depend on the order in which news of it arrives. Returns the payment,
-- or null when the session is not one of ours. A session that is not attached yet is known by its metadata, which
-- only our key writes: whoever opens a payment link chooses its client_reference_id in the address.
-- Source: a session's status is open, complete or expired, its payment_status paid, unpaid or
-- no_payment_required; credits may be given only for the first and last of these (Stripe API, Checkout).
create function billing.settle_checkout(session jsonb, failed boolean default false) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
  v_package billing.credit_packages;
  v_paid boolean := coalesce(session ->> 'payment_status' in ('paid', 'no_payment_required'), false);
  v_progress text[] := array['pending', 'processing', 'expired', 'failed'];
  v_status text;
begin
  select * into v_payment from billing.payments p
  where p.provider = 'stripe' and (p.provider_session_id = session ->> 'id'
    or (p.provider_session_id is null and p.id = private.try_uuid(session ->> 'client_reference_id')
      and (session ->> 'id' is null or p.id::text = session -> 'metadata' ->> 'payment_id')))
  for update;
  if not found or v_payment.paid_at is not null then
    return v_payment;
  end if;
  perform private.correlate(v_payment.correlation_id);
  if not v_paid then
    v_status := case when failed then 'failed' when session ->> 'status' = 'expired' then 'expired'
      when session ->> 'status' = 'complete' then 'processing' else 'pending' end;
    if array_position(v_progress, v_status) > array_position(v_progress, v_payment.status) then
      update billing.payments p
      set provider_session_id = session ->> 'id', status = v_status, error = case
        when failed then 'the payment failed' end
      where p.id = v_payment.id
      returning * into v_payment;
    end if;
    return v_payment;
  end if;
  if (session ->> 'amount_total')::bigint is distinct from v_payment.amount_minor
    or upper(session ->> 'currency') is distinct from v_payment.currency then
    perform private.fail('payment_mismatch', format('Payment %s asked for %s %s, and %s %s was paid.', v_payment.id,
      v_payment.amount_minor, v_payment.currency, session ->> 'amount_total', upper(session ->> 'currency')),
      jsonb_build_object('payment_id', v_payment.id));
  end if;
  update billing.payments p
  set status = 'succeeded', paid_at = private.now(), error = null, provider_session_id = session ->> 'id',
    provider_payment_id = session ->> 'payment_intent'
  where p.id = v_payment.id
  returning * into v_payment;
  update billing.wallets w set provider_customer_id = session ->> 'customer'
  where w.workspace_id = v_payment.workspace_id and w.provider_customer_id is null
    and session ->> 'customer' is not null
    and not exists (select from billing.wallets o where o.provider_customer_id = session ->> 'customer');
  select * into v_package from billing.credit_packages p where p.id = v_payment.credit_package_id;
  perform billing._grant(v_payment.workspace_id, v_payment.credits_micro,
    case when v_package.valid_days is null then 'prepaid' else 'purchase' end, 'payment:' || v_payment.id,
    v_payment.paid_at + make_interval(days => v_package.valid_days), '{}', v_payment.id);
  if v_payment.user_id is not null then
    perform private.notify_user(v_payment.user_id, v_payment.workspace_id, 'success', 'Credits bought',
      format('The package %s has been added to the balance.', v_package.name), '/billing',
      jsonb_build_object('payment_id', v_payment.id, 'credits_micro', v_payment.credits_micro), 'payment:'
        || v_payment.id);
  end if;
  return v_payment;
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
