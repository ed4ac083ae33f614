-- What a shop says of its catalog, applied. Every function is safe to repeat and to call in any order: of two things
-- said of the same, the later wins, by the shop's own time of the change, then by when it was said, then by content.
-- Webhooks and syncs say the same in the same form (see private.shopify_product_of and functions/worker/shopify/).

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_shop', 'PT404', 'Connect the shop first, or reconnect it.');

-- One shop's changes come one after the other: what they touch of each other cannot be known before.
create function private.lock_shop(connected_account_id uuid) returns integrations.connected_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
begin
  perform pg_advisory_xact_lock(hashtextextended('shop:' || connected_account_id, 0));
  select * into v_account from integrations.connected_accounts a
  where a.id = lock_shop.connected_account_id and a.provider = 'shopify';
  if v_account.id is null then
    perform private.fail('unknown_shop', 'There is no such shop.',
      jsonb_build_object('account_id', connected_account_id));
  end if;
  return v_account;
end $$;
comment on function private.lock_shop(uuid) is 'The account of a shop, whose catalog nobody else changes until commit.';
revoke all on function private.lock_shop from public, anon, authenticated, service_role;
grant execute on function private.lock_shop to service_role;

create function private.is_later(at timestamptz, seen timestamptz, known_at timestamptz, known_seen timestamptz)
returns boolean
language sql immutable
set search_path = ''
as $$
  select (at, seen) > (coalesce(known_at, '-infinity'), coalesce(known_seen, '-infinity'))
$$;
comment on function private.is_later(timestamptz, timestamptz, timestamptz, timestamptz) is
  'Was a change that happened at, and was told of when seen, made after the known one?';
revoke all on function private.is_later from public, anon, authenticated, service_role;
grant execute on function private.is_later to service_role;

-- What was said before, of something that nothing is known of, was about something that is gone.
create function private.read_whole_at(connected_account_id uuid) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce((select max(s.observed_at) from commerce.shopify_syncs s
    where s.connected_account_id = read_whole_at.connected_account_id and s.kind = 'full' and s.status = 'completed'),
    '-infinity');
end $$;
comment on function private.read_whole_at(uuid) is 'When the newest whole reading of a shop''s catalog began.';
revoke all on function private.read_whole_at from public, anon, authenticated, service_role;
grant execute on function private.read_whole_at to service_role;

-- False: the shop has deleted it since. What was seen after a sync did not find it is there again.
create function private.raise_tombstone(connected_account_id uuid, kind text, external_id text, seen timestamptz)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  delete from commerce.shopify_tombstones t
  where t.connected_account_id = raise_tombstone.connected_account_id and t.kind = raise_tombstone.kind
    and t.external_id = raise_tombstone.external_id and t.deleted_at < seen;
  return not exists (select from commerce.shopify_tombstones t
    where t.connected_account_id = raise_tombstone.connected_account_id and t.kind = raise_tombstone.kind
      and t.external_id = raise_tombstone.external_id);
end $$;
comment on function private.raise_tombstone(uuid, text, text, timestamptz) is
  'Clears the way for what was seen after its supposed deletion; false when it is gone.';
revoke all on function private.raise_tombstone from public, anon, authenticated, service_role;
grant execute on function private.raise_tombstone to service_role;

-- Returns ids of variants that the product names but does not describe.
create function private.apply_shopify_variants(product commerce.shopify_products, said jsonb, seen timestamptz)
returns text[]
language plpgsql
set search_path = ''
as $$
declare
  v_ids text[] := array(select v ->> 'id' from jsonb_array_elements(said -> 'variants') v);
  v_all text[] := case when said ? 'variant_ids'
    then array(select jsonb_array_elements_text(said -> 'variant_ids')) else v_ids end;
begin
  insert into commerce.shopify_product_variants as k (workspace_id, connected_account_id, product_id,
    shopify_variant_id, shopify_inventory_item_id, title, sku, barcode, option1, option2, option3, price_cents,
    compare_at_price_cents, reported_quantity, inventory_policy, fulfillment_service, taxable, image_id, image_url,
    position, shopify_created_at, shopify_updated_at)
  select product.workspace_id, product.connected_account_id, product.id, v.id, v.inventory_item_id,
    coalesce(v.title, ''), v.sku, v.barcode, v.option1, v.option2, v.option3, coalesce(v.price_cents, 0),
    v.compare_at_price_cents, v.quantity, coalesce(v.inventory_policy, 'deny'),
    coalesce(v.fulfillment_service, 'manual'), coalesce(v.taxable, true), v.image_id, v.image_url,
    coalesce(v.position, 1), v.created_at, v.updated_at
  from jsonb_to_recordset(said -> 'variants') as v (id text, inventory_item_id text, title text, sku text, barcode text,
    option1 text, option2 text, option3 text, price_cents bigint, compare_at_price_cents bigint, quantity integer,
    inventory_policy text, fulfillment_service text, taxable boolean, image_id text, image_url text, position integer,
    created_at timestamptz, updated_at timestamptz)
  on conflict on constraint shopify_product_variants_once do update
  set product_id = excluded.product_id, shopify_inventory_item_id = excluded.shopify_inventory_item_id,
    title = excluded.title, sku = excluded.sku, barcode = excluded.barcode, option1 = excluded.option1,
    option2 = excluded.option2, option3 = excluded.option3, price_cents = excluded.price_cents,
    compare_at_price_cents = excluded.compare_at_price_cents, reported_quantity = excluded.reported_quantity,
    inventory_policy = excluded.inventory_policy, fulfillment_service = excluded.fulfillment_service,
    taxable = excluded.taxable, image_id = coalesce(excluded.image_id, k.image_id), image_url = excluded.image_url,
    position = excluded.position, shopify_created_at = excluded.shopify_created_at,
    shopify_updated_at = excluded.shopify_updated_at, deleted_at = null
  where k.deleted_at is not null or (k.product_id, k.shopify_inventory_item_id, k.title, k.sku, k.barcode, k.option1,
      k.option2, k.option3, k.price_cents, k.compare_at_price_cents, k.reported_quantity, k.inventory_policy,
      k.fulfillment_service, k.taxable, k.image_url, k.position, k.shopify_updated_at)
    is distinct from (excluded.product_id, excluded.shopify_inventory_item_id, excluded.title, excluded.sku,
      excluded.barcode, excluded.option1, excluded.option2, excluded.option3, excluded.price_cents,
      excluded.compare_at_price_cents, excluded.reported_quantity, excluded.inventory_policy,
      excluded.fulfillment_service, excluded.taxable, excluded.image_url, excluded.position,
      excluded.shopify_updated_at);
  update commerce.shopify_product_variants v set deleted_at = seen
  where v.product_id = product.id and v.deleted_at is null and v.shopify_variant_id <> all (v_all);
  return array(select a.id from unnest(v_all) a (id) where a.id <> all (v_ids));
end $$;
comment on function private.apply_shopify_variants(commerce.shopify_products, jsonb, timestamptz) is
  'Makes a product''s variants those that the shop named; returns the ids of named ones that were not described.';
revoke all on function private.apply_shopify_variants from public, anon, authenticated, service_role;
grant execute on function private.apply_shopify_variants to service_role;

create function private.hash_of_product(said jsonb) returns text
language sql stable
set search_path = ''
as $$
  select encode(private.content_hash(jsonb_build_array(said -> 'title', said -> 'body_html', said -> 'vendor',
    said -> 'product_type', array(select t from jsonb_array_elements_text(said -> 'tags') t order by t),
    said -> 'options', array(select i ->> 'url' from jsonb_array_elements(said -> 'images') i))), 'hex')
$$;
comment on function private.hash_of_product(jsonb) is 'SHA-256 of what people read and see of a product.';
revoke all on function private.hash_of_product from public, anon, authenticated, service_role;
grant execute on function private.hash_of_product to service_role;

-- Returns applied, unchanged (said before), stale (something later is known) or deleted (it is gone since).
create function commerce.apply_shopify_product(connected_account_id uuid, product jsonb, seen timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_id text := product ->> 'id';
  v_at timestamptz := (product ->> 'updated_at')::timestamptz;
  v_hash text := encode(private.content_hash(product - 'inventory_items'), 'hex');
  v_known commerce.shopify_products;
  v_row commerce.shopify_products;
  v_missing text[];
begin
  if not private.raise_tombstone(v_account.id, 'product', v_id, seen) then
    return 'deleted';
  end if;
  select * into v_known from commerce.shopify_products p
  where p.connected_account_id = v_account.id and p.shopify_product_id = v_id;
  if v_known.id is null and seen < private.read_whole_at(v_account.id) then
    return 'deleted';
  end if;
  if v_known.id is not null and v_known.deleted_at is null then
    -- what was described in part is completed by what is told of the same change, whenever that was read
    if not (v_known.sync_status = 'pending' and v_at = v_known.shopify_updated_at and not product ? 'variant_ids')
      and ((v_at, seen, v_hash) < (v_known.shopify_updated_at, v_known.observed_at, v_known.payload_hash)
        or (v_at = v_known.shopify_updated_at and v_hash = v_known.payload_hash)) then
      update commerce.shopify_products p
      set last_synced_at = greatest(p.last_synced_at, seen),
        observed_at = case when p.shopify_updated_at = v_at and p.payload_hash = v_hash
          then greatest(p.observed_at, seen) else p.observed_at end
      where p.id = v_known.id and (p.last_synced_at < seen or p.observed_at < seen);
      return case when v_hash = v_known.payload_hash then 'unchanged' else 'stale' end;
    end if;
  end if;
  v_row := private.store_shopify_product(v_account, v_known, product, seen, v_hash);
  if product ? 'variants' then
    v_missing := private.apply_shopify_variants(v_row, product, seen);
    update commerce.shopify_products p set sync_status = 'pending'
    where p.id = v_row.id and v_missing <> '{}';
  end if;
  return 'applied';
end $$;
comment on function commerce.apply_shopify_product(uuid, jsonb, timestamptz) is
  'Applies what a shop said of a product: applied, unchanged, stale or deleted.';
revoke all on function commerce.apply_shopify_product from public, anon, authenticated, service_role;
grant execute on function commerce.apply_shopify_product to service_role;

-- What the message leaves out (webhooks know no currency, for instance) stays as it was.
create function private.store_shopify_product(account integrations.connected_accounts, known commerce.shopify_products,
  said jsonb, seen timestamptz, payload_hash text) returns commerce.shopify_products
language plpgsql
set search_path = ''
as $$
declare
  v_row commerce.shopify_products;
begin
  insert into commerce.shopify_products as p (workspace_id, connected_account_id, shopify_product_id,
    shopify_admin_graphql_api_id, title, body_html, vendor, product_type, tags, currency, images, featured_image_url,
    status, published_at, options, handle, shopify_store_url, seo_title, seo_description, metafields, last_synced_at,
    sync_hash, shopify_created_at, shopify_updated_at, observed_at, payload_hash)
  values (account.workspace_id, account.id, said ->> 'id', 'gid://shopify/Product/' || (said ->> 'id'),
    said ->> 'title', said ->> 'body_html', said ->> 'vendor', said ->> 'product_type',
    array(select jsonb_array_elements_text(said -> 'tags')),
    coalesce(said ->> 'currency', known.currency, account.provider_data ->> 'currency'),
    coalesce(said -> 'images', '[]'), said -> 'images' -> 0 ->> 'url', coalesce(said ->> 'status', 'active'),
    (said ->> 'published_at')::timestamptz, coalesce(said -> 'options', '[]'), said ->> 'handle',
    'https://' || account.external_account_id || '/products/' || (said ->> 'handle'),
    case when said ? 'seo_title' then said ->> 'seo_title' else known.seo_title end,
    case when said ? 'seo_description' then said ->> 'seo_description' else known.seo_description end,
    coalesce(said -> 'metafields', known.metafields, '{}'), seen, private.hash_of_product(said),
    (said ->> 'created_at')::timestamptz, (said ->> 'updated_at')::timestamptz, seen, payload_hash)
  on conflict on constraint shopify_products_once do update
  set title = excluded.title, body_html = excluded.body_html, vendor = excluded.vendor,
    product_type = excluded.product_type, tags = excluded.tags, currency = excluded.currency, images = excluded.images,
    featured_image_url = excluded.featured_image_url, status = excluded.status, published_at = excluded.published_at,
    options = excluded.options, handle = excluded.handle, shopify_store_url = excluded.shopify_store_url,
    seo_title = excluded.seo_title, seo_description = excluded.seo_description, metafields = excluded.metafields,
    last_synced_at = greatest(p.last_synced_at, excluded.last_synced_at), sync_hash = excluded.sync_hash,
    shopify_created_at = excluded.shopify_created_at, shopify_updated_at = excluded.shopify_updated_at,
    observed_at = excluded.observed_at, payload_hash = excluded.payload_hash, deleted_at = null,
    sync_status = 'synced', sync_error = null
  returning p.* into v_row;
  return v_row;
end $$;
comment on function private.store_shopify_product(integrations.connected_accounts, commerce.shopify_products, jsonb,
  timestamptz, text) is 'Writes a product as the shop described it.';
revoke all on function private.store_shopify_product from public, anon, authenticated, service_role;
grant execute on function private.store_shopify_product to service_role;

create function private.bury(connected_account_id uuid, kind text, external_id text, gone_at timestamptz) returns void
language sql
set search_path = ''
as $$
  insert into commerce.shopify_tombstones as t (connected_account_id, kind, external_id, deleted_at)
  values (bury.connected_account_id, bury.kind, bury.external_id, bury.gone_at)
  on conflict on constraint shopify_tombstones_pkey
  do update set deleted_at = greatest(t.deleted_at, excluded.deleted_at)
$$;
comment on function private.bury(uuid, text, text, timestamptz) is 'Sets a tombstone, the later one of two.';
revoke all on function private.bury from public, anon, authenticated, service_role;
grant execute on function private.bury to service_role;

-- gone_at infinity: the shop said so. Returns deleted, or unchanged when it was.
create function commerce.delete_shopify_product(connected_account_id uuid, product_id text, seen timestamptz,
  gone_at timestamptz default 'infinity') returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_id uuid;
begin
  perform private.bury(v_account.id, 'product', delete_shopify_product.product_id, gone_at);
  update commerce.shopify_products p
  set sync_status = 'deleted', sync_error = null, deleted_at = seen, last_synced_at = greatest(p.last_synced_at, seen)
  where p.connected_account_id = v_account.id and p.shopify_product_id = delete_shopify_product.product_id
    and p.deleted_at is null
  returning p.id into v_id;
  update commerce.shopify_product_variants v set deleted_at = seen
  where v.product_id = v_id and v.deleted_at is null;
  return case when v_id is null then 'unchanged' else 'deleted' end;
end $$;
comment on function commerce.delete_shopify_product(uuid, text, timestamptz, timestamptz) is
  'A shop has deleted a product, known or not; nothing that was said before brings it back.';
revoke all on function commerce.delete_shopify_product from public, anon, authenticated, service_role;
grant execute on function commerce.delete_shopify_product to service_role;
