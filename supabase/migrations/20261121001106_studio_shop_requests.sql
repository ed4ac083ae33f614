-- Linking collections of the wardrobe to collections of a shop, for clients.

-- A collection of a connected shop that the caller may know of. Errors: unknown_shopify_collection.
create function private.require_shop_collection(shop_collection_id uuid) returns commerce.shopify_collections
language plpgsql
set search_path = ''
as $$
declare
  v_shop commerce.shopify_collections;
begin
  select * into v_shop from commerce.shopify_collections c where c.id = shop_collection_id and c.deleted_at is null
    and (private.is_service() or private.has_role(c.workspace_id, 'viewer')) for no key update;
  if not found then
    perform private.fail('unknown_shopify_collection', 'There is no such collection of a shop.',
      jsonb_build_object('shopify_collection_id', shop_collection_id));
  end if;
  return v_shop;
end $$;
comment on function private.require_shop_collection(uuid) is 'A collection of a shop of the caller''s, locked.';
revoke all on function private.require_shop_collection from public, anon, authenticated, service_role;

-- A new collection of the wardrobe, named after the shop's; where the name is taken, with a number.
create function private.collection_named_after(shop commerce.shopify_collections) returns studio.wardrobe_collections
language plpgsql
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections;
  v_name text := coalesce(nullif(left(trim(shop.title), 190), ''), 'Shop');
begin
  for v_number in 1 .. 1000 loop
    insert into studio.wardrobe_collections as c (workspace_id, name)
    values (shop.workspace_id, v_name || case when v_number > 1 then ' ' || v_number else '' end)
    on conflict on constraint wardrobe_collections_name_key do nothing returning c.* into v_collection;
    exit when found;
  end loop;
  return v_collection;
end $$;
comment on function private.collection_named_after(commerce.shopify_collections) is
  'Makes a collection of the wardrobe for one of a shop.';
revoke all on function private.collection_named_after from public, anon, authenticated, service_role;

create function private.link_shopify_collection(shopify_collection_id uuid, collection_id uuid, auto_sync boolean)
returns studio.wardrobe_collections
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_shop commerce.shopify_collections := private.require_shop_collection(shopify_collection_id);
  v_collection studio.wardrobe_collections;
begin
  perform private.require_role(v_shop.workspace_id, 'editor');
  if v_shop.wardrobe_collection_id is not null and collection_id is null then
    collection_id := v_shop.wardrobe_collection_id;
  end if;
  if collection_id is null then
    v_collection := private.collection_named_after(v_shop);
  else
    v_collection := private.require_collection(collection_id);
  end if;
  if v_collection.workspace_id <> v_shop.workspace_id then
    perform private.fail('unknown_collection', 'The collection is of another workspace than the shop.',
      jsonb_build_object('collection_id', v_collection.id));
  end if;
  if v_shop.wardrobe_collection_id <> v_collection.id or v_collection.shopify_collection_id <> v_shop.id then
    perform private.fail('collection_linked', 'One of the two collections is linked to another one.',
      jsonb_build_object('collection_id', v_collection.id, 'shopify_collection_id', v_shop.id));
  end if;
  update commerce.shopify_collections c
  set wardrobe_collection_id = v_collection.id, auto_sync_enabled = link_shopify_collection.auto_sync
  where c.id = v_shop.id;
  -- the first time, it is filled whether or not it follows from then on
  update studio.wardrobe_collections c
  set sync_wanted_at = case when v_collection.shopify_collection_id is null
    then private.now() - interval '1 minute' else c.sync_wanted_at end
  where c.id = v_collection.id returning * into v_collection;
  return v_collection;
end $$;
comment on function private.link_shopify_collection is
  'Core of studio.link_shopify_collection; checks the caller first.';
revoke all on function private.link_shopify_collection from public, anon, authenticated, service_role;
grant execute on function private.link_shopify_collection to authenticated, service_role;

-- Fills a collection of the wardrobe with the products of a shop collection; with auto_sync it follows the shop from
-- then on. Without collection_id a new one is made. Editors may; linking again changes auto_sync. Errors:
-- unknown_shopify_collection, unknown_collection, role_too_low, collection_linked.
create function studio.link_shopify_collection(shopify_collection_id uuid, collection_id uuid default null,
  auto_sync boolean default true) returns studio.wardrobe_collections
language sql
set search_path = ''
as $$ select private.link_shopify_collection(shopify_collection_id, collection_id, auto_sync) $$;
comment on function studio.link_shopify_collection is
  'Fills a collection of the wardrobe with the products of a shop collection, and follows it.';
revoke all on function studio.link_shopify_collection from public, anon, authenticated, service_role;
grant execute on function studio.link_shopify_collection to authenticated, service_role;

create function private.unlink_shopify_collection(collection_id uuid) returns studio.wardrobe_collections
language plpgsql security definer
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections := private.require_collection(collection_id);
begin
  perform private.require_role(v_collection.workspace_id, 'editor');
  update commerce.shopify_collections c set wardrobe_collection_id = null, auto_sync_enabled = false
  where c.id = v_collection.shopify_collection_id;
  select * into v_collection from studio.wardrobe_collections c where c.id = v_collection.id;
  return v_collection;
end $$;
comment on function private.unlink_shopify_collection is
  'Core of studio.unlink_shopify_collection; checks the caller first.';
revoke all on function private.unlink_shopify_collection from public, anon, authenticated, service_role;
grant execute on function private.unlink_shopify_collection to authenticated, service_role;

-- Ends a link; the garments stay as they are. Editors may. Errors: unknown_collection, role_too_low.
create function studio.unlink_shopify_collection(collection_id uuid) returns studio.wardrobe_collections
language sql
set search_path = ''
as $$ select private.unlink_shopify_collection(collection_id) $$;
comment on function studio.unlink_shopify_collection is 'Ends the link to a shop collection; the garments stay.';
revoke all on function studio.unlink_shopify_collection from public, anon, authenticated, service_role;
grant execute on function studio.unlink_shopify_collection to authenticated, service_role;

create function private.sync_shopify_collection(collection_id uuid) returns studio.wardrobe_collections
language plpgsql security definer
set search_path = ''
as $$
declare
  v_collection studio.wardrobe_collections := private.require_collection(collection_id);
begin
  perform private.require_role(v_collection.workspace_id, 'member');
  if v_collection.shopify_collection_id is null then
    perform private.fail('collection_not_linked', format('"%s" shows no collection of a shop.', v_collection.name),
      jsonb_build_object('collection_id', v_collection.id));
  end if;
  update studio.wardrobe_collections c set sync_wanted_at = private.now() - interval '1 minute'
  where c.id = v_collection.id returning * into v_collection;
  return v_collection;
end $$;
comment on function private.sync_shopify_collection is
  'Core of studio.sync_shopify_collection; checks the caller first.';
revoke all on function private.sync_shopify_collection from public, anon, authenticated, service_role;
grant execute on function private.sync_shopify_collection to authenticated, service_role;

-- Has a linked collection catch up now; done when sync_wanted_at is null. Members may. Errors: unknown_collection,
-- role_too_low, collection_not_linked.
create function studio.sync_shopify_collection(collection_id uuid) returns studio.wardrobe_collections
language sql
set search_path = ''
as $$ select private.sync_shopify_collection(collection_id) $$;
comment on function studio.sync_shopify_collection is 'Has a linked collection catch up with its shop collection now.';
revoke all on function studio.sync_shopify_collection from public, anon, authenticated, service_role;
grant execute on function studio.sync_shopify_collection to authenticated, service_role;
