-- Wallets and the double-entry ledger. Every movement of credits is a transaction whose entries sum to
-- zero; entries never change; the balances on a wallet are the sums of its entries. Whoever moves a
-- workspace's credits locks its wallet row first, so movements of one workspace are serial and those of
-- different workspaces never meet: system accounts keep no balance.

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
  low_balance_threshold_micro bigint,
  provider_customer_id text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint wallets_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint wallets_status_known check (status in ('active', 'frozen')),
  constraint wallets_never_below_zero
    check (allowance_micro >= 0 and lots_micro >= 0 and prepaid_micro >= 0 and held_micro >= 0),
  constraint wallets_totals_not_negative check (total_purchased_micro >= 0 and total_used_micro >= 0),
  constraint wallets_threshold_not_negative check (low_balance_threshold_micro >= 0)
) with (fillfactor = 50);
comment on table billing.wallets is
  'A workspace''s balances in micro-units; each equals the sum of its ledger entries.';
comment on column billing.wallets.allowance_due_at is
  'When the next allowance is to be issued; null: no plan brings one.';
create unique index wallets_provider_customer_id on billing.wallets (provider_customer_id)
  where provider_customer_id is not null;
create trigger wallets_touch before update on billing.wallets for each row execute function private.touch_updated_at();
alter table billing.wallets enable row level security;
create policy "Members may read their workspace's wallet" on billing.wallets for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.wallets from public, anon, authenticated, service_role;
grant select on table billing.wallets to authenticated, service_role;

-- Accounts of a workspace: allowance, lots, prepaid, held. Accounts of the system (no workspace):
-- payments (money from outside), grants (given away), revenue (earned), expired.
create table billing.ledger_accounts (
  id bigint generated always as identity primary key,
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
insert into billing.ledger_accounts (code) values ('payments'), ('grants'), ('revenue'), ('expired');

-- A credit lot is credit of one kind with one expiry. Its remaining_micro is what may still be drawn.
create table billing.credit_lots (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  kind text not null,
  amount_micro bigint not null,
  remaining_micro bigint not null,
  expires_at timestamptz,
  payment_id uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint credit_lots_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint credit_lots_kind_known
    check (kind in ('admin', 'allowance', 'promotion', 'purchase', 'voucher', 'referral', 'compensation')),
  constraint credit_lots_remaining_in_range check (remaining_micro between 0 and amount_micro and amount_micro > 0),
  constraint credit_lots_allowance_expires check (kind <> 'allowance' or expires_at is not null)
) with (fillfactor = 70);
comment on column billing.credit_lots.payment_id is 'The payment that bought it; null: it was given.';
comment on table billing.credit_lots is
  'Credits of one kind and expiry: drawn admin grants first, then the allowance, then by earliest expiry.';
create index credit_lots_open on billing.credit_lots (workspace_id, expires_at) where remaining_micro > 0;
create index credit_lots_expiring on billing.credit_lots (expires_at) where remaining_micro > 0
  and expires_at is not null;
create index credit_lots_workspace_id on billing.credit_lots (workspace_id, created_at desc);
create index credit_lots_payment_id on billing.credit_lots (payment_id) where payment_id is not null;
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
  constraint ledger_transactions_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint ledger_transactions_kind_known
    check (kind in ('grant', 'purchase', 'allowance', 'authorize', 'capture', 'release', 'refund', 'expire', 'adjust',
      'claw_back')),
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
  constraint ledger_entries_transaction_id_fkey foreign key (transaction_id)
    references billing.ledger_transactions (id),
  constraint ledger_entries_account_id_fkey foreign key (account_id) references billing.ledger_accounts (id),
  constraint ledger_entries_lot_id_fkey foreign key (lot_id) references billing.credit_lots (id),
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

insert into private.error_codes (name, sqlstate, hint) values
  ('unbalanced_transaction', 'PT500', 'Write all entries of a transaction in one insert and let them sum to zero.'),
  ('wallet_frozen', 'PT403', 'The workspace''s wallet is frozen; contact support.'),
  ('key_required', 'PT400', 'Send a key of 1 to 255 characters that names this request for ever.');

-- A workspace is born with its wallet and accounts.
create function private.create_wallet() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into billing.wallets (workspace_id) values (new.id);
  insert into billing.ledger_accounts (workspace_id, code)
  select new.id, unnest(array['allowance', 'lots', 'prepaid', 'held']);
  return null;
end $$;
comment on function private.create_wallet() is 'Trigger: gives a new workspace its wallet and ledger accounts.';
revoke all on function private.create_wallet from public, anon, authenticated, service_role;
create trigger workspaces_create_wallet after insert on identity.workspaces
  for each row execute function private.create_wallet();

-- One line of a transaction to be posted.
create type billing.posting as (code text, lot_id uuid, amount_micro bigint);

-- Books one transaction: entries, lots' remaining amounts and the wallet's balances move together. The
-- caller holds the wallet's lock. Lots move by their line's amount; a purchase counts as bought, a
-- capture as used.
create function billing._post(workspace_id uuid, kind text, postings billing.posting[], key text default null,
  content_hash bytea default null, usage_event_id uuid default null, payment_id uuid default null,
  reason text default null, metadata jsonb default '{}') returns bigint
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_id bigint;
  v_wallet billing.wallets;
begin
  update billing.credit_lots l set remaining_micro = l.remaining_micro + p.amount_micro
  from (select u.lot_id, sum(u.amount_micro) as amount_micro from unnest(postings) u
    where u.lot_id is not null group by 1) p
  where l.id = p.lot_id;

  update billing.wallets w
  set allowance_micro = w.allowance_micro + d.allowance, lots_micro = w.lots_micro + d.lots,
    prepaid_micro = w.prepaid_micro + d.prepaid, held_micro = w.held_micro + d.held,
    total_purchased_micro = w.total_purchased_micro + d.bought, total_used_micro = w.total_used_micro + d.used
  from (
    select coalesce(sum(p.amount_micro) filter (where p.code = 'allowance'), 0) as allowance,
      coalesce(sum(p.amount_micro) filter (where p.code = 'lots'), 0) as lots,
      coalesce(sum(p.amount_micro) filter (where p.code = 'prepaid'), 0) as prepaid,
      coalesce(sum(p.amount_micro) filter (where p.code = 'held'), 0) as held,
      coalesce(-sum(p.amount_micro) filter (where p.code = 'payments' and p.amount_micro < 0), 0) as bought,
      coalesce(sum(p.amount_micro) filter (where p.code = 'revenue' and p.amount_micro > 0), 0) as used
    from unnest(postings) p
  ) d
  where w.workspace_id = _post.workspace_id
  returning w.* into strict v_wallet;

  insert into billing.ledger_transactions
    (workspace_id, kind, key, content_hash, usage_event_id, payment_id, reason, metadata, event_at)
  values (workspace_id, kind, key, content_hash, usage_event_id, payment_id, reason, coalesce(metadata, '{}'),
    private.now())
  returning id into v_id;

  insert into billing.ledger_entries (transaction_id, line, account_id, lot_id, amount_micro, balance_after_micro)
  select v_id, p.line, a.id, p.lot_id, p.amount_micro,
    case p.code when 'allowance' then v_wallet.allowance_micro when 'lots' then v_wallet.lots_micro
      when 'prepaid' then v_wallet.prepaid_micro when 'held' then v_wallet.held_micro end
  from unnest(postings) with ordinality as p (code, lot_id, amount_micro, line)
  join (
    select a.id, a.code from billing.ledger_accounts a where a.workspace_id = _post.workspace_id
    union all
    select a.id, a.code from billing.ledger_accounts a where a.workspace_id is null
  ) a on a.code = p.code
  where p.amount_micro <> 0;
  return v_id;
end $$;
comment on function billing._post is 'Books a balanced transaction and moves lots and wallet with it; returns its id.';
revoke all on function billing._post from public, anon, authenticated, service_role;

-- The locked wallet of a workspace. Error: unknown_workspace.
create function billing._lock_wallet(workspace_id uuid) returns billing.wallets
language plpgsql
set search_path = ''
as $$
declare
  v_wallet billing.wallets;
begin
  select * into v_wallet from billing.wallets w where w.workspace_id = _lock_wallet.workspace_id for no key update;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  return v_wallet;
end $$;
comment on function billing._lock_wallet(uuid) is 'Locks and returns a workspace''s wallet.';
revoke all on function billing._lock_wallet from public, anon, authenticated, service_role;
