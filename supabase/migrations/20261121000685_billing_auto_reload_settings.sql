-- Saved payment methods, and what an admin sets for the automatic reload. A wallet that is armed carries the balance
-- below which it reloads, so that the ledger's own update of its row can tell the crossing.

create table billing.payment_methods (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  provider text not null default 'stripe',
  provider_payment_method_id text not null,
  type text not null,
  brand text,
  last4 text,
  exp_month smallint,
  exp_year smallint,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  removed_at timestamptz,
  constraint payment_methods_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint payment_methods_provider_key unique (provider, provider_payment_method_id),
  constraint payment_methods_provider_known check (provider in ('stripe', 'razorpay')),
  constraint payment_methods_last4_shape check (last4 ~ '^[0-9]{4}$'),
  constraint payment_methods_expiry_in_range check (exp_month between 1 and 12 and exp_year between 2000 and 2200)
);
comment on table billing.payment_methods is
  'Cards that a workspace has saved at the provider: what of them may be shown.';
comment on column billing.payment_methods.removed_at is 'Kept, so that older news cannot bring a removed card back.';
create index payment_methods_workspace_id on billing.payment_methods (workspace_id);
create trigger payment_methods_touch before update on billing.payment_methods for each row
  execute function private.touch_updated_at();
alter table billing.payment_methods enable row level security;
create policy "Admins may read their workspace's payment methods" on billing.payment_methods for select
  to authenticated
  using (removed_at is null and workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.payment_methods from public, anon, authenticated, service_role;
grant select on table billing.payment_methods to authenticated, service_role;

create table billing.auto_reload_settings (
  workspace_id uuid primary key,
  enabled boolean not null default false,
  threshold_minor bigint not null,
  amount_minor bigint not null,
  monthly_cap_minor bigint,
  payment_method_id uuid,
  failed_attempts integer not null default 0,
  disabled_reason text,
  paused_until timestamptz,
  last_reload_at timestamptz,
  last_reload_status text,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint auto_reload_settings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint auto_reload_settings_payment_method_id_fkey foreign key (payment_method_id)
    references billing.payment_methods (id),
  constraint auto_reload_settings_created_by_fkey foreign key (created_by)
    references auth.users (id) on delete set null,
  constraint auto_reload_settings_amounts_in_range check (threshold_minor between 500 and 1000000
    and amount_minor between 1500 and 1000000 and monthly_cap_minor between amount_minor and 100000000),
  constraint auto_reload_settings_enabled_is_whole
    check (not enabled or (payment_method_id is not null and disabled_reason is null)),
  constraint auto_reload_settings_attempts_not_negative check (failed_attempts >= 0),
  constraint auto_reload_settings_status_known check (last_reload_status in
    ('succeeded', 'declined', 'requires_action', 'failed', 'capped'))
);
comment on table billing.auto_reload_settings is
  'Below which balance a workspace buys credits by itself, how many, and at most how many a month: US cents.';
comment on column billing.auto_reload_settings.paused_until is 'The monthly cap is reached until then.';
create index auto_reload_settings_payment_method_id on billing.auto_reload_settings (payment_method_id);
create index auto_reload_settings_created_by on billing.auto_reload_settings (created_by);
create index auto_reload_settings_paused on billing.auto_reload_settings (paused_until)
  where paused_until is not null;
create trigger auto_reload_settings_touch before update on billing.auto_reload_settings for each row
  execute function private.touch_updated_at();
alter table billing.auto_reload_settings enable row level security;
create policy "Members may read their workspace's auto-reload settings" on billing.auto_reload_settings for select
  to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.auto_reload_settings from public, anon, authenticated, service_role;
grant select on table billing.auto_reload_settings to authenticated, service_role;

alter table billing.wallets add column auto_reload_below_micro bigint;
comment on column billing.wallets.auto_reload_below_micro is
  'Credits are bought when there are fewer: the threshold and what pays for certain meters only; null: not armed.';

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_payment_method', 'PT404', 'Choose one of the workspace''s saved cards: see billing.payment_methods.'),
  ('auto_reload_off', 'PT409', 'Switch the automatic reload on first: billing.set_auto_reload.');

-- Keeps a payment method of Stripe with its customer's workspace, or marks it as removed (it has no customer any
-- more). Returns whether it is one of ours.
create function billing.record_payment_method(method jsonb) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_method billing.payment_methods;
begin
  if method ->> 'customer' is null then
    update billing.payment_methods m set removed_at = coalesce(m.removed_at, private.now())
    where m.provider = 'stripe' and m.provider_payment_method_id = method ->> 'id'
    returning * into v_method;
    if found then
      perform billing._disable_auto_reload(v_method.workspace_id, 'payment_method_removed')
      from billing.auto_reload_settings s
      where s.workspace_id = v_method.workspace_id and s.enabled and s.payment_method_id = v_method.id;
    end if;
    return v_method.id is not null;
  end if;
  insert into billing.payment_methods as m (workspace_id, provider_payment_method_id, type, brand, last4, exp_month,
    exp_year)
  select w.workspace_id, method ->> 'id', method ->> 'type', method -> 'card' ->> 'brand', method -> 'card' ->> 'last4',
    (method -> 'card' ->> 'exp_month')::smallint, (method -> 'card' ->> 'exp_year')::smallint
  from billing.wallets w where w.provider_customer_id = method ->> 'customer'
  on conflict on constraint payment_methods_provider_key do update
  set brand = excluded.brand, last4 = excluded.last4, exp_month = excluded.exp_month, exp_year = excluded.exp_year
  where m.workspace_id = excluded.workspace_id;
  return found;
end $$;
comment on function billing.record_payment_method(jsonb) is
  'Keeps what may be shown of a saved card, or notes its removal.';
revoke all on function billing.record_payment_method from public, anon, authenticated, service_role;
grant execute on function billing.record_payment_method to service_role;

create function billing._apply_payment_method_event(event ops.webhook_events) returns boolean
language sql
set search_path = ''
as $$ select billing.record_payment_method(event.payload -> 'data' -> 'object') $$;
comment on function billing._apply_payment_method_event(ops.webhook_events) is 'Follows the saved cards at Stripe.';
revoke all on function billing._apply_payment_method_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name)
select t.event_type, 'billing._apply_payment_method_event' from unnest(array['payment_method.attached',
  'payment_method.detached', 'payment_method.updated', 'payment_method.automatically_updated']) as t (event_type);

create function private.set_auto_reload(workspace_id uuid, enabled boolean, threshold_minor bigint,
  amount_minor bigint, monthly_cap_minor bigint, payment_method_id uuid) returns billing.auto_reload_settings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_settings billing.auto_reload_settings;
  v_method uuid;
begin
  perform private.require_role(workspace_id, 'admin');
  if threshold_minor is null or threshold_minor not between 500 and 1000000 or amount_minor is null
    or amount_minor not between 1500 and 1000000 or monthly_cap_minor not between amount_minor and 100000000 then
    perform private.fail('invalid_argument',
      'The threshold is 5 USD or more, the amount 15 USD or more, both at most 10,000, a cap at least the amount.',
      jsonb_build_object('argument', case when coalesce(threshold_minor, 0) not between 500 and 1000000
        then 'threshold_minor' when coalesce(amount_minor, 0) not between 1500 and 1000000 then 'amount_minor'
        else 'monthly_cap_minor' end));
  end if;
  -- the one named, else the newest
  select m.id into v_method from billing.payment_methods m
  where m.workspace_id = set_auto_reload.workspace_id and m.removed_at is null
    and (payment_method_id is null or m.id = payment_method_id)
  order by m.created_at desc, m.id limit 1;
  if v_method is null and (enabled or payment_method_id is not null) then
    perform private.fail('unknown_payment_method', 'The workspace has no such saved card.',
      jsonb_build_object('payment_method_id', payment_method_id));
  end if;
  perform billing._lock_wallet(workspace_id);
  insert into billing.auto_reload_settings as s (workspace_id, enabled, threshold_minor, amount_minor,
    monthly_cap_minor, payment_method_id, created_by)
  values (workspace_id, coalesce(enabled, false), threshold_minor, amount_minor, monthly_cap_minor, v_method,
    auth.uid())
  on conflict on constraint auto_reload_settings_pkey do update
  set enabled = excluded.enabled, threshold_minor = excluded.threshold_minor, amount_minor = excluded.amount_minor,
    monthly_cap_minor = excluded.monthly_cap_minor, payment_method_id = excluded.payment_method_id,
    created_by = coalesce(excluded.created_by, s.created_by), failed_attempts = 0, disabled_reason = null,
    paused_until = null
  returning * into v_settings;
  -- one that waits for another try is over: with the new settings it is a crossing of its own
  perform billing._end_reload(r.id, 'skipped') from billing.auto_reloads r
  where r.workspace_id = set_auto_reload.workspace_id and r.status in ('retrying', 'requires_action');
  perform billing._arm_auto_reload(workspace_id);
  return v_settings;
end $$;
comment on function private.set_auto_reload is 'Core of billing.set_auto_reload; checks the caller first.';
revoke all on function private.set_auto_reload from public, anon, authenticated, service_role;
grant execute on function private.set_auto_reload to authenticated, service_role;

-- Sets the automatic reload; amounts are US cents. Whenever less than threshold can be spent, amount is charged to
-- the card, or what is missing to the threshold where that is more; never more than the cap in a month (UTC).
-- Admins may. Errors: unknown_workspace, role_too_low, invalid_argument, unknown_payment_method.
create function billing.set_auto_reload(workspace_id uuid, enabled boolean, threshold_minor bigint,
  amount_minor bigint, monthly_cap_minor bigint default null, payment_method_id uuid default null)
returns billing.auto_reload_settings
language sql
set search_path = ''
as $$
  select private.set_auto_reload(workspace_id, enabled, threshold_minor, amount_minor, monthly_cap_minor,
    payment_method_id)
$$;
comment on function billing.set_auto_reload is
  'Sets below which balance credits are bought automatically, how many, with which card; US cents.';
revoke all on function billing.set_auto_reload from public, anon, authenticated, service_role;
grant execute on function billing.set_auto_reload to authenticated, service_role;

-- Money that goes back, because it was asked for or because a bank took it, must not be charged anew: a reload that
-- would follow from it is switched off instead. The caller holds the wallet's lock, takes the credits between the
-- two calls, and calls the second whatever the first found.
create function billing._hold_reload(workspace_id uuid) returns void
language sql
set search_path = ''
as $$
  update billing.wallets w set auto_reload_below_micro = null
  where w.workspace_id = _hold_reload.workspace_id and w.auto_reload_below_micro is not null
$$;
comment on function billing._hold_reload(uuid) is 'Keeps what follows from beginning a reload.';
revoke all on function billing._hold_reload from public, anon, authenticated, service_role;

create function billing._resume_reload(workspace_id uuid, reason text, only_when_low boolean) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
begin
  if exists (select from billing.auto_reload_settings s join billing.wallets w on w.workspace_id = s.workspace_id
    where s.workspace_id = _resume_reload.workspace_id and s.enabled
      and (not only_when_low or w.allowance_micro + w.lots_micro + w.prepaid_micro
        - billing._scoped_credits(w.workspace_id) < s.threshold_minor * 1000)) then
    perform billing._disable_auto_reload(workspace_id, reason);
  else
    perform billing._arm_auto_reload(workspace_id);
  end if;
end $$;
comment on function billing._resume_reload is 'Arms a wallet again, or switches its reload off where it would begin.';
revoke all on function billing._resume_reload from public, anon, authenticated, service_role;

create function private.arm_thawed_wallet() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform billing._arm_auto_reload(new.workspace_id);
  return null;
end $$;
comment on function private.arm_thawed_wallet() is 'Trigger: a wallet that may spend again may reload again.';
revoke all on function private.arm_thawed_wallet from public, anon, authenticated, service_role;
create trigger wallets_thaw after update of status on billing.wallets for each row
  when (old.status = 'frozen' and new.status = 'active') execute function private.arm_thawed_wallet();
