-- Garments that come from a shop: those of a whole collection, which follow it, and single products that a person
-- picks. Either way the row is there at once, and the job that looks at its picture fetches it first.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_shopify_product', 'PT404', 'Choose a product, and a variant of it, of a shop of this workspace.');

create function private.shop_garment_metadata(product commerce.shopify_products) returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object('shopify', jsonb_build_object('account_id', product.connected_account_id,
    'product_id', product.shopify_product_id, 'title', product.title, 'vendor', product.vendor,
    'product_type', product.product_type, 'handle', product.handle))
$$;
comment on function private.shop_garment_metadata(commerce.shopify_products) is
  'What a garment remembers of its product.';
revoke all on function private.shop_garment_metadata from public, anon, authenticated, service_role;

-- The live products of a shop collection that have a picture.
create function private.products_to_show(shop_collection_id uuid) returns setof commerce.shopify_products
language sql stable
set search_path = ''
as $$
  select p.* from commerce.shopify_collection_products m join commerce.shopify_products p on p.id = m.product_id
  where m.collection_id = shop_collection_id and p.deleted_at is null and p.status = 'active'
    and p.featured_image_url is not null
$$;
comment on function private.products_to_show(uuid) is 'Products of a shop collection that the wardrobe can show.';
revoke all on function private.products_to_show from public, anon, authenticated, service_role;

-- Makes a collection's synced garments those of the shop's products. What a person has renamed keeps its name; a
-- picture that changed is fetched and looked at anew, and described no more.
create function private.sync_collection(collection studio.wardrobe_collections) returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from studio.wardrobe_garments g
  where g.workspace_id = collection.workspace_id and g.collection_id = collection.id and g.is_synced
    and not exists (select from private.products_to_show(collection.shopify_collection_id) p
      where p.id = g.shopify_product_id);
  -- what was kept when it was linked before is not shown twice
  update studio.wardrobe_garments g set is_synced = true
  where g.id in (
    select distinct on (k.shopify_product_id) k.id from studio.wardrobe_garments k
    join private.products_to_show(collection.shopify_collection_id) p on p.id = k.shopify_product_id
    where k.workspace_id = collection.workspace_id and k.collection_id = collection.id and not k.is_synced
      and k.linked_source = 'shopify_sync' and k.shopify_variant_id is null and k.shopify_image_index = 0
      and not exists (select from studio.wardrobe_garments s
        where s.collection_id = collection.id and s.shopify_product_id = k.shopify_product_id and s.is_synced)
    order by k.shopify_product_id, k.created_at);
  update studio.wardrobe_garments g
  set name = case when g.name is not distinct from g.metadata -> 'shopify' ->> 'title' then p.title else g.name end,
    tags = p.tags, metadata = g.metadata || private.shop_garment_metadata(p)
  from private.products_to_show(collection.shopify_collection_id) p
  where g.workspace_id = collection.workspace_id and g.collection_id = collection.id and g.is_synced
    and p.id = g.shopify_product_id
    and (g.tags, g.metadata -> 'shopify') is distinct from (p.tags, private.shop_garment_metadata(p) -> 'shopify');
  update studio.wardrobe_garments g
  set source_url = p.featured_image_url, image_version = g.image_version + 1, image_status = 'pending',
    image_errors = '[]', image_checked_at = null, leffa_metadata = null
  from private.products_to_show(collection.shopify_collection_id) p
  where g.workspace_id = collection.workspace_id and g.collection_id = collection.id and g.is_synced
    and p.id = g.shopify_product_id and g.source_url is distinct from p.featured_image_url;
  insert into studio.wardrobe_garments (id, workspace_id, collection_id, storage_path, filename, name, sku, tags,
    metadata, source_url, created_by, shopify_product_id, is_synced, linked_source)
  select i.id, p.workspace_id, collection.id, format('%s/shopify/%s', p.workspace_id, i.id),
    private.filename_of(p.featured_image_url), p.title, v.sku, p.tags, private.shop_garment_metadata(p),
    p.featured_image_url, null, p.id, true, 'shopify_sync'
  from private.products_to_show(collection.shopify_collection_id) p
  cross join lateral (select gen_random_uuid() as id where p.id is not null) i
  left join lateral (select s.sku from commerce.shopify_product_variants s
    where s.product_id = p.id and s.deleted_at is null order by s.position limit 1) v on true
  on conflict (collection_id, shopify_product_id) where is_synced do nothing;
  update studio.wardrobe_collections c set sync_wanted_at = null, last_shopify_sync_at = private.now()
  where c.id = collection.id;
end $$;
comment on function private.sync_collection(studio.wardrobe_collections) is
  'Makes a collection''s garments those of the shop collection that it follows.';
revoke all on function private.sync_collection from public, anon, authenticated, service_role;

create function private.filename_of(url text) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(nullif(left(regexp_replace(regexp_replace(url, '[?#].*$', ''), '^.*/', ''), 200), ''), 'picture')
$$;
comment on function private.filename_of(text) is 'The last part of an address'' path.';
revoke all on function private.filename_of from public, anon, authenticated, service_role;
grant execute on function private.filename_of to service_role;

-- Waits a moment after the first change: a shop that is at work changes many things at once. One collection at a time,
-- so that a tick is short. Returns how many it made.
create function studio.sync_shop_collections() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections;
begin
  select * into v_collection from studio.wardrobe_collections c
  where c.sync_wanted_at <= private.now() - interval '3 seconds' order by c.sync_wanted_at limit 1
  for no key update skip locked;
  if not found then
    return 0;
  end if;
  perform private.sync_collection(v_collection);
  return 1;
end $$;
comment on function studio.sync_shop_collections() is
  'Sweep: a collection catches up with the shop collection that it follows.';
revoke all on function studio.sync_shop_collections from public, anon, authenticated, service_role;
grant execute on function studio.sync_shop_collections to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('sync shop collections', 'studio.sync_shop_collections', interval '1 second');

create function private.import_product(product_id uuid, variant_id uuid, image_index integer, collection_id uuid)
returns studio.wardrobe_garments
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_product commerce.shopify_products;
  v_variant commerce.shopify_product_variants;
  v_garment studio.wardrobe_garments;
  v_url text;
  v_id uuid := gen_random_uuid();
begin
  select * into v_product from commerce.shopify_products p where p.id = import_product.product_id
    and p.deleted_at is null and (private.is_service() or private.has_role(p.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_shopify_product', 'There is no such product.',
      jsonb_build_object('product_id', product_id));
  end if;
  perform private.require_role(v_product.workspace_id, 'member');
  if collection_id is not null
    and (private.require_collection(collection_id)).workspace_id <> v_product.workspace_id then
    perform private.fail('unknown_collection', 'The collection is of another workspace.',
      jsonb_build_object('collection_id', collection_id));
  end if;
  if variant_id is not null then
    select * into v_variant from commerce.shopify_product_variants v
    where v.id = import_product.variant_id and v.product_id = v_product.id and v.deleted_at is null;
    if not found then
      perform private.fail('unknown_shopify_product', 'The product has no such variant.',
        jsonb_build_object('variant_id', variant_id));
    end if;
  end if;
  v_url := case when image_index is null then coalesce(v_variant.image_url, v_product.featured_image_url)
    else v_product.images -> image_index ->> 'url' end;
  if v_url is null then
    perform private.fail('invalid_argument', 'image_index: the product has no such picture.',
      '{"argument": "image_index"}');
  end if;
  -- asked twice, the one that is there
  perform pg_advisory_xact_lock(hashtextextended('import_product:' || v_product.id, 0));
  select * into v_garment from studio.wardrobe_garments g
  where g.workspace_id = v_product.workspace_id and g.shopify_product_id = v_product.id and g.source_url = v_url
    and g.shopify_variant_id is not distinct from v_variant.id
    and (collection_id is null or g.collection_id = import_product.collection_id)
  order by g.created_at limit 1;
  if found then
    return v_garment;
  end if;
  insert into studio.wardrobe_garments as g (id, workspace_id, collection_id, storage_path, filename, name, sku, tags,
    metadata, source_url, shopify_product_id, shopify_variant_id, shopify_image_index, linked_source)
  values (v_id, v_product.workspace_id, collection_id, format('%s/shopify/%s', v_product.workspace_id, v_id),
    private.filename_of(v_url), v_product.title, v_variant.sku, v_product.tags,
    private.shop_garment_metadata(v_product), v_url, v_product.id, v_variant.id, coalesce(image_index, 0),
    'shopify_sync')
  returning g.* into v_garment;
  return v_garment;
end $$;
comment on function private.import_product is 'Core of studio.import_product; checks the caller first.';
revoke all on function private.import_product from public, anon, authenticated, service_role;
grant execute on function private.import_product to authenticated, service_role;

-- Puts a product of a connected shop into the wardrobe: with the picture at image_index (0 is the first), else the
-- variant's, else the product's main one. Members may. Asked twice, it answers the same garment. Errors:
-- unknown_shopify_product, unknown_collection, role_too_low, invalid_argument.
create function studio.import_product(product_id uuid, variant_id uuid default null, image_index integer default null,
  collection_id uuid default null) returns studio.wardrobe_garments
language sql
set search_path = ''
as $$ select private.import_product(product_id, variant_id, image_index, collection_id) $$;
comment on function studio.import_product is 'Puts a product of a connected shop into the wardrobe.';
revoke all on function studio.import_product from public, anon, authenticated, service_role;
grant execute on function studio.import_product to authenticated, service_role;
