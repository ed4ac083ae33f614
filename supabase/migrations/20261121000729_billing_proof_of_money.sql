-- Proof, third part: what went back, and what documents say of money, is what was paid and booked.

-- Refunds and disputes: the payment's sum, and the credits that each took or found missing.
create function billing._verify_returns() returns setof billing.ledger_fault
language sql stable
set search_path = ''
as $$
  select 'refunds differ from the payment', p.workspace_id, p.id::text, s.total, p.refunded_minor
  from billing.payments p
  cross join lateral (select coalesce(sum(r.amount_minor), 0)::bigint as total from billing.payment_refunds r
    where r.payment_id = p.id and r.status in ('pending', 'succeeded')) s
  where p.refunded_minor <> s.total
  union all
  -- a refund takes once, and again when a dispute gives back what it held
  select 'refund differs from what it took', r.workspace_id, r.id::text, c.asked, r.taken_micro + r.missing_micro
  from billing.payment_refunds r
  cross join lateral (
    select coalesce(sum(b.amount_micro) filter (where b.key = 'refund:' || r.id), 0)::bigint as asked,
      coalesce(sum(b.taken_micro), 0) as taken
    from billing.claw_backs b
    where b.payment_id = r.payment_id and (b.key = 'refund:' || r.id or b.key like 'refund:' || r.id || ':%')
  ) c
  where r.taken_micro <> c.taken or r.taken_micro + r.missing_micro <> c.asked or r.disputed_micro > r.missing_micro
    or (r.disputed_micro > 0 and billing._disputed_credits(r.payment_id) < 0)
  union all
  -- and a dispute, when credits come back; again: what it had found missing
  select 'dispute differs from what it took', d.workspace_id, d.id::text, c.asked, d.taken_micro + d.missing_micro
  from billing.disputes d
  cross join lateral (
    select coalesce(sum(b.taken_micro), 0) as taken,
      coalesce(sum(b.amount_micro) filter (where b.key not like '%:again:%'), 0)::bigint as asked
    from billing.claw_backs b
    where b.payment_id = d.payment_id and (b.key = 'dispute:' || d.id or b.key like 'dispute:' || d.id || ':%')
  ) c
  where d.taken_micro <> c.taken or d.taken_micro + d.missing_micro <> c.asked
  union all
  select 'claw-back does not add up', c.workspace_id, c.id::text, c.amount_micro, c.taken_micro + c.missing_micro
  from billing.claw_backs c where c.amount_micro <> c.taken_micro + c.missing_micro
$$;
comment on function billing._verify_returns() is 'Faults of refunds and disputes.';
revoke all on function billing._verify_returns from public, anon, authenticated, service_role;

-- Records of money, invoices and corrections: they repeat amounts that stand elsewhere.
create function billing._verify_documents() returns setof billing.ledger_fault
language sql stable
set search_path = ''
as $$
  select 'record of money differs', f.workspace_id, f.key, w.amount_minor, f.amount_minor
  from billing.financial_transactions f
  join billing.payments p on p.id = f.payment_id
  left join billing.payment_refunds r on f.key = 'refund:' || r.id and r.payment_id = p.id
  left join billing.disputes d on f.key in ('dispute:' || d.id, 'dispute_released:' || d.id) and d.payment_id = p.id
  cross join lateral (
    select case f.key when 'payment:' || p.id then p.amount_minor when 'refund:' || r.id then -r.amount_minor
        when 'dispute:' || d.id then -d.amount_minor when 'dispute_released:' || d.id then d.amount_minor
      end as amount_minor,
      case f.key when 'payment:' || p.id then p.credits_micro
        -- less what refunds have been waiting for
        when 'dispute_released:' || d.id then d.taken_micro - coalesce((select sum(b.taken_micro)
          from billing.claw_backs b where b.payment_id = p.id and b.key like 'refund:%:' || d.id), 0)
        -- at first: what came back and was taken then is not part of the record
        else case when f.key in ('refund:' || r.id, 'dispute:' || d.id) then -coalesce((select b.taken_micro
          from billing.claw_backs b where b.payment_id = p.id and b.key = f.key), 0) end
      end as amount_micro
  ) w
  where f.amount_minor <> w.amount_minor or f.amount_micro <> w.amount_micro
    or f.balance_after_micro - f.balance_before_micro <> f.amount_micro
  union all
  select 'invoice differs from its payment', i.workspace_id, i.number, coalesce(r.amount_minor, p.amount_minor),
    i.total_minor
  from billing.invoices i
  join billing.payments p on p.id = i.payment_id
  left join billing.payment_refunds r on r.id = i.refund_id
  where i.series is not null and (i.total_minor <> coalesce(r.amount_minor, p.amount_minor)
    or i.total_minor <> (select sum((l ->> 'amount_minor')::bigint) from jsonb_array_elements(i.lines) l)
    or i.tax_minor <> 0 or i.credits_micro > coalesce(r.taken_micro, p.credits_micro)
    or (i.kind = 'invoice' and i.credits_micro <> p.credits_micro))
  union all
  -- a correction costs its quantity at the price of its charge, and all of them moved what the ledger says
  select 'correction differs from its price', c.workspace_id, c.id::text,
    ceil(u.unit_amount_micro * round(c.quantity_after, 6))::bigint, c.amount_after_micro
  from billing.usage_corrections c join billing.usage_events u on u.id = c.usage_event_id
  where c.amount_after_micro <> ceil(u.unit_amount_micro * round(c.quantity_after, 6))
  union all
  select 'corrections differ from the ledger', c.workspace_id, c.usage_event_id::text, s.total, c.total
  from (select o.workspace_id, o.usage_event_id, sum(o.amount_after_micro - o.amount_before_micro)::bigint as total
    from billing.usage_corrections o group by 1, 2) c
  cross join lateral (
    select coalesce(sum(e.amount_micro), 0)::bigint as total
    from billing.usage_events u
    join billing.ledger_transactions t on t.usage_event_id = u.id and t.kind = 'adjust'
    join billing.ledger_entries e on e.transaction_id = t.id and e.account_id = 3
    where u.id = c.usage_event_id or u.corrects_id = c.usage_event_id
  ) s
  where c.total <> s.total
$$;
comment on function billing._verify_documents() is 'Faults of records of money, invoices and corrections.';
revoke all on function billing._verify_documents from public, anon, authenticated, service_role;

-- A lot is as large as what was put in, given, bought or carried over; a grace lot is made of what came back to it.
create function billing._verify_lots() returns setof billing.ledger_fault
language sql stable
set search_path = ''
set work_mem = '256MB'
as $$
  select 'lot amount differs', l.workspace_id, l.id::text, s.total::bigint, l.amount_micro
  from billing.credit_lots l
  join (
    select e.lot_id, sum(e.amount_micro) as total
    from billing.ledger_entries e
    join billing.ledger_transactions t on t.id = e.transaction_id
    where e.lot_id is not null and e.amount_micro > 0
      and t.kind in ('grant', 'purchase', 'allowance', 'rollover', 'payable')
    group by 1
  ) s on s.lot_id = l.id
  where s.total <> l.amount_micro
$$;
comment on function billing._verify_lots() is 'Faults of what lots were made of.';
revoke all on function billing._verify_lots from public, anon, authenticated, service_role;

-- A row for each fault of the books; no row when they are sound.
create function billing.verify_ledger()
returns table (fault text, workspace_id uuid, subject text, expected_micro bigint, actual_micro bigint)
language sql stable security definer
set search_path = ''
as $$
  select * from billing._verify_entries()
  union all
  select * from billing._verify_balances()
  union all
  select * from billing._verify_charges()
  union all
  select * from billing._verify_payments()
  union all
  select * from billing._verify_returns()
  union all
  select * from billing._verify_documents()
  union all
  select * from billing._verify_lots()
$$;
comment on function billing.verify_ledger is
  'Checks every invariant of the books; a row for each fault, none when sound.';
revoke all on function billing.verify_ledger from public, anon, authenticated, service_role;
grant execute on function billing.verify_ledger to service_role;
