-- Catalogs that come as files, or from shops without a connection of their own. A file is checked as a whole before
-- anything of it is imported: its people see what is wrong by row and column, and what the first rows will be.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_import', 'PT404', 'Use the id of an import of one of your workspaces.'),
  ('import_not_ready', 'PT409', 'Only an import that has been checked and has valid rows can be confirmed, once.');

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('commerce-imports', 'commerce-imports', false, 52428800,
    array['text/csv', 'application/csv', 'application/vnd.ms-excel', 'text/plain'])
on conflict (id) do nothing;
create policy "Members may see their workspace's catalog files" on storage.objects for select to authenticated
  using (bucket_id = 'commerce-imports'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may upload catalog files to their workspace's folder" on storage.objects for insert
  to authenticated
  with check (bucket_id = 'commerce-imports'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Editors may delete catalog files" on storage.objects for delete to authenticated
  using (bucket_id = 'commerce-imports'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[]));

create table commerce.product_import_batches (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source text not null default 'csv',
  source_file_name text,
  source_file_path text,
  column_mapping jsonb not null default '{}',
  auto_import boolean not null default false,
  status text not null default 'pending',
  progress smallint not null default 0,
  total_rows integer not null default 0,
  valid_rows integer not null default 0,
  invalid_rows integer not null default 0,
  imported_count integer not null default 0,
  columns jsonb not null default '{}',
  preview jsonb not null default '[]',
  validation_errors jsonb not null default '[]',
  error_message text,
  catalog_job_id uuid,
  job_id bigint,
  started_at timestamptz,
  completed_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint product_import_batches_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint product_import_batches_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint product_import_batches_source_shape check (source ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint product_import_batches_path_in_workspace
    check (source_file_path is null or private.is_workspace_path(source_file_path, workspace_id)),
  constraint product_import_batches_status_known
    check (status in ('pending', 'validating', 'validated', 'importing', 'completed', 'failed', 'cancelled')),
  constraint product_import_batches_counts
    check (valid_rows >= 0 and invalid_rows >= 0 and total_rows = valid_rows + invalid_rows
      and imported_count between 0 and valid_rows),
  constraint product_import_batches_progress_percent check (progress between 0 and 100),
  constraint product_import_batches_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint product_import_batches_failed_says_why check (status <> 'failed' or error_message is not null),
  constraint product_import_batches_json_shapes check (jsonb_typeof(column_mapping) = 'object'
    and jsonb_typeof(columns) = 'object' and jsonb_typeof(preview) = 'array'
    and jsonb_typeof(validation_errors) = 'array')
);
comment on table commerce.product_import_batches is
  'Imports of products: the file, how its check went, what of it has been imported.';
comment on column commerce.product_import_batches.column_mapping is
  'Columns of the file that do not bear a usual name, by field: {"title": "Artikel"}.';
comment on column commerce.product_import_batches.columns is 'Which column of the file each field is read from.';
comment on column commerce.product_import_batches.preview is 'The first valid rows as they will be imported.';
comment on column commerce.product_import_batches.validation_errors is
  'The first hundred errors, [{row, column, code, message}]; all are in product_import_errors.';
comment on column commerce.product_import_batches.imported_count is
  'Products that were written; fewer than valid rows when rows of the file have the same id, of which the last counts.';
comment on column commerce.product_import_batches.auto_import is 'Valid rows are imported without being confirmed.';
create index product_import_batches_workspace_id on commerce.product_import_batches (workspace_id, created_at desc);
create index product_import_batches_created_by on commerce.product_import_batches (created_by);
create index product_import_batches_catalog_job on commerce.product_import_batches (catalog_job_id)
  where catalog_job_id is not null;
create trigger touch_product_import_batches before update on commerce.product_import_batches
  for each row execute function private.touch_updated_at();
alter table commerce.product_import_batches enable row level security;
revoke all on table commerce.product_import_batches from public, anon, authenticated, service_role;
grant select on table commerce.product_import_batches to authenticated;
grant select, insert, update, delete on table commerce.product_import_batches to service_role;
create policy "Members see the imports of their workspaces" on commerce.product_import_batches
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.product_import_errors (
  batch_id uuid not null,
  row_number integer not null,
  column_name text not null,
  workspace_id uuid not null,
  code text not null,
  message text not null,
  value text,
  constraint product_import_errors_pkey primary key (batch_id, row_number, column_name),
  constraint product_import_errors_batch_id_fkey foreign key (batch_id)
    references commerce.product_import_batches (id) on delete cascade,
  constraint product_import_errors_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint product_import_errors_row_positive check (row_number > 0),
  constraint product_import_errors_value_length check (length(value) <= 200)
);
comment on table commerce.product_import_errors is 'What is wrong with rows of an imported file, by row and column.';
comment on column commerce.product_import_errors.row_number is 'Rows are counted from 1, after the line of names.';
create index product_import_errors_workspace_id on commerce.product_import_errors (workspace_id);
alter table commerce.product_import_errors enable row level security;
revoke all on table commerce.product_import_errors from public, anon, authenticated, service_role;
grant select on table commerce.product_import_errors to authenticated;
grant select, insert, update, delete on table commerce.product_import_errors to service_role;
create policy "Members see the errors of their workspaces' imports" on commerce.product_import_errors
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.imported_products (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source text not null default 'csv',
  external_id text,
  sku text,
  title text not null,
  description text,
  images jsonb not null default '[]',
  primary_image_url text,
  price_cents bigint,
  compare_at_price_cents bigint,
  currency text not null default 'USD',
  product_type text,
  vendor text,
  tags text[] not null default '{}',
  variants jsonb not null default '[]',
  has_variants boolean not null generated always as (jsonb_array_length(variants) > 0) stored,
  inventory_quantity bigint,
  fulfilled_by text,
  ai_generated_at timestamptz,
  ai_body_html text,
  ai_meta_title text,
  ai_meta_description text,
  ai_tags text[],
  ai_quality_score integer,
  garment_type text,
  garment_category text,
  garment_color text,
  garment_material text,
  garment_fit text,
  embedding ai.embedding,
  content_hash text,
  import_batch_id uuid,
  import_row_number integer,
  import_errors jsonb,
  status text not null default 'pending',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint imported_products_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint imported_products_import_batch_id_fkey foreign key (import_batch_id)
    references commerce.product_import_batches (id) on delete set null,
  constraint imported_products_once unique (workspace_id, source, external_id),
  constraint imported_products_source_shape check (source ~ '^[a-z][a-z0-9_]{0,39}$'),
  constraint imported_products_status_shape check (status ~ '^[a-z][a-z_]{1,39}$'),
  constraint imported_products_title_length check (length(title) between 1 and 500),
  constraint imported_products_prices_not_negative check (price_cents >= 0 and compare_at_price_cents >= 0),
  constraint imported_products_currency_shape check (currency ~ '^[A-Z]{3}$'),
  constraint imported_products_quantity_not_negative check (inventory_quantity >= 0),
  constraint imported_products_fulfilled_by_known check (fulfilled_by in ('merchant', 'amazon')),
  constraint imported_products_quality_in_range check (ai_quality_score between 0 and 100),
  constraint imported_products_row_positive check (import_row_number > 0),
  constraint imported_products_json_are_arrays
    check (jsonb_typeof(images) = 'array' and jsonb_typeof(variants) = 'array')
);
comment on table commerce.imported_products is
  'Products from files and from shops without a connection; prices in hundredths of the currency''s unit.';
comment on column commerce.imported_products.external_id is
  'The id at the source: ASIN, item id, or what the file gives.';
comment on column commerce.imported_products.inventory_quantity is
  'What can be sold, where the source says it: a seller''s listings at Amazon do.';
comment on column commerce.imported_products.fulfilled_by is
  'Who has it in stock and sends it to buyers, where the source says it.';
comment on column commerce.imported_products.content_hash is 'SHA-256 of what people read and see, to find changes.';
create index imported_products_workspace_id on commerce.imported_products (workspace_id, created_at desc);
create index imported_products_status on commerce.imported_products (workspace_id, status);
create index imported_products_batch on commerce.imported_products (import_batch_id);
create index imported_products_pending_ai on commerce.imported_products (workspace_id, status)
  where status = 'pending' and ai_generated_at is null;
select private.create_embedding_index('commerce.imported_products', 'embedding');
create trigger touch_imported_products before update on commerce.imported_products
  for each row execute function private.touch_updated_at();
alter table commerce.imported_products enable row level security;
revoke all on table commerce.imported_products from public, anon, authenticated, service_role;
grant select, delete,
  insert (id, workspace_id, source, external_id, sku, title, description, images, primary_image_url, price_cents,
    compare_at_price_cents, currency, product_type, vendor, tags, variants, garment_type, garment_category,
    garment_color, garment_material, garment_fit),
  update (sku, title, description, images, primary_image_url, price_cents, compare_at_price_cents, currency,
    product_type, vendor, tags, variants, ai_body_html, ai_meta_title, ai_meta_description, ai_tags, garment_type,
    garment_category, garment_color, garment_material, garment_fit)
  on table commerce.imported_products to authenticated;
grant select, insert, update, delete on table commerce.imported_products to service_role;
create policy "Members see the imported products of their workspaces" on commerce.imported_products
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may add products" on commerce.imported_products
  for insert to authenticated with check (workspace_id = any ((select private.workspace_ids('member'))::uuid[]));
create policy "Editors may change imported products" on commerce.imported_products
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete imported products" on commerce.imported_products
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create function private.hash_imported_product() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.content_hash := encode(private.content_hash(jsonb_build_array(new.title, new.description, new.vendor,
    new.product_type, array(select t from unnest(new.tags) t order by t), new.images, new.variants)), 'hex');
  return new;
end $$;
comment on function private.hash_imported_product() is 'Trigger: keeps the hash of what people read and see.';
revoke all on function private.hash_imported_product from public, anon, authenticated, service_role;
grant execute on function private.content_hash to authenticated;
create trigger hash_imported_product before insert or update on commerce.imported_products
  for each row execute function private.hash_imported_product();
