-- Devices, sessions and sign-ins: what people may look at to know who used their account. The service writes;
-- passwords, sessions, TOTP factors and bans themselves are the platform's (schema auth).

create table identity.user_devices (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid(),
  device_fingerprint text,
  device_name text,
  device_type text not null default 'desktop',
  browser text,
  os text,
  device_info jsonb not null default '{}',
  ip_address inet,
  location text,
  location_data jsonb not null default '{}',
  timezone text,
  is_active boolean not null default true,
  last_used_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_devices_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint user_devices_once unique (user_id, device_fingerprint),
  constraint user_devices_device_type_known
    check (device_type in ('desktop', 'mobile', 'tablet', 'tv', 'headset', 'other')),
  constraint user_devices_texts_are_short check (
    char_length(device_fingerprint) <= 255 and char_length(device_name) <= 100 and char_length(browser) <= 50
    and char_length(os) <= 50 and char_length(location) <= 255 and char_length(timezone) <= 64
  ),
  constraint user_devices_json_are_objects check (
    jsonb_typeof(device_info) = 'object' and jsonb_typeof(location_data) = 'object'
  )
);
comment on table identity.user_devices is 'The devices a person signs in with.';
create index user_devices_fingerprint_idx on identity.user_devices (device_fingerprint);
create index user_devices_last_used_at_idx on identity.user_devices (user_id, last_used_at desc);
create trigger touch_user_devices before update on identity.user_devices
  for each row execute function private.touch_updated_at();
alter table identity.user_devices enable row level security;
revoke all on table identity.user_devices from public, anon, authenticated, service_role;
grant select, delete on table identity.user_devices to authenticated;
grant insert (device_fingerprint, device_name, device_type, browser, os, device_info, timezone),
  update (device_name, is_active, timezone) on table identity.user_devices to authenticated;
grant select, insert, update, delete on table identity.user_devices to service_role;
create policy "People see their own devices" on identity.user_devices
  for select to authenticated using (user_id = (select auth.uid()));
create policy "People add their own devices" on identity.user_devices
  for insert to authenticated with check (user_id = (select auth.uid()));
create policy "People name and switch off their own devices" on identity.user_devices
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "People forget their own devices" on identity.user_devices
  for delete to authenticated using (user_id = (select auth.uid()));

create table identity.session_events (
  id bigint generated always as identity primary key,
  user_id uuid,
  session_id text,
  device_id uuid,
  event_type text not null,
  event_data jsonb not null default '{}',
  login_method text,
  status text,
  ip_address inet,
  user_agent text,
  duration interval,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  constraint session_events_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint session_events_device_id_fkey foreign key (device_id)
    references identity.user_devices (id) on delete set null,
  constraint session_events_event_type_shape check (event_type ~ '^[a-z][a-z0-9_.]{0,49}$'),
  constraint session_events_status_known check (status in ('active', 'expired', 'ended', 'revoked')),
  constraint session_events_duration_positive check (duration >= interval '0'),
  constraint session_events_event_data_object check (jsonb_typeof(event_data) = 'object')
);
comment on table identity.session_events is 'What happened to a person''s sessions: opened, refreshed, ended, refused.';
comment on column identity.session_events.status is
  'State of the session after the event, where the event is about one.';
create index session_events_user_id_idx on identity.session_events (user_id, created_at desc);
create index session_events_session_id_idx on identity.session_events (session_id);
create index session_events_device_id_idx on identity.session_events (device_id);
create index session_events_event_type_idx on identity.session_events (event_type, created_at desc);
create index session_events_created_at_idx on identity.session_events (created_at);
alter table identity.session_events enable row level security;
revoke all on table identity.session_events from public, anon, authenticated, service_role;
grant select on table identity.session_events to authenticated;
grant select, insert, delete on table identity.session_events to service_role;
create policy "People see the events of their own sessions" on identity.session_events
  for select to authenticated using (user_id = (select auth.uid()));

create table identity.sso_audit_log (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  email text,
  event_type text not null,
  source_subdomain text,
  return_to_url text,
  login_method text,
  ip_address inet,
  user_agent text,
  country_code text,
  success boolean not null default true,
  error_code text,
  error_message text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint sso_audit_log_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete set null,
  constraint sso_audit_log_country_code_shape check (country_code ~ '^[A-Z][A-Z0-9]$'),
  constraint sso_audit_log_success_has_no_error check (not success or error_code is null),
  constraint sso_audit_log_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table identity.sso_audit_log is 'Every sign-in across the apps'' subdomains, refused ones too.';
create index sso_audit_log_user_id_idx on identity.sso_audit_log (user_id, created_at desc);
create index sso_audit_log_email_idx on identity.sso_audit_log (email);
create index sso_audit_log_created_at_idx on identity.sso_audit_log (created_at desc);
create index sso_audit_log_event_type_idx on identity.sso_audit_log (event_type);
create index sso_audit_log_source_subdomain_idx on identity.sso_audit_log (source_subdomain);
alter table identity.sso_audit_log enable row level security;
revoke all on table identity.sso_audit_log from public, anon, authenticated, service_role;
grant select on table identity.sso_audit_log to authenticated;
grant select, insert, delete on table identity.sso_audit_log to service_role;
create policy "People see their own sign-ins" on identity.sso_audit_log
  for select to authenticated using (user_id = (select auth.uid()));

-- NeoStream kept three tables: TOTP sessions, TOTP uses, recovery attempts. All are a try of a second factor.
create table identity.mfa_events (
  id bigint generated always as identity primary key,
  user_id uuid,
  factor text not null default 'totp',
  action text not null,
  session_token_hash bytea,
  ip_address inet,
  user_agent text,
  success boolean not null default false,
  failure_reason text,
  attempts_count integer not null default 1,
  unlocks_at timestamptz,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  constraint mfa_events_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint mfa_events_factor_known check (factor in ('totp', 'recovery_code', 'phone', 'webauthn')),
  constraint mfa_events_action_shape check (action ~ '^[a-z][a-z0-9_.]{0,49}$'),
  constraint mfa_events_session_token_hash_is_sha256 check (octet_length(session_token_hash) = 32),
  constraint mfa_events_success_has_no_failure check (not success or failure_reason is null),
  constraint mfa_events_attempts_count_positive check (attempts_count > 0)
);
comment on table identity.mfa_events is 'Tries of a second factor or a recovery code, and locks that followed.';
comment on column identity.mfa_events.unlocks_at is 'After too many failures: no further try before then.';
create index mfa_events_user_id_idx on identity.mfa_events (user_id, created_at desc);
create index mfa_events_action_idx on identity.mfa_events (action, created_at desc);
create index mfa_events_expires_at_idx on identity.mfa_events (expires_at);
create index mfa_events_created_at_idx on identity.mfa_events (created_at);
alter table identity.mfa_events enable row level security;
revoke all on table identity.mfa_events from public, anon, authenticated, service_role;
grant select (
  id, user_id, factor, action, ip_address, user_agent, success, failure_reason, attempts_count, unlocks_at,
  expires_at, created_at
) on table identity.mfa_events to authenticated;
grant select, insert, delete on table identity.mfa_events to service_role;
create policy "People see tries of their own second factor" on identity.mfa_events
  for select to authenticated using (user_id = (select auth.uid()));

create table identity.recovery_codes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  code_hash bytea not null,
  used_at timestamptz,
  created_at timestamptz not null default now(),
  constraint recovery_codes_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint recovery_codes_once unique (user_id, code_hash),
  constraint recovery_codes_code_hash_is_sha256 check (octet_length(code_hash) = 32)
);
comment on table identity.recovery_codes is 'Hashes of the codes that replace a lost second factor, each good once.';
alter table identity.recovery_codes enable row level security;
revoke all on table identity.recovery_codes from public, anon, authenticated, service_role;
grant select (id, user_id, used_at, created_at) on table identity.recovery_codes to authenticated;
grant select, insert, update, delete on table identity.recovery_codes to service_role;
create policy "People see how many recovery codes they have left" on identity.recovery_codes
  for select to authenticated using (user_id = (select auth.uid()));
