-- What the worker says while it reads a source. Each function is one step in one transaction, so that a reading goes on
-- from where it was whenever its worker died. What is different for products is in the next file.

create function ai.next_ingestion_item(ingestion_id uuid)
returns table (location text, depth smallint, known_hash text)
language sql stable
set search_path = ''
as $$
  select n.location, n.depth, d.content_hash
  from ai.knowledge_ingestion_items n
  join ai.knowledge_ingestion_jobs i on i.id = n.ingestion_id and i.status in ('pending', 'running')
  left join ai.knowledge_documents d on d.source_id = i.source_id and d.location = n.location
  where n.ingestion_id = next_ingestion_item.ingestion_id and n.status = 'pending'
  order by n.depth, n.position limit 1
$$;
comment on function ai.next_ingestion_item(uuid) is 'What is to be read next of a source; none: all has been read.';
revoke all on function ai.next_ingestion_item from public, anon, authenticated, service_role;
grant execute on function ai.next_ingestion_item to service_role;

-- A reading that goes on, locked, its source first, as whoever deletes that locks them.
create function private.lock_reading(ingestion_id uuid) returns ai.knowledge_ingestion_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_ingestion ai.knowledge_ingestion_jobs;
begin
  perform from ai.knowledge_sources s
  where s.id = (select i.source_id from ai.knowledge_ingestion_jobs i where i.id = lock_reading.ingestion_id)
  for key share;
  select * into v_ingestion from ai.knowledge_ingestion_jobs i where i.id = lock_reading.ingestion_id
    and i.status in ('pending', 'running') for no key update;
  return v_ingestion;
end $$;
comment on function private.lock_reading(uuid) is 'Locks a reading that goes on, its source first.';
revoke all on function private.lock_reading from public, anon, authenticated, service_role;

-- Notes that documents were seen as they are; one by its place, or (null) all of the source.
create function private.verify_documents(source_id uuid, location text) returns void
language sql
set search_path = ''
as $$
  with seen as (
    update ai.knowledge_documents d set last_verified_at = private.now(), expires_at = private.now() + s.keep_for
    from ai.knowledge_sources s
    where s.id = verify_documents.source_id and d.source_id = s.id
      and d.location = coalesce(verify_documents.location, d.location)
    returning d.id, d.last_verified_at, d.expires_at
  )
  update ai.knowledge_chunks c set last_verified_at = s.last_verified_at, expires_at = s.expires_at, is_active = true
  from seen s where c.source_doc_id = s.id
$$;
comment on function private.verify_documents(uuid, text) is 'Documents that are still so count on.';
revoke all on function private.verify_documents from public, anon, authenticated, service_role;

-- Writes a document over what was known of it. Chunks whose text was embedded before take the vector over.
-- document: {title, url, version, content_hash}; chunks: [{heading, content, content_hash, token_estimate,
-- quality_score, tags}].
create function private.store_document(ingestion ai.knowledge_ingestion_jobs, location text, document jsonb,
  chunks jsonb, out created integer, out reused integer)
language plpgsql
set search_path = ''
as $$
declare
  v_keep interval := (select s.keep_for from ai.knowledge_sources s where s.id = ingestion.source_id);
  v_document uuid;
begin
  insert into ai.knowledge_documents as d (workspace_id, source_id, location, title, url, product_id, version,
    content_hash, chunk_count, last_verified_at, expires_at)
  values (ingestion.workspace_id, ingestion.source_id, store_document.location, document ->> 'title',
    document ->> 'url', case ingestion.job_type when 'products' then private.try_uuid(store_document.location) end,
    document ->> 'version', document ->> 'content_hash', jsonb_array_length(chunks), private.now(),
    private.now() + v_keep)
  on conflict on constraint knowledge_documents_once do update
  set title = excluded.title, url = excluded.url, version = excluded.version, content_hash = excluded.content_hash,
    chunk_count = excluded.chunk_count, last_verified_at = excluded.last_verified_at, expires_at = excluded.expires_at
  returning d.id into v_document;
  -- what is written anew is only what changed: equal chunks of the document keep their ids, which answers cite
  delete from ai.knowledge_chunks c where c.source_doc_id = v_document
    and not exists (select from jsonb_array_elements(chunks) with ordinality as n (chunk, place)
      where n.place = c.chunk_index + 1 and n.chunk ->> 'content_hash' = c.content_hash);
  update ai.knowledge_chunks c set total_chunks = jsonb_array_length(chunks), source_title = document ->> 'title',
    source_url = document ->> 'url', is_active = true, last_verified_at = private.now(),
    expires_at = private.now() + v_keep
  where c.source_doc_id = v_document;
  insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, source_url, source_title,
    heading, content, content_hash, embedding, embedding_model, embedding_updated_at, chunk_index, total_chunks,
    token_estimate, quality_score, relevance_tags, last_verified_at, expires_at)
  select ingestion.workspace_id, ingestion.source_id, v_document, ingestion.job_type, document ->> 'url',
    document ->> 'title', n.chunk ->> 'heading', n.chunk ->> 'content', n.chunk ->> 'content_hash', e.embedding,
    e.embedding_model, e.embedding_updated_at, n.place - 1, jsonb_array_length(chunks),
    (n.chunk ->> 'token_estimate')::integer, (n.chunk ->> 'quality_score')::numeric,
    array(select jsonb_array_elements_text(coalesce(n.chunk -> 'tags', '[]'))), private.now(), private.now() + v_keep
  from jsonb_array_elements(chunks) with ordinality as n (chunk, place)
  left join lateral (select k.embedding, k.embedding_model, k.embedding_updated_at from ai.knowledge_chunks k
    where k.workspace_id = ingestion.workspace_id and k.content_hash = n.chunk ->> 'content_hash'
      and k.embedding is not null limit 1) e on true
  where not exists (select from ai.knowledge_chunks c
    where c.source_doc_id = v_document and c.chunk_index = n.place - 1);
  get diagnostics created = row_count;
  select count(*) into reused from ai.knowledge_chunks c
  where c.source_doc_id = v_document and c.created_at = now() and c.embedding is not null;
end $$;
comment on function private.store_document is 'Writes a document and its chunks, and says how many are new.';
revoke all on function private.store_document from public, anon, authenticated, service_role;

-- What became of one item: read (document and chunks), unchanged, skipped or failed (error), gone. links: what is to be
-- read after it, [{location, depth}], as far as the source's bound of pages allows. False: the reading has ended.
create function ai.finish_ingestion_item(ingestion_id uuid, location text, status text, document jsonb default null,
  chunks jsonb default '[]', links jsonb default '[]', error text default null) returns boolean
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ingestion ai.knowledge_ingestion_jobs;
  v_created integer := 0;
  v_reused integer := 0;
  v_room integer;
  v_added integer := 0;
begin
  v_ingestion := private.lock_reading(finish_ingestion_item.ingestion_id);
  if v_ingestion.id is null then
    return false;
  end if;
  update ai.knowledge_ingestion_items n
  set status = finish_ingestion_item.status, error = left(finish_ingestion_item.error, 500)
  where n.ingestion_id = v_ingestion.id and n.location = finish_ingestion_item.location and n.status = 'pending';
  if not found then
    return true;
  end if;
  case finish_ingestion_item.status
    when 'read' then
      select d.created, d.reused into v_created, v_reused
      from private.store_document(v_ingestion, location, document, chunks) d;
    when 'unchanged' then
      perform private.verify_documents(v_ingestion.source_id, location);
      update ai.knowledge_documents d set version = coalesce(document ->> 'version', d.version)
      where d.source_id = v_ingestion.source_id and d.location = finish_ingestion_item.location;
    when 'gone', 'skipped' then
      -- what a site forbids, or has elsewhere now, is not known any more either; what could not be read this time is
      delete from ai.knowledge_documents d
      where d.source_id = v_ingestion.source_id and d.location = finish_ingestion_item.location
        and (status = 'gone' or error ~ '^(noindex|disallowed|duplicate|redirected): ');
    else
      null;
  end case;
  v_room := (v_ingestion.config ->> 'max_pages')::integer - v_ingestion.items_total;
  if v_room > 0 and jsonb_array_length(links) > 0 then
    insert into ai.knowledge_ingestion_items (ingestion_id, location, workspace_id, depth)
    select v_ingestion.id, l.location, v_ingestion.workspace_id, l.depth
    from jsonb_to_recordset(links) as l (location text, depth smallint)
    where not exists (select from ai.knowledge_ingestion_items n
      where n.ingestion_id = v_ingestion.id and n.location = l.location)
    limit v_room
    on conflict do nothing;
    get diagnostics v_added = row_count;
  end if;
  update ai.knowledge_ingestion_jobs i
  set items_total = greatest(i.items_total + v_added, i.items_processed + 1), items_processed = i.items_processed + 1,
    items_succeeded = i.items_succeeded + case finish_ingestion_item.status when 'failed' then 0 else 1 end,
    items_failed = i.items_failed + case finish_ingestion_item.status when 'failed' then 1 else 0 end,
    chunks_created = i.chunks_created + v_created, chunks_reused = i.chunks_reused + v_reused
  where i.id = v_ingestion.id;
  return true;
end $$;
comment on function ai.finish_ingestion_item is 'Notes what became of one page, file or product of a reading.';
revoke all on function ai.finish_ingestion_item from public, anon, authenticated, service_role;
grant execute on function ai.finish_ingestion_item to service_role;

-- Pages that are known and that no link led to this time: whether they are gone shows when they are asked for. As many
-- as the source may have pages, those first that were seen longest ago; their own links are not followed.
create function ai.revisit_known_pages(ingestion_id uuid) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ingestion ai.knowledge_ingestion_jobs := private.lock_reading(ingestion_id);
  v_added integer;
begin
  insert into ai.knowledge_ingestion_items (ingestion_id, location, workspace_id, depth)
  select v_ingestion.id, d.location, v_ingestion.workspace_id, (v_ingestion.config ->> 'max_depth')::smallint + 1
  from ai.knowledge_documents d
  where d.source_id = v_ingestion.source_id and not exists (select from ai.knowledge_ingestion_items n
    where n.ingestion_id = v_ingestion.id and n.location = d.location)
  order by d.last_verified_at, d.id limit greatest(0, 2 * (v_ingestion.config ->> 'max_pages')::integer
    - v_ingestion.items_total);
  get diagnostics v_added = row_count;
  update ai.knowledge_ingestion_jobs i set items_total = i.items_total + v_added
  where i.id = v_ingestion.id and v_added > 0;
  return v_added;
end $$;
comment on function ai.revisit_known_pages(uuid) is
  'Has known pages that a reading has not come by looked at too; returns how many.';
revoke all on function ai.revisit_known_pages from public, anon, authenticated, service_role;
grant execute on function ai.revisit_known_pages to service_role;

create function private.end_ingestion(ingestion_id uuid, status text, message text) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ingestion ai.knowledge_ingestion_jobs;
begin
  -- the source first, as in private.lock_reading
  perform from ai.knowledge_sources s
  where s.id = (select i.source_id from ai.knowledge_ingestion_jobs i where i.id = end_ingestion.ingestion_id)
  for no key update;
  update ai.knowledge_ingestion_jobs i
  set status = end_ingestion.status, completed_at = private.now(), stage = null,
    started_at = coalesce(i.started_at, private.now()),
    progress = case end_ingestion.status when 'completed' then 100 else i.progress end,
    error_message = end_ingestion.message, error_details = (
      select jsonb_agg(jsonb_build_object('location', n.location, 'error', n.error) order by n.position)
      from (select * from ai.knowledge_ingestion_items n
        where n.ingestion_id = i.id and n.status = 'failed' order by n.position limit 100) n)
  where i.id = end_ingestion.ingestion_id
  returning i.* into v_ingestion;
  delete from ai.knowledge_ingestion_items n where n.ingestion_id = v_ingestion.id and n.status = 'pending';
  update ai.knowledge_sources s
  set status = case end_ingestion.status when 'completed' then 'ready' when 'failed' then 'failed'
      when 'cancelled' then case when s.last_ingested_at is null then 'pending' else 'ready' end end,
    error_message = case end_ingestion.status when 'failed' then end_ingestion.message end,
    last_ingested_at = case end_ingestion.status when 'completed' then private.now() else s.last_ingested_at end,
    document_count = (select count(*) from ai.knowledge_documents d where d.source_id = s.id),
    chunk_count = (select count(*) from ai.knowledge_chunks c where c.source_id = s.id and c.is_active)
  where s.id = v_ingestion.source_id;
end $$;
comment on function private.end_ingestion is 'Closes a reading and says on its source how it went.';
revoke all on function private.end_ingestion from public, anon, authenticated, service_role;

-- A replay reads everything anew; what has not changed costs nothing.
create function private.restart_ingestion(ingestion_id uuid) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ingestion ai.knowledge_ingestion_jobs;
begin
  delete from ai.knowledge_ingestion_items n where n.ingestion_id = restart_ingestion.ingestion_id;
  update ai.knowledge_ingestion_jobs i
  set status = 'pending', completed_at = null, error_message = null, error_details = null, progress = 0,
    items_total = case i.job_type when 'products' then 0 else 1 end, items_processed = 0, items_succeeded = 0,
    items_failed = 0
  where i.id = restart_ingestion.ingestion_id
  returning * into v_ingestion;
  if v_ingestion.job_type <> 'products' then
    insert into ai.knowledge_ingestion_items (ingestion_id, location, workspace_id)
    values (v_ingestion.id, coalesce(v_ingestion.config ->> 'url', v_ingestion.config ->> 'storage_path'),
      v_ingestion.workspace_id);
  end if;
end $$;
comment on function private.restart_ingestion(uuid) is 'Lets a reading that failed begin again.';
revoke all on function private.restart_ingestion from public, anon, authenticated, service_role;

create function ai.on_ingest_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid := (job.payload ->> 'ingestion_id')::uuid;
begin
  case event
    when 'progressed' then
      update ai.knowledge_ingestion_jobs i set status = 'running', progress = job.progress, stage = job.stage,
        started_at = coalesce(i.started_at, private.now())
      where i.id = v_id and i.status in ('pending', 'running');
    when 'completed' then
      perform private.end_ingestion(v_id, 'completed', null);
    when 'cancelled' then
      perform private.end_ingestion(v_id, 'cancelled', null);
    when 'dead' then
      perform private.end_ingestion(v_id, 'failed', case when job.error ~ '^[a-z][a-z_]*: ' then job.error
        else 'internal_error: The work failed for a reason on our side.' end);
    when 'replayed' then
      perform private.restart_ingestion(v_id);
  end case;
end $$;
comment on function ai.on_ingest_job(ops.jobs, text) is 'Keeps a reading and its source in step with its job.';
revoke all on function ai.on_ingest_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('ai.ingest', 'Reads a knowledge source and cuts it into chunks.', 'ai.on_ingest_job', interval '1 day');
