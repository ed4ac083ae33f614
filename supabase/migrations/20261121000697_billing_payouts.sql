-- Payouts: money owed to a workspace goes to its bank by its account at the provider (Stripe Connect). A payout takes
-- its amount from what is payable when it is queued, and gives it back when it fails.

create table billing.payout_accounts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  provider text not null default 'stripe',
  provider_account_id text,
  country text not null,
  currency text not null default 'USD',
  status text not null default 'new',
  details_submitted boolean not null default false,
  transfers_enabled boolean not null default false,
  payouts_enabled boolean not null default false,
  requirements jsonb not null default '{}',
  disabled_reason text,
  schedule text not null default 'manual',
  schedule_day smallint,
  minimum_minor bigint not null default 100,
  hold_days integer not null default 7,
  next_payout_at timestamptz,
  provider_seen_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint payout_accounts_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint payout_accounts_country_fkey foreign key (country) references ref.countries (alpha2),
  constraint payout_accounts_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint payout_accounts_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint payout_accounts_one_each unique (workspace_id),
  constraint payout_accounts_provider_key unique (provider, provider_account_id),
  constraint payout_accounts_provider_known check (provider in ('stripe')),
  constraint payout_accounts_status_known check (status in ('new', 'pending', 'active', 'restricted')),
  constraint payout_accounts_active_can_pay
    check (status <> 'active' or (provider_account_id is not null and transfers_enabled and payouts_enabled)),
  constraint payout_accounts_schedule_whole check (case schedule
    when 'weekly' then schedule_day between 1 and 7 when 'monthly' then schedule_day between 1 and 28
    else schedule in ('manual', 'daily') and schedule_day is null end
    and (schedule = 'manual') = (next_payout_at is null)),
  constraint payout_accounts_minimum_in_range check (minimum_minor between 1 and 1000000000),
  constraint payout_accounts_hold_in_range check (hold_days between 0 and 365),
  constraint payout_accounts_requirements_object check (jsonb_typeof(requirements) = 'object')
);
comment on table billing.payout_accounts is
  'Where a workspace''s money is paid out to, by the provider''s word, and when and from how much on it wants it.';
comment on column billing.payout_accounts.schedule_day is 'weekly: 1 is Monday; monthly: the day, at most the 28th.';
comment on column billing.payout_accounts.hold_days is
  'How long earnings are on hold; staff set it, not the workspace.';
comment on column billing.payout_accounts.provider_seen_at is 'When the provider said what is known of it here.';
create index payout_accounts_country on billing.payout_accounts (country);
create index payout_accounts_currency on billing.payout_accounts (currency);
create index payout_accounts_created_by on billing.payout_accounts (created_by) where created_by is not null;
create index payout_accounts_due on billing.payout_accounts (next_payout_at) where next_payout_at is not null;
create trigger payout_accounts_touch before update on billing.payout_accounts for each row
  execute function private.touch_updated_at();
alter table billing.payout_accounts enable row level security;
create policy "Admins may read their workspace's payout account" on billing.payout_accounts for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.payout_accounts from public, anon, authenticated, service_role;
grant select on table billing.payout_accounts to authenticated, service_role;
grant update (hold_days) on table billing.payout_accounts to service_role;

create table billing.payouts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  payout_account_id uuid not null,
  amount_minor bigint not null,
  currency text not null,
  status text not null default 'queued',
  key text not null,
  requested_by uuid,
  provider_account_id text not null,
  provider_transfer_id text,
  provider_payout_id text,
  bank_status text,
  reversed_minor bigint not null default 0,
  refused boolean not null default false,
  settled_minor bigint not null default 0,
  returned_minor bigint not null default 0,
  rounds integer not null default 1,
  next_try_at timestamptz,
  failure_code text,
  error text,
  metadata jsonb not null default '{}',
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  arrives_at timestamptz,
  finished_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint payouts_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint payouts_payout_account_id_fkey foreign key (payout_account_id) references billing.payout_accounts (id),
  constraint payouts_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint payouts_requested_by_fkey foreign key (requested_by) references auth.users (id) on delete set null,
  constraint payouts_key unique (workspace_id, key),
  constraint payouts_key_length check (length(key) between 1 and 300),
  constraint payouts_transfer_key unique (provider_transfer_id),
  constraint payouts_bank_key unique (provider_payout_id),
  constraint payouts_status_known check (status in
    ('queued', 'transferred', 'paying', 'paid', 'returning', 'failed', 'reversed')),
  constraint payouts_bank_status_known check (bank_status in ('pending', 'in_transit', 'paid', 'canceled', 'failed')),
  constraint payouts_amounts_add_up check (amount_minor > 0 and reversed_minor between 0 and amount_minor
    and settled_minor >= 0 and returned_minor >= 0 and settled_minor + returned_minor <= amount_minor),
  constraint payouts_reversed_was_sent check (reversed_minor = 0 or provider_transfer_id is not null),
  constraint payouts_refused_was_not_sent check (not refused or provider_transfer_id is null),
  constraint payouts_status_fits_money check (case status
    when 'paid' then settled_minor + returned_minor = amount_minor and settled_minor > 0
    when 'failed' then returned_minor = amount_minor when 'reversed' then returned_minor = amount_minor
    else settled_minor = 0 end),
  constraint payouts_finished_has_time
    check ((status in ('paid', 'failed', 'reversed')) = (finished_at is not null))
);
comment on table billing.payouts is
  'Money on its way from us to a workspace''s bank: transfer to its account, then from there; minor units.';
comment on column billing.payouts.bank_status is 'What the provider says of the way to the bank, in its words.';
comment on column billing.payouts.refused is 'The provider refused the transfer; no money has moved there.';
comment on column billing.payouts.settled_minor is 'Booked as having left us; returned_minor as owed again.';
comment on column billing.payouts.rounds is
  'How many jobs have been enqueued for it; next_try_at is when another will be.';
create index payouts_workspace_id on billing.payouts (workspace_id, created_at desc);
create index payouts_payout_account_id on billing.payouts (payout_account_id);
create index payouts_currency on billing.payouts (currency);
create index payouts_requested_by on billing.payouts (requested_by) where requested_by is not null;
create index payouts_retry on billing.payouts (next_try_at) where next_try_at is not null;
create trigger payouts_touch before update on billing.payouts for each row
  execute function private.touch_updated_at();
alter table billing.payouts enable row level security;
create policy "Admins may read their workspace's payouts" on billing.payouts for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.payouts from public, anon, authenticated, service_role;
grant select on table billing.payouts to authenticated, service_role;
alter table billing.affiliate_payouts add constraint affiliate_payouts_payout_id_fkey
  foreign key (payout_id) references billing.payouts (id);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_payout', 'PT404', 'Check the payout''s id.'),
  ('payout_account_not_ready', 'PT409', 'Finish the onboarding that POST /billing/payouts/onboarding starts.'),
  ('payout_too_small', 'PT409', 'Wait until as much is payable as the account''s minimum.'),
  ('payout_too_large', 'PT409', 'Ask for at most what is payable; earnings on hold are not.'),
  ('payout_mismatch', 'PT409', 'The provider has another amount or account; look at the transfer there.');

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.send_payout', 'Transfers a payout and sends it to the bank.', 'billing.on_payout_job', null),
  ('billing.return_payout', 'Reverses the transfer of a payout the bank refused.', 'billing.on_payout_job', null),
  ('billing.refresh_payout_account', 'Asks the provider what a payout account may do.', null, interval '1 day');

-- When a schedule is due next, at midnight UTC; null: manual.
create function billing._next_payout_at(schedule text, schedule_day integer) returns timestamptz
language sql stable
set search_path = ''
as $$
  select min(d) at time zone 'UTC' from generate_series(1, 31) n,
    lateral (select date_trunc('day', private.now() at time zone 'UTC') + make_interval(days => n)) t (d)
  where case schedule when 'daily' then true when 'weekly' then extract(isodow from d) = schedule_day
    when 'monthly' then extract(day from d) = schedule_day else false end
$$;
comment on function billing._next_payout_at(text, integer) is 'The next day of a payout schedule, midnight UTC.';
revoke all on function billing._next_payout_at from public, anon, authenticated, service_role;

-- Payouts are multiples of this many minor units. Source: Stripe, Supported currencies (special cases): forints and new
-- Taiwan dollars leave in whole units, currencies of three decimals with a zero at the end.
create function billing._payout_step(currency text) returns bigint
language sql stable
set search_path = ''
as $$
  select case when c.code in ('HUF', 'TWD') then 100 when c.exponent = 3 then 10 else 1 end
  from ref.currencies c where c.code = _payout_step.currency
$$;
comment on function billing._payout_step(text) is 'Minor units of which a payout in a currency is a multiple.';
revoke all on function billing._payout_step from public, anon, authenticated, service_role;

-- What of a balance can be paid out, in minor units.
create function billing._payable_minor(workspace_id uuid, currency text) returns bigint
language sql stable
set search_path = ''
as $$
  select coalesce((select greatest(0, div(div(b.payable_micro, private.minor_unit_micro(b.currency)), s.step) * s.step)
    from billing.payable_balances b cross join billing._payout_step(b.currency) as s (step)
    where b.workspace_id = _payable_minor.workspace_id and b.currency = _payable_minor.currency), 0)::bigint
$$;
comment on function billing._payable_minor(uuid, text) is 'What a workspace could be paid out now, in minor units.';
revoke all on function billing._payable_minor from public, anon, authenticated, service_role;

create function private.start_payout_account(workspace_id uuid, country text, currency text)
returns billing.payout_accounts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_account billing.payout_accounts;
begin
  perform private.require_role(workspace_id, 'admin');
  if not exists (select from ref.countries c where c.alpha2 = upper(country))
    or private.minor_unit_micro(upper(currency)) is null or upper(currency) in ('ISK', 'UGX') then
    -- the provider counts these two in hundredths that do not exist
    perform private.fail('invalid_argument', 'country is an ISO 3166 code of two letters, currency one of ISO 4217 '
      || 'except ISK and UGX.', '{"argument": "country"}');
  end if;
  insert into billing.payout_accounts (workspace_id, country, currency, created_by)
  values (workspace_id, upper(country), upper(currency), auth.uid())
  on conflict on constraint payout_accounts_one_each do nothing;
  select * into v_account from billing.payout_accounts a where a.workspace_id = start_payout_account.workspace_id;
  return v_account;
end $$;
comment on function private.start_payout_account is 'Core of billing.start_payout_account; checks the caller first.';
revoke all on function private.start_payout_account from public, anon, authenticated, service_role;
grant execute on function private.start_payout_account to authenticated;

-- Admins may; a workspace has one account, and gets the same when asked again. The edge function billing makes it at
-- the provider. Errors: unknown_workspace, role_too_low, invalid_argument.
create function billing.start_payout_account(workspace_id uuid, country text, currency text default 'USD')
returns billing.payout_accounts
language sql
set search_path = ''
as $$ select private.start_payout_account(workspace_id, country, currency) $$;
comment on function billing.start_payout_account is
  'Records that a workspace wants to be paid out, and in which country.';
revoke all on function billing.start_payout_account from public, anon, authenticated, service_role;
grant execute on function billing.start_payout_account to authenticated;

create function private.configure_payouts(workspace_id uuid, schedule text, schedule_day integer, minimum_minor bigint)
returns billing.payout_accounts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_account billing.payout_accounts;
begin
  perform private.require_role(workspace_id, 'admin');
  if schedule is null or schedule not in ('manual', 'daily', 'weekly', 'monthly')
    or (schedule in ('weekly', 'monthly') and (schedule_day is null
      or schedule_day not between 1 and case schedule when 'weekly' then 7 else 28 end))
    or minimum_minor not between 1 and 1000000000 then
    perform private.fail('invalid_argument', 'schedule is manual, daily, weekly (day 1 to 7) or monthly (1 to 28), '
      || 'minimum_minor at least 1.', '{"argument": "schedule"}');
  end if;
  update billing.payout_accounts a
  set schedule = configure_payouts.schedule, minimum_minor = coalesce(configure_payouts.minimum_minor, a.minimum_minor),
    schedule_day = case when configure_payouts.schedule in ('weekly', 'monthly')
      then configure_payouts.schedule_day end,
    next_payout_at = billing._next_payout_at(configure_payouts.schedule, configure_payouts.schedule_day)
  where a.workspace_id = configure_payouts.workspace_id
  returning * into v_account;
  if not found then
    perform private.fail('payout_account_not_ready', 'The workspace has no payout account.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  return v_account;
end $$;
comment on function private.configure_payouts is 'Core of billing.configure_payouts; checks the caller first.';
revoke all on function private.configure_payouts from public, anon, authenticated, service_role;
grant execute on function private.configure_payouts to authenticated;

-- Errors: unknown_workspace, role_too_low, invalid_argument, payout_account_not_ready.
create function billing.configure_payouts(workspace_id uuid, schedule text, schedule_day integer default null,
  minimum_minor bigint default null) returns billing.payout_accounts
language sql
set search_path = ''
as $$ select private.configure_payouts(workspace_id, schedule, schedule_day, minimum_minor) $$;
comment on function billing.configure_payouts is 'Sets when a workspace is paid out and from how much on.';
revoke all on function billing.configure_payouts from public, anon, authenticated, service_role;
grant execute on function billing.configure_payouts to authenticated;

-- Takes the amount from what is payable and enqueues the work. The caller holds the wallet and has checked what is
-- payable. Null: the account cannot be paid out to.
create function billing._queue_payout(workspace_id uuid, amount_minor bigint, currency text, key text,
  requested_by uuid default null) returns billing.payouts
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_account billing.payout_accounts;
  v_payout billing.payouts;
begin
  select * into v_account from billing.payout_accounts a
  where a.workspace_id = _queue_payout.workspace_id and a.status = 'active';
  if not found then
    return null;
  end if;
  perform private.correlate();
  insert into billing.payouts (workspace_id, payout_account_id, amount_minor, currency, key, requested_by,
    provider_account_id)
  values (workspace_id, v_account.id, amount_minor, currency, key, requested_by, v_account.provider_account_id)
  returning * into v_payout;
  perform billing._move_payable(workspace_id, currency, 'payable', 'in_transit',
    amount_minor * private.minor_unit_micro(currency), 'payout:' || v_payout.id, null, null,
    jsonb_build_object('payout_id', v_payout.id));
  perform ops.enqueue_job('billing.send_payout', jsonb_build_object('payout_id', v_payout.id), workspace_id,
    max_attempts => 20, key => 'payout:' || v_payout.id);
  return v_payout;
end $$;
comment on function billing._queue_payout is
  'Books a payout as on its way and enqueues its job; null without an account.';
revoke all on function billing._queue_payout from public, anon, authenticated, service_role;

create function private.request_payout(workspace_id uuid, amount_minor bigint, key text) returns billing.payouts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_wallet billing.wallets;
  v_account billing.payout_accounts;
  v_payout billing.payouts;
  v_payable bigint;
begin
  perform private.require_role(workspace_id, 'admin');
  perform billing._check_key(key);
  v_wallet := billing._lock_wallet(workspace_id);
  select * into v_payout from billing.payouts p where p.workspace_id = request_payout.workspace_id
    and p.key = 'request:' || request_payout.key;
  if found then
    if v_payout.amount_minor <> amount_minor then
      perform private.fail('key_reused', 'This key has been used for a payout of another amount.',
        jsonb_build_object('key', key, 'payout_id', v_payout.id));
    end if;
    return v_payout;
  end if;
  if v_wallet.status = 'frozen' then
    perform private.fail('wallet_frozen', 'Nothing is paid out of a frozen workspace.');
  end if;
  select * into v_account from billing.payout_accounts a where a.workspace_id = request_payout.workspace_id;
  v_payable := billing._payable_minor(workspace_id, v_account.currency);
  amount_minor := coalesce(amount_minor, v_payable);
  if v_account.status is distinct from 'active' then
    perform private.fail('payout_account_not_ready', 'The workspace cannot be paid out to yet.',
      jsonb_build_object('status', v_account.status, 'requirements', v_account.requirements));
  elsif amount_minor > v_payable then
    perform private.fail('payout_too_large', format('%s of %s are payable.', v_payable, amount_minor),
      jsonb_build_object('payable_minor', v_payable, 'currency', v_account.currency));
  elsif amount_minor % billing._payout_step(v_account.currency) <> 0 then
    perform private.fail('invalid_argument', format('%s is paid out in multiples of %s minor units.',
      v_account.currency, billing._payout_step(v_account.currency)), '{"argument": "amount_minor"}');
  elsif amount_minor < v_account.minimum_minor then
    perform private.fail('payout_too_small', format('The least payout is %s.', v_account.minimum_minor),
      jsonb_build_object('minimum_minor', v_account.minimum_minor, 'payable_minor', v_payable));
  end if;
  return billing._queue_payout(workspace_id, amount_minor, v_account.currency, 'request:' || key, auth.uid());
end $$;
comment on function private.request_payout is 'Core of billing.request_payout; checks the caller first.';
revoke all on function private.request_payout from public, anon, authenticated, service_role;
grant execute on function private.request_payout to authenticated, service_role;

-- Pays out so much (null: all that is payable) in the account's currency, once for a key. Errors: unknown_workspace,
-- role_too_low, key_required, key_reused, wallet_frozen, payout_account_not_ready, payout_too_small, payout_too_large.
create function billing.request_payout(workspace_id uuid, key text, amount_minor bigint default null)
returns billing.payouts
language sql
set search_path = ''
as $$ select private.request_payout(workspace_id, amount_minor, key) $$;
comment on function billing.request_payout is 'Pays out what a workspace is owed, in minor units, once for a key.';
revoke all on function billing.request_payout from public, anon, authenticated, service_role;
grant execute on function billing.request_payout to authenticated, service_role;

-- Sweep: accounts whose day has come are paid what is payable, if it is enough. It waits for no wallet.
create function billing.queue_due_payouts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account billing.payout_accounts;
  v_payable bigint;
  v_count integer := 0;
begin
  for v_account in
    select a.* from billing.payout_accounts a join billing.wallets w on w.workspace_id = a.workspace_id
    where a.next_payout_at <= private.now() and w.status = 'active'
    order by a.next_payout_at limit 200 for no key update of w, a skip locked
  loop
    v_payable := billing._payable_minor(v_account.workspace_id, v_account.currency);
    if v_account.status = 'active' and v_payable >= v_account.minimum_minor then
      perform billing._queue_payout(v_account.workspace_id, v_payable, v_account.currency,
        'schedule:' || extract(epoch from v_account.next_payout_at));
      v_count := v_count + 1;
    end if;
    update billing.payout_accounts a set next_payout_at = billing._next_payout_at(a.schedule, a.schedule_day)
    where a.id = v_account.id;
  end loop;
  return v_count;
end $$;
comment on function billing.queue_due_payouts() is
  'Sweep: queues the payouts of schedules that are due; returns how many.';
revoke all on function billing.queue_due_payouts from public, anon, authenticated, service_role;
grant execute on function billing.queue_due_payouts to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('queue due payouts', 'billing.queue_due_payouts', interval '5 minutes');
