-- Collections of the wardrobe that show a collection of a connected shop. The link is one fact seen from both sides:
-- commerce.shopify_collections names the wardrobe's collection, and a trigger keeps the other side in step. What
-- changes in the shop only marks the collection; a sweep then makes its garments those of the shop's products.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_shopify_collection', 'PT404', 'Choose a collection of a shop that is connected to this workspace.'),
  ('collection_linked', 'PT409', 'Unlink it first: studio.unlink_shopify_collection.'),
  ('collection_not_linked', 'PT409', 'Link it to a collection of a shop first: studio.link_shopify_collection.');

alter table studio.wardrobe_collections add constraint wardrobe_collections_shopify_collection_id_fkey
  foreign key (shopify_collection_id) references commerce.shopify_collections (id) on delete set null;
alter table studio.wardrobe_garments add constraint wardrobe_garments_shopify_product_id_fkey
  foreign key (shopify_product_id) references commerce.shopify_products (id) on delete set null;
alter table studio.wardrobe_garments add constraint wardrobe_garments_shopify_variant_id_fkey
  foreign key (shopify_variant_id) references commerce.shopify_product_variants (id) on delete set null;
drop index commerce.shopify_collections_wardrobe;
create unique index shopify_collections_wardrobe on commerce.shopify_collections (wardrobe_collection_id)
  where wardrobe_collection_id is not null;
create index shopify_collections_wardrobe_of_workspace
  on commerce.shopify_collections (workspace_id, wardrobe_collection_id);

-- A garment whose product is gone for good is the workspace's own.
create function private.let_garment_be() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.is_synced := false;
  return new;
end $$;
comment on function private.let_garment_be() is 'Trigger: a garment whose product is forgotten is synced no more.';
revoke all on function private.let_garment_be from public, anon, authenticated, service_role;
create trigger wardrobe_garments_forget before update of shopify_product_id on studio.wardrobe_garments
  for each row when (new.shopify_product_id is null and old.is_synced) execute function private.let_garment_be();

create function private.forget_shop_collection() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.auto_sync_enabled := false;
  new.sync_wanted_at := null;
  update studio.wardrobe_garments g set is_synced = false
  where g.workspace_id = new.workspace_id and g.collection_id = new.id and g.is_synced;
  return new;
end $$;
comment on function private.forget_shop_collection() is
  'Trigger: a collection that follows no shop collection keeps its garments as its own.';
revoke all on function private.forget_shop_collection from public, anon, authenticated, service_role;
create trigger wardrobe_collections_forget before update of shopify_collection_id on studio.wardrobe_collections
  for each row when (new.shopify_collection_id is null) execute function private.forget_shop_collection();

create function private.mirror_collection_link() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if old.wardrobe_collection_id is distinct from new.wardrobe_collection_id then
    update studio.wardrobe_collections c set shopify_collection_id = null
    where c.id = old.wardrobe_collection_id and c.shopify_collection_id = new.id;
  end if;
  update studio.wardrobe_collections c
  set shopify_collection_id = new.id, auto_sync_enabled = new.auto_sync_enabled,
    sync_wanted_at = case when new.auto_sync_enabled then private.now() - interval '1 minute' else c.sync_wanted_at end
  where c.id = new.wardrobe_collection_id;
  return null;
end $$;
comment on function private.mirror_collection_link() is
  'Trigger: the wardrobe''s collection knows which shop collection fills it.';
revoke all on function private.mirror_collection_link from public, anon, authenticated, service_role;
create trigger mirror_link after update on commerce.shopify_collections
  for each row when ((old.wardrobe_collection_id, old.auto_sync_enabled)
    is distinct from (new.wardrobe_collection_id, new.auto_sync_enabled))
  execute function private.mirror_collection_link();

-- A shop that deletes a collection deletes no garments: what it filled keeps them.
create function private.unlink_deleted_collection() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.wardrobe_collection_id := null;
  new.auto_sync_enabled := false;
  return new;
end $$;
comment on function private.unlink_deleted_collection() is 'Trigger: a deleted shop collection fills nothing.';
revoke all on function private.unlink_deleted_collection from public, anon, authenticated, service_role;
create trigger unlink_deleted before update of deleted_at on commerce.shopify_collections
  for each row when (new.deleted_at is not null and new.wardrobe_collection_id is not null)
  execute function private.unlink_deleted_collection();

-- Always writes, so that a sweep that is at the collection is waited for, and does not miss what it did not see.
create function private.want_collection_sync(shop_collection_ids uuid[]) returns void
language sql
set search_path = ''
as $$
  update studio.wardrobe_collections c set sync_wanted_at = coalesce(c.sync_wanted_at, private.now())
  where c.id in (select w.id from studio.wardrobe_collections w
    where w.shopify_collection_id = any (shop_collection_ids) and w.auto_sync_enabled
    order by w.id for no key update)
$$;
comment on function private.want_collection_sync(uuid[]) is 'Marks the collections that follow these shop collections.';
revoke all on function private.want_collection_sync from public, anon, authenticated, service_role;
grant execute on function private.want_collection_sync to service_role;

create function private.members_changed() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[] := array(select distinct c.collection_id from changed c
    join studio.wardrobe_collections w on w.shopify_collection_id = c.collection_id);
begin
  if v_ids <> '{}' then
    perform private.want_collection_sync(v_ids);
  end if;
  return null;
end $$;
comment on function private.members_changed() is 'Trigger: what follows a shop collection follows its members.';
revoke all on function private.members_changed from public, anon, authenticated, service_role;
create trigger follow_after_insert after insert on commerce.shopify_collection_products
  referencing new table as changed for each statement execute function private.members_changed();
create trigger follow_after_update after update on commerce.shopify_collection_products
  referencing new table as changed for each statement execute function private.members_changed();
create trigger follow_after_delete after delete on commerce.shopify_collection_products
  referencing old table as changed for each statement execute function private.members_changed();

create function private.products_changed() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  v_ids := array(
    select distinct m.collection_id
    from changed n join before o on o.id = n.id
    join commerce.shopify_collection_products m on m.product_id = n.id
    join studio.wardrobe_collections w on w.shopify_collection_id = m.collection_id
    where (o.title, o.status, o.featured_image_url, o.tags, o.deleted_at)
      is distinct from (n.title, n.status, n.featured_image_url, n.tags, n.deleted_at));
  if v_ids <> '{}' then
    perform private.want_collection_sync(v_ids);
  end if;
  return null;
end $$;
comment on function private.products_changed() is 'Trigger: what shows a product follows its name and picture.';
revoke all on function private.products_changed from public, anon, authenticated, service_role;
create trigger follow_after_update after update on commerce.shopify_products
  referencing old table as before new table as changed for each statement execute function private.products_changed();
