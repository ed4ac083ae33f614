-- Referrals: a person invites another by their code; when that one qualifies, both get credits. Before that the two
-- are compared: who refers himself, in a circle, from one address or one device gets nothing, or waits for a look.

create table billing.referral_programs (
  id uuid primary key default gen_random_uuid(),
  slug text not null,
  qualifies_on text not null default 'first_payment',
  referrer_micro bigint not null default 0,
  referee_micro bigint not null default 0,
  credits_valid_days integer,
  max_rewards_total integer,
  max_rewards_monthly integer,
  claim_days integer not null default 14,
  hold_days integer not null default 14,
  is_active boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint referral_programs_slug_key unique (slug),
  constraint referral_programs_slug_shape check (slug ~ '^[a-z0-9][a-z0-9_-]*$'),
  constraint referral_programs_qualifies_on_known check (qualifies_on in ('email_verified', 'first_payment')),
  constraint referral_programs_amounts_in_range check (referrer_micro between 0 and 1000000000000
    and referee_micro between 0 and 1000000000000 and credits_valid_days between 1 and 36500
    and max_rewards_total >= 0 and max_rewards_monthly >= 0 and claim_days between 1 and 365
    and hold_days between 0 and 365)
);
comment on table billing.referral_programs is
  'Terms of referrals in micro-units; a referral keeps those that were in force when it was made.';
comment on column billing.referral_programs.claim_days is 'How long after signing up a code may still be named.';
comment on column billing.referral_programs.hold_days is
  'How long after qualifying rewards are given; what is refunded meanwhile brings none, what is refunded later does.';
comment on column billing.referral_programs.max_rewards_monthly is 'For one referrer in any 30 days; null: any number.';
create unique index referral_programs_one_active on billing.referral_programs (is_active) where is_active;
create trigger referral_programs_touch before update on billing.referral_programs for each row
  execute function private.touch_updated_at();
alter table billing.referral_programs enable row level security;
create policy "Everybody may read the terms in force" on billing.referral_programs for select to anon, authenticated
  using (is_active);
revoke all on table billing.referral_programs from public, anon, authenticated, service_role;
grant select on table billing.referral_programs to anon, authenticated;
grant select, insert, update, delete on table billing.referral_programs to service_role;
-- No document states what a referral brought, so nothing is given until an operator says what.
insert into billing.referral_programs (slug, is_active) values ('standard', true);

create table billing.referrals (
  id uuid primary key default gen_random_uuid(),
  program_id uuid not null,
  referrer_id uuid not null,
  referee_id uuid not null,
  code text not null,
  status text not null default 'pending',
  faults text[] not null default '{}',
  address_hash bytea,
  device_fingerprint text,
  referrer_micro bigint not null default 0,
  referee_micro bigint not null default 0,
  capped boolean not null default false,
  qualified_at timestamptz,
  payment_id uuid,
  completed_at timestamptz,
  reviewed_by uuid,
  reviewed_at timestamptz,
  review_note text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint referrals_program_id_fkey foreign key (program_id) references billing.referral_programs (id),
  constraint referrals_referrer_id_fkey foreign key (referrer_id) references auth.users (id) on delete cascade,
  constraint referrals_referee_id_fkey foreign key (referee_id) references auth.users (id) on delete cascade,
  constraint referrals_reviewed_by_fkey foreign key (reviewed_by) references auth.users (id) on delete set null,
  constraint referrals_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint referrals_one_each unique (referee_id),
  constraint referrals_status_known check (status in ('pending', 'review', 'completed', 'invalid')),
  constraint referrals_ended_has_time check ((status in ('completed', 'invalid')) = (completed_at is not null)),
  constraint referrals_completed_qualified check (status <> 'completed' or qualified_at is not null),
  constraint referrals_only_completed_pays check (referrer_micro >= 0 and referee_micro >= 0
    and (status = 'completed' or referrer_micro + referee_micro = 0)),
  constraint referrals_faults_known
    check (faults <@ array['self', 'loop', 'same_address', 'same_device', 'same_mailbox']),
  constraint referrals_device_fingerprint_length check (char_length(device_fingerprint) <= 255)
);
comment on table billing.referrals is
  'Who brought whom: pending until the referee qualifies, then rewarded, doubted (review) or refused.';
comment on column billing.referrals.faults is 'What speaks against it: see billing._referral_faults.';
comment on column billing.referrals.payment_id is 'The first payment, by which the referee qualified.';
comment on column billing.referrals.capped is 'The referrer had as many rewards as the terms allow and got none.';
create index referrals_program_id on billing.referrals (program_id);
create index referrals_referrer_id on billing.referrals (referrer_id, status, completed_at);
create index referrals_reviewed_by on billing.referrals (reviewed_by) where reviewed_by is not null;
create index referrals_payment_id on billing.referrals (payment_id) where payment_id is not null;
create index referrals_status on billing.referrals (status, created_at);
create index referrals_due on billing.referrals (qualified_at) where status = 'pending' and qualified_at is not null;
create trigger referrals_touch before update on billing.referrals for each row
  execute function private.touch_updated_at();
alter table billing.referrals enable row level security;
create policy "People see the referrals they made and their own" on billing.referrals for select to authenticated
  using (referrer_id = (select auth.uid()) or referee_id = (select auth.uid()));
revoke all on table billing.referrals from public, anon, authenticated, service_role;
-- not the other's address, device, or what speaks against them
grant select (id, program_id, referrer_id, referee_id, code, status, referrer_micro, referee_micro, capped,
  qualified_at, completed_at, created_at, updated_at) on table billing.referrals to authenticated;
grant select on table billing.referrals to service_role;

-- The box an address really reaches: letters fold, what follows a plus goes, as do the dots of Gmail.
create function private.mailbox_of(email text) returns text
language sql immutable
set search_path = ''
as $$
  select case when domain in ('gmail.com', 'googlemail.com') then replace(box, '.', '') || '@gmail.com'
    else box || '@' || domain end
  from (select split_part(split_part(lower(email), '@', 1), '+', 1), split_part(lower(email), '@', 2)) p (box, domain)
  where email like '%_@_%'
$$;
comment on function private.mailbox_of(text) is 'An e-mail address reduced to the mailbox behind it.';
revoke all on function private.mailbox_of from public, anon, authenticated, service_role;

-- Addresses (hashed) and devices a person was seen with.
create function private.traces_of(user_id uuid) returns table (kind text, trace text)
language sql stable
set search_path = ''
as $$
  select 'address', encode(private.address_hash(host(d.ip_address)), 'hex') from identity.user_devices d
  where d.user_id = traces_of.user_id and d.ip_address is not null
  union
  select 'address', encode(private.address_hash(host(e.ip_address)), 'hex') from identity.session_events e
  where e.user_id = traces_of.user_id and e.ip_address is not null
  union
  select 'address', encode(private.address_hash(host(l.ip_address)), 'hex') from identity.sso_audit_log l
  where l.user_id = traces_of.user_id and l.ip_address is not null
  union
  select 'device', d.device_fingerprint from identity.user_devices d
  where d.user_id = traces_of.user_id and d.device_fingerprint is not null
$$;
comment on function private.traces_of(uuid) is 'Hashed addresses and device fingerprints that a person was seen with.';
revoke all on function private.traces_of from public, anon, authenticated, service_role;

-- What speaks against a referral. self: referrer and referee are one; loop: the referee brought the referrer, directly
-- or through others; same_mailbox: their addresses reach one mailbox; same_address and same_device: both were seen
-- with it, or the referee named the code from there.
create function billing._referral_faults(referrer_id uuid, referee_id uuid, address_hash bytea,
  device_fingerprint text default null) returns text[]
language sql stable
set search_path = ''
as $$
  with recursive line (person, depth) as (
    select _referral_faults.referrer_id, 0
    union all
    select r.referrer_id, l.depth + 1
    from line l join billing.referrals r on r.referee_id = l.person and r.status <> 'invalid' where l.depth < 100
  ), of_referrer as (
    select * from private.traces_of(_referral_faults.referrer_id)
  ), of_referee as (
    select * from private.traces_of(_referral_faults.referee_id)
    union select 'address', encode(_referral_faults.address_hash, 'hex')
    union select 'device', _referral_faults.device_fingerprint
  ), common as (
    select o.kind from of_referrer o join of_referee e on e.kind = o.kind and e.trace = o.trace
  )
  select array_remove(array[
    case when _referral_faults.referrer_id = _referral_faults.referee_id then 'self' end,
    case when exists (select from line l where l.person = _referral_faults.referee_id and l.depth > 0)
      then 'loop' end,
    case when (select private.mailbox_of(u.email) from auth.users u where u.id = _referral_faults.referrer_id)
      = (select private.mailbox_of(u.email) from auth.users u where u.id = _referral_faults.referee_id)
      then 'same_mailbox' end,
    case when exists (select from common c where c.kind = 'address') then 'same_address' end,
    case when exists (select from common c where c.kind = 'device') then 'same_device' end], null)
$$;
comment on function billing._referral_faults is 'What speaks against one person having brought another, by name.';
revoke all on function billing._referral_faults from public, anon, authenticated, service_role;

-- Records a referral; one that is a fraud on its face is refused at once. Null when the referee has one already.
create function billing._make_referral(referrer_id uuid, referee_id uuid, code text, device_fingerprint text)
returns billing.referrals
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_referral billing.referrals;
begin
  insert into billing.referrals
    (program_id, referrer_id, referee_id, code, address_hash, device_fingerprint, created_at)
  select p.id, referrer_id, referee_id, code, private.request_address_hash(), left(device_fingerprint, 255),
    private.now()
  from billing.referral_programs p where p.is_active
  on conflict on constraint referrals_one_each do nothing
  returning * into v_referral;
  if v_referral.id is null then
    return null;
  end if;
  update billing.referrals r
  set faults = f.faults, status = case when f.faults && array['self', 'loop'] then 'invalid' else 'pending' end,
    completed_at = case when f.faults && array['self', 'loop'] then private.now() end
  from (select billing._referral_faults(referrer_id, referee_id, v_referral.address_hash,
    v_referral.device_fingerprint)) f (faults)
  where r.id = v_referral.id
  returning r.* into v_referral;
  return v_referral;
end $$;
comment on function billing._make_referral is 'Records who brought whom, once for each person brought.';
revoke all on function billing._make_referral from public, anon, authenticated, service_role;

-- A sign-up that named a code.
create function billing._refer_new_person() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform billing._make_referral(new.referred_by, new.user_id,
    (select d.referral_code from identity.personal_details d where d.user_id = new.referred_by), null);
  return null;
end $$;
comment on function billing._refer_new_person() is 'Trigger: a person who signs up by a code becomes a referral.';
revoke all on function billing._refer_new_person from public, anon, authenticated, service_role;
create trigger personal_details_refer after insert on identity.personal_details for each row
  when (new.referred_by is not null) execute function billing._refer_new_person();

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
  elsif tg_op = 'INSERT' or old.paid_at is null or old.status = 'refunded' then
    update billing.referrals r set qualified_at = private.now(), payment_id = new.id
    from billing.referral_programs p
    where r.referee_id = billing._payer_of(new) and r.status = 'pending' and r.qualified_at is null
      and p.id = r.program_id and p.qualifies_on = 'first_payment';
  end if;
  return null;
end $$;
comment on function billing._qualify_by_payment() is
  'Trigger: a referee''s payment qualifies them; one refunded before the reward does not, unless that is refused.';
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
  v_faults text[] := billing._referral_faults(referral.referrer_id, referral.referee_id, referral.address_hash,
    referral.device_fingerprint);
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
      -- what a bank asks back, or has got back, is no payment
      and not exists (select from billing.disputes d where d.payment_id = r.payment_id and d.frozen_at is not null
        and d.released_at is null)
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
