-- What each workspace brings and costs, for staff; and the proof that vouchers, commissions and payouts add up.

create table billing.provider_costs (
  id bigint generated always as identity primary key,
  workspace_id uuid,
  usage_event_id uuid,
  job_id bigint,
  provider text not null,
  model text,
  quantity numeric(20, 6),
  unit text,
  cost_micro bigint not null,
  key text not null,
  metadata jsonb not null default '{}',
  occurred_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint provider_costs_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint provider_costs_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint provider_costs_key unique (provider, key),
  constraint provider_costs_key_length check (length(key) between 1 and 255),
  constraint provider_costs_provider_shape check (provider ~ '^[a-z][a-z0-9_.-]*$'),
  constraint provider_costs_amounts_not_negative check (cost_micro >= 0 and quantity >= 0),
  constraint provider_costs_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table billing.provider_costs is
  'What providers charge us for work, by workspace and charge; micro-units of US dollars.';
comment on column billing.provider_costs.workspace_id is 'Null: a cost of nobody''s, such as a test of ours.';
create index provider_costs_workspace_id on billing.provider_costs (workspace_id, occurred_at desc);
create index provider_costs_usage_event_id on billing.provider_costs (usage_event_id) where usage_event_id is not null;
create index provider_costs_occurred_at on billing.provider_costs (occurred_at);
create trigger provider_costs_immutable before update or delete on billing.provider_costs
  for each row execute function private.forbid_change();
alter table billing.provider_costs enable row level security;
revoke all on table billing.provider_costs from public, anon, authenticated, service_role;
grant select on table billing.provider_costs to service_role;

-- Workers call it with what the provider said or its price list says; the key is the provider's request. With a usage
-- event the workspace is the event's. Errors: invalid_argument, key_required, key_reused, unknown_usage_event.
create function billing.record_provider_cost(provider text, cost_micro bigint, key text,
  workspace_id uuid default null, usage_event_id uuid default null, job_id bigint default null,
  model text default null, quantity numeric default null, unit text default null) returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_known billing.provider_costs;
begin
  perform billing._check_key(key);
  if coalesce(cost_micro, -1) < 0 or coalesce(provider, '') !~ '^[a-z][a-z0-9_.-]*$' or quantity < 0 then
    perform private.fail('invalid_argument', 'A cost needs a provider and 0 or more micro-units.',
      '{"argument": "cost_micro"}');
  end if;
  if usage_event_id is not null then
    select u.workspace_id into workspace_id from billing.usage_events u where u.id = usage_event_id;
    if not found then
      perform private.fail('unknown_usage_event', 'There is no such charge.',
        jsonb_build_object('usage_event_id', usage_event_id));
    end if;
  end if;
  insert into billing.provider_costs (workspace_id, usage_event_id, job_id, provider, model, quantity, unit, cost_micro,
    key, occurred_at)
  values (workspace_id, usage_event_id, job_id, provider, model, quantity, unit, cost_micro, key, private.now())
  on conflict on constraint provider_costs_key do nothing;
  if found then
    return true;
  end if;
  select * into v_known from billing.provider_costs c
  where c.provider = record_provider_cost.provider and c.key = record_provider_cost.key;
  if (v_known.cost_micro, v_known.workspace_id, v_known.usage_event_id)
    is distinct from (cost_micro, workspace_id, usage_event_id) then
    perform private.fail('key_reused', 'This key has been used for a different cost.', jsonb_build_object('key', key));
  end if;
  return false;
end $$;
comment on function billing.record_provider_cost is
  'Records what a provider charges for work, once for a key; tells whether this call did.';
revoke all on function billing.record_provider_cost from public, anon, authenticated, service_role;
grant execute on function billing.record_provider_cost to service_role;

-- For staff, one workspace or all. usage: captured and not refunded, whoever paid for the credits; payments: money that
-- came in and stayed, at the rates cached last; commissions: to affiliates, for its payments. All micro-units of US
-- dollars. margin is of the money, usage_margin of the work.
create view billing.workspace_margin with (security_invoker = true) as
select w.workspace_id, u.usage_micro, p.payments_micro, c.cost_micro, a.commissions_micro,
  p.payments_micro - c.cost_micro - a.commissions_micro as margin_micro,
  u.usage_micro - c.cost_micro as usage_margin_micro
from billing.wallets w
cross join lateral (
  select coalesce(sum(e.captured_micro - e.refunded_micro), 0)::bigint as usage_micro from billing.usage_events e
  where e.workspace_id = w.workspace_id
) u
cross join lateral (
  select coalesce(sum(private.dollars_micro(p.amount_minor - billing._returned_minor(p), p.currency)), 0)::bigint
    as payments_micro
  from billing.payments p where p.workspace_id = w.workspace_id and p.paid_at is not null
) p
cross join lateral (
  select coalesce(sum(o.cost_micro), 0)::bigint as cost_micro from billing.provider_costs o
  where o.workspace_id = w.workspace_id
) c
cross join lateral (
  select coalesce(sum(m.commission_micro - m.reversed_micro), 0)::bigint as commissions_micro
  from billing.affiliate_commissions m
  where m.source_workspace_id = w.workspace_id and m.commission_type <> 'adjustment'
) a;
comment on view billing.workspace_margin is
  'What each workspace used, paid, cost us and brought affiliates, in micro-units; for staff.';
revoke all on table billing.workspace_margin from public, anon, authenticated, service_role;
grant select on table billing.workspace_margin to service_role;

-- A row for each fault; no row when all is sound. Amounts are micro-units, or counts where the fault is of a count.
create function billing.verify_growth()
returns table (fault text, workspace_id uuid, subject text, expected bigint, actual bigint)
language sql stable security definer
set search_path = ''
as $$
  -- what is owed is what the ledger says
  select 'payable balance differs', coalesce(b.workspace_id, s.workspace_id), coalesce(b.code, s.code),
    coalesce(s.total, 0)::bigint, coalesce(b.stored, 0)
  from (
    select p.workspace_id, v.code || ':' || p.currency as code, v.stored from billing.payable_balances p
    cross join lateral (values ('held', p.held_micro), ('payable', p.payable_micro),
      ('in_transit', p.in_transit_micro)) as v (code, stored)
  ) b
  full join (
    select t.workspace_id, a.code, sum(e.amount_micro) as total
    from billing.ledger_accounts a
    join billing.ledger_entries e on e.account_id = a.id
    join billing.ledger_transactions t on t.id = e.transaction_id
    where a.workspace_id is null and a.code ~ '^(held|payable|in_transit):' group by 1, 2
  ) s on s.workspace_id = b.workspace_id and s.code = b.code
  where coalesce(s.total, 0) <> coalesce(b.stored, 0)
  union all
  -- what is on its way is what the open payouts are
  select 'in transit differs from open payouts', b.workspace_id, b.currency, coalesce(s.total, 0)::bigint,
    b.in_transit_micro
  from billing.payable_balances b
  left join (
    select o.workspace_id, o.currency, sum(o.total) as total
    from (
      select p.workspace_id, p.currency, (p.amount_minor - p.settled_minor - p.returned_minor)
        * private.minor_unit_micro(p.currency) as total
      from billing.payouts p
      union all
      select a.workspace_id, 'USD', a.amount_micro from billing.affiliate_payouts a
      where a.payout_method = 'manual' and a.status = 'pending'
    ) o group by 1, 2
  ) s on s.workspace_id = b.workspace_id and s.currency = b.currency
  where coalesce(s.total, 0) <> b.in_transit_micro
  union all
  -- what is on hold is what earnings and unpaid commissions are
  select 'held differs from earnings and commissions', b.workspace_id, b.currency, coalesce(s.total, 0)::bigint,
    b.held_micro
  from billing.payable_balances b
  left join (
    select o.workspace_id, o.currency, sum(o.total) as total
    from (
      select e.workspace_id, e.currency, (e.amount_minor - e.reversed_minor)
        * private.minor_unit_micro(e.currency) as total
      from billing.earnings e where e.status = 'held'
      union all
      select c.workspace_id, 'USD', coalesce(c.payout_micro, c.commission_micro - c.reversed_micro)
      from billing.affiliate_commissions c
      where c.commission_type <> 'adjustment' and c.status in ('pending', 'cleared') and c.affiliate_payout_id is null
    ) o group by 1, 2
  ) s on s.workspace_id = b.workspace_id and s.currency = b.currency
  where coalesce(s.total, 0) <> b.held_micro
  union all
  -- an affiliate's balance and totals are those of their commissions and payouts
  select 'affiliate ' || v.name || ' differs', a.workspace_id, a.id::text, v.wanted, v.stored
  from billing.affiliates a
  cross join lateral (
    select coalesce(sum(coalesce(c.payout_micro, c.commission_micro - c.reversed_micro))
        filter (where c.status = 'cleared' and c.affiliate_payout_id is null), 0)::bigint as balance,
      coalesce(sum(c.commission_micro - c.reversed_micro)
        filter (where c.commission_type <> 'adjustment' and c.status in ('cleared', 'paid')), 0)::bigint as earned
    from billing.affiliate_commissions c where c.affiliate_id = a.id
  ) s
  cross join lateral (
    select coalesce(sum(p.amount_micro) filter (where p.status = 'paid'), 0)::bigint as paid
    from billing.affiliate_payouts p where p.affiliate_id = a.id
  ) q
  cross join lateral (values ('balance', s.balance, a.balance_micro), ('earned', s.earned, a.total_earned_micro),
    ('paid', q.paid, a.total_paid_micro)) as v (name, wanted, stored)
  where v.wanted <> v.stored
  union all
  -- a statement's lines add up to its payout
  select 'statement differs from its payout', p.workspace_id, p.id::text, p.amount_micro, coalesce(s.total, 0)::bigint
  from billing.affiliate_payouts p
  left join (select c.affiliate_payout_id, sum(c.payout_micro) as total from billing.affiliate_commissions c
    where c.affiliate_payout_id is not null group by 1) s on s.affiliate_payout_id = p.id
  where p.status <> 'failed' and coalesce(s.total, 0) <> p.amount_micro
  union all
  select 'commissions differ from their payout', p.workspace_id, p.id::text, p.commissions_micro,
    coalesce(sum(c.payout_micro) filter (where c.commission_type <> 'adjustment'), 0)::bigint
  from billing.affiliate_payouts p left join billing.affiliate_commissions c on c.affiliate_payout_id = p.id
  where p.status <> 'failed' group by p.id
  having coalesce(sum(c.payout_micro) filter (where c.commission_type <> 'adjustment'), 0) <> p.commissions_micro
  union all
  select 'commission differs from its payment', c.workspace_id, c.id::text, p.amount_minor, c.source_minor
  from billing.affiliate_commissions c join billing.payments p on p.id = c.payment_id
  where c.commission_type <> 'adjustment' and (c.source_minor <> p.amount_minor
    or c.commission_micro <> floor(c.source_amount_micro * c.commission_rate / 1000) * 1000
    or (c.restored_micro <> 0 and not exists (select from billing.ledger_transactions t
      where t.workspace_id = c.workspace_id and t.key = format('commission:%s:restore:%s', c.id, c.restored_micro))))
  union all
  -- what was sold for others and what affiliates earned is what the ledger says of each workspace
  select 'earned differs from the ledger', coalesce(o.workspace_id, s.workspace_id), coalesce(o.code, s.code),
    coalesce(s.total, 0), coalesce(o.total, 0)
  from (
    select e.workspace_id, 'sales:' || e.currency as code,
      sum((e.amount_minor - e.reversed_minor) * private.minor_unit_micro(e.currency))::bigint as total
    from billing.earnings e group by 1, 2
    union all
    select c.workspace_id, 'commissions:USD', sum(c.commission_micro - c.reversed_micro)::bigint
    from billing.affiliate_commissions c where c.commission_type <> 'adjustment' group by 1, 2
  ) o
  full join (
    select t.workspace_id, a.code, -sum(e.amount_micro)::bigint as total
    from billing.ledger_accounts a
    join billing.ledger_entries e on e.account_id = a.id
    join billing.ledger_transactions t on t.id = e.transaction_id
    where a.workspace_id is null and a.code ~ '^(sales|commissions):' group by 1, 2
  ) s on s.workspace_id = o.workspace_id and s.code = o.code
  where coalesce(s.total, 0) <> coalesce(o.total, 0)
  union all
  select 'payout differs from its transfer', p.workspace_id, p.id::text,
    case when p.refused then p.amount_minor else p.reversed_minor end, p.returned_minor
  from billing.payouts p where p.returned_minor <> case when p.refused then p.amount_minor else p.reversed_minor end
  union all
  -- rewards are the credits that came
  select 'referral differs from its credits', null, r.id::text, r.referrer_micro + r.referee_micro,
    coalesce(s.total, 0)::bigint
  from billing.referrals r
  left join (select private.try_uuid(l.metadata ->> 'referral_id') as id, sum(l.amount_micro) as total
    from billing.credit_lots l where l.kind = 'referral' and l.metadata ? 'referral_id' group by 1) s on s.id = r.id
  where r.referrer_micro + r.referee_micro <> coalesce(s.total, 0)
  union all
  select 'redemption differs from its credits', r.workspace_id, r.id::text, r.credits_micro, s.total
  from billing.voucher_redemptions r
  cross join lateral (select coalesce(sum(e.amount_micro), 0)::bigint as total from billing.ledger_entries e
    where e.transaction_id = r.ledger_transaction_id and e.amount_micro > 0) s
  where r.credits_micro <> s.total
  union all
  -- a voucher's uses are counted
  select 'voucher count differs', null, v.id::text, count(r.id), v.redemption_count
  from billing.vouchers v left join billing.voucher_redemptions r on r.voucher_id = v.id
  group by v.id having count(r.id) <> v.redemption_count
$$;
comment on function billing.verify_growth is
  'Checks that vouchers, commissions, earnings and payouts add up; a row for each fault, none when sound.';
revoke all on function billing.verify_growth from public, anon, authenticated, service_role;
grant execute on function billing.verify_growth to service_role;

-- Sweep: proves it each night; a fault goes into the audit log as critical. Returns how many there are.
create function billing.prove_growth() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_faults jsonb := (select coalesce(jsonb_agg(to_jsonb(v)), '[]') from billing.verify_growth() v);
begin
  if v_faults <> '[]' then
    insert into ops.audit_log (event_id, action, resource, status, error_message, risk_level, metadata)
    values ('growth_proof:' || gen_random_uuid(), 'billing.growth.fault', 'billing.payable_balances', 'failure',
      format('%s faults in commissions, earnings or payouts', jsonb_array_length(v_faults)), 'critical',
      jsonb_build_object('first', v_faults -> 0));
  end if;
  return jsonb_array_length(v_faults);
end $$;
comment on function billing.prove_growth() is 'Sweep: runs billing.verify_growth and records faults; returns how many.';
revoke all on function billing.prove_growth from public, anon, authenticated, service_role;
grant execute on function billing.prove_growth to service_role;
insert into ops.sweeps (name, function_name, every, is_long) values
  ('prove growth', 'billing.prove_growth', interval '1 day', true);
