-- Reading a source: asked for by a person, by the clock, or because products changed. Its job reads and cuts up what
-- there is (ai.ingest); what is new is embedded by jobs of its own, each with its charge (ai.embed, next but one file).

create table ai.knowledge_ingestion_jobs (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source_id uuid not null,
  job_type text not null,
  reason text not null,
  config jsonb not null default '{}',
  status text not null default 'pending',
  items_total integer not null default 0,
  items_processed integer not null default 0,
  items_succeeded integer not null default 0,
  items_failed integer not null default 0,
  chunks_created integer not null default 0,
  chunks_reused integer not null default 0,
  chunks_embedded integer not null default 0,
  cost_micro bigint not null default 0,
  max_cost_micro bigint,
  progress smallint not null default 0,
  stage text,
  error_message text,
  error_details jsonb,
  job_id bigint,
  created_by uuid,
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint knowledge_ingestion_jobs_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint knowledge_ingestion_jobs_source_id_fkey foreign key (source_id)
    references ai.knowledge_sources (id) on delete cascade,
  constraint knowledge_ingestion_jobs_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint knowledge_ingestion_jobs_type_known check (job_type in ('website', 'document', 'products')),
  constraint knowledge_ingestion_jobs_reason_known check (reason in ('requested', 'verification', 'change')),
  constraint knowledge_ingestion_jobs_status_known
    check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  constraint knowledge_ingestion_jobs_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint knowledge_ingestion_jobs_failed_says_why check ((status = 'failed') = (error_message is not null)),
  constraint knowledge_ingestion_jobs_counts check (items_succeeded >= 0 and items_failed >= 0
    and items_processed = items_succeeded + items_failed and items_total >= items_processed
    and chunks_created >= 0 and chunks_reused >= 0 and chunks_embedded >= 0 and cost_micro >= 0
    and max_cost_micro >= 0),
  constraint knowledge_ingestion_jobs_progress_percent check (progress between 0 and 100),
  constraint knowledge_ingestion_jobs_json_shapes
    check (jsonb_typeof(config) = 'object' and jsonb_typeof(error_details) = 'array')
);
comment on table ai.knowledge_ingestion_jobs is
  'Each reading of a knowledge source: how far it is, what it found, what embedding it cost in micro-units.';
comment on column ai.knowledge_ingestion_jobs.config is 'The source''s settings as they were when it began.';
comment on column ai.knowledge_ingestion_jobs.error_details is
  'The first hundred items that could not be read: [{location, error}]; all are in knowledge_ingestion_items.';
comment on column ai.knowledge_ingestion_jobs.max_cost_micro is
  'What embedding may cost, where a task was approved for it; null: whatever it takes.';
comment on column ai.knowledge_ingestion_jobs.chunks_reused is 'New chunks whose text was embedded before.';
create unique index knowledge_ingestion_jobs_open on ai.knowledge_ingestion_jobs (source_id)
  where status in ('pending', 'running');
create index knowledge_ingestion_jobs_workspace_id
  on ai.knowledge_ingestion_jobs (workspace_id, created_at desc, id);
create index knowledge_ingestion_jobs_source_id on ai.knowledge_ingestion_jobs (source_id, created_at desc);
create index knowledge_ingestion_jobs_created_by on ai.knowledge_ingestion_jobs (created_by);
create trigger touch_knowledge_ingestion_jobs before update on ai.knowledge_ingestion_jobs
  for each row execute function private.touch_updated_at();
alter table ai.knowledge_ingestion_jobs enable row level security;
revoke all on table ai.knowledge_ingestion_jobs from public, anon, authenticated, service_role;
grant select on table ai.knowledge_ingestion_jobs to authenticated;
grant select, insert, update, delete on table ai.knowledge_ingestion_jobs to service_role;
create policy "Members see how their workspaces' sources were read" on ai.knowledge_ingestion_jobs
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- The crawl's frontier, and the report of every kind of reading.
create table ai.knowledge_ingestion_items (
  ingestion_id uuid not null,
  location text not null,
  workspace_id uuid not null,
  depth smallint not null default 0,
  position bigint generated always as identity,
  status text not null default 'pending',
  error text,
  created_at timestamptz not null default now(),
  constraint knowledge_ingestion_items_pkey primary key (ingestion_id, location),
  constraint knowledge_ingestion_items_ingestion_id_fkey foreign key (ingestion_id)
    references ai.knowledge_ingestion_jobs (id) on delete cascade,
  constraint knowledge_ingestion_items_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint knowledge_ingestion_items_status_known
    check (status in ('pending', 'read', 'unchanged', 'skipped', 'gone', 'failed')),
  constraint knowledge_ingestion_items_failed_says_why check ((status in ('failed', 'skipped')) = (error is not null))
);
comment on table ai.knowledge_ingestion_items is
  'Every page, file or product of a reading, and what became of it; pending ones are read next.';
comment on column ai.knowledge_ingestion_items.error is 'As `code: Sentence`, why it was skipped or could not be read.';
create index knowledge_ingestion_items_next on ai.knowledge_ingestion_items (ingestion_id, depth, position)
  where status = 'pending';
create index knowledge_ingestion_items_workspace_id on ai.knowledge_ingestion_items (workspace_id);
alter table ai.knowledge_ingestion_items enable row level security;
revoke all on table ai.knowledge_ingestion_items from public, anon, authenticated, service_role;
grant select on table ai.knowledge_ingestion_items to authenticated;
grant select, insert, update, delete on table ai.knowledge_ingestion_items to service_role;
create policy "Members see what was read of their workspaces' sources" on ai.knowledge_ingestion_items
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

insert into ops.limits (scope, subject, max_running, description) values
  ('key', 'crawl', 1, 'Readings of one host at the same time, whoever asked for them.'),
  ('workspace', 'ai.ingest', 3, 'Readings of a workspace''s sources at the same time.');

-- What a client or the clock asks for. One reading of a source at a time: another wish answers the one under way.
create function private.start_ingestion(source_id uuid, reason text) returns ai.knowledge_ingestion_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_source ai.knowledge_sources;
  v_ingestion ai.knowledge_ingestion_jobs;
  v_host text;
begin
  select * into v_source from ai.knowledge_sources s where s.id = start_ingestion.source_id for no key update;
  select * into v_ingestion from ai.knowledge_ingestion_jobs i
  where i.source_id = v_source.id and i.status in ('pending', 'running');
  if v_ingestion.id is not null then
    update ai.knowledge_sources s set next_verification_at = private.now() + interval '1 minute'
    where s.id = v_source.id and s.next_verification_at <= private.now();
    return v_ingestion;
  end if;
  perform private.correlate();
  v_host := lower(substring(v_source.url from '^https?://([^/?#]+)'));
  insert into ai.knowledge_ingestion_jobs (workspace_id, source_id, job_type, reason, config, items_total, created_by)
  values (v_source.workspace_id, v_source.id, v_source.source_type, start_ingestion.reason,
    jsonb_strip_nulls(jsonb_build_object('url', v_source.url, 'storage_path', v_source.storage_path,
      'max_depth', v_source.max_depth, 'max_pages', v_source.max_pages)),
    case when v_source.source_type = 'products' then 0 else 1 end, auth.uid())
  returning * into v_ingestion;
  if v_source.source_type <> 'products' then
    insert into ai.knowledge_ingestion_items (ingestion_id, location, workspace_id)
    values (v_ingestion.id, coalesce(v_source.url, v_source.storage_path), v_source.workspace_id);
  end if;
  update ai.knowledge_ingestion_jobs i
  set job_id = (select j.job_id from ops.enqueue_job('ai.ingest', jsonb_build_object('ingestion_id', v_ingestion.id),
    v_source.workspace_id, priority => case start_ingestion.reason when 'requested' then 0 else -1 end,
    key => 'ingest:' || v_ingestion.id, limit_key => 'crawl:' || left(v_host, 200)) j)
  where i.id = v_ingestion.id
  returning * into v_ingestion;
  update ai.knowledge_sources s set changed_at = null,
    next_verification_at = private.now() + s.verify_every where s.id = v_source.id;
  return v_ingestion;
end $$;
comment on function private.start_ingestion(uuid, text) is 'Begins to read a source, or answers the reading under way.';
revoke all on function private.start_ingestion from public, anon, authenticated, service_role;

create function private.add_knowledge_source(workspace_id uuid, source_type text, title text, url text,
  storage_path text, max_depth integer, max_pages integer, verify_every interval, keep_for interval)
returns ai.knowledge_sources
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_source ai.knowledge_sources;
  v_wrong text := case
    when add_knowledge_source.source_type is null
      or add_knowledge_source.source_type not in ('website', 'document', 'products')
      then 'source_type: must be website, document or products'
    when source_type = 'website' and (url is null or url !~ '^https?://[^/\s]+(/\S*)?$' or length(url) > 2000)
      then 'url: must be an address that begins with https://'
    when source_type = 'document' and (storage_path is null
      or not private.is_workspace_path(storage_path, workspace_id))
      then 'path: must be in the folder of the workspace'
    when length(title) > 300 then 'title: must have at most 300 characters'
    when max_depth is null or max_depth not between 0 and 5 then 'max_depth: must be 0 to 5'
    when max_pages is null or max_pages not between 1 and 500 then 'max_pages: must be 1 to 500'
    when verify_every not between interval '1 hour' and interval '1 year' then 'verify_every: must be 1 hour to 1 year'
    when keep_for not between interval '1 day' and interval '10 years' then 'keep_for: must be 1 day to 10 years'
  end;
begin
  perform private.require_role(add_knowledge_source.workspace_id, 'member');
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  if source_type = 'document' and not exists (select from storage.objects o
    where o.bucket_id = 'knowledge-documents' and o.name = add_knowledge_source.storage_path) then
    perform private.fail('unknown_file', format('There is no uploaded file "%s".', storage_path),
      jsonb_build_object('path', storage_path));
  end if;
  insert into ai.knowledge_sources (workspace_id, source_type, title, url, storage_path, max_depth, max_pages,
    verify_every, keep_for, created_by)
  values (add_knowledge_source.workspace_id, add_knowledge_source.source_type,
    coalesce(nullif(btrim(title), ''), left(regexp_replace(coalesce(url, storage_path, 'Products'),
      '^(https?://|.*/(?=[^/]+$))', ''), 300)),
    case add_knowledge_source.source_type when 'website' then add_knowledge_source.url end,
    case add_knowledge_source.source_type when 'document' then add_knowledge_source.storage_path end,
    add_knowledge_source.max_depth, add_knowledge_source.max_pages, add_knowledge_source.verify_every,
    add_knowledge_source.keep_for, auth.uid())
  on conflict do nothing
  returning * into v_source;
  if v_source.id is null then
    select * into v_source from ai.knowledge_sources s
    where s.workspace_id = add_knowledge_source.workspace_id and s.source_type = add_knowledge_source.source_type
      and s.url is not distinct from add_knowledge_source.url
      and s.storage_path is not distinct from add_knowledge_source.storage_path;
  end if;
  perform private.start_ingestion(v_source.id, 'requested');
  select * into v_source from ai.knowledge_sources s where s.id = v_source.id;
  return v_source;
end $$;
comment on function private.add_knowledge_source is 'Core of ai.add_knowledge_source.';
revoke all on function private.add_knowledge_source from public, anon, authenticated, service_role;
grant execute on function private.add_knowledge_source to authenticated, service_role;

-- Errors: unknown_workspace, role_too_low, invalid_argument, unknown_file.
create function ai.add_knowledge_source(workspace_id uuid, source_type text, title text default null,
  url text default null, path text default null, max_depth integer default 2, max_pages integer default 50,
  verify_every interval default '7 days', keep_for interval default null) returns ai.knowledge_sources
language sql
set search_path = ''
as $$
  select private.add_knowledge_source(add_knowledge_source.workspace_id, add_knowledge_source.source_type,
    add_knowledge_source.title, case add_knowledge_source.source_type when 'website' then add_knowledge_source.url end,
    case add_knowledge_source.source_type when 'document' then add_knowledge_source.path end,
    add_knowledge_source.max_depth, add_knowledge_source.max_pages, add_knowledge_source.verify_every,
    add_knowledge_source.keep_for)
$$;
comment on function ai.add_knowledge_source is
  'Adds a website, an uploaded document or the catalog as a source and begins to read it; the same again reads anew.';
revoke all on function ai.add_knowledge_source from public, anon, authenticated, service_role;
grant execute on function ai.add_knowledge_source to authenticated, service_role;

create function private.ingest_knowledge(source_id uuid) returns ai.knowledge_ingestion_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_source ai.knowledge_sources;
begin
  select * into v_source from ai.knowledge_sources s where s.id = ingest_knowledge.source_id;
  if v_source.id is null or not private.has_role(v_source.workspace_id, 'viewer') then
    perform private.fail('unknown_knowledge_source', 'There is no such knowledge source among yours.',
      jsonb_build_object('source_id', source_id));
  end if;
  perform private.require_role(v_source.workspace_id, 'member');
  return private.start_ingestion(v_source.id, 'requested');
end $$;
comment on function private.ingest_knowledge(uuid) is 'Core of ai.ingest_knowledge.';
revoke all on function private.ingest_knowledge from public, anon, authenticated, service_role;
grant execute on function private.ingest_knowledge to authenticated, service_role;

create function ai.ingest_knowledge(source_id uuid) returns ai.knowledge_ingestion_jobs
language sql
set search_path = ''
as $$ select private.ingest_knowledge(ingest_knowledge.source_id) $$;
comment on function ai.ingest_knowledge(uuid) is
  'Reads a source again, or answers the reading that is under way; members may.';
revoke all on function ai.ingest_knowledge from public, anon, authenticated, service_role;
grant execute on function ai.ingest_knowledge to authenticated, service_role;

create function private.cancel_ingestion(ingestion_id uuid) returns ai.knowledge_ingestion_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_ingestion ai.knowledge_ingestion_jobs;
begin
  select * into v_ingestion from ai.knowledge_ingestion_jobs i where i.id = ingestion_id;
  if v_ingestion.id is null or not private.has_role(v_ingestion.workspace_id, 'viewer') then
    perform private.fail('unknown_ingestion', 'There is no such ingestion among those of your workspaces.',
      jsonb_build_object('ingestion_id', ingestion_id));
  end if;
  perform private.require_role(v_ingestion.workspace_id, 'member');
  if v_ingestion.status in ('pending', 'running') then
    perform ops.cancel_job(v_ingestion.job_id);
  end if;
  select * into v_ingestion from ai.knowledge_ingestion_jobs i where i.id = ingestion_id;
  return v_ingestion;
end $$;
comment on function private.cancel_ingestion(uuid) is 'Core of ai.cancel_ingestion.';
revoke all on function private.cancel_ingestion from public, anon, authenticated, service_role;
grant execute on function private.cancel_ingestion to authenticated, service_role;

create function ai.cancel_ingestion(ingestion_id uuid) returns ai.knowledge_ingestion_jobs
language sql
set search_path = ''
as $$ select private.cancel_ingestion(cancel_ingestion.ingestion_id) $$;
comment on function ai.cancel_ingestion(uuid) is
  'Stops a reading: what has been read stays, what was held for embedding is released.';
revoke all on function ai.cancel_ingestion from public, anon, authenticated, service_role;
grant execute on function ai.cancel_ingestion to authenticated, service_role;
