-- The state of a subscription as the provider tells it, read into our words and written to its row.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_provider_price', 'PT500', 'Add the provider''s price to billing.plan_prices and replay the job.');

-- A subscription of Stripe's in our words; null where it says nothing.
create type billing.subscription_state as (
  provider_subscription_id text, provider_customer_id text, workspace_id uuid, app text, plan_id uuid,
  plan_price_id uuid, price_id text, status text, created_at timestamptz, started_at timestamptz,
  period_start timestamptz, period_end timestamptz, trial_start timestamptz, trial_end timestamptz,
  cancel_at_period_end boolean, cancel_at timestamptz, cancelled_at timestamptz, ended_at timestamptz,
  schedule_id text, scheduled_plan_id uuid, scheduled_plan_price_id uuid, scheduled_at timestamptz,
  pending_price_id text, unpaid_since timestamptz, payment_url text
);

-- The price of ours that Stripe's id stands for.
create function billing._stripe_price(price_id text) returns billing.plan_prices
language sql stable
set search_path = ''
as $$ select p from billing.plan_prices p where p.provider = 'stripe' and p.provider_price_id = price_id $$;
comment on function billing._stripe_price(text) is 'Our price for a price id of Stripe.';
revoke all on function billing._stripe_price from public, anon, authenticated, service_role;

-- The id of something that may be there as an object or as its id alone.
create function billing._stripe_id(thing jsonb) returns text
language sql immutable
set search_path = ''
as $$ select case jsonb_typeof(thing) when 'object' then thing ->> 'id' when 'string' then thing #>> '{}' end $$;
comment on function billing._stripe_id(jsonb) is 'The id of an object of Stripe, expanded or not.';
revoke all on function billing._stripe_id from public, anon, authenticated, service_role;

-- The next phase of a schedule: its price and when it begins.
create function billing._next_phase(schedule jsonb, period_start timestamptz)
returns table (price_id text, starts_at timestamptz)
language sql immutable
set search_path = ''
as $$
  select billing._stripe_id(p.phase -> 'items' -> 0 -> 'price'), to_timestamp((p.phase ->> 'start_date')::bigint)
  from jsonb_array_elements(case when schedule ->> 'status' in ('active', 'not_started')
    then schedule -> 'phases' else '[]' end) as p (phase)
  where (p.phase ->> 'start_date')::bigint >= coalesce((schedule -> 'current_phase' ->> 'end_date')::bigint,
    extract(epoch from period_start)::bigint)
  order by (p.phase ->> 'start_date')::bigint limit 1
$$;
comment on function billing._next_phase(jsonb, timestamptz) is 'What a schedule of Stripe changes to next, and when.';
revoke all on function billing._next_phase from public, anon, authenticated, service_role;

-- Whose it is: known from before, else by our metadata, else by the customer.
create function billing._owner_of(subscription jsonb) returns uuid
language sql stable
set search_path = ''
as $$
  select coalesce(
    (select s.workspace_id from billing.subscriptions s
      where s.provider = 'stripe' and s.provider_subscription_id = subscription ->> 'id'),
    (select w.id from identity.workspaces w
      where w.id = private.try_uuid(subscription -> 'metadata' ->> 'workspace_id')),
    (select w.workspace_id from billing.wallets w
      where w.provider_customer_id = billing._stripe_id(subscription -> 'customer')))
$$;
comment on function billing._owner_of(jsonb) is 'The workspace that a subscription of Stripe belongs to, if any.';
revoke all on function billing._owner_of from public, anon, authenticated, service_role;

-- Reads the object that the API answers (schedule and latest_invoice expanded). Source: Stripe API 2026-10-28.endive,
-- Subscription; the periods are those of the item since 2025-03-31.basil.
create function billing._read_subscription(subscription jsonb) returns billing.subscription_state
language plpgsql stable
set search_path = ''
as $$
declare
  v_state billing.subscription_state;
  v_item jsonb := subscription -> 'items' -> 'data' -> 0;
  v_price billing.plan_prices := billing._stripe_price(v_item -> 'price' ->> 'id');
  v_invoice jsonb := subscription -> 'latest_invoice';
begin
  v_state.provider_subscription_id := subscription ->> 'id';
  v_state.provider_customer_id := billing._stripe_id(subscription -> 'customer');
  v_state.workspace_id := billing._owner_of(subscription);
  v_state.plan_id := v_price.plan_id;
  v_state.plan_price_id := v_price.id;
  v_state.price_id := v_item -> 'price' ->> 'id';
  v_state.app := (select p.app from billing.plans p where p.id = v_price.plan_id);
  v_state.status := case subscription ->> 'status' when 'canceled' then 'cancelled' else subscription ->> 'status' end;
  v_state.created_at := to_timestamp((subscription ->> 'created')::bigint);
  v_state.started_at := to_timestamp((subscription ->> 'start_date')::bigint);
  v_state.period_start := to_timestamp((v_item ->> 'current_period_start')::bigint);
  v_state.period_end := to_timestamp((v_item ->> 'current_period_end')::bigint);
  if (subscription ->> 'trial_end')::bigint > (subscription ->> 'trial_start')::bigint then
    v_state.trial_start := to_timestamp((subscription ->> 'trial_start')::bigint);
    v_state.trial_end := to_timestamp((subscription ->> 'trial_end')::bigint);
  end if;
  v_state.cancel_at := to_timestamp((subscription ->> 'cancel_at')::bigint);
  v_state.cancel_at_period_end := (subscription ->> 'cancel_at_period_end')::boolean
    or coalesce(v_state.cancel_at <= v_state.period_end, false);
  v_state.cancelled_at := to_timestamp((subscription ->> 'canceled_at')::bigint);
  v_state.ended_at := to_timestamp((subscription ->> 'ended_at')::bigint);
  v_state.schedule_id := billing._stripe_id(subscription -> 'schedule');
  select p.plan_id, p.id, n.starts_at
  into v_state.scheduled_plan_id, v_state.scheduled_plan_price_id, v_state.scheduled_at
  from billing._next_phase(subscription -> 'schedule', v_state.period_start) n
  join billing.plan_prices p on p.provider = 'stripe' and p.provider_price_id = n.price_id
  where p.id is distinct from v_price.id;
  v_state.pending_price_id := billing._stripe_id(
    subscription -> 'pending_update' -> 'subscription_items' -> 0 -> 'price');
  if v_invoice ->> 'status' = 'open' then
    v_state.payment_url := v_invoice ->> 'hosted_invoice_url';
  end if;
  if v_state.status in ('past_due', 'unpaid') then
    v_state.unpaid_since := coalesce(to_timestamp((v_invoice ->> 'created')::bigint), v_state.period_start);
  end if;
  return v_state;
end $$;
comment on function billing._read_subscription(jsonb) is 'A subscription of Stripe in our words.';
revoke all on function billing._read_subscription from public, anon, authenticated, service_role;

-- How strongly a subscription holds its app's place: paid 3, free 2, not paid yet 1, ended 0.
create function billing._claim(provider text, status text) returns integer
language sql immutable
set search_path = ''
as $$
  select case when status in ('cancelled', 'incomplete_expired') then 0 when status = 'incomplete' then 1
    when provider is null then 2 else 3 end
$$;
comment on function billing._claim(text, text) is 'How strongly a subscription in this status holds its place.';
revoke all on function billing._claim from public, anon, authenticated, service_role;

-- Which of two subscriptions of one app has the place: the stronger claim, of two paid ones the older. Two that are
-- not paid yet do not quarrel: the holder stays. Returns new, holder, or surplus (the new one must be undone).
create function billing._rival_verdict(holder billing.subscriptions, state billing.subscription_state) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  v_held integer := billing._claim(holder.provider, holder.status);
  v_new integer := billing._claim('stripe', state.status);
begin
  if v_new > v_held and v_new > 0 then
    return 'new';
  elsif v_new = 3 and holder.provider = 'stripe'
    and (state.created_at, state.provider_subscription_id)
      < (holder.provider_created_at, holder.provider_subscription_id) then
    return 'new';
  elsif v_held = 3 and v_new > 0 then
    return 'surplus';
  end if;
  return 'holder';
end $$;
comment on function billing._rival_verdict is 'Which of two subscriptions of an app a workspace keeps.';
revoke all on function billing._rival_verdict from public, anon, authenticated, service_role;

-- Writes a state to the row of its workspace and app. The caller holds the place's lock. old is the row as it was;
-- with another subscription's id in it, that one is replaced.
create function billing._write_subscription(old billing.subscriptions, state billing.subscription_state)
returns billing.subscriptions
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_row billing.subscriptions;
  v_same boolean := coalesce(old.provider_subscription_id = state.provider_subscription_id, false);
  v_owing boolean := state.status in ('past_due', 'unpaid');
  v_grace timestamptz := state.unpaid_since + (select t.grace_period from billing.subscription_settings t
    where t.app = coalesce(old.app, state.app));
begin
  if old.id is null then
    insert into billing.subscriptions (workspace_id, app, plan_id, status, provider, provider_subscription_id,
      created_at)
    values (state.workspace_id, state.app, state.plan_id, state.status, 'stripe', state.provider_subscription_id,
      private.now());
  end if;
  update billing.subscriptions s
  set plan_id = coalesce(case when state.app = s.app then state.plan_id end, s.plan_id),
    plan_price_id = case when state.app = s.app then state.plan_price_id else s.plan_price_id end,
    status = state.status, provider = 'stripe', provider_subscription_id = state.provider_subscription_id,
    provider_customer_id = state.provider_customer_id, provider_created_at = state.created_at,
    provider_schedule_id = case when state.scheduled_plan_id is not null then state.schedule_id end,
    current_period_start = state.period_start, current_period_end = state.period_end,
    allowance_anchor_at = case when v_same then s.allowance_anchor_at else state.started_at end,
    trial_start = state.trial_start, trial_end = state.trial_end,
    trial_used_at = coalesce(s.trial_used_at, state.trial_start),
    cancel_at_period_end = state.cancel_at_period_end, cancel_at = state.cancel_at,
    cancelled_at = state.cancelled_at, ended_at = state.ended_at,
    scheduled_plan_id = state.scheduled_plan_id, scheduled_plan_price_id = state.scheduled_plan_price_id,
    scheduled_at = state.scheduled_at, payment_url = state.payment_url,
    -- grace is counted from the first unpaid invoice, not from the latest
    grace_ends_at = case when v_owing then coalesce(case when v_same then s.grace_ends_at end, v_grace) end,
    payment_failed_at = case when v_owing and not (v_same and s.status in ('past_due', 'unpaid'))
      then private.now() else s.payment_failed_at end
  where s.workspace_id = state.workspace_id and s.app = coalesce(old.app, state.app)
  returning * into strict v_row;
  update billing.wallets w set provider_customer_id = state.provider_customer_id
  where w.workspace_id = state.workspace_id and w.provider_customer_id is null
    and not exists (select from billing.wallets o where o.provider_customer_id = state.provider_customer_id);
  return v_row;
end $$;
comment on function billing._write_subscription is 'Writes the provider''s state of a subscription to its row.';
revoke all on function billing._write_subscription from public, anon, authenticated, service_role;
