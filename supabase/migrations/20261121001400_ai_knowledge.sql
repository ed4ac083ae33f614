-- What a brand's assistant knows: sources (a website, a document, the catalog), the documents found in them, and the
-- chunks of text that are searched. Text and vectors are written by the service alone; clients add sources and read.

-- A million tokens cost 0.30 dollars to embed.
insert into billing.meters (slug, display_name, unit_label, unit_amount_micro) values
  ('knowledge', 'Knowledge embedding', '1,000 tokens', 30);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_knowledge_source', 'PT404', 'Use the id of a knowledge source of one of your workspaces.'),
  ('unknown_ingestion', 'PT404', 'Use the id of an ingestion of one of your workspaces.'),
  ('unknown_file', 'PT404', 'Upload the file to the bucket knowledge-documents, under the workspace''s id, first.');

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('knowledge-documents', 'knowledge-documents', false, 20971520,
    array['text/plain', 'text/markdown', 'text/html', 'application/pdf'])
on conflict (id) do nothing;
create policy "Members may see their workspace's knowledge files" on storage.objects for select to authenticated
  using (bucket_id = 'knowledge-documents'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Members may upload knowledge files to their workspace's folder" on storage.objects for insert
  to authenticated
  with check (bucket_id = 'knowledge-documents'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('member'))::uuid[])
    and private.is_workspace_path(name, private.try_uuid(split_part(name, '/', 1))));
create policy "Editors may delete knowledge files" on storage.objects for delete to authenticated
  using (bucket_id = 'knowledge-documents'
    and private.try_uuid(split_part(name, '/', 1)) = any ((select private.workspace_ids('editor'))::uuid[]));

create table ai.knowledge_sources (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source_type text not null,
  title text not null,
  url text,
  storage_path text,
  max_depth smallint not null default 2,
  max_pages smallint not null default 50,
  verify_every interval,
  keep_for interval,
  is_active boolean not null default true,
  status text not null default 'pending',
  error_message text,
  document_count integer not null default 0,
  chunk_count integer not null default 0,
  last_ingested_at timestamptz,
  next_verification_at timestamptz,
  changed_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint knowledge_sources_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint knowledge_sources_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint knowledge_sources_type_known check (source_type in ('website', 'document', 'products')),
  constraint knowledge_sources_place_fits_type check (case source_type
    when 'website' then url is not null and storage_path is null
    when 'document' then url is null and storage_path is not null
    else url is null and storage_path is null end),
  constraint knowledge_sources_url_shape check (url ~ '^https?://[^/\s]+(/\S*)?$' and length(url) <= 2000),
  constraint knowledge_sources_path_in_workspace check (private.is_workspace_path(storage_path, workspace_id)),
  constraint knowledge_sources_title_length check (length(title) between 1 and 300),
  constraint knowledge_sources_bounds check (max_depth between 0 and 5 and max_pages between 1 and 500),
  constraint knowledge_sources_times_in_range check (verify_every between interval '1 hour' and interval '1 year'
    and keep_for between interval '1 day' and interval '10 years'),
  constraint knowledge_sources_status_known check (status in ('pending', 'ready', 'failed')),
  constraint knowledge_sources_failed_says_why check ((status = 'failed') = (error_message is not null)),
  constraint knowledge_sources_counts_not_negative check (document_count >= 0 and chunk_count >= 0)
);
comment on table ai.knowledge_sources is
  'Where a workspace''s knowledge comes from: a website, an uploaded document, or its catalog of products.';
comment on column ai.knowledge_sources.max_depth is 'Links followed from the start page; 0: that page alone.';
comment on column ai.knowledge_sources.verify_every is 'How often it is read again; null: only when asked.';
comment on column ai.knowledge_sources.keep_for is
  'How long its chunks count after they were last seen; null: until they are gone at the source.';
comment on column ai.knowledge_sources.is_active is
  'False: it is read only when somebody asks; what is known of it stays.';
comment on column ai.knowledge_sources.changed_at is
  'When something of it changed that has not been read again; null: nothing has.';
create unique index knowledge_sources_url on ai.knowledge_sources (workspace_id, url) where url is not null;
create unique index knowledge_sources_path on ai.knowledge_sources (workspace_id, storage_path)
  where storage_path is not null;
create unique index knowledge_sources_products on ai.knowledge_sources (workspace_id) where source_type = 'products';
create index knowledge_sources_workspace_id on ai.knowledge_sources (workspace_id, created_at desc, id);
create index knowledge_sources_created_by on ai.knowledge_sources (created_by);
create index knowledge_sources_due on ai.knowledge_sources (next_verification_at)
  where is_active and next_verification_at is not null;
create trigger touch_knowledge_sources before update on ai.knowledge_sources
  for each row execute function private.touch_updated_at();
alter table ai.knowledge_sources enable row level security;
revoke all on table ai.knowledge_sources from public, anon, authenticated, service_role;
grant select, delete, update (title, max_depth, max_pages, verify_every, keep_for, is_active)
  on table ai.knowledge_sources to authenticated;
grant select, insert, update, delete on table ai.knowledge_sources to service_role;
create policy "Members see the knowledge sources of their workspaces" on ai.knowledge_sources
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may change knowledge sources" on ai.knowledge_sources
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));
create policy "Editors may delete knowledge sources" on ai.knowledge_sources
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create table ai.knowledge_documents (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source_id uuid not null,
  location text not null,
  title text,
  url text,
  product_id uuid,
  version text,
  content_hash text not null,
  chunk_count integer not null default 0,
  last_verified_at timestamptz not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint knowledge_documents_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint knowledge_documents_source_id_fkey foreign key (source_id)
    references ai.knowledge_sources (id) on delete cascade,
  constraint knowledge_documents_once unique (source_id, location),
  constraint knowledge_documents_location_length check (length(location) between 1 and 2000),
  constraint knowledge_documents_hash_shape check (content_hash ~ '^[0-9a-f]{64}$'),
  constraint knowledge_documents_chunk_count_not_negative check (chunk_count >= 0)
);
comment on table ai.knowledge_documents is 'A page, file or product that has been read, and when it was last seen so.';
comment on column ai.knowledge_documents.location is
  'What it is called within its source: an address, a path in the bucket, a product''s id.';
comment on column ai.knowledge_documents.product_id is
  'The row of commerce.shopify_products or commerce.imported_products it was made of.';
comment on column ai.knowledge_documents.version is 'What the product said of its own state when it was read.';
comment on column ai.knowledge_documents.content_hash is 'SHA-256 of the text; the same text is not embedded again.';
create index knowledge_documents_workspace_id on ai.knowledge_documents (workspace_id, created_at desc, id);
create index knowledge_documents_product_id on ai.knowledge_documents (product_id) where product_id is not null;
create trigger touch_knowledge_documents before update on ai.knowledge_documents
  for each row execute function private.touch_updated_at();
alter table ai.knowledge_documents enable row level security;
revoke all on table ai.knowledge_documents from public, anon, authenticated, service_role;
grant select, delete on table ai.knowledge_documents to authenticated;
grant select, insert, update, delete on table ai.knowledge_documents to service_role;
create policy "Members see the documents of their workspaces' knowledge" on ai.knowledge_documents
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may have a document forgotten" on ai.knowledge_documents
  for delete to authenticated using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]));

create table ai.knowledge_chunks (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  source_id uuid not null,
  source_doc_id uuid not null,
  source_type text not null,
  source_url text,
  source_title text,
  heading text,
  content text not null,
  content_hash text not null,
  embedding ai.embedding,
  embedding_signs bit(1536) generated always as (private.embedding_signs(embedding)) stored,
  embedding_model text,
  embedding_updated_at timestamptz,
  chunk_index integer not null,
  total_chunks integer not null,
  char_count integer not null generated always as (length(content)) stored,
  token_estimate integer not null,
  quality_score numeric(3, 2),
  relevance_tags text[] not null default '{}',
  is_active boolean not null default true,
  last_verified_at timestamptz not null,
  expires_at timestamptz,
  search tsvector generated always as (private.tenant_words(workspace_id,
    setweight(to_tsvector('english', coalesce(source_title, '') || ' ' || coalesce(heading, '')), 'A')
      || setweight(to_tsvector('english', private.words_of(relevance_tags)), 'B')
      || setweight(to_tsvector('english', content), 'C'))) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint knowledge_chunks_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint knowledge_chunks_source_id_fkey foreign key (source_id)
    references ai.knowledge_sources (id) on delete cascade,
  constraint knowledge_chunks_source_doc_id_fkey foreign key (source_doc_id)
    references ai.knowledge_documents (id) on delete cascade,
  constraint knowledge_chunks_once unique (source_doc_id, chunk_index),
  constraint knowledge_chunks_type_known check (source_type in ('website', 'document', 'products')),
  constraint knowledge_chunks_content_length check (length(content) between 1 and 20000),
  constraint knowledge_chunks_hash_shape check (content_hash ~ '^[0-9a-f]{64}$'),
  constraint knowledge_chunks_place check (chunk_index >= 0 and chunk_index < total_chunks),
  constraint knowledge_chunks_tokens_positive check (token_estimate > 0),
  constraint knowledge_chunks_quality_in_range check (quality_score between 0 and 1),
  constraint knowledge_chunks_embedding_says_when check (num_nulls(embedding, embedding_model, embedding_updated_at)
    in (0, 3))
);
comment on table ai.knowledge_chunks is
  'Pieces of documents as they are searched: text with its headings, and a vector of it once it is embedded.';
comment on column ai.knowledge_chunks.source_doc_id is 'The document of ai.knowledge_documents it is a piece of.';
comment on column ai.knowledge_chunks.heading is 'The headings it stands under, outermost first, parted by " > ".';
comment on column ai.knowledge_chunks.content_hash is
  'SHA-256 of heading and content; of equal chunks one is embedded, and a search shows one.';
comment on column ai.knowledge_chunks.token_estimate is 'About how many tokens a model reads; never far too few.';
comment on column ai.knowledge_chunks.embedding_signs is
  'Which numbers of the embedding are above 0; a search looks through these first.';
comment on column ai.knowledge_chunks.quality_score is 'How much of it is prose rather than menus and codes, 0 to 1.';
comment on column ai.knowledge_chunks.is_active is 'False: not seen for so long that it no longer counts.';
comment on column ai.knowledge_chunks.expires_at is
  'Its document''s; in no index, so that a chunk that is seen again is not entered into all of them anew.';
create index knowledge_chunks_workspace_id on ai.knowledge_chunks (workspace_id, created_at desc, id);
create index knowledge_chunks_source_type on ai.knowledge_chunks (workspace_id, source_type) where is_active;
create index knowledge_chunks_content_hash on ai.knowledge_chunks (workspace_id, content_hash);
create index knowledge_chunks_source_id on ai.knowledge_chunks (source_id);
create index knowledge_chunks_not_embedded on ai.knowledge_chunks (source_id, id) where embedding is null;
create index knowledge_chunks_search on ai.knowledge_chunks using gin (search) where is_active;
-- Nothing is planned by them, and they do not compress.
alter table ai.knowledge_chunks
  alter column embedding set statistics 0, alter column embedding_signs set statistics 0,
  alter column embedding set storage external;
-- What a search by meaning reads of each chunk of a workspace, side by side: 200 bytes instead of 6,000 elsewhere. An
-- HNSW index holds all tenants' chunks: walked for one of them, it finds the fewer the smaller its part is.
create index knowledge_chunks_signs on ai.knowledge_chunks (workspace_id) include (embedding_signs, source_type, id)
  where is_active and embedding_signs is not null;
create trigger touch_knowledge_chunks before update on ai.knowledge_chunks
  for each row execute function private.touch_updated_at();
alter table ai.knowledge_chunks enable row level security;
revoke all on table ai.knowledge_chunks from public, anon, authenticated, service_role;
grant select on table ai.knowledge_chunks to authenticated;
grant select, insert, update, delete on table ai.knowledge_chunks to service_role;
create policy "Members see the chunks of their workspaces' knowledge" on ai.knowledge_chunks
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
