-- Embedding of chunks: batches of at most a hundred, each a job with its charge, held where it is enqueued for the
-- tokens it will read and captured when its vectors are stored.

create table ai.embedding_batches (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  ingestion_id uuid not null,
  chunk_ids uuid[] not null,
  token_count integer not null,
  status text not null default 'pending',
  usage_event_id uuid,
  job_id bigint,
  error_message text,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint embedding_batches_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint embedding_batches_ingestion_id_fkey foreign key (ingestion_id)
    references ai.knowledge_ingestion_jobs (id) on delete cascade,
  constraint embedding_batches_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint embedding_batches_size check (cardinality(chunk_ids) between 1 and 100 and token_count > 0),
  constraint embedding_batches_status_known check (status in ('pending', 'completed', 'failed', 'cancelled')),
  constraint embedding_batches_ended_has_time check ((status = 'pending') = (completed_at is null))
);
comment on table ai.embedding_batches is 'Chunks that are embedded by one call, with the charge for their tokens.';
create index embedding_batches_workspace_id on ai.embedding_batches (workspace_id, created_at desc);
create index embedding_batches_ingestion_id on ai.embedding_batches (ingestion_id);
create index embedding_batches_usage_event_id on ai.embedding_batches (usage_event_id);
alter table ai.embedding_batches enable row level security;
revoke all on table ai.embedding_batches from public, anon, authenticated, service_role;
grant select on table ai.embedding_batches to service_role;

insert into ops.limits (scope, subject, max_running, description) values
  ('provider', 'embeddings', 8, 'Calls of the embedding provider at the same time.');

-- Cuts what is not embedded of a source into batches. Chunks of equal text are embedded once: the others take the
-- vector over when it is stored. The job of the reading becomes the parent. Errors: insufficient_credits,
-- task_budget_exceeded.
create function ai.request_embedding(ingestion_id uuid) returns integer
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ingestion ai.knowledge_ingestion_jobs;
  v_batches ai.embedding_batches[];
  v_batch ai.embedding_batches;
  v_jobs bigint[];
  v_price bigint;
begin
  select * into v_ingestion from ai.knowledge_ingestion_jobs i where i.id = request_embedding.ingestion_id
    and i.status in ('pending', 'running');
  if v_ingestion.id is null then
    return 0;
  end if;
  perform ops._lock_with_parent(v_ingestion.job_id);
  if exists (select from ai.embedding_batches b where b.ingestion_id = v_ingestion.id and b.status = 'pending') then
    return 0;
  end if;
  with new as (
    insert into ai.embedding_batches (workspace_id, ingestion_id, chunk_ids, token_count)
    select v_ingestion.workspace_id, v_ingestion.id, array_agg(o.id order by o.place), sum(o.token_estimate)
    from (
      select f.id, f.token_estimate, row_number() over (order by f.id) as place
      from (select distinct on (c.content_hash) c.id, c.token_estimate from ai.knowledge_chunks c
        where c.source_id = v_ingestion.source_id and c.embedding is null and c.is_active
        order by c.content_hash, c.id) f
    ) o
    group by (o.place - 1) / 100
    returning *
  )
  select array_agg(n::ai.embedding_batches) into v_batches from new n;
  if v_batches is null then
    return 0;
  end if;
  v_price := (billing._price('knowledge', (select sum(b.token_count) from unnest(v_batches) b) / 1000.0)).amount_micro;
  -- with what the reading has cost already
  v_price := v_price + v_ingestion.cost_micro;
  if v_price > v_ingestion.max_cost_micro then
    perform private.fail('task_budget_exceeded', format('Embedding costs %s micro-units and %s were approved.', v_price,
      v_ingestion.max_cost_micro), jsonb_build_object('cost_micro', v_price));
  end if;
  -- jobs, then the wallet
  select array_agg(j.job_id) into v_jobs from ops.enqueue_jobs('ai.embed',
    array(select jsonb_build_object('batch_id', b.id) from unnest(v_batches) b), v_ingestion.workspace_id,
    max_attempts => 6, parent_id => v_ingestion.job_id,
    keys => array(select 'embed:' || b.id from unnest(v_batches) b)) j;
  for v_place in 1 .. cardinality(v_batches) loop
    v_batch := v_batches[v_place];
    update ai.embedding_batches b
    set job_id = v_jobs[v_place], usage_event_id = private.hold_embedding(v_batch) where b.id = v_batch.id;
  end loop;
  return cardinality(v_batches);
end $$;
comment on function ai.request_embedding(uuid) is
  'Enqueues the embedding of what a reading found and holds its price; returns how many batches there are.';
revoke all on function ai.request_embedding from public, anon, authenticated, service_role;
grant execute on function ai.request_embedding to service_role;

create function private.hold_embedding(batch ai.embedding_batches) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(batch.workspace_id, 'knowledge', batch.token_count / 1000.0,
    concat_ws(':', 'embed', batch.id, batch.usage_event_id),
    jsonb_build_object('source_id', batch.ingestion_id, 'service_subtype', 'embedding'))).usage_event_id
$$;
comment on function private.hold_embedding(ai.embedding_batches) is
  'Authorizes the price of a batch''s tokens; a replay''s charge is named after the one released before.';
revoke all on function private.hold_embedding from public, anon, authenticated, service_role;

create function ai.chunks_to_embed(batch_id uuid) returns table (id uuid, title text, content text)
language sql stable
set search_path = ''
as $$
  select c.id, concat_ws(' > ', c.source_title, c.heading), c.content
  from ai.embedding_batches b
  join ai.knowledge_chunks c on c.id = any (b.chunk_ids) and c.embedding is null
  where b.id = chunks_to_embed.batch_id order by c.id
$$;
comment on function ai.chunks_to_embed(uuid) is 'The chunks of a batch that have no vector yet.';
revoke all on function ai.chunks_to_embed from public, anon, authenticated, service_role;
grant execute on function ai.chunks_to_embed to service_role;

-- embeddings: [{id, values: [1,536 numbers]}]. All chunks of the workspace with the same text get the vector.
create function ai.store_embeddings(batch_id uuid, model text, embeddings jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_stored integer;
begin
  with given as (
    select e.id, e."values" as embedding
    from jsonb_to_recordset(embeddings) as e (id uuid, "values" ai.embedding)
  ), named as (
    select c.workspace_id, c.content_hash, g.embedding from given g
    join ai.knowledge_chunks c on c.id = g.id
    join ai.embedding_batches b on b.id = store_embeddings.batch_id and c.id = any (b.chunk_ids)
  ), written as (
    update ai.knowledge_chunks c
    set embedding = n.embedding, embedding_model = store_embeddings.model, embedding_updated_at = private.now()
    from named n where c.workspace_id = n.workspace_id and c.content_hash = n.content_hash and c.embedding is null
    returning c.id
  )
  select count(*) into v_stored from written;
  update ai.knowledge_ingestion_jobs i set chunks_embedded = i.chunks_embedded + v_stored
  where i.id = (select b.ingestion_id from ai.embedding_batches b where b.id = store_embeddings.batch_id);
  return v_stored;
end $$;
comment on function ai.store_embeddings(uuid, text, jsonb) is
  'Stores the vectors of a batch; returns how many chunks have one.';
revoke all on function ai.store_embeddings from public, anon, authenticated, service_role;
grant execute on function ai.store_embeddings to service_role;

create function ai.on_embed_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_batch ai.embedding_batches;
  v_amount bigint;
begin
  select * into v_batch from ai.embedding_batches b where b.id = (job.payload ->> 'batch_id')::uuid;
  if v_batch.id is null or event = 'progressed' then
    return;
  elsif event = 'replayed' then
    update ai.embedding_batches b set status = 'pending', completed_at = null, error_message = null,
      usage_event_id = private.hold_embedding(v_batch) where b.id = v_batch.id;
    return;
  elsif event = 'completed' then
    v_amount := (billing.capture_usage(v_batch.usage_event_id)).amount_micro;
    update ai.knowledge_ingestion_jobs i set cost_micro = i.cost_micro + v_amount where i.id = v_batch.ingestion_id;
  else
    perform billing.release_usage(v_batch.usage_event_id, coalesce(job.error, event));
  end if;
  update ai.embedding_batches b set completed_at = private.now(),
    status = case event when 'completed' then 'completed' when 'dead' then 'failed' else 'cancelled' end,
    error_message = case event when 'dead' then job.error end
  where b.id = v_batch.id;
end $$;
comment on function ai.on_embed_job(ops.jobs, text) is 'Captures or releases the charge of a batch as its job ends.';
revoke all on function ai.on_embed_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('ai.embed', 'Embeds a batch of chunks.', 'ai.on_embed_job', interval '12 hours', 'embeddings');
