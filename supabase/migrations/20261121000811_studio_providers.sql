-- Who makes creations: providers, which of their models makes what and what it costs us, and the attempts of creations
-- at them. Each attempt is one job, so that the queue's limits and circuit breakers hold for its provider. For the
-- service and operators only: a person pays the price of studio.creation_prices, whoever makes it.

create table studio.providers (
  provider text primary key,
  is_enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint providers_provider_shape check (provider ~ '^[a-z][a-z0-9_.-]*$')
);
comment on table studio.providers is
  'Makers of creations, switched on and off by operators; one whose key the worker does not have must be off.';
create trigger providers_touch before update on studio.providers for each row
  execute function private.touch_updated_at();
alter table studio.providers enable row level security;
revoke all on table studio.providers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table studio.providers to service_role;
insert into studio.providers (provider, is_enabled) values ('fal', true), ('replicate', false);

create table studio.provider_models (
  id uuid primary key default gen_random_uuid(),
  creation_type text not null,
  quality text not null,
  provider text not null,
  model text not null,
  max_outputs smallint not null default 4,
  max_runs smallint not null default 1,
  cost_micro bigint not null,
  cost_per text not null default 'output',
  charges_failures boolean not null default false,
  priority integer not null default 100,
  is_enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint provider_models_key unique (creation_type, quality, provider, model),
  constraint provider_models_provider_fkey foreign key (provider) references studio.providers (provider)
    on delete cascade,
  constraint provider_models_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint provider_models_max_outputs_in_range check (max_outputs between 1 and 4),
  constraint provider_models_max_runs_in_range check (max_runs between 1 and 4),
  constraint provider_models_cost_not_negative check (cost_micro >= 0),
  constraint provider_models_cost_per_known check (cost_per in ('output', 'second', 'run'))
);
comment on table studio.provider_models is
  'Which model makes a type in a quality, in order of priority, then cost; the next one is taken when one fails.';
comment on column studio.provider_models.cost_micro is 'What the provider charges us for one cost_per, in micro-units.';
comment on column studio.provider_models.max_outputs is 'Outputs of one run.';
comment on column studio.provider_models.max_runs is
  'Runs of one creation: who wants more outputs than these give goes elsewhere.';
comment on column studio.provider_models.charges_failures is
  'The provider charges for machine time, whether or not something came of it.';
comment on column studio.provider_models.model is
  'As the provider names it; what each takes is known in functions/worker/providers.';
create index provider_models_provider on studio.provider_models (provider);
create trigger provider_models_touch before update on studio.provider_models for each row
  execute function private.touch_updated_at();
alter table studio.provider_models enable row level security;
revoke all on table studio.provider_models from public, anon, authenticated, service_role;
grant select, insert, update, delete on table studio.provider_models to service_role;

create table studio.creation_attempts (
  id bigint generated always as identity primary key,
  creation_id uuid not null,
  workspace_id uuid not null,
  usage_event_id uuid not null,
  job_id bigint not null,
  provider text not null,
  model text not null,
  status text not null default 'planned',
  provider_request_id text,
  runs smallint not null default 0,
  cost_micro bigint,
  error_code text,
  error_message text,
  created_at timestamptz not null default now(),
  submitted_at timestamptz,
  ended_at timestamptz,
  constraint creation_attempts_creation_id_fkey foreign key (creation_id)
    references studio.creations (id) on delete cascade,
  constraint creation_attempts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint creation_attempts_status_fits_facts check (case status
    when 'planned' then provider_request_id is null and ended_at is null
    when 'running' then provider_request_id is not null and ended_at is null
    when 'succeeded' then ended_at is not null and error_message is null
    when 'failed' then ended_at is not null and error_message is not null
    when 'cancelled' then ended_at is not null
    when 'passed_over' then ended_at is not null and provider_request_id is null
    else false end),
  constraint creation_attempts_run_has_start check ((provider_request_id is null) = (submitted_at is null)
    and (provider_request_id is null) = (runs = 0) and runs >= 0),
  constraint creation_attempts_only_ended_cost
    check (cost_micro is null or (cost_micro >= 0 and ended_at is not null and provider_request_id is not null))
);
comment on table studio.creation_attempts is
  'A creation''s attempts, one after the other, each a job at one model of one provider, with what it cost us.';
comment on column studio.creation_attempts.status is
  'passed_over: the provider was out of reach or asked to wait, and another one was open.';
comment on column studio.creation_attempts.provider_request_id is 'Of its first run.';
comment on column studio.creation_attempts.runs is 'How many runs it began: several where one gives too few outputs.';
comment on column studio.creation_attempts.cost_micro is
  'As recorded in billing.provider_costs, in micro-units; null when nothing ran there.';
create unique index creation_attempts_open on studio.creation_attempts (creation_id) where ended_at is null;
create index creation_attempts_creation_id on studio.creation_attempts (creation_id, usage_event_id);
create index creation_attempts_workspace_id on studio.creation_attempts (workspace_id);
create index creation_attempts_job_id on studio.creation_attempts (job_id);
alter table studio.creation_attempts enable row level security;
revoke all on table studio.creation_attempts from public, anon, authenticated, service_role;
grant select on table studio.creation_attempts to service_role;

-- List prices of the providers' pages; an operator corrects a row when a price changes. Of the first model in each
-- list the next quality up is made by the same one, with more steps. One that gives a single output runs as often as
-- its type may want outputs.
-- Sources: https://fal.ai/models/<model> (pricing); https://replicate.com/<model> (pricing, run time).
insert into studio.provider_models (creation_type, quality, provider, model, max_outputs, max_runs, cost_micro,
  cost_per, charges_failures, priority)
select m.creation_type, q.quality, m.provider, m.model, m.max_outputs,
  case m.max_outputs when 1 then coalesce((select t.max_outputs from studio.creation_types t
    where t.creation_type = m.creation_type), 1) else 1 end, m.cost_micro, m.cost_per,
  m.provider = 'replicate' and m.model like '%:%', case m.provider when 'fal' then 100 else 200 end
from (values
  ('tryon', '{fast,balanced,high,ultra}', 'fal', 'fal-ai/fashn/tryon/v1.6', 4, 7500, 'output'),
  ('tryon', '{fast,balanced,high,ultra}', 'replicate',
    'cuuupid/idm-vton:0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985', 1, 2500, 'run'),
  ('bg_remove', '{fast,balanced,high,ultra}', 'fal', 'fal-ai/birefnet/v2', 1, 100, 'run'),
  ('bg_remove', '{fast,balanced,high,ultra}', 'replicate',
    'lucataco/remove-bg:95fcc2a26d3899cd6c2691c900465aaeff466285a65c14638cc5f36f34befaf1', 1, 50, 'run'),
  ('upscale', '{fast,balanced,high,ultra}', 'fal', 'fal-ai/esrgan', 1, 200, 'run'),
  ('upscale', '{fast,balanced,high,ultra}', 'replicate',
    'nightmareai/real-esrgan:f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa', 1, 200, 'run'),
  ('color_change', '{fast,balanced,high}', 'fal', 'fal-ai/flux-pro/kontext', 4, 4000, 'output'),
  ('color_change', '{ultra}', 'fal', 'fal-ai/flux-pro/kontext/max', 4, 8000, 'output'),
  ('color_change', '{fast,balanced,high}', 'replicate', 'black-forest-labs/flux-kontext-pro', 1, 4000, 'output'),
  ('color_change', '{ultra}', 'replicate', 'black-forest-labs/flux-kontext-max', 1, 8000, 'output'),
  ('text_to_image', '{fast}', 'fal', 'fal-ai/flux/schnell', 4, 300, 'output'),
  ('text_to_image', '{balanced,high}', 'fal', 'fal-ai/flux/dev', 4, 2500, 'output'),
  ('text_to_image', '{ultra}', 'fal', 'fal-ai/flux-pro/v1.1', 4, 4000, 'output'),
  ('text_to_image', '{fast}', 'replicate', 'black-forest-labs/flux-schnell', 4, 300, 'output'),
  ('text_to_image', '{balanced,high}', 'replicate', 'black-forest-labs/flux-dev', 4, 2500, 'output'),
  ('text_to_image', '{ultra}', 'replicate', 'black-forest-labs/flux-1.1-pro', 1, 4000, 'output'),
  ('image_to_image', '{fast,balanced,high,ultra}', 'fal', 'fal-ai/flux/dev/image-to-image', 4, 3000, 'output'),
  ('image_to_image', '{fast,balanced,high,ultra}', 'replicate', 'black-forest-labs/flux-dev', 4, 2500, 'output'),
  ('video', '{fast,balanced}', 'fal', 'fal-ai/kling-video/v1.6/standard/image-to-video', 1, 5600, 'second'),
  ('video', '{high,ultra}', 'fal', 'fal-ai/kling-video/v1.6/pro/image-to-video', 1, 9500, 'second'),
  ('video', '{fast,balanced}', 'replicate', 'kwaivgi/kling-v1.6-standard', 1, 5000, 'second'),
  ('video', '{high,ultra}', 'replicate', 'kwaivgi/kling-v1.6-pro', 1, 9500, 'second'),
  ('persona_image', '{fast,balanced,high,ultra}', 'fal', 'fal-ai/flux-lora', 4, 3500, 'output')
) m (creation_type, qualities, provider, model, max_outputs, cost_micro, cost_per)
cross join lateral unnest(m.qualities::text[]) q (quality);

-- Faults that say nothing of what was asked for: another provider may do better.
create function private.is_provider_fault(error text) returns boolean
language sql immutable
set search_path = ''
as $$
  select coalesce(split_part(error, ':', 1) in ('provider_unavailable', 'provider_failed', 'unknown_provider',
    'unsupported_creation', 'creation_without_results', 'timed_out'), false)
$$;
comment on function private.is_provider_fault(text) is 'Might another provider do what failed with this error?';
revoke all on function private.is_provider_fault from public, anon, authenticated, service_role;

-- A run is a JSON object: what the worker keeps of a submission, the outputs that were asked of it and, once it has
-- ended, its result. The runs of a job stand in its checkpoint, under `runs`.

-- Outputs that a run gave, as far as they were asked for; null while it has not ended.
create function private.run_made(run jsonb) returns integer
language sql immutable
set search_path = ''
as $$
  select case when jsonb_typeof(run -> 'result') = 'object' then
    least((run ->> 'outputs')::integer, coalesce(jsonb_array_length(run #> '{result,pictures}'), 0)) end
$$;
comment on function private.run_made(jsonb) is 'How many outputs a provider''s run gave; null until it has ended.';
revoke all on function private.run_made from public, anon, authenticated, service_role;

-- What a provider charges us for a run, in units of its model's cost: nothing without an output, unless it charges for
-- those runs as well. seconds: length of one output.
create function private.run_units(model studio.provider_models, run jsonb, seconds numeric) returns numeric
language sql immutable
set search_path = ''
as $$
  select case when coalesce(o.made, 0) = 0 and model.charges_failures is not true then 0
    else case model.cost_per when 'run' then 1 else coalesce(nullif(o.made, 0), (run ->> 'outputs')::integer)
      * case model.cost_per when 'second' then seconds else 1 end end end
  from (select private.run_made(run) as made) o
$$;
comment on function private.run_units(studio.provider_models, jsonb, numeric) is
  'How many units of its model''s cost a run at a provider costs us.';
revoke all on function private.run_units from public, anon, authenticated, service_role;

-- Has a provider told to stop the runs that have not ended. owner: whose they were, for the key of each.
create function private.stop_runs(owner uuid, workspace_id uuid, runs jsonb) returns void
language sql
set search_path = ''
as $$
  select ops.enqueue_job('studio.cancel_at_provider', r.run || jsonb_build_object('creation_id', stop_runs.owner),
    stop_runs.workspace_id, max_attempts => 3,
    key => format('cancel:%s:%s:%s', stop_runs.owner, r.run ->> 'provider', r.run ->> 'request_id'))
  from jsonb_array_elements(stop_runs.runs) with ordinality as r (run, place)
  where private.run_made(r.run) is null order by r.place
$$;
comment on function private.stop_runs(uuid, uuid, jsonb) is
  'Enqueues a job for each run that is to be stopped at its provider.';
revoke all on function private.stop_runs from public, anon, authenticated, service_role;

-- Webhooks of a job's runs that nobody waited for, because the run was asked, or the job ended before: processed.
create function private.close_run_callbacks(job ops.jobs, runs jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
  -- of one run the job waited itself
  if jsonb_array_length(runs) > 1 then
    perform ops._close_callback((r.run ->> 'provider') || ':' || (r.run ->> 'request_id'), job.id, job.correlation_id)
    from jsonb_array_elements(runs) r (run);
  end if;
end $$;
comment on function private.close_run_callbacks(ops.jobs, jsonb) is
  'Marks what webhooks brought of a job''s runs as processed when the job has ended.';
revoke all on function private.close_run_callbacks from public, anon, authenticated, service_role;

-- Seconds of one output, for what is counted by them.
create function private.creation_seconds(settings jsonb) returns numeric
language sql immutable
set search_path = ''
as $$
  select case when settings ->> 'duration' ~ '^[0-9]{1,4}(\.[0-9]{1,6})?$' then (settings ->> 'duration')::numeric
    else 5 end
$$;
comment on function private.creation_seconds(jsonb) is 'Length of a video as its settings say; 5 seconds without.';
revoke all on function private.creation_seconds from public, anon, authenticated, service_role;
grant execute on function private.creation_seconds to authenticated, service_role;

-- An open circuit, or a provider that asked to wait: its jobs are held back until time opens it.
create function private.provider_is_closed(provider text) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (select from ops.circuit_breakers c
      where c.name = 'provider:' || provider_is_closed.provider and c.state <> 'closed' and c.probe_at > private.now())
    or exists (select from ops.limit_keys k
      where k.key = ops._limit_key('provider:' || provider_is_closed.provider) and k.closed_until > private.now())
$$;
comment on function private.provider_is_closed(text) is 'Would a job of this provider be held back at this moment?';
revoke all on function private.provider_is_closed from public, anon, authenticated, service_role;
grant execute on function private.provider_is_closed to service_role;

-- The model for a creation's next attempt: one that has not failed it under this charge; open providers first, then
-- those that have not failed it, then by priority and cost. Null when none is left.
create function private.choose_provider_model(creation studio.creations) returns studio.provider_models
language sql stable
set search_path = ''
as $$
  select m from studio.provider_models m
  join studio.providers p on p.provider = m.provider and p.is_enabled
  cross join lateral (
    select coalesce(bool_or(a.model = m.model), false) as model, count(*) > 0 as provider
    from studio.creation_attempts a where a.creation_id = choose_provider_model.creation.id
      and a.usage_event_id = choose_provider_model.creation.usage_event_id and a.provider = m.provider
      and a.status = 'failed'
  ) failed
  where m.creation_type = choose_provider_model.creation.creation_type
    and m.quality = choose_provider_model.creation.quality and m.is_enabled
    and m.max_outputs * m.max_runs >= choose_provider_model.creation.num_outputs and not failed.model
  order by private.provider_is_closed(m.provider), failed.provider, m.priority, m.cost_micro, m.provider, m.model
  limit 1
$$;
comment on function private.choose_provider_model(studio.creations) is
  'The model that makes a creation, or goes on with it after others failed; null when none is left.';
revoke all on function private.choose_provider_model from public, anon, authenticated, service_role;

-- For the worker: is there an open provider that could go on if the present one gave up at once?
create function studio.creation_has_fallback(creation_id uuid) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from studio.creations c
    join studio.provider_models m on m.creation_type = c.creation_type and m.quality = c.quality and m.is_enabled
      and m.max_outputs * m.max_runs >= c.num_outputs and m.provider <> c.provider
    join studio.providers p on p.provider = m.provider and p.is_enabled
    where c.id = creation_has_fallback.creation_id and not private.provider_is_closed(m.provider)
      and not exists (select from studio.creation_attempts a where a.creation_id = c.id
        and a.usage_event_id = c.usage_event_id and a.provider = m.provider and a.model = m.model
        and a.status = 'failed'))
$$;
comment on function studio.creation_has_fallback(uuid) is
  'Could another provider go on with the creation at this moment?';
revoke all on function studio.creation_has_fallback from public, anon, authenticated, service_role;
grant execute on function studio.creation_has_fallback to service_role;
