-- In which currency a person pays, and what that makes of a price. Amounts are minor units of their currency, each
-- with its own number of digits; one function converts, and so decides how amounts are rounded.

-- ISK and UGX have no minor unit, but Stripe counts them in hundredths: they stay out, so that an amount of ours is
-- always the provider's too. Source: Stripe, Supported currencies, special cases.
create table billing.sale_currencies (
  currency text primary key,
  provider text not null default 'stripe',
  is_default boolean not null default false,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  constraint sale_currencies_currency_fkey foreign key (currency) references ref.currencies (code),
  constraint sale_currencies_provider_known check (provider in ('stripe', 'razorpay')),
  constraint sale_currencies_counted_alike check (currency not in ('ISK', 'UGX')),
  constraint sale_currencies_default_active check (is_active or not is_default)
);
comment on table billing.sale_currencies is 'Currencies we charge in, and the provider that takes each.';
create unique index sale_currencies_default on billing.sale_currencies (is_default) where is_default;
alter table billing.sale_currencies enable row level security;
create policy "Everybody may read the currencies we charge in" on billing.sale_currencies for select
  to anon, authenticated using (is_active);
revoke all on table billing.sale_currencies from public, anon, authenticated, service_role;
grant select on table billing.sale_currencies to anon, authenticated;
grant select, insert, update, delete on table billing.sale_currencies to service_role;
insert into billing.sale_currencies (currency, provider, is_default) values
  ('USD', 'stripe', true), ('EUR', 'stripe', false), ('GBP', 'stripe', false), ('JPY', 'stripe', false),
  ('KWD', 'stripe', false), ('INR', 'razorpay', false);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_currency', 'PT404', 'Use the ISO 4217 code of a currency in ref.currencies.'),
  ('currency_not_sold', 'PT400', 'Pay in one of billing.sale_currencies, through the provider named there.'),
  ('no_currency_rate', 'PT503', 'There is no fresh rate: ask for the prices through the billing function, try again.');

-- What one unit of a currency costs in another by the cached rates: the pair, the pair the other way round, or both
-- by way of the dollar. Null when no fresh rate is cached.
create function billing.currency_rate(from_currency text, to_currency text) returns numeric
language sql stable
set search_path = ''
as $$
  select case when from_currency = to_currency then 1 else (
    with fresh as (
      select r.from_currency as a, r.to_currency as b, r.rate from ref.currency_rates r
      where r.expires_at > private.now()
      union all
      select r.to_currency, r.from_currency, 1 / r.rate from ref.currency_rates r where r.expires_at > private.now()
    )
    select coalesce(
      (select f.rate from fresh f where f.a = currency_rate.from_currency and f.b = currency_rate.to_currency limit 1),
      (select f.rate * g.rate from fresh f join fresh g on g.a = 'USD'
        where f.a = currency_rate.from_currency and f.b = 'USD' and g.b = currency_rate.to_currency limit 1))
  ) end
$$;
comment on function billing.currency_rate(text, text) is
  'What one unit of a currency costs in another by the cached rates; null when none is fresh.';
revoke all on function billing.currency_rate from public, anon, authenticated, service_role;
grant execute on function billing.currency_rate to anon, authenticated, service_role;

-- An amount in another currency, both in minor units. Rounded once, at the end, half away from zero, to the minor
-- unit; currencies of three digits to ten of it, because providers take no finer amount. A positive amount never
-- becomes nothing. Errors: unknown_currency, no_currency_rate.
create function billing.convert_minor(amount_minor bigint, from_currency text, to_currency text) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  v_from smallint := (select c.exponent from ref.currencies c where c.code = from_currency);
  v_to smallint := (select c.exponent from ref.currencies c where c.code = to_currency);
  v_rate numeric := billing.currency_rate(from_currency, to_currency);
  v_step bigint;
begin
  if v_from is null or v_to is null then
    perform private.fail('unknown_currency', format('There is no currency "%s".',
      case when v_from is null then from_currency else to_currency end),
      jsonb_build_object('currency', case when v_from is null then from_currency else to_currency end));
  elsif v_rate is null then
    perform private.fail('no_currency_rate', format('There is no fresh rate from %s to %s.', from_currency,
      to_currency), jsonb_build_object('from', from_currency, 'to', to_currency));
  elsif from_currency = to_currency then
    return amount_minor;
  end if;
  v_step := case when v_to = 3 then 10 else 1 end;
  return greatest(round(amount_minor * v_rate * power(10::numeric, v_to - v_from) / v_step) * v_step,
    case when amount_minor > 0 then v_step end);
end $$;
comment on function billing.convert_minor(bigint, text, text) is
  'An amount in another currency, minor units to minor units, rounded half away from zero.';
revoke all on function billing.convert_minor from public, anon, authenticated, service_role;
grant execute on function billing.convert_minor to anon, authenticated, service_role;

-- Caches the rates of one currency: {"INR": 83.2, ...}. Codes we do not know are passed over. Returns how many.
create function billing.store_currency_rates(base text, rates jsonb, lifetime interval default '1 hour')
returns integer
language sql
set search_path = ''
as $$
  with stored as (
    insert into ref.currency_rates (from_currency, to_currency, rate, created_at, expires_at)
    select base, c.code, (rates ->> c.code)::numeric, private.now(), private.now() + lifetime
    from ref.currencies c
    where jsonb_typeof(rates -> c.code) = 'number' and round((rates ->> c.code)::numeric, 12) > 0 and c.code <> base
    on conflict (from_currency, to_currency) do update
    set rate = excluded.rate, created_at = excluded.created_at, expires_at = excluded.expires_at
    returning 1
  )
  select count(*)::integer from stored
$$;
comment on function billing.store_currency_rates is
  'Caches exchange rates of a currency for an hour; returns how many.';
revoke all on function billing.store_currency_rates from public, anon, authenticated, service_role;
grant execute on function billing.store_currency_rates to service_role;

-- The currency a person pays in: the one chosen in the settings, else that of the country of the request while that
-- is one we charge in (India: INR), else ours. Without a choice it is found automatically (AUTO), unless the person
-- has switched that off.
create function billing.preferred_currency(country text default null)
returns table (currency text, provider text, source text)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_chosen text;
  v_automatic boolean := true;
begin
  if auth.uid() is not null then
    select s.currency, s.auto_detect_currency into v_chosen, v_automatic
    from identity.user_settings s where s.user_id = auth.uid();
  end if;
  return query
  select c.currency, c.provider, f.source
  from (values (v_chosen, 'preference', 1),
    ((select k.currency_code from ref.countries k where k.alpha2 = upper(country) and coalesce(v_automatic, true)),
      'country', 2),
    ((select d.currency from billing.sale_currencies d where d.is_default), 'default', 3)) as f (currency, source, turn)
  join billing.sale_currencies c on c.currency = f.currency and c.is_active
  order by f.turn limit 1;
end $$;
comment on function billing.preferred_currency(text) is
  'In which currency the caller pays and through which provider, and whether by choice, country or default.';
revoke all on function billing.preferred_currency from public, anon, authenticated, service_role;
grant execute on function billing.preferred_currency to anon, authenticated, service_role;

-- What the packages on sale cost in a currency. Errors: unknown_currency, no_currency_rate.
create function billing.credit_package_prices(currency text)
returns table (slug text, app text, name text, description text, credits_micro bigint, valid_days integer,
  price_minor bigint, price_currency text)
language sql stable
set search_path = ''
as $$
  select p.slug, p.app, p.name, p.description, p.credits_micro, p.valid_days,
    billing.convert_minor(p.price_minor, p.currency, credit_package_prices.currency), credit_package_prices.currency
  from billing.credit_packages p where p.is_active order by p.sort_order, p.slug
$$;
comment on function billing.credit_package_prices(text) is
  'The credit packages on sale with their price in a currency.';
revoke all on function billing.credit_package_prices from public, anon, authenticated, service_role;
grant execute on function billing.credit_package_prices to anon, authenticated, service_role;
