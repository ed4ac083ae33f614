-- Affiliates: people who bring customers by links and earn a share of what these pay. A visitor's click is recorded,
-- the visitor who signs up is theirs for good if the click lies within the window.

create table billing.affiliates (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  workspace_id uuid not null,
  status text not null default 'applied',
  code text not null,
  custom_slug text,
  application text,
  commission_rate numeric(5, 4) not null default 0.2,
  commission_months integer,
  attribution_days integer not null default 30,
  payout_method text not null default 'credits',
  payout_email text,
  minimum_payout_micro bigint not null default 0,
  provider_affiliate_id text,
  balance_micro bigint not null default 0,
  total_earned_micro bigint not null default 0,
  total_paid_micro bigint not null default 0,
  total_clicks integer not null default 0,
  total_referrals integer not null default 0,
  total_conversions integer not null default 0,
  reviewed_by uuid,
  review_note text,
  approved_at timestamptz,
  joined_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint affiliates_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint affiliates_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint affiliates_reviewed_by_fkey foreign key (reviewed_by) references auth.users (id) on delete set null,
  constraint affiliates_user_key unique (user_id),
  constraint affiliates_code_key unique (code),
  constraint affiliates_custom_slug_key unique (custom_slug),
  constraint affiliates_provider_key unique (provider_affiliate_id),
  constraint affiliates_status_known check (status in ('applied', 'active', 'rejected', 'suspended')),
  constraint affiliates_active_was_approved check (status not in ('active', 'suspended') or approved_at is not null),
  constraint affiliates_code_shape check (code ~ '^[A-Z0-9][A-Z0-9_-]{1,48}[A-Z0-9]$'),
  constraint affiliates_custom_slug_shape
    check (custom_slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and char_length(custom_slug) between 3 and 50),
  constraint affiliates_terms_in_range check (commission_rate between 0 and 1 and commission_months > 0
    and attribution_days between 1 and 365 and minimum_payout_micro >= 0),
  constraint affiliates_payout_method_known check (payout_method in ('credits', 'transfer', 'manual')),
  constraint affiliates_manual_has_address check (payout_method <> 'manual' or payout_email is not null),
  constraint affiliates_texts_are_short
    check (char_length(application) <= 4000 and char_length(payout_email) <= 320),
  constraint affiliates_totals_not_negative check (total_earned_micro >= 0 and total_paid_micro >= 0
    and total_clicks >= 0 and total_referrals >= 0 and total_conversions >= 0)
);
comment on table billing.affiliates is 'People who earn a share of what those they bring pay; amounts in micro-units.';
comment on column billing.affiliates.user_id is 'Null: the person has left; what they are owed stays in the books.';
comment on column billing.affiliates.workspace_id is 'Where payouts go: credits, or the money owed to be transferred.';
comment on column billing.affiliates.commission_rate is 'Share of each payment: 0.2 is a fifth.';
comment on column billing.affiliates.commission_months is 'How long after the sign-up payments count; null: for ever.';
comment on column billing.affiliates.attribution_days is 'How long after a click a sign-up is theirs.';
comment on column billing.affiliates.payout_method is
  'credits: into the wallet; transfer: by the workspace''s payout account; manual: by staff, to payout_email.';
comment on column billing.affiliates.balance_micro is
  'Cleared and not paid; below zero when what was paid has been reversed since.';
create index affiliates_workspace_id on billing.affiliates (workspace_id);
create index affiliates_reviewed_by on billing.affiliates (reviewed_by) where reviewed_by is not null;
create index affiliates_payable on billing.affiliates (id) where balance_micro > 0;
create trigger affiliates_touch before update on billing.affiliates for each row
  execute function private.touch_updated_at();
alter table billing.affiliates enable row level security;
create policy "Affiliates see themselves" on billing.affiliates for select to authenticated
  using (user_id = (select auth.uid()));
revoke all on table billing.affiliates from public, anon, authenticated, service_role;
grant select on table billing.affiliates to authenticated;
grant select, update (commission_rate, commission_months, attribution_days, minimum_payout_micro,
  provider_affiliate_id) on table billing.affiliates to service_role;

create function private.affiliate_ids() returns uuid[]
language sql stable security definer
set search_path = ''
as $$ select array(select a.id from billing.affiliates a where a.user_id = (select auth.uid())) $$;
comment on function private.affiliate_ids() is 'The affiliate that the caller is, for policies: none or one id.';
revoke all on function private.affiliate_ids from public, anon, authenticated, service_role;
grant execute on function private.affiliate_ids to authenticated, service_role;

create table billing.affiliate_clicks (
  id uuid primary key default gen_random_uuid(),
  affiliate_id uuid not null,
  user_id uuid,
  referral_code text not null,
  address_hash bytea,
  user_agent text,
  referrer_url text,
  landing_page text,
  utm_source text,
  utm_medium text,
  utm_campaign text,
  utm_term text,
  utm_content text,
  country text,
  device_type text,
  converted boolean not null default false,
  clicked_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  constraint affiliate_clicks_affiliate_id_fkey foreign key (affiliate_id) references billing.affiliates (id)
    on delete cascade,
  constraint affiliate_clicks_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint affiliate_clicks_country_shape check (country ~ '^[A-Z][A-Z0-9]$'),
  constraint affiliate_clicks_device_type_known
    check (device_type in ('desktop', 'mobile', 'tablet', 'tv', 'headset', 'other')),
  constraint affiliate_clicks_texts_are_short check (greatest(char_length(referral_code), char_length(utm_source),
    char_length(utm_medium), char_length(utm_campaign), char_length(utm_term), char_length(utm_content)) <= 255
    and greatest(char_length(user_agent), char_length(referrer_url), char_length(landing_page)) <= 2048)
);
comment on table billing.affiliate_clicks is 'Visits by an affiliate''s link, with the campaign they came from.';
comment on column billing.affiliate_clicks.address_hash is 'Salted hash of the visitor''s address, never the address.';
create index affiliate_clicks_affiliate_id on billing.affiliate_clicks (affiliate_id, clicked_at desc);
create index affiliate_clicks_user_id on billing.affiliate_clicks (user_id) where user_id is not null;
create index affiliate_clicks_clicked_at on billing.affiliate_clicks (clicked_at);
alter table billing.affiliate_clicks enable row level security;
create policy "Affiliates see the clicks on their links" on billing.affiliate_clicks for select to authenticated
  using (affiliate_id = any ((select private.affiliate_ids())::uuid[]));
revoke all on table billing.affiliate_clicks from public, anon, authenticated, service_role;
-- who the visitor was is none of the affiliate's business
grant select (id, affiliate_id, referral_code, referrer_url, landing_page, utm_source, utm_medium, utm_campaign,
  utm_term, utm_content, country, device_type, converted, clicked_at, created_at)
  on table billing.affiliate_clicks to authenticated;
grant select on table billing.affiliate_clicks to service_role;

create table billing.affiliate_referrals (
  id uuid primary key default gen_random_uuid(),
  affiliate_id uuid not null,
  user_id uuid not null,
  click_id uuid,
  referral_code text not null,
  referral_source text,
  provider_referral_id text,
  status text not null default 'pending',
  faults text[] not null default '{}',
  commission_rate numeric(5, 4) not null,
  commission_ends_at timestamptz,
  first_payment_id uuid,
  metadata jsonb not null default '{}',
  notes text,
  referred_at timestamptz not null default now(),
  converted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint affiliate_referrals_affiliate_id_fkey foreign key (affiliate_id) references billing.affiliates (id),
  constraint affiliate_referrals_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint affiliate_referrals_click_id_fkey foreign key (click_id) references billing.affiliate_clicks (id)
    on delete set null,
  constraint affiliate_referrals_first_payment_id_fkey foreign key (first_payment_id) references billing.payments (id),
  constraint affiliate_referrals_one_each unique (user_id),
  constraint affiliate_referrals_provider_key unique (provider_referral_id),
  constraint affiliate_referrals_status_known check (status in ('pending', 'converted', 'invalid')),
  constraint affiliate_referrals_converted_has_time check ((status = 'converted') <= (converted_at is not null)),
  constraint affiliate_referrals_rate_in_range check (commission_rate between 0 and 1),
  constraint affiliate_referrals_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table billing.affiliate_referrals is 'Which affiliate brought a person, at which rate, for how long.';
comment on column billing.affiliate_referrals.commission_rate is 'The affiliate''s rate when the person came.';
create index affiliate_referrals_affiliate_id on billing.affiliate_referrals (affiliate_id, referred_at desc);
create index affiliate_referrals_click_id on billing.affiliate_referrals (click_id) where click_id is not null;
create index affiliate_referrals_first_payment_id on billing.affiliate_referrals (first_payment_id)
  where first_payment_id is not null;
create trigger affiliate_referrals_touch before update on billing.affiliate_referrals for each row
  execute function private.touch_updated_at();
alter table billing.affiliate_referrals enable row level security;
create policy "Affiliates see those they brought" on billing.affiliate_referrals for select to authenticated
  using (affiliate_id = any ((select private.affiliate_ids())::uuid[]));
revoke all on table billing.affiliate_referrals from public, anon, authenticated, service_role;
grant select (id, affiliate_id, click_id, referral_code, referral_source, status, commission_rate,
  commission_ends_at, referred_at, converted_at, created_at, updated_at)
  on table billing.affiliate_referrals to authenticated;
grant select, update (provider_referral_id, metadata, notes) on table billing.affiliate_referrals to service_role;

-- What affiliates, visitors and staff do: apply, be reviewed, choose a slug and a way of payment, click, sign up.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_affiliate', 'PT404', 'Apply with billing.apply_as_affiliate first.'),
  ('slug_taken', 'PT409', 'Choose another slug.'),
  ('commissions_open', 'PT409', 'Wait until what is owed has been paid, then change where payouts go.');

create function private.apply_as_affiliate(application text, payout_method text, payout_email text)
returns billing.affiliates
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_user uuid := auth.uid();
  v_affiliate billing.affiliates;
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can become an affiliate.');
  end if;
  perform private.check_payout_choice(payout_method, payout_email);
  loop
    select * into v_affiliate from billing.affiliates a where a.user_id = v_user;
    exit when found;
    insert into billing.affiliates (user_id, workspace_id, code, application, payout_method, payout_email, joined_at)
    values (v_user, private.personal_workspace(v_user), private.new_referral_code(), left(application, 4000),
      payout_method, payout_email, private.now())
    on conflict do nothing;
  end loop;
  return v_affiliate;
end $$;
comment on function private.apply_as_affiliate is 'Core of billing.apply_as_affiliate; acts for the caller alone.';
revoke all on function private.apply_as_affiliate from public, anon, authenticated, service_role;
grant execute on function private.apply_as_affiliate to authenticated;

create function private.check_payout_choice(payout_method text, payout_email text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if payout_method is null or payout_method not in ('credits', 'transfer', 'manual') then
    perform private.fail('invalid_argument', 'payout_method must be credits, transfer or manual.',
      '{"argument": "payout_method"}');
  elsif payout_method = 'manual' and private.mailbox_of(payout_email) is null or char_length(payout_email) > 320 then
    perform private.fail('invalid_argument', 'A manual payout needs the e-mail address it goes to.',
      '{"argument": "payout_email"}');
  end if;
end $$;
comment on function private.check_payout_choice(text, text) is 'Refuses a way of payment that cannot work.';
revoke all on function private.check_payout_choice from public, anon, authenticated, service_role;

-- The caller's application, the same one when asked again. Errors: not_signed_in, invalid_argument.
create function billing.apply_as_affiliate(application text default null, payout_method text default 'credits',
  payout_email text default null) returns billing.affiliates
language sql
set search_path = ''
as $$ select private.apply_as_affiliate(application, payout_method, payout_email) $$;
comment on function billing.apply_as_affiliate is 'Applies to become an affiliate; staff decide.';
revoke all on function billing.apply_as_affiliate from public, anon, authenticated, service_role;
grant execute on function billing.apply_as_affiliate to authenticated;

-- Staff's word: active, rejected or suspended; a rate for this affiliate where one is given. Errors:
-- unknown_affiliate, invalid_argument.
create function billing.review_affiliate(affiliate_id uuid, status text, commission_rate numeric default null,
  note text default null, reviewer_id uuid default null) returns billing.affiliates
language plpgsql security definer
set search_path = ''
as $$
declare
  v_affiliate billing.affiliates;
begin
  if review_affiliate.status is null or review_affiliate.status not in ('active', 'rejected', 'suspended')
    or review_affiliate.commission_rate not between 0 and 1 then
    perform private.fail('invalid_argument',
      'status must be active, rejected or suspended, commission_rate between 0 and 1.', '{"argument": "status"}');
  end if;
  update billing.affiliates a
  set status = case when review_affiliate.status = 'suspended' and a.approved_at is null then 'rejected'
      else review_affiliate.status end,
    commission_rate = coalesce(review_affiliate.commission_rate, a.commission_rate), review_note = note,
    reviewed_by = reviewer_id,
    approved_at = case when review_affiliate.status = 'active' then coalesce(a.approved_at, private.now())
      else a.approved_at end
  where a.id = review_affiliate.affiliate_id
  returning * into v_affiliate;
  if not found then
    perform private.fail('unknown_affiliate', 'There is no such affiliate.',
      jsonb_build_object('affiliate_id', affiliate_id));
  end if;
  perform ops.write_audit('billing.review_affiliate', 'billing.affiliates', null, to_jsonb(v_affiliate),
    actor => reviewer_id, target_id => affiliate_id::text);
  perform private.notify_user(v_affiliate.user_id, v_affiliate.workspace_id, 'info', 'Affiliate programme',
    format('Your affiliate account is now %s.', v_affiliate.status), '/affiliate',
    jsonb_build_object('affiliate_id', v_affiliate.id, 'status', v_affiliate.status), null,
    'billing.affiliate_reviewed');
  return v_affiliate;
end $$;
comment on function billing.review_affiliate is 'Approves, rejects or suspends an affiliate and sets their rate.';
revoke all on function billing.review_affiliate from public, anon, authenticated, service_role;
grant execute on function billing.review_affiliate to service_role;

create function private.update_affiliate(custom_slug text, payout_method text, payout_email text, workspace_id uuid)
returns billing.affiliates
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_affiliate billing.affiliates;
  v_slug text := lower(btrim(custom_slug));
begin
  select * into v_affiliate from billing.affiliates a where a.user_id = auth.uid() for no key update;
  if not found then
    perform private.fail('unknown_affiliate', 'The caller is not an affiliate.');
  end if;
  perform private.check_payout_choice(coalesce(payout_method, v_affiliate.payout_method),
    coalesce(payout_email, v_affiliate.payout_email));
  if workspace_id is not null then
    perform private.require_role(workspace_id, 'admin');
  end if;
  if v_slug !~ '^[a-z0-9]+(-[a-z0-9]+)*$' or char_length(v_slug) not between 3 and 50 then
    perform private.fail('invalid_argument', 'A slug has 3 to 50 letters and digits, with single dashes between.',
      '{"argument": "custom_slug"}');
  elsif exists (select from billing.affiliates a where a.id <> v_affiliate.id
      and (a.custom_slug = v_slug or a.code = upper(v_slug))) then
    perform private.fail('slug_taken', 'Another affiliate has this slug.', jsonb_build_object('custom_slug', v_slug));
  end if;
  if workspace_id <> v_affiliate.workspace_id and exists (select from billing.affiliate_commissions c
    where c.affiliate_id = v_affiliate.id and c.status in ('pending', 'cleared')) then
    perform private.fail('commissions_open', 'Commissions are still owed to the present workspace.',
      jsonb_build_object('workspace_id', v_affiliate.workspace_id));
  end if;
  update billing.affiliates a
  set custom_slug = coalesce(v_slug, a.custom_slug), payout_method = coalesce(payout_method, a.payout_method),
    payout_email = coalesce(payout_email, a.payout_email), workspace_id = coalesce(workspace_id, a.workspace_id)
  where a.id = v_affiliate.id
  returning * into v_affiliate;
  return v_affiliate;
exception when unique_violation then
  perform private.fail('slug_taken', 'Another affiliate has this slug.', jsonb_build_object('custom_slug', v_slug));
end $$;
comment on function private.update_affiliate is 'Core of billing.update_affiliate; acts for the caller alone.';
revoke all on function private.update_affiliate from public, anon, authenticated, service_role;
grant execute on function private.update_affiliate to authenticated;

-- Null leaves what is. Payouts can go to a workspace of which the caller is an admin. Errors: unknown_affiliate,
-- slug_taken, commissions_open, invalid_argument, unknown_workspace, role_too_low.
create function billing.update_affiliate(custom_slug text default null, payout_method text default null,
  payout_email text default null, workspace_id uuid default null) returns billing.affiliates
language sql
set search_path = ''
as $$ select private.update_affiliate(custom_slug, payout_method, payout_email, workspace_id) $$;
comment on function billing.update_affiliate is 'Sets the caller''s slug and how they are paid.';
revoke all on function billing.update_affiliate from public, anon, authenticated, service_role;
grant execute on function billing.update_affiliate to authenticated;

-- Visitors call this: everything is cut to fit, and nothing of theirs is stored but a hash of the address.
create function private.record_click(code text, landing_page text, referrer_url text, utm jsonb, device_type text)
returns uuid
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_address bytea := private.request_address_hash();
  v_affiliate uuid;
  v_id uuid;
begin
  if not ops.check_rate_limit('click:' || coalesce(encode(v_address, 'hex'), 'nowhere'),
    case when v_address is null then 600 else 30 end, interval '1 minute') then
    perform private.fail('too_many_attempts', 'Too many clicks came from here.', '{"most": 30, "per_minutes": 1}');
  end if;
  select a.id into v_affiliate from billing.affiliates a
  where a.status = 'active' and (a.code = upper(btrim(left(code, 100)))
    or a.custom_slug = lower(btrim(left(code, 100))));
  if not found then
    return null;
  end if;
  -- an address is what the request says it is: this limit holds whatever it says
  if not ops.check_rate_limit('clicks:' || v_affiliate, 1000, interval '1 minute') then
    perform private.fail('too_many_attempts', 'Too many clicks came on this link.', '{"most": 1000, "per_minutes": 1}');
  end if;
  insert into billing.affiliate_clicks (affiliate_id, user_id, referral_code, address_hash, user_agent, referrer_url,
    landing_page, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, device_type, clicked_at)
  values (v_affiliate, auth.uid(), upper(btrim(left(code, 100))), v_address,
    left(ops._request_header('user-agent'), 2048), left(referrer_url, 2048), left(landing_page, 2048),
    left(utm ->> 'source', 255), left(utm ->> 'medium', 255), left(utm ->> 'campaign', 255),
    left(utm ->> 'term', 255), left(utm ->> 'content', 255),
    substring(upper(ops._request_header('cf-ipcountry')) from '^[A-Z][A-Z0-9]$'),
    case when device_type in ('desktop', 'mobile', 'tablet', 'tv', 'headset') then device_type else 'other' end,
    private.now())
  returning id into v_id;
  update billing.affiliates a set total_clicks = a.total_clicks + 1 where a.id = v_affiliate;
  return v_id;
end $$;
comment on function private.record_click is 'Core of billing.record_click; for visitors, limited by address.';
revoke all on function private.record_click from public, anon, authenticated, service_role;
grant execute on function private.record_click to anon, authenticated;

-- The id is what the client keeps and gives to billing.attribute_signup; null: no active affiliate has this code or
-- slug. utm: {source, medium, campaign, term, content}. Errors: too_many_attempts.
create function billing.record_click(code text, landing_page text default null, referrer_url text default null,
  utm jsonb default '{}', device_type text default null) returns uuid
language sql
set search_path = ''
as $$ select private.record_click(code, landing_page, referrer_url, utm, device_type) $$;
comment on function billing.record_click is 'Records a visit by an affiliate''s link; gives the id of the click.';
revoke all on function billing.record_click from public, anon, authenticated, service_role;
grant execute on function billing.record_click to anon, authenticated;

create function private.attribute_signup(click_id uuid) returns billing.referral_result
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_user uuid := auth.uid();
  v_click billing.affiliate_clicks;
  v_affiliate billing.affiliates;
  v_faults text[];
  v_id uuid;
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can be attributed.');
  end if;
  select c.* into v_click from billing.affiliate_clicks c where c.id = click_id;
  select a.* into v_affiliate from billing.affiliates a
  join auth.users u on u.id = v_user
  where a.id = v_click.affiliate_id and a.status = 'active' and a.user_id <> v_user
    -- a new person, who came by the click
    and v_click.clicked_at > private.now() - make_interval(days => a.attribution_days)
    and u.created_at > v_click.clicked_at - interval '1 hour'
    and not exists (select from billing.payments p where p.user_id = v_user and p.paid_at < v_click.clicked_at);
  if found then
    v_faults := billing._referral_faults(v_affiliate.user_id, v_user, v_click.address_hash);
    insert into billing.affiliate_referrals (affiliate_id, user_id, click_id, referral_code, referral_source, status,
      faults, commission_rate, commission_ends_at, referred_at)
    values (v_affiliate.id, v_user, v_click.id, v_click.referral_code, v_click.utm_source,
      case when v_faults && array['self', 'same_mailbox', 'same_device'] then 'invalid' else 'pending' end, v_faults,
      v_affiliate.commission_rate, private.now() + make_interval(months => v_affiliate.commission_months),
      private.now())
    on conflict on constraint affiliate_referrals_one_each do nothing
    returning id into v_id;
  end if;
  if v_id is null then
    return (select row(null, 'refused', e.name, e.hint)::billing.referral_result
      from private.error_codes e where e.name = 'referral_refused');
  end if;
  update billing.affiliate_clicks c set converted = true, user_id = v_user where c.id = v_click.id;
  update billing.affiliates a set total_referrals = a.total_referrals + 1 where a.id = v_affiliate.id;
  return row(v_id, 'pending', null, null)::billing.referral_result;
end $$;
comment on function private.attribute_signup(uuid) is 'Core of billing.attribute_signup; acts for the caller alone.';
revoke all on function private.attribute_signup from public, anon, authenticated, service_role;
grant execute on function private.attribute_signup to authenticated;

-- Once for a person, and only for one who signed up after the click, within the affiliate's window.
-- Errors: not_signed_in.
create function billing.attribute_signup(click_id uuid) returns billing.referral_result
language sql
set search_path = ''
as $$ select private.attribute_signup(click_id) $$;
comment on function billing.attribute_signup(uuid) is 'Tells by which click the caller, who is new, came.';
revoke all on function billing.attribute_signup from public, anon, authenticated, service_role;
grant execute on function billing.attribute_signup to authenticated;

-- Clicks that came to nothing are of no use once no window reaches back to them (a year at most).
create function billing.prune_clicks() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  delete from billing.affiliate_clicks c where c.id in (select o.id from billing.affiliate_clicks o
    where o.clicked_at < private.now() - interval '400 days' and not o.converted
    order by o.clicked_at limit 1000 for update skip locked);
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function billing.prune_clicks() is 'Sweep: deletes clicks of over 400 days ago that nobody signed up by.';
revoke all on function billing.prune_clicks from public, anon, authenticated, service_role;
grant execute on function billing.prune_clicks to service_role;
insert into ops.sweeps (name, function_name, every) values ('prune clicks', 'billing.prune_clicks', interval '1 hour');
