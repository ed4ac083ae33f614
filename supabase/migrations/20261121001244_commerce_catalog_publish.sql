-- Publishing: the pictures of a product go back to its shop, as media of the product, by a job of their own for each
-- product. What is published has been paid for, and costs nothing more.

-- Has the pictures of a product published, where its catalog job wants that and its shop still has the product.
create function private.publish_catalog_product(item_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_item record;
begin
  select i.id, i.workspace_id, i.attempts, j.connected_account_id as account_id into v_item
  from commerce.catalog_job_products i join commerce.catalog_jobs j on j.id = i.catalog_job_id
  where i.id = item_id and j.auto_publish and i.product_id is not null and j.status not in ('cancelling', 'cancelled');
  if not found then
    return;
  end if;
  update commerce.catalog_job_products i
  set publish_status = 'pending', publish_job_id = (select q.job_id from ops.enqueue_job('commerce.publish_product',
    jsonb_build_object('item_id', i.id, 'account_id', v_item.account_id), i.workspace_id, priority => -1,
    limit_key => 'shopify:' || v_item.account_id, key => format('catalog-publish:%s:%s', i.id, v_item.attempts)) q)
  where i.id = v_item.id;
end $$;
comment on function private.publish_catalog_product(uuid) is
  'Enqueues the publishing of a catalog product''s pictures, where that is wished.';
revoke all on function private.publish_catalog_product from public, anon, authenticated, service_role;

-- A publication that an operator replays: its catalog job is coordinated until it has ended, so that its counts are
-- right again. Error: catalog_job_running.
create function private.replay_publication(item_id uuid, publish_job_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job commerce.catalog_jobs;
begin
  update commerce.catalog_job_products i set publish_status = 'pending', publish_error = null
  where i.publish_job_id = replay_publication.publish_job_id and i.id = item_id and i.publish_status = 'failed';
  select j.* into v_job from commerce.catalog_jobs j join commerce.catalog_job_products i on i.catalog_job_id = j.id
  where i.id = item_id and i.publish_status = 'pending' for update of j;
  if v_job.completed_at is not null then
    perform private.let_catalog_job_go_on(v_job);
  end if;
exception when unique_violation then
  perform private.fail('catalog_job_running', 'Another catalog job of this shop has not ended.',
    jsonb_build_object('catalog_job_id', v_job.id));
end $$;
comment on function private.replay_publication(uuid, bigint) is
  'Has the pictures of a catalog product published once more, and counted.';
revoke all on function private.replay_publication from public, anon, authenticated, service_role;

-- on_event of commerce.publish_product. output: {media_ids: [...], urls: [...]}.
create function commerce.on_publish_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_error text := case when job.error ~ '^[a-z][a-z_]*: ' then job.error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  if event = 'completed' then
    update commerce.catalog_job_products i
    set publish_status = 'published', publish_error = null,
      published_media_ids = array(select jsonb_array_elements_text(job.output -> 'media_ids')),
      published_urls = array(select split_part(u, '?', 1) from jsonb_array_elements_text(job.output -> 'urls') u)
    where i.publish_job_id = job.id and i.id = (job.payload ->> 'item_id')::uuid and i.publish_status = 'pending';
  elsif event in ('dead', 'cancelled') then
    update commerce.catalog_job_products i
    set publish_status = case event when 'dead' then 'failed' else 'cancelled' end,
      publish_error = case event when 'dead' then v_error end,
      media_ids_before = case when job.checkpoint ? 'known'
        then array(select jsonb_array_elements_text(job.checkpoint -> 'known')) else i.media_ids_before end
    where i.publish_job_id = job.id and i.id = (job.payload ->> 'item_id')::uuid and i.publish_status = 'pending';
  elsif event = 'replayed' then
    perform private.replay_publication((job.payload ->> 'item_id')::uuid, job.id);
  end if;
end $$;
comment on function commerce.on_publish_job(ops.jobs, text) is
  'Writes how the publishing of a catalog product ended, in the transaction that ends its job.';
revoke all on function commerce.on_publish_job from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('commerce.publish_product', 'Adds the pictures of a catalog product to the product in its shop.',
    'commerce.on_publish_job', interval '12 hours');
