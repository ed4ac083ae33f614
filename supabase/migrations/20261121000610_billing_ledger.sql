-- Wallets and the double-entry ledger. Every movement of credits is a transaction whose entries sum to
-- zero; entries never change; the balances on a wallet are the sums of its entries. Whoever moves a
-- workspace's credits locks its wallet row first, so movements of one workspace are serial and those of
-- different workspaces never meet: system accounts keep no balance.
--
-- The tables of the hot path have no foreign keys to each other: each would lock and look up a row for every
-- line written. Only functions of this schema write them, in the transaction that made or locked the row they
-- name; what they name is never deleted (guards below), and billing.verify_ledger() looks for orphans.

create table billing.wallets (
  workspace_id uuid primary key,
  status text not null default 'active',
  allowance_micro bigint not null default 0,
  lots_micro bigint not null default 0,
  prepaid_micro bigint not null default 0,
  held_micro bigint not null default 0,
  total_purchased_micro bigint not null default 0,
  total_used_micro bigint not null default 0,
  allowance_due_at timestamptz,
  lots_due_at timestamptz,
  account_base bigint not null,
  plan_slug text,
  low_balance_threshold_micro bigint,
  provider_customer_id text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint wallets_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint wallets_status_known check (status in ('active', 'frozen')),
  -- one check: PostgreSQL reads the text of each anew for every statement that writes
  constraint wallets_never_below_zero check (least(allowance_micro, lots_micro, prepaid_micro, held_micro,
    total_purchased_micro, total_used_micro, low_balance_threshold_micro) >= 0)
) with (fillfactor = 50);
comment on table billing.wallets is
  'A workspace''s balances in micro-units; each equals the sum of its ledger entries.';
comment on column billing.wallets.allowance_due_at is
  'When the next allowance is to be issued; null: no plan brings one.';
comment on column billing.wallets.lots_due_at is
  'No open lot expires before then; null: none ever. May be earlier than the truth, never later.';
comment on column billing.wallets.plan_slug is 'Of its oldest active subscription, for its charges; null: none.';
comment on column billing.wallets.account_base is
  'Ids of its ledger accounts: this one is allowance, the next three are lots, prepaid and held.';
create unique index wallets_provider_customer_id on billing.wallets (provider_customer_id)
  where provider_customer_id is not null;
-- the ledger's own updates bring the time along and spare the call
create trigger wallets_touch before update on billing.wallets for each row
  when (new.updated_at = old.updated_at) execute function private.touch_updated_at();
alter table billing.wallets enable row level security;
create policy "Members may read their workspace's wallet" on billing.wallets for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.wallets from public, anon, authenticated, service_role;
grant select on table billing.wallets to authenticated, service_role;

-- Accounts of a workspace: allowance, lots, prepaid, held. Accounts of the system (no workspace):
-- payments (money from outside), grants (given away), revenue (earned), expired.
create table billing.ledger_accounts (
  id bigint generated always as identity (start with 8 increment by 8) primary key,
  workspace_id uuid,
  code text not null,
  created_at timestamptz not null default now(),
  constraint ledger_accounts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint ledger_accounts_workspace_code_key unique nulls not distinct (workspace_id, code),
  constraint ledger_accounts_code_known check (code = any (case when workspace_id is null
    then array['payments', 'grants', 'revenue', 'expired'] else array['allowance', 'lots', 'prepaid', 'held'] end))
);
comment on table billing.ledger_accounts is 'The accounts that ledger entries move credits between.';
alter table billing.ledger_accounts enable row level security;
create policy "Members may read their workspace's accounts" on billing.ledger_accounts for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.ledger_accounts from public, anon, authenticated, service_role;
grant select on table billing.ledger_accounts to authenticated, service_role;
-- Known numbers, as those of a workspace are counted from its account_base: lines find their account unasked.
insert into billing.ledger_accounts (id, code) overriding system value values
  (1, 'payments'), (2, 'grants'), (3, 'revenue'), (4, 'expired');

-- A credit lot is credit of one kind with one expiry. Its remaining_micro is what may still be drawn.
create table billing.credit_lots (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  kind text not null,
  code text not null generated always as
    (case when kind in ('allowance', 'rollover', 'regeneration') then 'allowance' else 'lots' end) stored,
  amount_micro bigint not null,
  remaining_micro bigint not null,
  is_open boolean not null generated always as (remaining_micro > 0) stored,
  priority smallint not null default 100,
  meters text[],
  expires_at timestamptz,
  payment_id uuid,
  origin_lot_id uuid,
  origin_event_id uuid,
  metadata jsonb not null default '{}',
  -- the order of drawing, also among lots of one transaction
  created_at timestamptz not null default clock_timestamp(),
  constraint credit_lots_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint credit_lots_origin_lot_id_fkey foreign key (origin_lot_id) references billing.credit_lots (id),
  constraint credit_lots_kind_known
    check (kind in ('admin', 'allowance', 'rollover', 'regeneration', 'promotion', 'purchase', 'voucher', 'referral',
      'compensation', 'grace')),
  constraint credit_lots_remaining_in_range check (remaining_micro between 0 and amount_micro and amount_micro > 0),
  constraint credit_lots_allowance_expires check (kind not in ('allowance', 'rollover') or expires_at is not null),
  constraint credit_lots_meters_not_empty check (cardinality(meters) > 0),
  constraint credit_lots_grace_has_origin check ((kind = 'grace') = (origin_lot_id is not null)
    and (kind = 'grace') = (origin_event_id is not null))
) with (fillfactor = 70);
comment on table billing.credit_lots is
  'Credits of one kind and expiry: drawn admin grants first, then the allowance, then by priority and expiry.';
comment on column billing.credit_lots.code is 'The workspace''s ledger account that the lot is part of.';
comment on column billing.credit_lots.amount_micro is
  'All that was ever put in; a regenerating lot and an allowance that was upgraded have grown.';
comment on column billing.credit_lots.is_open is
  'What the indexes ask, so that drawing from a lot changes none of them until it is empty.';
comment on column billing.credit_lots.priority is 'Among lots of one rank the lower number is drawn first.';
comment on column billing.credit_lots.meters is 'Slugs of the only meters it pays for; null: every meter.';
comment on column billing.credit_lots.payment_id is 'The payment that bought it; null: it was given.';
comment on column billing.credit_lots.origin_lot_id is
  'Of a grace lot: the expired lot whose credits came back, and by which charge.';
create index credit_lots_open on billing.credit_lots (workspace_id, expires_at) where is_open;
create index credit_lots_expiring on billing.credit_lots (expires_at) where is_open and expires_at is not null;
create index credit_lots_workspace_id on billing.credit_lots (workspace_id, created_at desc);
create index credit_lots_payment_id on billing.credit_lots (payment_id) where payment_id is not null;
create index credit_lots_origin_lot_id on billing.credit_lots (origin_lot_id) where origin_lot_id is not null;
alter table billing.credit_lots enable row level security;
create policy "Members may read their workspace's credit lots" on billing.credit_lots for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.credit_lots from public, anon, authenticated, service_role;
grant select on table billing.credit_lots to authenticated, service_role;

create table billing.ledger_transactions (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  kind text not null,
  key text,
  content_hash bytea,
  usage_event_id uuid,
  payment_id uuid,
  reason text,
  metadata jsonb not null default '{}',
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  event_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint ledger_transactions_kind_known
    check (kind in ('grant', 'purchase', 'allowance', 'rollover', 'authorize', 'capture', 'release', 'refund', 'expire',
      'adjust', 'claw_back')),
  constraint ledger_transactions_key_length check (length(key) <= 300)
);
comment on table billing.ledger_transactions is 'One movement of credits: why and when; its entries say what moved.';
comment on column billing.ledger_transactions.correlation_id is
  'The request, webhook or schedule it came of; null: none.';
comment on column billing.ledger_transactions.event_at is
  'When it happened in the world; created_at is when it was booked.';
create unique index ledger_transactions_key on billing.ledger_transactions (workspace_id, key) where key is not null;
create index ledger_transactions_workspace_id on billing.ledger_transactions (workspace_id, id desc);
create index ledger_transactions_usage_event_id on billing.ledger_transactions (usage_event_id)
  where usage_event_id is not null;
create index ledger_transactions_payment_id on billing.ledger_transactions (payment_id) where payment_id is not null;
-- those of a charge are found by the charge
create index ledger_transactions_correlation_id on billing.ledger_transactions (correlation_id)
  where correlation_id is not null and usage_event_id is null;
create trigger ledger_transactions_immutable before update or delete on billing.ledger_transactions
  for each row execute function private.forbid_change();
create trigger ledger_transactions_not_truncated before truncate on billing.ledger_transactions
  for each statement execute function private.forbid_change();
alter table billing.ledger_transactions enable row level security;
create policy "Members may read their workspace's transactions" on billing.ledger_transactions for select
  to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.ledger_transactions from public, anon, authenticated, service_role;
grant select on table billing.ledger_transactions to authenticated, service_role;

create table billing.ledger_entries (
  transaction_id bigint not null,
  line smallint not null,
  account_id bigint not null,
  lot_id uuid,
  amount_micro bigint not null,
  balance_after_micro bigint,
  constraint ledger_entries_pkey primary key (transaction_id, line),
  constraint ledger_entries_amount_not_zero check (amount_micro <> 0)
);
comment on table billing.ledger_entries is
  'What a transaction moved, account by account; the entries of a transaction sum to zero.';
comment on column billing.ledger_entries.balance_after_micro is
  'The workspace account''s balance after the transaction; null for system accounts.';
create index ledger_entries_account_id on billing.ledger_entries (account_id, transaction_id);
create index ledger_entries_lot_id on billing.ledger_entries (lot_id) where lot_id is not null;
create trigger ledger_entries_immutable before update or delete on billing.ledger_entries
  for each row execute function private.forbid_change();
create trigger ledger_entries_not_truncated before truncate on billing.ledger_entries
  for each statement execute function private.forbid_change();

create function billing.check_entries_balance() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_fault record;
begin
  select n.transaction_id, sum(n.amount_micro) as off into v_fault
  from new_entries n group by n.transaction_id having sum(n.amount_micro) <> 0 limit 1;
  if found then
    perform private.fail('unbalanced_transaction',
      format('Transaction %s is off by %s micro-units.', v_fault.transaction_id, v_fault.off));
  end if;
  return null;
end $$;
comment on function billing.check_entries_balance() is
  'Trigger: the entries of one insert must sum to zero by transaction.';
revoke all on function billing.check_entries_balance from public, anon, authenticated, service_role;
create trigger ledger_entries_balance after insert on billing.ledger_entries
  referencing new table as new_entries for each statement execute function billing.check_entries_balance();
alter table billing.ledger_entries enable row level security;
create policy "Members may read entries of their workspace's accounts" on billing.ledger_entries for select
  to authenticated
  -- an array, not a sub-select: only that lets the index be used
  using (account_id = any (array(select a.id from billing.ledger_accounts a
    where a.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))));
revoke all on table billing.ledger_entries from public, anon, authenticated, service_role;
grant select on table billing.ledger_entries to authenticated, service_role;
