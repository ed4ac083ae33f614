-- Redeeming a voucher, and what it brings. A code that is refused is an answer, not an error: an error would undo
-- the count of attempts that makes guessing slow.

create type billing.voucher_result as (
  redemption_id uuid, outcome text, error text, message text, hint text, kind text, credits_micro bigint,
  bonus_percent numeric, subscription_id uuid, created boolean
);
comment on type billing.voucher_result is
  'outcome is applied, pending (a bonus waits for the next purchase) or refused; error and hint say why.';

create function billing._refused_voucher(error text, message text) returns billing.voucher_result
language sql stable
set search_path = ''
as $$
  select row(null, 'refused', e.name, message, e.hint, null, 0, null, null, false)::billing.voucher_result
  from private.error_codes e where e.name = error
$$;
comment on function billing._refused_voucher(text, text) is 'The answer to a voucher that cannot be redeemed.';
revoke all on function billing._refused_voucher from public, anon, authenticated, service_role;

create function billing._redemption_result(redemption billing.voucher_redemptions, created boolean)
returns billing.voucher_result
language sql stable
set search_path = ''
as $$
  select row(redemption.id, case redemption.status when 'pending' then 'pending' else 'applied' end, null, null, null,
    redemption.kind, redemption.credits_micro, redemption.bonus_percent, redemption.subscription_id,
    created)::billing.voucher_result
$$;
comment on function billing._redemption_result is 'The answer to a voucher that was redeemed.';
revoke all on function billing._redemption_result from public, anon, authenticated, service_role;

-- Why a person may not use a voucher now; null: they may. The caller holds the voucher's lock.
create function billing._voucher_obstacle(voucher billing.vouchers, uses integer) returns text
language sql stable
set search_path = ''
as $$
  select case
    when voucher.id is null or voucher.status = 'inactive' then 'unknown_voucher'
    when voucher.starts_at > private.now() then 'voucher_not_yet_valid'
    when voucher.expires_at <= private.now() then 'voucher_expired'
    when voucher.redemption_count >= voucher.max_redemptions then 'voucher_depleted'
    when uses >= voucher.max_per_user then 'voucher_already_used' end
$$;
comment on function billing._voucher_obstacle is 'The error that keeps a voucher from being redeemed, or null.';
revoke all on function billing._voucher_obstacle from public, anon, authenticated, service_role;

-- Starts the trial a voucher gives: a subscription that no provider knows. Null when the workspace has a plan in
-- the app already, or had a trial of it.
create function billing._start_voucher_trial(voucher billing.vouchers, workspace_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_plan billing.plans;
  v_ends timestamptz := private.now() + make_interval(days => voucher.trial_days);
  v_id uuid;
begin
  select * into v_plan from billing.plans p where p.id = voucher.plan_id and p.deleted_at is null;
  if not found then
    return null;
  end if;
  insert into billing.subscriptions as s (workspace_id, app, plan_id, status, current_period_start,
    current_period_end, allowance_anchor_at, trial_start, trial_end, metadata)
  values (workspace_id, v_plan.app, v_plan.id, 'trialing', private.now(), v_ends, private.now(), private.now(), v_ends,
    jsonb_build_object('voucher_id', voucher.id))
  on conflict on constraint subscriptions_workspace_app_key do update
  set plan_id = excluded.plan_id, plan_price_id = null, status = 'trialing', provider = null,
    provider_subscription_id = null, provider_schedule_id = null, provider_created_at = null,
    current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
    allowance_anchor_at = excluded.allowance_anchor_at, trial_start = excluded.trial_start,
    trial_end = excluded.trial_end, cancel_at_period_end = false, cancel_at = null, cancelled_at = null,
    ended_at = null, scheduled_plan_id = null, scheduled_plan_price_id = null, scheduled_at = null, payment_url = null,
    metadata = s.metadata || excluded.metadata
  where s.status in ('cancelled', 'incomplete_expired') and s.trial_start is null
  returning s.id into v_id;
  return v_id;
end $$;
comment on function billing._start_voucher_trial is 'Gives a workspace the trial of a voucher; null when it may not.';
revoke all on function billing._start_voucher_trial from public, anon, authenticated, service_role;

-- Counts the use and gives what the voucher gives. The caller holds the voucher's lock and has checked it.
create function billing._apply_voucher(voucher billing.vouchers, workspace_id uuid, user_id uuid, use_number integer,
  key text)
returns billing.voucher_redemptions
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_id uuid := gen_random_uuid();
  v_transaction bigint;
  v_subscription uuid;
  v_redemption billing.voucher_redemptions;
begin
  if voucher.kind = 'trial' then
    v_subscription := billing._start_voucher_trial(voucher, workspace_id);
    if v_subscription is null then
      return null;
    end if;
  elsif voucher.kind = 'credits' then
    v_transaction := (select g.ledger_transaction_id
      from billing._grant(workspace_id, voucher.credits_micro, 'voucher', 'voucher:' || v_id,
        private.now() + make_interval(days => voucher.credits_valid_days),
        jsonb_build_object('voucher_id', voucher.id, 'redemption_id', v_id), null) g);
  end if;
  update billing.vouchers v set redemption_count = v.redemption_count + 1 where v.id = voucher.id;
  insert into billing.voucher_redemptions (id, voucher_id, user_id, workspace_id, kind, status, use_number,
    key, credits_micro, bonus_percent, bonus_limit_micro, subscription_id, ledger_transaction_id, redeemed_at,
    applied_at, expires_at)
  values (v_id, voucher.id, user_id, workspace_id, voucher.kind,
    case voucher.kind when 'bonus' then 'pending' else 'applied' end, use_number, key,
    coalesce(voucher.credits_micro, 0), voucher.bonus_percent, voucher.bonus_limit_micro, v_subscription,
    v_transaction, private.now(), case when voucher.kind <> 'bonus' then private.now() end,
    case voucher.kind when 'bonus' then voucher.expires_at end)
  returning * into v_redemption;
  return v_redemption;
end $$;
comment on function billing._apply_voucher is 'Records one use of a voucher and gives its credits, bonus or trial.';
revoke all on function billing._apply_voucher from public, anon, authenticated, service_role;

create function billing._voucher_words(subject text) returns text
language sql immutable
set search_path = ''
as $$
  select case subject
    when 'credits' then 'The voucher''s credits have been added to the balance.'
    when 'bonus' then 'The next purchase of credits brings the voucher''s bonus.'
    when 'trial' then 'The voucher''s trial has begun.'
    when 'unknown_voucher' then 'There is no such voucher.'
    when 'voucher_not_yet_valid' then 'This voucher is not valid yet.'
    when 'voucher_expired' then 'This voucher''s time is over.'
    when 'voucher_depleted' then 'This voucher has been used up.'
    when 'voucher_already_used' then 'This person has used the voucher before.'
    when 'voucher_not_applicable' then 'The workspace has, or had, a plan in this app.' end
$$;
comment on function billing._voucher_words(text) is 'What people are told about a voucher, by its kind or the error.';
revoke all on function billing._voucher_words from public, anon, authenticated, service_role;

-- Errors: not_signed_in, unknown_workspace, role_too_low, too_many_attempts.
create function private.check_voucher_caller(workspace_id uuid) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_user uuid := auth.uid();
  v_address text := encode(private.request_address_hash(), 'hex');
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can redeem a voucher.');
  end if;
  perform private.require_role(workspace_id, 'member');
  if not ops.check_rate_limit('voucher:' || v_user, 20, interval '15 minutes')
    or (v_address is not null and not ops.check_rate_limit('voucher:' || v_address, 60, interval '15 minutes')) then
    perform private.fail('too_many_attempts', 'Too many codes were tried.', '{"most": 20, "per_minutes": 15}');
  end if;
  return v_user;
end $$;
comment on function private.check_voucher_caller(uuid) is
  'The person who tries a code, after asking for their role and counting the attempt.';
revoke all on function private.check_voucher_caller from public, anon, authenticated, service_role;

create function private.redeem_voucher(workspace_id uuid, code text, app text, key text)
returns billing.voucher_result
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_user uuid := auth.uid();
  v_voucher billing.vouchers;
  v_known billing.voucher_redemptions;
  v_uses integer;
  v_error text;
begin
  perform private.check_voucher_caller(workspace_id);
  if key is not null then
    perform billing._check_key(key);
  end if;
  select * into v_voucher from billing.vouchers v
  where v.code = upper(btrim(left(code, 100))) and (v.app is null or app is null or v.app = app) for no key update;
  select * into v_known from billing.voucher_redemptions r where r.user_id = v_user and r.key = redeem_voucher.key;
  if found then
    if v_known.voucher_id is distinct from v_voucher.id or v_known.workspace_id <> workspace_id then
      perform private.fail('key_reused', 'This key has been used for a different voucher.',
        jsonb_build_object('key', key));
    end if;
    return billing._redemption_result(v_known, false);
  end if;
  v_uses := (select count(*) from billing.voucher_redemptions r
    where r.voucher_id = v_voucher.id and r.user_id = v_user);
  v_error := billing._voucher_obstacle(v_voucher, v_uses);
  if v_error is null then
    v_known := billing._apply_voucher(v_voucher, workspace_id, v_user, v_uses + 1, key);
    v_error := case when v_known.id is null then 'voucher_not_applicable' end;
  end if;
  if v_error is not null then
    return billing._refused_voucher(v_error, billing._voucher_words(v_error));
  end if;
  perform private.notify_user(v_user, workspace_id, 'success', 'Voucher redeemed', billing._voucher_words(v_known.kind),
    '/billing', jsonb_build_object('redemption_id', v_known.id, 'credits_micro', v_known.credits_micro),
    'voucher:' || v_known.id, 'billing.voucher_redeemed');
  return billing._redemption_result(v_known, true);
end $$;
comment on function private.redeem_voucher is 'Core of billing.redeem_voucher; checks the caller first.';
revoke all on function private.redeem_voucher from public, anon, authenticated, service_role;
grant execute on function private.redeem_voucher to authenticated;

-- Redeems a code into a workspace of which the caller is a member; app names the app it is typed in. With a key a
-- repeat answers the same redemption. A refused code is an answer (outcome refused, error, hint), so that attempts
-- stay counted: 20 a person in 15 minutes. Errors: unknown_workspace, role_too_low, not_signed_in,
-- too_many_attempts, key_required, key_reused.
create function billing.redeem_voucher(workspace_id uuid, code text, app text default null, key text default null)
returns billing.voucher_result
language sql
set search_path = ''
as $$ select private.redeem_voucher(workspace_id, code, app, key) $$;
comment on function billing.redeem_voucher is
  'Redeems a voucher into a workspace: credits at once, a bonus at the next purchase, or a trial.';
revoke all on function billing.redeem_voucher from public, anon, authenticated, service_role;
grant execute on function billing.redeem_voucher to authenticated;

-- The bonus of a purchase that has just succeeded: the workspace's oldest pending one, once for a payment.
create function billing._apply_bonus(payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_bonus billing.voucher_redemptions;
  v_voucher billing.vouchers;
  v_credits bigint;
  v_transaction bigint;
begin
  select * into v_bonus from billing.voucher_redemptions r
  where r.workspace_id = payment.workspace_id and r.status = 'pending'
    and (r.expires_at is null or r.expires_at > private.now())
  order by r.redeemed_at, r.created_at, r.id limit 1 for update;
  v_credits := floor(payment.credits_micro * v_bonus.bonus_percent / 100);
  -- the ledger's largest grant, because a bonus must never be what a purchase fails by
  v_credits := least(v_credits, v_bonus.bonus_limit_micro, 1000000000000);
  if v_bonus.id is null or coalesce(v_credits, 0) < 1
    or exists (select from billing.voucher_redemptions r where r.payment_id = payment.id) then
    return;
  end if;
  select * into v_voucher from billing.vouchers v where v.id = v_bonus.voucher_id;
  v_transaction := (select g.ledger_transaction_id from billing._grant(payment.workspace_id, v_credits, 'voucher',
    'voucher:' || v_bonus.id, private.now() + make_interval(days => v_voucher.credits_valid_days),
    jsonb_build_object('voucher_id', v_voucher.id, 'redemption_id', v_bonus.id, 'payment_id', payment.id), null) g);
  update billing.voucher_redemptions r
  set status = 'applied', applied_at = private.now(), payment_id = payment.id, credits_micro = v_credits,
    ledger_transaction_id = v_transaction
  where r.id = v_bonus.id;
  perform private.notify_user(v_bonus.user_id, payment.workspace_id, 'success', 'Bonus credits',
    'The voucher''s bonus has been added to the purchase.', '/billing',
    jsonb_build_object('redemption_id', v_bonus.id, 'credits_micro', v_credits, 'payment_id', payment.id),
    'voucher_bonus:' || v_bonus.id, 'billing.voucher_bonus');
end $$;
comment on function billing._apply_bonus(billing.payments) is 'Books the bonus that waits for a workspace''s purchase.';
revoke all on function billing._apply_bonus from public, anon, authenticated, service_role;

create function billing._bonus_on_payment() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' or old.paid_at is null then
    perform billing._apply_bonus(new);
  end if;
  return null;
end $$;
comment on function billing._bonus_on_payment() is
  'Trigger: a purchase that succeeds brings the bonus that waits for it.';
revoke all on function billing._bonus_on_payment from public, anon, authenticated, service_role;
create trigger payments_bonus after insert or update of status on billing.payments for each row
  when (new.kind <> 'subscription' and new.status = 'succeeded') execute function billing._bonus_on_payment();

-- What waits too long ends: bonuses nobody bought for, trials that no provider knows of.
create function billing.end_voucher_benefits() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_bonuses integer;
  v_trials integer;
begin
  update billing.voucher_redemptions r set status = 'expired'
  where r.id in (select o.id from billing.voucher_redemptions o
    where o.status = 'pending' and o.expires_at <= private.now() limit 500 for update skip locked);
  get diagnostics v_bonuses = row_count;
  update billing.subscriptions s set status = 'cancelled', cancelled_at = private.now()
  where s.id in (select o.id from billing.subscriptions o
    join billing.voucher_redemptions r on r.subscription_id = o.id and r.kind = 'trial'
    join billing.wallets w on w.workspace_id = o.workspace_id
    where o.status = 'trialing' and o.provider is null and o.trial_end <= private.now()
      and coalesce(private.trial_extended_to(o.workspace_id, o.app) <= private.now(), true)
    order by o.workspace_id limit 500 for no key update of w, o skip locked);
  get diagnostics v_trials = row_count;
  return v_bonuses + v_trials;
end $$;
comment on function billing.end_voucher_benefits() is
  'Sweep: ends bonuses that waited too long and trials of vouchers that are over; returns how many.';
revoke all on function billing.end_voucher_benefits from public, anon, authenticated, service_role;
grant execute on function billing.end_voucher_benefits to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('end voucher benefits', 'billing.end_voucher_benefits', interval '5 minutes');
