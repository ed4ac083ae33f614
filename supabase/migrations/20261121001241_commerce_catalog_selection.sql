-- Which products a catalog job takes, in which order, and what that costs: asked before it begins, and by its first
-- step.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_shop_collection', 'PT404', 'Choose a collection of this shop.'),
  ('unknown_catalog_job', 'PT404', 'Use the id of a catalog job of one of your workspaces.'),
  ('persona_without_picture', 'PT409', 'Choose a face of the persona, or make a picture of it, first.'),
  ('catalog_job_running', 'PT409', 'Wait for the other catalog job of this shop or import, or cancel it.'),
  ('catalog_job_ended', 'PT409', 'Start another catalog job, or try its failed products again.'),
  ('nothing_to_retry', 'PT409', 'No product of this catalog job has failed.'),
  ('catalog_product_settled', 'PT409', 'Try the failed products of the catalog job again: commerce.retry_catalog_job.');

-- The part of the body that a product is worn on, as its shop describes it.
create function private.garment_category(product_type text, title text, tags text[]) returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select case
    when words ~ '\m(dress(es)?|gowns?|jumpsuits?|overalls?|rompers?|kaftans?|robes?)\M' then 'dresses'
    when words ~ '\m(trouser|trousers|pants?|jeans|shorts|skirts?|leggings|chinos|joggers|sweatpants|culottes|tights)\M'
      then 'lower_body'
    else 'upper_body' end
  -- the type decides; the title, where the type says nothing
  from (select lower(case when coalesce(product_type, '') = '' then title || ' ' || private.words_of(tags)
    else product_type end) as words) w
$$;
comment on function private.garment_category(text, text, text[]) is
  'upper_body, lower_body or dresses, by a product''s type, or else its title and tags.';
revoke all on function private.garment_category from public, anon, authenticated, service_role;

-- One product as a catalog job sees it, whatever it came from.
create type private.catalog_source as (
  product_id uuid, imported_product_id uuid, title text, images text[], category text, generated_at timestamptz,
  newest_at timestamptz
);

create function private.catalog_sources(request commerce.catalog_jobs) returns setof private.catalog_source
language sql stable
set search_path = ''
as $$
  select p.id, null::uuid, p.title,
    -- without those that catalog jobs have put there
    array(select split_part(e.image ->> 'url', '?', 1) from jsonb_array_elements(p.images) with ordinality e (image, n)
      where e.image ->> 'url' is not null
        and split_part(e.image ->> 'url', '?', 1) <> all (array(select unnest(i.published_urls)
          from commerce.catalog_job_products i where i.product_id = p.id and i.publish_status = 'published'))
      order by e.n),
    private.garment_category(p.product_type, p.title, p.tags), p.ai_generated_at,
    coalesce(p.shopify_created_at, p.created_at)
  from commerce.shopify_products p
  where p.connected_account_id = request.connected_account_id and p.deleted_at is null
    and (p.status <> 'archived' or request.filter ? 'product_ids')
    and (not request.filter ? 'tag' or p.tags @> array[request.filter ->> 'tag'])
    and (not request.filter ? 'product_ids'
      or p.id = any (array(select jsonb_array_elements_text(request.filter -> 'product_ids'))::uuid[]))
    and (not request.filter ? 'collection_id' or p.id in (select m.product_id
      from commerce.shopify_collection_products m where m.collection_id = (request.filter ->> 'collection_id')::uuid))
  union all
  select null, p.id, p.title, array(select jsonb_array_elements_text(p.images)),
    coalesce((array['upper_body', 'lower_body', 'dresses'])[
        array_position(array['upper_body', 'lower_body', 'dresses'], p.garment_category)],
      private.garment_category(coalesce(p.garment_type, p.product_type), p.title, p.tags)), p.ai_generated_at,
    p.created_at
  from commerce.imported_products p
  where p.import_batch_id = request.import_batch_id and p.workspace_id = request.workspace_id
    and (not request.filter ? 'tag' or p.tags @> array[request.filter ->> 'tag'])
    and (not request.filter ? 'product_ids'
      or p.id = any (array(select jsonb_array_elements_text(request.filter -> 'product_ids'))::uuid[]))
$$;
comment on function private.catalog_sources(commerce.catalog_jobs) is
  'The products that the filter of a catalog job lets through.';
revoke all on function private.catalog_sources from public, anon, authenticated, service_role;

-- Where a persona stands for garments to be tried on: the newest picture that was made of it, or else its face. In the
-- bucket studio-results.
create function private.persona_picture(persona_id uuid) returns text
language sql stable
set search_path = ''
as $$
  select coalesce(
    (select c.result_paths[1] from studio.persona_creations l join studio.creations c on c.id = l.creation_id
      where l.workspace_id = p.workspace_id and l.persona_id = p.id and l.purpose = 'image' and c.status = 'completed'
      order by l.created_at desc limit 1),
    p.face_paths[p.selected_face_index + 1])
  from studio.personas p where p.id = persona_picture.persona_id
$$;
comment on function private.persona_picture(uuid) is 'The picture of a persona that garments are tried on, or null.';
revoke all on function private.persona_picture from public, anon, authenticated, service_role;

-- What would be made of each product: with which model, whether it is new, and whether it has been made before. A model
-- belongs to a product by the product's id, so that the same settings give the same person again.
create function private.catalog_pool(request commerce.catalog_jobs)
returns table (product_id uuid, imported_product_id uuid, title text, image_url text, category text, model_bucket text,
  model_path text, content_hash text, is_new boolean, is_made boolean, newest_at timestamptz)
language sql stable
set search_path = ''
as $$
  with models as (
    select case when request.persona_id is null then 'studio-uploads' else 'studio-results' end as bucket,
      case when request.persona_id is null then (select array_agg(m.storage_path order by u.n)
          from unnest(request.model_ids) with ordinality u (id, n) join studio.models m on m.id = u.id)
        else array[private.persona_picture(request.persona_id)] end as paths
  ), sources as (
    select s.*, m.bucket, m.paths[1 + mod(abs(hashtext(coalesce(s.product_id, s.imported_product_id)::text)::bigint),
      cardinality(m.paths))] as model_path
    from private.catalog_sources(request) s cross join models m
  ), hashed as (
    select s.*, encode(private.content_hash(jsonb_build_array(s.title, s.images, s.model_path, request.tryon_count,
      request.studio_pictures, request.quality, request.custom_instructions)), 'hex') as hash
    from sources s
  )
  select h.product_id, h.imported_product_id, h.title, h.images[1], h.category,
    case when h.model_path is not null then h.bucket end, h.model_path, h.hash,
    h.generated_at is null, exists (select from commerce.catalog_job_products i
      where h.product_id is not null and i.product_id = h.product_id and i.content_hash = h.hash
        and i.status = 'succeeded')
      or exists (select from commerce.catalog_job_products i where h.imported_product_id is not null
        and i.imported_product_id = h.imported_product_id and i.content_hash = h.hash and i.status = 'succeeded'),
    h.newest_at
  from hashed h
$$;
comment on function private.catalog_pool(commerce.catalog_jobs) is
  'The products of a catalog job with what would be made of them, those that need nothing included.';
revoke all on function private.catalog_pool from public, anon, authenticated, service_role;

-- Whose products are meant, by a shop or an import that the caller sees. Errors: unknown_account, unknown_import.
create function private.catalog_request_source(request commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql stable
set search_path = ''
as $$
begin
  if num_nonnulls(request.connected_account_id, request.import_batch_id) <> 1 then
    perform private.fail('invalid_argument', 'account_id: exactly one of account_id and import_batch_id is required.',
      '{"argument": "account_id"}');
  end if;
  select a.workspace_id into request.workspace_id from integrations.connected_accounts a
  where a.id = request.connected_account_id and a.provider = 'shopify';
  if request.import_batch_id is not null then
    select b.workspace_id into request.workspace_id from commerce.product_import_batches b
    where b.id = request.import_batch_id;
  end if;
  if request.workspace_id is null or not private.has_role(request.workspace_id, 'viewer') then
    perform private.fail(case when request.import_batch_id is null then 'unknown_account' else 'unknown_import' end,
      'There is no such shop or import in your workspaces.', jsonb_strip_nulls(jsonb_build_object(
        'account_id', request.connected_account_id, 'import_batch_id', request.import_batch_id)));
  end if;
  return request;
end $$;
comment on function private.catalog_request_source(commerce.catalog_jobs) is
  'Finds the workspace of a catalog request; refuses what the caller does not see.';
revoke all on function private.catalog_request_source from public, anon, authenticated, service_role;

-- What one product costs: the pictures of both kinds by the same meter. A kind without a price costs a unit a picture.
create function private.price_catalog_request(request commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql stable
set search_path = ''
as $$
declare
  v_request commerce.catalog_jobs := request;
begin
  select min(coalesce(p.meter, t.meter)), sum(k.pictures * coalesce(p.units, 1))
  into v_request.meter, v_request.units_per_product
  from (values ('tryon', request.tryon_count::integer), ('bg_remove', request.studio_pictures::integer))
    k (creation_type, pictures)
  join studio.creation_types t on t.creation_type = k.creation_type
  left join studio.creation_prices p on p.creation_type = t.creation_type and p.quality = request.quality
  where k.pictures > 0;
  return v_request;
end $$;
comment on function private.price_catalog_request(commerce.catalog_jobs) is
  'Fills in by which meter, and with how many units a product, a catalog job is charged.';
revoke all on function private.price_catalog_request from public, anon, authenticated, service_role;

-- Errors: unknown_persona, persona_without_picture.
create function private.check_catalog_persona(request commerce.catalog_jobs) returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if request.persona_id is null then
    return;
  end if;
  if not exists (select from studio.personas p
    where p.id = request.persona_id and p.workspace_id = request.workspace_id) then
    perform private.fail('unknown_persona', 'There is no such persona in this workspace.',
      jsonb_build_object('persona_id', request.persona_id));
  elsif private.persona_picture(request.persona_id) is null then
    perform private.fail('persona_without_picture', 'The persona has no picture that a garment could be tried on.',
      jsonb_build_object('persona_id', request.persona_id));
  end if;
end $$;
comment on function private.check_catalog_persona(commerce.catalog_jobs) is
  'Refuses a persona that is not the workspace''s, or that has no picture.';
revoke all on function private.check_catalog_persona from public, anon, authenticated, service_role;

-- Errors: invalid_argument, unknown_shop_collection, unknown_model, as catalog_request_source, check_catalog_persona.
create function private.check_catalog_request(request commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql stable
set search_path = ''
as $$
declare
  v_request commerce.catalog_jobs := private.catalog_request_source(request);
  v_wrong text := case
    when request.tryon_count is null or request.tryon_count not between 0 and 4 then 'tryon_count: must be 0 to 4'
    when request.tryon_count = 0 and not request.studio_pictures
      then 'tryon_count: must be at least 1, or studio_pictures true'
    when request.tryon_count > 0 and (cardinality(request.model_ids) > 0) = (request.persona_id is not null)
      then 'model_ids: try-ons need either models or a persona'
    when cardinality(request.model_ids) > 10 then 'model_ids: must be at most 10'
    when request.quality is null or request.quality not in ('fast', 'balanced', 'high', 'ultra')
      then 'quality: must be fast, balanced, high or ultra'
    when length(request.custom_instructions) > 4000 then 'instructions: must have at most 4000 characters'
    when jsonb_array_length(request.filter -> 'product_ids') not between 1 and 10000
      then 'product_ids: must be 1 to 10,000'
    when request.filter ? 'collection_id' and request.import_batch_id is not null
      then 'collection_id: imports have no collections'
    when request.chunk_size not between 1 and 500 then 'chunk_size: must be 1 to 500'
    when request.parallel_chunks not between 1 and 10 then 'parallel_chunks: must be 1 to 10'
    when request.chunk_size * request.parallel_chunks > 500
      then 'chunk_size: chunk_size times parallel_chunks must be at most 500'
    when request.parallel_products_per_chunk not between 1 and 20
      then 'parallel_products_per_chunk: must be 1 to 20'
    when request.priority_mode not in ('new_first', 'newest_first', 'catalog_order')
      then 'priority_mode: must be new_first, newest_first or catalog_order'
    when request.max_failed_products < 0 then 'max_failed_products: must not be negative'
    when request.auto_publish and request.connected_account_id is null
      then 'auto_publish: needs a shop, and an import has none'
  end;
begin
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  elsif request.filter ? 'collection_id' and not exists (select from commerce.shopify_collections c
    where c.id = (request.filter ->> 'collection_id')::uuid
      and c.connected_account_id = request.connected_account_id and c.deleted_at is null) then
    perform private.fail('unknown_shop_collection', 'There is no such collection in this shop.',
      jsonb_build_object('collection_id', request.filter ->> 'collection_id'));
  elsif exists (select from unnest(request.model_ids) u (id)
    where not exists (select from studio.models m where m.id = u.id and m.workspace_id = v_request.workspace_id)) then
    perform private.fail('unknown_model', 'There is no such model in this workspace.',
      jsonb_build_object('model_ids', request.model_ids));
  end if;
  perform private.check_catalog_persona(v_request);
  if request.tryon_count = 0 then
    v_request.model_ids := '{}';
    v_request.persona_id := null;
  end if;
  return private.price_catalog_request(v_request);
end $$;
comment on function private.check_catalog_request(commerce.catalog_jobs) is
  'Validates a catalog request and fills in its workspace and meter.';
revoke all on function private.check_catalog_request from public, anon, authenticated, service_role;

-- The filter as the row keeps it.
create function private.catalog_filter(collection_id uuid, tag text, product_ids uuid[]) returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_strip_nulls(jsonb_build_object('collection_id', collection_id, 'tag', tag, 'product_ids', product_ids))
$$;
comment on function private.catalog_filter(uuid, text, uuid[]) is 'What a catalog job''s column filter says.';
revoke all on function private.catalog_filter from public, anon, authenticated, service_role;
grant execute on function private.catalog_filter to authenticated, service_role;

-- Seconds that so many products take, as far as anybody knows before: a run of a provider takes about 20.
create function private.catalog_seconds(request commerce.catalog_jobs, products bigint) returns integer
language sql immutable
set search_path = ''
as $$
  select ceil(20.0 * products * ((request.tryon_count > 0)::integer + request.studio_pictures::integer)
    / least(40, request.parallel_chunks * request.parallel_products_per_chunk))::integer
$$;
comment on function private.catalog_seconds(commerce.catalog_jobs, bigint) is
  'A guess of how long a catalog job takes, in seconds.';
revoke all on function private.catalog_seconds from public, anon, authenticated, service_role;

-- What so many products cost, in micro-units.
create function private.catalog_amount(request commerce.catalog_jobs, products bigint) returns bigint
language sql stable
set search_path = ''
as $$
  select case when products = 0 then 0
    else (billing._price(request.meter, request.units_per_product * products)).amount_micro end
$$;
comment on function private.catalog_amount(commerce.catalog_jobs, bigint) is
  'What so many products of a catalog job cost, in micro-units.';
revoke all on function private.catalog_amount from public, anon, authenticated, service_role;
