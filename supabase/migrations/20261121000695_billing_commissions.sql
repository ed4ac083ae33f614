-- Commissions: an affiliate's share of what those they brought pay. They clear after 14 days and are reversed in
-- proportion when the payment is refunded. Amounts are micro-units of US dollars in whole cents (1,000 micro-units).
-- In the books a commission stays on hold until a batch pays it, so that no other payout can take it.

create table billing.affiliate_commissions (
  id uuid primary key default gen_random_uuid(),
  affiliate_id uuid not null,
  workspace_id uuid not null,
  affiliate_referral_id uuid,
  referred_user_id uuid,
  source_workspace_id uuid,
  payment_id uuid,
  commission_type text not null,
  source_minor bigint not null default 0,
  source_currency text not null default 'USD',
  source_amount_micro bigint not null default 0,
  commission_rate numeric(5, 4) not null,
  commission_micro bigint not null,
  reversed_micro bigint not null default 0,
  restored_micro bigint not null default 0,
  status text not null default 'pending',
  affiliate_payout_id uuid,
  payout_micro bigint,
  adjusts_id uuid,
  reversal_reason text,
  notes text,
  clears_at timestamptz,
  cleared_at timestamptz,
  paid_at timestamptz,
  reversed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint affiliate_commissions_affiliate_id_fkey foreign key (affiliate_id) references billing.affiliates (id),
  constraint affiliate_commissions_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint affiliate_commissions_affiliate_referral_id_fkey foreign key (affiliate_referral_id)
    references billing.affiliate_referrals (id) on delete set null,
  constraint affiliate_commissions_referred_user_id_fkey foreign key (referred_user_id)
    references auth.users (id) on delete set null,
  constraint affiliate_commissions_source_workspace_id_fkey foreign key (source_workspace_id)
    references identity.workspaces (id),
  constraint affiliate_commissions_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint affiliate_commissions_source_currency_fkey foreign key (source_currency) references ref.currencies (code),
  constraint affiliate_commissions_adjusts_id_fkey foreign key (adjusts_id)
    references billing.affiliate_commissions (id),
  constraint affiliate_commissions_type_known check (commission_type in ('first_payment', 'recurring', 'adjustment')),
  constraint affiliate_commissions_status_known check (status in ('pending', 'cleared', 'paid', 'reversed')),
  constraint affiliate_commissions_rate_in_range check (commission_rate between 0 and 1),
  constraint affiliate_commissions_whole_cents check (commission_micro % 1000 = 0 and reversed_micro % 1000 = 0),
  constraint affiliate_commissions_only_adjustments_take check (case commission_type
    when 'adjustment' then commission_micro <> 0 and reversed_micro = 0 and adjusts_id is not null
    else commission_micro > 0 and reversed_micro between 0 and commission_micro and adjusts_id is null end),
  constraint affiliate_commissions_times_fit_status check (case status
    when 'pending' then clears_at is not null and cleared_at is null
    when 'cleared' then cleared_at is not null and paid_at is null
    when 'paid' then cleared_at is not null and paid_at is not null and affiliate_payout_id is not null
      and payout_micro is not null
    else reversed_at is not null and reversed_micro = commission_micro end)
);
comment on table billing.affiliate_commissions is
  'Shares of payments that affiliates earned, and what was taken back of them; micro-units of US dollars.';
comment on column billing.affiliate_commissions.workspace_id is 'The affiliate''s workspace in whose books it is owed.';
comment on column billing.affiliate_commissions.payout_micro is
  'What it counted in the payout it was first put into; what is reversed later is an adjustment.';
comment on column billing.affiliate_commissions.commission_type is
  'adjustment: takes back what had been paid out before its payment was refunded, or gives it again.';
comment on column billing.affiliate_commissions.restored_micro is
  'What was reversed and came again in all, because a refund failed in the end.';
create unique index affiliate_commissions_payment_id on billing.affiliate_commissions (payment_id)
  where commission_type <> 'adjustment' and payment_id is not null;
create index affiliate_commissions_of_payment on billing.affiliate_commissions (payment_id)
  where payment_id is not null;
create index affiliate_commissions_affiliate_id on billing.affiliate_commissions (affiliate_id, created_at desc);
create index affiliate_commissions_workspace_id on billing.affiliate_commissions (workspace_id);
create index affiliate_commissions_referral on billing.affiliate_commissions (affiliate_referral_id)
  where affiliate_referral_id is not null;
create index affiliate_commissions_referred_user_id on billing.affiliate_commissions (referred_user_id)
  where referred_user_id is not null;
create index affiliate_commissions_source_workspace_id on billing.affiliate_commissions (source_workspace_id)
  where source_workspace_id is not null;
create index affiliate_commissions_source_currency on billing.affiliate_commissions (source_currency);
create index affiliate_commissions_adjusts_id on billing.affiliate_commissions (adjusts_id)
  where adjusts_id is not null;
create index affiliate_commissions_clearing on billing.affiliate_commissions (clears_at) where status = 'pending';
create index affiliate_commissions_unpaid on billing.affiliate_commissions (affiliate_id, cleared_at)
  where status = 'cleared' and affiliate_payout_id is null;
create trigger affiliate_commissions_touch before update on billing.affiliate_commissions for each row
  execute function private.touch_updated_at();
alter table billing.affiliate_commissions enable row level security;
create policy "Affiliates see their commissions" on billing.affiliate_commissions for select to authenticated
  using (affiliate_id = any ((select private.affiliate_ids())::uuid[]));
revoke all on table billing.affiliate_commissions from public, anon, authenticated, service_role;
-- what was paid and when, not who paid
grant select (id, affiliate_id, workspace_id, affiliate_referral_id, commission_type, source_minor, source_currency,
  source_amount_micro, commission_rate, commission_micro, reversed_micro, status, affiliate_payout_id,
  payout_micro, adjusts_id, reversal_reason, clears_at, cleared_at, paid_at, reversed_at, created_at, updated_at)
  on table billing.affiliate_commissions to authenticated;
grant select on table billing.affiliate_commissions to service_role;

-- Payments whose effects on commissions and bonuses are still to be worked out. A payment's own transaction only notes
-- it here: so it never waits for the wallets of others.
create table billing.payment_effects (
  payment_id uuid primary key,
  changed_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint payment_effects_payment_id_fkey foreign key (payment_id) references billing.payments (id) on delete cascade
);
comment on table billing.payment_effects is 'Payments that were made or refunded, until commissions follow.';
create index payment_effects_changed_at on billing.payment_effects (changed_at);
alter table billing.payment_effects enable row level security;
revoke all on table billing.payment_effects from public, anon, authenticated, service_role;
grant select on table billing.payment_effects to service_role;

create function billing._note_payment_effect() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from billing.affiliate_referrals r where r.user_id = billing._payer_of(new)
      and r.status <> 'invalid')
    or exists (select from billing.affiliate_commissions c where c.payment_id = new.id)
    or exists (select from billing.voucher_redemptions r where r.payment_id = new.id) then
    insert into billing.payment_effects (payment_id, changed_at) values (new.id, private.now())
    on conflict on constraint payment_effects_pkey do update set changed_at = excluded.changed_at;
  end if;
  return null;
end $$;
comment on function billing._note_payment_effect() is
  'Trigger: notes a payment of somebody''s affiliate or with a bonus that was made or refunded.';
revoke all on function billing._note_payment_effect from public, anon, authenticated, service_role;
create trigger payments_note_effect after insert or update on billing.payments for each row
  when (new.paid_at is not null) execute function billing._note_payment_effect();

create function billing._note_returned_money() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into billing.payment_effects (payment_id, changed_at) values (new.payment_id, private.now())
  on conflict on constraint payment_effects_pkey do update set changed_at = excluded.changed_at;
  return null;
end $$;
comment on function billing._note_returned_money() is 'Trigger: notes a payment whose money has gone back.';
revoke all on function billing._note_returned_money from public, anon, authenticated, service_role;
create trigger disputes_note_effect after insert or update on billing.disputes for each row
  when (new.status = 'lost') execute function billing._note_returned_money();
create trigger payment_refunds_note_effect after update of status on billing.payment_refunds for each row
  when (new.status = 'succeeded' and old.status <> 'succeeded') execute function billing._note_returned_money();

-- What went back of a payment, by refunds and lost disputes, in its minor units; of refunds also those on their way,
-- which may still be refused.
create function billing._returned_minor(payment billing.payments) returns bigint
language sql stable
set search_path = ''
as $$
  select least(payment.amount_minor, payment.refunded_minor + coalesce((select sum(d.amount_minor)
    from billing.disputes d where d.payment_id = payment.id and d.status = 'lost'), 0))::bigint
$$;
comment on function billing._returned_minor(billing.payments) is
  'What went back of a payment by refunds and lost disputes, minor units.';
revoke all on function billing._returned_minor from public, anon, authenticated, service_role;
grant execute on function billing._returned_minor to service_role;

create function billing._gone_minor(payment billing.payments) returns bigint
language sql stable
set search_path = ''
as $$
  select billing._returned_minor(payment) - least(billing._returned_minor(payment), coalesce((select sum(r.amount_minor)
    from billing.payment_refunds r where r.payment_id = payment.id and r.status = 'pending'), 0))::bigint
$$;
comment on function billing._gone_minor(billing.payments) is
  'What has gone back of a payment for good, minor units: refunds under way do not count.';
revoke all on function billing._gone_minor from public, anon, authenticated, service_role;

-- An amount in micro-units of US dollars at the rate cached last; null: there is none.
create function private.dollars_micro(amount_minor bigint, currency text) returns bigint
language sql stable
set search_path = ''
as $$
  select case when currency = 'USD' then amount_minor * 1000 else (
    select floor(amount_minor * private.minor_unit_micro(currency) * v.numerator / v.denominator)::bigint
    from (
      select r.rate as numerator, 1 as denominator, r.created_at from ref.currency_rates r
      where r.from_currency = dollars_micro.currency and r.to_currency = 'USD'
      union all
      -- the rates that are fetched are those of the dollar
      select 1, r.rate, r.created_at from ref.currency_rates r
      where r.from_currency = 'USD' and r.to_currency = dollars_micro.currency
    ) v
    order by v.created_at desc limit 1) end
$$;
comment on function private.dollars_micro(bigint, text) is
  'An amount of money as micro-units of US dollars (100,000 to the dollar); null without an exchange rate.';
revoke all on function private.dollars_micro from public, anon, authenticated, service_role;
grant execute on function private.dollars_micro to service_role;

-- The commission of a payment, once. The caller holds the wallet of the affiliate's workspace.
create function billing._accrue_commission(payment billing.payments, referral billing.affiliate_referrals,
  affiliate billing.affiliates, dollars_micro bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_amount bigint := floor(dollars_micro * referral.commission_rate / 1000) * 1000;
  v_commission billing.affiliate_commissions;
begin
  if v_amount = 0 then
    return;
  end if;
  insert into billing.affiliate_commissions (affiliate_id, workspace_id, affiliate_referral_id, referred_user_id,
    source_workspace_id, payment_id, commission_type, source_minor, source_currency, source_amount_micro,
    commission_rate, commission_micro, clears_at)
  values (affiliate.id, affiliate.workspace_id, referral.id, referral.user_id, payment.workspace_id, payment.id,
    case when referral.first_payment_id is null then 'first_payment' else 'recurring' end, payment.amount_minor,
    payment.currency, dollars_micro, referral.commission_rate, v_amount, payment.paid_at + interval '14 days')
  on conflict (payment_id) where commission_type <> 'adjustment' and payment_id is not null do nothing
  returning * into v_commission;
  if v_commission.id is null then
    return;
  end if;
  perform billing._move_payable(affiliate.workspace_id, 'USD', 'commissions', 'held', v_amount,
    'commission:' || v_commission.id, payment.id, null, jsonb_build_object('commission_id', v_commission.id));
  if referral.first_payment_id is null then
    update billing.affiliate_referrals r set first_payment_id = payment.id, status = 'converted',
      converted_at = payment.paid_at where r.id = referral.id;
    update billing.affiliates a set total_conversions = a.total_conversions + 1 where a.id = affiliate.id;
  end if;
end $$;
comment on function billing._accrue_commission is 'Books the commission of a payment on hold, once for a payment.';
revoke all on function billing._accrue_commission from public, anon, authenticated, service_role;

-- Takes back the part of a payment's commission that was refunded with it. refunded_minor is what was refunded in all,
-- so that a repeat or an older figure changes nothing. Of a commission that has been paid out an adjustment takes it
-- back. Returns the micro-units taken back by this call.
create function billing.reverse_commissions(payment_id uuid, refunded_minor bigint, reason text default 'refund')
returns bigint
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_commission billing.affiliate_commissions;
  v_delta bigint;
  v_paid boolean;
begin
  select * into v_commission from billing.affiliate_commissions c
  where c.payment_id = reverse_commissions.payment_id and c.commission_type <> 'adjustment';
  if not found or coalesce(refunded_minor, 0) <= 0 then
    return 0;
  end if;
  perform billing._lock_wallet(v_commission.workspace_id);
  select * into v_commission from billing.affiliate_commissions c where c.id = v_commission.id for update;
  v_delta := least(v_commission.commission_micro, ceil(v_commission.commission_micro::numeric
    * least(refunded_minor, v_commission.source_minor) / v_commission.source_minor / 1000)::bigint * 1000)
    - v_commission.reversed_micro;
  if v_delta <= 0 then
    return 0;
  end if;
  v_paid := v_commission.payout_micro is not null;
  perform billing._move_payable(v_commission.workspace_id, 'USD',
    case when v_paid then 'payable' else 'held' end, 'commissions', v_delta,
    format('commission:%s:reverse:%s:%s', v_commission.id, v_commission.restored_micro,
      v_commission.reversed_micro + v_delta), payment_id, reason,
    jsonb_build_object('commission_id', v_commission.id));
  update billing.affiliate_commissions c
  set reversed_micro = c.reversed_micro + v_delta, reversed_at = private.now(),
    reversal_reason = reverse_commissions.reason,
    status = case when not v_paid and c.reversed_micro + v_delta = c.commission_micro then 'reversed' else c.status end
  where c.id = v_commission.id;
  if v_paid then
    insert into billing.affiliate_commissions (affiliate_id, workspace_id, affiliate_referral_id, referred_user_id,
      source_workspace_id, payment_id, commission_type, commission_rate, commission_micro, status, adjusts_id, notes,
      cleared_at)
    values (v_commission.affiliate_id, v_commission.workspace_id, v_commission.affiliate_referral_id,
      v_commission.referred_user_id, v_commission.source_workspace_id, payment_id, 'adjustment',
      v_commission.commission_rate, -v_delta, 'cleared', v_commission.id, reason, private.now());
  end if;
  update billing.affiliates a
  set balance_micro = a.balance_micro - case v_commission.status when 'pending' then 0 else v_delta end,
    total_earned_micro = a.total_earned_micro - case v_commission.status when 'pending' then 0 else v_delta end
  where a.id = v_commission.affiliate_id;
  return v_delta;
end $$;
comment on function billing.reverse_commissions is
  'Takes back the share of a commission whose payment was refunded; safe to repeat.';
revoke all on function billing.reverse_commissions from public, anon, authenticated, service_role;
grant execute on function billing.reverse_commissions to service_role;

-- A voucher's bonus goes back with its purchase, in proportion, as far as it is unspent, and comes again when the
-- refund is refused.
create function billing._take_back_bonus(payment billing.payments, refunded_minor bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_bonus billing.voucher_redemptions;
  v_lot billing.credit_lots;
  v_taken bigint;
  v_times integer;
  v_take bigint;
begin
  select * into v_bonus from billing.voucher_redemptions r where r.payment_id = payment.id;
  if not found then
    return;
  end if;
  perform billing._fresh_wallet(payment.workspace_id);
  select l.* into v_lot from billing.ledger_entries e join billing.credit_lots l on l.id = e.lot_id
  where e.transaction_id = v_bonus.ledger_transaction_id;
  select coalesce(sum((t.metadata ->> 'amount_micro')::bigint), 0), count(*) into v_taken, v_times
  from billing.ledger_transactions t
  where t.workspace_id = payment.workspace_id and t.key like format('voucher:%s:back:', v_bonus.id) || '%';
  v_take := ceil(v_bonus.credits_micro::numeric * least(refunded_minor, payment.amount_minor) / payment.amount_minor)
    - v_taken;
  v_take := least(v_take, v_lot.remaining_micro);
  if v_take <> 0 then
    perform billing._post(payment.workspace_id, 'adjust', array[row('lots', v_lot.id, -v_take),
      row('grants', null, v_take)]::billing.posting[], format('voucher:%s:back:%s', v_bonus.id, v_times + 1),
      reason => 'refund', metadata => jsonb_build_object('amount_micro', v_take, 'payment_id', payment.id));
  end if;
end $$;
comment on function billing._take_back_bonus is 'Takes back the unspent part of a bonus whose purchase was refunded.';
revoke all on function billing._take_back_bonus from public, anon, authenticated, service_role;

-- What follows from one payment; the caller holds its effect and both wallets. False: an exchange rate is missing.
create function billing._apply_payment_effect(payment billing.payments) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_referral billing.affiliate_referrals;
  v_affiliate billing.affiliates;
  v_refunded bigint := billing._returned_minor(payment);
  v_dollars bigint;
begin
  select * into v_referral from billing.affiliate_referrals r
  where r.user_id = billing._payer_of(payment) and r.status <> 'invalid'
    and coalesce(r.commission_ends_at > payment.paid_at, true);
  if found and v_refunded < payment.amount_minor then
    select * into v_affiliate from billing.affiliates a where a.id = v_referral.affiliate_id;
    if v_affiliate.status = 'active' then
      v_dollars := private.dollars_micro(payment.amount_minor, payment.currency);
      if v_dollars is null then
        return false;
      end if;
      perform billing._accrue_commission(payment, v_referral, v_affiliate, v_dollars);
    end if;
  end if;
  perform billing.reverse_commissions(payment.id, billing._gone_minor(payment));
  perform billing._restore_commission(payment);
  perform billing._take_back_bonus(payment, v_refunded);
  return true;
end $$;
comment on function billing._apply_payment_effect(billing.payments) is
  'Brings the commission and bonus of a payment in line with what was refunded; false: try again later.';
revoke all on function billing._apply_payment_effect from public, anon, authenticated, service_role;

-- Sweep. It waits for no row: what is busy is done the next time, so it is never part of a deadlock.
create function billing.apply_payment_effects() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_effect billing.payment_effects;
  v_payment billing.payments;
  v_workspaces uuid[];
  v_locked integer;
  v_count integer := 0;
begin
  for v_effect in
    select * from billing.payment_effects e where e.changed_at <= private.now()
    order by e.changed_at limit 200 for update skip locked
  loop
    select * into v_payment from billing.payments p where p.id = v_effect.payment_id for share skip locked;
    continue when not found;
    v_workspaces := array(
      select v_payment.workspace_id
      union select c.workspace_id from billing.affiliate_commissions c where c.payment_id = v_payment.id
      union select a.workspace_id from billing.affiliate_referrals r
        join billing.affiliates a on a.id = r.affiliate_id where r.user_id = billing._payer_of(v_payment));
    select count(*) into v_locked from (select from billing.wallets w where w.workspace_id = any (v_workspaces)
      for no key update skip locked) l;
    continue when v_locked < cardinality(v_workspaces);
    if billing._apply_payment_effect(v_payment) then
      delete from billing.payment_effects e where e.payment_id = v_effect.payment_id;
      v_count := v_count + 1;
    else
      update billing.payment_effects e set changed_at = private.now() + interval '1 hour'
      where e.payment_id = v_effect.payment_id;
    end if;
  end loop;
  return v_count;
end $$;
comment on function billing.apply_payment_effects() is
  'Sweep: commissions and bonuses follow payments that were made or refunded; returns how many.';
revoke all on function billing.apply_payment_effects from public, anon, authenticated, service_role;
grant execute on function billing.apply_payment_effects to service_role;

create function billing.clear_commissions() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_commission billing.affiliate_commissions;
  v_net bigint;
  v_count integer := 0;
begin
  for v_commission in
    select c.* from billing.affiliate_commissions c join billing.wallets w on w.workspace_id = c.workspace_id
    where c.status = 'pending' and c.clears_at <= private.now()
      and not exists (select from billing.payment_effects e where e.payment_id = c.payment_id)
      and not exists (select from billing.disputes d where d.payment_id = c.payment_id and d.closed_at is null)
      and not exists (select from billing.payment_refunds r where r.payment_id = c.payment_id and r.status = 'pending')
    order by c.clears_at limit 500 for no key update of w, c skip locked
  loop
    v_net := v_commission.commission_micro - v_commission.reversed_micro;
    update billing.affiliate_commissions c set status = 'cleared', cleared_at = private.now()
    where c.id = v_commission.id;
    update billing.affiliates a
    set balance_micro = a.balance_micro + v_net, total_earned_micro = a.total_earned_micro + v_net
    where a.id = v_commission.affiliate_id;
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;
comment on function billing.clear_commissions() is
  'Sweep: commissions of payments nobody asks back whose 14 days are over count for the next batch; returns how many.';
revoke all on function billing.clear_commissions from public, anon, authenticated, service_role;
grant execute on function billing.clear_commissions to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('apply payment effects', 'billing.apply_payment_effects', interval '1 minute'),
  ('clear commissions', 'billing.clear_commissions', interval '10 minutes');
