-- Reading the products of a workspace into its knowledge: what there is to know of each, which are to be read. The
-- items of such a reading are products; the other steps are those of any source.

-- Products that were never read, have changed since, or are gone. Two kinds: of connected shops, and imported ones.
create function private.product_texts(workspace_id uuid) returns table (product_id uuid, version text, title text,
  url text, body text, facts jsonb, tags text[])
language sql stable
set search_path = ''
as $$
  -- the hash says nothing of prices, which are told too
  select p.id, concat_ws(':', p.sync_hash, p.price_min_cents, p.price_max_cents, p.currency), p.title,
    p.shopify_store_url, p.body_html, jsonb_strip_nulls(jsonb_build_object('Vendor', p.vendor, 'Type', p.product_type,
      'Price', case when p.price_min_cents is not null then concat_ws(' ', to_char(p.price_min_cents / 100.0,
        'FM999999990.00'), case when p.price_max_cents > p.price_min_cents then 'to '
          || to_char(p.price_max_cents / 100.0, 'FM999999990.00') end, p.currency) end,
      'Tags', nullif(array_to_string(p.tags, ', '), ''))), p.tags
  from commerce.shopify_products p
  where p.workspace_id = product_texts.workspace_id and p.deleted_at is null and p.status = 'active'
  union all
  select m.id, md5(jsonb_build_array(m.title, m.description, m.vendor, m.product_type, m.price_cents, m.currency,
      m.tags, m.garment_material, m.garment_color, m.garment_fit)::text), m.title, null,
    m.description, jsonb_strip_nulls(jsonb_build_object('Vendor', m.vendor, 'Type', m.product_type,
      'Price', case when m.price_cents is not null
        then to_char(m.price_cents / 100.0, 'FM999999990.00') || ' ' || m.currency end,
      'Material', m.garment_material, 'Colour', m.garment_color, 'Fit', m.garment_fit,
      'Tags', nullif(array_to_string(m.tags, ', '), ''))), m.tags
  from commerce.imported_products m
  where m.workspace_id = product_texts.workspace_id and m.status <> 'archived'
$$;
comment on function private.product_texts(uuid) is 'What there is to know of each product of a workspace.';
revoke all on function private.product_texts from public, anon, authenticated, service_role;

-- Documents of products that are gone go too; the others that were seen count as verified.
create function ai.begin_product_reading(ingestion_id uuid) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ingestion ai.knowledge_ingestion_jobs;
  v_changed integer;
begin
  v_ingestion := private.lock_reading(ingestion_id);
  if v_ingestion.id is null then
    return 0;
  end if;
  delete from ai.knowledge_documents d where d.source_id = v_ingestion.source_id
    and d.product_id not in (select t.product_id from private.product_texts(v_ingestion.workspace_id) t);
  insert into ai.knowledge_ingestion_items (ingestion_id, location, workspace_id)
  select v_ingestion.id, t.product_id::text, v_ingestion.workspace_id
  from private.product_texts(v_ingestion.workspace_id) t
  left join ai.knowledge_documents d on d.source_id = v_ingestion.source_id and d.location = t.product_id::text
  where d.id is null or d.version is distinct from t.version
  order by t.product_id
  on conflict do nothing;
  select count(*) into v_changed from ai.knowledge_ingestion_items n where n.ingestion_id = v_ingestion.id;
  update ai.knowledge_ingestion_jobs i set items_total = greatest(v_changed, i.items_processed)
  where i.id = v_ingestion.id;
  if v_ingestion.items_processed = 0 then
    perform private.verify_documents(v_ingestion.source_id, null);
  end if;
  return v_changed;
end $$;
comment on function ai.begin_product_reading(uuid) is
  'Lists the products that changed since they were read, forgets those that are gone; returns how many are to be read.';
revoke all on function ai.begin_product_reading from public, anon, authenticated, service_role;
grant execute on function ai.begin_product_reading to service_role;

create function ai.next_products(ingestion_id uuid, most integer)
returns table (location text, known_hash text, version text, title text, url text, body text, facts jsonb, tags text[])
language sql stable security definer
set search_path = ''
as $$
  select n.location, d.content_hash, t.version, t.title, t.url, t.body, t.facts, t.tags
  from (select i.id, i.workspace_id, i.source_id from ai.knowledge_ingestion_jobs i
    where i.id = next_products.ingestion_id and i.status in ('pending', 'running')) i
  cross join lateral (select x.location from ai.knowledge_ingestion_items x
    where x.ingestion_id = i.id and x.status = 'pending' order by x.depth, x.position limit most) n
  left join private.product_texts(i.workspace_id) t on t.product_id::text = n.location
  left join ai.knowledge_documents d on d.source_id = i.source_id and d.location = n.location
$$;
comment on function ai.next_products(uuid, integer) is
  'The next products to read, with what there is to know of each; without a title: gone meanwhile.';
revoke all on function ai.next_products from public, anon, authenticated, service_role;
grant execute on function ai.next_products to service_role;
