-- Proof, second part: charges, payments and what was taken back are what the ledger says.

create function billing._verify_charges() returns setof billing.ledger_fault
language sql stable
set search_path = ''
set work_mem = '256MB'
as $$
  with held as materialized (
    select u.workspace_id, sum(u.amount_micro) as total from billing.usage_events u where u.status = 'held' group by 1
  ), booked as materialized (
    -- by charge and source; credits that came back to a grace lot came back to the lot it stands for
    select t.usage_event_id, t.workspace_id, a.code,
      case when l.origin_event_id = t.usage_event_id then l.origin_lot_id else e.lot_id end as lot_id,
      sum(e.amount_micro) as amount
    from billing.ledger_transactions t
    join billing.ledger_entries e on e.transaction_id = t.id
    join billing.ledger_accounts a on a.id = e.account_id and a.code <> 'held'
    left join billing.credit_lots l on l.id = e.lot_id
    where t.usage_event_id is not null group by 1, 2, 3, 4
  )
  select 'held differs from open charges', w.workspace_id, 'held', coalesce(h.total, 0)::bigint, w.held_micro
  from billing.wallets w left join held h on h.workspace_id = w.workspace_id
  where coalesce(h.total, 0) <> w.held_micro
  union all
  select 'charge of nobody', u.workspace_id, u.id::text, null, null
  from billing.usage_events u
  where not exists (select from billing.wallets w where w.workspace_id = u.workspace_id)
    or not exists (select from billing.meters m where m.id = u.meter_id)
    or (u.corrects_id is not null and not exists (select from billing.usage_events o
      where o.id = u.corrects_id and o.workspace_id = u.workspace_id))
  union all
  select 'transaction of no charge', b.workspace_id, b.usage_event_id::text, null, null
  from booked b
  where not exists (select from billing.usage_events u where u.id = b.usage_event_id
    and u.workspace_id = b.workspace_id)
  union all
  -- a charge costs its quantity at its price; what adds to another is the difference of two such amounts
  select 'charge differs from its price', u.workspace_id, u.id::text, ceil(u.unit_amount_micro * u.quantity)::bigint,
    u.amount_micro
  from billing.usage_events u
  where u.corrects_id is null and (u.amount_micro <> ceil(u.unit_amount_micro * u.quantity)
    or u.captured_micro <> ceil(u.unit_amount_micro * u.captured_quantity))
  union all
  -- a charge has earned what the ledger says it has
  select 'charge differs from the ledger', u.workspace_id, u.id::text, (u.captured_micro - u.refunded_micro),
    coalesce(b.amount, 0)::bigint
  from billing.usage_events u
  left join (select b.usage_event_id, sum(b.amount) as amount from booked b where b.code = 'revenue' group by 1) b
    on b.usage_event_id = u.id
  where u.captured_micro - u.refunded_micro <> coalesce(b.amount, 0)
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
    select b.workspace_id, b.usage_event_id, b.lot_id, 0, b.amount
    from booked b where b.code in ('allowance', 'lots', 'prepaid')
  ) c
  group by c.workspace_id, c.usage_event_id, c.lot_id having sum(c.expected) <> sum(c.actual)
$$;
comment on function billing._verify_charges() is 'Faults of charges.';
revoke all on function billing._verify_charges from public, anon, authenticated, service_role;

create function billing._verify_payments() returns setof billing.ledger_fault
language sql stable
set search_path = ''
as $$
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
  where p.kind in ('top_up', 'auto_reload')
    and coalesce(s.total, 0) <> case when p.paid_at is not null then p.credits_micro else 0 end
  union all
  -- what was taken back was booked as it says
  select 'claw-back differs from the ledger', c.workspace_id, c.id::text, c.taken_micro, coalesce(s.total, 0)::bigint
  from billing.claw_backs c
  left join lateral (select sum(e.amount_micro) as total from billing.ledger_entries e
    where e.transaction_id = c.ledger_transaction_id and e.account_id = 1) s on true
  where coalesce(s.total, 0) <> c.taken_micro
$$;
comment on function billing._verify_payments() is 'Faults of payments and claw-backs.';
revoke all on function billing._verify_payments from public, anon, authenticated, service_role;
