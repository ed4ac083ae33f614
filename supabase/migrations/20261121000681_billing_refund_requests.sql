-- Who may ask for a refund, and Stripe's news of refunds.

create function private.request_payment_refund(payment_id uuid, amount_minor bigint, reason text, key text)
returns billing.payment_refunds
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_payment billing.payments;
  v_refund billing.payment_refunds;
  v_left bigint;
begin
  perform billing._check_key(key);
  select * into v_payment from billing.payments p
  where p.id = payment_id and private.has_role(p.workspace_id, 'viewer') for no key update;
  if not found then
    perform private.fail('unknown_payment', 'There is no such payment.', jsonb_build_object('payment_id', payment_id));
  end if;
  perform private.require_role(v_payment.workspace_id, 'admin');
  if coalesce(length(trim(reason)), 0) not between 1 and 500 or amount_minor <= 0 then
    perform private.fail('invalid_argument', 'A refund needs a reason of at most 500 characters, and more than 0.',
      jsonb_build_object('argument', case when amount_minor <= 0 then 'amount_minor' else 'reason' end));
  end if;
  select * into v_refund from billing.payment_refunds r where r.payment_id = v_payment.id and r.key = key;
  if found then
    if v_refund.reason <> reason or (amount_minor is not null and v_refund.amount_minor <> amount_minor) then
      perform private.fail('key_reused', 'This key has been used for a different refund.',
        jsonb_build_object('key', key, 'refund_id', v_refund.id));
    end if;
    return v_refund;
  end if;
  -- what a bank has taken back cannot be given back once more
  v_left := v_payment.amount_minor - billing._returned_minor(v_payment);
  if v_payment.paid_at is null or v_left = 0 or v_payment.provider_payment_id is null
    or exists (select from billing.disputes d where d.payment_id = v_payment.id and d.closed_at is null) then
    perform private.fail('payment_not_refundable', format('This payment is %s.', v_payment.status),
      jsonb_build_object('status', v_payment.status));
  end if;
  if amount_minor > v_left then
    perform private.fail('refund_too_large', format('Of %s minor units of %s, %s can still be refunded.',
      v_payment.amount_minor, v_payment.currency, v_left), jsonb_build_object('refundable_minor', v_left));
  end if;
  -- of currencies with three digits providers take no finer amount (Source: Stripe, Supported currencies)
  if amount_minor % 10 <> 0 and (select c.exponent = 3 from ref.currencies c where c.code = v_payment.currency) then
    perform private.fail('invalid_argument', format('%s is refunded in multiples of 10 minor units.',
      v_payment.currency), '{"argument": "amount_minor"}');
  end if;
  -- nor is a plan that has been open: only what has not begun is unspent
  if v_payment.kind = 'subscription' and not private.is_service()
    and coalesce(to_timestamp((v_payment.metadata ->> 'period_start')::numeric) <= private.now(), true) then
    perform private.fail('payment_not_refundable', 'The plan that this payment was for has been open.',
      jsonb_build_object('status', v_payment.status, 'plan_id', v_payment.plan_id));
  end if;
  perform private.correlate();
  v_refund := billing._open_refund(v_payment, coalesce(amount_minor, v_left), reason, key, auth.uid(), null);
  -- what was spent is not returned on a customer's word; we may be generous ourselves
  if v_refund.missing_micro > 0 and not private.is_service() then
    perform private.fail('credits_spent', format('%s of the credits have been spent.', v_refund.missing_micro),
      jsonb_build_object('missing_micro', v_refund.missing_micro));
  end if;
  perform ops.enqueue_job('billing.refund_payment', jsonb_build_object('refund_id', v_refund.id),
    v_refund.workspace_id, max_attempts => 50, key => 'refund:' || v_refund.id, provider => v_refund.provider);
  return v_refund;
end $$;
comment on function private.request_payment_refund is
  'Core of billing.request_payment_refund; checks the caller first.';
revoke all on function private.request_payment_refund from public, anon, authenticated, service_role;
grant execute on function private.request_payment_refund to authenticated, service_role;

-- Refunds a payment, all that is left (amount_minor null) or a part, once for a key. Its credits are taken back at
-- once; a job returns the money. Admins may refund what is unspent (of plans: a period that has not begun), the
-- service also what has been spent.
-- Errors: unknown_payment, role_too_low, payment_not_refundable, refund_too_large, credits_spent, key_required,
-- key_reused, invalid_argument.
create function billing.request_payment_refund(payment_id uuid, reason text, key text,
  amount_minor bigint default null) returns billing.payment_refunds
language sql
set search_path = ''
as $$ select private.request_payment_refund(payment_id, amount_minor, reason, key) $$;
comment on function billing.request_payment_refund is
  'Refunds a payment or a part of it (minor units), once for a key; the caller is an admin of the workspace.';
revoke all on function billing.request_payment_refund from public, anon, authenticated, service_role;
grant execute on function billing.request_payment_refund to authenticated, service_role;

-- Source: a refund's status is pending, requires_action, succeeded, failed or canceled (Stripe API, Refunds).
create function billing._refund_status(status text) returns text
language sql immutable
set search_path = ''
as $$
  select case status when 'succeeded' then 'succeeded' when 'processed' then 'succeeded' when 'failed' then 'failed'
    when 'canceled' then 'cancelled' else 'pending' end
$$;
comment on function billing._refund_status(text) is 'A provider''s word for a refund''s state in ours.';
revoke all on function billing._refund_status from public, anon, authenticated, service_role;

create function billing._apply_refund_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_refund jsonb := event.payload -> 'data' -> 'object';
begin
  return billing.apply_refund('stripe', v_refund ->> 'payment_intent', v_refund ->> 'id',
    (v_refund ->> 'amount')::bigint, billing._refund_status(v_refund ->> 'status'),
    private.try_uuid(v_refund -> 'metadata' ->> 'refund_id'), v_refund ->> 'failure_reason') is not null;
end $$;
comment on function billing._apply_refund_event(ops.webhook_events) is 'Applies the state of a Stripe refund.';
revoke all on function billing._apply_refund_event from public, anon, authenticated, service_role;

-- A charge says how much of it has been refunded, but not by which refunds: where we know of less, the provider is
-- asked for them a little later.
create function billing._check_refunds_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_charge jsonb := event.payload -> 'data' -> 'object';
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p
  where p.provider = 'stripe' and p.provider_payment_id = v_charge ->> 'payment_intent'
    and p.refunded_minor < (v_charge ->> 'amount_refunded')::bigint;
  if found then
    perform ops.enqueue_job('billing.sync_refunds', jsonb_build_object('payment_id', v_payment.id),
      v_payment.workspace_id, run_at => private.now() + interval '1 minute', max_attempts => 20,
      key => 'sync_refunds:' || event.id);
  end if;
  return v_payment.id is not null;
end $$;
comment on function billing._check_refunds_event(ops.webhook_events) is 'Looks for refunds that no event has told of.';
revoke all on function billing._check_refunds_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name, position) values
  ('refund.created', 'billing._apply_refund_event', 0), ('refund.updated', 'billing._apply_refund_event', 0),
  ('refund.failed', 'billing._apply_refund_event', 0), ('charge.refunded', 'billing._check_refunds_event', 1);
