-- Stock as the shop keeps it: an item (what a variant is in the stockroom) has a level at each location. Quantities of
-- variants follow by triggers, whoever writes, in whatever order things become known; totals of products: 1013.

create table commerce.inventory_locations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_location_id text not null,
  name text not null,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint inventory_locations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint inventory_locations_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint inventory_locations_once unique (connected_account_id, shopify_location_id)
);
comment on table commerce.inventory_locations is 'Where a shop keeps its stock.';
create index inventory_locations_workspace_id on commerce.inventory_locations (workspace_id);
create trigger touch_inventory_locations before update on commerce.inventory_locations
  for each row execute function private.touch_updated_at();
alter table commerce.inventory_locations enable row level security;
revoke all on table commerce.inventory_locations from public, anon, authenticated, service_role;
grant select on table commerce.inventory_locations to authenticated;
grant select, insert, update, delete on table commerce.inventory_locations to service_role;
create policy "Members see the locations of their workspaces" on commerce.inventory_locations
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.inventory_items (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_inventory_item_id text not null,
  quantity integer,
  tracked boolean,
  cost_cents bigint,
  requires_shipping boolean,
  weight_grams numeric(12, 3),
  weight_unit text,
  shopify_updated_at timestamptz not null default '-infinity',
  observed_at timestamptz not null default '-infinity',
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint inventory_items_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint inventory_items_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint inventory_items_once unique (connected_account_id, shopify_inventory_item_id),
  constraint inventory_items_cost_not_negative check (cost_cents >= 0),
  constraint inventory_items_weight_not_negative check (weight_grams >= 0),
  constraint inventory_items_weight_unit_known check (weight_unit in ('g', 'kg', 'oz', 'lb'))
);
comment on table commerce.inventory_items is
  'What variants are in the stockroom: cost, weight, whether their stock is counted, and its sum.';
comment on column commerce.inventory_items.quantity is 'Sum over the connected locations; null until one is known.';
comment on column commerce.inventory_items.shopify_updated_at is '-infinity: only its levels are known yet.';
create index inventory_items_workspace_id on commerce.inventory_items (workspace_id);
create trigger touch_inventory_items before update on commerce.inventory_items
  for each row execute function private.touch_updated_at();
alter table commerce.inventory_items enable row level security;
revoke all on table commerce.inventory_items from public, anon, authenticated, service_role;
grant select on table commerce.inventory_items to authenticated;
grant select, insert, update, delete on table commerce.inventory_items to service_role;
create policy "Members see the inventory items of their workspaces" on commerce.inventory_items
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.inventory_levels (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_inventory_item_id text not null,
  shopify_location_id text not null,
  available integer,
  shopify_updated_at timestamptz not null,
  observed_at timestamptz not null,
  last_seen_at timestamptz not null,
  disconnected_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint inventory_levels_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint inventory_levels_item_fkey foreign key (connected_account_id, shopify_inventory_item_id)
    references commerce.inventory_items (connected_account_id, shopify_inventory_item_id) on delete cascade,
  constraint inventory_levels_once unique (connected_account_id, shopify_inventory_item_id, shopify_location_id)
);
comment on table commerce.inventory_levels is 'How much of an item can be sold from a location.';
comment on column commerce.inventory_levels.available is 'Null: the shop does not count this item.';
comment on column commerce.inventory_levels.disconnected_at is 'The item is no longer kept at the location since then.';
comment on column commerce.inventory_levels.last_seen_at is
  'Until when the level is known to be as it is here, by the shop''s clock.';
create index inventory_levels_workspace_id on commerce.inventory_levels (workspace_id);
create index inventory_levels_location on commerce.inventory_levels
  (connected_account_id, shopify_location_id, last_seen_at) where disconnected_at is null;
create trigger touch_inventory_levels before update on commerce.inventory_levels
  for each row execute function private.touch_updated_at();
alter table commerce.inventory_levels enable row level security;
revoke all on table commerce.inventory_levels from public, anon, authenticated, service_role;
grant select on table commerce.inventory_levels to authenticated;
grant select, insert, update, delete on table commerce.inventory_levels to service_role;
create policy "Members see the inventory levels of their workspaces" on commerce.inventory_levels
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.inventory_history (
  id bigint generated always as identity primary key,
  workspace_id uuid not null,
  variant_id uuid not null,
  previous_quantity integer not null,
  new_quantity integer not null,
  change_amount integer not null generated always as (new_quantity - previous_quantity) stored,
  change_reason text,
  change_source text,
  metadata jsonb not null default '{}',
  changed_at timestamptz not null default private.now(),
  constraint inventory_history_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint inventory_history_variant_id_fkey foreign key (variant_id)
    references commerce.shopify_product_variants (id) on delete cascade,
  constraint inventory_history_changes_something check (previous_quantity <> new_quantity),
  constraint inventory_history_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);
comment on table commerce.inventory_history is 'Every change of a variant''s quantity, with what told of it.';
comment on column commerce.inventory_history.change_reason is 'What happened: the webhook''s topic, or sync.';
comment on column commerce.inventory_history.change_source is 'Who told of it: webhook or sync.';
create index inventory_history_variant_id on commerce.inventory_history (variant_id, changed_at desc);
create index inventory_history_workspace_id on commerce.inventory_history (workspace_id, changed_at desc);
alter table commerce.inventory_history enable row level security;
revoke all on table commerce.inventory_history from public, anon, authenticated, service_role;
grant select on table commerce.inventory_history to authenticated;
grant select, insert, delete on table commerce.inventory_history to service_role;
create policy "Members see the inventory history of their workspaces" on commerce.inventory_history
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- Triggers for statements run for no rows, too: each ends there, or they would call each other for ever.

-- Levels -> item.
create function private.total_inventory_items() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from changed) then
    return null;
  end if;
  update commerce.inventory_items i set quantity = s.quantity
  from (
    select l.connected_account_id, l.shopify_inventory_item_id,
      coalesce(sum(l.available) filter (where l.disconnected_at is null), 0)::integer as quantity
    from commerce.inventory_levels l
    where (l.connected_account_id, l.shopify_inventory_item_id) in
      (select c.connected_account_id, c.shopify_inventory_item_id from changed c)
    group by 1, 2
  ) s
  where i.connected_account_id = s.connected_account_id and i.shopify_inventory_item_id = s.shopify_inventory_item_id
    and i.quantity is distinct from s.quantity;
  return null;
end $$;
comment on function private.total_inventory_items() is 'Trigger: an item''s quantity is the sum of its levels.';
revoke all on function private.total_inventory_items from public, anon, authenticated, service_role;
create trigger total_after_insert after insert on commerce.inventory_levels
  referencing new table as changed for each statement execute function private.total_inventory_items();
create trigger total_after_update after update on commerce.inventory_levels
  referencing new table as changed for each statement execute function private.total_inventory_items();

-- Item -> variants: before a variant is written, it takes what its item knows.
create function private.fill_variant_from_item() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_item commerce.inventory_items;
begin
  select * into v_item from commerce.inventory_items i
  where i.connected_account_id = new.connected_account_id
    and i.shopify_inventory_item_id = new.shopify_inventory_item_id;
  new.inventory_quantity := coalesce(v_item.quantity, new.reported_quantity, 0);
  new.tracked := coalesce(v_item.tracked, true);
  new.cost_cents := v_item.cost_cents;
  new.requires_shipping := coalesce(v_item.requires_shipping, true);
  new.weight_grams := v_item.weight_grams;
  new.weight_unit := coalesce(v_item.weight_unit, 'g');
  new.available := not new.tracked or new.inventory_policy = 'continue' or new.inventory_quantity > 0;
  return new;
end $$;
comment on function private.fill_variant_from_item() is
  'Trigger: a variant''s stock, cost and weight are those of its inventory item.';
revoke all on function private.fill_variant_from_item from public, anon, authenticated, service_role;
create trigger fill_from_item before insert or update on commerce.shopify_product_variants
  for each row execute function private.fill_variant_from_item();

-- And when an item changes, its variants are written again.
create function private.refill_variants() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from changed) then
    return null;
  end if;
  if tg_op = 'UPDATE' then
    update commerce.shopify_product_variants v set shopify_inventory_item_id = v.shopify_inventory_item_id
    from changed c join before b on b.id = c.id
    where v.connected_account_id = c.connected_account_id
      and v.shopify_inventory_item_id = c.shopify_inventory_item_id
      and (b.quantity, b.tracked, b.cost_cents, b.requires_shipping, b.weight_grams, b.weight_unit)
        is distinct from (c.quantity, c.tracked, c.cost_cents, c.requires_shipping, c.weight_grams, c.weight_unit);
  else
    update commerce.shopify_product_variants v set shopify_inventory_item_id = v.shopify_inventory_item_id
    from changed c
    where v.connected_account_id = c.connected_account_id
      and v.shopify_inventory_item_id = c.shopify_inventory_item_id;
  end if;
  return null;
end $$;
comment on function private.refill_variants() is 'Trigger: variants follow their inventory items.';
revoke all on function private.refill_variants from public, anon, authenticated, service_role;
create trigger refill_after_insert after insert on commerce.inventory_items
  referencing new table as changed for each statement execute function private.refill_variants();
create trigger refill_after_update after update on commerce.inventory_items
  referencing old table as before new table as changed for each statement execute function private.refill_variants();

-- The source is a setting of the transaction: see private.say_catalog_source.
create function private.note_inventory_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  insert into commerce.inventory_history
    (workspace_id, variant_id, previous_quantity, new_quantity, change_reason, change_source, metadata)
  values (new.workspace_id, new.id, old.inventory_quantity, new.inventory_quantity,
    nullif(current_setting('backlot.catalog_reason', true), ''),
    nullif(current_setting('backlot.catalog_source', true), ''),
    jsonb_strip_nulls(jsonb_build_object('sku', new.sku)));
  return null;
end $$;
comment on function private.note_inventory_change() is 'Trigger: writes the history of a variant''s quantity.';
revoke all on function private.note_inventory_change from public, anon, authenticated, service_role;
create trigger note_inventory_change after update on commerce.shopify_product_variants
  for each row when (old.inventory_quantity <> new.inventory_quantity)
  execute function private.note_inventory_change();

create function private.say_catalog_source(source text, reason text) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform set_config('backlot.catalog_source', coalesce(source, ''), true);
  perform set_config('backlot.catalog_reason', coalesce(reason, ''), true);
end $$;
comment on function private.say_catalog_source(text, text) is
  'For the rest of the transaction, changes of stock are noted as told by this source.';
revoke all on function private.say_catalog_source from public, anon, authenticated, service_role;
grant execute on function private.say_catalog_source to service_role;
