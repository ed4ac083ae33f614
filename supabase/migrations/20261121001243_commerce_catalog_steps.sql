-- The coordinator of a catalog job: a job of the queue that looks about once a second what has ended, begins the next
-- chunks, and writes down the counts. It ends when the catalog job does, pauses, or runs out of credits; whoever lets
-- the catalog job go on enqueues the next one.

-- The catalog job, its coordinator locked first.
create function private.lock_catalog_job(catalog_job_id uuid) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  perform ops._lock_with_parent((select j.job_id from commerce.catalog_jobs j where j.id = catalog_job_id));
  select * into v_job from commerce.catalog_jobs j where j.id = catalog_job_id for update;
  return v_job;
end $$;
comment on function private.lock_catalog_job(uuid) is
  'Locks a catalog job, the queue''s job that coordinates it first.';
revoke all on function private.lock_catalog_job from public, anon, authenticated, service_role;

-- Has a locked catalog job coordinated from now on; the last coordinator has ended, or is about to.
create function private.begin_catalog_round(catalog_job commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := catalog_job;
begin
  v_job.round := catalog_job.round + (catalog_job.job_id is not null)::integer;
  update commerce.catalog_jobs j
  set round = v_job.round, job_id = (select q.job_id from ops.enqueue_job('commerce.catalog_job',
    jsonb_build_object('catalog_job_id', j.id, 'round', v_job.round), j.workspace_id, max_attempts => 100,
    key => format('catalog-job:%s:%s', j.id, v_job.round)) q)
  where j.id = catalog_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function private.begin_catalog_round(commerce.catalog_jobs) is 'Enqueues the coordinator of a catalog job.';
revoke all on function private.begin_catalog_round from public, anon, authenticated, service_role;

-- Writes down the products of a locked catalog job in the order in which they are worked on.
create function private.prepare_catalog_job(catalog_job commerce.catalog_jobs) returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs := catalog_job;
  v_each smallint := catalog_job.tryon_count + catalog_job.studio_pictures::integer;
  v_without integer;
begin
  with pool as materialized (
    select p.*, not (p.is_made and v_job.delta_only) as wanted, case
      when p.image_url is null then 'product_without_image: The product has no picture of its own.'
      when v_job.tryon_count > 0 and p.model_path is null
        then 'unknown_model: Nobody is left whom the garment could be tried on.' end as fault
    from private.catalog_pool(v_job) p
  ), added as (
    insert into commerce.catalog_job_products as i (catalog_job_id, workspace_id, position, product_id,
      imported_product_id, title, image_url, category, model_bucket, model_path, content_hash, is_new, pictures,
      status, error_code, error_message, completed_at)
    select v_job.id, v_job.workspace_id, row_number() over (order by
        v_job.priority_mode = 'new_first' and not p.is_new,
        case when v_job.priority_mode <> 'catalog_order' then p.newest_at end desc,
        case when v_job.priority_mode = 'catalog_order' then p.title end,
        coalesce(p.product_id, p.imported_product_id)),
      p.product_id, p.imported_product_id, p.title, p.image_url, p.category, p.model_bucket, p.model_path,
      p.content_hash, p.is_new,
      v_each, case when p.fault is null then 'pending' else 'failed' end, split_part(p.fault, ':', 1), p.fault,
      case when p.fault is not null then private.now() end
    from pool p where p.wanted
    returning i.is_new, i.status
  )
  select (select count(*) from added a where a.is_new), (select count(*) from added a where not a.is_new),
    (select count(*) from pool p where not p.wanted), (select count(*) from added a where a.status = 'failed')
  into v_job.products_new, v_job.products_updated, v_job.products_skipped, v_without;
  v_job.total_products := v_job.products_new + v_job.products_updated;
  update commerce.catalog_jobs j
  set status = 'processing', started_at = private.now(), delta_detected_at = private.now(),
    total_products = v_job.total_products, products_new = v_job.products_new,
    products_updated = v_job.products_updated, products_skipped = v_job.products_skipped,
    estimated_cost_micro = private.catalog_amount(v_job, v_job.total_products - v_without),
    estimated_duration_seconds = private.catalog_seconds(v_job, v_job.total_products - v_without)
  where j.id = v_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function private.prepare_catalog_job(commerce.catalog_jobs) is
  'Writes down which products a catalog job works on, new ones first, and what they cost.';
revoke all on function private.prepare_catalog_job from public, anon, authenticated, service_role;

-- Takes products that are at work out again, unless their pictures are being stored or, with submitted false, have
-- been asked of the provider. They become pending or cancelled, as status says.
create function private.take_back_products(catalog_job_id uuid, status text, submitted boolean) returns integer
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_jobs bigint[];
begin
  -- parents first, as the queue does
  perform from ops.live_jobs l
  where l.id = any (array(select c.job_id from commerce.catalog_job_chunks c
    where c.catalog_job_id = take_back_products.catalog_job_id and c.status = 'processing'))
  order by l.id for update;
  -- From 80 on pictures are being stored where members read them: whoever could cancel then would have them for
  -- nothing. The worker says so before it stores the first, and the lock puts the two in order.
  v_jobs := array(select l.id from ops.live_jobs l
    where l.id = any (array(select i.job_id from commerce.catalog_job_products i
        where i.catalog_job_id = take_back_products.catalog_job_id and i.status = 'processing'))
      and l.progress < case when submitted then 80 else 20 end
    order by l.id for update);
  update commerce.catalog_job_products i
  set status = take_back_products.status, job_id = null,
    chunk_id = case take_back_products.status when 'pending' then null else i.chunk_id end,
    completed_at = case take_back_products.status when 'pending' then null else private.now() end
  where i.catalog_job_id = take_back_products.catalog_job_id and i.status = 'processing' and i.job_id = any (v_jobs);
  perform ops.cancel_job(u.id) from unnest(v_jobs) u (id);
  return cardinality(v_jobs);
end $$;
comment on function private.take_back_products(uuid, text, boolean) is
  'Cancels the work on products of a catalog job that has not gone too far; returns how many.';
revoke all on function private.take_back_products from public, anon, authenticated, service_role;

create function private.write_off_catalog_products(catalog_job_id uuid) returns void
language sql
set search_path = ''
as $$
  update commerce.catalog_job_products i set status = 'cancelled', completed_at = private.now()
  where i.catalog_job_id = write_off_catalog_products.catalog_job_id and i.status = 'pending'
$$;
comment on function private.write_off_catalog_products(uuid) is
  'Cancels the products of a catalog job that have not been begun.';
revoke all on function private.write_off_catalog_products from public, anon, authenticated, service_role;

-- Cancels the publishing of a catalog job's pictures. With begun false only where nothing has been added yet: pictures
-- that a shop has been given are there, and have to be known.
create function private.stop_publishing(catalog_job_id uuid, begun boolean) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_jobs bigint[] := array(select l.id from ops.live_jobs l
    where l.id = any (array(select i.publish_job_id from commerce.catalog_job_products i
        where i.catalog_job_id = stop_publishing.catalog_job_id and i.publish_status = 'pending'))
      and l.progress < case when begun then 101 else 20 end
    order by l.id for update);
begin
  update commerce.catalog_job_products i set publish_status = 'cancelled'
  where i.catalog_job_id = stop_publishing.catalog_job_id and i.publish_status = 'pending'
    and i.publish_job_id = any (v_jobs);
  perform ops.cancel_job(u.id) from unnest(v_jobs) u (id);
end $$;
comment on function private.stop_publishing(uuid, boolean) is
  'Cancels what a catalog job has not published yet; with begun, what is being published as well.';
revoke all on function private.stop_publishing from public, anon, authenticated, service_role;

-- The queue's jobs of a catalog job's work in the queue's order: chunks, then products and what is published of them.
create function private.lock_catalog_work(catalog_job_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform from ops.live_jobs l
  where l.id = any (array(select c.job_id from commerce.catalog_job_chunks c
    where c.catalog_job_id = lock_catalog_work.catalog_job_id and c.status = 'processing'))
  order by l.id for update;
  perform from ops.live_jobs l
  where l.id = any (array(select case i.status when 'processing' then i.job_id else i.publish_job_id end
    from commerce.catalog_job_products i where i.catalog_job_id = lock_catalog_work.catalog_job_id
      and (i.status = 'processing' or i.publish_status = 'pending')))
  order by l.id for update;
end $$;
comment on function private.lock_catalog_work(uuid) is 'Locks the jobs that a catalog job has in the queue.';
revoke all on function private.lock_catalog_work from public, anon, authenticated, service_role;

-- Stops a locked catalog job for good: nothing new is asked of a provider from here on. What was not begun is written
-- off by the coordinator, however many thousands that are. With an error it ends as failed.
create function private.stop_catalog_job(catalog_job commerce.catalog_jobs, error text default null)
returns commerce.catalog_jobs
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  perform private.lock_catalog_work(catalog_job.id);
  perform private.take_back_products(catalog_job.id, 'cancelled', true);
  perform private.stop_publishing(catalog_job.id, false);
  update commerce.catalog_jobs j
  set status = 'cancelling', error_code = split_part(error, ':', 1), error_message = error
  where j.id = catalog_job.id
  returning * into v_job;
  return v_job;
end $$;
comment on function private.stop_catalog_job(commerce.catalog_jobs, text) is
  'Cancels what a catalog job has not done yet; it ends when what is being stored or published is.';
revoke all on function private.stop_catalog_job from public, anon, authenticated, service_role;

-- One look of the coordinator. is_live false: it has nothing more to do, as has one of an earlier round.
create function commerce.advance_catalog_job(catalog_job_id uuid, round integer)
returns table (status text, progress integer, stage text, is_live boolean, poll_seconds integer)
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_job commerce.catalog_jobs := private.lock_catalog_job(catalog_job_id);
  v_live integer;
  v_problem text;
begin
  if v_job.id is null or v_job.round <> advance_catalog_job.round or v_job.completed_at is not null then
    return query select coalesce(v_job.status, 'gone'), 100, null::text, false, 0;
    return;
  end if;
  if v_job.started_at is null and v_job.status in ('pending', 'processing') then
    v_job := private.prepare_catalog_job(v_job);
  end if;
  if v_job.status = 'processing' and v_job.max_failed_products < (select count(*) from commerce.catalog_job_products i
    where i.catalog_job_id = v_job.id and i.status = 'failed') then
    v_job := private.stop_catalog_job(v_job, format('too_many_failures: More than %s products have failed.',
      v_job.max_failed_products));
  end if;
  if v_job.status in ('pending', 'processing', 'pausing') and exists (select from identity.workspaces w
    where w.id = v_job.workspace_id and w.deleted_at is not null) then
    -- nobody is left who could look at its pictures
    v_job := private.stop_catalog_job(v_job);
  end if;
  if v_job.status = 'cancelling' then
    perform private.write_off_catalog_products(v_job.id);
  elsif v_job.status = 'processing' then
    v_live := (select count(*) from commerce.catalog_job_chunks c
      where c.catalog_job_id = v_job.id and c.status = 'processing');
    while v_live < v_job.parallel_chunks and v_problem is null loop
      v_problem := private.start_catalog_chunk(v_job);
      v_live := v_live + 1;
    end loop;
  end if;
  v_job := private.note_catalog_job(v_job, v_problem);
  status := v_job.status;
  progress := v_job.progress;
  stage := format('%s of %s products', v_job.items_processed, v_job.total_products);
  is_live := v_job.status in ('pending', 'processing', 'pausing', 'cancelling');
  poll_seconds := case when v_job.total_products > 20000 then 3 else 1 end;
  return next;
end $$;
comment on function commerce.advance_catalog_job(uuid, integer) is
  'Begins the next chunks of a catalog job, writes down its counts, and ends it when all is done.';
revoke all on function commerce.advance_catalog_job from public, anon, authenticated, service_role;
grant execute on function commerce.advance_catalog_job to service_role;

-- on_event of commerce.catalog_job: a coordinator that dies or is cancelled by an operator takes its work with it.
create function commerce.on_catalog_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  select * into v_job from commerce.catalog_jobs j
  where j.id = (job.payload ->> 'catalog_job_id')::uuid and j.job_id = job.id for update;
  if event = 'replayed' then
    perform private.fail('catalog_job_ended', 'Another coordinator goes on with this catalog job.', job.payload);
  elsif event not in ('dead', 'cancelled') or v_job.id is null or v_job.completed_at is not null then
    return;
  end if;
  perform private.write_off_catalog_products(v_job.id);
  perform ops.cancel_job(c.job_id) from commerce.catalog_job_chunks c
  where c.catalog_job_id = v_job.id and c.status = 'processing';
  v_job := private.stop_catalog_job(v_job, case event
    when 'dead' then coalesce(job.error, 'internal_error: The job failed.') end);
  -- nobody is left who would see it end
  perform private.stop_publishing(v_job.id, true);
  perform private.note_catalog_job(v_job);
end $$;
comment on function commerce.on_catalog_job(ops.jobs, text) is
  'Ends a catalog job whose coordinator ended before it was done.';
revoke all on function commerce.on_catalog_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event) values
  ('commerce.catalog_job', 'Coordinates a catalog job: begins its chunks and counts what they do.',
    'commerce.on_catalog_job');
