-- What becomes of a catalog job's products that their shop deletes or changes before their turn has come.

-- Products that have gone since the job looked at them are not paid for.
create function private.drop_gone_products(catalog_job_id uuid) returns void
language sql
set search_path = ''
as $$
  update commerce.catalog_job_products i
  set status = 'failed', completed_at = private.now(), error_code = 'unknown_product',
    error_message = 'unknown_product: The product has been deleted.'
  where i.catalog_job_id = drop_gone_products.catalog_job_id and i.status = 'pending'
    and not exists (select from commerce.shopify_products p where p.id = i.product_id and p.deleted_at is null)
    and i.imported_product_id is null
$$;
comment on function private.drop_gone_products(uuid) is
  'Fails the products of a catalog job that are not begun and have been deleted.';
revoke all on function private.drop_gone_products from public, anon, authenticated, service_role;

-- Products that the shop has changed since the job looked at them are made as they are now: what a paused job made of
-- old pictures would be paid for, and made again by the next.
create function private.refresh_catalog_products(catalog_job commerce.catalog_jobs, item_ids uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_only commerce.catalog_jobs := catalog_job;
  -- who writes a product at that moment may be seen a little later
  v_since timestamptz := catalog_job.delta_detected_at - interval '1 minute';
  v_written jsonb := (
    select jsonb_agg(coalesce(p.id, m.id)) from commerce.catalog_job_products i
    left join commerce.shopify_products p on p.id = i.product_id
    left join commerce.imported_products m on m.id = i.imported_product_id
    where i.id = any (item_ids) and coalesce(p.updated_at, m.updated_at) >= v_since);
begin
  if v_written is null then
    return;
  end if;
  v_only.filter := jsonb_build_object('product_ids', v_written);
  update commerce.catalog_job_products i
  set title = p.title, image_url = p.image_url, category = p.category, model_bucket = p.model_bucket,
    model_path = p.model_path, content_hash = p.content_hash
  from private.catalog_pool(v_only) p
  where i.id = any (item_ids) and i.content_hash <> p.content_hash and p.image_url is not null
    and (catalog_job.tryon_count = 0 or p.model_path is not null)
    and coalesce(i.product_id, i.imported_product_id) = coalesce(p.product_id, p.imported_product_id);
end $$;
comment on function private.refresh_catalog_products(commerce.catalog_jobs, uuid[]) is
  'Brings products that a catalog job is about to begin up to date with their shop.';
revoke all on function private.refresh_catalog_products from public, anon, authenticated, service_role;
