-- Proof that the books are right, from the entries up. Each check is one pass over its tables.

-- A row for each fault; no row when the ledger is sound. subject names the row at fault, expected and
-- actual are micro-units.
create function billing.verify_ledger()
returns table (fault text, workspace_id uuid, subject text, expected_micro bigint, actual_micro bigint)
language sql stable security definer
set search_path = ''
as $$
  -- the entries of a transaction sum to zero
  select 'unbalanced transaction', t.workspace_id, t.id::text, 0::bigint, sum(e.amount_micro)::bigint
  from billing.ledger_transactions t join billing.ledger_entries e on e.transaction_id = t.id
  group by t.id having sum(e.amount_micro) <> 0
  union all
  select 'transaction without entries', t.workspace_id, t.id::text, null, null
  from billing.ledger_transactions t
  where not exists (select from billing.ledger_entries e where e.transaction_id = t.id)
  union all
  -- a wallet's balances are the sums of its entries
  select 'wallet balance differs', w.workspace_id, b.code, coalesce(s.total, 0)::bigint, b.stored
  from billing.wallets w
  cross join lateral (values ('allowance', w.allowance_micro), ('lots', w.lots_micro), ('prepaid', w.prepaid_micro),
    ('held', w.held_micro)) as b (code, stored)
  left join (
    select a.workspace_id, a.code, sum(e.amount_micro) as total
    from billing.ledger_accounts a join billing.ledger_entries e on e.account_id = a.id
    where a.workspace_id is not null group by 1, 2
  ) s on s.workspace_id = w.workspace_id and s.code = b.code
  where coalesce(s.total, 0) <> b.stored
  union all
  -- and each entry says what its account had after it
  select 'running balance differs', e.workspace_id, e.transaction_id || '/' || e.line, e.running, e.balance_after_micro
  from (
    select a.workspace_id, e.transaction_id, e.line, e.balance_after_micro,
      (sum(e.amount_micro) over (partition by e.account_id order by e.transaction_id))::bigint as running
    from billing.ledger_entries e join billing.ledger_accounts a on a.id = e.account_id where a.workspace_id is not null
  ) e
  where e.running is distinct from e.balance_after_micro
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
  -- entries belong to accounts of their transaction's workspace
  select 'entry in a foreign account', t.workspace_id, e.transaction_id || '/' || e.line, null, e.amount_micro
  from billing.ledger_entries e
  join billing.ledger_transactions t on t.id = e.transaction_id
  join billing.ledger_accounts a on a.id = e.account_id
  where a.workspace_id <> t.workspace_id
  union all
  -- and what moves a lot is in the account of its workspace and kind
  select 'entry of a foreign lot', a.workspace_id, e.transaction_id || '/' || e.line, null, e.amount_micro
  from billing.ledger_entries e
  join billing.ledger_accounts a on a.id = e.account_id
  left join billing.credit_lots l on l.id = e.lot_id
  where (a.code in ('allowance', 'lots')) <> (e.lot_id is not null)
    or l.workspace_id <> a.workspace_id or (l.kind = 'allowance') <> (a.code = 'allowance')
  union all
  -- a lot's remaining credit is the sum of its entries
  select 'lot remaining differs', l.workspace_id, l.id::text, coalesce(s.total, 0)::bigint, l.remaining_micro
  from billing.credit_lots l
  left join (select e.lot_id, sum(e.amount_micro) as total from billing.ledger_entries e
    where e.lot_id is not null group by 1) s on s.lot_id = l.id
  where coalesce(s.total, 0) <> l.remaining_micro
  union all
  -- what the open lots hold is what the wallet says
  select 'open lots differ from the wallet', w.workspace_id, b.code, coalesce(s.total, 0)::bigint, b.stored
  from billing.wallets w
  cross join lateral (values ('allowance', w.allowance_micro), ('lots', w.lots_micro)) as b (code, stored)
  left join (
    select l.workspace_id, case l.kind when 'allowance' then 'allowance' else 'lots' end as code,
      sum(l.remaining_micro) as total
    from billing.credit_lots l where l.remaining_micro > 0 group by 1, 2
  ) s on s.workspace_id = w.workspace_id and s.code = b.code
  where coalesce(s.total, 0) <> b.stored
  union all
  -- what is held is what open charges hold
  select 'held differs from open charges', w.workspace_id, 'held', coalesce(s.total, 0)::bigint, w.held_micro
  from billing.wallets w
  left join (select u.workspace_id, sum(u.amount_micro) as total from billing.usage_events u
    where u.status = 'held' group by 1) s on s.workspace_id = w.workspace_id
  where coalesce(s.total, 0) <> w.held_micro
  union all
  -- a charge has earned what the ledger says it has
  select 'charge differs from the ledger', u.workspace_id, u.id::text, (u.captured_micro - u.refunded_micro),
    coalesce(s.total, 0)::bigint
  from billing.usage_events u
  left join (
    select t.usage_event_id, sum(e.amount_micro) as total
    from billing.ledger_transactions t
    join billing.ledger_entries e on e.transaction_id = t.id
    join billing.ledger_accounts a on a.id = e.account_id and a.workspace_id is null and a.code = 'revenue'
    where t.usage_event_id is not null group by 1
  ) s on s.usage_event_id = u.id
  where u.captured_micro - u.refunded_micro <> coalesce(s.total, 0)
  union all
  -- the sources of a charge add up to it
  select 'sources differ from the charge', u.workspace_id, u.id::text, u.amount_micro, s.held
  from billing.usage_events u
  cross join lateral (
    select coalesce(sum((x ->> 'held')::bigint), 0)::bigint as held,
      coalesce(sum((x ->> 'captured')::bigint), 0) as captured,
      coalesce(sum((x ->> 'refunded')::bigint), 0) as refunded
    from jsonb_array_elements(u.sources) x
  ) s
  where s.held <> u.amount_micro or s.captured <> u.captured_micro or s.refunded <> u.refunded_micro
  union all
  -- and the ledger took as much from each
  select 'source differs from the ledger', c.workspace_id,
    c.usage_event_id || '/' || coalesce(c.lot_id::text, 'prepaid'),
    sum(c.expected)::bigint, sum(c.actual)::bigint
  from (
    select u.workspace_id, u.id as usage_event_id, (x ->> 'lot_id')::uuid as lot_id, case u.status
      when 'held' then -(x ->> 'held')::bigint when 'released' then 0
      else (x ->> 'refunded')::bigint - (x ->> 'captured')::bigint end as expected, 0 as actual
    from billing.usage_events u cross join lateral jsonb_array_elements(u.sources) x
    union all
    select t.workspace_id, t.usage_event_id, e.lot_id, 0, e.amount_micro
    from billing.ledger_transactions t
    join billing.ledger_entries e on e.transaction_id = t.id
    join billing.ledger_accounts a on a.id = e.account_id and a.code in ('allowance', 'lots', 'prepaid')
    where t.usage_event_id is not null
  ) c
  group by c.workspace_id, c.usage_event_id, c.lot_id having sum(c.expected) <> sum(c.actual)
  union all
  -- a payment that succeeded brought its credits, once, and no other did
  select 'payment differs from its credits', p.workspace_id, p.id::text,
    case when p.paid_at is not null then p.credits_micro else 0 end, coalesce(s.total, 0)::bigint
  from billing.payments p
  left join (
    select t.payment_id, -sum(e.amount_micro) as total
    from billing.ledger_transactions t
    join billing.ledger_entries e on e.transaction_id = t.id
    join billing.ledger_accounts a on a.id = e.account_id and a.code = 'payments'
    where t.payment_id is not null and t.kind = 'purchase' group by 1
  ) s on s.payment_id = p.id
  where p.kind = 'top_up' and coalesce(s.total, 0) <> case when p.paid_at is not null then p.credits_micro else 0 end
$$;
comment on function billing.verify_ledger is
  'Checks every invariant of the books; a row for each fault, none when sound.';
revoke all on function billing.verify_ledger from public, anon, authenticated, service_role;
grant execute on function billing.verify_ledger to service_role;

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
