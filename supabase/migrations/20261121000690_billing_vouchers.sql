-- Vouchers: codes that give credits, a bonus on the next purchase, or a trial of a plan. A use is counted under the
-- voucher's row lock, so limits are exact however many people try at once.

create table billing.vouchers (
  id uuid primary key default gen_random_uuid(),
  code text not null,
  kind text not null,
  status text not null default 'active',
  app text,
  campaign text,
  description text,
  credits_micro bigint,
  bonus_percent numeric(6, 2),
  bonus_limit_micro bigint,
  plan_id uuid,
  trial_days integer,
  credits_valid_days integer,
  max_redemptions integer,
  max_per_user integer not null default 1,
  redemption_count integer not null default 0,
  starts_at timestamptz not null default now(),
  expires_at timestamptz,
  created_by uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint vouchers_code_key unique (code),
  constraint vouchers_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint vouchers_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint vouchers_code_shape check (code ~ '^[A-Z0-9][A-Z0-9_-]{1,62}[A-Z0-9]$'),
  constraint vouchers_kind_known check (kind in ('credits', 'bonus', 'trial')),
  constraint vouchers_status_known check (status in ('active', 'inactive', 'expired', 'depleted')),
  constraint vouchers_app_known check (app in ('selify', 'neostream', 'amplify', 'spikeland', 'liventix')),
  constraint vouchers_credits_fit_kind check ((kind = 'credits') = (credits_micro is not null)),
  constraint vouchers_bonus_fits_kind
    check ((kind = 'bonus') = (bonus_percent is not null) and (kind = 'bonus' or bonus_limit_micro is null)),
  constraint vouchers_trial_fits_kind
    check ((kind = 'trial') = (plan_id is not null) and (kind = 'trial') = (trial_days is not null)),
  constraint vouchers_amounts_in_range check (credits_micro between 1 and 1000000000000
    and bonus_percent between 0.01 and 1000 and bonus_limit_micro between 1 and 1000000000000
    and trial_days between 1 and 730 and credits_valid_days between 1 and 36500),
  constraint vouchers_uses_in_range check (max_per_user > 0 and max_redemptions >= redemption_count
    and redemption_count >= 0 and max_redemptions > 0),
  constraint vouchers_depleted_is_used_up check (status <> 'depleted' or redemption_count = max_redemptions),
  constraint vouchers_validity_in_order check (expires_at > starts_at),
  constraint vouchers_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table billing.vouchers is 'Codes that bring credits, a bonus on a purchase or a trial, within their limits.';
comment on column billing.vouchers.code is 'In capitals; what people type is folded to it, so case never matters.';
comment on column billing.vouchers.app is 'The app it is for; null: every app.';
comment on column billing.vouchers.bonus_percent is
  'Share of a purchase''s credits that is added to it, at most bonus_limit_micro (null: no limit).';
comment on column billing.vouchers.credits_valid_days is 'Life of the credits it gives; null: they never expire.';
comment on column billing.vouchers.max_redemptions is 'Uses in all; null: any number.';
create index vouchers_plan_id on billing.vouchers (plan_id) where plan_id is not null;
create index vouchers_created_by on billing.vouchers (created_by) where created_by is not null;
create index vouchers_expiring on billing.vouchers (expires_at) where status = 'active' and expires_at is not null;
create index vouchers_campaign on billing.vouchers (campaign) where campaign is not null;
alter table billing.vouchers enable row level security;
revoke all on table billing.vouchers from public, anon, authenticated, service_role;
-- everything but the count of uses
grant select, delete,
  insert (code, kind, status, app, campaign, description, credits_micro, bonus_percent, bonus_limit_micro, plan_id,
    trial_days, credits_valid_days, max_redemptions, max_per_user, starts_at, expires_at, created_by, metadata),
  update (code, kind, status, app, campaign, description, credits_micro, bonus_percent, bonus_limit_micro, plan_id,
    trial_days, credits_valid_days, max_redemptions, max_per_user, starts_at, expires_at, created_by, metadata)
  on table billing.vouchers to service_role;

-- Folds the code and keeps the status at what the counts and the time say; only inactive is somebody's decision.
create function billing._keep_voucher() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.code := upper(btrim(new.code));
  new.status := case when new.status = 'inactive' then 'inactive'
    when new.redemption_count = new.max_redemptions then 'depleted'
    when new.expires_at <= private.now() then 'expired' else 'active' end;
  return new;
end $$;
comment on function billing._keep_voucher() is 'Trigger: a voucher''s code in capitals, its status as its limits say.';
revoke all on function billing._keep_voucher from public, anon, authenticated, service_role;
create trigger vouchers_keep before insert or update on billing.vouchers
  for each row execute function billing._keep_voucher();
create trigger vouchers_touch before update on billing.vouchers for each row
  execute function private.touch_updated_at();

create function billing.expire_vouchers() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_count integer;
begin
  update billing.vouchers v set status = 'expired'
  where v.id in (select o.id from billing.vouchers o where o.status = 'active' and o.expires_at <= private.now()
    order by o.expires_at limit 500 for update skip locked);
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function billing.expire_vouchers() is 'Sweep: marks vouchers whose time is over; returns how many.';
revoke all on function billing.expire_vouchers from public, anon, authenticated, service_role;
grant execute on function billing.expire_vouchers to service_role;

create table billing.voucher_redemptions (
  id uuid primary key default gen_random_uuid(),
  voucher_id uuid not null,
  user_id uuid,
  workspace_id uuid not null,
  kind text not null,
  status text not null,
  use_number integer not null,
  key text,
  credits_micro bigint not null default 0,
  bonus_percent numeric(6, 2),
  bonus_limit_micro bigint,
  payment_id uuid,
  subscription_id uuid,
  ledger_transaction_id bigint,
  redeemed_at timestamptz not null default now(),
  applied_at timestamptz,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint voucher_redemptions_voucher_id_fkey foreign key (voucher_id) references billing.vouchers (id),
  constraint voucher_redemptions_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint voucher_redemptions_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint voucher_redemptions_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint voucher_redemptions_subscription_id_fkey foreign key (subscription_id)
    references billing.subscriptions (id) on delete set null,
  constraint voucher_redemptions_once unique (voucher_id, user_id, use_number),
  constraint voucher_redemptions_key unique (user_id, key),
  constraint voucher_redemptions_key_length check (length(key) between 1 and 255),
  constraint voucher_redemptions_kind_known check (kind in ('credits', 'bonus', 'trial')),
  constraint voucher_redemptions_status_known check (status in ('pending', 'applied', 'expired')),
  constraint voucher_redemptions_only_a_bonus_waits check (kind = 'bonus' or status = 'applied'),
  constraint voucher_redemptions_applied_has_time check ((status = 'applied') = (applied_at is not null)),
  constraint voucher_redemptions_bonus_has_percent check ((kind = 'bonus') = (bonus_percent is not null)),
  constraint voucher_redemptions_bonus_has_payment
    check ((kind = 'bonus' and status = 'applied') = (payment_id is not null)),
  constraint voucher_redemptions_credits_are_booked check (credits_micro >= 0
    and (credits_micro > 0) = (ledger_transaction_id is not null))
);
comment on table billing.voucher_redemptions is
  'Who redeemed which voucher into which workspace, and the credits it brought there.';
comment on column billing.voucher_redemptions.use_number is 'The person''s first, second ... use of this voucher.';
comment on column billing.voucher_redemptions.status is 'A bonus is pending until the workspace''s next purchase.';
comment on column billing.voucher_redemptions.expires_at is 'Until when a pending bonus waits; null: for ever.';
create unique index voucher_redemptions_payment_id on billing.voucher_redemptions (payment_id)
  where payment_id is not null;
create index voucher_redemptions_user_id on billing.voucher_redemptions (user_id, redeemed_at desc);
create index voucher_redemptions_workspace_id on billing.voucher_redemptions (workspace_id, redeemed_at desc);
create index voucher_redemptions_subscription_id on billing.voucher_redemptions (subscription_id)
  where subscription_id is not null;
create index voucher_redemptions_pending on billing.voucher_redemptions (workspace_id, redeemed_at)
  where status = 'pending';
create index voucher_redemptions_expiring on billing.voucher_redemptions (expires_at)
  where status = 'pending' and expires_at is not null;
create trigger voucher_redemptions_touch before update on billing.voucher_redemptions
  for each row execute function private.touch_updated_at();
alter table billing.voucher_redemptions enable row level security;
create policy "Members may read their workspace's redemptions" on billing.voucher_redemptions for select
  to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.voucher_redemptions from public, anon, authenticated, service_role;
grant select on table billing.voucher_redemptions to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('too_many_attempts', 'PT429', 'Wait a quarter of an hour, then try again.'),
  ('unknown_voucher', 'PT404', 'Check the code; capitals and small letters are the same.'),
  ('voucher_not_yet_valid', 'PT409', 'Come back when the voucher begins.'),
  ('voucher_expired', 'PT410', 'The voucher''s time is over.'),
  ('voucher_depleted', 'PT410', 'The voucher has been used as often as it may be.'),
  ('voucher_already_used', 'PT409', 'A voucher works as often for each person as its terms say.'),
  ('voucher_not_applicable', 'PT409', 'A trial needs a workspace without a plan in the app; see the details.');

-- The last address that the request came through, hashed with a salt of this installation: equal addresses can be
-- told, none can be read back.
create table private.hash_salts (
  name text primary key,
  salt bytea not null default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
  created_at timestamptz not null default now()
);
comment on table private.hash_salts is 'Salts of this installation for hashes of personal data such as addresses.';
alter table private.hash_salts enable row level security;
revoke all on table private.hash_salts from public, anon, authenticated, service_role;
insert into private.hash_salts (name) values ('address');

create function private.address_hash(address text) returns bytea
language sql stable
set search_path = ''
as $$
  select sha256(s.salt || convert_to(host(btrim(address)::inet), 'UTF8')) from private.hash_salts s
  where s.name = 'address' and pg_input_is_valid(btrim(address), 'inet')
$$;
comment on function private.address_hash(text) is 'Salted SHA-256 of an IP address, null when it is none.';
revoke all on function private.address_hash from public, anon, authenticated, service_role;

create function private.request_address_hash() returns bytea
language sql stable
set search_path = ''
as $$ select private.address_hash(split_part(ops._request_header('x-forwarded-for'), ',', 1)) $$;
comment on function private.request_address_hash() is 'Hash of the address this request came from, or null.';
revoke all on function private.request_address_hash from public, anon, authenticated, service_role;

insert into ops.sweeps (name, function_name, every) values
  ('expire vouchers', 'billing.expire_vouchers', interval '5 minutes');
