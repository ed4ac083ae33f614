-- Stock and collections as a shop tells of them, in any order and as often as it likes.

-- items: [{id, tracked, cost_cents, requires_shipping, weight_grams, weight_unit, updated_at}]. Returns how many
-- changed.
create function commerce.apply_inventory_items(connected_account_id uuid, items jsonb, seen timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_changed integer;
begin
  insert into commerce.inventory_items as k (workspace_id, connected_account_id, shopify_inventory_item_id, tracked,
    cost_cents, requires_shipping, weight_grams, weight_unit, shopify_updated_at, observed_at)
  select distinct on (i.id) v_account.workspace_id, v_account.id, i.id, i.tracked, i.cost_cents, i.requires_shipping,
    i.weight_grams, i.weight_unit, i.updated_at, seen
  from jsonb_to_recordset(items) as i (id text, tracked boolean, cost_cents bigint, requires_shipping boolean,
    weight_grams numeric, weight_unit text, updated_at timestamptz)
  where i.updated_at is not null
  order by i.id, i.updated_at desc
  on conflict on constraint inventory_items_once do update
  set tracked = coalesce(excluded.tracked, k.tracked), cost_cents = excluded.cost_cents,
    requires_shipping = coalesce(excluded.requires_shipping, k.requires_shipping),
    weight_grams = coalesce(excluded.weight_grams, k.weight_grams),
    weight_unit = coalesce(excluded.weight_unit, k.weight_unit),
    shopify_updated_at = excluded.shopify_updated_at, observed_at = excluded.observed_at
  where private.is_later(excluded.shopify_updated_at, excluded.observed_at, k.shopify_updated_at, k.observed_at);
  get diagnostics v_changed = row_count;
  return v_changed;
end $$;
comment on function commerce.apply_inventory_items(uuid, jsonb, timestamptz) is
  'Applies what a shop said of inventory items; returns how many of it was news.';
revoke all on function commerce.apply_inventory_items from public, anon, authenticated, service_role;
grant execute on function commerce.apply_inventory_items to service_role;

create function commerce.delete_inventory_item(connected_account_id uuid, item_id text, seen timestamptz) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
begin
  insert into commerce.inventory_items as k (workspace_id, connected_account_id, shopify_inventory_item_id, deleted_at)
  values (v_account.workspace_id, v_account.id, item_id, seen)
  on conflict on constraint inventory_items_once do update set deleted_at = excluded.deleted_at
  where k.deleted_at is null;
  return case when found then 'deleted' else 'unchanged' end;
end $$;
comment on function commerce.delete_inventory_item(uuid, text, timestamptz) is 'A shop has deleted an inventory item.';
revoke all on function commerce.delete_inventory_item from public, anon, authenticated, service_role;
grant execute on function commerce.delete_inventory_item to service_role;

-- levels: [{inventory_item_id, location_id, available, updated_at, disconnected}]; a disconnection, for which the shop
-- gives no time of its own, counts for the second in which it was told. Returns how many were news.
create function commerce.apply_inventory_levels(connected_account_id uuid, levels jsonb, seen timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_late boolean := seen < private.read_whole_at(v_account.id);
  v_changed integer;
begin
  insert into commerce.inventory_items (workspace_id, connected_account_id, shopify_inventory_item_id)
  select distinct v_account.workspace_id, v_account.id, l ->> 'inventory_item_id' from jsonb_array_elements(levels) l
  on conflict on constraint inventory_items_once do nothing;
  with said as (
    select distinct on (l.inventory_item_id, l.location_id) l.*,
      coalesce(l.updated_at, date_trunc('second', seen)) as at
    from jsonb_to_recordset(levels) as l (inventory_item_id text, location_id text, available integer,
      updated_at timestamptz, disconnected boolean)
    order by l.inventory_item_id, l.location_id, l.updated_at desc nulls last
  ), known as (
    select s.inventory_item_id, s.location_id, k.id is not null as is_known,
      private.is_later(s.at, seen, k.shopify_updated_at, k.observed_at) as news
    from said s left join commerce.inventory_levels k on k.connected_account_id = v_account.id
      and k.shopify_inventory_item_id = s.inventory_item_id and k.shopify_location_id = s.location_id
  ), stored as (
    insert into commerce.inventory_levels as k (workspace_id, connected_account_id, shopify_inventory_item_id,
      shopify_location_id, available, shopify_updated_at, observed_at, last_seen_at, disconnected_at)
    select v_account.workspace_id, v_account.id, s.inventory_item_id, s.location_id, s.available, s.at, seen, seen,
      case when s.disconnected then seen end
    from said s join known n on n.inventory_item_id = s.inventory_item_id and n.location_id = s.location_id
    where n.is_known or not v_late
    on conflict on constraint inventory_levels_once do update
    set available = excluded.available, shopify_updated_at = excluded.shopify_updated_at,
      observed_at = excluded.observed_at, disconnected_at = excluded.disconnected_at,
      last_seen_at = greatest(k.last_seen_at, excluded.last_seen_at)
    where private.is_later(excluded.shopify_updated_at, excluded.observed_at, k.shopify_updated_at, k.observed_at)
  )
  select count(*) into v_changed from known k where k.news and (k.is_known or not v_late);
  return v_changed;
end $$;
comment on function commerce.apply_inventory_levels(uuid, jsonb, timestamptz) is
  'Applies what a shop said of stock at its locations; returns how many of it was news.';
revoke all on function commerce.apply_inventory_levels from public, anon, authenticated, service_role;
grant execute on function commerce.apply_inventory_levels to service_role;

-- Returns applied, unchanged, stale or deleted, as for products.
create function commerce.apply_shopify_collection(connected_account_id uuid, collection jsonb, seen timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_at timestamptz := (collection ->> 'updated_at')::timestamptz;
  v_hash text := encode(private.content_hash(collection), 'hex');
  v_known commerce.shopify_collections;
begin
  if not private.raise_tombstone(v_account.id, 'collection', collection ->> 'id', seen) then
    return 'deleted';
  end if;
  select * into v_known from commerce.shopify_collections c
  where c.connected_account_id = v_account.id and c.shopify_collection_id = collection ->> 'id';
  if v_known.id is null and seen < private.read_whole_at(v_account.id) then
    return 'deleted';
  end if;
  if v_known.id is not null and v_known.deleted_at is null
    and ((v_at, seen, v_hash) < (v_known.shopify_updated_at, v_known.observed_at, v_known.payload_hash)
      or (v_at = v_known.shopify_updated_at and v_hash = v_known.payload_hash)) then
    update commerce.shopify_collections c
    set last_synced_at = greatest(c.last_synced_at, seen),
      observed_at = case when c.shopify_updated_at = v_at and c.payload_hash = v_hash
        then greatest(c.observed_at, seen) else c.observed_at end
    where c.id = v_known.id and (c.last_synced_at < seen or c.observed_at < seen);
    return case when v_hash = v_known.payload_hash then 'unchanged' else 'stale' end;
  end if;
  insert into commerce.shopify_collections as c (workspace_id, connected_account_id, shopify_collection_id,
    collection_type, title, body_html, handle, sort_order, image_url, image_alt, published, published_at,
    last_synced_at, shopify_updated_at, observed_at, payload_hash)
  values (v_account.workspace_id, v_account.id, collection ->> 'id',
    coalesce(collection ->> 'collection_type', v_known.collection_type), collection ->> 'title',
    collection ->> 'body_html', collection ->> 'handle', collection ->> 'sort_order', collection ->> 'image_url',
    collection ->> 'image_alt', coalesce((collection ->> 'published')::boolean, v_known.published, true),
    case when collection ? 'published_at' then (collection ->> 'published_at')::timestamptz
      else v_known.published_at end,
    seen, v_at, seen, v_hash)
  on conflict on constraint shopify_collections_once do update
  set collection_type = excluded.collection_type, title = excluded.title, body_html = excluded.body_html,
    handle = excluded.handle, sort_order = excluded.sort_order, image_url = excluded.image_url,
    image_alt = excluded.image_alt, published = excluded.published, published_at = excluded.published_at,
    last_synced_at = greatest(c.last_synced_at, excluded.last_synced_at),
    shopify_updated_at = excluded.shopify_updated_at, observed_at = excluded.observed_at,
    payload_hash = excluded.payload_hash, deleted_at = null;
  return 'applied';
end $$;
comment on function commerce.apply_shopify_collection(uuid, jsonb, timestamptz) is
  'Applies what a shop said of a collection: applied, unchanged, stale or deleted.';
revoke all on function commerce.apply_shopify_collection from public, anon, authenticated, service_role;
grant execute on function commerce.apply_shopify_collection to service_role;

create function commerce.delete_shopify_collection(connected_account_id uuid, collection_id text, seen timestamptz,
  gone_at timestamptz default 'infinity') returns text
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_id uuid;
begin
  perform private.bury(v_account.id, 'collection', delete_shopify_collection.collection_id, gone_at);
  update commerce.shopify_collections c
  set deleted_at = seen, last_synced_at = greatest(c.last_synced_at, seen)
  where c.connected_account_id = v_account.id and c.shopify_collection_id = delete_shopify_collection.collection_id
    and c.deleted_at is null
  returning c.id into v_id;
  delete from commerce.shopify_collection_products m where m.collection_id = v_id;
  return case when v_id is null then 'unchanged' else 'deleted' end;
end $$;
comment on function commerce.delete_shopify_collection(uuid, text, timestamptz, timestamptz) is
  'A shop has deleted a collection, known or not; its products stay.';
revoke all on function commerce.delete_shopify_collection from public, anon, authenticated, service_role;
grant execute on function commerce.delete_shopify_collection to service_role;

-- One page of a collection's members, read from its beginning at seen; after the last page, what was not seen is out.
-- Pages of an older reading than the newest whole one change nothing. Returns whether the page counted.
create function commerce.apply_collection_members(connected_account_id uuid, collection_id text, product_ids text[],
  first_position integer, is_last boolean, seen timestamptz) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(connected_account_id);
  v_collection commerce.shopify_collections;
begin
  select * into v_collection from commerce.shopify_collections c
  where c.connected_account_id = v_account.id
    and c.shopify_collection_id = apply_collection_members.collection_id and c.deleted_at is null;
  if v_collection.id is null or v_collection.members_observed_at > seen then
    return false;
  end if;
  insert into commerce.shopify_collection_products as m
    (collection_id, shopify_product_id, workspace_id, connected_account_id, position, observed_at)
  select v_collection.id, p.id, v_account.workspace_id, v_account.id, first_position + min(p.ordinal)::integer - 1, seen
  from unnest(product_ids) with ordinality p (id, ordinal)
  group by p.id
  on conflict on constraint shopify_collection_products_pkey
  do update set position = excluded.position, observed_at = excluded.observed_at
  where m.observed_at <= excluded.observed_at;
  if is_last then
    delete from commerce.shopify_collection_products m
    where m.collection_id = v_collection.id and m.observed_at < seen;
    update commerce.shopify_collections c set members_observed_at = seen where c.id = v_collection.id;
  end if;
  return true;
end $$;
comment on function commerce.apply_collection_members(uuid, text, text[], integer, boolean, timestamptz) is
  'Applies one page of a collection''s members; after the last one the collection holds exactly what was read.';
revoke all on function commerce.apply_collection_members from public, anon, authenticated, service_role;
grant execute on function commerce.apply_collection_members to service_role;
