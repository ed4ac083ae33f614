-- People: what others may see of them, what only they may see, and their settings.
--
-- The apps kept all of it in one table whose policy showed every row to everyone, phone and e-mail
-- included. A policy hides rows, not columns, and column grants break `select *`. So the person is two
-- tables: identity.profiles holds only what is meant for other people, and identity.personal_details
-- holds the rest, one row a person, shown to that person alone. No view is needed to tell them apart.

create schema if not exists identity;
comment on schema identity is
  'People, workspaces (the tenants), members, invitations, devices, sign-in history, API keys.';
revoke all on schema identity from public;
grant usage on schema identity to anon, authenticated, service_role;

create table identity.profiles (
  id uuid primary key,
  username text,
  display_name text not null,
  avatar_url text,
  bio text,
  location text,
  website text,
  social_links jsonb not null default '{}',
  event_role text not null default 'attendee',
  privacy_level text not null default 'normal',
  status text not null default 'active',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint profiles_id_fkey foreign key (id) references auth.users (id) on delete cascade,
  constraint profiles_username_key unique (username),
  constraint profiles_username_shape check (username ~ '^[a-z0-9](?:[a-z0-9_.-]{0,38}[a-z0-9])$'),
  constraint profiles_display_name_length check (char_length(display_name) between 1 and 100),
  constraint profiles_avatar_url_length check (char_length(avatar_url) <= 2048),
  constraint profiles_bio_length check (char_length(bio) <= 2000),
  constraint profiles_location_length check (char_length(location) <= 200),
  constraint profiles_website_length check (char_length(website) <= 2048),
  constraint profiles_social_links_object check (jsonb_typeof(social_links) = 'object'),
  constraint profiles_event_role_known check (event_role in ('attendee', 'organizer')),
  constraint profiles_privacy_level_known check (privacy_level in ('public', 'normal', 'private')),
  constraint profiles_status_known check (status in ('active', 'suspended'))
);
comment on table identity.profiles is 'What other people may see of a person; nothing private is stored here.';
comment on column identity.profiles.privacy_level is
  'public: every visitor; normal: everyone signed in; private: only people of a common workspace.';
comment on column identity.profiles.event_role is 'How the person uses events: goes to them or makes them.';
create index profiles_status_idx on identity.profiles (status) where status <> 'active';
create trigger touch_profiles before update on identity.profiles
  for each row execute function private.touch_updated_at();
alter table identity.profiles enable row level security;
revoke all on table identity.profiles from public, anon, authenticated, service_role;
grant select on table identity.profiles to anon, authenticated;
grant update (username, display_name, avatar_url, bio, location, website, social_links, event_role, privacy_level)
  on table identity.profiles to authenticated;
grant select, insert, update, delete on table identity.profiles to service_role;

create policy "Visitors see public profiles" on identity.profiles
  for select to anon using (privacy_level = 'public' and status = 'active');
create policy "People change their own profile" on identity.profiles
  for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));

create table identity.personal_details (
  user_id uuid primary key,
  email text,
  phone text,
  full_name text,
  first_name text,
  last_name text,
  date_of_birth date,
  gender text,
  registration_method text not null default 'email',
  referral_code text not null,
  referred_by uuid,
  terms_accepted_at timestamptz,
  privacy_accepted_at timestamptz,
  onboarded_at timestamptz,
  welcome_email_sent_at timestamptz,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint personal_details_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint personal_details_referred_by_fkey foreign key (referred_by)
    references identity.profiles (id) on delete set null,
  constraint personal_details_not_referred_by_self check (referred_by <> user_id),
  constraint personal_details_referral_code_key unique (referral_code),
  constraint personal_details_referral_code_shape check (referral_code ~ '^[A-Z0-9]{8}$'),
  constraint personal_details_email_length check (char_length(email) <= 320),
  constraint personal_details_phone_length check (char_length(phone) <= 40),
  constraint personal_details_full_name_length check (char_length(full_name) <= 200),
  constraint personal_details_first_name_length check (char_length(first_name) <= 100),
  constraint personal_details_last_name_length check (char_length(last_name) <= 100),
  constraint personal_details_gender_length check (char_length(gender) <= 40),
  constraint personal_details_date_of_birth_sane check (date_of_birth > date '1900-01-01'),
  constraint personal_details_registration_method_shape check (registration_method ~ '^[a-z][a-z0-9_:-]{0,39}$'),
  constraint personal_details_metadata_object check (jsonb_typeof(metadata) = 'object')
);
comment on table identity.personal_details is
  'What only the person and the service may read: contact, consents, referral code.';
comment on column identity.personal_details.email is 'Follows auth.users.email; the platform confirms changes there.';
comment on column identity.personal_details.registration_method is
  'email, google, microsoft, apple, twitch ...: the provider that auth.users names at sign-up.';
create index personal_details_referred_by_idx on identity.personal_details (referred_by);
create index personal_details_email_idx on identity.personal_details (lower(email));
create trigger touch_personal_details before update on identity.personal_details
  for each row execute function private.touch_updated_at();
alter table identity.personal_details enable row level security;
revoke all on table identity.personal_details from public, anon, authenticated, service_role;
grant select on table identity.personal_details to authenticated;
grant update (phone, full_name, first_name, last_name, date_of_birth, gender, onboarded_at)
  on table identity.personal_details to authenticated;
grant select, insert, update, delete on table identity.personal_details to service_role;

create policy "People read their own details" on identity.personal_details
  for select to authenticated using (user_id = (select auth.uid()));
create policy "People change their own details" on identity.personal_details
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create table identity.user_settings (
  user_id uuid primary key,
  theme text not null default 'light',
  language text not null default 'en',
  timezone text,
  currency text,
  auto_detect_currency boolean not null default true,
  email_notifications boolean not null default true,
  push_notifications boolean not null default true,
  weekly_digest boolean not null default true,
  marketing_emails boolean not null default false,
  newsletter_subscribed boolean not null default false,
  llm text not null default 'gemini',
  cloud_storage_provider text,
  cloud_storage_auto_upload boolean not null default false,
  cloud_storage_upload_format text not null default 'both',
  cloud_storage_folder_per_video boolean not null default true,
  preferences jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_settings_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint user_settings_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint user_settings_theme_known check (theme in ('light', 'dark', 'system')),
  constraint user_settings_language_shape check (language ~ '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$'),
  constraint user_settings_timezone_length check (char_length(timezone) between 1 and 64),
  constraint user_settings_llm_length check (char_length(llm) between 1 and 100),
  constraint user_settings_cloud_storage_provider_known
    check (cloud_storage_provider in ('google_drive', 'onedrive', 'dropbox')),
  constraint user_settings_cloud_storage_upload_format_known
    check (cloud_storage_upload_format in ('docx', 'pdf', 'both', 'none')),
  constraint user_settings_preferences_object check (jsonb_typeof(preferences) = 'object')
);
comment on table identity.user_settings is 'A person''s choices in all apps: look, language, currency, mails, storage.';
comment on column identity.user_settings.currency is
  'Null: found from the country of the request (auto_detect_currency).';
comment on column identity.user_settings.preferences is 'Choices that one app alone knows, one key an app.';
create index user_settings_currency_idx on identity.user_settings (currency);
create trigger touch_user_settings before update on identity.user_settings
  for each row execute function private.touch_updated_at();
alter table identity.user_settings enable row level security;
revoke all on table identity.user_settings from public, anon, authenticated, service_role;
grant select on table identity.user_settings to authenticated;
grant update (
  theme, language, timezone, currency, auto_detect_currency, email_notifications, push_notifications, weekly_digest,
  marketing_emails, newsletter_subscribed, llm, cloud_storage_provider, cloud_storage_auto_upload,
  cloud_storage_upload_format, cloud_storage_folder_per_video, preferences
) on table identity.user_settings to authenticated;
grant select, insert, update, delete on table identity.user_settings to service_role;

create policy "People read their own settings" on identity.user_settings
  for select to authenticated using (user_id = (select auth.uid()));
create policy "People change their own settings" on identity.user_settings
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
