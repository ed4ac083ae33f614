-- Between the rows and the provider: what its events mean, and what the functions that call it note.

-- Any event about a subscription: something is to be seen there. A checkout's end is noted on the way. Events about
-- subscriptions that are none of ours are not ours.
create function billing._apply_subscription_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_object jsonb := event.payload -> 'data' -> 'object';
  v_id text := billing._stripe_id(case v_object ->> 'object'
    when 'subscription' then v_object -> 'id'
    when 'invoice' then v_object -> 'parent' -> 'subscription_details' -> 'subscription'
    when 'subscription_schedule' then coalesce(nullif(v_object -> 'subscription', 'null'),
      v_object -> 'released_subscription')
    when 'checkout.session' then v_object -> 'subscription' end);
  v_ours boolean := false;
begin
  if v_object ->> 'object' = 'checkout.session' then
    v_ours := billing.close_checkout(v_object) is not null;
  end if;
  if v_id is not null and (v_ours or billing._owner_of(v_object || jsonb_build_object('id', v_id)) is not null) then
    perform billing.look_at_subscription(v_id);
    v_ours := true;
  end if;
  return v_ours;
end $$;
comment on function billing._apply_subscription_event(ops.webhook_events) is
  'Has the subscription looked at that an event is about.';
revoke all on function billing._apply_subscription_event from public, anon, authenticated, service_role;

insert into billing.stripe_event_handlers (event_type, function_name)
select t.event_type, 'billing._apply_subscription_event' from unnest(array[
  'customer.subscription.created', 'customer.subscription.updated', 'customer.subscription.deleted',
  'customer.subscription.paused', 'customer.subscription.resumed', 'customer.subscription.trial_will_end',
  'customer.subscription.pending_update_applied', 'customer.subscription.pending_update_expired',
  'subscription_schedule.created', 'subscription_schedule.updated', 'subscription_schedule.released',
  'subscription_schedule.completed', 'subscription_schedule.canceled', 'subscription_schedule.aborted',
  'invoice.finalized', 'invoice.paid', 'invoice.payment_failed', 'invoice.payment_action_required', 'invoice.voided',
  'invoice.marked_uncollectible', 'checkout.session.completed', 'checkout.session.async_payment_succeeded',
  'checkout.session.async_payment_failed', 'checkout.session.expired']) as t (event_type);

-- Notes the session of a checkout, once. Returns the sessions of earlier open checkouts of the same app: they are to be
-- expired, so that only one can be paid; of two at once the younger stays. Errors: unknown_checkout.
create function billing.attach_subscription_checkout(checkout_id uuid, session_id text) returns setof text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_checkout billing.subscription_checkouts;
begin
  update billing.subscription_checkouts c set provider_session_id = attach_subscription_checkout.session_id
  where c.id = checkout_id and coalesce(c.provider_session_id = attach_subscription_checkout.session_id, true)
  returning * into v_checkout;
  if not found then
    perform private.fail('unknown_checkout', 'There is no such checkout, or it has another session.',
      jsonb_build_object('checkout_id', checkout_id));
  end if;
  return query select c.provider_session_id from billing.subscription_checkouts c
    where c.workspace_id = v_checkout.workspace_id and c.app = v_checkout.app and c.status = 'open'
      and (c.created_at, c.id) < (v_checkout.created_at, v_checkout.id) and c.provider_session_id is not null;
end $$;
comment on function billing.attach_subscription_checkout is
  'Links a checkout to its session; returns the sessions it replaces.';
revoke all on function billing.attach_subscription_checkout from public, anon, authenticated, service_role;
grant execute on function billing.attach_subscription_checkout to service_role;
insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_checkout', 'PT404', 'Start a new checkout.'),
  ('unknown_change', 'PT404', 'Check the change''s id in billing.subscription_changes.');

-- Brings a checkout to the state of its session: complete or expired. Returns it, or null when it is none of ours.
-- A session that is not attached is known by its metadata, which only our key writes.
create function billing.close_checkout(session jsonb) returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  update billing.subscription_checkouts c
  set status = case when c.status = 'open' and session ->> 'status' in ('complete', 'expired')
      then session ->> 'status' else c.status end,
    closed_at = case when c.status = 'open' and session ->> 'status' in ('complete', 'expired')
      then private.now() else c.closed_at end,
    provider_session_id = coalesce(c.provider_session_id, session ->> 'id'),
    provider_subscription_id = coalesce(c.provider_subscription_id, billing._stripe_id(session -> 'subscription'))
  where c.provider_session_id = session ->> 'id'
    or (c.provider_session_id is null and c.id = private.try_uuid(session -> 'metadata' ->> 'checkout_id'))
  returning c.id into v_id;
  return v_id;
end $$;
comment on function billing.close_checkout(jsonb) is 'Brings a checkout of a plan to the state of its session.';
revoke all on function billing.close_checkout from public, anon, authenticated, service_role;
grant execute on function billing.close_checkout to service_role;

-- Gives a workspace its customer at the provider, once: the first one stays. Returns it.
create function billing.attach_customer(workspace_id uuid, customer_id text) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_customer text;
begin
  update billing.wallets w set provider_customer_id = coalesce(w.provider_customer_id, attach_customer.customer_id)
  where w.workspace_id = attach_customer.workspace_id
  returning w.provider_customer_id into v_customer;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  return v_customer;
end $$;
comment on function billing.attach_customer is 'Links a workspace to its customer at the provider, once.';
revoke all on function billing.attach_customer from public, anon, authenticated, service_role;
grant execute on function billing.attach_customer to service_role;

-- Notes the provider's ids of a price that had none. Errors: unknown_price.
create function billing.attach_provider_price(plan_price_id uuid, product_id text, price_id text) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_price text;
begin
  update billing.plan_prices p
  set provider_product_id = coalesce(p.provider_product_id, product_id),
    provider_price_id = coalesce(p.provider_price_id, price_id)
  where p.id = attach_provider_price.plan_price_id
  returning p.provider_price_id into v_price;
  if not found then
    perform private.fail('unknown_price', 'There is no such price.',
      jsonb_build_object('plan_price_id', plan_price_id));
  end if;
  return v_price;
end $$;
comment on function billing.attach_provider_price is 'Links a price to its price at the provider, once.';
revoke all on function billing.attach_provider_price from public, anon, authenticated, service_role;
grant execute on function billing.attach_provider_price to service_role;

-- Ends a change that the provider refused, or notes what it was invoiced at. With carried_out one that has left no
-- trace is superseded: something else was done at the same time. Errors: unknown_change.
create function billing.note_change(change_id uuid, error text default null, invoice_id text default null,
  proration_minor bigint default null, currency text default null, carried_out boolean default false)
returns billing.subscription_changes
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_change billing.subscription_changes;
begin
  update billing.subscription_changes c
  set status = case when c.status <> 'pending' then c.status when note_change.error is not null then 'failed'
      when carried_out then 'superseded' else c.status end,
    error = coalesce(note_change.error, c.error),
    provider_invoice_id = coalesce(note_change.invoice_id, c.provider_invoice_id),
    proration_minor = coalesce(note_change.proration_minor, c.proration_minor),
    currency = coalesce(case when note_change.proration_minor is not null then upper(note_change.currency) end,
      c.currency)
  where c.id = note_change.change_id
  returning * into v_change;
  if not found then
    perform private.fail('unknown_change', 'There is no such change.', jsonb_build_object('change_id', change_id));
  end if;
  return v_change;
end $$;
comment on function billing.note_change is 'Notes on a change that it failed, or what it was invoiced at.';
revoke all on function billing.note_change from public, anon, authenticated, service_role;
grant execute on function billing.note_change to service_role;

-- The second subscription is cancelled and paid back; whoever bought it is told.
create function billing.settle_surplus(provider_subscription_id text, refunded_minor bigint, currency text)
returns billing.surplus_subscriptions
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_surplus billing.surplus_subscriptions;
  v_row billing.subscriptions;
begin
  update billing.surplus_subscriptions u
  set status = 'settled', settled_at = coalesce(u.settled_at, private.now()),
    refunded_minor = settle_surplus.refunded_minor, currency = upper(settle_surplus.currency)
  where u.provider_subscription_id = settle_surplus.provider_subscription_id
  returning * into strict v_surplus;
  select * into v_row from billing.subscriptions s
  where s.workspace_id = v_surplus.workspace_id and s.app = v_surplus.app;
  v_row.provider_subscription_id := v_surplus.provider_subscription_id;
  v_row.grace_ends_at := v_surplus.created_at;
  perform billing._tell_owners(v_row, 'surplus', 'info', 'A second purchase was undone',
    'The same app was bought twice. The second subscription has been cancelled, and what it cost is paid back.');
  return v_surplus;
end $$;
comment on function billing.settle_surplus is 'Closes the case of a subscription that was bought twice.';
revoke all on function billing.settle_surplus from public, anon, authenticated, service_role;
grant execute on function billing.settle_surplus to service_role;
