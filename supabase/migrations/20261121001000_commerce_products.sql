-- The catalog of connected shops: products and their variants, as the shop has them. Rows are written by the service
-- alone; clients read them. Nothing is deleted for good while the account exists: deleted_at says what is gone.

create schema if not exists commerce;
comment on schema commerce is 'Products, variants, collections and stock of connected shops; imports; brand settings.';
revoke all on schema commerce from public;
grant usage on schema commerce to anon, authenticated, service_role;

create extension if not exists btree_gin with schema extensions;

-- array_to_string is only stable, because it may print any type; for text it never changes.
create function private.words_of(words text[]) returns text
language sql immutable parallel safe
set search_path = ''
as $$ select array_to_string(words, ' ') $$;
comment on function private.words_of(text[]) is 'The words of a list as one text, for search vectors.';
revoke all on function private.words_of from public, anon, authenticated, service_role;
grant execute on function private.words_of to service_role;

-- Each word begins with its tenant, so that a search, one for the beginning of a word above all, costs what the tenant
-- has and not what everybody has. Two tenants with the same eight digits only share work. Where a tenant may have very
-- many rows, they are divided in slices, so that a search need not list all rows that have a common word.
create function private.word_prefix(workspace_id uuid, slice integer default null) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
  return left(workspace_id::text, 8) || coalesce(lpad(to_hex(slice), 4, '0'), '');
end $$;
comment on function private.word_prefix(uuid, integer) is
  'What the words of a workspace, or of a slice of its rows, begin with in search vectors.';
revoke all on function private.word_prefix from public, anon, authenticated, service_role;
grant execute on function private.word_prefix to service_role;

create function private.tenant_words(workspace_id uuid, words tsvector, slice integer default null) returns tsvector
language sql immutable parallel safe
set search_path = ''
as $$
  select coalesce(string_agg(
    '''' || private.word_prefix(workspace_id, slice) || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || ''''
      || coalesce((select ':' || string_agg(u.place || u.weight, ',') from unnest(w.positions, w.weights)
        u (place, weight)), ''),
    ' '), '')::tsvector
  from unnest(words) w
$$;
comment on function private.tenant_words(uuid, tsvector, integer) is
  'A search vector whose words begin with their workspace and slice.';
revoke all on function private.tenant_words from public, anon, authenticated, service_role;
grant execute on function private.tenant_words to service_role;

-- A tag, whole, among the words: no word begins with this sign.
create function private.tag_words(tags text[]) returns tsvector
language sql immutable parallel safe
set search_path = ''
as $$
  select array_to_tsvector(array(select '#' || left(t.tag, 200) from unnest(tags) t (tag) where t.tag is not null))
$$;
comment on function private.tag_words(text[]) is 'Tags as words of a search vector.';
revoke all on function private.tag_words from public, anon, authenticated, service_role;
grant execute on function private.tag_words to service_role;

-- Prices are in hundredths of the currency's unit, whatever its own minor unit, so that "19.90" is 1990 everywhere.
create table commerce.shopify_products (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_product_id text not null,
  shopify_admin_graphql_api_id text,
  title text not null,
  body_html text,
  vendor text,
  product_type text,
  tags text[] not null default '{}',
  price_min_cents bigint,
  price_max_cents bigint,
  compare_at_price_min_cents bigint,
  currency text,
  images jsonb not null default '[]',
  featured_image_url text,
  status text not null default 'active',
  published_at timestamptz,
  available_for_sale boolean not null default false,
  total_inventory bigint not null default 0,
  variants_count integer not null default 0,
  has_variants_in_stock boolean not null default false,
  lowest_stock_level integer,
  options jsonb not null default '[]',
  handle text,
  shopify_store_url text,
  collection_ids text[] not null default '{}',
  seo_title text,
  seo_description text,
  metafields jsonb not null default '{}',
  last_synced_at timestamptz not null default now(),
  sync_status text not null default 'synced',
  sync_error text,
  sync_hash text not null default '',
  shopify_created_at timestamptz,
  shopify_updated_at timestamptz not null,
  observed_at timestamptz not null,
  payload_hash text not null default '',
  embedding ai.embedding,
  embedding_model text not null default 'text-embedding-3-small',
  embedding_updated_at timestamptz,
  ai_generated_at timestamptz,
  content_hash_at_generation text,
  deleted_at timestamptz,
  search_slice integer not null default 0,
  search tsvector generated always as (private.tenant_words(workspace_id,
    setweight(to_tsvector('english', title), 'A')
      || setweight(to_tsvector('english', coalesce(vendor, '') || ' ' || coalesce(product_type, '') || ' '
        || private.words_of(tags)), 'B')
      || setweight(to_tsvector('english', left(coalesce(body_html, ''), 20000)), 'C')
      || private.tag_words(tags),
    search_slice)
  ) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint shopify_products_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint shopify_products_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_products_once unique (connected_account_id, shopify_product_id),
  constraint shopify_products_status_shape check (status ~ '^[a-z_]+$'),
  constraint shopify_products_sync_status_known check (sync_status in ('synced', 'pending', 'error', 'deleted')),
  constraint shopify_products_deleted_says_when check ((sync_status = 'deleted') = (deleted_at is not null)),
  constraint shopify_products_error_has_text check (sync_status <> 'error' or sync_error is not null),
  constraint shopify_products_prices_not_negative check (
    price_min_cents >= 0 and price_max_cents >= price_min_cents and compare_at_price_min_cents >= 0
  ),
  constraint shopify_products_variants_count_not_negative check (variants_count >= 0),
  constraint shopify_products_embedding_says_when check ((embedding is null) = (embedding_updated_at is null)),
  constraint shopify_products_json_shapes check (
    jsonb_typeof(images) = 'array' and jsonb_typeof(options) = 'array' and jsonb_typeof(metafields) = 'object'
  )
);
comment on table commerce.shopify_products is
  'Products of connected Shopify shops, with totals of their variants; prices in hundredths of the currency''s unit.';
comment on column commerce.shopify_products.total_inventory is
  'Sum of the live variants'' quantities, kept by triggers.';
comment on column commerce.shopify_products.has_variants_in_stock is 'Does a live variant have more than nothing?';
comment on column commerce.shopify_products.lowest_stock_level is
  'Smallest quantity of the live variants whose stock the shop tracks; null when it tracks none.';
comment on column commerce.shopify_products.available_for_sale is 'Is it active, and may a live variant be bought?';
comment on column commerce.shopify_products.last_synced_at is
  'Until when the row is known to say what the shop says, by the shop''s clock.';
comment on column commerce.shopify_products.sync_status is
  'pending: known to be incomplete and being fetched; error: could not be fetched; deleted: gone from the shop.';
comment on column commerce.shopify_products.sync_hash is 'SHA-256 of what people read of the product, to find changes.';
comment on column commerce.shopify_products.content_hash_at_generation is
  'sync_hash at the last generation: the product has changed since when they differ.';
comment on column commerce.shopify_products.observed_at is
  'When the shop said it: orders what was said within one second of shopify_updated_at.';
comment on column commerce.shopify_products.search_slice is
  'Which some 8,000 products of its workspace it came with: a search looks through the last slice first.';
comment on column commerce.shopify_products.payload_hash is 'Hash of all that was said: orders what was said at once.';
create index shopify_products_workspace_id on commerce.shopify_products (workspace_id, shopify_updated_at desc, id)
  where deleted_at is null;
create index shopify_products_account on commerce.shopify_products (connected_account_id, last_synced_at);
create index shopify_products_status on commerce.shopify_products (workspace_id, status, available_for_sale);
create index shopify_products_in_stock on commerce.shopify_products (workspace_id, total_inventory)
  where has_variants_in_stock and deleted_at is null;
create index shopify_products_low_stock on commerce.shopify_products (workspace_id, lowest_stock_level, id)
  where lowest_stock_level is not null and deleted_at is null;
create index shopify_products_not_synced on commerce.shopify_products (sync_status, last_synced_at)
  where sync_status in ('pending', 'error');
-- Written at once: a search looks once for each slice, and each look would read the list of what is not yet written.
create index shopify_products_search on commerce.shopify_products using gin (search) with (fastupdate = off)
  where deleted_at is null;
create index shopify_products_slice on commerce.shopify_products (workspace_id, search_slice);
create index shopify_products_tags on commerce.shopify_products
  using gin (workspace_id extensions.uuid_ops, tags) where deleted_at is null;
select private.create_embedding_index('commerce.shopify_products', 'embedding');
create trigger touch_shopify_products before update on commerce.shopify_products
  for each row execute function private.touch_updated_at();

-- Counting is dear, so that one product in 64 counts; two that come at once may both come into a full slice.
create function private.slice_product() returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
begin
  select coalesce(max(p.search_slice), 0) into new.search_slice
  from commerce.shopify_products p where p.workspace_id = new.workspace_id;
  if uuid_hash(new.id) % 64 = 0 and 8000 <= (
    select count(*) from commerce.shopify_products p
    where p.workspace_id = new.workspace_id and p.search_slice = new.search_slice
  ) then
    new.search_slice := new.search_slice + 1;
  end if;
  return new;
end $$;
comment on function private.slice_product() is 'Trigger: puts a new product into the last slice of its workspace.';
revoke all on function private.slice_product from public, anon, authenticated, service_role;
create trigger slice_shopify_products before insert on commerce.shopify_products
  for each row execute function private.slice_product();
alter table commerce.shopify_products enable row level security;
revoke all on table commerce.shopify_products from public, anon, authenticated, service_role;
grant select on table commerce.shopify_products to authenticated;
grant select, insert, update, delete on table commerce.shopify_products to service_role;
create policy "Members see the products of their workspaces" on commerce.shopify_products
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.shopify_product_variants (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  product_id uuid not null,
  shopify_variant_id text not null,
  shopify_inventory_item_id text,
  title text not null,
  sku text,
  barcode text,
  option1 text,
  option2 text,
  option3 text,
  price_cents bigint not null,
  compare_at_price_cents bigint,
  cost_cents bigint,
  reported_quantity integer,
  inventory_quantity integer not null default 0,
  inventory_policy text not null default 'deny',
  tracked boolean not null default true,
  fulfillment_service text not null default 'manual',
  available boolean not null default false,
  requires_shipping boolean not null default true,
  taxable boolean not null default true,
  weight_grams numeric(12, 3),
  weight_unit text not null default 'g',
  image_id text,
  image_url text,
  position integer not null default 1,
  shopify_created_at timestamptz,
  shopify_updated_at timestamptz,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint shopify_product_variants_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint shopify_product_variants_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_product_variants_product_id_fkey foreign key (product_id)
    references commerce.shopify_products (id) on delete cascade,
  constraint shopify_product_variants_once unique (connected_account_id, shopify_variant_id),
  constraint shopify_product_variants_policy_known check (inventory_policy in ('deny', 'continue')),
  constraint shopify_product_variants_prices_not_negative
    check (price_cents >= 0 and compare_at_price_cents >= 0 and cost_cents >= 0),
  constraint shopify_product_variants_weight_not_negative check (weight_grams >= 0),
  constraint shopify_product_variants_weight_unit_known check (weight_unit in ('g', 'kg', 'oz', 'lb'))
);
comment on table commerce.shopify_product_variants is
  'What can be bought of a product: its options, price and stock; quantities come from the shop''s inventory.';
comment on column commerce.shopify_product_variants.reported_quantity is
  'What the product itself said; used until the stock of a location is known.';
comment on column commerce.shopify_product_variants.inventory_quantity is
  'Sum over the locations; may be below zero when the shop oversold.';
comment on column commerce.shopify_product_variants.inventory_policy is
  'deny: out of stock cannot be bought; continue: can be, on backorder.';
comment on column commerce.shopify_product_variants.tracked is
  'Does the shop count its stock? If not, it is always there.';
comment on column commerce.shopify_product_variants.available is
  'May it be bought: in stock, on backorder, or not tracked?';
comment on column commerce.shopify_product_variants.weight_unit is
  'The unit that the shop shows; the weight is in grams.';
create index shopify_product_variants_product_id
  on commerce.shopify_product_variants (product_id, position) where deleted_at is null;
create index shopify_product_variants_all_of_product on commerce.shopify_product_variants (product_id);
create index shopify_product_variants_item
  on commerce.shopify_product_variants (connected_account_id, shopify_inventory_item_id)
  where shopify_inventory_item_id is not null;
create index shopify_product_variants_workspace_id
  on commerce.shopify_product_variants (workspace_id, inventory_quantity);
create index shopify_product_variants_sku on commerce.shopify_product_variants (workspace_id, sku)
  where sku is not null;
create index shopify_product_variants_in_stock on commerce.shopify_product_variants (product_id)
  where inventory_quantity > 0 and available and deleted_at is null;
create trigger touch_shopify_product_variants before update on commerce.shopify_product_variants
  for each row execute function private.touch_updated_at();
alter table commerce.shopify_product_variants enable row level security;
revoke all on table commerce.shopify_product_variants from public, anon, authenticated, service_role;
grant select on table commerce.shopify_product_variants to authenticated;
grant select, insert, update, delete on table commerce.shopify_product_variants to service_role;
create policy "Members see the variants of their workspaces" on commerce.shopify_product_variants
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- What was deleted before it was ever known: a delete that comes first must win over the update that comes late.
create table commerce.shopify_tombstones (
  connected_account_id uuid not null,
  kind text not null,
  external_id text not null,
  deleted_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint shopify_tombstones_pkey primary key (connected_account_id, kind, external_id),
  constraint shopify_tombstones_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_tombstones_kind_known check (kind in ('product', 'collection'))
);
comment on table commerce.shopify_tombstones is
  'Products and collections that a shop has deleted; nothing said before deleted_at brings them back.';
comment on column commerce.shopify_tombstones.deleted_at is
  'infinity: the shop said so, and it never gives an id twice; else a full sync began then and did not find it.';
alter table commerce.shopify_tombstones enable row level security;
revoke all on table commerce.shopify_tombstones from public, anon, authenticated, service_role;
grant select, insert, update, delete on table commerce.shopify_tombstones to service_role;
