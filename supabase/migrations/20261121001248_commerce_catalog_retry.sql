-- What failed is tried again, and what waited for credits goes on.

create function private.retry_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := private.catalog_job_of_caller(catalog_job_id);
  v_only commerce.catalog_jobs := v_job;
begin
  perform private.require_role(v_job.workspace_id, 'editor');
  if v_job.status = 'cancelling' then
    perform private.refuse_ended_catalog_job(v_job);
  end if;
  -- as the shop has them now
  v_only.filter := jsonb_build_object('product_ids', (select coalesce(jsonb_agg(
      coalesce(i.product_id, i.imported_product_id)), '[]') from commerce.catalog_job_products i
    where i.catalog_job_id = v_job.id and i.status = 'failed'
      and num_nonnulls(i.product_id, i.imported_product_id) > 0));
  update commerce.catalog_job_products i
  set status = 'pending', chunk_id = null, job_id = null, error_code = null, error_message = null, completed_at = null,
    started_at = null, title = p.title, image_url = p.image_url, category = p.category, model_bucket = p.model_bucket,
    model_path = p.model_path, content_hash = p.content_hash
  from private.catalog_pool(v_only) p
  where i.catalog_job_id = v_job.id and i.status = 'failed' and p.image_url is not null
    and (v_job.tryon_count = 0 or p.model_path is not null) and not (v_job.delta_only and p.is_made)
    and coalesce(i.product_id, i.imported_product_id) = coalesce(p.product_id, p.imported_product_id);
  if not found then
    perform private.fail('nothing_to_retry', 'No product has failed that could be tried again.',
      jsonb_build_object('catalog_job_id', v_job.id));
  end if;
  update commerce.catalog_jobs j set retry_count = j.retry_count + 1, items_failed = c.failed,
    items_processed = j.items_succeeded + c.failed, completed_at = null,
    status = case when j.completed_at is null then j.status else 'paused' end
  from (select count(*) as failed from commerce.catalog_job_products i
    where i.catalog_job_id = v_job.id and i.status = 'failed') c
  where j.id = v_job.id returning * into v_job;
  return private.let_catalog_job_go_on(v_job);
exception when unique_violation then
  perform private.fail('catalog_job_running', 'Another catalog job of this shop or import has not ended.',
    jsonb_build_object('catalog_job_id', (select j.id from commerce.catalog_jobs j where j.completed_at is null
      and coalesce(j.connected_account_id, j.import_batch_id)
        = coalesce(v_job.connected_account_id, v_job.import_batch_id))));
  return null;
end $$;
comment on function private.retry_catalog_job(uuid) is 'Core of commerce.retry_catalog_job; checks the caller first.';
revoke all on function private.retry_catalog_job from public, anon, authenticated, service_role;
grant execute on function private.retry_catalog_job to authenticated, service_role;

-- Only products that failed are tried again, as the shop has them now; with delta_only not those that another job has
-- made meanwhile. A catalog job that has ended goes on.
-- Errors: unknown_catalog_job, role_too_low, catalog_job_ended, nothing_to_retry, catalog_job_running.
create function commerce.retry_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language sql
set search_path = ''
as $$ select private.retry_catalog_job(catalog_job_id) $$;
comment on function commerce.retry_catalog_job(uuid) is 'Tries the failed products of a catalog job again.';
revoke all on function commerce.retry_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.retry_catalog_job to authenticated, service_role;

-- Sweep: catalog jobs whose workspaces can pay for a product again go on. One that somebody holds has its turn next
-- time.
create function commerce.resume_paid_catalog_jobs() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
  v_resumed integer := 0;
begin
  for v_job in
    select * from commerce.catalog_jobs j where j.status = 'waiting_for_credits' order by j.last_activity_at limit 500
    for update skip locked
  loop
    continue when not exists (select from billing.wallets w
        where w.workspace_id = v_job.workspace_id and w.status = 'active')
      or not (select q.affordable from billing.quote(v_job.workspace_id, v_job.meter,
        v_job.units_per_product) q);
    perform private.let_catalog_job_go_on(v_job);
    v_resumed := v_resumed + 1;
  end loop;
  return v_resumed;
end $$;
comment on function commerce.resume_paid_catalog_jobs() is
  'Sweep: lets catalog jobs go on that waited for credits; returns how many.';
revoke all on function commerce.resume_paid_catalog_jobs from public, anon, authenticated, service_role;
grant execute on function commerce.resume_paid_catalog_jobs to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('resume paid catalog jobs', 'commerce.resume_paid_catalog_jobs', interval '10 seconds');

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table commerce.catalog_jobs;
  end if;
end $$;
