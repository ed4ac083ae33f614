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
  hold_days integer not null default 0,
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
  'How long after qualifying the rewards are given; a payment refunded meanwhile does not count.';
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
create function billing._referral_faults(referral billing.referrals) returns text[]
language sql stable
set search_path = ''
as $$
  with recursive line (person, depth) as (
    select referral.referrer_id, 0
    union all
    select r.referrer_id, l.depth + 1
    from line l join billing.referrals r on r.referee_id = l.person and r.status <> 'invalid' where l.depth < 100
  ), of_referrer as (
    select * from private.traces_of(referral.referrer_id)
  ), of_referee as (
    select * from private.traces_of(referral.referee_id)
    union select 'address', encode(referral.address_hash, 'hex')
    union select 'device', referral.device_fingerprint
  ), common as (
    select o.kind from of_referrer o join of_referee e on e.kind = o.kind and e.trace = o.trace
  )
  select array_remove(array[
    case when referral.referrer_id = referral.referee_id then 'self' end,
    case when exists (select from line l where l.person = referral.referee_id and l.depth > 0) then 'loop' end,
    case when (select private.mailbox_of(u.email) from auth.users u where u.id = referral.referrer_id)
      = (select private.mailbox_of(u.email) from auth.users u where u.id = referral.referee_id)
      then 'same_mailbox' end,
    case when exists (select from common c where c.kind = 'address') then 'same_address' end,
    case when exists (select from common c where c.kind = 'device') then 'same_device' end], null)
$$;
comment on function billing._referral_faults(billing.referrals) is 'What speaks against a referral, by name.';
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
  from (select billing._referral_faults(v_referral)) f (faults)
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
