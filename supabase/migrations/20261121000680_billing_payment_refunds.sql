-- Money given back: asked for here and carried out by a job, or made at the provider and heard of. Either way a
-- refund is one row, its credits are taken back once, before the money leaves, and come back if the provider refuses.

create table billing.payment_refunds (
  id uuid primary key default gen_random_uuid(),
  payment_id uuid not null,
  workspace_id uuid not null,
  provider text not null,
  provider_refund_id text,
  amount_minor bigint not null,
  currency text not null,
  status text not null default 'pending',
  reason text not null,
  key text,
  requested_by uuid,
  taken_micro bigint not null default 0,
  missing_micro bigint not null default 0,
  disputed_micro bigint not null default 0,
  error text,
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint payment_refunds_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint payment_refunds_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint payment_refunds_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint payment_refunds_requested_by_fkey foreign key (requested_by) references auth.users (id) on delete set null,
  constraint payment_refunds_provider_refund_key unique (provider, provider_refund_id),
  constraint payment_refunds_status_known check (status in ('pending', 'succeeded', 'failed', 'cancelled')),
  constraint payment_refunds_provider_known check (provider in ('stripe', 'razorpay')),
  constraint payment_refunds_amounts_in_range
    check (amount_minor > 0 and taken_micro >= 0 and disputed_micro between 0 and missing_micro),
  constraint payment_refunds_settled_has_time check ((status = 'pending') = (settled_at is null))
);
comment on table billing.payment_refunds is
  'Money given back on payments: minor units out, and the credits taken back for it or found spent.';
comment on column billing.payment_refunds.missing_micro is
  'Credits of the refunded amount that had been spent, or that a dispute holds.';
comment on column billing.payment_refunds.disputed_micro is
  'What of the missing a dispute holds: it is taken when credits of the payment come back.';
create unique index payment_refunds_key on billing.payment_refunds (payment_id, key) where key is not null;
create index payment_refunds_payment_id on billing.payment_refunds (payment_id);
create index payment_refunds_workspace_id on billing.payment_refunds (workspace_id, created_at desc);
create index payment_refunds_requested_by on billing.payment_refunds (requested_by) where requested_by is not null;
create index payment_refunds_currency on billing.payment_refunds (currency);
create trigger payment_refunds_touch before update on billing.payment_refunds for each row
  execute function private.touch_updated_at();
alter table billing.payment_refunds enable row level security;
create policy "Members may read their workspace's refunds" on billing.payment_refunds for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.payment_refunds from public, anon, authenticated, service_role;
grant select on table billing.payment_refunds to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('payment_not_refundable', 'PT409', 'Refund what is paid and not disputed; ask support about a plan that has begun.'),
  ('credits_spent', 'PT409', 'Refund at most what the unspent credits are worth, or ask support for the rest.');
insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.refund_payment', 'Carries out a refund at the payment provider and sees it through.', null,
    interval '60 days'),
  ('billing.sync_refunds', 'Asks the provider for a payment''s refunds that no event has told of.', null,
    interval '2 days');

-- Puts credits back that a claw-back had taken, as prepaid balance, once for a key: the reverse booking, so that
-- they can be taken again.
create function billing._give_back(payment billing.payments, amount_micro bigint, reason text, key text) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform billing._lock_wallet(payment.workspace_id);
  if amount_micro > 0 and not exists (select from billing.ledger_transactions t
    where t.workspace_id = payment.workspace_id and t.key = _give_back.key) then
    perform billing._post(payment.workspace_id, 'claw_back', array[
      row('prepaid', null, amount_micro), row('payments', null, -amount_micro)]::billing.posting[],
      key, payment_id => payment.id, reason => reason);
  end if;
end $$;
comment on function billing._give_back is 'Puts back credits that were taken for a returned payment, once for a key.';
revoke all on function billing._give_back from public, anon, authenticated, service_role;

-- The payment's sum of refunds and the status that follows from it.
create function billing._sum_refunds(payment_id uuid) returns void
language sql
set search_path = ''
as $$
  update billing.payments p
  set refunded_minor = s.total,
    status = case s.total when 0 then 'succeeded' when p.amount_minor then 'refunded' else 'partially_refunded' end
  from (select coalesce(sum(r.amount_minor), 0) as total from billing.payment_refunds r
    where r.payment_id = _sum_refunds.payment_id and r.status in ('pending', 'succeeded')) s
  where p.id = _sum_refunds.payment_id
$$;
comment on function billing._sum_refunds(uuid) is
  'Brings refunded_minor and status of a payment in line with its refunds.';
revoke all on function billing._sum_refunds from public, anon, authenticated, service_role;

-- Opens a refund of a locked, paid payment: its row, the credits back, the payment's sum. Credits are returned in
-- proportion, so that all of them are back when all the money is. Error: refund_too_large.
create function billing._open_refund(payment billing.payments, amount_minor bigint, reason text, key text,
  requested_by uuid, provider_refund_id text) returns billing.payment_refunds
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_refund billing.payment_refunds;
  v_credits bigint;
  v_taken jsonb;
begin
  if amount_minor > payment.amount_minor - payment.refunded_minor then
    perform private.fail('refund_too_large', format('Of %s minor units of %s, %s are refunded already.',
      payment.amount_minor, payment.currency, payment.refunded_minor),
      jsonb_build_object('refundable_minor', payment.amount_minor - payment.refunded_minor));
  end if;
  select floor(payment.credits_micro::numeric * (payment.refunded_minor + amount_minor) / payment.amount_minor)
    - coalesce(sum(r.taken_micro + r.missing_micro), 0) into v_credits
  from billing.payment_refunds r where r.payment_id = payment.id and r.status in ('pending', 'succeeded');
  insert into billing.payment_refunds (payment_id, workspace_id, provider, provider_refund_id, amount_minor, currency,
    reason, key, requested_by)
  values (payment.id, payment.workspace_id, payment.provider, provider_refund_id, amount_minor, payment.currency,
    reason, key, requested_by)
  returning * into v_refund;
  if v_credits > 0 then
    perform billing._lock_wallet(payment.workspace_id);
    perform billing._hold_reload(payment.workspace_id);
    v_taken := billing.claw_back(payment.id, v_credits, reason, 'refund:' || v_refund.id);
    perform billing._resume_reload(payment.workspace_id, 'refunded', true);
    update billing.payment_refunds r
    set taken_micro = (v_taken ->> 'taken_micro')::bigint, missing_micro = (v_taken ->> 'missing_micro')::bigint,
      disputed_micro = least((v_taken ->> 'missing_micro')::bigint, billing._disputed_credits(payment.id))
    where r.id = v_refund.id returning * into v_refund;
  end if;
  perform billing._sum_refunds(payment.id);
  perform billing._record_money('refund:' || v_refund.id, payment, 'refund', -amount_minor, -v_refund.taken_micro,
    'pending', reason, v_refund.requested_by);
  return v_refund;
end $$;
comment on function billing._open_refund is 'Records a refund and takes its credits back.';
revoke all on function billing._open_refund from public, anon, authenticated, service_role;

-- Ends a refund, or undoes one that the bank returned; a later state is never replaced by an earlier one.
create function billing._settle_refund(refund billing.payment_refunds, status text, error text) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_progress text[] := array['pending', 'succeeded', 'failed', 'cancelled'];
  v_payment billing.payments;
begin
  if array_position(v_progress, status) <= array_position(v_progress, refund.status)
    or refund.status in ('failed', 'cancelled') then
    return refund.status;
  end if;
  select * into v_payment from billing.payments p where p.id = refund.payment_id;
  update billing.payment_refunds r
  set status = _settle_refund.status, error = _settle_refund.error, settled_at = private.now() where r.id = refund.id;
  if status in ('failed', 'cancelled') then
    -- of a plan nothing comes back but its time, and whoever opens plans takes the wallet last
    if v_payment.credits_micro > 0 then
      perform billing._give_back(v_payment, refund.taken_micro, 'the refund did not happen',
        'refund_returned:' || refund.id);
      perform billing._take_for_disputes(v_payment, refund.taken_micro
        - billing._take_waiting_refunds(v_payment, refund.taken_micro, refund.id), refund.id);
    end if;
    perform billing._sum_refunds(refund.payment_id);
  end if;
  perform billing._end_money(refund, case status when 'succeeded' then 'completed' else 'failed' end);
  perform private.notify_user(coalesce(refund.requested_by, v_payment.user_id), refund.workspace_id,
    case status when 'succeeded' then 'success' else 'error' end,
    case status when 'succeeded' then 'Payment refunded' else 'Refund failed' end,
    case status when 'succeeded' then 'The money is on its way back.' else 'The credits have been put back.' end,
    '/billing', jsonb_build_object('refund_id', refund.id, 'payment_id', refund.payment_id),
    format('refund:%s:%s', refund.id, status), 'billing.refund_' || status);
  return status;
end $$;
comment on function billing._settle_refund is 'Ends a refund; one that failed puts its credits back.';
revoke all on function billing._settle_refund from public, anon, authenticated, service_role;

-- What the provider says of a refund: ours by its id or by the one we gave it (refund_id), else one made at the
-- provider, which is recorded now. Returns its status, null when the payment is not ours. status: pending,
-- succeeded, failed, cancelled.
create function billing.apply_refund(provider text, provider_payment_id text, provider_refund_id text,
  amount_minor bigint, status text, refund_id uuid default null, error text default null) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payment billing.payments;
  v_refund billing.payment_refunds;
begin
  select * into v_payment from billing.payments p
  where p.provider = apply_refund.provider and p.provider_payment_id = apply_refund.provider_payment_id
    and p.paid_at is not null for no key update;
  if not found then
    return null;
  end if;
  perform billing._lock_wallet(v_payment.workspace_id) where v_payment.credits_micro > 0;
  select * into v_refund from billing.payment_refunds r
  where r.payment_id = v_payment.id and (r.provider_refund_id = apply_refund.provider_refund_id
    or (r.provider_refund_id is null and r.id = apply_refund.refund_id));
  if not found then
    if status in ('failed', 'cancelled') then
      return status;
    end if;
    v_refund := billing._open_refund(v_payment, amount_minor, 'refunded at the payment provider', null, null,
      provider_refund_id);
  elsif v_refund.provider_refund_id is null then
    update billing.payment_refunds r set provider_refund_id = apply_refund.provider_refund_id where r.id = v_refund.id;
  end if;
  return billing._settle_refund(v_refund, status, error);
end $$;
comment on function billing.apply_refund is
  'Records what the provider says of a refund; safe to repeat and in any order.';
revoke all on function billing.apply_refund from public, anon, authenticated, service_role;
grant execute on function billing.apply_refund to service_role;

-- The provider refused a refund that was asked for. Error: unknown_payment.
create function billing.refuse_refund(refund_id uuid, error text) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_refund billing.payment_refunds;
begin
  perform p.id from billing.payments p join billing.payment_refunds r on r.payment_id = p.id
    where r.id = refuse_refund.refund_id for no key update of p;
  perform billing._lock_wallet(p.workspace_id)
  from billing.payments p join billing.payment_refunds r on r.payment_id = p.id
  where r.id = refuse_refund.refund_id and p.credits_micro > 0;
  select * into v_refund from billing.payment_refunds r where r.id = refuse_refund.refund_id;
  if not found then
    perform private.fail('unknown_payment', 'There is no such refund.', jsonb_build_object('refund_id', refund_id));
  end if;
  return billing._settle_refund(v_refund, 'failed', error);
end $$;
comment on function billing.refuse_refund(uuid, text) is 'Ends a refund that the provider would not make.';
revoke all on function billing.refuse_refund from public, anon, authenticated, service_role;
grant execute on function billing.refuse_refund to service_role;
