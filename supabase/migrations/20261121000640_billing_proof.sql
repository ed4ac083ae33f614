-- Proof that the books are right, from the entries up, in three parts: the entries themselves, the balances that
-- wallets and lots say, and the charges and payments that the ledger books. Each check is one pass over its tables. A
-- row for each fault; subject names the row at fault, expected and actual are micro-units.

create type billing.ledger_fault as (
  fault text, workspace_id uuid, subject text, expected_micro bigint, actual_micro bigint
);

-- The entries: whole, balanced, in the right accounts, with running balances, naming only what exists.
create function billing._verify_entries() returns setof billing.ledger_fault
language sql stable
set search_path = ''
set work_mem = '256MB'
as $$
  -- one pass in order of the transactions
  with sums as materialized (
    select t.id, t.workspace_id, sum(e.amount_micro)::bigint as off, count(e.transaction_id) as entries,
      bool_or(a.workspace_id <> t.workspace_id) as strays
    from billing.ledger_transactions t
    left join billing.ledger_entries e on e.transaction_id = t.id
    left join billing.ledger_accounts a on a.id = e.account_id
    group by t.id
    having sum(e.amount_micro) <> 0 or count(e.transaction_id) = 0 or bool_or(a.workspace_id <> t.workspace_id)
  )
  select 'unbalanced transaction', s.workspace_id, s.id::text, 0::bigint, s.off from sums s where s.off <> 0
  union all
  select 'transaction without entries', s.workspace_id, s.id::text, null, null from sums s where s.entries = 0
  union all
  select 'entry in a foreign account', s.workspace_id, s.id::text, null, null from sums s where s.strays
  union all
  select 'entry without a transaction', null, e.transaction_id || '/' || e.line, null, e.amount_micro
  from billing.ledger_entries e
  where not exists (select from billing.ledger_transactions t where t.id = e.transaction_id)
  union all
  select 'entry without an account', null, e.transaction_id || '/' || e.line, null, e.amount_micro
  from billing.ledger_entries e where not exists (select from billing.ledger_accounts a where a.id = e.account_id)
  union all
  -- what moves a lot is in the account of its workspace and kind
  select 'entry of a foreign lot', a.workspace_id, e.transaction_id || '/' || e.line, null, e.amount_micro
  from billing.ledger_entries e
  join billing.ledger_accounts a on a.id = e.account_id
  left join billing.credit_lots c on c.id = e.lot_id
  where (e.lot_id is not null or a.code in ('allowance', 'lots'))
    and (c.workspace_id, c.code) is distinct from (a.workspace_id, a.code)
  union all
  -- each entry says what its account had after its transaction
  select 'running balance differs', a.workspace_id, r.transaction_id || '/' || r.line, r.running,
    r.balance_after_micro
  from (
    select e.account_id, e.transaction_id, e.line, e.balance_after_micro,
      (sum(e.amount_micro) over (partition by e.account_id order by e.transaction_id))::bigint as running
    from billing.ledger_entries e
    where e.account_id <> all (array(select s.id from billing.ledger_accounts s where s.workspace_id is null))
  ) r
  join billing.ledger_accounts a on a.id = r.account_id
  where r.running is distinct from r.balance_after_micro
$$;
comment on function billing._verify_entries() is 'Faults of the ledger''s entries.';
revoke all on function billing._verify_entries from public, anon, authenticated, service_role;

-- What wallets and lots say is what their entries sum up to.
create function billing._verify_balances() returns setof billing.ledger_fault
language sql stable
set search_path = ''
set work_mem = '256MB'
as $$
  with accounts as materialized (
    select a.workspace_id, a.code, sum(e.amount_micro) as total
    from billing.ledger_accounts a join billing.ledger_entries e on e.account_id = a.id
    where a.workspace_id is not null group by 1, 2
  ), lots as materialized (
    select l.workspace_id, l.code, sum(l.remaining_micro) as total, min(l.expires_at) as expires_at
    from billing.credit_lots l where l.is_open group by 1, 2
  )
  select 'wallet balance differs', w.workspace_id, b.code, coalesce(s.total, 0)::bigint, b.stored
  from billing.wallets w
  cross join lateral (values ('allowance', w.allowance_micro), ('lots', w.lots_micro), ('prepaid', w.prepaid_micro),
    ('held', w.held_micro)) as b (code, stored)
  left join accounts s on s.workspace_id = w.workspace_id and s.code = b.code
  where coalesce(s.total, 0) <> b.stored
  union all
  -- a wallet's totals are what was paid in and what was earned
  select 'wallet total differs', w.workspace_id, b.code, coalesce(b.total, 0)::bigint, b.stored
  from billing.wallets w
  left join (
    select t.workspace_id, -sum(e.amount_micro) filter (where a.code = 'payments' and e.amount_micro < 0) as purchased,
      sum(e.amount_micro) filter (where a.code = 'revenue' and e.amount_micro > 0) as used
    from billing.ledger_entries e
    join billing.ledger_accounts a on a.id = e.account_id and a.workspace_id is null
    join billing.ledger_transactions t on t.id = e.transaction_id group by 1
  ) s on s.workspace_id = w.workspace_id
  cross join lateral (values ('purchased', s.purchased, w.total_purchased_micro),
    ('used', s.used, w.total_used_micro)) as b (code, total, stored)
  where coalesce(b.total, 0) <> b.stored
  union all
  select 'accounts differ from the wallet', w.workspace_id, w.account_base::text, null, null
  from billing.wallets w
  where (select count(*) from billing.ledger_accounts a where a.workspace_id = w.workspace_id
    and a.id = w.account_base - 1 + array_position(array['allowance', 'lots', 'prepaid', 'held'], a.code)) <> 4
  union all
  select 'lot remaining differs', l.workspace_id, l.id::text, coalesce(s.total, 0)::bigint, l.remaining_micro
  from billing.credit_lots l
  left join (select e.lot_id, sum(e.amount_micro) as total from billing.ledger_entries e
    where e.lot_id is not null group by 1) s on s.lot_id = l.id
  where coalesce(s.total, 0) <> l.remaining_micro
  union all
  select 'open lots differ from the wallet', w.workspace_id, b.code, coalesce(s.total, 0)::bigint, b.stored
  from billing.wallets w
  cross join lateral (values ('allowance', w.allowance_micro), ('lots', w.lots_micro)) as b (code, stored)
  left join lots s on s.workspace_id = w.workspace_id and s.code = b.code
  where coalesce(s.total, 0) <> b.stored
  union all
  -- a wallet never looks too late
  select 'expiry would be missed', s.workspace_id, s.code, null, null
  from lots s join billing.wallets w on w.workspace_id = s.workspace_id
  where s.expires_at < coalesce(w.lots_due_at, 'infinity')
$$;
comment on function billing._verify_balances() is 'Faults of wallets and lots.';
revoke all on function billing._verify_balances from public, anon, authenticated, service_role;

-- The ledger as a client's history: a line for each account that a transaction touched, newest first.
create view billing.ledger_history with (security_invoker = true) as
select t.id as transaction_id, t.workspace_id, t.kind, a.code as account, e.amount_micro, e.balance_after_micro,
  t.reason,
  t.usage_event_id, t.payment_id, t.event_at, t.created_at
from billing.ledger_transactions t
join billing.ledger_entries e on e.transaction_id = t.id
join billing.ledger_accounts a on a.id = e.account_id
where a.workspace_id is not null;
comment on view billing.ledger_history is 'Movements of a workspace''s accounts with the running balance of each.';
revoke all on table billing.ledger_history from public, anon, authenticated, service_role;
grant select on table billing.ledger_history to authenticated, service_role;
