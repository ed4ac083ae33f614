-- What a catalog job would do and cost, asked before it begins.

create type commerce.catalog_estimate as (
  products integer, products_new integer, products_updated integer, products_skipped integer,
  products_without_image integer, pictures integer, product_amount_micro bigint, amount_micro bigint,
  amount_credits numeric, available_micro bigint, affordable boolean, estimated_seconds integer
);
comment on type commerce.catalog_estimate is
  'What a catalog job would do and cost; amounts in micro-units, credits of six micro-units.';

create function private.estimate_catalog_job(account_id uuid, import_batch_id uuid, collection_id uuid, tag text,
  product_ids uuid[], model_ids uuid[], persona_id uuid, tryon_count integer, studio_pictures boolean, quality text,
  instructions text, delta_only boolean, parallel_chunks integer, parallel_products_per_chunk integer)
returns commerce.catalog_estimate
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_request commerce.catalog_jobs;
  v_estimate commerce.catalog_estimate;
begin
  v_request.connected_account_id := account_id;
  v_request.import_batch_id := estimate_catalog_job.import_batch_id;
  v_request.filter := private.catalog_filter(collection_id, tag, product_ids);
  v_request.model_ids := coalesce(estimate_catalog_job.model_ids, '{}');
  v_request.persona_id := estimate_catalog_job.persona_id;
  v_request.tryon_count := greatest(-1, least(estimate_catalog_job.tryon_count, 1000));
  v_request.studio_pictures := coalesce(estimate_catalog_job.studio_pictures, false);
  v_request.quality := estimate_catalog_job.quality;
  v_request.custom_instructions := instructions;
  v_request.parallel_chunks := estimate_catalog_job.parallel_chunks;
  v_request.parallel_products_per_chunk := greatest(-1,
    least(estimate_catalog_job.parallel_products_per_chunk, 1000));
  v_request := private.check_catalog_request(v_request);
  perform private.require_role(v_request.workspace_id, 'viewer');
  select count(*) filter (where p.wanted and p.has_image),
    count(*) filter (where p.wanted and p.has_image and p.is_new),
    count(*) filter (where p.wanted and p.has_image and not p.is_new),
    count(*) filter (where not p.wanted), count(*) filter (where p.wanted and not p.has_image)
  into v_estimate.products, v_estimate.products_new, v_estimate.products_updated, v_estimate.products_skipped,
    v_estimate.products_without_image
  from (select o.is_new, o.image_url is not null as has_image,
      not (o.is_made and coalesce(estimate_catalog_job.delta_only, true)) as wanted
    from private.catalog_pool(v_request) o) p;
  v_estimate.pictures := v_estimate.products * (v_request.tryon_count + v_request.studio_pictures::integer);
  select q.available_micro, q.amount_micro into v_estimate.available_micro, v_estimate.product_amount_micro
  from billing.quote(v_request.workspace_id, v_request.meter, v_request.units_per_product) q;
  v_estimate.amount_micro := private.catalog_amount(v_request, v_estimate.products);
  v_estimate.amount_credits := round(v_estimate.amount_micro / 6.0, 2);
  v_estimate.affordable := v_estimate.available_micro >= v_estimate.amount_micro;
  v_estimate.estimated_seconds := private.catalog_seconds(v_request, v_estimate.products);
  return v_estimate;
end $$;
comment on function private.estimate_catalog_job is 'Core of commerce.estimate_catalog_job; checks the caller first.';
revoke all on function private.estimate_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.estimate_catalog_job to authenticated, service_role;

-- What a catalog job with these settings would make now and what it would cost at most. Viewers may ask. Errors:
-- unknown_account, unknown_import, unknown_shop_collection, unknown_model, unknown_persona, persona_without_picture,
-- invalid_argument.
create function commerce.estimate_catalog_job(account_id uuid default null, import_batch_id uuid default null,
  collection_id uuid default null, tag text default null, product_ids uuid[] default null,
  model_ids uuid[] default '{}', persona_id uuid default null, tryon_count integer default 2,
  studio_pictures boolean default false, quality text default 'balanced', instructions text default null,
  delta_only boolean default true, parallel_chunks integer default 5, parallel_products_per_chunk integer default 5)
returns commerce.catalog_estimate
language sql stable
set search_path = ''
as $$
  select private.estimate_catalog_job(account_id, import_batch_id, collection_id, tag, product_ids, model_ids,
    persona_id, tryon_count, studio_pictures, quality, instructions, delta_only, parallel_chunks,
    parallel_products_per_chunk)
$$;
comment on function commerce.estimate_catalog_job is
  'How many products and pictures a catalog job would make, what it would cost, and what it would leave out.';
revoke all on function commerce.estimate_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.estimate_catalog_job to authenticated, service_role;
