-- Search of knowledge: by the words, by the vector of a question, or by both. The core looks without row security,
-- after it has checked the caller: text search and distance are not leakproof, so that no index would serve them else.

-- Any of the words: whoever asks in a sentence does not know which of them the text uses.
create function private.knowledge_query(workspace_id uuid, query text) returns tsquery
language sql stable
set search_path = ''
as $$
  select regexp_replace(private.search_query(knowledge_query.workspace_id,
    regexp_replace(knowledge_query.query, '["?!,;:()]+|\s-+', ' ', 'g'))::text, '&|<[-0-9]+>', '|', 'g')::tsquery
$$;
comment on function private.knowledge_query(uuid, text) is 'What people ask, as a text search for any of its words.';
revoke all on function private.knowledge_query from public, anon, authenticated, service_role;

create type ai.knowledge_hit as (
  chunk_id uuid, source_id uuid, source_doc_id uuid, source_type text, source_url text, source_title text,
  heading text, content text, chunk_index integer, total_chunks integer, last_verified_at timestamptz,
  similarity double precision, score double precision
);
comment on type ai.knowledge_hit is
  'A found chunk: similarity is the cosine to the question (null: found by words alone), score orders the hits.';

-- The nearest chunks: the signs of all of the workspace's are compared to find the 400 most alike, whose distance is
-- then measured. What has expired since the last sweep takes the place of others among these.
create function private.nearest_chunks(workspace_id uuid, embedding ai.embedding, filter text, source_types text[])
returns table (id uuid, similarity double precision)
language plpgsql stable
set search_path = ''
as $$
declare
  v_vector text := private.pgvector_schema();
begin
  return query execute format('with alike as materialized (
      select c.id from ai.knowledge_chunks c
      where c.workspace_id = $1 and c.is_active and c.embedding_signs is not null %s
      order by %s limit 400)
    select c.id, 1 - ai.cosine_distance(c.embedding, $3) from alike a join ai.knowledge_chunks c on c.id = a.id
    where %s order by 2 desc nulls last, 1 limit 100',
    case when source_types is not null then 'and c.source_type = any ($4)' else '' end,
    case when v_vector is null then 'bit_count(c.embedding_signs # $2)'
      else format('c.embedding_signs operator(%I.<~>) $2', v_vector) end, filter)
    using workspace_id, private.embedding_signs(embedding), embedding, source_types;
end $$;
comment on function private.nearest_chunks is 'Up to a hundred chunks of a workspace that are nearest to a vector.';
revoke all on function private.nearest_chunks from public, anon, authenticated, service_role;

-- Both lists are joined by their ranks (reciprocal rank fusion, k = 60: Cormack, Clarke, Buettcher, 2009). Of equal
-- texts the best is shown.
create function private.search_knowledge(workspace_id uuid, query text, query_embedding ai.embedding, most integer,
  source_types text[], min_similarity double precision) returns setof ai.knowledge_hit
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_words tsquery := private.knowledge_query(workspace_id, query);
  v_filter text := 'c.workspace_id = $1 and c.is_active and (c.expires_at is null or c.expires_at > private.now())'
    || case when source_types is not null then ' and c.source_type = any ($4)' else '' end;
begin
  perform private.require_role(workspace_id, 'viewer');
  if most is null or most not between 1 and 50 then
    perform private.fail('invalid_argument', 'most is 1 to 50.', '{"argument": "most"}');
  elsif v_words is null and query_embedding is null then
    perform private.fail('invalid_argument', 'query must have a word, or query_embedding a vector.',
      '{"argument": "query"}');
  end if;
  return query execute 'with near as (
      select n.id, n.similarity, row_number() over (order by n.similarity desc nulls last, n.id) as rank
      from private.nearest_chunks($1, $2, $5, $4) n where $2 is not null and n.similarity >= $6
    ), worded as (
      select w.id, row_number() over (order by w.rank desc, w.id) as rank
      from (select c.id, ts_rank(c.search, $3) as rank from ai.knowledge_chunks c
        where ' || v_filter || ' and c.search @@ $3 limit 250) w
      order by 2 limit 100
    ), joined as (
      select coalesce(n.id, w.id) as id, n.similarity,
        coalesce(1.0 / (60 + n.rank), 0) + coalesce(1.0 / (60 + w.rank), 0) as score
      from near n full join worded w on w.id = n.id
    ), best as (
      select distinct on (c.content_hash) c.id, c.source_id, c.source_doc_id, c.source_type, c.source_url,
        c.source_title, c.heading, c.content, c.chunk_index, c.total_chunks, c.last_verified_at, j.similarity,
        j.score::double precision as score
      from joined j join ai.knowledge_chunks c on c.id = j.id
      order by c.content_hash, j.score desc, c.id
    )
    select b.* from best b order by b.score desc, b.similarity desc nulls last, b.id limit $7'
    using workspace_id, query_embedding, v_words, source_types, v_filter, coalesce(min_similarity, -1), most;
end $$;
comment on function private.search_knowledge is 'Core of ai.search_knowledge.';
revoke all on function private.search_knowledge from public, anon, authenticated, service_role;
grant execute on function private.search_knowledge to authenticated, service_role;

-- Vectors come over the API as JSON, whatever type the server keeps them in.
create function private.embedding_of(numbers jsonb) returns ai.embedding
language sql immutable
set search_path = ''
as $$
  select v.numbers from jsonb_to_record(jsonb_build_object('numbers', embedding_of.numbers)) as v (numbers ai.embedding)
$$;
comment on function private.embedding_of(jsonb) is 'An array of 1,536 numbers as an embedding; null for null.';
revoke all on function private.embedding_of from public, anon, authenticated, service_role;
grant execute on function private.embedding_of to authenticated, service_role;

create function ai.search_knowledge(workspace_id uuid, query text default null,
  query_embedding jsonb default null, most integer default 8, source_types text[] default null,
  min_similarity double precision default null)
returns setof ai.knowledge_hit
language sql stable
set search_path = ''
as $$
  select * from private.search_knowledge(search_knowledge.workspace_id, search_knowledge.query,
    private.embedding_of(search_knowledge.query_embedding), search_knowledge.most, search_knowledge.source_types,
    search_knowledge.min_similarity)
$$;
comment on function ai.search_knowledge is
  'Chunks that answer a question, best first: by its words, by its vector, or by both. The function assistant/search '
  'makes the vector.';
revoke all on function ai.search_knowledge from public, anon, authenticated, service_role;
grant execute on function ai.search_knowledge to authenticated, service_role;
