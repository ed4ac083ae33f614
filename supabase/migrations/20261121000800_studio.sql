-- The studio's library: wardrobe, models, projects, and the storage buckets their pictures live in.
-- A picture's path starts with its workspace's id; tables hold paths, clients make signed URLs of them.

create schema if not exists studio;
comment on schema studio is 'Wardrobe, models, projects and creations (try-on and other generations).';
revoke all on schema studio from public;
grant usage on schema studio to anon, authenticated, service_role;

-- A path inside a workspace's folder, with nothing in it that could lead out.
create function private.is_workspace_path(path text, workspace_id uuid) returns boolean
language sql immutable
set search_path = ''
as $$
  select length(path) <= 1024 and starts_with(path, workspace_id::text || '/') and path !~ '(^|/)(\.{0,2})(/|$)'
$$;
comment on function private.is_workspace_path(text, uuid) is 'Does a storage path lie in the folder of a workspace?';
revoke all on function private.is_workspace_path from public, anon, authenticated, service_role;
grant execute on function private.is_workspace_path to authenticated, service_role;

create table studio.wardrobe_collections (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  name text not null,
  description text,
  thumbnail_path text,
  display_order integer not null default 0,
  is_default boolean not null default false,
  metadata jsonb not null default '{}',
  created_by uuid default auth.uid(),
  shopify_collection_id uuid,
  auto_sync_enabled boolean not null default false,
  last_shopify_sync_at timestamptz,
  sync_wanted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint wardrobe_collections_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint wardrobe_collections_created_by_fkey foreign key (created_by)
    references auth.users (id) on delete set null,
  constraint wardrobe_collections_in_workspace unique (workspace_id, id),
  constraint wardrobe_collections_name_key unique (workspace_id, name),
  constraint wardrobe_collections_name_length check (length(name) between 1 and 200)
);
comment on table studio.wardrobe_collections is
  'Named groups of garments of a workspace; one is the default, and one may follow a collection of a shop.';
comment on column studio.wardrobe_collections.shopify_collection_id is
  'The shop collection whose products it shows; with auto_sync_enabled it follows it by itself.';
create unique index wardrobe_collections_default on studio.wardrobe_collections (workspace_id) where is_default;
create index wardrobe_collections_created_by on studio.wardrobe_collections (created_by);
comment on column studio.wardrobe_collections.sync_wanted_at is
  'Since when what it follows has changed; null: it is as the shop was at last_shopify_sync_at.';
create unique index wardrobe_collections_shopify on studio.wardrobe_collections (shopify_collection_id)
  where shopify_collection_id is not null;
create index wardrobe_collections_sync_wanted on studio.wardrobe_collections (sync_wanted_at)
  where sync_wanted_at is not null;
create index wardrobe_collections_order on studio.wardrobe_collections (workspace_id, display_order, id);
create trigger wardrobe_collections_touch before update on studio.wardrobe_collections
  for each row execute function private.touch_updated_at();
alter table studio.wardrobe_collections enable row level security;
create policy "Members may read their workspace's collections" on studio.wardrobe_collections for select
  to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add collections" on studio.wardrobe_collections for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change collections" on studio.wardrobe_collections for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete collections" on studio.wardrobe_collections for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.wardrobe_collections from public, anon, authenticated, service_role;
grant select, delete, insert (id, workspace_id, name, description, thumbnail_path, display_order, metadata),
  update (name, description, thumbnail_path, display_order, metadata)
  on table studio.wardrobe_collections to authenticated;
grant select, insert, update, delete on table studio.wardrobe_collections to service_role;

create table studio.wardrobe_garments (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  collection_id uuid,
  storage_path text not null,
  filename text not null,
  name text,
  description text,
  sku text,
  tags text[] not null default '{}',
  metadata jsonb not null default '{}',
  usage_count integer not null default 0,
  last_used_at timestamptz,
  mime_type text,
  file_size bigint,
  width integer,
  height integer,
  has_transparency boolean not null default false,
  thumbnail_path text,
  image_status text not null default 'pending',
  image_errors jsonb not null default '[]',
  image_version integer not null default 1,
  image_checked_at timestamptz,
  source_url text,
  created_by uuid default auth.uid(),
  shopify_product_id uuid,
  shopify_variant_id uuid,
  shopify_image_index integer not null default 0,
  is_synced boolean not null default false,
  linked_source text not null default 'manual',
  leffa_metadata jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint wardrobe_garments_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint wardrobe_garments_collection_id_fkey foreign key (workspace_id, collection_id)
    references studio.wardrobe_collections (workspace_id, id) on delete set null (collection_id),
  constraint wardrobe_garments_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint wardrobe_garments_path_key unique (workspace_id, storage_path),
  constraint wardrobe_garments_path_in_workspace check (private.is_workspace_path(storage_path, workspace_id)),
  constraint wardrobe_garments_image_status_known
    check (image_status in ('pending', 'accepted', 'rejected', 'unchecked')),
  constraint wardrobe_garments_image_checked_has_time check ((image_status = 'pending') = (image_checked_at is null)),
  constraint wardrobe_garments_image_refused_says_why check (jsonb_typeof(image_errors) = 'array'
    and (image_status in ('rejected', 'unchecked')) = (image_errors <> '[]')),
  constraint wardrobe_garments_image_accepted_is_known check (image_status <> 'accepted'
    or num_nulls(mime_type, file_size, width, height, thumbnail_path) = 0),
  constraint wardrobe_garments_sizes_positive check (file_size >= 0 and width > 0 and height > 0),
  constraint wardrobe_garments_linked_source_known
    check (linked_source in ('manual', 'shopify_sync', 'instagram_post')),
  constraint wardrobe_garments_category_known
    check (leffa_metadata ->> 'leffa_category' in ('upper_body', 'lower_body', 'dresses')),
  constraint wardrobe_garments_numbers_not_negative
    check (usage_count >= 0 and shopify_image_index >= 0),
  constraint wardrobe_garments_synced_is_of_shop check (not is_synced or linked_source = 'shopify_sync')
);
comment on table studio.wardrobe_garments is
  'Pictures of garments; storage_path is in the bucket studio-uploads, file_size in bytes, width in pixels.';
comment on column studio.wardrobe_garments.image_status is
  'pending until a job has looked at the picture; accepted, rejected (image_errors says why) or unchecked (it could '
  'not be looked at).';
comment on column studio.wardrobe_garments.image_errors is
  'Reasons, each {"code", "message"}; the message is for people.';
comment on column studio.wardrobe_garments.image_version is 'Counts the looks that were asked for.';
comment on column studio.wardrobe_garments.thumbnail_path is 'Path in the bucket studio-results.';
comment on column studio.wardrobe_garments.is_synced is
  'Put there by its collection, which follows the shop''s: it comes, changes and goes with the product.';
comment on column studio.wardrobe_garments.source_url is
  'Where the picture is fetched from; null: a person uploads it.';
create index wardrobe_garments_workspace_id on studio.wardrobe_garments (workspace_id, created_at desc, id desc);
create index wardrobe_garments_collection_id
  on studio.wardrobe_garments (workspace_id, collection_id, created_at desc, id desc);
create index wardrobe_garments_sku on studio.wardrobe_garments (workspace_id, sku) where sku is not null;
create index wardrobe_garments_category
  on studio.wardrobe_garments (workspace_id, (leffa_metadata ->> 'leffa_category'), created_at desc)
  where leffa_metadata is not null;
create index wardrobe_garments_created_by on studio.wardrobe_garments (created_by);
create index wardrobe_garments_tags on studio.wardrobe_garments using gin (tags);
create index wardrobe_garments_usage on studio.wardrobe_garments (workspace_id, usage_count desc, id desc);
create unique index wardrobe_garments_synced_once on studio.wardrobe_garments (collection_id, shopify_product_id)
  where is_synced;
create index wardrobe_garments_shopify_product on studio.wardrobe_garments (shopify_product_id)
  where shopify_product_id is not null;
create index wardrobe_garments_shopify_variant on studio.wardrobe_garments (shopify_variant_id)
  where shopify_variant_id is not null;
create trigger wardrobe_garments_touch before update on studio.wardrobe_garments
  for each row execute function private.touch_updated_at();
alter table studio.wardrobe_garments enable row level security;
create policy "Members may read their workspace's garments" on studio.wardrobe_garments for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add garments" on studio.wardrobe_garments for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change garments" on studio.wardrobe_garments for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete garments" on studio.wardrobe_garments for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.wardrobe_garments from public, anon, authenticated, service_role;
grant select, delete,
  insert (id, workspace_id, collection_id, storage_path, filename, name, description, sku, tags, metadata,
    linked_source, leffa_metadata),
  update (collection_id, filename, name, description, sku, tags, metadata, leffa_metadata)
  on table studio.wardrobe_garments to authenticated;
grant select, insert, update, delete on table studio.wardrobe_garments to service_role;

create table studio.wardrobe_usage_events (
  id uuid primary key default gen_random_uuid(),
  garment_id uuid not null,
  workspace_id uuid not null,
  event_type text not null,
  event_metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint wardrobe_usage_events_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete cascade,
  constraint wardrobe_usage_events_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint wardrobe_usage_events_type_shape check (event_type ~ '^[a-z][a-z0-9_]*$')
);
comment on table studio.wardrobe_usage_events is 'When and for what a garment was used.';
create index wardrobe_usage_events_garment_id on studio.wardrobe_usage_events (garment_id, created_at desc);
create index wardrobe_usage_events_workspace_id on studio.wardrobe_usage_events (workspace_id, created_at desc);
alter table studio.wardrobe_usage_events enable row level security;
create policy "Members may read their garments' use" on studio.wardrobe_usage_events for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.wardrobe_usage_events from public, anon, authenticated, service_role;
grant select on table studio.wardrobe_usage_events to authenticated;
grant select, insert, delete on table studio.wardrobe_usage_events to service_role;

create table studio.models (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  name text,
  storage_path text not null,
  attributes jsonb not null default '{}',
  mime_type text,
  file_size bigint,
  width integer,
  height integer,
  has_transparency boolean not null default false,
  thumbnail_path text,
  image_status text not null default 'pending',
  image_errors jsonb not null default '[]',
  image_version integer not null default 1,
  image_checked_at timestamptz,
  usage_count integer not null default 0,
  is_favorite boolean not null default false,
  last_used_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint models_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint models_path_in_workspace check (private.is_workspace_path(storage_path, workspace_id)),
  constraint models_image_status_known check (image_status in ('pending', 'accepted', 'rejected', 'unchecked')),
  constraint models_image_checked_has_time check ((image_status = 'pending') = (image_checked_at is null)),
  constraint models_image_refused_says_why check (jsonb_typeof(image_errors) = 'array'
    and (image_status in ('rejected', 'unchecked')) = (image_errors <> '[]')),
  constraint models_image_accepted_is_known check (image_status <> 'accepted'
    or num_nulls(mime_type, file_size, width, height, thumbnail_path) = 0),
  constraint models_sizes_positive check (file_size >= 0 and width > 0 and height > 0),
  constraint models_attributes_object check (jsonb_typeof(attributes) = 'object'),
  constraint models_usage_not_negative check (usage_count >= 0)
);
comment on table studio.models is
  'Pictures of people that garments are tried on; storage_path is in the bucket studio-uploads.';
comment on column studio.models.image_status is 'As of wardrobe_garments.';
comment on column studio.models.image_version is 'Counts the looks that were asked for.';
comment on column studio.models.thumbnail_path is 'Path in the bucket studio-results.';
create index models_workspace_id on studio.models (workspace_id, created_at desc, id desc);
create index models_favorites on studio.models (workspace_id, created_at desc, id desc) where is_favorite;
create index models_usage on studio.models (workspace_id, usage_count desc, id desc);
create trigger models_touch before update on studio.models for each row execute function private.touch_updated_at();
alter table studio.models enable row level security;
create policy "Members may read their workspace's models" on studio.models for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add models" on studio.models for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change models" on studio.models for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete models" on studio.models for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.models from public, anon, authenticated, service_role;
grant select, delete, insert (id, workspace_id, name, storage_path, attributes, is_favorite),
  update (name, attributes, is_favorite) on table studio.models to authenticated;
grant select, insert, update, delete on table studio.models to service_role;

create table studio.projects (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  name text not null,
  description text,
  default_settings jsonb not null default '{}',
  total_creations integer not null default 0,
  total_cost_micro bigint not null default 0,
  is_archived boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint projects_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint projects_name_length check (length(name) between 1 and 200),
  constraint projects_totals_not_negative check (total_creations >= 0 and total_cost_micro >= 0)
);
comment on table studio.projects is
  'Groups of creations; totals are of the completed ones that are in it now, their cost in micro-units.';
create index projects_workspace_id on studio.projects (workspace_id, created_at desc, id desc);
create index projects_active on studio.projects (workspace_id, created_at desc, id desc) where not is_archived;
create trigger projects_touch before update on studio.projects for each row execute function private.touch_updated_at();
alter table studio.projects enable row level security;
create policy "Members may read their workspace's projects" on studio.projects for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add projects" on studio.projects for insert to authenticated
  with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change projects" on studio.projects for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete projects" on studio.projects for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
revoke all on table studio.projects from public, anon, authenticated, service_role;
grant select, delete, insert (id, workspace_id, name, description, default_settings),
  update (name, description, default_settings, is_archived) on table studio.projects to authenticated;
grant select, insert, update, delete on table studio.projects to service_role;
