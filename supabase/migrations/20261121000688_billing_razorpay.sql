-- Razorpay: an order is paid by one of its payments. What the client proves with a signature, a webhook tells or a job
-- asks arrives here as the payment's own data, and brings the credits once.

-- Applies a payment of Razorpay to its order's payment. Returns succeeded, pending, and so on, authorized when the
-- money is promised and has to be captured, or null when the order is not ours. A payment that failed leaves its
-- order open for another one. Source: a payment is created, authorized, captured, refunded or failed (Payments API).
create function billing.settle_razorpay_payment(entity jsonb) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p
  where p.provider = 'razorpay' and p.provider_session_id = entity ->> 'order_id' for update;
  if not found then
    return null;
  elsif v_payment.paid_at is not null then
    return v_payment.status;
  end if;
  if entity ->> 'status' in ('captured', 'refunded') then
    v_payment := billing._pay(v_payment, (entity ->> 'amount')::bigint, entity ->> 'currency', entity ->> 'id');
  elsif entity ->> 'status' = 'failed' then
    update billing.payments p set error = left(entity ->> 'error_description', 500),
      error_code = coalesce(entity ->> 'error_reason', entity ->> 'error_code')
    where p.id = v_payment.id;
  elsif entity ->> 'status' = 'authorized' then
    -- what would not be booked is not captured either: it goes back by itself
    perform billing._check_paid(v_payment, (entity ->> 'amount')::bigint, entity ->> 'currency');
    return 'authorized';
  end if;
  return v_payment.status;
end $$;
comment on function billing.settle_razorpay_payment(jsonb) is
  'Brings a payment to the state of its order''s payment at Razorpay.';
revoke all on function billing.settle_razorpay_payment from public, anon, authenticated, service_role;
grant execute on function billing.settle_razorpay_payment to service_role;

-- Ends an order that nobody paid in time; should it be paid after all, the credits arrive. Returns the status.
create function billing.expire_payment(payment_id uuid) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p where p.id = payment_id for update;
  if v_payment.paid_at is null then
    v_payment := billing._advance_payment(v_payment, 'expired');
  end if;
  return v_payment.status;
end $$;
comment on function billing.expire_payment(uuid) is 'Ends a payment that nobody made.';
revoke all on function billing.expire_payment from public, anon, authenticated, service_role;
grant execute on function billing.expire_payment to service_role;

-- Source: a dispute is open, under_review, lost, won or closed; in the phase retrieval no money has been taken
-- (Razorpay, Disputes).
create function billing._apply_razorpay_dispute(entity jsonb) returns text
language sql
set search_path = ''
as $$
  select billing.apply_dispute('razorpay', entity ->> 'payment_id', entity ->> 'id', (entity ->> 'amount')::bigint,
    case when entity ->> 'status' in ('won', 'lost', 'closed') then entity ->> 'status'
      when entity ->> 'phase' in ('retrieval', 'fraud') and coalesce((entity ->> 'amount_deducted')::bigint, 0) = 0
        then 'inquiry'
      when entity ->> 'status' = 'under_review' then 'under_review' else 'open' end,
    entity ->> 'reason_code', to_timestamp((entity ->> 'respond_by')::bigint))
$$;
comment on function billing._apply_razorpay_dispute(jsonb) is 'Applies the state of a dispute at Razorpay.';
revoke all on function billing._apply_razorpay_dispute from public, anon, authenticated, service_role;

-- Applies a stored event of Razorpay: applied, ignored, or authorized when its payment has to be captured.
-- Events of refunds carry their payment, which may be news as well.
create function billing.apply_razorpay_event(webhook_event_id bigint) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event ops.webhook_events;
  v_payload jsonb;
  v_refund jsonb;
  v_status text;
  v_refunded text;
begin
  select * into v_event from ops.webhook_events e where e.id = webhook_event_id and e.provider = 'razorpay';
  perform private.correlate(v_event.correlation_id);
  v_payload := v_event.payload -> 'payload';
  v_refund := v_payload -> 'refund' -> 'entity';
  if v_payload -> 'payment' is not null then
    v_status := billing.settle_razorpay_payment(v_payload -> 'payment' -> 'entity');
  end if;
  if v_refund is not null then
    v_refunded := billing.apply_refund('razorpay', v_refund ->> 'payment_id', v_refund ->> 'id',
      (v_refund ->> 'amount')::bigint, billing._refund_status(v_refund ->> 'status'),
      private.try_uuid(v_refund -> 'notes' ->> 'refund_id'));
  elsif v_event.event_type like 'payment.dispute.%' then
    v_refunded := billing._apply_razorpay_dispute(v_payload -> 'dispute' -> 'entity');
  end if;
  return case when v_status = 'authorized' then 'authorized' when coalesce(v_status, v_refunded) is null then 'ignored'
    else 'applied' end;
end $$;
comment on function billing.apply_razorpay_event(bigint) is
  'Applies one Razorpay event of the inbox; safe to repeat and in any order.';
revoke all on function billing.apply_razorpay_event from public, anon, authenticated, service_role;
grant execute on function billing.apply_razorpay_event to service_role;

-- What an admin needs to finish or look at a payment at its provider.
create function private.payment_handle(payment_id uuid) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  select * into v_payment from billing.payments p where p.id = payment_id;
  if not found or not (private.is_service() or private.has_role(v_payment.workspace_id, 'viewer')) then
    perform private.fail('unknown_payment', 'There is no such payment.', jsonb_build_object('payment_id', payment_id));
  end if;
  perform private.require_role(v_payment.workspace_id, 'admin');
  return v_payment;
end $$;
comment on function private.payment_handle is 'Core of billing.payment_handle; checks the caller first.';
revoke all on function private.payment_handle from public, anon, authenticated, service_role;
grant execute on function private.payment_handle to authenticated, service_role;

-- A payment, for an admin who is about to finish it (3-D Secure, an order's proof).
-- Errors: unknown_payment, role_too_low.
create function billing.payment_handle(payment_id uuid) returns billing.payments
language sql
set search_path = ''
as $$ select private.payment_handle(payment_id) $$;
comment on function billing.payment_handle(uuid) is
  'A payment, for an admin of its workspace who is about to finish it.';
revoke all on function billing.payment_handle from public, anon, authenticated, service_role;
grant execute on function billing.payment_handle to authenticated, service_role;
