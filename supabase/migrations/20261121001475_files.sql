-- Which columns hold paths of objects: the files of Backlot, whose they are and who uses them. A test of the catalog
-- demands that each column that could hold a path is here, or excused.

insert into ops.file_buckets (bucket, goes_with_workspace) values
  ('studio-uploads', true), ('studio-results', true), ('studio-loras', true), ('vr-assets', true),
  ('commerce-imports', true), ('knowledge-documents', true), ('billing-documents', false);

create index models_storage_path on studio.models (workspace_id, storage_path);
create index creations_input_path on studio.creations (model_storage_path)
  where model_id is null and model_storage_path is not null;
create index creations_garment_at_work on studio.creations (garment_path)
  where garment_id is null and completed_at is null;
create index messages_media_path on social.messages (workspace_id, media_path) where media_path is not null;
create index catalog_job_products_at_work on commerce.catalog_job_products (model_path)
  where status in ('pending', 'processing') and model_path is not null;

-- The folder of a result is its creation's (or its product's) id, the name of a small copy its garment's or model's.
select private.register_files('studio.creations', 'result_paths', '''studio-results''',
  found_by => 'r.id = private.try_uuid(split_part(f.path, ''/'', 2))');
select private.register_files('studio.creations', 'thumbnail_path', '''studio-results''',
  found_by => 'r.id = private.try_uuid(split_part(f.path, ''/'', 2))');
-- A picture that was given by its path stays for the creations made of it; one of a model or garment goes with that.
select private.register_files('studio.creations', 'model_storage_path', '''studio-uploads''', owns => false,
  counts_while => 'r.model_id is null and r.model_storage_path is not null', at_work => 'r.completed_at is null');
select private.register_files('studio.creations', 'garment_path', '''studio-uploads''', owns => false,
  counts_while => 'r.garment_id is null and r.completed_at is null', at_work => 'true');
select private.register_files('studio.models', 'storage_path', '''studio-uploads''');
select private.register_files('studio.models', 'thumbnail_path', '''studio-results''',
  found_by => 'r.id = private.try_uuid(split_part(split_part(f.path, ''/'', 4), ''.'', 1))');
select private.register_files('studio.wardrobe_garments', 'storage_path', '''studio-uploads''');
select private.register_files('studio.wardrobe_garments', 'thumbnail_path', '''studio-results''',
  found_by => 'r.id = private.try_uuid(split_part(split_part(f.path, ''/'', 4), ''.'', 1))');
select private.register_files('studio.wardrobe_collections', 'thumbnail_path',
  'case split_part(r.thumbnail_path, ''/'', 2) when ''thumbnails'' then ''studio-results'' '
  || 'else ''studio-uploads'' end');
alter table studio.wardrobe_collections add constraint wardrobe_collections_thumbnail_in_workspace
  check (thumbnail_path is null or (private.is_workspace_path(thumbnail_path, workspace_id)
    and split_part(thumbnail_path, '/', 2) not in ('visitors', 'instagram')));
comment on column studio.wardrobe_collections.thumbnail_path is
  'In the bucket studio-uploads; a garment''s small copy (<workspace id>/thumbnails/...) in studio-results.';
select private.register_files('studio.personas', 'face_reference_path', '''studio-uploads''');
select private.register_files('studio.personas', 'face_paths', '''studio-results''');
select private.register_files('studio.lora_trainings', 'lora_path', '''studio-loras''');
select private.register_files('studio.lora_trainings', 'images', 'f.bucket', owns => false,
  at_work => 'r.status in (''pending'', ''training'')');
select private.register_files('studio.vr_shops', 'logo_path', '''vr-assets''');
select private.register_files('studio.vr_shops', 'environment_glb_path', '''vr-assets''');
select private.register_files('studio.vr_garments', 'model_glb_path', '''vr-assets''');
select private.register_files('studio.vr_photos', 'storage_path', '''studio-uploads''',
  found_by => 'r.id = private.try_uuid(split_part(split_part(f.path, ''/'', 4), ''.'', 1))');
select private.register_files('studio.vr_tryons', 'result_paths', '''studio-results''', owns => false,
  found_by => 'r.creation_id = private.try_uuid(split_part(f.path, ''/'', 2))');
select private.register_files('social.tryons', 'photo_path', '''studio-uploads''',
  found_by => 'r.id = private.try_uuid(split_part(split_part(f.path, ''/'', 4), ''.'', 1))');
select private.register_files('social.messages', 'media_path',
  'case when r.creation_id is null and r.purpose is distinct from ''result_picture'' then ''studio-uploads'' '
  || 'else ''studio-results'' end', owns => false,
  at_work => 'r.status in (''queued'', ''sending'')');
select private.register_files('commerce.product_import_batches', 'source_file_path', '''commerce-imports''');
select private.register_files('commerce.catalog_job_products', 'result_paths', '''studio-results''',
  found_by => 'r.id = private.try_uuid(split_part(f.path, ''/'', 2))');
select private.register_files('commerce.catalog_job_products', 'model_path', 'r.model_bucket', owns => false,
  counts_while => 'r.status in (''pending'', ''processing'') and r.model_path is not null', at_work => 'true');
select private.register_files('ai.knowledge_sources', 'storage_path', '''knowledge-documents''');
select private.register_files('billing.invoices', 'pdf_path', '''billing-documents''');

-- What was made of a person's photo goes with their conversation, as a visitor's does with their try-on. What is still
-- being made ends first, and is found by the sweep after that.
create trigger tryons_creations after delete on social.tryons
  referencing old table as old_rows for each statement execute function private.remove_tryon_creations();

create index creations_of_lent_photos on studio.creations (completed_at)
  where split_part(model_storage_path, '/', 2) in ('visitors', 'instagram');

-- Made of a photo that was lent for a try-on which has gone meanwhile.
create function studio.sweep_lent_creations() returns integer
language sql security definer
set search_path = ''
as $$
  with gone as (
    delete from studio.creations c where c.id in (
      select o.id from studio.creations o
      where split_part(o.model_storage_path, '/', 2) in ('visitors', 'instagram') and o.completed_at is not null
        and not exists (select from studio.vr_tryons y where y.creation_id = o.id)
        and not exists (select from social.tryons t where t.creation_id = o.id)
      limit 1000)
    returning c.id)
  select count(*)::integer from gone
$$;
comment on function studio.sweep_lent_creations() is
  'Sweep: what was made of visitors'' photos goes when their try-ons have gone; returns how many.';
revoke all on function studio.sweep_lent_creations from public, anon, authenticated, service_role;
grant execute on function studio.sweep_lent_creations to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('delete creations of visitors who are gone', 'studio.sweep_lent_creations', '1 hour');
