-- Buying a credit package: the payment begins here, in the package's currency or another one we charge in.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_package', 'PT404', 'Choose one of the active billing.credit_packages by its slug.'),
  ('too_many_payments', 'PT429', 'Pay or let expire what was begun; a checkout expires after a day.');

-- Each payment that was begun is asked about at the provider until it ends, and the provider limits how often all of
-- us may ask. Error: too_many_payments.
create function billing._check_open_payments(user_id uuid, workspace_id uuid, key text) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('start_top_up:' || user_id, 0));
  if (select count(*) from billing.payments p where p.user_id = _check_open_payments.user_id and p.status = 'pending'
      and p.created_at > private.now() - interval '1 day') >= 20
    and not exists (select from billing.payments p where p.workspace_id = _check_open_payments.workspace_id
      and p.key = _check_open_payments.key) then
    perform private.fail('too_many_payments', '20 payments of yours are open.', '{"most": 20}');
  end if;
end $$;
comment on function billing._check_open_payments is 'Refuses a person''s 21st open payment.';
revoke all on function billing._check_open_payments from public, anon, authenticated, service_role;

create function private.start_top_up(workspace_id uuid, package text, key text, provider text, currency text)
returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_package billing.credit_packages;
  v_currency text;
  v_payment billing.payments;
  v_user uuid := auth.uid();
  v_created boolean := false;
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
  v_currency := coalesce(currency, v_package.currency);
  if not exists (select from billing.sale_currencies c where c.currency = v_currency and c.is_active
    and (c.provider = start_top_up.provider or start_top_up.provider = 'stripe')) then
    perform private.fail('currency_not_sold', format('%s cannot be paid in %s.', provider, v_currency),
      jsonb_build_object('currency', v_currency, 'provider', provider));
  end if;
  perform billing._check_open_payments(v_user, workspace_id, key);
  perform private.correlate();
  -- a repeat answers the first price, even if the rate has moved since
  select * into v_payment from billing.payments p where p.workspace_id = start_top_up.workspace_id
    and p.key = start_top_up.key;
  if not found then
    insert into billing.payments (workspace_id, user_id, provider, credit_package_id, amount_minor, currency,
      credits_micro, key)
    values (workspace_id, v_user, provider, v_package.id,
      billing.convert_minor(v_package.price_minor, v_package.currency, v_currency), v_currency,
      v_package.credits_micro, key)
    on conflict do nothing
    returning * into v_payment;
    v_created := found;
    if not v_created then
      select * into v_payment from billing.payments p where p.workspace_id = start_top_up.workspace_id
        and p.key = start_top_up.key;
    end if;
  end if;
  if not v_created then
    if v_payment.credit_package_id is distinct from v_package.id or v_payment.provider <> provider
      or v_payment.currency <> v_currency then
      perform private.fail('key_reused', 'This key has been used for a different purchase.',
        jsonb_build_object('key', key, 'payment_id', v_payment.id));
    end if;
    return v_payment;
  end if;
  perform ops.enqueue_job('billing.reconcile_payment',
    jsonb_build_object('payment_id', v_payment.id, 'provider', v_payment.provider), workspace_id,
    run_at => private.now() + interval '2 minutes', max_attempts => 20, key => 'reconcile:' || v_payment.id,
    provider => v_payment.provider);
  return v_payment;
end $$;
comment on function private.start_top_up is 'Core of billing.start_top_up; checks the caller first.';
revoke all on function private.start_top_up from public, anon, authenticated, service_role;
grant execute on function private.start_top_up to authenticated;

-- Starts the purchase of a credit package: a pending payment, and the job that will ask the provider if no
-- webhook comes. Admins of the workspace may; with a key, a repeat answers the same payment. The edge
-- function billing makes the checkout session or the order for it. Errors: unknown_workspace, role_too_low,
-- unknown_package, too_many_payments, key_reused, key_required, not_signed_in, currency_not_sold, no_currency_rate.
create function billing.start_top_up(workspace_id uuid, package text, key text default null,
  provider text default 'stripe', currency text default null) returns billing.payments
language sql
set search_path = ''
as $$ select private.start_top_up(workspace_id, package, key, provider, currency) $$;
comment on function billing.start_top_up is
  'Records a pending payment for a credit package; the caller is an admin of the workspace.';
revoke all on function billing.start_top_up from public, anon, authenticated, service_role;
grant execute on function billing.start_top_up to authenticated;

-- A charge at Stripe: the address of its receipt, and that it is paid, should no other event have said so. The
-- payment is known by its intent, or by the metadata that our key wrote on it.
create function billing._apply_charge_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_charge jsonb := event.payload -> 'data' -> 'object';
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p
  where p.provider = 'stripe' and (p.provider_payment_id = v_charge ->> 'payment_intent'
    or (p.provider_payment_id is null and p.id = private.try_uuid(v_charge -> 'metadata' ->> 'payment_id')))
  for update;
  if not found then
    return false;
  end if;
  if v_payment.paid_at is null and (v_charge ->> 'paid')::boolean and (v_charge ->> 'captured')::boolean
    and v_charge ->> 'status' = 'succeeded' then
    v_payment := billing._pay(v_payment, (v_charge ->> 'amount')::bigint, v_charge ->> 'currency',
      v_charge ->> 'payment_intent');
    perform billing._note_customer(v_payment.workspace_id, v_charge ->> 'customer');
  end if;
  update billing.payments p set receipt_url = v_charge ->> 'receipt_url'
  where p.id = v_payment.id and v_charge ->> 'receipt_url' is not null;
  return true;
end $$;
comment on function billing._apply_charge_event(ops.webhook_events) is
  'Settles the payment of a charge, notes its receipt.';
revoke all on function billing._apply_charge_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name) values
  ('charge.succeeded', 'billing._apply_charge_event'), ('charge.updated', 'billing._apply_charge_event'),
  ('charge.refunded', 'billing._apply_charge_event');
