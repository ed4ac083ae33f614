-- Collections of connected shops and what is in them. The shop tells of a collection by webhook, of its members only
-- when asked, so members are read by the sync.

create table commerce.shopify_collections (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_collection_id text not null,
  collection_type text,
  title text not null,
  body_html text,
  handle text,
  sort_order text,
  image_url text,
  image_alt text,
  wardrobe_collection_id uuid,
  auto_sync_enabled boolean not null default false,
  published boolean not null default true,
  published_at timestamptz,
  product_count integer not null default 0,
  last_synced_at timestamptz not null default now(),
  members_observed_at timestamptz not null default '-infinity',
  shopify_updated_at timestamptz not null,
  observed_at timestamptz not null,
  payload_hash text not null default '',
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint shopify_collections_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint shopify_collections_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_collections_wardrobe_collection_id_fkey foreign key (workspace_id, wardrobe_collection_id)
    references studio.wardrobe_collections (workspace_id, id) on delete set null (wardrobe_collection_id),
  constraint shopify_collections_once unique (connected_account_id, shopify_collection_id),
  constraint shopify_collections_type_known check (collection_type in ('smart', 'custom')),
  constraint shopify_collections_product_count_not_negative check (product_count >= 0)
);
comment on table commerce.shopify_collections is
  'Collections of connected Shopify shops; one may fill a collection of the wardrobe by itself.';
comment on column commerce.shopify_collections.product_count is 'Members that are live products, kept by triggers.';
comment on column commerce.shopify_collections.members_observed_at is 'When its members were last read as a whole.';
create index shopify_collections_workspace_id on commerce.shopify_collections (workspace_id, published);
create index shopify_collections_account on commerce.shopify_collections (connected_account_id, last_synced_at);
create index shopify_collections_wardrobe on commerce.shopify_collections (workspace_id, wardrobe_collection_id)
  where wardrobe_collection_id is not null;
create trigger touch_shopify_collections before update on commerce.shopify_collections
  for each row execute function private.touch_updated_at();
alter table commerce.shopify_collections enable row level security;
revoke all on table commerce.shopify_collections from public, anon, authenticated, service_role;
grant select, update (wardrobe_collection_id, auto_sync_enabled) on table commerce.shopify_collections to authenticated;
grant select, insert, update, delete on table commerce.shopify_collections to service_role;
create policy "Members see the shop collections of their workspaces" on commerce.shopify_collections
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors decide what a shop collection fills" on commerce.shopify_collections
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

-- Members are known by the shop's ids, because a collection may be read before its products.
create table commerce.shopify_collection_products (
  collection_id uuid not null,
  shopify_product_id text not null,
  workspace_id uuid not null,
  connected_account_id uuid not null,
  product_id uuid,
  position integer not null default 0,
  observed_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint shopify_collection_products_pkey primary key (collection_id, shopify_product_id),
  constraint shopify_collection_products_collection_id_fkey foreign key (collection_id)
    references commerce.shopify_collections (id) on delete cascade,
  constraint shopify_collection_products_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint shopify_collection_products_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint shopify_collection_products_product_id_fkey foreign key (product_id)
    references commerce.shopify_products (id) on delete set null
);
comment on table commerce.shopify_collection_products is 'Which products a shop collection holds, in its order.';
comment on column commerce.shopify_collection_products.product_id is 'Null until the product itself is known.';
create index shopify_collection_products_product_id on commerce.shopify_collection_products (product_id);
create index shopify_collection_products_external on commerce.shopify_collection_products
  (connected_account_id, shopify_product_id);
create index shopify_collection_products_workspace_id on commerce.shopify_collection_products (workspace_id);
alter table commerce.shopify_collection_products enable row level security;
revoke all on table commerce.shopify_collection_products from public, anon, authenticated, service_role;
grant select on table commerce.shopify_collection_products to authenticated;
grant select, insert, update, delete on table commerce.shopify_collection_products to service_role;
create policy "Members see what the shop collections of their workspaces hold" on commerce.shopify_collection_products
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create function private.link_collection_product() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  select p.id into new.product_id from commerce.shopify_products p
  where p.connected_account_id = new.connected_account_id and p.shopify_product_id = new.shopify_product_id
    and p.deleted_at is null;
  return new;
end $$;
comment on function private.link_collection_product() is 'Trigger: a member points at its product where that is known.';
revoke all on function private.link_collection_product from public, anon, authenticated, service_role;
create trigger link_product before insert or update on commerce.shopify_collection_products
  for each row execute function private.link_collection_product();

create function private.total_collections() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from changed) then
    return null;
  end if;
  update commerce.shopify_collections c set product_count = s.product_count
  from (
    select g.collection_id, count(m.product_id)::integer as product_count
    from (select distinct n.collection_id from changed n) g
    left join commerce.shopify_collection_products m on m.collection_id = g.collection_id
    group by 1
  ) s
  where c.id = s.collection_id and c.product_count <> s.product_count;
  update commerce.shopify_products p set collection_ids = s.ids
  from (
    select g.connected_account_id, g.shopify_product_id, coalesce(
      array_agg(c.shopify_collection_id order by c.shopify_collection_id) filter (where c.id is not null), '{}') as ids
    from (select distinct n.connected_account_id, n.shopify_product_id from changed n) g
    left join commerce.shopify_collection_products m
      on m.connected_account_id = g.connected_account_id and m.shopify_product_id = g.shopify_product_id
    left join commerce.shopify_collections c on c.id = m.collection_id and c.deleted_at is null
    group by 1, 2
  ) s
  where p.connected_account_id = s.connected_account_id and p.shopify_product_id = s.shopify_product_id
    and p.collection_ids <> s.ids;
  return null;
end $$;
comment on function private.total_collections() is
  'Trigger: collections count their live products, products know their collections.';
revoke all on function private.total_collections from public, anon, authenticated, service_role;
create trigger total_after_insert after insert on commerce.shopify_collection_products
  referencing new table as changed for each statement execute function private.total_collections();
create trigger total_after_update after update on commerce.shopify_collection_products
  referencing new table as changed for each statement execute function private.total_collections();
create trigger total_after_delete after delete on commerce.shopify_collection_products
  referencing old table as changed for each statement execute function private.total_collections();

-- A product that appears or disappears is looked up again by what holds it.
create function private.relink_collections() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from changed) then
    return null;
  end if;
  update commerce.shopify_collection_products m set position = m.position
  from changed c
  where m.connected_account_id = c.connected_account_id and m.shopify_product_id = c.shopify_product_id
    and m.product_id is distinct from case when c.deleted_at is null then c.id end;
  return null;
end $$;
comment on function private.relink_collections() is 'Trigger: members follow their products'' coming and going.';
revoke all on function private.relink_collections from public, anon, authenticated, service_role;
create trigger relink_after_insert after insert on commerce.shopify_products
  referencing new table as changed for each statement execute function private.relink_collections();
create trigger relink_after_update after update on commerce.shopify_products
  referencing new table as changed for each statement execute function private.relink_collections();
