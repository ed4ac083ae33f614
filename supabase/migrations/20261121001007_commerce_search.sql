-- Search of products. Operators of text search are not leakproof, so that under row security no index serves them:
-- the core looks without it, after it has checked the caller.

-- The last word is taken as a beginning, for search as you type. Null when nothing is left to look for.
create function private.typed_query(query text) returns tsquery
language plpgsql stable
set search_path = ''
as $$
declare
  v_query tsquery := websearch_to_tsquery('english', coalesce(query, ''));
begin
  if numnode(v_query) = 0 then
    return null;
  end if;
  return (v_query::text || case when query ~ '\w$' and v_query::text ~ '''$' then ':*' else '' end)::tsquery;
end $$;
comment on function private.typed_query(text) is 'What people type, as a text search.';
revoke all on function private.typed_query from public, anon, authenticated, service_role;

create function private.tenant_query(query tsquery, prefix text) returns tsquery
language plpgsql immutable
set search_path = ''
as $$
begin
  return regexp_replace(query::text, '''((?:[^'']|'''')+)''', '''' || prefix || '\1''', 'g')::tsquery;
end $$;
comment on function private.tenant_query(tsquery, text) is
  'A text search among words that begin so: see private.word_prefix and private.tenant_words.';
revoke all on function private.tenant_query from public, anon, authenticated, service_role;

create function private.search_query(workspace_id uuid, query text) returns tsquery
language sql stable
set search_path = ''
as $$
  select private.tenant_query(private.typed_query(search_query.query), private.word_prefix(search_query.workspace_id))
$$;
comment on function private.search_query(uuid, text) is 'What people type, as a text search in a workspace.';
revoke all on function private.search_query from public, anon, authenticated, service_role;

create function private.tag_query(tags text[]) returns tsquery
language sql immutable
set search_path = ''
as $$
  select string_agg('''' || replace(replace('#' || left(t.tag, 200), '\', '\\'), '''', '''''') || '''', ' & ')::tsquery
  from unnest(tags) t (tag)
$$;
comment on function private.tag_query(text[]) is 'Tags as a text search: see private.tag_words.';
revoke all on function private.tag_query from public, anon, authenticated, service_role;

create type private.found_product as (id uuid, rank real, changed_at timestamptz);

-- The slices of the workspace are looked through from the last on, each whole, until the fifty, or fifties, that the
-- page is in are full: a common word is found in one slice, and costs what the slice has. Matches are ranked within
-- the fifty their slice begins in, whichever page is asked for, so that pages neither overlap nor leave anything out.
-- The index is asked for words alone, which their workspace begins: combined with an index of the workspace it would
-- list all of that. A search that only says what must not be there is no matter for the index. Of a word that a
-- quarter of a slice has, and which says little, 2,000 are ranked.
create function private.find_products(workspace_id uuid, query tsquery, tags text[], only_in_stock boolean,
  most integer, skip integer) returns setof private.found_product
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set random_page_cost = 1.1
as $$
declare
  v_last integer := (select max(p.search_slice) from commerce.shopify_products p
    where p.workspace_id = find_products.workspace_id);
  v_all tsquery := case when tags = '{}' then query else query && private.tag_query(tags) end;
  -- put together once, with a place for the slice
  v_open text := private.word_prefix(workspace_id) || '....';
begin
  return query execute '
  with recursive slices (slice, before, total, found) as (
    select $1 + 1, 0, 0, array[]::private.found_product[]
    union all
    select s.slice - 1, s.total, s.total + coalesce(cardinality(f.found), 0), f.found
    from slices s
    cross join lateral (select private.word_prefix($2, s.slice - 1) as prefix offset 0) x
    cross join lateral (select replace($3, $8, x.prefix)::tsquery as words,
      replace($4, $8, x.prefix)::tsquery as all_words offset 0) q
    cross join lateral (
      select array_agg(row(p.id, ts_rank(p.search, q.words), p.shopify_updated_at)::private.found_product) as found
      from (select * from commerce.shopify_products p where p.deleted_at is null'
    || case when querytree(query) in ('', 'T') then ' and p.workspace_id = $2 and p.search_slice = s.slice - 1'
      || ' and (p.search @@ q.all_words) is true'
      else ' and (p.workspace_id = $2) is true and p.search @@ q.all_words' end
    || case when tags = '{}' then '' else ' and (p.tags @> $5) is true' end
    || case when only_in_stock then ' and p.has_variants_in_stock is true' else '' end || ' limit 2000) p
    ) f
    where s.slice > 0 and s.total < (($6 + $7 + 49) / 50) * 50
  )
  select f.id, f.rank, f.changed_at from slices s cross join lateral unnest(s.found) f
  order by s.before / 50, f.rank desc, f.changed_at desc, f.id limit $6 offset $7'
  using v_last, workspace_id, private.tenant_query(query, v_open)::text, private.tenant_query(v_all, v_open)::text,
    tags, most, skip, v_open;
end $$;
comment on function private.find_products(uuid, tsquery, text[], boolean, integer, integer) is
  'A page of the products of a workspace that a search finds.';
revoke all on function private.find_products from public, anon, authenticated, service_role;

create function private.search_products(workspace_id uuid, query text, tags text[], only_in_stock boolean,
  most integer, skip integer) returns setof commerce.shopify_products
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_query tsquery := private.typed_query(query);
  v_whole tsquery := regexp_replace(v_query::text, ':\*$', '')::tsquery;
  v_tags text[] := coalesce(tags, '{}');
  v_found private.found_product[];
begin
  perform private.require_role(workspace_id, 'viewer');
  if most is null or most not between 1 and 100 or skip is null or skip not between 0 and 150 then
    perform private.fail('invalid_argument', 'most is 1 to 100, skip 0 to 150.', '{"argument": "most"}');
  end if;
  if v_query is null then
    return query execute 'select * from commerce.shopify_products p where p.workspace_id = $1 and p.deleted_at is null'
      || case when v_tags <> '{}' then ' and p.tags @> $2' else '' end
      || case when only_in_stock then ' and p.has_variants_in_stock' else '' end
      || ' order by p.shopify_updated_at desc, p.id limit $3 offset $4'
      using workspace_id, v_tags, most, skip;
    return;
  end if;
  -- A beginning is for words that fewer than 20 products have whole, on whichever page.
  v_found := array(select f from private.find_products(workspace_id, v_whole, v_tags, only_in_stock,
    greatest(most + skip, 20), 0) f);
  if cardinality(v_found) < 20 and v_query::text ~ ':\*$' then
    v_found := array(select f from private.find_products(workspace_id, v_query, v_tags, only_in_stock,
      most + skip, 0) f);
  end if;
  return query
  select p.* from (
    select f.id, f.place from unnest(v_found) with ordinality f (id, rank, changed_at, place)
    order by f.place limit most offset skip
  ) b
  join commerce.shopify_products p on p.id = b.id
  order by b.place;
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
