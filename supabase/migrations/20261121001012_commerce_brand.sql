-- How a brand writes and whom it writes for: what its people set, and what can be read off its catalog.

create table commerce.brand_settings (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  brand_name text,
  brand_tagline text,
  brand_story text,
  brand_voice text not null default 'casual',
  tone_keywords text[] not null default '{}',
  avoid_keywords text[] not null default '{}',
  target_gender text not null default 'all',
  target_age_min integer not null default 18,
  target_age_max integer not null default 65,
  target_lifestyle text[] not null default '{}',
  target_income_level text not null default 'moderate',
  pricing_strategy text not null default 'value',
  price_ranges jsonb not null default '{}',
  currency text not null default 'USD',
  default_markup_percent numeric(5, 2) not null default 50.00,
  description_template text,
  description_length text not null default 'medium',
  include_materials boolean not null default true,
  include_care_instructions boolean not null default true,
  include_sizing_info boolean not null default true,
  include_sustainability boolean not null default false,
  include_origin_story boolean not null default false,
  preferred_model_style text not null default 'diverse',
  preferred_background text not null default 'white',
  model_diversity_enabled boolean not null default true,
  sample_titles text[] not null default '{}',
  sample_descriptions text[] not null default '{}',
  common_tags text[] not null default '{}',
  products_analyzed integer not null default 0,
  last_analysis_at timestamptz,
  analysis_insights jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint brand_settings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint brand_settings_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint brand_settings_once unique (connected_account_id),
  constraint brand_settings_voice_shape check (brand_voice ~ '^[a-z][a-z_-]{1,39}$'),
  constraint brand_settings_age_range check (0 <= target_age_min and target_age_min <= target_age_max
    and target_age_max <= 120),
  constraint brand_settings_currency_shape check (currency ~ '^[A-Z]{3}$'),
  constraint brand_settings_markup_not_negative check (default_markup_percent >= 0),
  constraint brand_settings_length_known check (description_length in ('short', 'medium', 'long')),
  constraint brand_settings_text_lengths check (length(brand_name) <= 200 and length(brand_tagline) <= 500
    and length(brand_story) <= 20000 and length(description_template) <= 20000),
  constraint brand_settings_analyzed_not_negative check (products_analyzed >= 0),
  constraint brand_settings_json_are_objects
    check (jsonb_typeof(price_ranges) = 'object' and jsonb_typeof(analysis_insights) = 'object')
);
comment on table commerce.brand_settings is
  'The brand behind a connected account: voice, audience, prices, style, and what its catalog shows of them.';
comment on column commerce.brand_settings.price_ranges is
  'By product type, in hundredths of the currency''s unit: {"Dresses": {"min": 1990, "median": 4990, "max": 9990}}.';
comment on column commerce.brand_settings.analysis_insights is
  'What the last analysis read off the catalog: counts by type and vendor, shares, lengths.';
create index brand_settings_workspace_id on commerce.brand_settings (workspace_id);
create trigger touch_brand_settings before update on commerce.brand_settings
  for each row execute function private.touch_updated_at();
alter table commerce.brand_settings enable row level security;
revoke all on table commerce.brand_settings from public, anon, authenticated, service_role;
grant select, delete,
  insert (workspace_id, connected_account_id, brand_name, brand_tagline, brand_story, brand_voice, tone_keywords,
    avoid_keywords, target_gender, target_age_min, target_age_max, target_lifestyle, target_income_level,
    pricing_strategy, price_ranges, currency, default_markup_percent, description_template, description_length,
    include_materials, include_care_instructions, include_sizing_info, include_sustainability, include_origin_story,
    preferred_model_style, preferred_background, model_diversity_enabled, sample_titles, sample_descriptions,
    common_tags),
  update (brand_name, brand_tagline, brand_story, brand_voice, tone_keywords, avoid_keywords, target_gender,
    target_age_min, target_age_max, target_lifestyle, target_income_level, pricing_strategy, price_ranges, currency,
    default_markup_percent, description_template, description_length, include_materials, include_care_instructions,
    include_sizing_info, include_sustainability, include_origin_story, preferred_model_style, preferred_background,
    model_diversity_enabled, sample_titles, sample_descriptions, common_tags)
  on table commerce.brand_settings to authenticated;
grant select, insert, update, delete on table commerce.brand_settings to service_role;
create policy "Members see the brand settings of their workspaces" on commerce.brand_settings
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
-- The account must be one that the caller sees, of the same workspace.
create policy "Editors may set up a brand" on commerce.brand_settings
  for insert to authenticated with check (workspace_id = any ((select private.workspace_ids('editor'))::uuid[])
    and (workspace_id, connected_account_id) in (
      select a.workspace_id, a.id from integrations.connected_accounts a
      where a.workspace_id = any ((select private.workspace_ids('editor'))::uuid[])));
create policy "Editors may change brand settings" on commerce.brand_settings
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete brand settings" on commerce.brand_settings
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create function private.price_ranges_of(connected_account_id uuid) returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(r.product_type, jsonb_build_object('min', r.lowest, 'median', r.median,
    'max', r.highest)), '{}')
  from (
    select coalesce(p.product_type, 'other') as product_type, min(p.price_min_cents) as lowest,
      max(p.price_max_cents) as highest,
      (percentile_disc(0.5) within group (order by p.price_min_cents)) as median
    from commerce.shopify_products p
    where p.connected_account_id = price_ranges_of.connected_account_id and p.deleted_at is null
      and p.price_min_cents is not null
    group by 1 order by count(*) desc limit 50
  ) r
$$;
comment on function private.price_ranges_of(uuid) is 'Least, middle and highest price of a shop''s products, by type.';
revoke all on function private.price_ranges_of from public, anon, authenticated, service_role;

create function private.insights_of(connected_account_id uuid) returns jsonb
language sql stable
set search_path = ''
as $$
  with live as (
    select * from commerce.shopify_products p
    where p.connected_account_id = insights_of.connected_account_id and p.deleted_at is null
  )
  select jsonb_build_object('products', count(*), 'active', count(*) filter (where l.status = 'active'),
    'in_stock', count(*) filter (where l.has_variants_in_stock),
    'without_description', count(*) filter (where l.body_html is null),
    'without_image', count(*) filter (where l.featured_image_url is null),
    'title_words', round(avg(cardinality(regexp_split_to_array(trim(l.title), '\s+'))), 1),
    'description_characters', round(avg(length(l.body_html))),
    'discounted', count(*) filter (where l.compare_at_price_min_cents > l.price_min_cents),
    'types', (select coalesce(jsonb_object_agg(t.name, t.products), '{}') from (
      select coalesce(x.product_type, 'other') as name, count(*) as products from live x
      group by 1 order by 2 desc, 1 limit 20) t),
    'vendors', (select coalesce(jsonb_object_agg(t.name, t.products), '{}') from (
      select x.vendor as name, count(*) as products from live x where x.vendor is not null
      group by 1 order by 2 desc, 1 limit 20) t))
  from live l
$$;
comment on function private.insights_of(uuid) is 'What a shop''s catalog shows at a glance.';
revoke all on function private.insights_of from public, anon, authenticated, service_role;

create function private.analyze_brand(account_id uuid) returns commerce.brand_settings
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_row commerce.brand_settings;
begin
  select * into v_account from integrations.connected_accounts a where a.id = account_id;
  if v_account.id is null or not private.has_role(v_account.workspace_id, 'viewer') then
    perform private.fail('unknown_account', 'There is no such account among those of your workspaces.',
      jsonb_build_object('account_id', account_id));
  end if;
  perform private.require_role(v_account.workspace_id, 'editor');
  insert into commerce.brand_settings (workspace_id, connected_account_id, brand_name, currency)
  values (v_account.workspace_id, v_account.id, v_account.display_name,
    coalesce(v_account.provider_data ->> 'currency', 'USD'))
  on conflict on constraint brand_settings_once do nothing;
  update commerce.brand_settings b
  set price_ranges = private.price_ranges_of(v_account.id), analysis_insights = private.insights_of(v_account.id),
    products_analyzed = (private.insights_of(v_account.id) ->> 'products')::integer,
    last_analysis_at = private.now(),
    common_tags = array(select t.tag from commerce.shopify_products p, unnest(p.tags) t (tag)
      where p.connected_account_id = v_account.id and p.deleted_at is null
      group by t.tag order by count(*) desc, t.tag limit 20),
    sample_titles = array(select p.title from commerce.shopify_products p
      where p.connected_account_id = v_account.id and p.deleted_at is null and p.status = 'active'
      order by p.shopify_updated_at desc, p.id limit 10),
    sample_descriptions = array(select left(p.body_html, 2000) from commerce.shopify_products p
      where p.connected_account_id = v_account.id and p.deleted_at is null and length(p.body_html) >= 40
      order by p.shopify_updated_at desc, p.id limit 5)
  where b.connected_account_id = v_account.id
  returning * into v_row;
  return v_row;
end $$;
comment on function private.analyze_brand(uuid) is 'Core of commerce.analyze_brand.';
revoke all on function private.analyze_brand from public, anon, authenticated, service_role;
grant execute on function private.analyze_brand to authenticated, service_role;

create function commerce.analyze_brand(account_id uuid) returns commerce.brand_settings
language sql
set search_path = ''
as $$ select private.analyze_brand(analyze_brand.account_id) $$;
comment on function commerce.analyze_brand(uuid) is
  'Reads price ranges, tags, samples and figures off a shop''s catalog into its brand settings; editors may.';
revoke all on function commerce.analyze_brand from public, anon, authenticated, service_role;
grant execute on function commerce.analyze_brand to authenticated, service_role;
