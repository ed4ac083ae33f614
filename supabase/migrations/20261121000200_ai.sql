-- Vectors on servers with pgvector (the hosted platform, PGlite) and without (the embedded server): one
-- domain decides the type, one helper builds the index where it can, one function measures for both.

create schema if not exists ai;
comment on schema ai is 'The embedding type and its distance; knowledge, conversations and preferences.';
revoke all on schema ai from public;
grant usage on schema ai to anon, authenticated, service_role;

create function private.pgvector_schema() returns text
language sql stable
set search_path = ''
as $$
  select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'vector'
$$;
comment on function private.pgvector_schema() is 'Where pgvector is installed; null on a server without it.';
revoke all on function private.pgvector_schema from public, anon, authenticated, service_role;

-- On the hosted platform vector may be installed already, in extensions or elsewhere: its schema is looked up.
do $$
declare
  v_schema text;
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'vector') then
    create extension if not exists vector with schema extensions;
  end if;
  v_schema := private.pgvector_schema();
  if v_schema is not null then
    execute format('create domain ai.embedding as %I.vector(1536)', v_schema);
  else
    create domain ai.embedding as real[] constraint embedding_has_1536_numbers
      check (array_ndims(value) = 1 and array_length(value, 1) = 1536 and array_position(value, null) is null);
  end if;
end $$;
comment on domain ai.embedding is 'An embedding of 1,536 numbers: vector(1536) with pgvector, real[] without.';

-- Two definitions, because the operator of pgvector can only be named where it exists. Both raise on another
-- number of dimensions (the domain) and give null for a vector of zeros, where pgvector alone says NaN.
do $$
declare
  v_schema text := private.pgvector_schema();
begin
  if v_schema is not null then
    execute format($sql$
      create function ai.cosine_distance(a ai.embedding, b ai.embedding) returns double precision
      language sql immutable strict parallel safe
      set search_path = ''
      as 'select nullif(a::%1$I.vector operator(%1$I.<=>) b::%1$I.vector, double precision ''NaN'')'
    $sql$, v_schema);
  else
    create function ai.cosine_distance(a ai.embedding, b ai.embedding) returns double precision
    language sql immutable strict parallel safe
    set search_path = ''
    as $sql$
      select 1 - sum(e.a::double precision * e.b)
        / nullif(sqrt(sum(e.a::double precision * e.a)) * sqrt(sum(e.b::double precision * e.b)), 0)
      from unnest(a::real[], b::real[]) as e (a, b)
    $sql$;
  end if;
end $$;
comment on function ai.cosine_distance(ai.embedding, ai.embedding) is
  '0 for the same direction, 1 for unrelated, 2 for opposite; null when one of them is all zeros.';
revoke all on function ai.cosine_distance from public, anon, authenticated, service_role;
grant execute on function ai.cosine_distance to authenticated, service_role;

-- Two embeddings whose signs differ in few places have a small angle between them: counting them is a hundred times
-- cheaper than the angle, and finds whom to measure.
do $$
declare
  v_schema text := private.pgvector_schema();
begin
  if v_schema is not null then
    execute format($sql$
      create function private.embedding_signs(embedding ai.embedding) returns bit(1536)
      language sql immutable strict parallel safe
      set search_path = ''
      as 'select %1$I.binary_quantize(embedding::%1$I.vector)::bit(1536)'
    $sql$, v_schema);
  else
    create function private.embedding_signs(embedding ai.embedding) returns bit(1536)
    language sql immutable strict parallel safe
    set search_path = ''
    as $sql$
      select array_to_string(array(select case when e.value > 0 then '1' else '0' end
        from unnest(embedding::real[]) as e (value)), '')::bit(1536)
    $sql$;
  end if;
end $$;
comment on function private.embedding_signs(ai.embedding) is 'Which numbers of an embedding are above 0, as bits.';
revoke all on function private.embedding_signs from public, anon, authenticated, service_role;
grant execute on function private.embedding_signs to service_role;

-- For migrations. A domain hides its dimensions from pgvector, so the index is on the cast, and a query that
-- shall use it orders by `embedding::extensions.vector(1536) operator(extensions.<=>) other`.
create function private.create_embedding_index(table_name regclass, column_name text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_schema text := private.pgvector_schema();
  v_name text;
begin
  if v_schema is null then
    return false;
  end if;
  select left(c.relname, 40) || '_' || left(create_embedding_index.column_name, 17) || '_hnsw' into v_name
  from pg_catalog.pg_class c where c.oid = create_embedding_index.table_name;
  execute format('create index if not exists %I on %s using hnsw ((%I::%I.vector(1536)) %I.vector_cosine_ops)',
    v_name, create_embedding_index.table_name, create_embedding_index.column_name, v_schema, v_schema);
  return true;
end $$;
comment on function private.create_embedding_index(regclass, text) is
  'Builds the HNSW cosine index of an embedding column where pgvector exists, and says whether it did.';
revoke all on function private.create_embedding_index from public, anon, authenticated, service_role;
