-- Paying affiliates: a batch pays each what has cleared, as credits at once, by the payout account of their workspace,
-- or by staff. A payout that fails puts its commissions back.

create table billing.affiliate_payouts (
  id uuid primary key default gen_random_uuid(),
  affiliate_id uuid not null,
  workspace_id uuid not null,
  batch text not null,
  amount_micro bigint not null,
  commissions_micro bigint not null,
  payout_method text not null,
  payout_email text,
  status text not null,
  payout_id uuid,
  ledger_transaction_id bigint,
  transaction_id text,
  commission_count integer not null,
  referral_count integer not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  error text,
  notes text,
  metadata jsonb not null default '{}',
  paid_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint affiliate_payouts_affiliate_id_fkey foreign key (affiliate_id) references billing.affiliates (id),
  constraint affiliate_payouts_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint affiliate_payouts_once unique (affiliate_id, batch),
  constraint affiliate_payouts_batch_length check (length(batch) between 1 and 100),
  constraint affiliate_payouts_payout_method_known check (payout_method in ('credits', 'transfer', 'manual')),
  constraint affiliate_payouts_status_known check (status in ('pending', 'processing', 'paid', 'failed')),
  constraint affiliate_payouts_whole_cents check (amount_micro > 0 and amount_micro % 1000 = 0
    and commissions_micro >= 0),
  constraint affiliate_payouts_counts_positive check (commission_count > 0 and referral_count >= 0),
  constraint affiliate_payouts_paid_has_time check ((status = 'paid') = (paid_at is not null)),
  constraint affiliate_payouts_transfer_has_payout check ((payout_method = 'transfer') = (payout_id is not null)),
  constraint affiliate_payouts_period_in_order check (period_end >= period_start),
  constraint affiliate_payouts_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table billing.affiliate_payouts is
  'What an affiliate was paid by a batch; its commissions are the statement; micro-units of US dollars.';
comment on column billing.affiliate_payouts.commissions_micro is
  'Commissions without adjustments: so much was on hold for it.';
comment on column billing.affiliate_payouts.transaction_id is 'What the bank or service calls a manual payment.';
create index affiliate_payouts_workspace_id on billing.affiliate_payouts (workspace_id);
create unique index affiliate_payouts_payout_id on billing.affiliate_payouts (payout_id) where payout_id is not null;
create index affiliate_payouts_status on billing.affiliate_payouts (status, created_at);
create trigger affiliate_payouts_touch before update on billing.affiliate_payouts for each row
  execute function private.touch_updated_at();
alter table billing.affiliate_payouts enable row level security;
create policy "Affiliates see their payouts" on billing.affiliate_payouts for select to authenticated
  using (affiliate_id = any ((select private.affiliate_ids())::uuid[]));
revoke all on table billing.affiliate_payouts from public, anon, authenticated, service_role;
grant select on table billing.affiliate_payouts to authenticated, service_role;

alter table billing.affiliate_commissions add constraint affiliate_commissions_affiliate_payout_id_fkey
  foreign key (affiliate_payout_id) references billing.affiliate_payouts (id);
create index affiliate_commissions_affiliate_payout_id on billing.affiliate_commissions (affiliate_payout_id)
  where affiliate_payout_id is not null;

-- The lines of a payout's statement; they add up to its amount.
create view billing.affiliate_statements with (security_invoker = true) as
select c.affiliate_payout_id, p.batch, p.period_start, p.period_end, c.id as commission_id, c.commission_type,
  c.source_minor, c.source_currency, c.commission_rate, c.payout_micro as amount_micro, c.created_at
from billing.affiliate_commissions c
join billing.affiliate_payouts p on p.id = c.affiliate_payout_id;
comment on view billing.affiliate_statements is
  'Commissions of each payout with what each counted then, in micro-units; later reversals are lines of their own.';
revoke all on table billing.affiliate_statements from public, anon, authenticated, service_role;
grant select on table billing.affiliate_statements to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_affiliate_payout', 'PT404', 'Check the id: only a manual payout that is pending can be settled.');

-- Turns money owed into credits of the workspace, in one transaction of the ledger. The caller holds the wallet.
create function billing._pay_in_credits(workspace_id uuid, amount_micro bigint, key text) returns bigint
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_lot uuid;
  v_transaction bigint;
begin
  insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, metadata)
  values (workspace_id, 'referral', amount_micro, 0, jsonb_build_object('key', key)) returning id into v_lot;
  v_transaction := billing._post(workspace_id, 'payable', array[row('payable:USD', null, -amount_micro),
    row('lots', v_lot, amount_micro)]::billing.posting[], key);
  update billing.payable_balances b set payable_micro = b.payable_micro - amount_micro
  where b.workspace_id = _pay_in_credits.workspace_id and b.currency = 'USD';
  return v_transaction;
end $$;
comment on function billing._pay_in_credits is 'Pays dollars that are owed as credits, one micro-unit for one.';
revoke all on function billing._pay_in_credits from public, anon, authenticated, service_role;

-- One affiliate's part of a batch. Null: nothing to pay, or not by the way they chose.
create function billing._pay_affiliate(affiliate billing.affiliates, batch text, period_end timestamptz)
returns billing.affiliate_payouts
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_id uuid := gen_random_uuid();
  v_sum record;
  v_payout uuid;
  v_transaction bigint;
  v_row billing.affiliate_payouts;
begin
  select coalesce(sum(n.net), 0)::bigint as amount,
    coalesce(sum(n.net) filter (where c.commission_type <> 'adjustment'), 0)::bigint as gross,
    count(*)::integer as lines, count(distinct c.affiliate_referral_id)::integer as referrals,
    min(c.cleared_at) as began, array_agg(c.id) as ids
  into v_sum from billing.affiliate_commissions c
  cross join lateral (select coalesce(c.payout_micro, c.commission_micro - c.reversed_micro)) n (net)
  where c.affiliate_id = affiliate.id and c.status = 'cleared' and c.affiliate_payout_id is null
    and c.cleared_at <= period_end;
  if v_sum.amount <= 0 or v_sum.amount < affiliate.minimum_payout_micro then
    return null;
  end if;
  if affiliate.payout_method = 'transfer' and not exists (select from billing.payout_accounts p
    where p.workspace_id = affiliate.workspace_id and p.status = 'active') then
    return null;
  end if;
  if v_sum.gross > 0 then
    perform billing._move_payable(affiliate.workspace_id, 'USD', 'held', 'payable', v_sum.gross,
      format('affiliate_payout:%s:take', v_id));
  end if;
  case affiliate.payout_method
  when 'credits' then
    v_transaction := billing._pay_in_credits(affiliate.workspace_id, v_sum.amount, 'affiliate_payout:' || v_id);
  when 'transfer' then
    v_payout := (billing._queue_payout(affiliate.workspace_id, v_sum.amount / 1000, 'USD', 'affiliate:' || v_id)).id;
  else
    perform billing._move_payable(affiliate.workspace_id, 'USD', 'payable', 'in_transit', v_sum.amount,
      'affiliate_payout:' || v_id);
  end case;
  insert into billing.affiliate_payouts (id, affiliate_id, workspace_id, batch, amount_micro, commissions_micro,
    payout_method, payout_email, status, payout_id, ledger_transaction_id, commission_count, referral_count,
    period_start, period_end, paid_at)
  values (v_id, affiliate.id, affiliate.workspace_id, batch, v_sum.amount, v_sum.gross, affiliate.payout_method,
    affiliate.payout_email, case affiliate.payout_method when 'credits' then 'paid' when 'transfer' then 'processing'
      else 'pending' end, v_payout, v_transaction, v_sum.lines, v_sum.referrals, v_sum.began, period_end,
    case affiliate.payout_method when 'credits' then private.now() end)
  returning * into v_row;
  update billing.affiliate_commissions c
  set affiliate_payout_id = v_id, status = case v_row.status when 'paid' then 'paid' else c.status end,
    paid_at = v_row.paid_at, payout_micro = coalesce(c.payout_micro, c.commission_micro - c.reversed_micro)
  where c.id = any (v_sum.ids);
  update billing.affiliates a
  set balance_micro = a.balance_micro - v_sum.amount,
    total_paid_micro = a.total_paid_micro + case v_row.status when 'paid' then v_sum.amount else 0 end
  where a.id = affiliate.id;
  perform billing._tell_affiliate(v_row);
  return v_row;
end $$;
comment on function billing._pay_affiliate is 'Pays one affiliate what has cleared, by the way they chose.';
revoke all on function billing._pay_affiliate from public, anon, authenticated, service_role;

create function billing._tell_affiliate(payout billing.affiliate_payouts) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform private.notify_user(a.user_id, payout.workspace_id,
    case payout.status when 'paid' then 'success' when 'failed' then 'error' else 'info' end,
    case payout.status when 'paid' then 'Commission paid' when 'failed' then 'Payout failed'
      else 'Payout on its way' end,
    format('%s USD of commissions, statement %s.', trim(to_char(payout.amount_micro / 100000.0, '999999990.00')),
      payout.batch), '/affiliate',
    jsonb_build_object('affiliate_payout_id', payout.id, 'amount_micro', payout.amount_micro),
    format('affiliate_payout:%s:%s', payout.id, payout.status), 'billing.affiliate_payout_' || payout.status)
  from billing.affiliates a where a.id = payout.affiliate_id;
end $$;
comment on function billing._tell_affiliate(billing.affiliate_payouts) is 'Tells an affiliate how a payout stands.';
revoke all on function billing._tell_affiliate from public, anon, authenticated, service_role;

-- Pays all active affiliates what had cleared by period_end. The batch's name is its key: a repeat pays only whom the
-- first run did not reach, and nobody twice. Errors: key_required.
create function billing.pay_affiliates(batch text, period_end timestamptz default null)
returns setof billing.affiliate_payouts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_workspace uuid;
  v_affiliate billing.affiliates;
  v_row billing.affiliate_payouts;
begin
  perform billing._check_key(left(batch, 101));
  -- wallets in one order, as everybody who takes several
  for v_workspace in
    select distinct a.workspace_id from billing.affiliates a where a.status = 'active' and a.balance_micro > 0
      and a.user_id is not null
    order by 1
  loop
    perform billing._lock_wallet(v_workspace);
    for v_affiliate in
      select * from billing.affiliates a
      where a.workspace_id = v_workspace and a.status = 'active' and a.balance_micro > 0 and a.user_id is not null
        and not exists (select from billing.affiliate_payouts p
          where p.affiliate_id = a.id and p.batch = pay_affiliates.batch)
      order by a.id for no key update
    loop
      v_row := billing._pay_affiliate(v_affiliate, batch, least(coalesce(period_end, private.now()), private.now()));
      if v_row.id is not null then
        return next v_row;
      end if;
    end loop;
  end loop;
end $$;
comment on function billing.pay_affiliates is 'Pays affiliates what has cleared, once for a batch; gives the payouts.';
revoke all on function billing.pay_affiliates from public, anon, authenticated, service_role;
grant execute on function billing.pay_affiliates to service_role;

-- How a payout ended: its commissions are paid, or owed again.
create function billing._end_affiliate_payout(affiliate_payout_id uuid, paid boolean, error text,
  transaction_id text default null) returns billing.affiliate_payouts
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_row billing.affiliate_payouts;
  v_was_paid boolean;
begin
  select * into v_row from billing.affiliate_payouts p where p.id = affiliate_payout_id for update;
  v_was_paid := v_row.status = 'paid';
  if v_row.id is null or v_row.status = 'failed' or (v_was_paid and paid) then
    return null;
  end if;
  update billing.affiliate_payouts p
  set status = case when paid then 'paid' else 'failed' end, paid_at = case when paid then private.now() end,
    error = _end_affiliate_payout.error, transaction_id = _end_affiliate_payout.transaction_id
  where p.id = v_row.id
  returning * into v_row;
  update billing.affiliates a
  set total_paid_micro = a.total_paid_micro + v_row.amount_micro * (paid::integer - v_was_paid::integer),
    balance_micro = a.balance_micro + case when paid then 0 else v_row.amount_micro end
  where a.id = v_row.affiliate_id;
  update billing.affiliate_commissions c
  set status = case when paid then 'paid' else 'cleared' end, paid_at = v_row.paid_at,
    affiliate_payout_id = case when paid then v_row.id end
  where c.affiliate_payout_id = v_row.id;
  if not paid and v_row.commissions_micro > 0 then
    perform billing._move_payable(v_row.workspace_id, 'USD', 'payable', 'held', v_row.commissions_micro,
      format('affiliate_payout:%s:back', v_row.id));
  end if;
  perform billing._tell_affiliate(v_row);
  return v_row;
end $$;
comment on function billing._end_affiliate_payout is
  'Ends an affiliate''s payout: paid, or failed, its money payable again and from there on hold.';
revoke all on function billing._end_affiliate_payout from public, anon, authenticated, service_role;

-- Staff's word on a manual payout: paid under transaction_id, or (without one) failed. Errors:
-- unknown_affiliate_payout.
create function billing.settle_affiliate_payout(affiliate_payout_id uuid, transaction_id text default null,
  note text default null) returns billing.affiliate_payouts
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_row billing.affiliate_payouts;
begin
  select * into v_row from billing.affiliate_payouts p where p.id = affiliate_payout_id;
  perform billing._lock_wallet(w.workspace_id) from billing.wallets w where w.workspace_id = v_row.workspace_id;
  select * into v_row from billing.affiliate_payouts p
  where p.id = affiliate_payout_id and p.payout_method = 'manual' and p.status = 'pending' for update;
  if not found then
    perform private.fail('unknown_affiliate_payout', 'There is no such manual payout that is pending.',
      jsonb_build_object('affiliate_payout_id', affiliate_payout_id));
  end if;
  perform billing._move_payable(v_row.workspace_id, 'USD', 'in_transit',
    case when transaction_id is null then 'payable' else 'transfers' end, v_row.amount_micro,
    format('affiliate_payout:%s:end', v_row.id));
  return billing._end_affiliate_payout(affiliate_payout_id, transaction_id is not null, note, transaction_id);
end $$;
comment on function billing.settle_affiliate_payout is 'Notes that staff paid an affiliate, or could not.';
revoke all on function billing.settle_affiliate_payout from public, anon, authenticated, service_role;
grant execute on function billing.settle_affiliate_payout to service_role;
