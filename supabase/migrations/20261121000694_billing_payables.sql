-- Money owed to workspaces: what organizers, sponsors and affiliates earned and will be paid. It is in the ledger like
-- all money, in accounts by currency, as micro-units of that currency (100,000 to its major unit), so that a share of
-- a cent is not lost. A workspace's part of such an account is the sum over its own transactions, as it is for
-- payments and revenue, and payable_balances keeps that sum.
--
-- held: earned, on hold; payable: may be paid out; in_transit: on its way to the bank. On the other side: sales
-- (collected for others), commissions (our expense), transfers (left us).

do $$
declare
  v_kinds text;
  v_codes text;
begin
  -- whatever else is known stays known
  select pg_get_expr(c.conbin, c.conrelid) into strict v_kinds from pg_constraint c
  where c.conname = 'ledger_transactions_kind_known' and c.conrelid = 'billing.ledger_transactions'::regclass;
  select pg_get_expr(c.conbin, c.conrelid) into strict v_codes from pg_constraint c
  where c.conname = 'ledger_accounts_code_known' and c.conrelid = 'billing.ledger_accounts'::regclass;
  execute format('alter table billing.ledger_transactions drop constraint ledger_transactions_kind_known,
    add constraint ledger_transactions_kind_known check (%s or kind = ''payable'')', v_kinds);
  execute format('alter table billing.ledger_accounts drop constraint ledger_accounts_code_known,
    add constraint ledger_accounts_code_known check (%s or (workspace_id is null
      and code ~ ''^(held|payable|in_transit|sales|commissions|transfers):[A-Z]{3}$''))', v_codes);
end $$;

create table billing.payable_balances (
  workspace_id uuid not null,
  currency text not null,
  held_micro bigint not null default 0,
  payable_micro bigint not null default 0,
  in_transit_micro bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint payable_balances_pkey primary key (workspace_id, currency),
  constraint payable_balances_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint payable_balances_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint payable_balances_not_negative check (held_micro >= 0 and in_transit_micro >= 0)
);
comment on table billing.payable_balances is
  'Money owed to a workspace by currency, in micro-units of the currency: on hold, payable, on its way.';
comment on column billing.payable_balances.payable_micro is
  'Below zero when what had been paid out was reversed: the next earnings make up for it.';
create index payable_balances_currency on billing.payable_balances (currency);
create trigger payable_balances_touch before update on billing.payable_balances for each row
  execute function private.touch_updated_at();
alter table billing.payable_balances enable row level security;
create policy "Admins may read what their workspace is owed" on billing.payable_balances for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.payable_balances from public, anon, authenticated, service_role;
grant select on table billing.payable_balances to authenticated, service_role;

create function private.minor_unit_micro(currency text) returns bigint
language sql stable
set search_path = ''
as $$ select (10 ^ (5 - c.exponent))::bigint from ref.currencies c where c.code = minor_unit_micro.currency $$;
comment on function private.minor_unit_micro(text) is
  'Micro-units in a minor unit of a currency: 1,000 for USD, 100,000 for JPY, 100 for KWD; null for no currency.';
revoke all on function private.minor_unit_micro from public, anon, authenticated, service_role;
grant execute on function private.minor_unit_micro to service_role;

-- Moves money owed to a workspace from one account to another, once for a key. A balanced transaction and the
-- balances move together under the wallet's lock. False: the key was known, nothing moved.
create function billing._move_payable(workspace_id uuid, currency text, from_code text, to_code text,
  amount_micro bigint, key text, payment_id uuid default null, reason text default null, metadata jsonb default '{}')
returns boolean
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_from text := from_code || ':' || currency;
  v_to text := to_code || ':' || currency;
begin
  if amount_micro is null or amount_micro <= 0 or from_code = to_code then
    perform private.fail('invalid_argument', 'Money moves between two accounts, more than nothing of it.',
      jsonb_build_object('argument', 'amount_micro', 'amount_micro', amount_micro));
  end if;
  perform billing._lock_wallet(workspace_id);
  if exists (select from billing.ledger_transactions t
    where t.workspace_id = _move_payable.workspace_id and t.key = _move_payable.key) then
    return false;
  end if;
  insert into billing.ledger_accounts (code) values (v_from), (v_to)
  on conflict on constraint ledger_accounts_workspace_code_key do nothing;
  perform billing._post(workspace_id, 'payable', array[row(v_from, null, -amount_micro),
    row(v_to, null, amount_micro)]::billing.posting[], key, payment_id => payment_id, reason => reason,
    metadata => metadata);
  insert into billing.payable_balances (workspace_id, currency) values (workspace_id, currency)
  on conflict on constraint payable_balances_pkey do nothing;
  update billing.payable_balances b
  set held_micro = b.held_micro
      + case 'held' when from_code then -amount_micro when to_code then amount_micro else 0 end,
    payable_micro = b.payable_micro
      + case 'payable' when from_code then -amount_micro when to_code then amount_micro else 0 end,
    in_transit_micro = b.in_transit_micro
      + case 'in_transit' when from_code then -amount_micro when to_code then amount_micro else 0 end
  where b.workspace_id = _move_payable.workspace_id and b.currency = _move_payable.currency;
  return true;
end $$;
comment on function billing._move_payable is
  'Books a movement of money owed to a workspace, once for a key; tells whether it did.';
revoke all on function billing._move_payable from public, anon, authenticated, service_role;

create table billing.earnings (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source_type text not null,
  source_id text not null,
  payment_id uuid,
  amount_minor bigint not null,
  currency text not null,
  reversed_minor bigint not null default 0,
  status text not null default 'held',
  key text not null,
  reason text,
  metadata jsonb not null default '{}',
  available_at timestamptz not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint earnings_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint earnings_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint earnings_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint earnings_key unique (workspace_id, key),
  constraint earnings_key_length check (length(key) between 1 and 255),
  constraint earnings_source_type_shape check (source_type ~ '^[a-z][a-z0-9_]*$'),
  constraint earnings_status_known check (status in ('held', 'available', 'reversed')),
  constraint earnings_amounts_in_range check (amount_minor between 1 and 1000000000000
    and reversed_minor between 0 and amount_minor),
  constraint earnings_reversed_is_all check ((status = 'reversed') = (reversed_minor = amount_minor)),
  constraint earnings_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table billing.earnings is
  'What a workspace earned by a sale made through us: on hold, then payable; in minor units of the currency.';
comment on column billing.earnings.source_type is 'ticket_order, sponsorship ...; source_id names the row there.';
create index earnings_payment_id on billing.earnings (payment_id) where payment_id is not null;
create index earnings_currency on billing.earnings (currency);
create index earnings_workspace_id on billing.earnings (workspace_id, created_at desc);
create index earnings_source on billing.earnings (source_type, source_id);
create index earnings_held on billing.earnings (available_at) where status = 'held';
create trigger earnings_touch before update on billing.earnings for each row
  execute function private.touch_updated_at();
alter table billing.earnings enable row level security;
create policy "Admins may read their workspace's earnings" on billing.earnings for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.earnings from public, anon, authenticated, service_role;
grant select on table billing.earnings to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_earning', 'PT404', 'Check the earning''s id.');

-- Credits a workspace with its part of a sale, once for a key. It is payable after hold_days; without one the days of
-- its payout account, without an account 7. Errors: unknown_workspace, invalid_argument, key_required, key_reused.
create function billing.record_earning(workspace_id uuid, amount_minor bigint, currency text, source_type text,
  source_id text, key text, payment_id uuid default null, hold_days integer default null) returns billing.earnings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_micro bigint := private.minor_unit_micro(currency);
  v_days integer := coalesce(hold_days,
    (select a.hold_days from billing.payout_accounts a where a.workspace_id = record_earning.workspace_id), 7);
  v_earning billing.earnings;
begin
  perform billing._check_key(key);
  if v_micro is null or coalesce(amount_minor, 0) not between 1 and 1000000000000 or v_days not between 0 and 365
    or coalesce(source_type, '') !~ '^[a-z][a-z0-9_]*$' or source_id is null then
    perform private.fail('invalid_argument', 'An earning needs an amount above 0, a currency, its source and 0 to 365'
      || ' days of hold.', jsonb_build_object('argument', 'amount_minor'));
  end if;
  perform billing._lock_wallet(workspace_id);
  insert into billing.earnings (workspace_id, source_type, source_id, payment_id, amount_minor, currency, key,
    available_at)
  values (workspace_id, source_type, source_id, payment_id, amount_minor, currency, key,
    private.now() + make_interval(days => v_days))
  on conflict on constraint earnings_key do nothing
  returning * into v_earning;
  if v_earning.id is null then
    select * into v_earning from billing.earnings e where e.workspace_id = record_earning.workspace_id
      and e.key = record_earning.key;
    if (v_earning.amount_minor, v_earning.currency, v_earning.source_type, v_earning.source_id)
      is distinct from (amount_minor, currency, source_type, source_id) then
      perform private.fail('key_reused', 'This key has been used for a different earning.',
        jsonb_build_object('key', key, 'earning_id', v_earning.id));
    end if;
    return v_earning;
  end if;
  perform billing._move_payable(workspace_id, currency, 'sales', 'held', amount_minor * v_micro,
    'earning:' || v_earning.id, payment_id, null, jsonb_build_object('earning_id', v_earning.id));
  return v_earning;
end $$;
comment on function billing.record_earning is 'Credits a workspace with its part of a sale, once for a key for ever.';
revoke all on function billing.record_earning from public, anon, authenticated, service_role;
grant execute on function billing.record_earning to service_role;

-- Sweep. It waits for no wallet: a busy one is seen to the next time.
create function billing.release_earnings() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_earning billing.earnings;
  v_count integer := 0;
begin
  for v_earning in
    select e.* from billing.earnings e join billing.wallets w on w.workspace_id = e.workspace_id
    where e.status = 'held' and e.available_at <= private.now()
    order by e.available_at limit 500 for no key update of w, e skip locked
  loop
    perform billing._move_payable(v_earning.workspace_id, v_earning.currency, 'held', 'payable',
      (v_earning.amount_minor - v_earning.reversed_minor) * private.minor_unit_micro(v_earning.currency),
      format('earning:%s:release', v_earning.id));
    update billing.earnings e set status = 'available' where e.id = v_earning.id;
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;
comment on function billing.release_earnings() is 'Sweep: makes earnings payable whose hold is over; returns how many.';
revoke all on function billing.release_earnings from public, anon, authenticated, service_role;
grant execute on function billing.release_earnings to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('release earnings', 'billing.release_earnings', interval '1 minute');

-- Takes an earning back, all that is left of it or a part, once for a key: its sale was refunded.
-- Errors: unknown_earning, invalid_argument, key_required, key_reused.
create function billing.reverse_earning(earning_id uuid, key text, amount_minor bigint default null,
  reason text default null) returns billing.earnings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_earning billing.earnings;
  v_key text := format('earning:%s:reverse:%s', earning_id, key);
  v_known jsonb;
  v_amount bigint;
begin
  perform billing._check_key(key);
  select * into v_earning from billing.earnings e where e.id = earning_id;
  if not found then
    perform private.fail('unknown_earning', 'There is no such earning.', jsonb_build_object('earning_id', earning_id));
  end if;
  perform billing._lock_wallet(v_earning.workspace_id);
  select * into v_earning from billing.earnings e where e.id = earning_id for update;
  select t.metadata into v_known from billing.ledger_transactions t
  where t.workspace_id = v_earning.workspace_id and t.key = v_key;
  if found then
    if amount_minor is not null and amount_minor <> (v_known ->> 'amount_minor')::bigint then
      perform private.fail('key_reused', 'This key has been used to reverse another amount.',
        jsonb_build_object('key', key));
    end if;
    return v_earning;
  end if;
  v_amount := coalesce(amount_minor, v_earning.amount_minor - v_earning.reversed_minor);
  if v_amount not between 1 and v_earning.amount_minor - v_earning.reversed_minor then
    perform private.fail('invalid_argument', 'Reverse more than nothing and at most what is left of the earning.',
      jsonb_build_object('argument', 'amount_minor', 'left_minor', v_earning.amount_minor - v_earning.reversed_minor));
  end if;
  perform billing._move_payable(v_earning.workspace_id, v_earning.currency,
    case v_earning.status when 'held' then 'held' else 'payable' end, 'sales',
    v_amount * private.minor_unit_micro(v_earning.currency), v_key, v_earning.payment_id, reason,
    jsonb_build_object('earning_id', earning_id, 'amount_minor', v_amount));
  update billing.earnings e
  set reversed_minor = e.reversed_minor + v_amount, reason = reverse_earning.reason,
    status = case when e.reversed_minor + v_amount = e.amount_minor then 'reversed' else e.status end
  where e.id = earning_id
  returning * into v_earning;
  return v_earning;
end $$;
comment on function billing.reverse_earning is 'Takes an earning back, wholly or in part, once for a key.';
revoke all on function billing.reverse_earning from public, anon, authenticated, service_role;
grant execute on function billing.reverse_earning to service_role;
