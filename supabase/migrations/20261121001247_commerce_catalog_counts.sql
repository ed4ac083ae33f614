-- What the row of a catalog job says: counted from its products and chunks, whenever its coordinator looks.

-- What a catalog job's row should say, counted from its products and chunks; its status when nothing is at work any
-- more. problem: why the next chunk could not begin.
create function private.counted_catalog_job(catalog_job commerce.catalog_jobs, problem text)
returns commerce.catalog_jobs
language plpgsql stable
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := catalog_job;
  v_pending integer;
  v_publishing integer;
  v_live integer;
  v_chunks integer;
begin
  select count(*) filter (where i.status = 'pending'), count(*) filter (where i.status = 'succeeded'),
    count(*) filter (where i.status = 'failed'), count(*) filter (where i.status = 'cancelled')
  into v_pending, v_job.items_succeeded, v_job.items_failed, v_job.items_cancelled
  from commerce.catalog_job_products i where i.catalog_job_id = v_job.id;
  select count(*) filter (where i.publish_status = 'pending'), count(*) filter (where i.publish_status = 'published'),
    count(*) filter (where i.publish_status in ('failed', 'cancelled'))
  into v_publishing, v_job.items_published, v_job.items_unpublished
  from commerce.catalog_job_products i where i.catalog_job_id = v_job.id and i.publish_status is not null;
  select count(*), count(*) filter (where c.status = 'processing'), count(*) filter (where c.status = 'completed'),
    count(*) filter (where c.status = 'failed'), coalesce(sum(c.cost_micro), 0), coalesce(sum(c.pictures_made), 0)
  into v_chunks, v_live, v_job.chunks_completed, v_job.chunks_failed, v_job.actual_cost_micro, v_job.pictures_made
  from commerce.catalog_job_chunks c where c.catalog_job_id = v_job.id;
  v_job.items_processed := v_job.items_succeeded + v_job.items_failed;
  v_job.total_chunks := v_chunks + ceil(v_pending::numeric / v_job.chunk_size);
  v_job.progress := case when v_job.total_products = 0 then 0 else least(99,
    100 * (v_job.items_processed + v_job.items_cancelled) / v_job.total_products) end;
  v_job.status := case
    when v_live > 0 or v_publishing > 0 then v_job.status
    when v_job.status = 'pausing' then 'paused'
    when v_job.status = 'cancelling' then case when v_pending > 0 then 'cancelling'
      when v_job.error_code is null then 'cancelled' else 'failed' end
    when v_job.status <> 'processing' then v_job.status
    when v_pending > 0 then case when problem is null then 'processing' else 'waiting_for_credits' end
    when v_job.items_failed > 0 and v_job.items_succeeded = 0 then 'failed'
    else 'completed' end;
  if v_job.status = 'waiting_for_credits' then
    v_job.error_code := split_part(problem, ':', 1);
    v_job.error_message := problem;
  elsif v_job.status = 'failed' then
    v_job.error_code := coalesce(v_job.error_code, 'all_products_failed');
    v_job.error_message := coalesce(v_job.error_message, 'all_products_failed: No product has got its pictures.');
  end if;
  return v_job;
end $$;
comment on function private.counted_catalog_job(commerce.catalog_jobs, text) is
  'The counts and the status of a catalog job, as its products have them.';
revoke all on function private.counted_catalog_job from public, anon, authenticated, service_role;

-- Tells who began a catalog job that it has ended or waits for them; once for each round.
create function private.tell_of_catalog_job(catalog_job commerce.catalog_jobs) returns void
language plpgsql
set search_path = ''
as $$
begin
  if catalog_job.created_by is null or catalog_job.status not in ('completed', 'failed', 'waiting_for_credits') then
    return;
  end if;
  perform private.notify_user(catalog_job.created_by, catalog_job.workspace_id,
    case catalog_job.status when 'completed' then 'success' when 'failed' then 'error' else 'warning' end,
    case catalog_job.status when 'completed' then 'Your catalog has its pictures'
      when 'failed' then 'The pictures of your catalog could not be made'
      else 'The pictures of your catalog wait for credits' end,
    format('%s of %s products are done, %s failed.', catalog_job.items_succeeded, catalog_job.total_products,
      catalog_job.items_failed),
    '/catalog/jobs/' || catalog_job.id, jsonb_build_object('catalog_job_id', catalog_job.id),
    format('catalog-job:%s:%s:%s', catalog_job.id, catalog_job.round, catalog_job.status));
end $$;
comment on function private.tell_of_catalog_job(commerce.catalog_jobs) is
  'Notifies the person who began a catalog job of its end or of missing credits.';
revoke all on function private.tell_of_catalog_job from public, anon, authenticated, service_role;

-- Writes the counts of a locked catalog job, if they have changed, and ends or parks it when nothing is at work.
create function private.note_catalog_job(catalog_job commerce.catalog_jobs, problem text default null)
returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := private.counted_catalog_job(catalog_job, problem);
  v_over boolean := v_job.status in ('completed', 'failed', 'cancelled');
begin
  if v_job is not distinct from catalog_job and not v_over then
    return catalog_job;
  end if;
  update commerce.catalog_jobs j
  set status = v_job.status, items_processed = v_job.items_processed, items_succeeded = v_job.items_succeeded,
    items_failed = v_job.items_failed, items_cancelled = v_job.items_cancelled,
    items_published = v_job.items_published, items_unpublished = v_job.items_unpublished,
    pictures_made = v_job.pictures_made, total_chunks = v_job.total_chunks,
    chunks_completed = v_job.chunks_completed, chunks_failed = v_job.chunks_failed,
    actual_cost_micro = v_job.actual_cost_micro, error_code = v_job.error_code, error_message = v_job.error_message,
    progress = case when v_over then 100 else v_job.progress end, last_activity_at = private.now(),
    completed_at = case when v_over then private.now() end
  where j.id = v_job.id
  returning * into v_job;
  if v_job.status <> catalog_job.status then
    perform private.tell_of_catalog_job(v_job);
  end if;
  return v_job;
end $$;
comment on function private.note_catalog_job(commerce.catalog_jobs, text) is
  'Brings the row of a catalog job up to date with its products.';
revoke all on function private.note_catalog_job from public, anon, authenticated, service_role;
