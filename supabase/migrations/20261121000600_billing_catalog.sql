-- What is sold and measured: meters, features, plans with prices and what they allow, subscriptions, quotas, credit
-- packages.
-- Amounts of money are integers: micro-units (100,000 = 1 USD) or, where a currency is named beside them,
-- minor units of that currency.

create schema if not exists billing;
comment on schema billing is 'Meters, plans, wallets, the ledger, usage and payments.';
revoke all on schema billing from public;
grant usage on schema billing to anon, authenticated, service_role;

create table billing.meters (
  id uuid primary key default gen_random_uuid(),
  slug text not null,
  display_name text not null,
  unit_label text not null,
  unit_amount_micro bigint not null,
  metadata jsonb not null default '{}',
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint meters_slug_key unique (slug),
  constraint meters_slug_shape check (slug ~ '^[a-z][a-z0-9_]*$'),
  constraint meters_unit_amount_in_range check (unit_amount_micro between 0 and 1000000000)
);
comment on table billing.meters is 'What is measured and what one unit of it costs, in micro-units.';
create trigger meters_touch before update on billing.meters for each row execute function private.touch_updated_at();
alter table billing.meters enable row level security;
create policy "Everybody may read the active meters" on billing.meters for select to anon, authenticated
  using (is_active);
revoke all on table billing.meters from public, anon, authenticated, service_role;
grant select on table billing.meters to anon, authenticated;
grant select, insert, update, delete on table billing.meters to service_role;

-- One allowance credit is 6 micro-units: a generation is 383 credits, a message 17.
insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('generation', 'Image generation', 'generation', 383 * 6),
  ('message', 'Bot message', 'message', 17 * 6);

create table billing.plans (
  id uuid primary key default gen_random_uuid(),
  app text not null,
  slug text not null,
  name text not null,
  description text,
  allowance_micro bigint not null default 0,
  allowance_interval text not null default 'month',
  queue_weight real not null default 1,
  rollover_cap_micro bigint not null default 0,
  display_features jsonb not null default '[]',
  is_active boolean not null default true,
  is_visible boolean not null default true,
  is_legacy boolean not null default false,
  is_featured boolean not null default false,
  sort_order integer not null default 0,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint plans_app_slug_key unique (app, slug),
  constraint plans_queue_weight_in_range check (queue_weight between 0.01 and 1000),
  constraint plans_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint plans_slug_shape check (slug ~ '^[a-z0-9][a-z0-9_-]*$'),
  constraint plans_allowance_interval_known check (allowance_interval in ('week', 'month')),
  constraint plans_amounts_in_range
    check (allowance_micro between 0 and 1000000000000 and rollover_cap_micro between 0 and 1000000000000)
);
comment on table billing.plans is 'Plans of all apps, with the allowance of micro-units each interval brings.';
comment on column billing.plans.queue_weight is
  'Share of the queue''s capacity beside other workspaces: 2 is twice that of 1. Of several plans the highest counts.';
comment on column billing.plans.display_features is
  'Sentences a price page shows; what a plan really allows is in plan_features.';
comment on column billing.plans.is_legacy is 'Kept by those who have it, sold to nobody.';
comment on column billing.plans.is_visible is 'False: not on price pages; sold to whoever is offered it.';
create index plans_active on billing.plans (app, sort_order) where is_active and deleted_at is null;
create trigger plans_touch before update on billing.plans for each row execute function private.touch_updated_at();
alter table billing.plans enable row level security;
create policy "Visitors may read the plans on sale" on billing.plans for select to anon
  using (is_active and is_visible and not is_legacy and deleted_at is null);
revoke all on table billing.plans from public, anon, authenticated, service_role;
grant select on table billing.plans to anon, authenticated;
grant select, insert, update, delete on table billing.plans to service_role;

create table billing.plan_prices (
  id uuid primary key default gen_random_uuid(),
  plan_id uuid not null,
  provider text not null default 'stripe',
  provider_price_id text,
  provider_product_id text,
  currency text not null,
  amount_minor bigint not null,
  billing_period text not null,
  billing_interval integer not null default 1,
  display_price text,
  monthly_equivalent_minor bigint,
  original_monthly_total_minor bigint,
  savings_minor bigint,
  trial_period_days integer not null default 0,
  is_active boolean not null default true,
  is_default boolean not null default false,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint plan_prices_plan_id_fkey foreign key (plan_id) references billing.plans (id) on delete cascade,
  constraint plan_prices_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint plan_prices_provider_price_key unique (provider, provider_price_id),
  constraint plan_prices_provider_known check (provider in ('stripe', 'razorpay')),
  constraint plan_prices_billing_period_known check (billing_period in ('week', 'month', 'year')),
  constraint plan_prices_amounts_in_range
    check (amount_minor >= 0 and billing_interval between 1 and 24 and trial_period_days between 0 and 730),
  constraint plan_prices_figures_not_negative
    check (monthly_equivalent_minor >= 0 and original_monthly_total_minor >= 0 and savings_minor >= 0),
  constraint plan_prices_archived_is_over check (archived_at is null or not (is_active or is_default))
);
comment on table billing.plan_prices is
  'What a plan costs, by currency and period, with the price''s id at the payment provider.';
comment on column billing.plan_prices.amount_minor is
  'Minor units of the currency for each billing_interval billing_periods.';
comment on column billing.plan_prices.original_monthly_total_minor is
  'What the same time costs at the monthly price, to show savings_minor against.';
create unique index plan_prices_default on billing.plan_prices (plan_id, currency) where is_default;
create index plan_prices_plan_id on billing.plan_prices (plan_id);
create index plan_prices_currency on billing.plan_prices (currency);
create trigger plan_prices_touch before update on billing.plan_prices for each row
  execute function private.touch_updated_at();
alter table billing.plan_prices enable row level security;
create policy "Visitors may read prices of plans they can see" on billing.plan_prices for select to anon
  using (is_active and archived_at is null and exists (select from billing.plans p where p.id = plan_id));
revoke all on table billing.plan_prices from public, anon, authenticated, service_role;
grant select on table billing.plan_prices to anon, authenticated;
grant select, insert, update, delete on table billing.plan_prices to service_role;

-- Every feature that any plan may speak of, so that a typo in a plan is an error. A switch is on or off. A limit is
-- counted in a period (limit_period; total: given back, never reset) or, without a period, a ceiling that is only
-- asked for. A text is shown. The defaults are what a workspace has that no plan and no grant says anything about.
create table billing.features (
  slug text primary key,
  kind text not null,
  app text,
  unit text,
  description text not null,
  limit_period text,
  default_enabled boolean not null default false,
  default_limit bigint,
  default_text text,
  allowance_unit_micro bigint,
  sort_order integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint features_slug_shape check (slug ~ '^[a-z][a-z0-9_]*$'),
  constraint features_kind_known check (kind in ('switch', 'limit', 'text')),
  constraint features_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint features_limit_period_known check (limit_period in ('week', 'month', 'year', 'total')),
  constraint features_limit_has_unit check ((kind = 'limit') = (unit is not null)),
  constraint features_only_limits_count
    check (kind = 'limit' or (limit_period is null and default_limit is null and allowance_unit_micro is null)),
  constraint features_only_texts_say check (kind = 'text' or default_text is null),
  constraint features_default_limit_not_negative check (default_limit >= 0),
  constraint features_allowance_unit_is_of_a_ceiling
    check (allowance_unit_micro is null or (allowance_unit_micro > 0 and limit_period is null))
);
comment on table billing.features is
  'What plans can allow: each feature with its kind, unit and what holds without a plan.';
comment on column billing.features.app is
  'The app whose plans may name it; null: about the workspace itself (members, storage, API), in plans of any app.';
comment on column billing.features.default_limit is 'In units; null with default_enabled: unlimited.';
comment on column billing.features.allowance_unit_micro is
  'Set where the feature states a plan''s allowance: so many micro-units a unit, and the two must agree.';
create index features_sorted on billing.features (app, sort_order);
create trigger features_touch before update on billing.features for each row
  execute function private.touch_updated_at();
create trigger features_kind_fixed before update of kind on billing.features
  for each row when (old.kind <> new.kind) execute function private.forbid_change();
alter table billing.features enable row level security;
create policy "Everybody may read what plans can allow" on billing.features for select to anon, authenticated
  using (true);
revoke all on table billing.features from public, anon, authenticated, service_role;
grant select on table billing.features to anon, authenticated;
grant select, insert, update, delete on table billing.features to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_feature', 'PT404', 'Use the slug of a row of billing.features.'),
  ('feature_mismatch', 'PT400', 'Say what the feature''s kind can hold, in a plan of the app it belongs to.');

-- A row is of its feature's kind: a switch (enabled), a limit (limit_value, null: unlimited), or a text such as a
-- support level. A limit that is not enabled allows nothing.
create table billing.plan_features (
  plan_id uuid not null,
  feature text not null,
  enabled boolean not null default true,
  limit_value bigint,
  limit_period text,
  text_value text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint plan_features_pkey primary key (plan_id, feature),
  constraint plan_features_plan_id_fkey foreign key (plan_id) references billing.plans (id) on delete cascade,
  constraint plan_features_feature_fkey foreign key (feature) references billing.features (slug) on update cascade,
  constraint plan_features_limit_not_negative check (limit_value >= 0),
  constraint plan_features_limit_period_known check (limit_period in ('week', 'month', 'year', 'total'))
);
comment on table billing.plan_features is 'What a plan allows: one entitlement a row (a switch, a limit, a text).';
comment on column billing.plan_features.limit_value is 'In units of the feature; null: unlimited.';
comment on column billing.plan_features.limit_period is 'Null: the feature''s own.';
create index plan_features_feature on billing.plan_features (feature);
create trigger plan_features_touch before update on billing.plan_features for each row
  execute function private.touch_updated_at();
alter table billing.plan_features enable row level security;
create policy "Everybody may read features of plans they can see" on billing.plan_features for select
  to anon, authenticated
  using (exists (select from billing.plans p where p.id = plan_id));
revoke all on table billing.plan_features from public, anon, authenticated, service_role;
grant select on table billing.plan_features to anon, authenticated;
grant select, insert, update, delete on table billing.plan_features to service_role;

-- What a constraint cannot hold, because it takes the feature and the plan to know. Errors: unknown_feature,
-- feature_mismatch.
create function private.check_plan_feature() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_feature billing.features;
  v_app text := (select p.app from billing.plans p where p.id = new.plan_id);
begin
  select * into v_feature from billing.features f where f.slug = new.feature;
  if not found then
    perform private.fail('unknown_feature', format('There is no feature %L.', new.feature),
      jsonb_build_object('feature', new.feature));
  end if;
  if (v_feature.kind <> 'limit' and (new.limit_value is not null or new.limit_period is not null))
    or (v_feature.kind <> 'text' and new.text_value is not null)
    or (v_feature.limit_period is null and new.limit_period is not null)
    or (v_feature.app <> v_app) then
    perform private.fail('feature_mismatch', format('The plan cannot say this of the feature %s.', new.feature),
      jsonb_build_object('feature', new.feature, 'kind', v_feature.kind, 'limit_period', v_feature.limit_period,
        'feature_app', v_feature.app, 'plan_app', v_app));
  end if;
  return new;
end $$;
comment on function private.check_plan_feature() is
  'Trigger: a plan says of a feature only what its kind and app allow.';
revoke all on function private.check_plan_feature from public, anon, authenticated, service_role;
create trigger plan_features_check before insert or update on billing.plan_features
  for each row execute function private.check_plan_feature();

create table billing.subscriptions (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  app text not null,
  plan_id uuid not null,
  plan_price_id uuid,
  status text not null default 'active',
  provider text,
  provider_subscription_id text,
  provider_customer_id text,
  provider_schedule_id text,
  current_period_start timestamptz not null default now(),
  current_period_end timestamptz,
  allowance_anchor_at timestamptz not null default now(),
  trial_start timestamptz,
  trial_end timestamptz,
  cancel_at_period_end boolean not null default false,
  cancel_at timestamptz,
  cancelled_at timestamptz,
  scheduled_plan_id uuid,
  scheduled_at timestamptz,
  rollover_micro bigint not null default 0,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscriptions_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint subscriptions_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint subscriptions_plan_price_id_fkey foreign key (plan_price_id) references billing.plan_prices (id),
  constraint subscriptions_scheduled_plan_id_fkey foreign key (scheduled_plan_id) references billing.plans (id),
  constraint subscriptions_workspace_app_key unique (workspace_id, app),
  constraint subscriptions_provider_subscription_key unique (provider, provider_subscription_id),
  constraint subscriptions_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint subscriptions_status_known check (status in
    ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'cancelled', 'unpaid', 'paused')),
  constraint subscriptions_period_in_order check (current_period_end > current_period_start),
  constraint subscriptions_trial_in_order check (trial_end > trial_start),
  constraint subscriptions_schedule_whole check ((scheduled_plan_id is null) = (scheduled_at is null)),
  constraint subscriptions_anchor_finite check (isfinite(allowance_anchor_at)),
  constraint subscriptions_rollover_not_negative check (rollover_micro >= 0)
);
comment on table billing.subscriptions is
  'A workspace''s plan in one app; active and trialing ones bring the plan''s allowance.';
comment on column billing.subscriptions.allowance_anchor_at is
  'Allowance periods are counted from here, so that a renewal or a change of plan issues none early.';
comment on column billing.subscriptions.cancel_at is 'When it will end, once a cancellation was asked for.';
create index subscriptions_plan_id on billing.subscriptions (plan_id);
create index subscriptions_plan_price_id on billing.subscriptions (plan_price_id);
create index subscriptions_scheduled_plan_id on billing.subscriptions (scheduled_plan_id);
create index subscriptions_scheduled on billing.subscriptions (scheduled_at) where scheduled_at is not null;
create trigger subscriptions_touch before update on billing.subscriptions
  for each row execute function private.touch_updated_at();
alter table billing.subscriptions enable row level security;
create policy "Members may read their workspace's subscriptions" on billing.subscriptions for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
-- The plans of the reader's own workspaces are gathered once, however many subscribers a plan has.
create policy "Users may read the plans on sale and their own" on billing.plans for select to authenticated
  using ((is_active and is_visible and not is_legacy and deleted_at is null)
    or id = any ((select array_agg(s.plan_id) || array_agg(s.scheduled_plan_id) from billing.subscriptions s
      where s.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))::uuid[]));
create policy "Users may read prices of plans they can see and their own" on billing.plan_prices for select
  to authenticated
  using ((is_active and archived_at is null and exists (select from billing.plans p where p.id = plan_id))
    or id = any ((select array_agg(s.plan_price_id) from billing.subscriptions s
    where s.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))::uuid[]));
revoke all on table billing.subscriptions from public, anon, authenticated, service_role;
grant select on table billing.subscriptions to authenticated;
grant select, insert, update, delete on table billing.subscriptions to service_role;

create table billing.quotas (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  subscription_id uuid,
  feature text not null,
  limit_value bigint,
  used_value numeric not null default 0,
  period_start timestamptz not null,
  period_end timestamptz,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint quotas_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint quotas_subscription_id_fkey foreign key (subscription_id)
    references billing.subscriptions (id) on delete set null,
  constraint quotas_feature_fkey foreign key (feature) references billing.features (slug) on update cascade,
  constraint quotas_period_in_order check (period_end > period_start),
  constraint quotas_within_limit check (used_value >= 0 and (limit_value is null or used_value <= limit_value))
);
comment on table billing.quotas is
  'How much of a feature a workspace has used in a period, and how much its plan allows.';
comment on column billing.quotas.limit_value is 'What was allowed at the last use; null: unlimited.';
comment on column billing.quotas.period_end is 'Null: a total that never resets.';
create index quotas_subscription_id on billing.quotas (subscription_id);
create index quotas_feature on billing.quotas (feature);
-- the running period is the one that ends last; a week and the month after it may begin alike
create unique index quotas_running on billing.quotas (workspace_id, feature, period_end desc nulls last)
  nulls not distinct;
create trigger quotas_touch before update on billing.quotas for each row execute function private.touch_updated_at();
alter table billing.quotas enable row level security;
create policy "Members may read their workspace's quotas" on billing.quotas for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.quotas from public, anon, authenticated, service_role;
grant select on table billing.quotas to authenticated;
grant select, insert, update, delete on table billing.quotas to service_role;

create table billing.credit_packages (
  id uuid primary key default gen_random_uuid(),
  slug text not null,
  app text,
  name text not null,
  description text,
  credits_micro bigint not null,
  price_minor bigint not null,
  currency text not null default 'USD',
  provider_price_id text,
  valid_days integer,
  is_active boolean not null default true,
  sort_order integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint credit_packages_slug_key unique (slug),
  constraint credit_packages_provider_price_key unique (provider_price_id),
  constraint credit_packages_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint credit_packages_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint credit_packages_amounts_in_range check (credits_micro between 1 and 1000000000000 and price_minor > 0),
  constraint credit_packages_valid_days_in_range check (valid_days between 1 and 36500)
);
comment on table billing.credit_packages is 'Credits that can be bought at once: so many micro-units for such a price.';
comment on column billing.credit_packages.app is 'Null: on sale in every app.';
comment on column billing.credit_packages.valid_days is 'Null: the credits are prepaid balance and never expire.';
create index credit_packages_active on billing.credit_packages (sort_order) where is_active;
create index credit_packages_currency on billing.credit_packages (currency);
create trigger credit_packages_touch before update on billing.credit_packages
  for each row execute function private.touch_updated_at();
alter table billing.credit_packages enable row level security;
create policy "Everybody may read the packages on sale" on billing.credit_packages for select to anon, authenticated
  using (is_active);
revoke all on table billing.credit_packages from public, anon, authenticated, service_role;
grant select on table billing.credit_packages to anon, authenticated;
grant select, insert, update, delete on table billing.credit_packages to service_role;

insert into billing.credit_packages (slug, name, description, credits_micro, price_minor, sort_order) values
  ('starter', 'Starter', 'About 215 generations', 500000, 500, 1),
  ('creator', 'Creator', 'About 870 generations, a twentieth cheaper', 2000000, 1900, 2),
  ('studio', 'Studio', 'About 4,350 generations, a tenth cheaper', 10000000, 9000, 3);
