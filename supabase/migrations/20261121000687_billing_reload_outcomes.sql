-- What Stripe says of a payment intent, and what follows for the reload it belongs to: credits and a new arming,
-- another try after a decline, the customer's confirmation, or the end.

-- Which declines no second try can cure. Source: Stripe, Decline codes (those whose next step is another card).
create function billing._is_final_decline(code text) returns boolean
language sql immutable
set search_path = ''
as $$
  select code in ('expired_card', 'lost_card', 'stolen_card', 'pickup_card', 'restricted_card', 'fraudulent',
    'invalid_account', 'card_not_supported', 'incorrect_number', 'currency_not_supported', 'stop_payment_order',
    'new_account_information_available', 'revocation_of_authorization', 'revocation_of_all_authorizations',
    'resource_missing')
$$;
comment on function billing._is_final_decline(text) is 'Is another try with this card in vain?';
revoke all on function billing._is_final_decline from public, anon, authenticated, service_role;

-- A try that failed: another one after 1, 6 and 24 hours, then, or when no other can help, the reload is switched
-- off. The same news counts once, by its charge. The caller holds the payment's lock.
create function billing._decline_reload(payment billing.payments, code text, message text, charge_id text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_reload billing.auto_reloads;
  v_final boolean;
begin
  perform billing._lock_wallet(payment.workspace_id);
  select * into v_reload from billing.auto_reloads r where r.payment_id = payment.id;
  if v_reload.ended_at is not null or charge_id = any (v_reload.charge_ids) then
    return;
  end if;
  v_final := v_reload.attempts >= 3 or billing._is_final_decline(code);
  update billing.payments p set status = 'failed', error = left(message, 500), error_code = code
  where p.id = payment.id;
  update billing.auto_reloads r
  set status = 'retrying', attempts = r.attempts + 1, error_code = code,
    charge_ids = case when charge_id is null then r.charge_ids else r.charge_ids || charge_id end,
    next_attempt_at = private.now()
      + (array[interval '1 hour', interval '6 hours', interval '24 hours'])[least(v_reload.attempts + 1, 3)]
  where r.id = v_reload.id;
  update billing.auto_reload_settings s
  set failed_attempts = s.failed_attempts + 1, last_reload_at = private.now(), last_reload_status = 'declined'
  where s.workspace_id = payment.workspace_id;
  if v_final then
    perform billing._disable_auto_reload(payment.workspace_id, coalesce(code, 'declined'));
  else
    perform billing._tell_of_reload(payment.workspace_id, 'warning', 'Automatic reload failed',
      'The card was declined. It is tried again later.',
      format('auto_reload_declined:%s:%s', v_reload.id, v_reload.attempts),
      jsonb_build_object('payment_id', payment.id, 'error_code', code));
  end if;
end $$;
comment on function billing._decline_reload is 'Counts a failed try of a reload; plans the next or switches it off.';
revoke all on function billing._decline_reload from public, anon, authenticated, service_role;

-- The bank wants its customer to confirm (3-D Secure): the reload waits for that, and the customer is told where.
create function billing._await_confirmation(payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform billing._lock_wallet(payment.workspace_id);
  update billing.auto_reloads r set status = 'requires_action', error_code = 'authentication_required'
  where r.payment_id = payment.id and r.ended_at is null and r.status <> 'requires_action';
  if not found then
    return;
  end if;
  update billing.payments p
  set status = 'requires_action', error = 'the bank wants a confirmation', error_code = 'authentication_required'
  where p.id = payment.id;
  update billing.auto_reload_settings s
  set last_reload_at = private.now(), last_reload_status = 'requires_action'
  where s.workspace_id = payment.workspace_id;
  perform billing._tell_of_reload(payment.workspace_id, 'warning', 'Confirm the automatic reload',
    'Your bank wants you to confirm the payment.', 'auto_reload_action:' || payment.id,
    jsonb_build_object('payment_id', payment.id, 'action', 'confirm_payment'));
end $$;
comment on function billing._await_confirmation(billing.payments) is 'A reload waits for its customer''s confirmation.';
revoke all on function billing._await_confirmation from public, anon, authenticated, service_role;

-- Applies the state of a payment intent of Stripe. Returns its payment, null when it is not one of ours. Of a
-- checkout's intent only success is of concern: after a decline its page lets the customer try again.
-- Errors: payment_mismatch.
create function billing.settle_intent(intent jsonb) returns billing.payments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
  v_error jsonb := intent -> 'last_payment_error';
  v_code text := coalesce(v_error ->> 'decline_code', v_error ->> 'code');
begin
  select * into v_payment from billing.payments p
  where p.provider = 'stripe' and (p.provider_payment_id = intent ->> 'id' or (p.provider_payment_id is null
    and p.id = private.try_uuid(intent -> 'metadata' ->> 'payment_id')))
  for update;
  if not found or v_payment.paid_at is not null then
    return v_payment;
  end if;
  if intent ->> 'status' = 'succeeded' then
    v_payment := billing._pay(v_payment, (intent ->> 'amount_received')::bigint, intent ->> 'currency',
      intent ->> 'id');
    perform billing._note_customer(v_payment.workspace_id, intent ->> 'customer');
    return v_payment;
  elsif v_payment.kind <> 'auto_reload' then
    return v_payment;
  end if;
  perform private.correlate(v_payment.correlation_id);
  update billing.payments p set provider_payment_id = intent ->> 'id'
  where p.id = v_payment.id and p.provider_payment_id is null;
  case intent ->> 'status'
    when 'processing' then
      perform billing._advance_payment(v_payment, 'processing');
    when 'requires_action' then
      perform billing._await_confirmation(v_payment);
    when 'canceled' then
      perform billing._lock_wallet(v_payment.workspace_id);
      update billing.payments p set status = 'cancelled' where p.id = v_payment.id;
      perform billing._disable_auto_reload(r.workspace_id, coalesce(r.error_code, 'cancelled'))
      from billing.auto_reloads r where r.payment_id = v_payment.id and r.status in ('requires_action', 'retrying');
      perform billing._end_reload(r.id, 'failed', 'cancelled') from billing.auto_reloads r
      where r.payment_id = v_payment.id;
    else
      if v_code = 'authentication_required' or v_error ->> 'code' = 'authentication_required' then
        perform billing._await_confirmation(v_payment);
      elsif v_error is not null and jsonb_typeof(v_error) = 'object' then
        perform billing._decline_reload(v_payment, v_code, v_error ->> 'message', v_error ->> 'charge');
      end if;
  end case;
  select * into v_payment from billing.payments p where p.id = v_payment.id;
  return v_payment;
end $$;
comment on function billing.settle_intent(jsonb) is
  'Brings a payment to the state of its payment intent; credits arrive once.';
revoke all on function billing.settle_intent from public, anon, authenticated, service_role;
grant execute on function billing.settle_intent to service_role;

create function billing._apply_intent_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_payment billing.payments := billing.settle_intent(event.payload -> 'data' -> 'object');
begin
  return v_payment.id is not null;
end $$;
comment on function billing._apply_intent_event(ops.webhook_events) is 'Settles the payment of a payment intent.';
revoke all on function billing._apply_intent_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name)
select t.event_type, 'billing._apply_intent_event' from unnest(array['payment_intent.succeeded',
  'payment_intent.payment_failed', 'payment_intent.processing', 'payment_intent.requires_action',
  'payment_intent.canceled']) as t (event_type);

-- A reload whose charge could not even be tried (the card or the customer is gone at Stripe).
create function billing.refuse_reload(reload_id uuid, code text, message text) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
begin
  select p.* into v_payment from billing.payments p join billing.auto_reloads r on r.payment_id = p.id
  where r.id = reload_id and p.paid_at is null for update of p;
  if found then
    perform billing._decline_reload(v_payment, code, message, null);
  end if;
end $$;
comment on function billing.refuse_reload is 'Counts a try that the provider would not make.';
revoke all on function billing.refuse_reload from public, anon, authenticated, service_role;
grant execute on function billing.refuse_reload to service_role;

create function private.end_paid_reload() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform billing._end_reload(r.id, 'succeeded') from billing.auto_reloads r where r.payment_id = new.id;
  update billing.auto_reload_settings s
  set failed_attempts = 0, last_reload_at = private.now(), last_reload_status = 'succeeded'
  where s.workspace_id = new.workspace_id;
  perform billing._tell_of_reload(new.workspace_id, 'success', 'Credits reloaded',
    'The balance was low, and credits were bought as you have set it.', 'auto_reload:' || new.id,
    jsonb_build_object('payment_id', new.id, 'credits_micro', new.credits_micro, 'amount_minor', new.amount_minor,
      'currency', new.currency));
  perform billing._arm_auto_reload(new.workspace_id);
  return null;
end $$;
comment on function private.end_paid_reload() is 'Trigger: a reload that is paid ends, and the wallet is armed again.';
revoke all on function private.end_paid_reload from public, anon, authenticated, service_role;
create trigger payments_end_reload after update of paid_at on billing.payments for each row
  when (old.paid_at is null and new.paid_at is not null and new.kind = 'auto_reload')
  execute function private.end_paid_reload();

-- on_event of billing.auto_reload: without its job nobody sees the reload through.
create function billing.on_auto_reload_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if event in ('dead', 'cancelled') then
    perform billing._disable_auto_reload(r.workspace_id, 'provider_unavailable') from billing.auto_reloads r
    where r.id = (job.payload ->> 'reload_id')::uuid and r.ended_at is null;
    perform billing._end_reload((job.payload ->> 'reload_id')::uuid, 'failed', 'provider_unavailable');
  end if;
end $$;
comment on function billing.on_auto_reload_job(ops.jobs, text) is 'Ends the reload of a job that gave up.';
revoke all on function billing.on_auto_reload_job from public, anon, authenticated, service_role;

create function private.request_reload(workspace_id uuid, required_micro bigint) returns billing.auto_reloads
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_reload billing.auto_reloads;
begin
  perform private.require_role(workspace_id, 'admin');
  if required_micro is null or required_micro not between 1 and 1000000000 then
    perform private.fail('invalid_argument', 'required_micro must be between 1 and 1,000,000,000.',
      '{"argument": "required_micro"}');
  end if;
  perform billing._lock_wallet(workspace_id);
  if not exists (select from billing.auto_reload_settings s where s.workspace_id = request_reload.workspace_id
    and s.enabled and s.paused_until is null) then
    perform private.fail('auto_reload_off', 'The automatic reload is off or has reached its cap.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  perform billing._begin_reload(workspace_id, required_micro);
  select * into v_reload from billing.auto_reloads r
  where r.workspace_id = request_reload.workspace_id and r.ended_at is null;
  return v_reload;
end $$;
comment on function private.request_reload is 'Core of billing.request_reload; checks the caller first.';
revoke all on function private.request_reload from public, anon, authenticated, service_role;
grant execute on function private.request_reload to authenticated, service_role;

-- Reloads now, so much that required_micro can be spent: for a charge that the balance is too small for although it
-- is above the threshold (insufficient_credits says what it needs). One that is under way is answered instead.
-- Admins may. Errors: unknown_workspace, role_too_low, auto_reload_off, invalid_argument.
create function billing.request_reload(workspace_id uuid, required_micro bigint) returns billing.auto_reloads
language sql
set search_path = ''
as $$ select private.request_reload(workspace_id, required_micro) $$;
comment on function billing.request_reload is 'Begins an automatic reload for what a charge needs (micro-units).';
revoke all on function billing.request_reload from public, anon, authenticated, service_role;
grant execute on function billing.request_reload to authenticated, service_role;
