-- The steps of a sync: pages applied, progress noted, what was not found removed; and when syncs begin by themselves.

-- One page, in the transaction that also moves the row on. items: products (each with inventory_items), inventory
-- levels or collections. Returns how many ended how. Errors: unknown_shop.
create function commerce.apply_shopify_page(account_id uuid, stage text, items jsonb, seen timestamptz)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_item jsonb;
  v_result text;
  v_news integer;
  v_counts jsonb := '{}';
begin
  perform private.say_catalog_source('sync', 'sync');
  if stage = 'levels' then
    v_news := commerce.apply_inventory_levels(account_id, items, seen);
    return jsonb_build_object('applied', v_news, 'unchanged', jsonb_array_length(items) - v_news);
  end if;
  for v_item in select jsonb_array_elements(items) loop
    if stage = 'products' then
      v_result := commerce.apply_shopify_product(account_id, v_item - 'inventory_items', seen);
      perform commerce.apply_inventory_items(account_id, v_item -> 'inventory_items', seen);
    else
      v_result := commerce.apply_shopify_collection(account_id, v_item, seen);
    end if;
    v_counts := v_counts || jsonb_build_object(v_result, coalesce((v_counts ->> v_result)::integer, 0) + 1);
  end loop;
  return v_counts;
end $$;
comment on function commerce.apply_shopify_page(uuid, text, jsonb, timestamptz) is
  'Applies one page that a sync has read; returns how many were applied, unchanged, stale or deleted.';
revoke all on function commerce.apply_shopify_page from public, anon, authenticated, service_role;
grant execute on function commerce.apply_shopify_page to service_role;

-- locations: [{id, name, is_active}], all that the shop has: others are gone.
create function commerce.apply_locations(account_id uuid, locations jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts := private.lock_shop(account_id);
begin
  insert into commerce.inventory_locations as k
    (workspace_id, connected_account_id, shopify_location_id, name, is_active)
  select v_account.workspace_id, v_account.id, l.id, l.name, l.is_active
  from jsonb_to_recordset(locations) as l (id text, name text, is_active boolean)
  on conflict on constraint inventory_locations_once
  do update set name = excluded.name, is_active = excluded.is_active
  where (k.name, k.is_active) <> (excluded.name, excluded.is_active);
  update commerce.inventory_locations k set is_active = false
  where k.connected_account_id = v_account.id and k.is_active
    and k.shopify_location_id not in (select l.id from jsonb_to_recordset(locations) as l (id text));
end $$;
comment on function commerce.apply_locations(uuid, jsonb) is
  'Keeps a shop''s locations by name; those that it no longer has are no longer active.';
revoke all on function commerce.apply_locations from public, anon, authenticated, service_role;
grant execute on function commerce.apply_locations to service_role;

create function commerce.note_shopify_sync(sync_id uuid, stage text, counts jsonb, progress integer,
  seen timestamptz default null) returns boolean
language sql
set search_path = ''
as $$
  update commerce.shopify_syncs s
  set status = 'running', stage = note_shopify_sync.stage, counts = note_shopify_sync.counts,
    progress = note_shopify_sync.progress, started_at = coalesce(s.started_at, private.now()),
    observed_at = coalesce(s.observed_at, seen)
  where s.id = sync_id and s.status in ('pending', 'running')
  returning true
$$;
comment on function commerce.note_shopify_sync(uuid, text, jsonb, integer, timestamptz) is
  'How far a sync is; null when it has ended, such as by being cancelled.';
revoke all on function commerce.note_shopify_sync from public, anon, authenticated, service_role;
grant execute on function commerce.note_shopify_sync to service_role;

-- What a full reading that began at seen did not find, and nothing said later, is gone.
create function private.remove_absent(account_id uuid, seen timestamptz) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_id text;
  v_products integer := 0;
  v_collections integer := 0;
  v_levels integer;
begin
  for v_id in select p.shopify_product_id from commerce.shopify_products p
    where p.connected_account_id = account_id and p.last_synced_at < seen and p.deleted_at is null
  loop
    perform commerce.delete_shopify_product(account_id, v_id, seen, seen);
    v_products := v_products + 1;
  end loop;
  for v_id in select c.shopify_collection_id from commerce.shopify_collections c
    where c.connected_account_id = account_id and c.last_synced_at < seen and c.deleted_at is null
  loop
    perform commerce.delete_shopify_collection(account_id, v_id, seen, seen);
    v_collections := v_collections + 1;
  end loop;
  update commerce.inventory_levels l
  set disconnected_at = seen, shopify_updated_at = date_trunc('second', seen), observed_at = seen, last_seen_at = seen
  where l.connected_account_id = account_id and l.last_seen_at < seen and l.disconnected_at is null;
  get diagnostics v_levels = row_count;
  return jsonb_build_object('products', v_products, 'collections', v_collections, 'levels', v_levels);
end $$;
comment on function private.remove_absent(uuid, timestamptz) is
  'Deletes what a full sync did not find; returns how many of each.';
revoke all on function private.remove_absent from public, anon, authenticated, service_role;
grant execute on function private.remove_absent to service_role;

create function commerce.finish_shopify_sync(sync_id uuid) returns commerce.shopify_syncs
language plpgsql
set search_path = ''
as $$
declare
  v_sync commerce.shopify_syncs;
begin
  select * into v_sync from commerce.shopify_syncs s where s.id = sync_id and s.status in ('pending', 'running');
  if v_sync.id is null then
    return v_sync;
  end if;
  perform private.lock_shop(v_sync.connected_account_id);
  perform private.say_catalog_source('sync', 'sync');
  if v_sync.kind = 'full' then
    v_sync.counts := v_sync.counts || jsonb_build_object('removed',
      private.remove_absent(v_sync.connected_account_id, v_sync.observed_at));
  end if;
  update integrations.connected_accounts a
  set last_sync_at = greatest(a.last_sync_at, v_sync.observed_at), error_message = null, error_count = 0
  where a.id = v_sync.connected_account_id;
  update commerce.shopify_syncs s
  set status = 'completed', progress = 100, counts = v_sync.counts, completed_at = private.now()
  where s.id = sync_id
  returning * into v_sync;
  return v_sync;
end $$;
comment on function commerce.finish_shopify_sync(uuid) is
  'Ends a sync; after a full one, what the shop no longer has is deleted here.';
revoke all on function commerce.finish_shopify_sync from public, anon, authenticated, service_role;
grant execute on function commerce.finish_shopify_sync to service_role;

-- A full reading a day, what changed every hour.
create function commerce.sweep_shops() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_full boolean;
  v_begun integer := 0;
begin
  for v_account in
    select a.* from integrations.connected_accounts a
    where a.provider = 'shopify' and a.status = 'active' and not exists (
      select from commerce.shopify_syncs s where s.connected_account_id = a.id
        and (s.status in ('pending', 'running') or s.created_at > private.now() - interval '1 hour'))
    order by a.last_sync_at nulls first limit 200
  loop
    v_full := not exists (select from commerce.shopify_syncs s where s.connected_account_id = v_account.id
      and s.kind = 'full' and s.status = 'completed' and s.completed_at > private.now() - interval '1 day');
    perform private.begin_shopify_sync(v_account, case when v_full then 'full' else 'changes' end, null);
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function commerce.sweep_shops() is
  'Sweep: begins a full sync of each shop once a day and one of changes once an hour; returns how many.';
revoke all on function commerce.sweep_shops from public, anon, authenticated, service_role;
grant execute on function commerce.sweep_shops to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('sync shops', 'commerce.sweep_shops', interval '5 minutes');

create function private.purge_shopify_syncs() returns integer
language sql
set search_path = ''
as $$
  with purged as (
    delete from commerce.shopify_syncs s where s.completed_at < private.now() - interval '90 days' returning 1
  )
  select count(*)::integer from purged
$$;
comment on function private.purge_shopify_syncs() is 'Sweep: forgets syncs that ended 90 days ago.';
revoke all on function private.purge_shopify_syncs from public, anon, authenticated, service_role;
grant execute on function private.purge_shopify_syncs to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('purge shop syncs', 'private.purge_shopify_syncs', interval '1 day');
