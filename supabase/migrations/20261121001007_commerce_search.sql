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

create type private.found_product as (id uuid, rank real, changed_at timestamptz);

-- At most 250 matches of one way of looking, a condition on p: $1 the workspace, $2 and $3 searches, $4 tags. Each is
-- put together anew, because a plan that fits every tenant and every word fits none.
create function private.find_products(source text, workspace_id uuid, query tsquery, begun tsquery, tags text[])
returns private.found_product[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set random_page_cost = 1.1
as $$
declare
  v_found private.found_product[];
begin
  execute 'select array_agg(f.found) from (select row(p.id, ts_rank(p.search, $2), p.shopify_updated_at)'
    || '::private.found_product as found from ' || source || ' limit 250) f'
    into v_found using workspace_id, query, begun, tags;
  return coalesce(v_found, '{}');
end $$;
comment on function private.find_products(text, uuid, tsquery, tsquery, text[]) is
  'Up to 250 products that one way of looking finds.';
revoke all on function private.find_products from public, anon, authenticated, service_role;

-- How many products the server believes to have these words, from what it last analysed. Volatile, for explain may not
-- stand in another kind; it changes nothing.
create function private.products_expected(query tsquery) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_plan json;
begin
  execute 'explain (format json) select from commerce.shopify_products p where p.deleted_at is null and p.search @@ $1'
    into v_plan using query;
  return (v_plan #>> '{0,Plan,Plan Rows}')::numeric::bigint;
end $$;
comment on function private.products_expected(tsquery) is 'How many products a search is believed to find.';
revoke all on function private.products_expected from public, anon, authenticated, service_role;

-- Three ways, by what is cheapest. A word that 15,000 products have is looked for from the newest on: 250 are soon
-- found, and the index would first list all that have it. A rarer one is looked up in the index, whole; as a beginning
-- only when fewer than 20 have it whole, because the index must then merge all words that begin so. With two words or
-- more before it, those are looked up and the beginning is tested on what they find. The index is asked without the
-- workspace, which its words begin with: combined with an index of the workspace it would list all of that.
create function private.find_by_words(workspace_id uuid, query text, filter text, tags text[])
returns private.found_product[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_query tsquery := private.search_query(workspace_id, query);
  v_whole tsquery := regexp_replace(v_query::text, ':\*$', '')::tsquery;
  v_others tsquery;
  v_found private.found_product[];
begin
  if tags <> '{}' then
    return private.find_products('commerce.shopify_products p where p.workspace_id = $1 and p.deleted_at is null'
      || ' and p.search @@ $2 and p.tags @> $4' || filter, workspace_id, v_query, null, tags);
  end if;
  if private.products_expected(v_query) >= 15000 then
    v_found := private.find_products('(select * from commerce.shopify_products p where p.workspace_id = $1'
      || ' and p.deleted_at is null order by p.shopify_updated_at desc, p.id limit 6000) p where p.search @@ $2'
      || filter, workspace_id, v_query, null, tags);
    if cardinality(v_found) = 250 then
      return v_found;
    end if;
  end if;
  v_found := private.find_products('commerce.shopify_products p where (p.workspace_id = $1) is true'
    || ' and p.deleted_at is null and p.search @@ $2' || filter, workspace_id, v_whole, null, tags);
  if cardinality(v_found) >= 20 or v_query::text !~ '\*$' then
    return v_found;
  end if;
  if numnode(v_query) >= 5 and v_query::text !~ '[|!<]' then
    v_others := regexp_replace(v_query::text, ' & ''(?:[^'']|'''')+'':\*$', '')::tsquery;
  end if;
  return private.find_products('commerce.shopify_products p where (p.workspace_id = $1) is true'
    || ' and p.deleted_at is null and p.search @@ ' || case when v_others is null then '$3' else '$2' end
    || case when v_others is null then '' else ' and (p.search @@ $3) is true' end || filter,
    workspace_id, coalesce(v_others, v_query), v_query, tags);
end $$;
comment on function private.find_by_words(uuid, text, text, text[]) is
  'Up to 250 products of a workspace that have the words typed, with how well they fit.';
revoke all on function private.find_by_words from public, anon, authenticated, service_role;

-- Of a word that very many products have, the best of the 250 found first are shown: to rank one, its whole vector is
-- read.
create function private.search_products(workspace_id uuid, query text, tags text[], only_in_stock boolean,
  most integer, skip integer) returns setof commerce.shopify_products
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_filter text := case when only_in_stock then ' and p.has_variants_in_stock' else '' end;
begin
  perform private.require_role(workspace_id, 'viewer');
  if most is null or most not between 1 and 100 or skip is null or skip not between 0 and 150 then
    perform private.fail('invalid_argument', 'most is 1 to 100, skip 0 to 150.', '{"argument": "most"}');
  end if;
  if numnode(websearch_to_tsquery('english', coalesce(query, ''))) = 0 then
    return query execute 'select * from commerce.shopify_products p where p.workspace_id = $1 and p.deleted_at is null'
      || case when search_products.tags <> '{}' then ' and p.tags @> $2' else '' end || v_filter
      || ' order by p.shopify_updated_at desc, p.id limit $3 offset $4'
      using workspace_id, search_products.tags, most, skip;
    return;
  end if;
  return query
  select p.* from (
    select f.* from unnest(private.find_by_words(workspace_id, query, v_filter, search_products.tags)) f
    order by f.rank desc, f.changed_at desc, f.id limit most offset skip
  ) b
  join commerce.shopify_products p on p.id = b.id
  order by b.rank desc, b.changed_at desc, b.id;
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
