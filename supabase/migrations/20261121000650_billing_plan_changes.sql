-- Plans over time: every change is kept as a version with whole snapshots, prices that somebody pays stay what they
-- are, and what is no longer sold stays with those who have it.

insert into private.error_codes (name, sqlstate, hint) values
  ('price_in_use', 'PT409', 'Archive the price and add a new one: those who pay the old one keep it.'),
  ('allowance_mismatch', 'PT409', 'Change the plan''s allowance and the feature that states it together.');

create table billing.plan_versions (
  id uuid primary key default gen_random_uuid(),
  plan_id uuid not null,
  version_number integer not null,
  plan_snapshot jsonb not null,
  features_snapshot jsonb not null,
  prices_snapshot jsonb not null,
  fields_changed text[] not null,
  changed_by uuid,
  change_reason text,
  created_at timestamptz not null default now(),
  constraint plan_versions_plan_id_fkey foreign key (plan_id) references billing.plans (id),
  constraint plan_versions_number_key unique (plan_id, version_number),
  constraint plan_versions_number_positive check (version_number > 0),
  constraint plan_versions_say_what_changed check ((version_number = 1) = (cardinality(fields_changed) = 0)),
  constraint plan_versions_snapshots_are_objects check (jsonb_typeof(plan_snapshot) = 'object'
    and jsonb_typeof(features_snapshot) = 'object' and jsonb_typeof(prices_snapshot) = 'object'),
  constraint plan_versions_reason_length check (length(change_reason) between 1 and 1000)
);
comment on table billing.plan_versions is
  'A plan with its features and prices as each transaction left them; never changes.';
comment on column billing.plan_versions.features_snapshot is 'By slug of the feature.';
comment on column billing.plan_versions.prices_snapshot is 'By id of the price, archived ones too.';
comment on column billing.plan_versions.fields_changed is
  'Paths against the version before: name, features.videos.limit_value, prices.<id>; empty in the first.';
comment on column billing.plan_versions.changed_by is 'The person who changed it; kept when the account is gone.';
create index plan_versions_created_at on billing.plan_versions (created_at desc);
create trigger plan_versions_immutable before update or delete on billing.plan_versions
  for each row execute function private.forbid_change();
create trigger plan_versions_not_truncated before truncate on billing.plan_versions
  for each statement execute function private.forbid_change();
alter table billing.plan_versions enable row level security;
revoke all on table billing.plan_versions from public, anon, authenticated, service_role;
grant select on table billing.plan_versions to service_role;

-- Paths that differ between two objects, to the depth given.
create function private.changed_paths(before jsonb, after jsonb, depth integer, prefix text default '')
returns setof text
language sql immutable
set search_path = ''
as $$
  select path.path
  from jsonb_each(before) b full join jsonb_each(after) a using (key)
  cross join lateral (
    select prefix || key where depth <= 1 or a.value is null or b.value is null
    union all
    select private.changed_paths(b.value, a.value, depth - 1, prefix || key || '.')
    where depth > 1 and a.value is not null and b.value is not null
  ) path (path)
  where a.value is distinct from b.value
$$;
comment on function private.changed_paths(jsonb, jsonb, integer, text) is 'Paths of what differs between two objects.';
revoke all on function private.changed_paths from public, anon, authenticated, service_role;

-- A plan as it stands, in the shape of a version. Times of change say nothing of their own.
create function private.plan_as_version(plan_id uuid) returns billing.plan_versions
language sql stable
set search_path = ''
as $$
  select row(null, p.id, null, to_jsonb(p) - '{id,created_at,updated_at}'::text[],
    (select coalesce(jsonb_object_agg(f.feature, to_jsonb(f) - '{plan_id,feature,created_at,updated_at}'::text[]), '{}')
      from billing.plan_features f where f.plan_id = p.id),
    (select coalesce(jsonb_object_agg(r.id, to_jsonb(r) - '{id,plan_id,created_at,updated_at}'::text[]), '{}')
      from billing.plan_prices r where r.plan_id = p.id), null, null, null, null)::billing.plan_versions
  from billing.plans p where p.id = plan_as_version.plan_id
$$;
comment on function private.plan_as_version(uuid) is 'A plan with its features and prices, as a version would keep it.';
revoke all on function private.plan_as_version from public, anon, authenticated, service_role;

-- A feature that states the allowance (Selify's weekly credits) must not contradict what is granted.
create function private.check_plan_allowance(plan_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_plan billing.plans;
  v_stated record;
begin
  select * into v_plan from billing.plans p where p.id = check_plan_allowance.plan_id;
  select pf.feature, pf.limit_value, f.allowance_unit_micro into v_stated
  from billing.plan_features pf join billing.features f on f.slug = pf.feature
  where pf.plan_id = v_plan.id and f.allowance_unit_micro is not null
    and pf.limit_value * f.allowance_unit_micro is distinct from v_plan.allowance_micro
  limit 1;
  if found then
    perform private.fail('allowance_mismatch', 'The plan states another allowance than it brings.',
      jsonb_build_object('plan', v_plan.slug, 'feature', v_stated.feature, 'limit_value', v_stated.limit_value,
        'allowance_micro', v_plan.allowance_micro, 'allowance_unit_micro', v_stated.allowance_unit_micro));
  end if;
end $$;
comment on function private.check_plan_allowance(uuid) is 'Refuses a plan whose features state another allowance.';
revoke all on function private.check_plan_allowance from public, anon, authenticated, service_role;

-- Keeps the plan as it stands, unless the last version already is it. The plan's row is locked in a way that
-- subscribing does not wait for. Security definer: nobody writes versions directly.
create function private.keep_plan_version(plan_id uuid) returns billing.plan_versions
language plpgsql security definer
set search_path = ''
as $$
declare
  v_last billing.plan_versions;
  v_new billing.plan_versions;
begin
  perform from billing.plans p where p.id = keep_plan_version.plan_id for no key update;
  perform private.check_plan_allowance(plan_id);
  select * into v_last from billing.plan_versions v where v.plan_id = keep_plan_version.plan_id
  order by v.version_number desc limit 1;
  v_new := private.plan_as_version(plan_id);
  if (v_new.plan_snapshot, v_new.features_snapshot, v_new.prices_snapshot)
    is not distinct from (v_last.plan_snapshot, v_last.features_snapshot, v_last.prices_snapshot) then
    return v_last;
  end if;
  insert into billing.plan_versions (plan_id, version_number, plan_snapshot, features_snapshot, prices_snapshot,
    fields_changed, changed_by, change_reason, created_at)
  values (v_new.plan_id, coalesce(v_last.version_number, 0) + 1, v_new.plan_snapshot, v_new.features_snapshot,
    v_new.prices_snapshot, case when v_last.id is null then '{}' else array(
      select private.changed_paths(v_last.plan_snapshot, v_new.plan_snapshot, 1) union all
      select private.changed_paths(v_last.features_snapshot, v_new.features_snapshot, 2, 'features.') union all
      select private.changed_paths(v_last.prices_snapshot, v_new.prices_snapshot, 2, 'prices.') order by 1) end,
    coalesce(private.try_uuid(current_setting('backlot.changed_by', true)), auth.uid()),
    nullif(current_setting('backlot.change_reason', true), ''), private.now())
  returning * into v_new;
  return v_new;
end $$;
comment on function private.keep_plan_version(uuid) is 'The plan''s newest version, made when something has changed.';
revoke all on function private.keep_plan_version from public, anon, authenticated, service_role;
grant execute on function private.keep_plan_version to service_role;

-- Runs at the end of the transaction, so that one change of many rows is one version. A plan that is gone by then
-- has no version to keep.
create function private.plan_changed() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_plan_id uuid := case when tg_table_name = 'plans' then (to_jsonb(new) ->> 'id')::uuid
    else (coalesce(to_jsonb(new), to_jsonb(old)) ->> 'plan_id')::uuid end;
begin
  if exists (select from billing.plans p where p.id = v_plan_id) then
    perform private.keep_plan_version(v_plan_id);
  end if;
  return null;
end $$;
comment on function private.plan_changed() is 'Trigger: keeps a version of the plan that the row belongs to.';
revoke all on function private.plan_changed from public, anon, authenticated, service_role;
create constraint trigger plans_changed after insert or update on billing.plans
  deferrable initially deferred for each row execute function private.plan_changed();
create constraint trigger plan_features_changed after insert or update or delete on billing.plan_features
  deferrable initially deferred for each row execute function private.plan_changed();
create constraint trigger plan_prices_changed after insert or update or delete on billing.plan_prices
  deferrable initially deferred for each row execute function private.plan_changed();

-- What somebody pays is what they agreed to. A provider's id may be filled in later.
create function private.keep_price_paid() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (select from billing.subscriptions s where s.plan_price_id = old.id) then
    perform private.fail('price_in_use', 'Somebody pays this price: it cannot become another.',
      jsonb_build_object('plan_price_id', old.id, 'amount_minor', old.amount_minor, 'currency', old.currency));
  end if;
  return new;
end $$;
comment on function private.keep_price_paid() is 'Trigger: a price that a subscription pays keeps its terms.';
revoke all on function private.keep_price_paid from public, anon, authenticated, service_role;
create trigger plan_prices_keep_paid before update on billing.plan_prices for each row
  when ((old.plan_id, old.provider, old.currency, old.amount_minor, old.billing_period, old.billing_interval)
      is distinct from (new.plan_id, new.provider, new.currency, new.amount_minor, new.billing_period,
        new.billing_interval) or old.provider_price_id <> new.provider_price_id)
  execute function private.keep_price_paid();

-- Nobody new gets what is not sold. What a provider has sold and taken money for is taken as it is: a checkout may
-- outlast the plan's last day.
create function private.refuse_plan_not_for_sale() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_plan billing.plans;
begin
  select * into v_plan from billing.plans p where p.id = new.plan_id;
  if not v_plan.is_active or v_plan.is_legacy or v_plan.deleted_at is not null then
    perform private.fail('plan_not_for_sale', format('The plan %s is not for sale.', v_plan.slug),
      jsonb_build_object('plan_id', v_plan.id, 'plan', v_plan.slug, 'app', v_plan.app));
  end if;
  return new;
end $$;
comment on function private.refuse_plan_not_for_sale() is
  'Trigger: nobody newly gets a plan that is not sold any more.';
revoke all on function private.refuse_plan_not_for_sale from public, anon, authenticated, service_role;
create trigger subscriptions_for_sale before insert on billing.subscriptions
  for each row when (new.provider is null) execute function private.refuse_plan_not_for_sale();
create trigger subscriptions_change_for_sale before update of plan_id on billing.subscriptions
  for each row when (new.provider is null and new.plan_id <> old.plan_id)
  execute function private.refuse_plan_not_for_sale();
