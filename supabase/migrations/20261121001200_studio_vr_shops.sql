-- VR shops: rooms in which visitors without an account try a brand's garments on. A shop's workspace pays. What
-- visitors do comes through the edge function `tryon` with a token of the shop.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_vr_shop', 'PT404', 'Use the id of a shop of one of your workspaces.'),
  ('unknown_vr_token', 'PT404', 'Use the id of a token of a shop of one of your workspaces.');

-- What everybody who enters a shop sees: logos, rooms and models of garments.
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('vr-assets', 'vr-assets', true, 52428800,
    array['model/gltf-binary', 'application/octet-stream', 'image/png', 'image/jpeg', 'image/webp'])
on conflict (id) do nothing;
create policy "Members may see their workspace's VR assets" on storage.objects for select to authenticated
  using (bucket_id = 'vr-assets'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may upload VR assets to their workspace's folder" on storage.objects for insert
  to authenticated
  with check (bucket_id = 'vr-assets'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Editors may replace VR assets" on storage.objects for update to authenticated
  using (bucket_id = 'vr-assets'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[]))
  with check (bucket_id = 'vr-assets'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Editors may delete VR assets" on storage.objects for delete to authenticated
  using (bucket_id = 'vr-assets'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[]));

-- Visitors' photos lie in the folder `visitors` of the workspace's uploads, where creations read them; no member sees,
-- plants or keeps one.
create policy "Nobody but the service comes to visitors' photos" on storage.objects as restrictive for all
  to authenticated
  using (bucket_id <> 'studio-uploads' or split_part(name, '/', 2) <> 'visitors')
  with check (bucket_id <> 'studio-uploads' or split_part(name, '/', 2) <> 'visitors');

create function private.are_origins(origins text[]) returns boolean
language sql immutable
set search_path = ''
as $$
  select coalesce(bool_and(o.origin ~ '^https?://[a-z0-9.-]+(:[0-9]{1,5})?$'), true) from unnest(origins) o (origin)
$$;
comment on function private.are_origins(text[]) is 'Are these origins as browsers send them, such as https://a.com?';
revoke all on function private.are_origins from public, anon, authenticated, service_role;
grant execute on function private.are_origins to authenticated, service_role;

create table studio.vr_shops (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  name text not null,
  description text,
  brand text,
  logo_path text,
  environment_glb_path text,
  is_active boolean not null default true,
  allowed_origins text[] not null default '{}',
  quality text not null default 'fast',
  retention_hours smallint not null default 24,
  tryons_per_address_per_hour integer not null default 20,
  created_by uuid default auth.uid(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint vr_shops_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_shops_created_by_fkey foreign key (created_by) references identity.profiles (id) on delete set null,
  constraint vr_shops_in_workspace unique (workspace_id, id),
  constraint vr_shops_name_length check (length(btrim(name)) between 1 and 100),
  constraint vr_shops_texts_lengths check (length(description) <= 2000 and length(brand) <= 100),
  constraint vr_shops_paths_in_workspace
    check ((logo_path is null or private.is_workspace_path(logo_path, workspace_id))
      and (environment_glb_path is null or private.is_workspace_path(environment_glb_path, workspace_id))),
  constraint vr_shops_origins_shape check (cardinality(allowed_origins) <= 50 and private.are_origins(allowed_origins)),
  constraint vr_shops_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint vr_shops_retention_in_range check (retention_hours between 1 and 168),
  constraint vr_shops_address_limit_in_range check (tryons_per_address_per_hour between 1 and 1000)
);
comment on table studio.vr_shops is 'Shops in virtual reality; try-ons in them are charged to their workspace.';
comment on column studio.vr_shops.logo_path is 'In the public bucket vr-assets, as environment_glb_path.';
comment on column studio.vr_shops.environment_glb_path is 'The room of the shop; null: the app''s own.';
comment on column studio.vr_shops.allowed_origins is
  'Web pages that may act for visitors, as origins; empty: all. Programs that are no browsers send none.';
comment on column studio.vr_shops.retention_hours is 'So long are visitors'' photos and pictures kept.';
comment on column studio.vr_shops.tryons_per_address_per_hour is 'Photos and try-ons each from one internet address.';
create unique index vr_shops_name on studio.vr_shops (lower(btrim(name)));
create index vr_shops_workspace_id on studio.vr_shops (workspace_id, created_at desc);
create index vr_shops_created_by on studio.vr_shops (created_by);
create trigger vr_shops_touch before update on studio.vr_shops
  for each row execute function private.touch_updated_at();
alter table studio.vr_shops enable row level security;
create policy "Members may read their workspace's VR shops" on studio.vr_shops for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may open VR shops" on studio.vr_shops for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may change VR shops" on studio.vr_shops for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete VR shops" on studio.vr_shops for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.vr_shops from public, anon, authenticated, service_role;
grant select, delete, insert (id, workspace_id, name, description, brand, logo_path, environment_glb_path, is_active,
    allowed_origins, quality, retention_hours, tryons_per_address_per_hour),
  update (name, description, brand, logo_path, environment_glb_path, is_active, allowed_origins, quality,
    retention_hours, tryons_per_address_per_hour)
  on table studio.vr_shops to authenticated;
grant select, insert, update, delete on table studio.vr_shops to service_role;

create table studio.vr_garments (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  shop_id uuid not null,
  garment_id uuid not null,
  name text not null,
  description text,
  garment_type text not null,
  category text not null default 'upper_body',
  model_glb_path text not null,
  price_cents integer,
  polygon_count integer,
  texture_size integer,
  display_order integer not null default 0,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint vr_garments_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_garments_shop_id_fkey foreign key (workspace_id, shop_id)
    references studio.vr_shops (workspace_id, id) on delete cascade,
  constraint vr_garments_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete cascade,
  constraint vr_garments_name_length check (length(name) between 1 and 200),
  constraint vr_garments_texts_lengths check (length(description) <= 2000 and length(garment_type) between 1 and 100),
  constraint vr_garments_category_known check (category in ('upper_body', 'lower_body', 'dresses')),
  constraint vr_garments_path_in_workspace check (private.is_workspace_path(model_glb_path, workspace_id)),
  constraint vr_garments_numbers_in_range check (price_cents >= 0 and polygon_count > 0 and texture_size > 0
    and display_order between 0 and 9999)
);
comment on table studio.vr_garments is
  'What hangs in a VR shop: a garment of the wardrobe with its model in three dimensions.';
comment on column studio.vr_garments.garment_id is 'The garment of the wardrobe whose picture is tried on.';
comment on column studio.vr_garments.model_glb_path is
  'In the public bucket vr-assets; below 5,000 polygons, compressed, for headsets.';
comment on column studio.vr_garments.price_cents is 'US cents, as it is shown.';
comment on column studio.vr_garments.display_order is 'Its place on the rack.';
create index vr_garments_shop_id on studio.vr_garments (workspace_id, shop_id, display_order);
create index vr_garments_shop_order on studio.vr_garments (shop_id, display_order) where is_active;
create index vr_garments_garment_id on studio.vr_garments (garment_id);
create trigger vr_garments_touch before update on studio.vr_garments
  for each row execute function private.touch_updated_at();
alter table studio.vr_garments enable row level security;
create policy "Members may read their shops' garments" on studio.vr_garments for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may hang garments of their wardrobe" on studio.vr_garments for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('editor'))::uuid[])
    and exists (select from studio.wardrobe_garments g
      where g.id = garment_id and g.workspace_id = vr_garments.workspace_id));
create policy "Editors may change their shops' garments" on studio.vr_garments for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]))
  with check (exists (select from studio.wardrobe_garments g
    where g.id = garment_id and g.workspace_id = vr_garments.workspace_id));
create policy "Editors may take garments down" on studio.vr_garments for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.vr_garments from public, anon, authenticated, service_role;
grant select, delete, insert (id, workspace_id, shop_id, garment_id, name, description, garment_type, category,
    model_glb_path, price_cents, polygon_count, texture_size, display_order, is_active),
  update (garment_id, name, description, garment_type, category, model_glb_path, price_cents, polygon_count,
    texture_size, display_order, is_active)
  on table studio.vr_garments to authenticated;
grant select, insert, update, delete on table studio.vr_garments to service_role;
