-- The steps of an import: asked for, checked, confirmed, written. Each step of the job may come twice.

-- on_event of commerce.csv_import.
create function commerce.on_import_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update commerce.product_import_batches b
  set status = case event when 'cancelled' then 'cancelled' else 'failed' end, completed_at = private.now(),
    error_message = case event when 'dead' then coalesce(job.error, 'internal_error: The import failed.') end
  where b.id = (job.payload ->> 'batch_id')::uuid and event in ('dead', 'cancelled')
    and b.status in ('pending', 'validating', 'importing');
  if event = 'replayed' then
    update commerce.product_import_batches b
    set status = case job.payload ->> 'step' when 'import' then 'importing' else 'pending' end, completed_at = null,
      error_message = null
    where b.id = (job.payload ->> 'batch_id')::uuid and b.status in ('failed', 'cancelled');
  end if;
end $$;
comment on function commerce.on_import_job(ops.jobs, text) is 'Keeps an import''s status the same as its job''s.';
revoke all on function commerce.on_import_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('commerce.csv_import', 'Checks or imports a file of products.', 'commerce.on_import_job', interval '1 day');

create function private.enqueue_import(batch commerce.product_import_batches, step text) returns void
language plpgsql
set search_path = ''
as $$
begin
  update commerce.product_import_batches b
  set job_id = (select j.job_id from ops.enqueue_job('commerce.csv_import',
    jsonb_build_object('batch_id', batch.id, 'step', step), batch.workspace_id,
    key => format('import:%s:%s', batch.id, step)) j)
  where b.id = batch.id;
end $$;
comment on function private.enqueue_import(commerce.product_import_batches, text) is
  'Has a step of an import worked on.';
revoke all on function private.enqueue_import from public, anon, authenticated, service_role;

create function private.begin_import(workspace_id uuid, path text, file_name text, source text, column_mapping jsonb,
  auto_import boolean) returns commerce.product_import_batches
language plpgsql security definer
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  perform private.require_role(workspace_id, 'member');
  if path is null or not private.is_workspace_path(path, workspace_id) then
    perform private.fail('invalid_argument', 'path must be in the folder of the workspace.', '{"argument": "path"}');
  end if;
  if source is null or source !~ '^[a-z][a-z0-9_]{0,39}$' then
    perform private.fail('invalid_argument', 'source must be a short name such as csv.', '{"argument": "source"}');
  end if;
  if jsonb_typeof(coalesce(column_mapping, '{}')) <> 'object' then
    perform private.fail('invalid_argument', 'column_mapping must be an object.', '{"argument": "column_mapping"}');
  end if;
  insert into commerce.product_import_batches (workspace_id, source, source_file_name, source_file_path,
    column_mapping, auto_import, created_by)
  values (begin_import.workspace_id, begin_import.source, coalesce(file_name, regexp_replace(path, '.*/', '')), path,
    coalesce(begin_import.column_mapping, '{}'), coalesce(begin_import.auto_import, false), auth.uid())
  returning * into v_batch;
  perform private.enqueue_import(v_batch, 'validate');
  select * into v_batch from commerce.product_import_batches b where b.id = v_batch.id;
  return v_batch;
end $$;
comment on function private.begin_import(uuid, text, text, text, jsonb, boolean) is 'Core of commerce.begin_import.';
revoke all on function private.begin_import from public, anon, authenticated, service_role;
grant execute on function private.begin_import to authenticated, service_role;

create function commerce.begin_import(workspace_id uuid, path text, file_name text default null,
  source text default 'csv', column_mapping jsonb default '{}', auto_import boolean default false)
returns commerce.product_import_batches
language sql
set search_path = ''
as $$
  select private.begin_import(begin_import.workspace_id, begin_import.path, begin_import.file_name,
    begin_import.source, begin_import.column_mapping, begin_import.auto_import)
$$;
comment on function commerce.begin_import(uuid, text, text, text, jsonb, boolean) is
  'Has a file of the bucket commerce-imports checked; its valid rows are imported when confirmed, or at once.';
revoke all on function commerce.begin_import from public, anon, authenticated, service_role;
grant execute on function commerce.begin_import to authenticated, service_role;

-- Errors: unknown_import.
create function private.import_of_caller(batch_id uuid) returns commerce.product_import_batches
language plpgsql
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  select * into v_batch from commerce.product_import_batches b
  where b.id = batch_id and private.has_role(b.workspace_id, 'viewer') for update;
  if not found then
    perform private.fail('unknown_import', 'There is no such import among those of your workspaces.',
      jsonb_build_object('batch_id', batch_id));
  end if;
  return v_batch;
end $$;
comment on function private.import_of_caller(uuid) is 'An import that the caller sees, locked.';
revoke all on function private.import_of_caller from public, anon, authenticated, service_role;

create function private.confirm_import(batch_id uuid) returns commerce.product_import_batches
language plpgsql security definer
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches := private.import_of_caller(batch_id);
begin
  perform private.require_role(v_batch.workspace_id, 'member');
  if v_batch.status <> 'validated' or v_batch.valid_rows = 0 then
    perform private.fail('import_not_ready', 'The import cannot be confirmed.',
      jsonb_build_object('status', v_batch.status, 'valid_rows', v_batch.valid_rows));
  end if;
  update commerce.product_import_batches b set status = 'importing', progress = 0 where b.id = v_batch.id;
  perform private.enqueue_import(v_batch, 'import');
  select * into v_batch from commerce.product_import_batches b where b.id = v_batch.id;
  return v_batch;
end $$;
comment on function private.confirm_import(uuid) is 'Core of commerce.confirm_import.';
revoke all on function private.confirm_import from public, anon, authenticated, service_role;
grant execute on function private.confirm_import to authenticated, service_role;

create function commerce.confirm_import(batch_id uuid) returns commerce.product_import_batches
language sql
set search_path = ''
as $$ select private.confirm_import(confirm_import.batch_id) $$;
comment on function commerce.confirm_import(uuid) is 'Begins to import the valid rows of a checked file.';
revoke all on function commerce.confirm_import from public, anon, authenticated, service_role;
grant execute on function commerce.confirm_import to authenticated, service_role;

create function private.cancel_import(batch_id uuid) returns commerce.product_import_batches
language plpgsql security definer
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  -- the job first, as its own end does
  select * into v_batch from commerce.product_import_batches b where b.id = batch_id;
  if v_batch.status in ('pending', 'validating', 'importing') and private.has_role(v_batch.workspace_id, 'member') then
    perform ops.cancel_job(v_batch.job_id);
  end if;
  v_batch := private.import_of_caller(batch_id);
  perform private.require_role(v_batch.workspace_id, 'member');
  if v_batch.status = 'validated' then
    update commerce.product_import_batches b set status = 'cancelled', completed_at = private.now()
    where b.id = v_batch.id returning * into v_batch;
  end if;
  return v_batch;
end $$;
comment on function private.cancel_import(uuid) is 'Core of commerce.cancel_import.';
revoke all on function private.cancel_import from public, anon, authenticated, service_role;
grant execute on function private.cancel_import to authenticated, service_role;

create function commerce.cancel_import(batch_id uuid) returns commerce.product_import_batches
language sql
set search_path = ''
as $$ select private.cancel_import(cancel_import.batch_id) $$;
comment on function commerce.cancel_import(uuid) is 'Stops an import; rows that have been written stay.';
revoke all on function commerce.cancel_import from public, anon, authenticated, service_role;
grant execute on function commerce.cancel_import to authenticated, service_role;

-- How far the check is. errors: [{row, column, code, message, value}] of the rows since the last call. False: ended.
create function commerce.note_import_check(batch_id uuid, valid integer, invalid integer, percent integer, errors jsonb,
  preview jsonb, columns jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  update commerce.product_import_batches b
  set status = 'validating', started_at = coalesce(b.started_at, private.now()), valid_rows = valid,
    invalid_rows = invalid, total_rows = valid + invalid, progress = percent, preview = note_import_check.preview,
    columns = note_import_check.columns
  where b.id = batch_id and b.status in ('pending', 'validating')
  returning * into v_batch;
  if v_batch.id is null then
    return false;
  end if;
  insert into commerce.product_import_errors (batch_id, row_number, column_name, workspace_id, code, message, value)
  select v_batch.id, e."row", e."column", v_batch.workspace_id, e.code, e.message, left(e.value, 200)
  from jsonb_to_recordset(errors) as e ("row" integer, "column" text, code text, message text, value text)
  on conflict on constraint product_import_errors_pkey do nothing;
  return true;
end $$;
comment on function commerce.note_import_check(uuid, integer, integer, integer, jsonb, jsonb, jsonb) is
  'Notes how far the check of a file is, and what it found; false when the import has ended.';
revoke all on function commerce.note_import_check from public, anon, authenticated, service_role;
grant execute on function commerce.note_import_check to service_role;

create function commerce.finish_import_check(batch_id uuid) returns commerce.product_import_batches
language plpgsql security definer
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  update commerce.product_import_batches b
  set status = 'validated', progress = 100, validation_errors = coalesce((
      select jsonb_agg(jsonb_build_object('row', e.row_number, 'column', e.column_name, 'code', e.code,
        'message', e.message) order by e.row_number, e.column_name)
      from (select * from commerce.product_import_errors e where e.batch_id = finish_import_check.batch_id
        order by e.row_number, e.column_name limit 100) e), '[]')
  where b.id = finish_import_check.batch_id and b.status in ('pending', 'validating')
  returning * into v_batch;
  if v_batch.auto_import and v_batch.valid_rows > 0 then
    return private.confirm_import(v_batch.id);
  end if;
  return v_batch;
end $$;
comment on function commerce.finish_import_check(uuid) is
  'The file has been checked; begins to import where that was wished.';
revoke all on function commerce.finish_import_check from public, anon, authenticated, service_role;
grant execute on function commerce.finish_import_check to service_role;

-- rows: [{row, external_id, sku, title, ...}] in the form that functions/worker/imports/rows.ts gives. Of rows with
-- one id the last counts, in one call and over all. False: the import has ended.
create function commerce.store_import_rows(batch_id uuid, rows jsonb, percent integer) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_batch commerce.product_import_batches;
begin
  update commerce.product_import_batches b set progress = percent
  where b.id = batch_id and b.status = 'importing' returning * into v_batch;
  if v_batch.id is null then
    return false;
  end if;
  insert into commerce.imported_products as p (workspace_id, source, external_id, sku, title, description, images,
    primary_image_url, price_cents, compare_at_price_cents, currency, product_type, vendor, tags, variants,
    inventory_quantity, fulfilled_by, garment_type, garment_category, garment_color, garment_material, garment_fit,
    import_batch_id, import_row_number)
  select distinct on (r.external_id) v_batch.workspace_id, v_batch.source, r.external_id, r.sku, r.title, r.description,
    coalesce(r.images, '[]'), r.images ->> 0, r.price_cents, r.compare_at_price_cents, coalesce(r.currency, 'USD'),
    r.product_type, r.vendor, coalesce(r.tags, '{}'), coalesce(r.variants, '[]'), r.inventory_quantity, r.fulfilled_by,
    r.garment_type, r.garment_category, r.garment_color, r.garment_material, r.garment_fit, v_batch.id, r."row"
  from jsonb_to_recordset(rows) as r ("row" integer, external_id text, sku text, title text, description text,
    images jsonb, price_cents bigint, compare_at_price_cents bigint, currency text, product_type text, vendor text,
    tags text[], variants jsonb, inventory_quantity bigint, fulfilled_by text, garment_type text,
    garment_category text, garment_color text, garment_material text, garment_fit text)
  order by r.external_id, r."row" desc
  on conflict on constraint imported_products_once do update
  set sku = excluded.sku, title = excluded.title, description = excluded.description, images = excluded.images,
    primary_image_url = excluded.primary_image_url, price_cents = excluded.price_cents,
    compare_at_price_cents = excluded.compare_at_price_cents, currency = excluded.currency,
    product_type = excluded.product_type, vendor = excluded.vendor, tags = excluded.tags, variants = excluded.variants,
    inventory_quantity = excluded.inventory_quantity, fulfilled_by = excluded.fulfilled_by,
    garment_type = coalesce(excluded.garment_type, p.garment_type),
    garment_category = coalesce(excluded.garment_category, p.garment_category),
    garment_color = coalesce(excluded.garment_color, p.garment_color),
    garment_material = coalesce(excluded.garment_material, p.garment_material),
    garment_fit = coalesce(excluded.garment_fit, p.garment_fit),
    import_batch_id = excluded.import_batch_id, import_row_number = excluded.import_row_number
  where p.import_batch_id is distinct from excluded.import_batch_id
    or p.import_row_number < excluded.import_row_number;
  return true;
end $$;
comment on function commerce.store_import_rows(uuid, jsonb, integer) is
  'Writes valid rows of an import, by their external id; false when the import has ended.';
revoke all on function commerce.store_import_rows from public, anon, authenticated, service_role;
grant execute on function commerce.store_import_rows to service_role;

create function commerce.finish_import(batch_id uuid) returns commerce.product_import_batches
language sql
set search_path = ''
as $$
  update commerce.product_import_batches b
  set status = 'completed', progress = 100, completed_at = private.now(), imported_count = (
    select count(*) from commerce.imported_products p where p.import_batch_id = b.id)
  where b.id = finish_import.batch_id and b.status = 'importing'
  returning *
$$;
comment on function commerce.finish_import(uuid) is 'All valid rows of an import have been written.';
revoke all on function commerce.finish_import from public, anon, authenticated, service_role;
grant execute on function commerce.finish_import to service_role;
