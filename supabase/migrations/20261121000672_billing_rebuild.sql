-- Balances from nothing but the entries: what wallets and lots would say, and, when told, make them say it.

-- Every balance of a workspace (null: of all) as it is stored and as its entries make it. subject is an account's
-- code or a lot's id.
create function billing._rebuilt(workspace_id uuid)
returns table (of_workspace uuid, subject text, stored_micro bigint, rebuilt_micro bigint)
language sql stable
set search_path = ''
as $$
  select w.workspace_id, b.code, b.stored, coalesce((select sum(e.amount_micro)::bigint from billing.ledger_entries e
    where e.account_id = w.account_base + b.place), 0)
  from billing.wallets w
  cross join lateral (values ('allowance', 0, w.allowance_micro), ('lots', 1, w.lots_micro),
    ('prepaid', 2, w.prepaid_micro), ('held', 3, w.held_micro)) as b (code, place, stored)
  where _rebuilt.workspace_id is null or w.workspace_id = _rebuilt.workspace_id
  union all
  select l.workspace_id, l.id::text, l.remaining_micro, coalesce((select sum(e.amount_micro)::bigint
    from billing.ledger_entries e where e.lot_id = l.id), 0)
  from billing.credit_lots l where _rebuilt.workspace_id is null or l.workspace_id = _rebuilt.workspace_id
$$;
comment on function billing._rebuilt(uuid) is 'Balances as stored and as their entries make them.';
revoke all on function billing._rebuilt from public, anon, authenticated, service_role;

-- A row for each balance that differs from its entries, of one workspace or of all. With dry_run false they are set
-- right too, each wallet under its lock, so that a charge in between is not lost.
create function billing.rebuild_balances(dry_run boolean default true, workspace_id uuid default null)
returns table (of_workspace uuid, subject text, stored_micro bigint, rebuilt_micro bigint)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_workspace uuid;
  v_wrong uuid[] := array(select distinct r.of_workspace from billing._rebuilt(rebuild_balances.workspace_id) r
    where r.stored_micro <> r.rebuilt_micro);
begin
  foreach v_workspace in array v_wrong loop
    if not dry_run then
      perform billing._lock_wallet(v_workspace);
    end if;
    return query select r.* from billing._rebuilt(v_workspace) r where r.stored_micro <> r.rebuilt_micro;
    if not dry_run then
      update billing.credit_lots l set remaining_micro = r.rebuilt_micro
      from billing._rebuilt(v_workspace) r where r.subject = l.id::text and r.stored_micro <> r.rebuilt_micro;
      update billing.wallets w
      set allowance_micro = r.allowance, lots_micro = r.lots, prepaid_micro = r.prepaid, held_micro = r.held,
        lots_due_at = least(w.lots_due_at, private.now())
      from (
        select max(r.rebuilt_micro) filter (where r.subject = 'allowance') as allowance,
          max(r.rebuilt_micro) filter (where r.subject = 'lots') as lots,
          max(r.rebuilt_micro) filter (where r.subject = 'prepaid') as prepaid,
          max(r.rebuilt_micro) filter (where r.subject = 'held') as held
        from billing._rebuilt(v_workspace) r
      ) r
      where w.workspace_id = v_workspace;
    end if;
  end loop;
end $$;
comment on function billing.rebuild_balances is
  'Balances that differ from their entries; with dry_run false sets them right.';
revoke all on function billing.rebuild_balances from public, anon, authenticated, service_role;
grant execute on function billing.rebuild_balances to service_role;
