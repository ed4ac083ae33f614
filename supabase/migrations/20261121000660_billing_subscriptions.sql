-- What a subscription's row knows beyond its plan: when it ends, how long it may stay unpaid, where its open
-- invoice is paid, and what is scheduled. Status and times are the provider's, as it last told us.

alter table billing.subscriptions
  add column scheduled_plan_price_id uuid,
  add column ended_at timestamptz,
  add column trial_used_at timestamptz,
  add column trial_announced_at timestamptz,
  add column payment_failed_at timestamptz,
  add column grace_ends_at timestamptz,
  add column payment_url text,
  add column provider_created_at timestamptz,
  add constraint subscriptions_scheduled_plan_price_id_fkey foreign key (scheduled_plan_price_id)
    references billing.plan_prices (id),
  add constraint subscriptions_scheduled_price_has_plan
    check (scheduled_plan_price_id is null or scheduled_plan_id is not null),
  add constraint subscriptions_grace_is_for_unpaid
    check (grace_ends_at is null or status in ('past_due', 'unpaid')),
  add constraint subscriptions_ended_has_time
    check ((status in ('cancelled', 'incomplete_expired')) = (ended_at is not null));
comment on column billing.subscriptions.cancelled_at is
  'When the cancellation was asked for; ended_at is when the subscription ended.';
comment on column billing.subscriptions.trial_used_at is
  'When the workspace began its trial of the app, kept over later subscriptions: there is one.';
comment on column billing.subscriptions.trial_announced_at is
  'When the owners were last told that the trial ends soon.';
comment on column billing.subscriptions.payment_failed_at is 'When a payment last failed.';
comment on column billing.subscriptions.grace_ends_at is
  'Until when the plan stays open although it is unpaid; null: nothing is owed.';
comment on column billing.subscriptions.payment_url is
  'The provider''s page where the open invoice is paid; null: nothing is owed.';
create index subscriptions_scheduled_plan_price_id on billing.subscriptions (scheduled_plan_price_id);
create index subscriptions_trials on billing.subscriptions (trial_end) where status = 'trialing';

-- Several domains write subscriptions; whoever moves the status need not know of the times that belong to it.
create function private.keep_subscription_times() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.ended_at := case when new.status in ('cancelled', 'incomplete_expired')
    then coalesce(new.ended_at, private.now()) end;
  new.grace_ends_at := case when new.status in ('past_due', 'unpaid') then new.grace_ends_at end;
  new.trial_used_at := coalesce(new.trial_used_at, new.trial_start);
  return new;
end $$;
comment on function private.keep_subscription_times() is 'Trigger: the times of a subscription follow its status.';
revoke all on function private.keep_subscription_times from public, anon, authenticated, service_role;
create trigger subscriptions_keep_times before insert or update on billing.subscriptions
  for each row execute function private.keep_subscription_times();

-- Rules an operator may change while all runs.
create table billing.subscription_settings (
  app text primary key,
  grace_period interval not null default interval '7 days',
  trial_notice interval not null default interval '3 days',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscription_settings_app_known
    check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint subscription_settings_not_negative check (grace_period >= interval '0' and trial_notice >= interval '0')
);
comment on table billing.subscription_settings is
  'By app: how long an unpaid plan stays open, and how long before its end a trial is announced.';
create trigger subscription_settings_touch before update on billing.subscription_settings
  for each row execute function private.touch_updated_at();
alter table billing.subscription_settings enable row level security;
create policy "Everybody may read the settings of subscriptions" on billing.subscription_settings for select
  to anon, authenticated using (true);
revoke all on table billing.subscription_settings from public, anon, authenticated, service_role;
grant select on table billing.subscription_settings to anon, authenticated;
grant select, insert, update, delete on table billing.subscription_settings to service_role;
insert into billing.subscription_settings (app) values
  ('selify'), ('neostream'), ('amplify'), ('spikeland'), ('liventix');

-- Whether the plan is open to the workspace now. PostgREST offers it as a column of billing.subscriptions.
create function billing.has_access(subscription billing.subscriptions) returns boolean
language sql stable
set search_path = ''
as $$
  select subscription.status = 'active'
    -- a trial that no provider knows of ends on time, before anybody has noted its end
    or (subscription.status = 'trialing'
      and (subscription.provider is not null or coalesce(subscription.trial_end > private.now(), true)
        or private.trial_extended_to(subscription.workspace_id, subscription.app) > private.now()))
    or (subscription.status = 'past_due' and coalesce(subscription.grace_ends_at > private.now(), false))
$$;
comment on function billing.has_access(billing.subscriptions) is
  'Whether a subscription opens its plan now: active, on trial, or unpaid within its grace.';
revoke all on function billing.has_access from public, anon, authenticated, service_role;
grant execute on function billing.has_access to authenticated, service_role;

-- What one month of a price costs, to compare prices of different periods.
create function billing._monthly_minor(price billing.plan_prices) returns numeric
language sql immutable
set search_path = ''
as $$
  select price.amount_minor / (price.billing_interval * case price.billing_period
    when 'week' then 12.0 / 52 when 'month' then 1 else 12 end)
$$;
comment on function billing._monthly_minor(billing.plan_prices) is 'A price per month, in minor units of its currency.';
revoke all on function billing._monthly_minor from public, anon, authenticated, service_role;

-- Changes to a dearer plan, or to a longer period of the same plan, take effect at once; all others wait for the
-- end of what is paid.
create function billing._is_upgrade(old_price billing.plan_prices, new_price billing.plan_prices) returns boolean
language sql immutable
set search_path = ''
as $$
  select case when new_price.plan_id = old_price.plan_id
    then new_price.billing_interval * case new_price.billing_period when 'week' then 7 when 'month' then 30 else 365 end
      > old_price.billing_interval * case old_price.billing_period when 'week' then 7 when 'month' then 30 else 365 end
    else billing._monthly_minor(new_price) > billing._monthly_minor(old_price) end
$$;
comment on function billing._is_upgrade is 'Whether a change of price takes effect at once.';
revoke all on function billing._is_upgrade from public, anon, authenticated, service_role;

-- Tells the owners of a workspace about its plan, once for each occasion.
create function billing._tell_owners(subscription billing.subscriptions, occasion text, type text, title text,
  description text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_owner uuid;
  v_at timestamptz := case occasion when 'cancelled' then subscription.ended_at when 'ending' then
    subscription.cancelled_at when 'trial_ending' then subscription.trial_end else subscription.grace_ends_at end;
begin
  for v_owner in
    select m.user_id from identity.workspace_members m
    where m.workspace_id = subscription.workspace_id and m.role = 'owner' and not m.is_suspended
  loop
    perform private.notify_user(v_owner, subscription.workspace_id, type, title, description,
      coalesce(case when occasion in ('past_due', 'unpaid') then subscription.payment_url end, '/billing'),
      jsonb_build_object('subscription_id', subscription.id, 'app', subscription.app, 'plan_id', subscription.plan_id),
      left(format('subscription:%s:%s:%s', coalesce(subscription.provider_subscription_id, subscription.id::text),
        occasion, extract(epoch from v_at)), 200), 'billing.subscription_' || occasion);
  end loop;
end $$;
comment on function billing._tell_owners is 'Notifies the owners of a workspace about its subscription.';
revoke all on function billing._tell_owners from public, anon, authenticated, service_role;
