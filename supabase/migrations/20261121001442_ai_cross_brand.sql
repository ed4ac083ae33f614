-- Looks over the brands of a holding company: what they sell, where they overlap, what to do about it.

create table ai.cross_brand_analytics (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  total_skus integer not null,
  total_revenue_30d jsonb not null,
  top_performing_brand uuid,
  brands jsonb not null,
  shared_customer_segments jsonb not null default '[]',
  brand_cannibalization_risk numeric(5, 4) not null,
  cross_sell_opportunities jsonb not null default '[]',
  portfolio_trends jsonb not null default '{}',
  recommended_actions jsonb not null default '[]',
  computed_at timestamptz not null default now(),
  constraint cross_brand_analytics_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint cross_brand_analytics_top_brand_fkey foreign key (top_performing_brand)
    references identity.workspaces (id) on delete set null,
  constraint cross_brand_analytics_figures_in_range check (total_skus >= 0
    and brand_cannibalization_risk between 0 and 1),
  constraint cross_brand_analytics_json_shapes check (jsonb_typeof(total_revenue_30d) = 'object'
    and jsonb_typeof(brands) = 'array' and jsonb_typeof(shared_customer_segments) = 'array'
    and jsonb_typeof(cross_sell_opportunities) = 'array' and jsonb_typeof(portfolio_trends) = 'object'
    and jsonb_typeof(recommended_actions) = 'array')
);
comment on table ai.cross_brand_analytics is
  'Looks over the brands of a holding company (workspace_id), each as it was computed.';
comment on column ai.cross_brand_analytics.total_revenue_30d is
  'Hundredths by currency: currencies are never added up.';
comment on column ai.cross_brand_analytics.brands is 'The figures of each brand: rows of ai.brand_figures.';
comment on column ai.cross_brand_analytics.shared_customer_segments is
  'Pairs of brands with customers of both: [{brands: [id, id], customers}], by the customer ids that the apps use.';
comment on column ai.cross_brand_analytics.brand_cannibalization_risk is
  'How much the catalogs overlap: mean over all pairs of brands of the share of types and tags in common, 0 to 1.';
comment on column ai.cross_brand_analytics.cross_sell_opportunities is
  'Customers of one brand whose preference a tag of another meets: [{from, to, style, customers}].';
create index cross_brand_analytics_workspace_id on ai.cross_brand_analytics (workspace_id, computed_at desc, id);
create index cross_brand_analytics_top_brand on ai.cross_brand_analytics (top_performing_brand);
alter table ai.cross_brand_analytics enable row level security;
revoke all on table ai.cross_brand_analytics from public, anon, authenticated, service_role;
grant select on table ai.cross_brand_analytics to authenticated;
grant select, insert, update, delete on table ai.cross_brand_analytics to service_role;
create policy "Admins see the analytics of their holdings" on ai.cross_brand_analytics
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

create function private.shared_customers(brands uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
  with known as (
    select distinct p.workspace_id, p.customer_id from ai.customer_preferences p
    where p.workspace_id = any (brands) and p.customer_id is not null
  )
  select coalesce(jsonb_agg(jsonb_build_object('brands', jsonb_build_array(s.a, s.b), 'customers', s.customers)
    order by s.customers desc, s.a, s.b), '[]')
  from (select a.workspace_id as a, b.workspace_id as b, count(*) as customers
    from known a join known b on b.customer_id = a.customer_id and b.workspace_id > a.workspace_id
    group by 1, 2) s
$$;
comment on function private.shared_customers(uuid[]) is 'Pairs of brands and how many customers both have.';
revoke all on function private.shared_customers from public, anon, authenticated, service_role;

create function private.catalog_overlap(brands uuid[]) returns numeric
language sql stable
set search_path = ''
as $$
  with words as (
    select distinct p.workspace_id, lower(t.word) as word from commerce.shopify_products p
    cross join lateral unnest(p.tags || p.product_type) as t (word)
    where p.workspace_id = any (brands) and p.deleted_at is null and t.word <> ''
  ), pairs as (
    select a.id as a, b.id as b from unnest(brands) a (id) join unnest(brands) b (id) on b.id > a.id
  )
  select coalesce(round(avg(coalesce(o.common::numeric / nullif(o.either, 0), 0)), 4), 0)
  from pairs p
  cross join lateral (select count(*) filter (where x.brands = 2) as common, count(*) as either
    from (select w.word, count(*) as brands from words w where w.workspace_id in (p.a, p.b) group by 1) x) o
$$;
comment on function private.catalog_overlap(uuid[]) is
  'Mean share of product types and tags that two brands have in common (Jaccard), 0 to 1.';
revoke all on function private.catalog_overlap from public, anon, authenticated, service_role;

create function private.cross_sells(brands uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
  with wishes as (
    select p.workspace_id, p.customer_id, lower(p.preference_value #>> '{}') as style from ai.customer_preferences p
    where p.workspace_id = any (brands) and p.customer_id is not null
      and private.decayed(p.confidence, p.last_confirmed_at, private.now()) >= 0.3
      and jsonb_typeof(p.preference_value) = 'string'
  ), offers as (
    select distinct p.workspace_id, lower(t.word) as style from commerce.shopify_products p
    cross join lateral unnest(p.tags || p.product_type) as t (word)
    where p.workspace_id = any (brands) and p.deleted_at is null and p.has_variants_in_stock
  )
  select coalesce(jsonb_agg(jsonb_build_object('from', s.a, 'to', s.b, 'style', s.style, 'customers', s.customers)
    order by s.customers desc, s.style), '[]')
  from (select w.workspace_id as a, o.workspace_id as b, w.style, count(distinct w.customer_id) as customers
    from wishes w join offers o on o.style = w.style and o.workspace_id <> w.workspace_id
    where not exists (select from wishes k where k.customer_id = w.customer_id and k.workspace_id = o.workspace_id)
    group by 1, 2, 3 order by 4 desc limit 20) s
$$;
comment on function private.cross_sells(uuid[]) is 'What customers of a brand like and another brand has in stock.';
revoke all on function private.cross_sells from public, anon, authenticated, service_role;

-- Rules, not guesses: each action names the brand and the figure it follows from.
create function private.recommended_actions(figures ai.brand_figures[]) returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('action', a.action, 'workspace_id', f.workspace_id, 'name', f.name,
    'because', a.because) order by a.urgency, f.name), '[]')
  from unnest(figures) f
  cross join lateral (
    select 1, 'restock', jsonb_build_object('low_stock', f.low_stock, 'skus', f.skus)
    where f.low_stock > 0 and f.low_stock * 5 >= f.skus
    union all
    select 2, 'look_into_sales', jsonb_build_object('currency', c.currency, 'cents', c.now, 'before', c.earlier)
    from (select k.key as currency, coalesce((f.revenue_30d ->> k.key)::bigint, 0) as now, k.value::bigint as earlier
      from jsonb_each_text(f.revenue_before) k) c where c.now * 10 < c.earlier * 8
    union all
    select 3, 'add_knowledge', jsonb_build_object('knowledge_chunks', f.knowledge_chunks)
    where f.knowledge_chunks = 0
    union all
    select 4, 'create_pictures', jsonb_build_object('creations_30d', f.creations_30d, 'skus', f.skus)
    where f.creations_30d = 0 and f.skus > 0
  ) a (urgency, action, because)
$$;
comment on function private.recommended_actions is 'What the figures of brands call for, the most urgent first.';
revoke all on function private.recommended_actions from public, anon, authenticated, service_role;

create function private.sum_by_currency(amounts jsonb[]) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(s.key, s.total), '{}') from (
    select e.key, sum(e.value::bigint) as total from unnest(amounts) a, jsonb_each_text(a) e group by 1) s
$$;
comment on function private.sum_by_currency(jsonb[]) is 'Adds up amounts, each currency by itself.';
revoke all on function private.sum_by_currency from public, anon, authenticated, service_role;

create function private.analyze_portfolio(workspace_id uuid) returns ai.cross_brand_analytics
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_figures ai.brand_figures[];
  v_brands uuid[];
  v_row ai.cross_brand_analytics;
begin
  perform private.require_role(analyze_portfolio.workspace_id, 'admin');
  if not exists (select from identity.workspaces w
    where w.id = analyze_portfolio.workspace_id and w.type = 'holding') then
    perform private.fail('no_holding', 'This workspace is no holding company.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  v_brands := array(select w.id from identity.workspaces w
    where w.parent_id = analyze_portfolio.workspace_id and w.deleted_at is null order by w.id);
  v_figures := array(select f::ai.brand_figures from private.figures_of(v_brands) f);
  insert into ai.cross_brand_analytics (workspace_id, total_skus, total_revenue_30d, top_performing_brand, brands,
    shared_customer_segments, brand_cannibalization_risk, cross_sell_opportunities, portfolio_trends,
    recommended_actions, computed_at)
  select analyze_portfolio.workspace_id, coalesce(sum(f.skus), 0),
    private.sum_by_currency(array_agg(f.revenue_30d)),
    (select t.workspace_id from unnest(v_figures) t order by (select coalesce(max(e.value::bigint), 0)
      from jsonb_each_text(t.revenue_30d) e) desc, t.conversations_30d desc, t.creations_30d desc, t.name limit 1),
    coalesce(jsonb_agg(to_jsonb(f) order by f.name), '[]'), private.shared_customers(v_brands),
    private.catalog_overlap(v_brands), private.cross_sells(v_brands),
    jsonb_build_object('revenue', private.sum_by_currency(array_agg(f.revenue_30d)),
      'revenue_before', private.sum_by_currency(array_agg(f.revenue_before)),
      'creations_30d', coalesce(sum(f.creations_30d), 0), 'conversations_30d', coalesce(sum(f.conversations_30d), 0),
      'spent_micro_30d', coalesce(sum(f.spent_micro_30d), 0)),
    private.recommended_actions(v_figures), private.now()
  from unnest(v_figures) f
  returning * into v_row;
  return v_row;
end $$;
comment on function private.analyze_portfolio(uuid) is 'Core of ai.analyze_portfolio.';
revoke all on function private.analyze_portfolio from public, anon, authenticated, service_role;
grant execute on function private.analyze_portfolio to authenticated, service_role;

-- Errors: unknown_workspace, role_too_low, no_holding.
create function ai.analyze_portfolio(workspace_id uuid) returns ai.cross_brand_analytics
language sql
set search_path = ''
as $$ select private.analyze_portfolio(analyze_portfolio.workspace_id) $$;
comment on function ai.analyze_portfolio(uuid) is
  'Looks over all brands of a holding company and keeps what it saw; admins of the holding may.';
revoke all on function ai.analyze_portfolio from public, anon, authenticated, service_role;
grant execute on function ai.analyze_portfolio to authenticated, service_role;
