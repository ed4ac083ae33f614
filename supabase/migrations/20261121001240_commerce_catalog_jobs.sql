-- Pictures for a whole catalog: a catalog job makes try-ons and cut-outs of thousands of products. Its products are
-- rows; they are worked on in chunks, each with its own hold of credits, so that a job never holds more than what it is
-- working on. The row of the job is written by its coordinator about once a second and by nobody else, so that
-- however many products end at once, no row is fought over; what it shows is counted from the products.

create table commerce.catalog_jobs (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid,
  import_batch_id uuid,
  filter jsonb not null default '{}',
  model_ids uuid[] not null default '{}',
  persona_id uuid,
  tryon_count smallint not null default 2,
  generate_tryons boolean not null generated always as (tryon_count > 0) stored,
  studio_pictures boolean not null default false,
  quality text not null default 'balanced',
  custom_instructions text,
  delta_only boolean not null default true,
  priority_mode text not null default 'new_first',
  auto_publish boolean not null default false,
  chunk_size integer not null default 100,
  parallel_chunks integer not null default 5,
  parallel_products_per_chunk smallint not null default 5,
  max_failed_products integer,
  meter text not null,
  units_per_product numeric(12, 6) not null,
  status text not null default 'pending',
  progress smallint not null default 0,
  total_products integer not null default 0,
  products_new integer not null default 0,
  products_updated integer not null default 0,
  products_skipped integer not null default 0,
  items_processed integer not null default 0,
  items_succeeded integer not null default 0,
  items_failed integer not null default 0,
  items_cancelled integer not null default 0,
  items_published integer not null default 0,
  items_unpublished integer not null default 0,
  pictures_made integer not null default 0,
  total_chunks integer not null default 0,
  chunks_completed integer not null default 0,
  chunks_failed integer not null default 0,
  estimated_cost_micro bigint not null default 0,
  actual_cost_micro bigint not null default 0,
  estimated_duration_seconds integer,
  retry_count integer not null default 0,
  round integer not null default 1,
  job_id bigint,
  error_code text,
  error_message text,
  created_by uuid,
  key text,
  content_hash bytea,
  delta_detected_at timestamptz,
  started_at timestamptz,
  last_activity_at timestamptz not null default now(),
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint catalog_jobs_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint catalog_jobs_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint catalog_jobs_import_batch_id_fkey foreign key (import_batch_id)
    references commerce.product_import_batches (id) on delete cascade,
  constraint catalog_jobs_persona_id_fkey foreign key (workspace_id, persona_id)
    references studio.personas (workspace_id, id) on delete set null (persona_id),
  constraint catalog_jobs_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint catalog_jobs_meter_fkey foreign key (meter) references billing.meters (slug),
  constraint catalog_jobs_one_source check (num_nonnulls(connected_account_id, import_batch_id) = 1),
  constraint catalog_jobs_filter_is_object check (jsonb_typeof(filter) = 'object'),
  constraint catalog_jobs_pictures_in_range
    check (tryon_count between 0 and 4 and (tryon_count > 0 or studio_pictures) and units_per_product > 0),
  constraint catalog_jobs_models_fit
    check (cardinality(model_ids) <= 10 and (tryon_count > 0 or num_nonnulls(nullif(model_ids, '{}'), persona_id) = 0)
      and num_nonnulls(nullif(model_ids, '{}'), persona_id) <= 1),
  constraint catalog_jobs_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint catalog_jobs_instructions_length check (length(custom_instructions) <= 4000),
  constraint catalog_jobs_priority_mode_known check (priority_mode in ('new_first', 'newest_first', 'catalog_order')),
  constraint catalog_jobs_sizes_in_range check (chunk_size between 1 and 500 and parallel_chunks between 1 and 10
    and chunk_size * parallel_chunks <= 500 and parallel_products_per_chunk between 1 and 20
    and max_failed_products >= 0),
  constraint catalog_jobs_status_known check (status in ('pending', 'processing', 'pausing', 'paused',
    'waiting_for_credits', 'cancelling', 'completed', 'failed', 'cancelled')),
  constraint catalog_jobs_progress_percent check (progress between 0 and 100),
  constraint catalog_jobs_products_add_up
    check (total_products = products_new + products_updated and products_new >= 0 and products_updated >= 0
      and products_skipped >= 0),
  constraint catalog_jobs_items_add_up
    check (items_processed = items_succeeded + items_failed and items_succeeded >= 0 and items_failed >= 0
      and items_cancelled >= 0 and items_processed + items_cancelled <= total_products
      and items_published + items_unpublished <= items_succeeded and items_published >= 0 and items_unpublished >= 0),
  constraint catalog_jobs_chunks_add_up
    check (chunks_completed >= 0 and chunks_failed >= 0 and chunks_completed + chunks_failed <= total_chunks),
  constraint catalog_jobs_costs_not_negative
    check (estimated_cost_micro >= 0 and actual_cost_micro >= 0 and pictures_made >= 0),
  constraint catalog_jobs_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint catalog_jobs_ended_has_counted
    check (completed_at is null or items_processed + items_cancelled = total_products),
  constraint catalog_jobs_failed_says_why
    check (status not in ('failed', 'waiting_for_credits') or error_code is not null and error_message is not null),
  constraint catalog_jobs_key_length check (length(key) between 1 and 255)
);
comment on table commerce.catalog_jobs is
  'Runs that make pictures for the products of a shop or an import: settings, live counts, cost in micro-units.';
comment on column commerce.catalog_jobs.filter is
  'Which products: {} for all, or collection_id, tag, product_ids; several narrow.';
comment on column commerce.catalog_jobs.model_ids is
  'Models that garments are tried on; a product always has the same of them.';
comment on column commerce.catalog_jobs.persona_id is
  'The persona that garments are tried on instead: its last picture, or its chosen face; null also when it is gone.';
comment on column commerce.catalog_jobs.tryon_count is 'Try-on pictures of each product.';
comment on column commerce.catalog_jobs.units_per_product is
  'Units of the meter that all pictures of one product cost, as the prices were when it began.';
comment on column commerce.catalog_jobs.studio_pictures is 'Is one picture of each product cut out of its background?';
comment on column commerce.catalog_jobs.delta_only is
  'Products are skipped whose pictures have been made of the same content with the same settings.';
comment on column commerce.catalog_jobs.priority_mode is
  'new_first: products without pictures, then changed ones, newest first; newest_first; catalog_order: by title.';
comment on column commerce.catalog_jobs.parallel_chunks is
  'Chunks at work at the same time; together at most 500 products, so that all are stopped at once.';
comment on column commerce.catalog_jobs.parallel_products_per_chunk is
  'Products of one chunk at work at the same time.';
comment on column commerce.catalog_jobs.max_failed_products is
  'With more failed products the job stops as failed; null: all are tried.';
comment on column commerce.catalog_jobs.status is
  'waiting_for_credits goes on by itself after a top-up; pausing and cancelling last until what is at work has ended.';
comment on column commerce.catalog_jobs.products_new is 'Products without pictures when the job began.';
comment on column commerce.catalog_jobs.products_updated is 'The others of its products: made again.';
comment on column commerce.catalog_jobs.products_skipped is
  'Products of the filter that are no part of the job: unchanged.';
comment on column commerce.catalog_jobs.items_unpublished is 'Products with pictures that could not be published.';
comment on column commerce.catalog_jobs.total_chunks is 'Chunks that have begun and those that the rest will need.';
comment on column commerce.catalog_jobs.estimated_cost_micro is 'What all products cost, if all succeed.';
comment on column commerce.catalog_jobs.actual_cost_micro is 'What has been charged by chunks that have ended.';
comment on column commerce.catalog_jobs.retry_count is 'How often failed products have been tried again by people.';
comment on column commerce.catalog_jobs.round is 'Counts the coordinators: one for each time that the job goes on.';
comment on column commerce.catalog_jobs.job_id is 'The queue''s job that coordinates this round.';
comment on column commerce.catalog_jobs.last_activity_at is 'When the counts were last taken.';
create unique index catalog_jobs_key on commerce.catalog_jobs (workspace_id, key) where key is not null;
create unique index catalog_jobs_one_live on commerce.catalog_jobs (coalesce(connected_account_id, import_batch_id))
  where completed_at is null;
create index catalog_jobs_workspace_id on commerce.catalog_jobs (workspace_id, created_at desc, id);
create index catalog_jobs_account on commerce.catalog_jobs (connected_account_id, created_at desc)
  where connected_account_id is not null;
create index catalog_jobs_import_batch_id on commerce.catalog_jobs (import_batch_id) where import_batch_id is not null;
create index catalog_jobs_created_by on commerce.catalog_jobs (created_by);
create index catalog_jobs_persona_id on commerce.catalog_jobs (workspace_id, persona_id) where persona_id is not null;
create index catalog_jobs_meter on commerce.catalog_jobs (meter);
create index catalog_jobs_without_credits on commerce.catalog_jobs (last_activity_at)
  where status = 'waiting_for_credits';
create trigger touch_catalog_jobs before update on commerce.catalog_jobs
  for each row execute function private.touch_updated_at();
alter table commerce.catalog_jobs enable row level security;
revoke all on table commerce.catalog_jobs from public, anon, authenticated, service_role;
grant select on table commerce.catalog_jobs to authenticated, service_role;
create policy "Members see the catalog jobs of their workspaces" on commerce.catalog_jobs
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- The last catalog job of an import.
alter table commerce.product_import_batches
  add constraint product_import_batches_catalog_job_id_fkey foreign key (catalog_job_id)
    references commerce.catalog_jobs (id) on delete set null;

create table commerce.catalog_job_chunks (
  id uuid primary key default gen_random_uuid(),
  catalog_job_id uuid not null,
  workspace_id uuid not null,
  number integer not null,
  status text not null default 'processing',
  products integer not null,
  pictures integer not null,
  succeeded integer not null default 0,
  failed integer not null default 0,
  given_back integer not null default 0,
  pictures_made integer not null default 0,
  usage_event_id uuid not null,
  held_micro bigint not null,
  cost_micro bigint,
  job_id bigint not null,
  started_at timestamptz not null,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  constraint catalog_job_chunks_catalog_job_id_fkey foreign key (catalog_job_id)
    references commerce.catalog_jobs (id) on delete cascade,
  constraint catalog_job_chunks_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint catalog_job_chunks_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint catalog_job_chunks_number_key unique (catalog_job_id, number),
  constraint catalog_job_chunks_status_known check (status in ('processing', 'completed', 'failed')),
  constraint catalog_job_chunks_counts_in_range check (number > 0 and products > 0 and pictures >= products
    and succeeded >= 0 and failed >= 0 and given_back >= 0 and pictures_made between 0 and pictures),
  constraint catalog_job_chunks_ended_adds_up check (case status when 'processing' then completed_at is null
    and cost_micro is null else completed_at is not null and cost_micro >= 0
    and succeeded + failed + given_back = products end)
);
comment on table commerce.catalog_job_chunks is
  'Products of a catalog job that are worked on together: one hold of credits, charged for the pictures that came.';
comment on column commerce.catalog_job_chunks.given_back is
  'Products that were taken out again before they were begun: by a pause or a cancellation.';
comment on column commerce.catalog_job_chunks.status is 'failed: it ended without a picture.';
create index catalog_job_chunks_live on commerce.catalog_job_chunks (catalog_job_id) where status = 'processing';
create unique index catalog_job_chunks_job_id on commerce.catalog_job_chunks (job_id);
create index catalog_job_chunks_workspace_id on commerce.catalog_job_chunks (workspace_id);
create index catalog_job_chunks_usage_event_id on commerce.catalog_job_chunks (usage_event_id);
create constraint trigger release_deleted_chunks after delete on commerce.catalog_job_chunks
  deferrable initially deferred
  for each row when (old.status = 'processing') execute function billing._release_deleted_hold();
alter table commerce.catalog_job_chunks enable row level security;
revoke all on table commerce.catalog_job_chunks from public, anon, authenticated, service_role;
grant select on table commerce.catalog_job_chunks to authenticated, service_role;
create policy "Members see the chunks of their workspaces' catalog jobs" on commerce.catalog_job_chunks
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.catalog_job_products (
  id uuid primary key default gen_random_uuid(),
  catalog_job_id uuid not null,
  workspace_id uuid not null,
  position integer not null,
  product_id uuid,
  imported_product_id uuid,
  title text not null,
  image_url text,
  category text not null,
  model_bucket text,
  model_path text,
  content_hash text not null,
  is_new boolean not null,
  pictures smallint not null,
  status text not null default 'pending',
  chunk_id uuid,
  job_id bigint,
  provider text,
  attempts smallint not null default 0,
  result_paths text[] not null default '{}',
  error_code text,
  error_message text,
  publish_status text,
  publish_error text,
  publish_job_id bigint,
  media_ids_before text[],
  published_media_ids text[] not null default '{}',
  published_urls text[] not null default '{}',
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  constraint catalog_job_products_catalog_job_id_fkey foreign key (catalog_job_id)
    references commerce.catalog_jobs (id) on delete cascade,
  constraint catalog_job_products_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint catalog_job_products_product_id_fkey foreign key (product_id)
    references commerce.shopify_products (id) on delete set null,
  constraint catalog_job_products_imported_product_id_fkey foreign key (imported_product_id)
    references commerce.imported_products (id) on delete set null,
  constraint catalog_job_products_chunk_id_fkey foreign key (chunk_id)
    references commerce.catalog_job_chunks (id) on delete set null,
  constraint catalog_job_products_position_key unique (catalog_job_id, position),
  constraint catalog_job_products_category_known check (category in ('upper_body', 'lower_body', 'dresses')),
  constraint catalog_job_products_model_has_bucket check ((model_path is null) = (model_bucket is null)),
  constraint catalog_job_products_numbers_in_range check (pictures between 1 and 5 and attempts >= 0 and position > 0),
  constraint catalog_job_products_status_known
    check (status in ('pending', 'processing', 'succeeded', 'failed', 'cancelled')),
  constraint catalog_job_products_status_fits_facts check (case status
    when 'pending' then completed_at is null and job_id is null
    when 'processing' then completed_at is null and job_id is not null
    when 'succeeded' then completed_at is not null and cardinality(result_paths) between 1 and pictures
    else completed_at is not null end),
  constraint catalog_job_products_failed_says_why
    check ((status = 'failed') = (error_code is not null) and (error_code is null) = (error_message is null)),
  constraint catalog_job_products_publish_status_known
    check (publish_status in ('pending', 'published', 'failed', 'cancelled')),
  constraint catalog_job_products_published_has_media
    check (publish_status is null or status = 'succeeded'
      and (publish_status = 'published') = (cardinality(published_media_ids) > 0)
      and (publish_status = 'failed') = (publish_error is not null))
) with (fillfactor = 80);
comment on table commerce.catalog_job_products is
  'The products of a catalog job, with their pictures (in the bucket studio-results) or what went wrong.';
comment on column commerce.catalog_job_products.position is 'Its place in the order of work, from 1.';
comment on column commerce.catalog_job_products.content_hash is
  'SHA-256 of title, images, model and settings: the same hash needs no new pictures.';
comment on column commerce.catalog_job_products.image_url is
  'The picture of the garment; null: the product has none, and cannot succeed.';
comment on column commerce.catalog_job_products.provider is
  'Who makes it now, or made it last; another one after the first failed.';
comment on column commerce.catalog_job_products.attempts is 'How often it was put into a chunk.';
comment on column commerce.catalog_job_products.publish_status is 'Null: is not to be published.';
comment on column commerce.catalog_job_products.media_ids_before is
  'Media that the product had in its shop before publishing that gave up had added any; null: it has added none.';
comment on column commerce.catalog_job_products.published_urls is
  'Addresses of its pictures in the shop, without their query: they are no pictures of the garment.';
create index catalog_job_products_status on commerce.catalog_job_products (catalog_job_id, status, position);
create index catalog_job_products_chunk_id on commerce.catalog_job_products (chunk_id, status);
create index catalog_job_products_product_id on commerce.catalog_job_products (product_id, completed_at desc);
create index catalog_job_products_imported_product_id on commerce.catalog_job_products
  (imported_product_id, completed_at desc);
create index catalog_job_products_workspace_id on commerce.catalog_job_products (workspace_id);
create index catalog_job_products_publishing on commerce.catalog_job_products (catalog_job_id, publish_status)
  where publish_status is not null;
alter table commerce.catalog_job_products enable row level security;
revoke all on table commerce.catalog_job_products from public, anon, authenticated, service_role;
grant select on table commerce.catalog_job_products to authenticated, service_role;
create policy "Members see the products of their workspaces' catalog jobs" on commerce.catalog_job_products
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
