-- How a referral goes on: a code named after signing up, the referee qualifying, rewards for both, a look by staff.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_referral', 'PT404', 'Check the referral''s id.'),
  ('unknown_referral_code', 'PT404', 'Ask the person who invited you for their code.'),
  ('referral_refused', 'PT409', 'One cannot be referred by oneself, nor twice, nor long after signing up.'),
  ('referral_ended', 'PT409', 'Only a referral that waits for a look can be reviewed.');

create type billing.referral_result as (referral_id uuid, outcome text, error text, hint text);
comment on type billing.referral_result is 'outcome is pending or refused; error and hint say why.';

create function private.claim_referral(code text, device_fingerprint text) returns billing.referral_result
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_user uuid := auth.uid();
  v_code text := upper(btrim(left(code, 100)));
  v_referrer uuid;
  v_referral billing.referrals;
  v_error text := 'referral_refused';
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can name who referred them.');
  elsif not ops.check_rate_limit('referral:' || v_user, 10, interval '15 minutes') then
    perform private.fail('too_many_attempts', 'Too many codes were tried.', '{"most": 10, "per_minutes": 15}');
  end if;
  select d.user_id into v_referrer from identity.personal_details d where d.referral_code = v_code;
  if v_referrer is null then
    v_error := 'unknown_referral_code';
  elsif v_referrer <> v_user and exists (select from auth.users u join billing.referral_programs p on p.is_active
      where u.id = v_user and u.created_at > private.now() - make_interval(days => p.claim_days)) then
    v_referral := billing._make_referral(v_referrer, v_user, v_code, device_fingerprint);
    if v_referral.status = 'pending' then
      update identity.personal_details d set referred_by = v_referrer where d.user_id = v_user
        and d.referred_by is null;
      return row(v_referral.id, 'pending', null, null)::billing.referral_result;
    end if;
  end if;
  return (select row(null, 'refused', e.name, e.hint)::billing.referral_result
    from private.error_codes e where e.name = v_error);
end $$;
comment on function private.claim_referral(text, text) is 'Core of billing.claim_referral; acts for the caller alone.';
revoke all on function private.claim_referral from public, anon, authenticated, service_role;
grant execute on function private.claim_referral to authenticated;

-- A refused code is an answer, not an error, so that attempts stay counted: 10 in 15 minutes. A code can be named at
-- sign-up too (user metadata referral_code). Errors: not_signed_in, too_many_attempts.
create function billing.claim_referral(code text, device_fingerprint text default null)
returns billing.referral_result
language sql
set search_path = ''
as $$ select private.claim_referral(code, device_fingerprint) $$;
comment on function billing.claim_referral(text, text) is 'Names who referred the caller, soon after signing up.';
revoke all on function billing.claim_referral from public, anon, authenticated, service_role;
grant execute on function billing.claim_referral to authenticated;

-- A payment qualifies who made it; where nobody is named, who made the workspace.
create function billing._payer_of(payment billing.payments) returns uuid
language sql stable
set search_path = ''
as $$
  select coalesce(payment.user_id, (select w.created_by from identity.workspaces w where w.id = payment.workspace_id))
$$;
comment on function billing._payer_of(billing.payments) is 'The person behind a payment.';
revoke all on function billing._payer_of from public, anon, authenticated, service_role;

create function billing._qualify_by_payment() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if new.status = 'refunded' then
    update billing.referrals r set qualified_at = null, payment_id = null
    where r.payment_id = new.id and r.status = 'pending';
  elsif new.paid_at is not null and (tg_op = 'INSERT' or old.paid_at is null) then
    update billing.referrals r set qualified_at = private.now(), payment_id = new.id
    from billing.referral_programs p
    where r.referee_id = billing._payer_of(new) and r.status = 'pending' and r.qualified_at is null
      and p.id = r.program_id and p.qualifies_on = 'first_payment';
  end if;
  return null;
end $$;
comment on function billing._qualify_by_payment() is
  'Trigger: a referee''s first payment qualifies them; one refunded before the reward does not.';
revoke all on function billing._qualify_by_payment from public, anon, authenticated, service_role;
create trigger payments_qualify after insert or update of status on billing.payments for each row
  when (new.paid_at is not null) execute function billing._qualify_by_payment();

create function private.personal_workspace(user_id uuid) returns uuid
language sql stable
set search_path = ''
as $$
  select w.id from identity.workspaces w
  where w.created_by = personal_workspace.user_id and w.type = 'person' and w.deleted_at is null
$$;
comment on function private.personal_workspace(uuid) is 'A person''s own workspace, null when it is gone.';
revoke all on function private.personal_workspace from public, anon, authenticated, service_role;

-- One side's credits. 0 when there are none to give or nobody to give them to.
create function billing._reward(referral billing.referrals, side text, user_id uuid, amount_micro bigint,
  valid_days integer) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_workspace uuid := private.personal_workspace(user_id);
begin
  if v_workspace is null or amount_micro = 0 then
    return 0;
  end if;
  perform billing._grant(v_workspace, amount_micro, 'referral', format('referral:%s:%s', referral.id, side),
    private.now() + make_interval(days => valid_days), jsonb_build_object('referral_id', referral.id), null);
  perform private.notify_user(user_id, v_workspace, 'success', 'Referral reward', case side
    when 'referrer' then 'A person you invited has joined: your credits are there.'
    else 'Your credits for joining by invitation are there.' end, '/billing',
    jsonb_build_object('referral_id', referral.id, 'credits_micro', amount_micro),
    format('referral:%s:%s', referral.id, side), 'billing.referral_rewarded');
  return amount_micro;
end $$;
comment on function billing._reward is 'Gives one side of a referral its credits; returns the micro-units given.';
revoke all on function billing._reward from public, anon, authenticated, service_role;

-- Ends a referral whose referee has qualified. The caller holds the referral and both wallets, and the referrer's
-- wallet makes the count of rewards exact.
create function billing._settle_referral(referral billing.referrals) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_program billing.referral_programs;
  v_faults text[] := billing._referral_faults(referral);
  v_total integer;
  v_month integer;
  v_capped boolean;
  v_referrer bigint;
  v_referee bigint;
begin
  if v_faults && array['self', 'loop'] or (v_faults <> '{}' and referral.reviewed_at is null) then
    update billing.referrals r set faults = v_faults,
      status = case when v_faults && array['self', 'loop'] then 'invalid' else 'review' end,
      completed_at = case when v_faults && array['self', 'loop'] then private.now() end
    where r.id = referral.id returning r.status into referral.status;
    return referral.status;
  end if;
  select * into v_program from billing.referral_programs p where p.id = referral.program_id;
  select count(*), count(*) filter (where r.completed_at > private.now() - interval '30 days') into v_total, v_month
  from billing.referrals r where r.referrer_id = referral.referrer_id and r.status = 'completed'
    and r.referrer_micro > 0;
  v_capped := coalesce(v_total >= v_program.max_rewards_total, false)
    or coalesce(v_month >= v_program.max_rewards_monthly, false);
  v_referrer := billing._reward(referral, 'referrer', referral.referrer_id,
    case when v_capped then 0 else v_program.referrer_micro end, v_program.credits_valid_days);
  v_referee := billing._reward(referral, 'referee', referral.referee_id, v_program.referee_micro,
    v_program.credits_valid_days);
  update billing.referrals r
  set status = 'completed', faults = v_faults, completed_at = private.now(), capped = v_capped,
    referrer_micro = v_referrer, referee_micro = v_referee
  where r.id = referral.id;
  return 'completed';
end $$;
comment on function billing._settle_referral(billing.referrals) is
  'Rewards, doubts or refuses a referral whose referee has qualified; returns its new status.';
revoke all on function billing._settle_referral from public, anon, authenticated, service_role;

-- Sweep. It waits for no row: what is busy is settled the next time, so it is never part of a deadlock.
create function billing.settle_referrals() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_referral billing.referrals;
  v_workspaces uuid[];
  v_locked integer;
  v_settled integer := 0;
begin
  update billing.referrals r set qualified_at = private.now()
  where r.id in (select o.id from billing.referrals o
    join billing.referral_programs p on p.id = o.program_id and p.qualifies_on = 'email_verified'
    join auth.users u on u.id = o.referee_id and u.email_confirmed_at is not null
    where o.status = 'pending' and o.qualified_at is null limit 200 for update of o skip locked);
  for v_referral in
    select r.* from billing.referrals r join billing.referral_programs p on p.id = r.program_id
    where r.status = 'pending' and r.qualified_at + make_interval(days => p.hold_days) <= private.now()
    order by r.qualified_at limit 200 for update of r skip locked
  loop
    v_workspaces := array_remove(array[private.personal_workspace(v_referral.referrer_id),
      private.personal_workspace(v_referral.referee_id)], null);
    select count(*) into v_locked from (select from billing.wallets w where w.workspace_id = any (v_workspaces)
      for no key update skip locked) l;
    if v_locked = cardinality(v_workspaces) then
      perform billing._settle_referral(v_referral);
      v_settled := v_settled + 1;
    end if;
  end loop;
  return v_settled;
end $$;
comment on function billing.settle_referrals() is
  'Sweep: settles referrals whose referee has qualified; returns how many.';
revoke all on function billing.settle_referrals from public, anon, authenticated, service_role;
grant execute on function billing.settle_referrals to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('settle referrals', 'billing.settle_referrals', interval '1 minute');

-- Staff's word on a doubtful referral. Errors: unknown_referral, referral_ended.
create function billing.review_referral(referral_id uuid, accept boolean, note text default null,
  reviewer_id uuid default null) returns billing.referrals
language plpgsql security definer
set search_path = ''
as $$
declare
  v_referral billing.referrals;
begin
  update billing.referrals r
  set status = case when accept then 'pending' else 'invalid' end, reviewed_at = private.now(),
    reviewed_by = reviewer_id, review_note = note, completed_at = case when not accept then private.now() end
  where r.id = referral_id and r.status = 'review'
  returning * into v_referral;
  if not found then
    perform private.fail(case when exists (select from billing.referrals r where r.id = referral_id)
      then 'referral_ended' else 'unknown_referral' end, 'This referral does not wait for a look.',
      jsonb_build_object('referral_id', referral_id));
  end if;
  perform ops.write_audit('billing.review_referral', 'billing.referrals', null, to_jsonb(v_referral),
    actor => reviewer_id, target_id => referral_id::text);
  return v_referral;
end $$;
comment on function billing.review_referral is
  'Accepts or refuses a referral that waits for a look; written in the audit.';
revoke all on function billing.review_referral from public, anon, authenticated, service_role;
grant execute on function billing.review_referral to service_role;
