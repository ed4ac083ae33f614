-- Search of products. Operators of text search are not leakproof, so that under row security no index serves them:
-- the core looks without it, after it has checked the caller.

-- The last word is taken as a beginning, for search as you type. Null when nothing is left to look for.
create function private.search_query(query text) returns tsquery
language plpgsql stable
set search_path = ''
as $$
declare
  v_query tsquery := websearch_to_tsquery('english', coalesce(query, ''));
begin
  if numnode(v_query) = 0 then
    return null;
  end if;
  return case when query ~ '\w$' then (v_query::text || ':*')::tsquery else v_query end;
end $$;
comment on function private.search_query(text) is 'What people type as a text search.';
revoke all on function private.search_query from public, anon, authenticated, service_role;

-- Of a word that very many products have, the best of the 1,000 found first are shown.
create function private.search_products(workspace_id uuid, query text, tags text[], only_in_stock boolean,
  most integer, skip integer) returns setof commerce.shopify_products
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_query tsquery := private.search_query(query);
begin
  perform private.require_role(workspace_id, 'viewer');
  if most is null or most not between 1 and 100 or skip is null or skip not between 0 and 900 then
    perform private.fail('invalid_argument', 'most is 1 to 100, skip 0 to 900.', '{"argument": "most"}');
  end if;
  if v_query is null and coalesce(search_products.tags, '{}') = '{}' then
    return query
    select * from commerce.shopify_products p
    where p.workspace_id = search_products.workspace_id and p.deleted_at is null
      and (p.has_variants_in_stock or not only_in_stock)
    order by p.shopify_updated_at desc, p.id limit most offset skip;
    return;
  end if;
  return query
  with found as materialized (
    select p.id, case when v_query is null then 0 else ts_rank(p.search, v_query) end as rank, p.shopify_updated_at
    from commerce.shopify_products p
    where p.workspace_id = search_products.workspace_id and p.deleted_at is null
      and (v_query is null or p.search @@ v_query)
      and (coalesce(search_products.tags, '{}') = '{}' or p.tags @> search_products.tags)
      and (p.has_variants_in_stock or not only_in_stock)
    limit 1000
  ), best as (
    select f.id, f.rank, f.shopify_updated_at from found f
    order by f.rank desc, f.shopify_updated_at desc, f.id limit most offset skip
  )
  select p.* from best b join commerce.shopify_products p on p.id = b.id
  order by b.rank desc, b.shopify_updated_at desc, b.id;
end $$;
comment on function private.search_products(uuid, text, text[], boolean, integer, integer) is
  'Core of commerce.search_products.';
revoke all on function private.search_products from public, anon, authenticated, service_role;
grant execute on function private.search_products to authenticated, service_role;

create function commerce.search_products(workspace_id uuid, query text default null, tags text[] default '{}',
  only_in_stock boolean default false, most integer default 20, skip integer default 0)
returns setof commerce.shopify_products
language sql stable
set search_path = ''
as $$
  select * from private.search_products(search_products.workspace_id, search_products.query, search_products.tags,
    coalesce(search_products.only_in_stock, false), search_products.most, search_products.skip)
$$;
comment on function commerce.search_products(uuid, text, text[], boolean, integer, integer) is
  'Products of a workspace that match words and have all the tags, best first; without words the last changed first.';
revoke all on function commerce.search_products from public, anon, authenticated, service_role;
grant execute on function commerce.search_products to authenticated, service_role;

create function commerce.low_stock_products(workspace_id uuid, threshold integer default 10, most integer default 50)
returns setof commerce.shopify_products
language sql stable
set search_path = ''
as $$
  select * from commerce.shopify_products p
  where p.workspace_id = low_stock_products.workspace_id and p.deleted_at is null
    and p.lowest_stock_level < low_stock_products.threshold
  order by p.lowest_stock_level, p.id limit least(greatest(coalesce(most, 50), 1), 1000)
$$;
comment on function commerce.low_stock_products(uuid, integer, integer) is
  'Products of which a variant has fewer than the threshold left, the scarcest first.';
revoke all on function commerce.low_stock_products from public, anon, authenticated, service_role;
grant execute on function commerce.low_stock_products to authenticated, service_role;
