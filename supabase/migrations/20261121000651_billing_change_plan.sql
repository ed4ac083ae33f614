-- How an operator changes a plan: one call, one version, with who and why.

-- A feature as an operator states it: true or false, a number (the limit), "unlimited", a text, or the whole as
-- {"enabled", "limit", "period", "text", "metadata"}. Errors: unknown_feature, invalid_argument.
create function private.plan_feature_from(feature text, stated jsonb) returns billing.plan_features
language plpgsql stable
set search_path = ''
as $$
declare
  v_kind text := (select f.kind from billing.features f where f.slug = plan_feature_from.feature);
  v_type text := jsonb_typeof(stated);
  v_row billing.plan_features;
begin
  v_row.feature := feature;
  v_row.enabled := true;
  v_row.metadata := '{}';
  if v_kind is null then
    perform private.fail('unknown_feature', format('There is no feature %L.', feature),
      jsonb_build_object('feature', feature));
  elsif v_type = 'object' and stated - '{enabled,limit,period,text,metadata}'::text[] = '{}' then
    v_row.enabled := coalesce((stated -> 'enabled')::boolean, true);
    v_row.limit_value := (stated ->> 'limit')::bigint;
    v_row.limit_period := stated ->> 'period';
    v_row.text_value := stated ->> 'text';
    v_row.metadata := coalesce(stated -> 'metadata', '{}');
  elsif v_type = 'boolean' and (v_kind = 'switch' or not stated::boolean) then
    v_row.enabled := stated::boolean;
  elsif v_type = 'number' and v_kind = 'limit' then
    v_row.limit_value := stated::bigint;
  elsif v_type = 'string' and v_kind = 'text' then
    v_row.text_value := stated #>> '{}';
  elsif not (v_kind = 'limit' and stated = '"unlimited"') then
    perform private.fail('invalid_argument', format('This says nothing of the %s %s.', v_kind, feature),
      jsonb_build_object('argument', 'features', 'feature', feature, 'kind', v_kind, 'value', stated));
  end if;
  return v_row;
end $$;
comment on function private.plan_feature_from(text, jsonb) is 'A row of plan_features from what an operator states.';
revoke all on function private.plan_feature_from from public, anon, authenticated, service_role;
grant execute on function private.plan_feature_from to service_role;

-- Features named are set, those given null are taken out, others stay.
create function private.set_plan_features(plan_id uuid, features jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_feature text;
  v_stated jsonb;
  v_row billing.plan_features;
begin
  for v_feature, v_stated in select * from jsonb_each(features) order by key loop
    if v_stated = 'null' then
      delete from billing.plan_features pf where pf.plan_id = set_plan_features.plan_id and pf.feature = v_feature;
    else
      v_row := private.plan_feature_from(v_feature, v_stated);
      insert into billing.plan_features as pf
        (plan_id, feature, enabled, limit_value, limit_period, text_value, metadata)
      values (set_plan_features.plan_id, v_feature, v_row.enabled, v_row.limit_value, v_row.limit_period,
        v_row.text_value, v_row.metadata)
      on conflict on constraint plan_features_pkey do update set enabled = excluded.enabled,
        limit_value = excluded.limit_value, limit_period = excluded.limit_period, text_value = excluded.text_value,
        metadata = excluded.metadata
      where (pf.enabled, pf.limit_value, pf.limit_period, pf.text_value, pf.metadata) is distinct from
        (excluded.enabled, excluded.limit_value, excluded.limit_period, excluded.text_value, excluded.metadata);
    end if;
  end loop;
end $$;
comment on function private.set_plan_features(uuid, jsonb) is 'Sets the features of a plan that are named.';
revoke all on function private.set_plan_features from public, anon, authenticated, service_role;
grant execute on function private.set_plan_features to service_role;

-- One price. The one that stands for its provider, currency and period is changed where only its looks change, and
-- archived for a new one where the amount or the provider's id does; is_active false archives it.
create function private.set_plan_price(plan_id uuid, stated jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_new billing.plan_prices := jsonb_populate_record(null::billing.plan_prices,
    '{"provider": "stripe", "billing_interval": 1, "trial_period_days": 0, "is_active": true, "is_default": false,
      "metadata": {}}' || stated);
  v_old billing.plan_prices;
begin
  if stated - '{provider,provider_price_id,provider_product_id,currency,amount_minor,billing_period,billing_interval,
    display_price,trial_period_days,is_active,is_default,metadata}'::text[] <> '{}' then
    perform private.fail('invalid_argument', 'A price has a field that is not known.',
      jsonb_build_object('argument', 'prices', 'value', stated));
  end if;
  select * into v_old from billing.plan_prices r
  where r.plan_id = set_plan_price.plan_id and r.provider = v_new.provider and r.currency = v_new.currency
    and r.billing_period = v_new.billing_period and r.billing_interval = v_new.billing_interval
    and r.archived_at is null
  order by r.created_at desc limit 1 for update;
  if v_new.is_default and v_new.is_active then
    update billing.plan_prices r set is_default = false
    where r.plan_id = set_plan_price.plan_id and r.currency = v_new.currency and r.is_default
      and r.id is distinct from v_old.id;
  end if;
  if v_old.id is not null and v_new.is_active and v_old.amount_minor = v_new.amount_minor
    and coalesce(v_old.provider_price_id = v_new.provider_price_id, true) then
    update billing.plan_prices r
    set (provider_price_id, provider_product_id, display_price, trial_period_days, is_default, is_active, metadata)
      = (select n.provider_price_id, n.provider_product_id, n.display_price, n.trial_period_days, n.is_default, true,
          n.metadata from jsonb_populate_record(v_old, stated) n)
    where r.id = v_old.id;
    return;
  end if;
  update billing.plan_prices r set is_active = false, is_default = false, archived_at = private.now()
  where r.id = v_old.id;
  if v_new.is_active then
    insert into billing.plan_prices (plan_id, provider, provider_price_id, provider_product_id, currency,
      amount_minor, billing_period, billing_interval, display_price, trial_period_days, is_default, metadata)
    values (set_plan_price.plan_id, v_new.provider, v_new.provider_price_id, v_new.provider_product_id,
      v_new.currency, v_new.amount_minor, v_new.billing_period, v_new.billing_interval, v_new.display_price,
      v_new.trial_period_days, v_new.is_default, v_new.metadata);
  end if;
end $$;
comment on function private.set_plan_price(uuid, jsonb) is 'Sets or archives one price of a plan.';
revoke all on function private.set_plan_price from public, anon, authenticated, service_role;
grant execute on function private.set_plan_price to service_role;

-- Savings against paying by the month, in minor units; rounded as the currency counts.
create function private.figure_plan_prices(plan_id uuid) returns void
language sql
set search_path = ''
as $$
  update billing.plan_prices r set monthly_equivalent_minor = f.monthly, original_monthly_total_minor = f.original,
    savings_minor = greatest(f.original - r.amount_minor, 0)
  from (
    select y.id, round(y.amount_minor::numeric / months.count)::bigint as monthly,
      m.amount_minor * months.count as original
    from billing.plan_prices y
    cross join lateral (
      select y.billing_interval * case y.billing_period when 'year' then 12 else 1 end) as months (count)
    left join billing.plan_prices m on m.plan_id = y.plan_id and m.provider = y.provider and m.currency = y.currency
      and m.billing_period = 'month' and m.billing_interval = 1 and m.archived_at is null
    where y.plan_id = figure_plan_prices.plan_id and y.billing_period in ('month', 'year') and months.count > 1
      and y.archived_at is null
  ) f
  where r.id = f.id and (r.monthly_equivalent_minor, r.original_monthly_total_minor)
    is distinct from (f.monthly, f.original)
$$;
comment on function private.figure_plan_prices(uuid) is 'Figures what prices of several months come to by the month.';
revoke all on function private.figure_plan_prices from public, anon, authenticated, service_role;
grant execute on function private.figure_plan_prices to service_role;

-- The columns of the plan that are named take what is stated, whichever the table has.
create function private.set_plan_columns(plan_id uuid, stated jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_unknown text := (select min(key) from jsonb_object_keys(stated) key
    where key in ('id', 'app', 'slug', 'created_at', 'updated_at') or not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = 'billing.plans'::regclass and a.attname = key and a.attnum > 0 and not a.attisdropped));
begin
  if v_unknown is not null then
    perform private.fail('invalid_argument', format('There is no field %s of a plan to change.', v_unknown),
      jsonb_build_object('argument', 'plan', 'field', v_unknown));
  elsif stated <> '{}' then
    execute (select format('update billing.plans p set (%1$s) = (select %1$s from jsonb_populate_record(p, $1))
      where p.id = $2 and p is distinct from jsonb_populate_record(p, $1)', string_agg(quote_ident(key), ', '))
      from jsonb_object_keys(stated) key) using stated, plan_id;
  end if;
end $$;
comment on function private.set_plan_columns(uuid, jsonb) is 'Sets the columns of a plan that are named.';
revoke all on function private.set_plan_columns from public, anon, authenticated, service_role;
grant execute on function private.set_plan_columns to service_role;

-- Makes or changes a plan. plan: columns by name; features: what is stated of each (see plan_feature_from, null
-- takes it out); prices: one object each, by provider, currency and period. What is not named stays. The same call
-- twice makes one version. Rows of subscribers are not touched: entitlements are read from the plan.
-- Errors: invalid_argument, unknown_plan, unknown_feature, feature_mismatch, price_in_use, allowance_mismatch.
create function billing.change_plan(app text, slug text, change_reason text, changed_by uuid default null,
  plan jsonb default '{}', features jsonb default '{}', prices jsonb default '[]')
returns billing.plan_versions
language plpgsql
set search_path = ''
as $$
declare
  v_plan_id uuid;
  v_version billing.plan_versions;
begin
  if coalesce(btrim(change_reason), '') = '' then
    perform private.fail('invalid_argument', 'A plan changes for a reason.', '{"argument": "change_reason"}');
  elsif plan ? 'name' then
    insert into billing.plans (app, slug, name) values (change_plan.app, change_plan.slug, plan ->> 'name')
    on conflict on constraint plans_app_slug_key do nothing;
  end if;
  select p.id into v_plan_id from billing.plans p
  where p.app = change_plan.app and p.slug = change_plan.slug for no key update;
  if not found then
    perform private.fail('unknown_plan', 'There is no such plan; a new one needs a name.',
      jsonb_build_object('app', app, 'slug', slug));
  end if;
  perform private.set_plan_columns(v_plan_id, plan);
  perform private.set_plan_features(v_plan_id, features);
  perform private.set_plan_price(v_plan_id, stated) from jsonb_array_elements(prices) stated;
  perform private.figure_plan_prices(v_plan_id);
  perform set_config('backlot.changed_by', coalesce(changed_by::text, ''), true),
    set_config('backlot.change_reason', change_reason, true);
  v_version := private.keep_plan_version(v_plan_id);
  perform set_config('backlot.changed_by', '', true), set_config('backlot.change_reason', '', true);
  return v_version;
end $$;
comment on function billing.change_plan(text, text, text, uuid, jsonb, jsonb, jsonb) is
  'Makes or changes a plan with its features and prices, for a reason; returns its newest version.';
revoke all on function billing.change_plan from public, anon, authenticated, service_role;
grant execute on function billing.change_plan to service_role;
