-- The records around subscriptions: checkouts that were begun, changes of plan, why people left, and what was
-- bought twice.

-- A checkout is noted before the provider is asked, so that one whose events are lost is found again.
create table billing.subscription_checkouts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  app text not null,
  plan_price_id uuid not null,
  trial_days integer not null default 0,
  key text,
  status text not null default 'open',
  provider text not null default 'stripe',
  provider_session_id text,
  provider_subscription_id text,
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  closed_at timestamptz,
  constraint subscription_checkouts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint subscription_checkouts_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint subscription_checkouts_plan_price_id_fkey foreign key (plan_price_id)
    references billing.plan_prices (id) on delete cascade,
  constraint subscription_checkouts_session_key unique (provider, provider_session_id),
  constraint subscription_checkouts_app_known
    check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint subscription_checkouts_provider_known check (provider in ('stripe')),
  constraint subscription_checkouts_status_known check (status in ('open', 'complete', 'expired')),
  constraint subscription_checkouts_closed_has_time check ((status = 'open') = (closed_at is null)),
  constraint subscription_checkouts_trial_in_range check (trial_days between 0 and 730)
);
comment on table billing.subscription_checkouts is 'Checkouts of plans: what was begun, and what came of it.';
create unique index subscription_checkouts_key on billing.subscription_checkouts (workspace_id, key)
  where key is not null;
create index subscription_checkouts_open on billing.subscription_checkouts (workspace_id, app) where status = 'open';
create index subscription_checkouts_user_id on billing.subscription_checkouts (user_id) where user_id is not null;
create index subscription_checkouts_plan_price_id on billing.subscription_checkouts (plan_price_id);
create index subscription_checkouts_workspace_id on billing.subscription_checkouts (workspace_id, created_at desc);
create trigger subscription_checkouts_touch before update on billing.subscription_checkouts
  for each row execute function private.touch_updated_at();
alter table billing.subscription_checkouts enable row level security;
create policy "Members may read their workspace's checkouts" on billing.subscription_checkouts for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.subscription_checkouts from public, anon, authenticated, service_role;
grant select on table billing.subscription_checkouts to authenticated, service_role;

create table billing.subscription_changes (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  subscription_id uuid,
  user_id uuid,
  kind text not null,
  source text not null default 'member',
  from_plan_id uuid,
  to_plan_id uuid,
  to_plan_price_id uuid,
  reason text,
  status text not null default 'pending',
  at_period_end boolean not null default false,
  effective_at timestamptz,
  is_prorated boolean not null default false,
  proration_minor bigint,
  currency text,
  provider text,
  provider_subscription_id text,
  provider_invoice_id text,
  error text,
  metadata jsonb not null default '{}',
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint subscription_changes_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint subscription_changes_subscription_id_fkey foreign key (subscription_id)
    references billing.subscriptions (id) on delete set null,
  constraint subscription_changes_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint subscription_changes_from_plan_id_fkey foreign key (from_plan_id) references billing.plans (id),
  constraint subscription_changes_to_plan_id_fkey foreign key (to_plan_id) references billing.plans (id),
  constraint subscription_changes_to_plan_price_id_fkey foreign key (to_plan_price_id)
    references billing.plan_prices (id),
  constraint subscription_changes_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint subscription_changes_kind_known
    check (kind in ('start', 'upgrade', 'downgrade', 'keep', 'migration', 'cancel', 'resume', 'end')),
  constraint subscription_changes_source_known check (source in ('member', 'operator', 'provider')),
  constraint subscription_changes_status_known
    check (status in ('pending', 'awaiting_payment', 'scheduled', 'completed', 'failed', 'superseded')),
  constraint subscription_changes_completed_has_time check ((status = 'completed') = (completed_at is not null)),
  constraint subscription_changes_failed_has_error check (status <> 'failed' or error is not null),
  constraint subscription_changes_proration_has_currency check ((proration_minor is null) = (currency is null)),
  constraint subscription_changes_has_plan
    check (kind not in ('start', 'upgrade', 'downgrade', 'keep', 'migration') or to_plan_id is not null),
  constraint subscription_changes_reason_length check (char_length(reason) <= 2000)
);
comment on table billing.subscription_changes is
  'Every change of a plan: who asked for it, what it is, and what came of it.';
comment on column billing.subscription_changes.source is
  'provider: seen there without a request of ours, such as in its portal.';
comment on column billing.subscription_changes.effective_at is 'When it took or takes effect.';
comment on column billing.subscription_changes.proration_minor is
  'What the change itself was invoiced at, in minor units of the currency; below zero: a credit.';
create index subscription_changes_workspace_id on billing.subscription_changes (workspace_id, created_at desc);
create index subscription_changes_subscription_id on billing.subscription_changes (subscription_id, created_at desc);
create index subscription_changes_unsettled on billing.subscription_changes (subscription_id)
  where status in ('pending', 'awaiting_payment', 'scheduled');
create index subscription_changes_user_id on billing.subscription_changes (user_id) where user_id is not null;
create index subscription_changes_from_plan_id on billing.subscription_changes (from_plan_id);
create index subscription_changes_to_plan_id on billing.subscription_changes (to_plan_id);
create index subscription_changes_to_plan_price_id on billing.subscription_changes (to_plan_price_id);
create index subscription_changes_currency on billing.subscription_changes (currency) where currency is not null;
create trigger subscription_changes_touch before update on billing.subscription_changes
  for each row execute function private.touch_updated_at();
alter table billing.subscription_changes enable row level security;
create policy "Members may read their workspace's changes of plan" on billing.subscription_changes for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.subscription_changes from public, anon, authenticated, service_role;
grant select on table billing.subscription_changes to authenticated, service_role;

create table billing.cancellation_feedback (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  subscription_id uuid,
  subscription_change_id uuid,
  user_id uuid,
  plan_id uuid not null,
  previous_plan_id uuid,
  provider_subscription_id text,
  cancellation_type text not null,
  reason text,
  flow text,
  user_role text,
  had_payment_failures boolean not null default false,
  billing_period text,
  billing_interval integer,
  created_at timestamptz not null default now(),
  constraint cancellation_feedback_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint cancellation_feedback_subscription_id_fkey foreign key (subscription_id)
    references billing.subscriptions (id) on delete set null,
  constraint cancellation_feedback_subscription_change_id_fkey foreign key (subscription_change_id)
    references billing.subscription_changes (id) on delete set null,
  constraint cancellation_feedback_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint cancellation_feedback_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint cancellation_feedback_previous_plan_id_fkey foreign key (previous_plan_id) references billing.plans (id),
  constraint cancellation_feedback_type_known check (cancellation_type in ('end_of_period', 'immediate')),
  constraint cancellation_feedback_role_known check (user_role in ('viewer', 'member', 'editor', 'admin', 'owner')),
  constraint cancellation_feedback_reason_length check (char_length(reason) between 1 and 2000),
  constraint cancellation_feedback_flow_shape check (flow ~ '^[a-z][a-z0-9_]{0,49}$')
);
comment on table billing.cancellation_feedback is
  'Each cancellation by a member: why, from which page, in which role and after which history.';
create index cancellation_feedback_created_at on billing.cancellation_feedback (created_at desc);
create index cancellation_feedback_workspace_id on billing.cancellation_feedback (workspace_id);
create index cancellation_feedback_subscription_id on billing.cancellation_feedback (subscription_id);
create index cancellation_feedback_subscription_change_id on billing.cancellation_feedback (subscription_change_id);
create index cancellation_feedback_user_id on billing.cancellation_feedback (user_id) where user_id is not null;
create index cancellation_feedback_plan_id on billing.cancellation_feedback (plan_id);
create index cancellation_feedback_previous_plan_id on billing.cancellation_feedback (previous_plan_id);
alter table billing.cancellation_feedback enable row level security;
create policy "Members may read their workspace's cancellations" on billing.cancellation_feedback for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.cancellation_feedback from public, anon, authenticated, service_role;
grant select on table billing.cancellation_feedback to authenticated, service_role;

-- Two checkouts of one app that were completed at once leave one subscription too many.
create table billing.surplus_subscriptions (
  provider text not null default 'stripe',
  provider_subscription_id text not null,
  workspace_id uuid not null,
  app text not null,
  kept_provider_subscription_id text not null,
  status text not null default 'found',
  refunded_minor bigint not null default 0,
  currency text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint surplus_subscriptions_pkey primary key (provider, provider_subscription_id),
  constraint surplus_subscriptions_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint surplus_subscriptions_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint surplus_subscriptions_status_known check (status in ('found', 'settled')),
  constraint surplus_subscriptions_settled_has_time check ((status = 'settled') = (settled_at is not null)),
  constraint surplus_subscriptions_refund_not_negative check (refunded_minor >= 0),
  constraint surplus_subscriptions_refund_has_currency check (refunded_minor = 0 or currency is not null)
);
comment on table billing.surplus_subscriptions is
  'Second subscriptions of an app that a workspace had already: cancelled, and what they cost paid back.';
create index surplus_subscriptions_workspace_id on billing.surplus_subscriptions (workspace_id);
create index surplus_subscriptions_currency on billing.surplus_subscriptions (currency) where currency is not null;
create trigger surplus_subscriptions_touch before update on billing.surplus_subscriptions
  for each row execute function private.touch_updated_at();
alter table billing.surplus_subscriptions enable row level security;
create policy "Members may read what their workspace bought twice" on billing.surplus_subscriptions for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.surplus_subscriptions from public, anon, authenticated, service_role;
grant select on table billing.surplus_subscriptions to authenticated, service_role;

-- Looking at a subscription means: ask the provider for it and apply the answer. An event only says that there is
-- something to see, so its content, its order and its copies do not matter.
create table billing.subscription_looks (
  provider text not null default 'stripe',
  provider_subscription_id text not null,
  workspace_id uuid,
  wanted boolean not null default false,
  job_id bigint,
  ticket bigint not null default 0,
  looked_at timestamptz,
  next_look_at timestamptz,
  error text,
  created_at timestamptz not null default now(),
  constraint subscription_looks_pkey primary key (provider, provider_subscription_id),
  constraint subscription_looks_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete set null
);
comment on table billing.subscription_looks is
  'When each subscription of a provider was last looked at there, and whether it is to be looked at again.';
comment on column billing.subscription_looks.wanted is 'Something happened since the last look began.';
comment on column billing.subscription_looks.job_id is 'The job that will look; one at a time.';
comment on column billing.subscription_looks.ticket is
  'The number that was taken before the answer that was applied last was asked for.';
comment on column billing.subscription_looks.next_look_at is 'When the sweep looks even without an event.';
create index subscription_looks_due on billing.subscription_looks (next_look_at) where next_look_at is not null;
create index subscription_looks_workspace_id on billing.subscription_looks (workspace_id);
alter table billing.subscription_looks enable row level security;
revoke all on table billing.subscription_looks from public, anon, authenticated, service_role;
grant select on table billing.subscription_looks to service_role;

create sequence billing.look_tickets;
comment on sequence billing.look_tickets is 'Numbers the questions to a provider in the order in which they began.';
revoke all on sequence billing.look_tickets from public, anon, authenticated, service_role;
