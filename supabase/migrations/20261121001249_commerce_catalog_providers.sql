-- Who makes the pictures of a catalog job: a product goes to one provider at a time, chosen as for a creation, and to
-- the next one when that failed it. Each try is a job under the same chunk, so that the product is counted, held for
-- and charged once; what a try ran at its provider is recorded as our cost when the try ends.

-- The kinds of pictures that a product of a catalog job gets, and the model of a provider that makes each; no row for
-- what the provider does not make.
create function private.catalog_models(catalog_job commerce.catalog_jobs, provider text)
returns table (creation_type text, outputs integer, model text, max_outputs smallint, priority integer,
  cost_micro bigint)
language sql stable
set search_path = ''
as $$
  select l.creation_type, l.outputs, m.model, m.max_outputs, m.priority,
    m.cost_micro * case m.cost_per when 'run' then ceil(l.outputs::numeric / m.max_outputs)::integer
      else l.outputs end
  from (values ('tryon', catalog_job.tryon_count::integer), ('bg_remove', catalog_job.studio_pictures::integer))
    l (creation_type, outputs)
  cross join lateral (
    select * from studio.provider_models o
    where o.creation_type = l.creation_type and o.quality = catalog_job.quality
      and o.provider = catalog_models.provider and o.is_enabled and o.max_outputs * o.max_runs >= l.outputs
    order by o.priority, o.cost_micro, o.model limit 1
  ) m
  where l.outputs > 0
$$;
comment on function private.catalog_models(commerce.catalog_jobs, text) is
  'Which models of a provider make the pictures of a catalog job''s products, and what they cost us.';
revoke all on function private.catalog_models from public, anon, authenticated, service_role;
grant execute on function private.catalog_models to service_role;

-- For the worker: how its provider makes a product's pictures; nothing when it has been switched off.
create function commerce.catalog_product_models(item_id uuid) returns table (creation_type text, model text,
  max_outputs smallint)
language sql stable
set search_path = ''
as $$
  select m.creation_type, m.model, m.max_outputs
  from commerce.catalog_job_products i
  join commerce.catalog_jobs j on j.id = i.catalog_job_id
  join studio.providers p on p.provider = i.provider and p.is_enabled
  cross join lateral private.catalog_models(j, i.provider) m
  where i.id = catalog_product_models.item_id
$$;
comment on function commerce.catalog_product_models(uuid) is
  'The models with which a product''s provider makes its pictures, and how many outputs a run of each has.';
revoke all on function commerce.catalog_product_models from public, anon, authenticated, service_role;
grant execute on function commerce.catalog_product_models to service_role;

-- Who makes what a product still lacks: open providers first, then by priority and cost. made: kinds that are made
-- already. failed: providers that have failed the product. Null when nobody is left.
create function private.choose_catalog_provider(catalog_job commerce.catalog_jobs, made text[] default '{}',
  failed text[] default '{}') returns text
language sql stable
set search_path = ''
as $$
  select p.provider
  from studio.providers p
  cross join lateral (
    select count(*) as kinds, max(m.priority) as priority, sum(m.cost_micro) as cost_micro
    from private.catalog_models(catalog_job, p.provider) m
    where m.creation_type <> all (choose_catalog_provider.made)
  ) able
  where p.is_enabled and p.provider <> all (choose_catalog_provider.failed)
    and able.kinds = (catalog_job.tryon_count > 0 and 'tryon' <> all (choose_catalog_provider.made))::integer
      + (catalog_job.studio_pictures and 'bg_remove' <> all (choose_catalog_provider.made))::integer
  order by private.provider_is_closed(p.provider), able.priority, able.cost_micro, p.provider
  limit 1
$$;
comment on function private.choose_catalog_provider(commerce.catalog_jobs, text[], text[]) is
  'The provider of a product of a catalog job, or of what it still lacks after others failed; null when none is left.';
revoke all on function private.choose_catalog_provider from public, anon, authenticated, service_role;

-- All runs of a product's job: of the kind that it is at, of those before it, and those that broke.
create function private.catalog_runs(checkpoint jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(checkpoint -> 'past', '[]') || coalesce(checkpoint #> '{look,runs}', '[]')
$$;
comment on function private.catalog_runs(jsonb) is 'The runs at a provider that a job of a catalog product began.';
revoke all on function private.catalog_runs from public, anon, authenticated, service_role;

-- A product's job has ended: what its runs cost us is recorded, each under its own key and with the charge of the
-- chunk, and those that go on at the provider are stopped.
create function private.end_catalog_runs(job ops.jobs) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_item_id uuid := (job.payload ->> 'item_id')::uuid;
  v_runs jsonb := private.catalog_runs(job.checkpoint);
  v_quality text;
  v_usage uuid;
begin
  if v_runs = '[]' then
    return;
  end if;
  select j.quality into v_quality from commerce.catalog_job_products i
  join commerce.catalog_jobs j on j.id = i.catalog_job_id where i.id = v_item_id;
  select c.usage_event_id into v_usage from commerce.catalog_job_chunks c where c.job_id = job.parent_id;
  perform billing.record_provider_cost(r.run ->> 'provider', ceil(u.units * coalesce(m.cost_micro, 0))::bigint,
    format('%s:catalog:%s', left(r.run ->> 'request_id', 200), job.id), workspace_id => job.workspace_id,
    usage_event_id => v_usage, job_id => job.id, model => r.run ->> 'model', quantity => u.units, unit => m.cost_per)
  from jsonb_array_elements(v_runs) with ordinality as r (run, place)
  left join studio.provider_models m on m.creation_type = r.run ->> 'kind' and m.quality = v_quality
    and m.provider = r.run ->> 'provider' and m.model = r.run ->> 'model'
  cross join lateral private.run_units(m, r.run, 1) as u (units)
  order by r.place;
  perform private.stop_runs(v_item_id, job.workspace_id, v_runs);
  perform private.close_run_callbacks(job, v_runs);
end $$;
comment on function private.end_catalog_runs(ops.jobs) is
  'Records what the runs of a product''s job cost us, and has those stopped that have not ended.';
revoke all on function private.end_catalog_runs from public, anon, authenticated, service_role;

-- Enqueues a product's next try, under the chunk of its last one. What is made already goes with it.
create function private.move_catalog_product(item_id uuid, job ops.jobs, provider text, made jsonb,
  failed text[]) returns void
language sql
set search_path = ''
as $$
  update commerce.catalog_job_products i
  set provider = move_catalog_product.provider, job_id = (
    select q.job_id from ops.enqueue_job('commerce.catalog_product', jsonb_build_object('item_id', i.id,
        'made', move_catalog_product.made, 'failed', to_jsonb(move_catalog_product.failed)),
      job.workspace_id, priority => job.priority, max_attempts => 4, parent_id => job.parent_id,
      provider => move_catalog_product.provider, limit_key => job.limit_key) q)
  where i.id = move_catalog_product.item_id
$$;
comment on function private.move_catalog_product is 'Gives a product of a catalog job to another provider.';
revoke all on function private.move_catalog_product from public, anon, authenticated, service_role;

-- A product of which nothing is made is taken out of its chunk, because its catalog job is stopped: it is pending
-- again, or cancelled with the catalog job.
create function private.give_back_catalog_product(item_id uuid, job_id bigint) returns void
language sql
set search_path = ''
as $$
  update commerce.catalog_job_products i
  set status = case when s.is_over then 'cancelled' else 'pending' end, job_id = null,
    chunk_id = case when s.is_over then i.chunk_id end, completed_at = case when s.is_over then private.now() end
  from (select j.id, j.status in ('cancelling', 'cancelled', 'failed') as is_over from commerce.catalog_jobs j) s
  where i.id = give_back_catalog_product.item_id and i.job_id = give_back_catalog_product.job_id
    and i.status = 'processing' and s.id = i.catalog_job_id
$$;
comment on function private.give_back_catalog_product(uuid, bigint) is
  'Takes a product of a stopped catalog job out of its chunk.';
revoke all on function private.give_back_catalog_product from public, anon, authenticated, service_role;

-- What is made of a product whose job this is, as the worker says, and who has failed it before.
create function private.catalog_standing(job ops.jobs, out made jsonb, out kinds text[], out failed text[])
language sql stable
set search_path = ''
as $$
  select m.made, array(select e ->> 'kind' from jsonb_array_elements(m.made) e),
    array(select jsonb_array_elements_text(coalesce(job.payload -> 'failed', '[]')))
  from (select coalesce(job.checkpoint -> 'made', job.payload -> 'made', '[]') as made) m
$$;
comment on function private.catalog_standing(ops.jobs) is
  'Which kinds of pictures a product has at a provider already, and which providers failed it.';
revoke all on function private.catalog_standing from public, anon, authenticated, service_role;

-- Goes on with another provider after a try that failed by its provider's fault. While the catalog job is being paused
-- the product is taken back instead, if nothing is made of it: the next chunk begins it anew. False when the fault is
-- the product's or ours, or nobody is left who could go on.
create function private.follow_up_catalog_product(job ops.jobs, error text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_item commerce.catalog_job_products;
  v_job commerce.catalog_jobs;
  v_standing record := private.catalog_standing(job);
  v_failed text[] := v_standing.failed || job.provider;
  v_provider text;
begin
  if not private.is_provider_fault(error) then
    return false;
  end if;
  select * into v_item from commerce.catalog_job_products i where i.id = (job.payload ->> 'item_id')::uuid
    and i.job_id = job.id and i.status = 'processing';
  select * into v_job from commerce.catalog_jobs j where j.id = v_item.catalog_job_id
    and j.status in ('processing', 'pausing');
  if not found then
    return false;
  end if;
  v_provider := private.choose_catalog_provider(v_job, v_standing.kinds, v_failed);
  if v_provider is null then
    return false;
  elsif v_job.status = 'pausing' and v_standing.made = '[]' then
    perform private.give_back_catalog_product(v_item.id, job.id);
  else
    perform private.move_catalog_product(v_item.id, job, v_provider, v_standing.made, v_failed);
  end if;
  return true;
end $$;
comment on function private.follow_up_catalog_product(ops.jobs, text) is
  'Has another provider go on with a product of a catalog job that the last one failed.';
revoke all on function private.follow_up_catalog_product from public, anon, authenticated, service_role;

-- Sweep: products that wait for a provider which is out of reach, or asked to wait, go to one that is open. What has
-- begun to run at the closed one waits for its result. Returns how many moved.
create function commerce.reroute_catalog_products() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_held record;
  v_job ops.jobs;
  v_item commerce.catalog_job_products;
  v_catalog_job commerce.catalog_jobs;
  v_standing record;
  v_provider text;
  v_moved integer := 0;
begin
  for v_held in
    select h.job_id, h.ticket, l.parent_id from studio.providers p
    join ops.held_back h on h.key = ops._limit_key('provider:' || p.provider)
    join ops.live_jobs l on l.id = h.job_id and l.kind = 'commerce.catalog_product'
    where private.provider_is_closed(p.provider) order by l.parent_id, h.job_id limit 500
  loop
    -- the chunk's job first; who works on one of the two, or ends it at this moment, needs no help
    perform from ops.live_jobs c where c.id = v_held.parent_id for update skip locked;
    continue when not found;
    perform from ops.live_jobs l where l.id = v_held.job_id and l.ticket = v_held.ticket and l.state = 'queued'
      and not l.checkpoint @? '$.look.runs[*]' for update skip locked;
    continue when not found or exists (select from ops.claims c where v_held.job_id = any (c.job_ids));
    select * into v_job from ops.jobs j where j.id = v_held.job_id;
    select * into v_item from commerce.catalog_job_products i where i.id = (v_job.payload ->> 'item_id')::uuid
      and i.job_id = v_job.id and i.status = 'processing';
    select * into v_catalog_job from commerce.catalog_jobs j where j.id = v_item.catalog_job_id
      and j.status = 'processing';
    continue when not found;
    v_standing := private.catalog_standing(v_job);
    v_provider := private.choose_catalog_provider(v_catalog_job, v_standing.kinds, v_standing.failed);
    continue when v_provider is null or private.provider_is_closed(v_provider);
    perform private.move_catalog_product(v_item.id, v_job, v_provider, v_standing.made, v_standing.failed);
    -- the product listens to its new job by now
    perform ops.cancel_job(v_job.id);
    v_moved := v_moved + 1;
  end loop;
  return v_moved;
end $$;
comment on function commerce.reroute_catalog_products() is
  'Sweep: moves products of catalog jobs from closed providers to open ones; returns how many.';
revoke all on function commerce.reroute_catalog_products from public, anon, authenticated, service_role;
grant execute on function commerce.reroute_catalog_products to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('reroute catalog products', 'commerce.reroute_catalog_products', interval '5 seconds');
