-- Search of products. Operators of text search are not leakproof, so that under row security no index serves them:
-- the core looks without it, after it has checked the caller.

-- The last word is taken as a beginning, for search as you type. Each word is looked for among the workspace's own
-- (see private.tenant_words). Null when nothing is left to look for.
create function private.search_query(workspace_id uuid, query text) returns tsquery
language plpgsql stable
set search_path = ''
as $$
declare
  v_query tsquery := websearch_to_tsquery('english', coalesce(query, ''));
begin
  if numnode(v_query) = 0 then
    return null;
  end if;
  return (regexp_replace(v_query::text, '''((?:[^'']|'''')+)''', '''' || left(workspace_id::text, 8) || '\1''', 'g')
    || case when query ~ '\w$' and v_query::text ~ '''$' then ':*' else '' end)::tsquery;
end $$;
comment on function private.search_query(uuid, text) is 'What people type, as a text search in a workspace.';
revoke all on function private.search_query from public, anon, authenticated, service_role;

-- Of a word that very many products have, the best of the 250 found first are shown: to rank one, its whole vector is
-- read. The statement is put together anew, because a plan that fits every tenant and every word fits none.
create function private.search_products(workspace_id uuid, query text, tags text[], only_in_stock boolean,
  most integer, skip integer) returns setof commerce.shopify_products
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_query tsquery := private.search_query(workspace_id, query);
  v_filter text := concat_ws(' and ', 'p.workspace_id = $1 and p.deleted_at is null',
    case when v_query is not null then 'p.search @@ $2' end,
    case when search_products.tags <> '{}' then 'p.tags @> $3' end,
    case when only_in_stock then 'p.has_variants_in_stock' end);
begin
  perform private.require_role(workspace_id, 'viewer');
  if most is null or most not between 1 and 100 or skip is null or skip not between 0 and 150 then
    perform private.fail('invalid_argument', 'most is 1 to 100, skip 0 to 150.', '{"argument": "most"}');
  end if;
  if v_query is null then
    return query execute 'select * from commerce.shopify_products p where ' || v_filter
      || ' order by p.shopify_updated_at desc, p.id limit $4 offset $5'
      using workspace_id, v_query, search_products.tags, most, skip;
    return;
  end if;
  return query execute 'with found as materialized (
      select p.id, ts_rank(p.search, $2) as rank, p.shopify_updated_at from commerce.shopify_products p
      where ' || v_filter || ' limit 250
    ), best as (
      select * from found f order by f.rank desc, f.shopify_updated_at desc, f.id limit $4 offset $5
    )
    select p.* from best b join commerce.shopify_products p on p.id = b.id
    order by b.rank desc, b.shopify_updated_at desc, b.id'
    using workspace_id, v_query, search_products.tags, most, skip;
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
