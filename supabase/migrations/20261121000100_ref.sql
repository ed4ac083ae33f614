-- Facts of the world that all apps share. Rows are in the next migration; the service keeps rates and IP
-- locations, everybody reads the rest.

create schema if not exists ref;
comment on schema ref is 'Countries, currencies and rates, timezones, industries, event categories: the same for all.';
revoke all on schema ref from public;
grant usage on schema ref to anon, authenticated, service_role;

create table ref.currencies (
  code text primary key,
  numeric_code text not null,
  name text not null,
  symbol text not null,
  exponent smallint not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint currencies_numeric_code_key unique (numeric_code),
  constraint currencies_code_shape check (code ~ '^[A-Z]{3}$'),
  constraint currencies_numeric_code_shape check (numeric_code ~ '^[0-9]{3}$'),
  constraint currencies_exponent_known check (exponent between 0 and 4)
);
comment on table ref.currencies is 'ISO 4217 currencies in use, with the number of digits of their minor unit.';
comment on column ref.currencies.exponent is 'Digits of the minor unit: 2 for USD (cents), 0 for JPY, 3 for KWD.';
create trigger touch_currencies before update on ref.currencies
  for each row execute function private.touch_updated_at();
alter table ref.currencies enable row level security;
revoke all on table ref.currencies from public, anon, authenticated, service_role;
grant select on table ref.currencies to anon, authenticated;
grant select, insert, update, delete on table ref.currencies to service_role;
create policy "Everyone reads currencies" on ref.currencies for select to anon, authenticated using (true);

-- Six decimals, as NeoStream had, lose the rate of a small currency to a big one (VND to KWD is 0.0000117...).
create table ref.currency_rates (
  from_currency text not null,
  to_currency text not null,
  rate numeric(24, 12) not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '1 hour',
  constraint currency_rates_pkey primary key (from_currency, to_currency),
  constraint currency_rates_from_currency_fkey foreign key (from_currency)
    references ref.currencies (code) on delete cascade,
  constraint currency_rates_to_currency_fkey foreign key (to_currency)
    references ref.currencies (code) on delete cascade,
  constraint currency_rates_rate_positive check (rate > 0),
  constraint currency_rates_expires_later check (expires_at > created_at)
);
comment on table ref.currency_rates is
  'Cached exchange rates: one from_currency costs rate to_currency, until it expires.';
create index currency_rates_to_currency_idx on ref.currency_rates (to_currency);
create index currency_rates_expires_at_idx on ref.currency_rates (expires_at);
alter table ref.currency_rates enable row level security;
revoke all on table ref.currency_rates from public, anon, authenticated, service_role;
grant select on table ref.currency_rates to anon, authenticated;
grant select, insert, update, delete on table ref.currency_rates to service_role;
create policy "Everyone reads currency rates" on ref.currency_rates for select to anon, authenticated using (true);

create table ref.countries (
  alpha2 text primary key,
  alpha3 text not null,
  numeric_code text not null,
  name text not null,
  currency_code text,
  calling_code text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint countries_alpha3_key unique (alpha3),
  constraint countries_numeric_code_key unique (numeric_code),
  constraint countries_name_key unique (name),
  constraint countries_currency_code_fkey foreign key (currency_code) references ref.currencies (code),
  constraint countries_alpha2_shape check (alpha2 ~ '^[A-Z]{2}$'),
  constraint countries_alpha3_shape check (alpha3 ~ '^[A-Z]{3}$'),
  constraint countries_numeric_code_shape check (numeric_code ~ '^[0-9]{3}$'),
  constraint countries_calling_code_shape check (calling_code ~ '^[1-9][0-9]{0,5}$')
);
comment on table ref.countries is 'ISO 3166-1 countries with their main currency and telephone prefix.';
comment on column ref.countries.calling_code is 'International prefix without the plus sign.';
create index countries_currency_code_idx on ref.countries (currency_code);
create trigger touch_countries before update on ref.countries
  for each row execute function private.touch_updated_at();
alter table ref.countries enable row level security;
revoke all on table ref.countries from public, anon, authenticated, service_role;
grant select on table ref.countries to anon, authenticated;
grant select, insert, update, delete on table ref.countries to service_role;
create policy "Everyone reads countries" on ref.countries for select to anon, authenticated using (true);

create table ref.timezones (
  name text primary key,
  country_code text,
  created_at timestamptz not null default now(),
  constraint timezones_country_code_fkey foreign key (country_code) references ref.countries (alpha2),
  constraint timezones_name_shape check (name ~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$')
);
comment on table ref.timezones is 'IANA timezones to choose from, each with the country it is for.';
create index timezones_country_code_idx on ref.timezones (country_code);
alter table ref.timezones enable row level security;
revoke all on table ref.timezones from public, anon, authenticated, service_role;
grant select on table ref.timezones to anon, authenticated;
grant select, insert, update, delete on table ref.timezones to service_role;
create policy "Everyone reads timezones" on ref.timezones for select to anon, authenticated using (true);

create table ref.industries (
  code text primary key,
  name text not null,
  position smallint not null default 0,
  created_at timestamptz not null default now(),
  constraint industries_name_key unique (name),
  constraint industries_code_shape check (code ~ '^[a-z0-9]+(-[a-z0-9]+)*$')
);
comment on table ref.industries is 'Industries of brands and sponsors, in the order of a list to choose from.';
alter table ref.industries enable row level security;
revoke all on table ref.industries from public, anon, authenticated, service_role;
grant select on table ref.industries to anon, authenticated;
grant select, insert, update, delete on table ref.industries to service_role;
create policy "Everyone reads industries" on ref.industries for select to anon, authenticated using (true);

create table ref.event_categories (
  code text primary key,
  name text not null,
  position smallint not null default 0,
  created_at timestamptz not null default now(),
  constraint event_categories_name_key unique (name),
  constraint event_categories_code_shape check (code ~ '^[a-z0-9]+(-[a-z0-9]+)*$')
);
comment on table ref.event_categories is 'Kinds of events, in the order of a list to choose from.';
alter table ref.event_categories enable row level security;
revoke all on table ref.event_categories from public, anon, authenticated, service_role;
grant select on table ref.event_categories to anon, authenticated;
grant select, insert, update, delete on table ref.event_categories to service_role;
create policy "Everyone reads event categories" on ref.event_categories
  for select to anon, authenticated using (true);

-- A cache of what an outside service said, which knows codes that ISO does not (XK, T1): no foreign keys.
create table ref.ip_locations (
  ip_address inet primary key,
  country_code text,
  currency text,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '24 hours',
  constraint ip_locations_country_code_shape check (country_code ~ '^[A-Z][A-Z0-9]$'),
  constraint ip_locations_currency_shape check (currency ~ '^[A-Z]{3}$'),
  constraint ip_locations_expires_later check (expires_at > created_at)
);
comment on table ref.ip_locations is
  'Cached country and currency of an IP address; only the service reads and writes it.';
create index ip_locations_expires_at_idx on ref.ip_locations (expires_at);
alter table ref.ip_locations enable row level security;
revoke all on table ref.ip_locations from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ref.ip_locations to service_role;
