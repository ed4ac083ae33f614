-- How the ledger is written: wallets and their accounts come with a workspace, transactions are posted whole.

insert into private.error_codes (name, sqlstate, hint) values
  ('unbalanced_transaction', 'PT500', 'Write all entries of a transaction in one insert and let them sum to zero.'),
  ('workspace_has_books', 'PT409', 'Books are kept: close the workspace with identity.delete_workspace instead.'),
  ('wallet_frozen', 'PT403', 'The workspace''s wallet is frozen; contact support.'),
  ('key_required', 'PT400', 'Send a key of 1 to 255 characters that names this request for ever.');

-- A workspace is born with its wallet and accounts.
create function private.create_wallet() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_base bigint := nextval(pg_get_serial_sequence('billing.ledger_accounts', 'id'));
begin
  insert into billing.wallets (workspace_id, account_base) values (new.id, v_base);
  insert into billing.ledger_accounts (id, workspace_id, code) overriding system value
  select v_base + a.place - 1, new.id, a.code
  from unnest(array['allowance', 'lots', 'prepaid', 'held']) with ordinality as a (code, place);
  return null;
end $$;
comment on function private.create_wallet() is 'Trigger: gives a new workspace its wallet and ledger accounts.';
revoke all on function private.create_wallet from public, anon, authenticated, service_role;
create trigger workspaces_create_wallet after insert on identity.workspaces
  for each row execute function private.create_wallet();

-- What the books name stays: a workspace with books keeps its wallet, accounts and lots.
create function private.keep_books() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'TRUNCATE' then
    perform private.fail('immutable_row', tg_table_schema || '.' || tg_table_name || ' is part of the books.');
  elsif old.workspace_id is null
    or exists (select from billing.ledger_transactions t where t.workspace_id = old.workspace_id)
    or exists (select from billing.usage_events e where e.workspace_id = old.workspace_id) then
    perform private.fail('workspace_has_books', 'What the books name cannot be deleted.',
      jsonb_build_object('workspace_id', old.workspace_id));
  end if;
  return old;
end $$;
comment on function private.keep_books() is 'Trigger: refuses to delete what ledger or usage name.';
revoke all on function private.keep_books from public, anon, authenticated, service_role;
create trigger wallets_keep_books before delete on billing.wallets
  for each row execute function private.keep_books();
create trigger wallets_not_truncated before truncate on billing.wallets
  for each statement execute function private.keep_books();
create trigger ledger_accounts_keep_books before delete on billing.ledger_accounts
  for each row execute function private.keep_books();
create trigger ledger_accounts_not_truncated before truncate on billing.ledger_accounts
  for each statement execute function private.keep_books();
create trigger credit_lots_keep_books before delete on billing.credit_lots
  for each row execute function private.keep_books();
create trigger credit_lots_not_truncated before truncate on billing.credit_lots
  for each statement execute function private.keep_books();

-- One line of a transaction to be posted.
create type billing.posting as (code text, lot_id uuid, amount_micro bigint);

-- Books one transaction (with plans made once: the planner takes an array's length for news and would plan anew each
-- time, which costs more than the rest): entries, lots' remaining amounts and the wallet's balances move together. The
-- caller holds the wallet's lock. Lots move by their line's amount; a purchase counts as bought, what is earned as
-- used, and earlier uses that an adjustment gives back stay counted, as with a refund.
create function billing._post(workspace_id uuid, kind text, postings billing.posting[], key text default null,
  content_hash bytea default null, usage_event_id uuid default null, payment_id uuid default null,
  reason text default null, metadata jsonb default '{}', event_at timestamptz default null) returns bigint
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  v_now timestamptz := event_at;
  v_line billing.posting;
  v_lots boolean := false;
  v_expires_at timestamptz;
  -- by code: allowance, lots, prepaid, held, payments out, revenue in
  v_by bigint[] := array[0, 0, 0, 0, 0, 0];
  v_id bigint;
begin
  if v_now is null or kind = 'adjust' then
    v_now := private.now();
  end if;
  foreach v_line in array postings loop
    case v_line.code
      when 'prepaid' then v_by[3] := v_by[3] + v_line.amount_micro;
      when 'held' then v_by[4] := v_by[4] + v_line.amount_micro;
      when 'allowance' then v_by[1] := v_by[1] + v_line.amount_micro;
      when 'lots' then v_by[2] := v_by[2] + v_line.amount_micro;
      when 'payments' then v_by[5] := v_by[5] + greatest(-v_line.amount_micro, 0);
      when 'revenue' then v_by[6] := v_by[6] + greatest(v_line.amount_micro, 0);
      else null;
    end case;
    v_lots := v_lots or v_line.lot_id is not null;
  end loop;
  if v_lots then
    with moved as (
      update billing.credit_lots l set remaining_micro = l.remaining_micro + p.amount_micro
      from (select u.lot_id, sum(u.amount_micro) as amount_micro from unnest(postings) u
        where u.lot_id is not null group by 1) p
      where l.id = p.lot_id
      returning l.expires_at
    )
    select min(m.expires_at) into v_expires_at from moved m;
  end if;

  with wallet as (
    update billing.wallets w
    set allowance_micro = w.allowance_micro + v_by[1], lots_micro = w.lots_micro + v_by[2],
      prepaid_micro = w.prepaid_micro + v_by[3], held_micro = w.held_micro + v_by[4],
      total_purchased_micro = w.total_purchased_micro + v_by[5], total_used_micro = w.total_used_micro + v_by[6],
      lots_due_at = least(w.lots_due_at, v_expires_at), updated_at = v_now
    where w.workspace_id = _post.workspace_id
    returning w.account_base, w.allowance_micro, w.lots_micro, w.prepaid_micro, w.held_micro
  ), booked as (
    insert into billing.ledger_transactions
      (workspace_id, kind, key, content_hash, usage_event_id, payment_id, reason, metadata, event_at)
    values (workspace_id, kind, key, content_hash, usage_event_id, payment_id, reason, coalesce(metadata, '{}'),
      coalesce(event_at, v_now))
    returning id
  ), lines as (
    insert into billing.ledger_entries (transaction_id, line, account_id, lot_id, amount_micro, balance_after_micro)
    select b.id, p.line,
      case p.code when 'prepaid' then w.account_base + 2 when 'held' then w.account_base + 3
        when 'allowance' then w.account_base when 'lots' then w.account_base + 1
        when 'payments' then 1 when 'grants' then 2 when 'revenue' then 3 when 'expired' then 4
        else (select a.id from billing.ledger_accounts a where a.workspace_id is null and a.code = p.code) end,
      p.lot_id, p.amount_micro,
      case p.code when 'prepaid' then w.prepaid_micro when 'held' then w.held_micro
        when 'allowance' then w.allowance_micro when 'lots' then w.lots_micro end
    from wallet w, booked b, unnest(postings) with ordinality as p (code, lot_id, amount_micro, line)
    where p.amount_micro <> 0
  )
  select b.id into v_id from booked b;
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

-- Locks the wallets of workspaces, in their order, and before each keeps deletions of the workspace's things out.
-- Whoever ends jobs of many workspaces does so before anything of theirs is touched: some kinds' functions charge
-- first and then change rows, others only change rows.
create function private.lock_wallets(workspace_ids uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
begin
  for v_id in select distinct w.workspace_id from billing.wallets w
    where w.workspace_id = any (lock_wallets.workspace_ids) order by w.workspace_id
  loop
    perform private.share_studio(v_id);
    perform from billing.wallets w where w.workspace_id = v_id for no key update;
  end loop;
end $$;
comment on function private.lock_wallets(uuid[]) is
  'Locks the wallets of workspaces until the transaction ends, and keeps deletions out.';
revoke all on function private.lock_wallets from public, anon, authenticated, service_role;
