-- Disputes: while a bank asks for its money back, the credits it bought are out of the wallet. Where some of them
-- have been spent already, or it was a plan that was bought, the wallet is frozen as well, until the dispute is won or
-- we lift it.

alter table billing.wallets add column frozen_reason text;
alter table billing.wallets add constraint wallets_frozen_has_reason check (status = 'frozen' or frozen_reason is null);
comment on column billing.wallets.frozen_reason is 'Why nothing may be spent: dispute, or a sentence of ours.';

create table billing.disputes (
  id uuid primary key default gen_random_uuid(),
  payment_id uuid not null,
  workspace_id uuid not null,
  provider text not null,
  provider_dispute_id text not null,
  amount_minor bigint not null,
  currency text not null,
  reason text,
  status text not null,
  taken_micro bigint not null default 0,
  missing_micro bigint not null default 0,
  evidence_due_at timestamptz,
  frozen_at timestamptz,
  released_at timestamptz,
  closed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint disputes_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint disputes_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint disputes_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint disputes_provider_dispute_key unique (provider, provider_dispute_id),
  constraint disputes_provider_known check (provider in ('stripe', 'razorpay')),
  constraint disputes_status_known check (status in ('inquiry', 'open', 'under_review', 'closed', 'won', 'lost')),
  constraint disputes_amounts_in_range check (amount_minor > 0 and taken_micro >= 0 and missing_micro >= 0),
  constraint disputes_closed_has_time check ((status in ('closed', 'won', 'lost')) = (closed_at is not null)),
  constraint disputes_released_was_frozen check (released_at is null or frozen_at is not null)
);
comment on table billing.disputes is 'Payments that a bank asks back, and the credits that are frozen for it.';
comment on column billing.disputes.status is 'inquiry: a question, no money has moved; closed: it came to nothing.';
create index disputes_payment_id on billing.disputes (payment_id);
create index disputes_workspace_id on billing.disputes (workspace_id, created_at desc);
create index disputes_currency on billing.disputes (currency);
create trigger disputes_touch before update on billing.disputes for each row
  execute function private.touch_updated_at();
alter table billing.disputes enable row level security;
create policy "Admins may read their workspace's disputes" on billing.disputes for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
revoke all on table billing.disputes from public, anon, authenticated, service_role;
grant select on table billing.disputes to authenticated, service_role;

-- What disputes of a payment that are not won hold of its credits, and no refund waits for.
create function billing._disputed_credits(payment_id uuid) returns bigint
language sql stable
set search_path = ''
as $$
  select (coalesce((select sum(d.taken_micro) from billing.disputes d
      where d.payment_id = _disputed_credits.payment_id and d.released_at is null), 0)
    - coalesce((select sum(r.disputed_micro) from billing.payment_refunds r
      where r.payment_id = _disputed_credits.payment_id and r.status in ('pending', 'succeeded')), 0))::bigint
$$;
comment on function billing._disputed_credits(uuid) is
  'Credits of a payment that disputes hold and no refund waits for; micro-units.';
revoke all on function billing._disputed_credits from public, anon, authenticated, service_role;

-- Takes the credits of a dispute out of the wallet, as far as it has not: those that went with a refund or another
-- dispute are no more there to be taken, and nobody has spent them. The caller holds the wallet's lock.
create function billing._take_for_dispute(dispute billing.disputes, payment billing.payments, key text)
returns billing.disputes
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_dispute billing.disputes := dispute;
  v_taken jsonb;
  v_due bigint := least(
    floor(payment.credits_micro::numeric * least(dispute.amount_minor, payment.amount_minor) / payment.amount_minor),
    payment.credits_micro - (select coalesce(sum(r.taken_micro + r.missing_micro), 0) from billing.payment_refunds r
      where r.payment_id = payment.id and r.status in ('pending', 'succeeded'))
      - (select coalesce(sum(d.taken_micro + d.missing_micro), 0) from billing.disputes d
      where d.payment_id = payment.id and d.released_at is null and d.id <> dispute.id))
    - dispute.taken_micro - dispute.missing_micro;
begin
  if v_due <= 0 then
    return v_dispute;
  end if;
  perform billing._hold_reload(payment.workspace_id);
  v_taken := billing.claw_back(payment.id, v_due, 'the payment is disputed', key);
  update billing.disputes d
  set taken_micro = d.taken_micro + (v_taken ->> 'taken_micro')::bigint,
    missing_micro = d.missing_micro + (v_taken ->> 'missing_micro')::bigint
  where d.id = dispute.id
  returning * into v_dispute;
  if (v_taken ->> 'missing_micro')::bigint > 0 then
    update billing.wallets w set status = 'frozen', frozen_reason = 'dispute'
    where w.workspace_id = dispute.workspace_id and w.status = 'active';
  end if;
  return v_dispute;
end $$;
comment on function billing._take_for_dispute is
  'Takes what a dispute is to hold of its payment''s credits; freezes the wallet if some are spent.';
revoke all on function billing._take_for_dispute from public, anon, authenticated, service_role;

-- A wallet that disputes froze thaws when none of them has a reason left.
create function billing._thaw_disputed(workspace_id uuid) returns void
language sql
set search_path = ''
as $$
  update billing.wallets w set status = 'active', frozen_reason = null
  where w.workspace_id = _thaw_disputed.workspace_id and w.frozen_reason = 'dispute'
    and not exists (select from billing.disputes d join billing.payments p on p.id = d.payment_id
      where d.workspace_id = w.workspace_id and d.frozen_at is not null and d.released_at is null
        and (d.missing_micro > 0 or p.kind = 'subscription'))
$$;
comment on function billing._thaw_disputed(uuid) is 'Thaws a wallet that no dispute keeps frozen.';
revoke all on function billing._thaw_disputed from public, anon, authenticated, service_role;

-- So many credits of a payment came back, because a refund was refused or a dispute won: its other disputes hold them
-- now, first those that they had found missing.
create function billing._take_for_disputes(payment billing.payments, amount_micro bigint, cause uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_dispute billing.disputes;
  v_left bigint := amount_micro;
  v_take bigint;
begin
  for v_dispute in
    select * from billing.disputes d
    where d.payment_id = payment.id and d.frozen_at is not null and d.released_at is null
    order by d.created_at, d.id
  loop
    v_take := least(v_dispute.missing_micro, v_left);
    if v_take > 0 then
      perform billing._hold_reload(payment.workspace_id);
      perform billing.claw_back(payment.id, v_take, 'the payment is disputed',
        format('dispute:%s:again:%s', v_dispute.id, cause));
      update billing.disputes d
      set taken_micro = d.taken_micro + v_take, missing_micro = d.missing_micro - v_take
      where d.id = v_dispute.id
      returning * into v_dispute;
      v_left := v_left - v_take;
    end if;
    perform billing._take_for_dispute(v_dispute, payment, format('dispute:%s:%s', v_dispute.id, cause));
    perform billing._resume_reload(payment.workspace_id, 'disputed', false);
  end loop;
  perform billing._thaw_disputed(payment.workspace_id);
end $$;
comment on function billing._take_for_disputes is 'Lets the disputes of a payment take credits that came back.';
revoke all on function billing._take_for_disputes from public, anon, authenticated, service_role;

create function billing._freeze_dispute(dispute billing.disputes, payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_dispute billing.disputes;
begin
  if dispute.frozen_at is not null then
    return;
  end if;
  perform billing._lock_wallet(payment.workspace_id);
  perform billing._hold_reload(payment.workspace_id);
  v_dispute := billing._take_for_dispute(dispute, payment, 'dispute:' || dispute.id);
  perform billing._resume_reload(payment.workspace_id, 'disputed', false);
  update billing.disputes d set frozen_at = private.now() where d.id = dispute.id;
  -- a plan's allowance cannot be told apart from what else there is
  update billing.wallets w set status = 'frozen', frozen_reason = 'dispute'
  where w.workspace_id = dispute.workspace_id and w.status = 'active' and payment.kind = 'subscription';
  perform billing._record_money('dispute:' || dispute.id, payment, 'dispute', -dispute.amount_minor,
    -v_dispute.taken_micro, 'completed', 'the payment is disputed');
  perform private.notify_user(payment.user_id, payment.workspace_id, 'warning', 'Payment disputed',
    'Its credits are frozen until the bank has decided.', '/billing',
    jsonb_build_object('dispute_id', dispute.id, 'payment_id', payment.id), 'dispute:' || dispute.id,
    'billing.dispute_opened');
end $$;
comment on function billing._freeze_dispute is
  'Takes the credits of a disputed payment, once, and tells its buyer.';
revoke all on function billing._freeze_dispute from public, anon, authenticated, service_role;

-- Of credits of a payment that came back, by a dispute that was won or a refund that was refused, takes those whose
-- money has been refunded meanwhile, when they were missing. Returns how many.
create function billing._take_waiting_refunds(payment billing.payments, amount_micro bigint, cause uuid) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_refund billing.payment_refunds;
  v_left bigint := amount_micro;
  v_take bigint;
begin
  for v_refund in
    select * from billing.payment_refunds r
    where r.payment_id = payment.id and r.missing_micro > 0 and r.status in ('pending', 'succeeded')
    order by r.created_at, r.id
  loop
    v_take := least(v_refund.missing_micro, v_left);
    exit when v_take = 0;
    perform billing._hold_reload(payment.workspace_id);
    perform billing.claw_back(payment.id, v_take, v_refund.reason, format('refund:%s:%s', v_refund.id, cause));
    perform billing._resume_reload(payment.workspace_id, 'refunded', true);
    update billing.payment_refunds r
    set taken_micro = r.taken_micro + v_take, missing_micro = r.missing_micro - v_take,
      disputed_micro = greatest(0, r.disputed_micro - v_take)
    where r.id = v_refund.id;
    v_left := v_left - v_take;
  end loop;
  return amount_micro - v_left;
end $$;
comment on function billing._take_waiting_refunds is
  'Takes the credits of refunds that waited for some to come back; returns how many.';
revoke all on function billing._take_waiting_refunds from public, anon, authenticated, service_role;

-- The money is ours again: the credits come back, but for those whose money has been refunded meanwhile, and the
-- wallet thaws when no other dispute freezes it.
create function billing._release_dispute(dispute billing.disputes, payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_again bigint;
begin
  if dispute.frozen_at is null or dispute.released_at is not null then
    return;
  end if;
  perform billing._give_back(payment, dispute.taken_micro, 'the dispute was decided for us',
    'dispute_released:' || dispute.id);
  v_again := billing._take_waiting_refunds(payment, dispute.taken_micro, dispute.id);
  update billing.disputes d set released_at = private.now() where d.id = dispute.id;
  perform billing._thaw_disputed(dispute.workspace_id);
  perform billing._record_money('dispute_released:' || dispute.id, payment, 'dispute_reversal',
    dispute.amount_minor, dispute.taken_micro - v_again, 'completed', 'the dispute was decided for us');
  perform billing._take_for_disputes(payment, dispute.taken_micro - v_again, dispute.id);
end $$;
comment on function billing._release_dispute is 'Puts the credits of a dispute back.';
revoke all on function billing._release_dispute from public, anon, authenticated, service_role;

-- What the provider says of a dispute. status as in billing.disputes; funds: withdrawn or reinstated, when the
-- news is of the money. An end is never replaced, so news of its beginning may come after it. Returns the status,
-- null when the payment is not ours.
create function billing.apply_dispute(provider text, provider_payment_id text, provider_dispute_id text,
  amount_minor bigint, status text, reason text default null, evidence_due_at timestamptz default null,
  funds text default null) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_progress text[] := array['inquiry', 'open', 'under_review', 'closed', 'won', 'lost'];
  v_payment billing.payments;
  v_dispute billing.disputes;
begin
  select * into v_payment from billing.payments p
  where p.provider = apply_dispute.provider and p.provider_payment_id = apply_dispute.provider_payment_id
    and p.paid_at is not null for no key update;
  if not found then
    return null;
  end if;
  perform billing._lock_wallet(v_payment.workspace_id);
  insert into billing.disputes as d (payment_id, workspace_id, provider, provider_dispute_id, amount_minor, currency,
    reason, status, evidence_due_at, closed_at)
  values (v_payment.id, v_payment.workspace_id, provider, provider_dispute_id, amount_minor, v_payment.currency,
    reason, status, evidence_due_at, case when status in ('closed', 'won', 'lost') then private.now() end)
  on conflict on constraint disputes_provider_dispute_key do update
  set status = excluded.status, closed_at = excluded.closed_at,
    evidence_due_at = coalesce(excluded.evidence_due_at, d.evidence_due_at)
  where d.closed_at is null and array_position(v_progress, excluded.status) > array_position(v_progress, d.status)
  returning * into v_dispute;
  if not found then
    select * into v_dispute from billing.disputes d where d.provider = apply_dispute.provider
      and d.provider_dispute_id = apply_dispute.provider_dispute_id;
  end if;
  if v_dispute.status in ('won', 'closed') or funds = 'reinstated' then
    perform billing._release_dispute(v_dispute, v_payment);
  elsif v_dispute.status <> 'inquiry' or funds = 'withdrawn' then
    perform billing._freeze_dispute(v_dispute, v_payment);
  end if;
  return v_dispute.status;
end $$;
comment on function billing.apply_dispute is
  'Records what the provider says of a dispute; safe to repeat and in any order.';
revoke all on function billing.apply_dispute from public, anon, authenticated, service_role;
grant execute on function billing.apply_dispute to service_role;
