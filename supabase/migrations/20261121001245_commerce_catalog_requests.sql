-- What people do with catalog jobs: start, pause, resume, cancel, try what failed again. Editors may, because one call
-- spends what thousands of single ones would.

-- What a key stands for.
create function private.catalog_request_hash(request commerce.catalog_jobs) returns bytea
language sql immutable
set search_path = ''
as $$
  select private.content_hash(jsonb_build_array(request.connected_account_id, request.import_batch_id, request.filter,
    case when request.tryon_count = 0 then '{}' else request.model_ids end,
    case when request.tryon_count > 0 then request.persona_id end, request.tryon_count, request.studio_pictures,
    request.quality, request.custom_instructions, request.delta_only, request.priority_mode, request.auto_publish,
    request.chunk_size, request.parallel_chunks, request.parallel_products_per_chunk, request.max_failed_products))
$$;
comment on function private.catalog_request_hash(commerce.catalog_jobs) is 'A hash of what a catalog request asks for.';
revoke all on function private.catalog_request_hash from public, anon, authenticated, service_role;

-- The catalog job that a key named before, if any, whatever has become of its models since. Error: key_reused.
create function private.catalog_job_of_key(request commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  select * into v_job from commerce.catalog_jobs j
  where j.workspace_id = request.workspace_id and j.key = request.key;
  if v_job.content_hash <> private.catalog_request_hash(request) then
    perform private.fail('key_reused', 'This key has been used for a different catalog job.',
      jsonb_build_object('key', request.key, 'catalog_job_id', v_job.id));
  end if;
  return v_job;
end $$;
comment on function private.catalog_job_of_key(commerce.catalog_jobs) is
  'The catalog job that was started with the key of a request, or null.';
revoke all on function private.catalog_job_of_key from public, anon, authenticated, service_role;

create function private.start_catalog_job(request commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_request commerce.catalog_jobs := private.catalog_request_source(request);
  v_job commerce.catalog_jobs;
begin
  perform private.require_role(v_request.workspace_id, 'editor');
  if request.key is not null then
    perform billing._check_key(request.key);
    v_job := private.catalog_job_of_key(v_request);
    if v_job.id is not null then
      return v_job;
    end if;
  end if;
  v_request := private.check_catalog_request(request);
  perform private.correlate();
  insert into commerce.catalog_jobs (workspace_id, connected_account_id, import_batch_id, filter, model_ids,
    persona_id, tryon_count, studio_pictures, quality, custom_instructions, delta_only, priority_mode, auto_publish,
    chunk_size, parallel_chunks, parallel_products_per_chunk, max_failed_products, meter, units_per_product, created_by,
    key, content_hash)
  select v_request.workspace_id, v_request.connected_account_id, v_request.import_batch_id, v_request.filter,
    v_request.model_ids, v_request.persona_id, v_request.tryon_count, v_request.studio_pictures,
    v_request.quality, v_request.custom_instructions, v_request.delta_only, v_request.priority_mode,
    v_request.auto_publish, v_request.chunk_size, v_request.parallel_chunks, v_request.parallel_products_per_chunk,
    v_request.max_failed_products, v_request.meter, v_request.units_per_product, auth.uid(), v_request.key,
    private.catalog_request_hash(v_request)
  on conflict do nothing
  returning * into v_job;
  if found then
    update commerce.product_import_batches b set catalog_job_id = v_job.id where b.id = v_job.import_batch_id;
    return private.begin_catalog_round(v_job);
  end if;
  v_job := private.catalog_job_of_key(v_request);
  if v_job.id is not null then
    return v_job;
  end if;
  perform private.fail('catalog_job_running', 'Another catalog job of this shop or import has not ended.',
    jsonb_build_object('catalog_job_id', (select j.id from commerce.catalog_jobs j where j.completed_at is null
      and coalesce(j.connected_account_id, j.import_batch_id)
        = coalesce(v_request.connected_account_id, v_request.import_batch_id))));
  return null;
end $$;
comment on function private.start_catalog_job(commerce.catalog_jobs) is
  'Core of commerce.start_catalog_job; checks the caller first.';
revoke all on function private.start_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.start_catalog_job to authenticated, service_role;

-- Starts a catalog job: answers at once; its products are found, and charged chunk by chunk, as it runs. With a key, a
-- repeat answers the first job. Editors may. Errors: unknown_account, unknown_import, unknown_shop_collection,
-- unknown_model, unknown_persona, persona_without_picture, role_too_low, invalid_argument, catalog_job_running
-- (details: catalog_job_id), key_reused.
create function commerce.start_catalog_job(account_id uuid default null, import_batch_id uuid default null,
  collection_id uuid default null, tag text default null, product_ids uuid[] default null,
  model_ids uuid[] default '{}', persona_id uuid default null, tryon_count integer default 2,
  studio_pictures boolean default false, quality text default 'balanced', instructions text default null,
  delta_only boolean default true, priority_mode text default 'new_first', auto_publish boolean default false,
  chunk_size integer default 100, parallel_chunks integer default 5, parallel_products_per_chunk integer default 5,
  max_failed_products integer default null, key text default null) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_request commerce.catalog_jobs;
begin
  v_request.connected_account_id := account_id;
  v_request.import_batch_id := start_catalog_job.import_batch_id;
  v_request.filter := private.catalog_filter(collection_id, tag, product_ids);
  v_request.model_ids := coalesce(start_catalog_job.model_ids, '{}');
  v_request.persona_id := start_catalog_job.persona_id;
  -- What the column cannot hold is out of bounds all the same, and is to be told so.
  v_request.tryon_count := greatest(-1, least(start_catalog_job.tryon_count, 1000));
  v_request.studio_pictures := coalesce(start_catalog_job.studio_pictures, false);
  v_request.quality := start_catalog_job.quality;
  v_request.custom_instructions := instructions;
  v_request.delta_only := coalesce(start_catalog_job.delta_only, true);
  v_request.priority_mode := coalesce(start_catalog_job.priority_mode, 'new_first');
  v_request.auto_publish := coalesce(start_catalog_job.auto_publish, false);
  v_request.chunk_size := coalesce(start_catalog_job.chunk_size, 100);
  v_request.parallel_chunks := coalesce(start_catalog_job.parallel_chunks, 5);
  v_request.parallel_products_per_chunk := greatest(-1,
    least(coalesce(start_catalog_job.parallel_products_per_chunk, 5), 1000));
  v_request.max_failed_products := start_catalog_job.max_failed_products;
  v_request.key := start_catalog_job.key;
  return private.start_catalog_job(v_request);
end $$;
comment on function commerce.start_catalog_job is
  'Starts to make pictures for the products of a shop or an import; charged chunk by chunk.';
revoke all on function commerce.start_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.start_catalog_job to authenticated, service_role;

-- Errors: unknown_catalog_job.
create function private.catalog_job_of_caller(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_workspace uuid := (select j.workspace_id from commerce.catalog_jobs j where j.id = catalog_job_id);
begin
  if v_workspace is null or not private.has_role(v_workspace, 'viewer') then
    perform private.fail('unknown_catalog_job', 'There is no such catalog job in your workspaces.',
      jsonb_build_object('catalog_job_id', catalog_job_id));
  end if;
  return private.lock_catalog_job(catalog_job_id);
end $$;
comment on function private.catalog_job_of_caller(uuid) is 'A catalog job that the caller sees, locked.';
revoke all on function private.catalog_job_of_caller from public, anon, authenticated, service_role;

create function private.refuse_ended_catalog_job(catalog_job commerce.catalog_jobs) returns void
language plpgsql
set search_path = ''
as $$
begin
  if catalog_job.completed_at is not null or catalog_job.status = 'cancelling' then
    perform private.fail('catalog_job_ended', format('This catalog job is %s.', catalog_job.status),
      jsonb_build_object('status', catalog_job.status));
  end if;
end $$;
comment on function private.refuse_ended_catalog_job(commerce.catalog_jobs) is
  'Fails when a catalog job has ended or is being cancelled.';
revoke all on function private.refuse_ended_catalog_job from public, anon, authenticated, service_role;

create function private.pause_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := private.catalog_job_of_caller(catalog_job_id);
begin
  perform private.require_role(v_job.workspace_id, 'editor');
  perform private.refuse_ended_catalog_job(v_job);
  if v_job.status in ('paused', 'pausing') then
    return v_job;
  end if;
  perform private.take_back_products(v_job.id, 'pending', false);
  update commerce.catalog_jobs j set status = 'pausing', error_code = null, error_message = null
  where j.id = v_job.id returning * into v_job;
  return private.note_catalog_job(v_job);
end $$;
comment on function private.pause_catalog_job(uuid) is 'Core of commerce.pause_catalog_job; checks the caller first.';
revoke all on function private.pause_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.pause_catalog_job to authenticated, service_role;

-- Products that have been asked of the provider are finished and charged; the others wait, and hold no credits.
-- Errors: unknown_catalog_job, role_too_low, catalog_job_ended.
create function commerce.pause_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language sql
set search_path = ''
as $$ select private.pause_catalog_job(catalog_job_id) $$;
comment on function commerce.pause_catalog_job(uuid) is
  'Pauses a catalog job; it is paused when what is at work has ended.';
revoke all on function commerce.pause_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.pause_catalog_job to authenticated, service_role;

-- Lets a locked catalog job go on, by a new coordinator where the last one has ended.
create function private.let_catalog_job_go_on(catalog_job commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  if catalog_job.status in ('pending', 'processing') then
    return catalog_job;
  end if;
  update commerce.catalog_jobs j
  set status = 'processing', error_code = null, error_message = null, completed_at = null,
    progress = least(j.progress, 99), last_activity_at = private.now()
  where j.id = catalog_job.id returning * into v_job;
  return case when catalog_job.status = 'pausing' then v_job else private.begin_catalog_round(v_job) end;
end $$;
comment on function private.let_catalog_job_go_on(commerce.catalog_jobs) is 'Lets a catalog job go on.';
revoke all on function private.let_catalog_job_go_on from public, anon, authenticated, service_role;

create function private.resume_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := private.catalog_job_of_caller(catalog_job_id);
begin
  perform private.require_role(v_job.workspace_id, 'editor');
  perform private.refuse_ended_catalog_job(v_job);
  return private.let_catalog_job_go_on(v_job);
end $$;
comment on function private.resume_catalog_job(uuid) is 'Core of commerce.resume_catalog_job; checks the caller first.';
revoke all on function private.resume_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.resume_catalog_job to authenticated, service_role;

-- Errors: unknown_catalog_job, role_too_low, catalog_job_ended.
create function commerce.resume_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language sql
set search_path = ''
as $$ select private.resume_catalog_job(catalog_job_id) $$;
comment on function commerce.resume_catalog_job(uuid) is
  'Lets a catalog job go on that is paused or waits for credits.';
revoke all on function commerce.resume_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.resume_catalog_job to authenticated, service_role;

create function private.cancel_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := private.catalog_job_of_caller(catalog_job_id);
begin
  perform private.require_role(v_job.workspace_id, 'editor');
  if v_job.status in ('cancelling', 'cancelled') then
    return v_job;
  end if;
  perform private.refuse_ended_catalog_job(v_job);
  if v_job.status in ('paused', 'waiting_for_credits') then
    v_job := private.begin_catalog_round(v_job);
  end if;
  return private.stop_catalog_job(v_job);
end $$;
comment on function private.cancel_catalog_job(uuid) is 'Core of commerce.cancel_catalog_job; checks the caller first.';
revoke all on function private.cancel_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.cancel_catalog_job to authenticated, service_role;

-- Nothing new is asked of a provider or published once this has answered, and what runs is told to stop. What has been
-- made stays and is charged; the rest of the holds comes back when the chunks end, a second or two later.
-- Errors: unknown_catalog_job, role_too_low, catalog_job_ended.
create function commerce.cancel_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language sql
set search_path = ''
as $$ select private.cancel_catalog_job(catalog_job_id) $$;
comment on function commerce.cancel_catalog_job(uuid) is
  'Cancels a catalog job: spending stops at once, pictures that are made stay.';
revoke all on function commerce.cancel_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.cancel_catalog_job to authenticated, service_role;
