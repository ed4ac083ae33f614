-- Changing, cancelling and resuming a subscription, as its members ask for it.

-- What asking for a price means for a workspace's plan, with the subscription locked: keep (the present price, which
-- takes a scheduled change back), upgrade or downgrade. Errors: those of billing.change_subscription.
create function billing._wanted_change(workspace_id uuid, app text, plan_price_id uuid,
  out subscription billing.subscriptions, out kind text, out price billing.plan_prices)
language plpgsql
set search_path = ''
as $$
declare
  v_old billing.plan_prices;
begin
  subscription := billing._managed_subscription(workspace_id, app);
  if subscription.provider is null then
    perform private.fail('not_subscribed', 'A free plan is not changed but replaced by a checkout.',
      jsonb_build_object('subscription_id', subscription.id));
  elsif subscription.status in ('past_due', 'unpaid', 'paused') then
    perform private.fail('subscription_unpaid', format('The subscription is %s.', subscription.status),
      jsonb_build_object('subscription_id', subscription.id, 'payment_url', subscription.payment_url));
  end if;
  select * into v_old from billing.plan_prices p where p.id = subscription.plan_price_id;
  if v_old.id = plan_price_id then
    if subscription.scheduled_plan_id is null then
      perform private.fail('same_plan', 'The subscription has this price already.',
        jsonb_build_object('plan_price_id', plan_price_id));
    end if;
    kind := 'keep';
    price := v_old;
    return;
  end if;
  price := billing._price_for_sale(plan_price_id);
  if not exists (select from billing.plans p where p.id = price.plan_id and p.app = subscription.app) then
    perform private.fail('unknown_price', 'This price is of another app.',
      jsonb_build_object('plan_price_id', plan_price_id, 'app', app));
  elsif price.currency <> v_old.currency then
    perform private.fail('currency_differs', format('The subscription is paid in %s.', v_old.currency),
      jsonb_build_object('currency', v_old.currency));
  end if;
  kind := case when billing._is_upgrade(v_old, price) then 'upgrade' else 'downgrade' end;
end $$;
comment on function billing._wanted_change is 'What asking for a price means for a plan: keep, upgrade or downgrade.';
revoke all on function billing._wanted_change from public, anon, authenticated, service_role;

create function private.change_subscription(workspace_id uuid, app text, plan_price_id uuid)
returns billing.subscription_changes
language plpgsql security definer
set search_path = ''
as $$
declare
  v_wanted record;
begin
  perform private.require_role(workspace_id, 'admin');
  v_wanted := billing._wanted_change(workspace_id, app, plan_price_id);
  return billing._request_change(v_wanted.subscription, v_wanted.kind, 'member', v_wanted.price,
    v_wanted.kind = 'downgrade', null, interval '30 seconds');
end $$;
comment on function private.change_subscription is 'Core of billing.change_subscription; checks the caller first.';
revoke all on function private.change_subscription from public, anon, authenticated, service_role;
grant execute on function private.change_subscription to authenticated;

-- Asks for another price of the same app. A dearer plan, or a longer period of the same one, begins at once, as soon
-- as the difference is paid; anything else begins when the present period ends. The present price itself takes a
-- scheduled change back. Admins may. Errors: unknown_workspace, role_too_low, not_subscribed, other_provider,
-- unknown_price, plan_not_for_sale, same_plan, currency_differs, subscription_unpaid.
create function billing.change_subscription(workspace_id uuid, app text, plan_price_id uuid)
returns billing.subscription_changes
language sql
set search_path = ''
as $$ select private.change_subscription(workspace_id, app, plan_price_id) $$;
comment on function billing.change_subscription is
  'Asks for another plan or period: at once when dearer, else at the end of what is paid.';
revoke all on function billing.change_subscription from public, anon, authenticated, service_role;
grant execute on function billing.change_subscription to authenticated;

-- Keeps why somebody leaves, with what led to it.
create function billing._keep_feedback(subscription billing.subscriptions, change billing.subscription_changes,
  flow text) returns void
language sql
set search_path = ''
as $$
  insert into billing.cancellation_feedback (workspace_id, subscription_id, subscription_change_id, user_id, plan_id,
    previous_plan_id, provider_subscription_id, cancellation_type, reason, flow, user_role, had_payment_failures,
    billing_period, billing_interval, created_at)
  select subscription.workspace_id, subscription.id, change.id, auth.uid(), subscription.plan_id,
    (select c.from_plan_id from billing.subscription_changes c where c.subscription_id = subscription.id
      and c.kind in ('downgrade', 'migration') and c.status = 'completed' order by c.completed_at desc limit 1),
    subscription.provider_subscription_id, case when change.at_period_end then 'end_of_period' else 'immediate' end,
    change.reason, flow,
    (select m.role from identity.workspace_members m
      where m.workspace_id = subscription.workspace_id and m.user_id = auth.uid()),
    coalesce(subscription.payment_failed_at > private.now() - interval '90 days', false),
    p.billing_period, p.billing_interval, private.now()
  from (values (1)) one left join billing.plan_prices p on p.id = subscription.plan_price_id
$$;
comment on function billing._keep_feedback is 'Keeps why a subscription is cancelled, and what led to it.';
revoke all on function billing._keep_feedback from public, anon, authenticated, service_role;

create function private.cancel_subscription(workspace_id uuid, app text, at_once boolean, reason text, flow text)
returns billing.subscription_changes
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_row billing.subscriptions;
  v_at_end boolean;
  v_change billing.subscription_changes;
begin
  perform private.require_role(workspace_id, 'admin');
  v_row := billing._managed_subscription(workspace_id, app);
  if char_length(reason) > 2000 or flow !~ '^[a-z][a-z0-9_]{0,49}$' then
    perform private.fail('invalid_argument', 'reason has at most 2,000 characters; flow is a short lower-case name.',
      jsonb_build_object('argument', case when char_length(reason) > 2000 then 'reason' else 'flow' end));
  end if;
  v_at_end := not coalesce(at_once, false) and v_row.provider is not null;
  v_change := billing._request_change(v_row, 'cancel', 'member', null, v_at_end, nullif(trim(reason), ''),
    interval '30 seconds');
  perform billing._keep_feedback(v_row, v_change, flow);
  if v_row.provider is null then
    update billing.subscriptions s
    set status = 'cancelled', cancelled_at = private.now(), ended_at = private.now(), cancel_at_period_end = false
    where s.id = v_row.id;
    update billing.subscription_changes c
    set status = 'completed', completed_at = private.now(), effective_at = private.now()
    where c.id = v_change.id
    returning * into v_change;
  end if;
  return v_change;
end $$;
comment on function private.cancel_subscription is 'Core of billing.cancel_subscription; checks the caller first.';
revoke all on function private.cancel_subscription from public, anon, authenticated, service_role;
grant execute on function private.cancel_subscription to authenticated;

-- Cancels at the end of what is paid, or at once; a plan without a provider ends at once. flow names the page it
-- was asked on. Admins may. Errors: unknown_workspace, role_too_low, not_subscribed, other_provider,
-- invalid_argument.
create function billing.cancel_subscription(workspace_id uuid, app text, at_once boolean default false,
  reason text default null, flow text default null) returns billing.subscription_changes
language sql
set search_path = ''
as $$ select private.cancel_subscription(workspace_id, app, at_once, reason, flow) $$;
comment on function billing.cancel_subscription is
  'Cancels a plan at the end of its period or at once, and keeps why.';
revoke all on function billing.cancel_subscription from public, anon, authenticated, service_role;
grant execute on function billing.cancel_subscription to authenticated;

create function private.resume_subscription(workspace_id uuid, app text) returns billing.subscription_changes
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_row billing.subscriptions;
begin
  perform private.require_role(workspace_id, 'admin');
  v_row := billing._managed_subscription(workspace_id, app);
  if v_row.cancel_at is null and not v_row.cancel_at_period_end then
    perform private.fail('subscription_not_ending', 'The subscription is not to end.',
      jsonb_build_object('subscription_id', v_row.id));
  end if;
  return billing._request_change(v_row, 'resume', 'member', null, false, null, interval '30 seconds');
end $$;
comment on function private.resume_subscription is 'Core of billing.resume_subscription; checks the caller first.';
revoke all on function private.resume_subscription from public, anon, authenticated, service_role;
grant execute on function private.resume_subscription to authenticated;

-- Takes a cancellation at the period's end back. Admins may. Errors: unknown_workspace, role_too_low,
-- not_subscribed, other_provider, subscription_not_ending.
create function billing.resume_subscription(workspace_id uuid, app text) returns billing.subscription_changes
language sql
set search_path = ''
as $$ select private.resume_subscription(workspace_id, app) $$;
comment on function billing.resume_subscription is 'Lets a subscription that was to end go on.';
revoke all on function billing.resume_subscription from public, anon, authenticated, service_role;
grant execute on function billing.resume_subscription to authenticated;

create function private.start_free_plan(workspace_id uuid, plan_id uuid) returns billing.subscriptions
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_plan billing.plans;
  v_row billing.subscriptions;
  v_new billing.subscriptions;
begin
  perform private.require_role(workspace_id, 'admin');
  select * into v_plan from billing.plans p where p.id = start_free_plan.plan_id and p.is_active and p.is_visible
    and not p.is_legacy and p.deleted_at is null;
  if not found then
    perform private.fail('unknown_plan', 'There is no such plan for sale.', jsonb_build_object('plan_id', plan_id));
  elsif exists (select from billing.plan_prices p where p.plan_id = v_plan.id and p.is_active and p.amount_minor > 0)
  then
    perform private.fail('plan_not_free', format('The plan %s costs something.', v_plan.name),
      jsonb_build_object('plan_id', plan_id));
  end if;
  perform billing._lock_place(workspace_id, v_plan.app);
  select * into v_row from billing.subscriptions s
  where s.workspace_id = start_free_plan.workspace_id and s.app = v_plan.app for no key update;
  if billing._holds_place(v_row) then
    perform private.fail('already_subscribed', 'The workspace has a paid plan of this app; cancel it first.',
      jsonb_build_object('subscription_id', v_row.id, 'plan_id', v_row.plan_id, 'status', v_row.status));
  elsif v_row.plan_id = v_plan.id and v_row.provider is null and v_row.status = 'active' then
    return v_row;
  end if;
  insert into billing.subscriptions as s (workspace_id, app, plan_id, current_period_start, allowance_anchor_at)
  values (workspace_id, v_plan.app, v_plan.id, private.now(), private.now())
  -- the constraint by its name: in a list of columns they would be taken for the arguments
  on conflict on constraint subscriptions_workspace_app_key do update
  set plan_id = excluded.plan_id, plan_price_id = null, status = 'active', provider = null,
    provider_subscription_id = null, provider_schedule_id = null, provider_created_at = null,
    current_period_start = excluded.current_period_start, current_period_end = null,
    trial_start = null, trial_end = null, cancel_at_period_end = false, cancel_at = null, cancelled_at = null,
    ended_at = null, scheduled_plan_id = null, scheduled_plan_price_id = null, scheduled_at = null,
    payment_url = null, grace_ends_at = null
  returning * into v_new;
  insert into billing.subscription_changes (workspace_id, subscription_id, user_id, kind, from_plan_id, to_plan_id,
    status, effective_at, completed_at, created_at)
  values (workspace_id, v_new.id, auth.uid(), 'start', v_row.plan_id, v_plan.id, 'completed', private.now(),
    private.now(), private.now());
  return v_new;
end $$;
comment on function private.start_free_plan is 'Core of billing.start_free_plan; checks the caller first.';
revoke all on function private.start_free_plan from public, anon, authenticated, service_role;
grant execute on function private.start_free_plan to authenticated, service_role;

-- Takes a plan that costs nothing; no provider is involved. Admins may. Errors: unknown_workspace, role_too_low,
-- unknown_plan, plan_not_free, already_subscribed.
create function billing.start_free_plan(workspace_id uuid, plan_id uuid) returns billing.subscriptions
language sql
set search_path = ''
as $$ select private.start_free_plan(workspace_id, plan_id) $$;
comment on function billing.start_free_plan is 'Puts the workspace on a free plan of an app.';
revoke all on function billing.start_free_plan from public, anon, authenticated, service_role;
grant execute on function billing.start_free_plan to authenticated, service_role;

create function private.billing_customer(workspace_id uuid) returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  perform private.require_role(workspace_id, 'admin');
  return (select w.provider_customer_id from billing.wallets w
    where w.workspace_id = billing_customer.workspace_id);
end $$;
comment on function private.billing_customer is 'Core of billing.billing_customer; checks the caller first.';
revoke all on function private.billing_customer from public, anon, authenticated, service_role;
grant execute on function private.billing_customer to authenticated;

-- For the provider's customer portal. Admins may. Errors: unknown_workspace, role_too_low.
create function billing.billing_customer(workspace_id uuid) returns text
language sql stable
set search_path = ''
as $$ select private.billing_customer(workspace_id) $$;
comment on function billing.billing_customer is
  'The workspace''s customer at the provider, null before its first purchase; the caller is an admin.';
revoke all on function billing.billing_customer from public, anon, authenticated, service_role;
grant execute on function billing.billing_customer to authenticated;
