-- What members ask for: a checkout, another plan, an end, going on. Each request is noted with the job that carries
-- it out; the edge function billing carries it out at once, and the job finds it done.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_price', 'PT404', 'Choose one of the active billing.plan_prices by its id.'),
  ('unknown_plan', 'PT404', 'Choose one of the active billing.plans by its id.'),
  ('plan_not_for_sale', 'PT409', 'Choose a plan that is visible and not a legacy one.'),
  ('plan_not_free', 'PT409', 'This plan has a price: start a checkout for it.'),
  ('already_subscribed', 'PT409', 'Change the plan of the subscription instead of buying a second one.'),
  ('not_subscribed', 'PT404', 'Start a checkout first.'),
  ('same_plan', 'PT409', 'Choose another price than the present one.'),
  ('subscription_unpaid', 'PT402', 'Pay the open invoice at payment_url first, or cancel.'),
  ('subscription_not_ending', 'PT409', 'Only a subscription that is to end can be resumed.'),
  ('currency_differs', 'PT409', 'A subscription keeps its currency: choose a price in it, or cancel and start anew.'),
  ('other_provider', 'PT409', 'Manage this subscription where it was bought.');

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.follow_checkout', 'Asks Stripe about a checkout of a plan until it is complete or expired.', null,
    interval '2 days'),
  ('billing.change_subscription', 'Carries out a change of a plan at Stripe.', null, interval '2 days');

-- A price that is for sale now. Errors: unknown_price, plan_not_for_sale.
create function billing._price_for_sale(plan_price_id uuid) returns billing.plan_prices
language plpgsql stable
set search_path = ''
as $$
declare
  v_price billing.plan_prices;
  v_plan billing.plans;
begin
  select * into v_price from billing.plan_prices p
  where p.id = _price_for_sale.plan_price_id and p.is_active and p.provider = 'stripe';
  if not found then
    perform private.fail('unknown_price', 'There is no such price.',
      jsonb_build_object('plan_price_id', plan_price_id));
  end if;
  select * into strict v_plan from billing.plans p where p.id = v_price.plan_id;
  if not v_plan.is_active or not v_plan.is_visible or v_plan.is_legacy or v_plan.deleted_at is not null then
    perform private.fail('plan_not_for_sale', format('The plan %s is not for sale.', v_plan.name),
      jsonb_build_object('plan_id', v_plan.id));
  end if;
  return v_price;
end $$;
comment on function billing._price_for_sale(uuid) is 'A price of a plan that is for sale.';
revoke all on function billing._price_for_sale from public, anon, authenticated, service_role;

-- One at a time decides which subscription a workspace has in an app.
create function billing._lock_place(workspace_id uuid, app text) returns void
language sql
set search_path = ''
as $$ select pg_advisory_xact_lock(hashtextextended(format('subscription:%s:%s', workspace_id, app), 0)) $$;
comment on function billing._lock_place(uuid, text) is 'Locks the place of a workspace''s subscription of an app.';
revoke all on function billing._lock_place from public, anon, authenticated, service_role;

-- Whether a subscription holds its app's place: no other may be bought.
create function billing._holds_place(subscription billing.subscriptions) returns boolean
language sql immutable
set search_path = ''
as $$
  select subscription.provider is not null
    and subscription.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused')
$$;
comment on function billing._holds_place(billing.subscriptions) is 'Whether a second purchase must be refused.';
revoke all on function billing._holds_place from public, anon, authenticated, service_role;

create function private.start_subscription(workspace_id uuid, plan_price_id uuid, key text)
returns billing.subscription_checkouts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_price billing.plan_prices;
  v_plan billing.plans;
  v_row billing.subscriptions;
  v_checkout billing.subscription_checkouts;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in user can buy a plan.');
  end if;
  perform private.require_role(workspace_id, 'admin');
  if key is not null then
    perform billing._check_key(key);
    select * into v_checkout from billing.subscription_checkouts c
    where c.workspace_id = start_subscription.workspace_id and c.key = start_subscription.key;
    if found and v_checkout.plan_price_id is distinct from plan_price_id then
      perform private.fail('key_reused', 'This key has been used for a different plan.',
        jsonb_build_object('key', key, 'checkout_id', v_checkout.id));
    elsif found then
      return v_checkout;
    end if;
  end if;
  v_price := billing._price_for_sale(plan_price_id);
  select * into strict v_plan from billing.plans p where p.id = v_price.plan_id;
  select * into v_row from billing.subscriptions s
  where s.workspace_id = start_subscription.workspace_id and s.app = v_plan.app;
  if billing._holds_place(v_row) then
    perform private.fail('already_subscribed', 'The workspace has a subscription of this app already.',
      jsonb_build_object('subscription_id', v_row.id, 'plan_id', v_row.plan_id, 'status', v_row.status));
  end if;
  -- each one is asked about at the provider until it ends
  perform pg_advisory_xact_lock(hashtextextended('start_subscription:' || workspace_id, 0));
  if (select count(*) from billing.subscription_checkouts c
      where c.workspace_id = start_subscription.workspace_id and c.created_at > private.now() - interval '1 day') >= 20
  then
    perform private.fail('too_many_payments', '20 checkouts were begun within a day.', '{"most": 20}');
  end if;
  perform private.correlate();
  insert into billing.subscription_checkouts (workspace_id, user_id, app, plan_price_id, trial_days, key, created_at)
  values (workspace_id, auth.uid(), v_plan.app, plan_price_id,
    case when v_row.trial_used_at is null then v_price.trial_period_days else 0 end, key, private.now())
  on conflict do nothing
  returning * into v_checkout;
  if not found then
    return private.start_subscription(workspace_id, plan_price_id, key);
  end if;
  perform ops.enqueue_job('billing.follow_checkout', jsonb_build_object('checkout_id', v_checkout.id), workspace_id,
    run_at => private.now() + interval '5 minutes', max_attempts => 20);
  return v_checkout;
end $$;
comment on function private.start_subscription is 'Core of billing.start_subscription; checks the caller first.';
revoke all on function private.start_subscription from public, anon, authenticated, service_role;
grant execute on function private.start_subscription to authenticated;

-- Notes that a plan is about to be bought, with a trial when the workspace has had none of the app. The edge
-- function billing makes the checkout page for it. Admins may; with a key, a repeat answers the same checkout.
-- Errors: unknown_workspace, role_too_low, unknown_price, plan_not_for_sale, already_subscribed,
-- too_many_payments, key_reused, key_required, not_signed_in.
create function billing.start_subscription(workspace_id uuid, plan_price_id uuid, key text default null)
returns billing.subscription_checkouts
language sql
set search_path = ''
as $$ select private.start_subscription(workspace_id, plan_price_id, key) $$;
comment on function billing.start_subscription is
  'Notes the start of a plan''s checkout; the caller is an admin of the workspace.';
revoke all on function billing.start_subscription from public, anon, authenticated, service_role;
grant execute on function billing.start_subscription to authenticated;

-- The subscription of an app, locked for a request of an admin. Errors: not_subscribed, other_provider.
create function billing._managed_subscription(workspace_id uuid, app text) returns billing.subscriptions
language plpgsql
set search_path = ''
as $$
declare
  v_row billing.subscriptions;
begin
  select * into v_row from billing.subscriptions s
  where s.workspace_id = _managed_subscription.workspace_id and s.app = _managed_subscription.app for no key update;
  if not found or v_row.status in ('cancelled', 'incomplete_expired', 'incomplete') then
    perform private.fail('not_subscribed', 'The workspace has no subscription of this app.',
      jsonb_build_object('workspace_id', workspace_id, 'app', app));
  end if;
  if v_row.provider <> 'stripe' then
    perform private.fail('other_provider', format('The subscription is kept at %s.', v_row.provider),
      jsonb_build_object('provider', v_row.provider));
  end if;
  perform private.correlate();
  return v_row;
end $$;
comment on function billing._managed_subscription(uuid, text) is 'Locks the subscription that an admin acts on.';
revoke all on function billing._managed_subscription from public, anon, authenticated, service_role;

-- Notes a change and the job that makes it good when whoever asked does not carry it out himself.
create function billing._request_change(subscription billing.subscriptions, kind text, source text,
  to_price billing.plan_prices, at_period_end boolean, reason text, run_after interval)
returns billing.subscription_changes
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_change billing.subscription_changes;
begin
  insert into billing.subscription_changes (workspace_id, subscription_id, user_id, kind, source, from_plan_id,
    to_plan_id, to_plan_price_id, at_period_end, is_prorated, reason, provider, provider_subscription_id, created_at)
  values (subscription.workspace_id, subscription.id, auth.uid(), kind, source, subscription.plan_id,
    to_price.plan_id, to_price.id, at_period_end, kind = 'upgrade', reason, subscription.provider,
    subscription.provider_subscription_id, private.now())
  returning * into v_change;
  perform ops.enqueue_job('billing.change_subscription', jsonb_build_object('change_id', v_change.id),
    subscription.workspace_id, run_at => private.now() + run_after, max_attempts => 10);
  return v_change;
end $$;
comment on function billing._request_change is 'Notes a change of a subscription and the job that carries it out.';
revoke all on function billing._request_change from public, anon, authenticated, service_role;
