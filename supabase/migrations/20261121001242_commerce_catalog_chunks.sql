-- Chunks: some products of a catalog job, their hold of credits and their jobs in the queue, begun in one transaction
-- and settled in the one that ends the chunk's job. Locks are taken in the order of the queue: the job that
-- coordinates, the chunk's, the products', then the catalog job's row, then the wallet, then the shop.

-- Products at once in a chunk: each number has a prefix of limit keys of its own, and a chunk is one key of it.
insert into ops.limits (scope, subject, max_running, description)
select 'key', 'catalog_' || n, n, format('Products at work at the same time in a catalog chunk that asks for %s.', n)
from generate_series(1, 20) n;

-- How a chunk is charged for so many units: by its hold, or, where that has run out meanwhile, by a charge of its own.
create function private.charge_catalog_chunk(chunk commerce.catalog_job_chunks, made numeric, reason text)
returns billing.usage_result
language plpgsql
set search_path = ''
as $$
declare
  v_event billing.usage_events;
  v_nothing billing.usage_result := row(chunk.usage_event_id, 'released', 0, false);
begin
  select * into v_event from billing.usage_events e where e.id = chunk.usage_event_id;
  if v_event.status = 'held' and made > 0 then
    return billing.capture_usage(v_event.id, made);
  elsif v_event.status = 'held' then
    perform billing.release_usage(v_event.id, reason);
  end if;
  if made = 0 then
    return v_nothing;
  end if;
  begin
    return billing.record_usage(chunk.workspace_id, (select m.slug from billing.meters m where m.id = v_event.meter_id),
      made, 'catalog-chunk:' || chunk.id || ':late', v_event.metadata);
  exception when others then
    -- the pictures are there and cannot be paid any more: the chunk must end all the same
    if sqlerrm !~ '^(insufficient_credits|wallet_frozen): ' then
      raise;
    end if;
    return v_nothing;
  end;
end $$;
comment on function private.charge_catalog_chunk(commerce.catalog_job_chunks, numeric, text) is
  'Captures a chunk''s hold for the units that were made and releases the rest; returns the charge.';
revoke all on function private.charge_catalog_chunk from public, anon, authenticated, service_role;

-- Products whose pictures a chunk has made are not new any more. The shop's lock keeps the order of its rows.
create function private.note_generated_products(chunk_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_account uuid := (select j.connected_account_id from commerce.catalog_job_chunks c
    join commerce.catalog_jobs j on j.id = c.catalog_job_id where c.id = note_generated_products.chunk_id);
begin
  if v_account is not null then
    perform private.lock_shop(v_account);
    update commerce.shopify_products p
    set ai_generated_at = private.now(), content_hash_at_generation = i.content_hash
    from commerce.catalog_job_products i
    where i.chunk_id = note_generated_products.chunk_id and i.status = 'succeeded' and p.id = i.product_id;
  else
    update commerce.imported_products p set ai_generated_at = private.now()
    from commerce.catalog_job_products i
    where i.chunk_id = note_generated_products.chunk_id and i.status = 'succeeded' and p.id = i.imported_product_id;
  end if;
end $$;
comment on function private.note_generated_products(uuid) is
  'Notes on the products that a chunk has made pictures of what these show.';
revoke all on function private.note_generated_products from public, anon, authenticated, service_role;
comment on column commerce.shopify_products.content_hash_at_generation is
  'content_hash of the last catalog job that made pictures of the product.';
comment on column commerce.shopify_products.ai_generated_at is 'When a catalog job made pictures of it last.';

-- Ends a chunk: counts its products, charges what they made, gives back the rest of the hold. error: why its job did
-- not end well; what is still at work then ends as status says.
create function private.settle_catalog_chunk(chunk_id uuid, status text default null, error text default null)
returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_chunk commerce.catalog_job_chunks;
  v_units numeric;
  v_charge billing.usage_result;
  v_jobs bigint[];
begin
  select * into v_chunk from commerce.catalog_job_chunks c where c.id = chunk_id for update;
  if v_chunk.status is distinct from 'processing' then
    return;
  end if;
  if status is not null then
    with ended as (
      update commerce.catalog_job_products i
      set status = settle_catalog_chunk.status, completed_at = private.now(),
        error_code = case settle_catalog_chunk.status when 'failed' then split_part(error, ':', 1) end,
        error_message = case settle_catalog_chunk.status when 'failed' then error end
      where i.chunk_id = v_chunk.id and i.status = 'processing'
      returning i.job_id
    )
    select array_agg(e.job_id order by e.job_id) into v_jobs from ended e;
    perform ops.cancel_job(u.id) from unnest(v_jobs) u (id)
    where exists (select from ops.live_jobs l where l.id = u.id);
  end if;
  select count(*) filter (where i.status = 'succeeded'), count(*) filter (where i.status = 'failed'),
    coalesce(sum(cardinality(i.result_paths)) filter (where i.status = 'succeeded'), 0),
    coalesce(sum(round(j.units_per_product * cardinality(i.result_paths) / i.pictures, 6))
      filter (where i.status = 'succeeded'), 0)
  into v_chunk.succeeded, v_chunk.failed, v_chunk.pictures_made, v_units
  from commerce.catalog_job_products i join commerce.catalog_jobs j on j.id = i.catalog_job_id
  where i.chunk_id = v_chunk.id;
  -- the wallet before the shop: chunks of several shops end in one transaction
  v_charge := private.charge_catalog_chunk(v_chunk, v_units, coalesce(error, 'no picture was made'));
  if v_chunk.succeeded > 0 then
    perform private.note_generated_products(v_chunk.id);
  end if;
  update commerce.catalog_job_chunks c
  set status = case when v_chunk.succeeded = 0 and v_chunk.failed > 0 then 'failed' else 'completed' end,
    succeeded = v_chunk.succeeded, failed = v_chunk.failed, pictures_made = v_chunk.pictures_made,
    given_back = v_chunk.products - v_chunk.succeeded - v_chunk.failed, usage_event_id = v_charge.usage_event_id,
    cost_micro = v_charge.amount_micro, completed_at = private.now()
  where c.id = v_chunk.id;
end $$;
comment on function private.settle_catalog_chunk(uuid, text, text) is
  'Ends a chunk: charges the pictures that were made and releases the rest of its hold.';
revoke all on function private.settle_catalog_chunk from public, anon, authenticated, service_role;

-- on_event of commerce.catalog_chunk.
create function commerce.on_catalog_chunk_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_chunk_id uuid := (job.payload ->> 'chunk_id')::uuid;
begin
  case event
    when 'completed' then perform private.settle_catalog_chunk(v_chunk_id);
    when 'dead' then perform private.settle_catalog_chunk(v_chunk_id, 'failed',
      coalesce(job.error, 'internal_error: The chunk failed.'));
    when 'cancelled' then perform private.settle_catalog_chunk(v_chunk_id, 'cancelled', 'cancelled');
    when 'replayed' then perform private.fail('catalog_product_settled', 'The chunk has been settled.', job.payload);
    else null;
  end case;
end $$;
comment on function commerce.on_catalog_chunk_job(ops.jobs, text) is
  'Settles a chunk of a catalog job in the transaction that ends its job.';
revoke all on function commerce.on_catalog_chunk_job from public, anon, authenticated, service_role;

-- on_event of commerce.catalog_product: writes the product's own row and no other of the catalog job. A row that has
-- been taken back (by a pause, a cancellation) names another job or none, as does one that another provider goes on
-- with.
create function commerce.on_catalog_product_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_item_id uuid := (job.payload ->> 'item_id')::uuid;
  v_error text := case when job.error ~ '^[a-z][a-z_]*: ' then job.error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  if event = 'progressed' then
    return;
  elsif event = 'replayed' then
    perform private.fail('catalog_product_settled', 'The product has been settled with its chunk.', job.payload);
  end if;
  perform private.end_catalog_runs(job);
  case event
    when 'completed' then
      if job.output ? 'given_back' then
        perform private.give_back_catalog_product(v_item_id, job.id);
        return;
      end if;
      update commerce.catalog_job_products i
      set status = 'succeeded', completed_at = private.now(),
        result_paths = array(select jsonb_array_elements_text(job.output -> 'result_paths'))
      where i.id = v_item_id and i.job_id = job.id and i.status = 'processing';
      if found then
        perform private.publish_catalog_product(v_item_id);
      end if;
    when 'dead' then
      if not private.follow_up_catalog_product(job, v_error) then
        update commerce.catalog_job_products i
        set status = 'failed', completed_at = private.now(), error_code = split_part(v_error, ':', 1),
          error_message = v_error
        where i.id = v_item_id and i.job_id = job.id and i.status = 'processing';
      end if;
    when 'cancelled' then
      update commerce.catalog_job_products i set status = 'cancelled', completed_at = private.now()
      where i.id = v_item_id and i.job_id = job.id and i.status = 'processing';
  end case;
end $$;
comment on function commerce.on_catalog_product_job(ops.jobs, text) is
  'Writes how a product of a catalog job ended, in the transaction that ends its job, or has another provider go on.';
revoke all on function commerce.on_catalog_product_job from public, anon, authenticated, service_role;

-- A hold lasts a day: whatever happens, a chunk has ended before.
insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('commerce.catalog_chunk', 'Waits for the products of a chunk of a catalog job.', 'commerce.on_catalog_chunk_job',
    interval '18 hours', null),
  ('commerce.catalog_product', 'Makes the pictures of one product of a catalog job.',
    'commerce.on_catalog_product_job', interval '12 hours', 'fal');

-- Begins the next chunk: as many products as the job wants and its workspace can pay. Returns null, or why there is
-- none: nothing_pending, or the error of the charge.
create function private.start_catalog_chunk(catalog_job commerce.catalog_jobs) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_each integer := catalog_job.tryon_count + catalog_job.studio_pictures::integer;
  v_chunk_id uuid := gen_random_uuid();
  v_items uuid[];
  v_affordable bigint;
  v_hold billing.usage_result;
  v_job_id bigint;
  v_provider text := coalesce(private.choose_catalog_provider(catalog_job),
    (select k.provider from ops.job_kinds k where k.kind = 'commerce.catalog_product'));
begin
  select q.available_micro / nullif(q.amount_micro, 0) into v_affordable
  from billing.quote(catalog_job.workspace_id, catalog_job.meter, catalog_job.units_per_product) q;
  perform private.drop_gone_products(catalog_job.id);
  v_items := array(select i.id from commerce.catalog_job_products i
    where i.catalog_job_id = catalog_job.id and i.status = 'pending'
    order by i.position limit greatest(1, least(catalog_job.chunk_size, v_affordable)));
  if v_items = '{}' then
    return 'nothing_pending';
  end if;
  perform private.refresh_catalog_products(catalog_job, v_items);
  select j.job_id into v_job_id from ops.enqueue_job('commerce.catalog_chunk',
    jsonb_build_object('chunk_id', v_chunk_id), catalog_job.workspace_id, max_attempts => 20,
    parent_id => catalog_job.job_id, key => 'catalog-chunk:' || v_chunk_id) j;
  v_hold := billing.authorize_usage(catalog_job.workspace_id, catalog_job.meter,
    cardinality(v_items) * catalog_job.units_per_product, 'catalog-chunk:' || v_chunk_id,
    jsonb_strip_nulls(jsonb_build_object('source_id', catalog_job.id, 'service_subtype', 'catalog',
      'user_id', catalog_job.created_by, 'chunk_id', v_chunk_id)));
  insert into commerce.catalog_job_chunks (id, catalog_job_id, workspace_id, number, products, pictures,
    usage_event_id, held_micro, job_id, started_at)
  values (v_chunk_id, catalog_job.id, catalog_job.workspace_id, 1 + (select count(*)
    from commerce.catalog_job_chunks c where c.catalog_job_id = catalog_job.id), cardinality(v_items),
    cardinality(v_items) * v_each, v_hold.usage_event_id, v_hold.amount_micro, v_job_id, private.now());
  update commerce.catalog_job_products i
  set status = 'processing', chunk_id = v_chunk_id, job_id = q.job_id, provider = v_provider,
    attempts = i.attempts + 1, started_at = private.now()
  from unnest(v_items) with ordinality u (id, n) join ops.enqueue_jobs('commerce.catalog_product',
    array(select jsonb_build_object('item_id', p.id) from unnest(v_items) with ordinality p (id, n) order by p.n),
    catalog_job.workspace_id, priority => -1, max_attempts => 4, parent_id => v_job_id, provider => v_provider,
    limit_key => format('catalog_%s:%s', catalog_job.parallel_products_per_chunk, v_chunk_id))
    with ordinality q (job_id, created, n) on q.n = u.n
  where i.id = u.id;
  return null;
exception when others then
  if sqlerrm ~ '^(insufficient_credits|wallet_frozen|quota_exceeded|not_entitled|budget_exceeded): ' then
    return sqlerrm;
  end if;
  raise;
end $$;
comment on function private.start_catalog_chunk(commerce.catalog_jobs) is
  'Holds the price of the next products of a catalog job and enqueues them; returns null, or why it could not.';
revoke all on function private.start_catalog_chunk from public, anon, authenticated, service_role;
