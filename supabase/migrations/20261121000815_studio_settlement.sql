-- What the end of a creation's job does, in the job's own transaction.

-- Ends the attempt that a job is, and records what each of its runs cost us. The key of a cost is the run's, and the
-- attempt's beside it.
create function private.end_creation_attempt(creation studio.creations, job ops.jobs, status text, error text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_attempt studio.creation_attempts;
  v_model studio.provider_models;
  v_runs jsonb := coalesce(job.checkpoint -> 'runs', '[]');
  v_run record;
  v_cost bigint := 0;
begin
  select * into v_attempt from studio.creation_attempts a where a.job_id = job.id and a.ended_at is null for update;
  if not found then
    return;
  end if;
  select * into v_model from studio.provider_models m where m.creation_type = creation.creation_type
    and m.quality = creation.quality and m.provider = v_attempt.provider and m.model = v_attempt.model;
  for v_run in
    select r.run ->> 'request_id' as id, ceil(u.units * coalesce(v_model.cost_micro, 0))::bigint as cost_micro, u.units
    from jsonb_array_elements(v_runs) with ordinality as r (run, place)
    cross join lateral private.run_units(v_model, r.run, private.creation_seconds(creation.settings)) as u (units)
    order by r.place
  loop
    perform billing.record_provider_cost(v_attempt.provider, v_run.cost_micro,
      format('%s:%s', left(v_run.id, 200), v_attempt.id), usage_event_id => v_attempt.usage_event_id,
      job_id => v_attempt.job_id, model => v_attempt.model, quantity => v_run.units, unit => v_model.cost_per);
    v_cost := v_cost + v_run.cost_micro;
  end loop;
  update studio.creation_attempts a
  set status = end_creation_attempt.status, ended_at = private.now(), error_message = error,
    error_code = split_part(error, ':', 1), cost_micro = case when a.provider_request_id is not null then v_cost end
  where a.id = v_attempt.id;
  perform private.close_run_callbacks(job, v_runs);
end $$;
comment on function private.end_creation_attempt is 'Ends a creation''s open attempt and records its cost to us.';
revoke all on function private.end_creation_attempt from public, anon, authenticated, service_role;

-- A completed creation: results, the charge for as many outputs as there are, counters. The creation comes
-- last, because deleting a garment, model or project locks that first and then its creations; the project's
-- totals follow by a trigger.
create function private.complete_creation(creation studio.creations, job ops.jobs) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_paths text[];
  v_outputs integer;
  v_charge billing.usage_result;
begin
  if jsonb_typeof(job.output -> 'result_paths') = 'array' then
    v_paths := array(select jsonb_array_elements_text(job.output -> 'result_paths'));
  end if;
  if coalesce(cardinality(v_paths), 0) = 0 then
    perform private.fail('creation_without_results', 'The provider gave no picture.');
  end if;
  v_outputs := least(cardinality(v_paths), creation.num_outputs);
  v_charge := billing.capture_usage(creation.usage_event_id, (
    select u.quantity * v_outputs / creation.num_outputs from billing.usage_events u
    where u.id = creation.usage_event_id));
  perform private.end_creation_attempt(creation, job, 'succeeded', null);
  update studio.wardrobe_garments g set usage_count = g.usage_count + 1, last_used_at = private.now()
    where g.id = creation.garment_id;
  insert into studio.wardrobe_usage_events (garment_id, workspace_id, event_type, event_metadata)
  select g.id, g.workspace_id, creation.creation_type, jsonb_build_object('creation_id', creation.id)
  from studio.wardrobe_garments g where g.id = creation.garment_id;
  update studio.models m set usage_count = m.usage_count + 1, last_used_at = private.now()
    where m.id = creation.model_id;
  perform from studio.projects p where p.id = creation.project_id for no key update;
  update studio.creations c
  set status = 'completed', progress = 100, stage = null, result_paths = v_paths,
    thumbnail_path = coalesce(job.output ->> 'thumbnail_path', v_paths[1]),
    cost_micro = v_charge.amount_micro, completed_at = private.now()
  where c.id = creation.id;
end $$;
comment on function private.complete_creation(studio.creations, ops.jobs) is
  'Captures the charge and stores the results of a creation.';
revoke all on function private.complete_creation from public, anon, authenticated, service_role;

-- What was begun at a provider for a job that nobody waits for any more.
create function private.stop_creation_runs(creation studio.creations, job ops.jobs) returns void
language sql
set search_path = ''
as $$ select private.stop_runs(creation.id, creation.workspace_id, coalesce(job.checkpoint -> 'runs', '[]')) $$;
comment on function private.stop_creation_runs(studio.creations, ops.jobs) is
  'Has the runs of a job stopped at their provider.';
revoke all on function private.stop_creation_runs from public, anon, authenticated, service_role;

-- A creation that failed or was cancelled: the charge goes back, the provider is told to stop.
create function private.abandon_creation(creation studio.creations, job ops.jobs, status text, error text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform billing.release_usage(creation.usage_event_id, coalesce(error, status));
  update studio.creations c
  set status = abandon_creation.status, stage = null, error_message = error, completed_at = private.now(),
    error_code = split_part(error, ':', 1)
  where c.id = creation.id;
  perform private.stop_creation_runs(creation, job);
end $$;
comment on function private.abandon_creation(studio.creations, ops.jobs, text, text) is
  'Releases the charge of a creation that will not complete.';
revoke all on function private.abandon_creation from public, anon, authenticated, service_role;

-- Goes on with another model after an attempt that failed by its provider's fault: the charge stays held, the next
-- job is enqueued in the transaction that ended the last one. False when the fault is the request's or ours, or
-- nobody is left who could go on.
create function private.follow_up_creation(creation studio.creations, job ops.jobs, error text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_model studio.provider_models;
begin
  if not private.is_provider_fault(error) or job.parent_id is not null then
    return false;
  end if;
  v_model := private.choose_provider_model(creation);
  if v_model.id is null then
    return false;
  end if;
  perform private.stop_creation_runs(creation, job);
  perform private.begin_creation_attempt(creation, v_model);
  update studio.creations c set progress = 5, stage = 'trying another provider' where c.id = creation.id;
  return true;
end $$;
comment on function private.follow_up_creation(studio.creations, ops.jobs, text) is
  'Has another provider go on with a creation that the last one failed.';
revoke all on function private.follow_up_creation from public, anon, authenticated, service_role;

-- What a creation shows of its job on the way: of several runs the first one's name.
create function private.show_creation_progress(creation studio.creations, job ops.jobs) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_first text := job.checkpoint #>> '{runs,0,request_id}';
  v_runs integer := jsonb_array_length(job.checkpoint -> 'runs');
begin
  update studio.creations c
  set status = 'processing', progress = job.progress, stage = job.stage,
    started_at = coalesce(c.started_at, private.now()),
    provider = coalesce(job.checkpoint ->> 'provider', c.provider),
    provider_request_id = coalesce(v_first, c.provider_request_id)
  where c.id = creation.id;
  if v_first is not null then
    update studio.creation_attempts a
    set status = 'running', provider_request_id = v_first, submitted_at = coalesce(a.submitted_at, private.now()),
      runs = v_runs
    where a.job_id = job.id and a.status in ('planned', 'running') and a.runs <> v_runs;
  end if;
end $$;
comment on function private.show_creation_progress(studio.creations, ops.jobs) is
  'Copies a job''s progress and run to its creation and attempt.';
revoke all on function private.show_creation_progress from public, anon, authenticated, service_role;

-- A dead job that is replayed: a new charge, and the same provider, because the job is its. Another one may follow.
create function private.replay_creation(creation studio.creations, job ops.jobs) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_charge uuid := private.hold_creation_charge(creation);
begin
  update studio.creations c
  set status = 'pending', progress = 0, error_code = null, error_message = null, completed_at = null,
    provider_request_id = null, usage_event_id = v_charge
  where c.id = creation.id;
  insert into studio.creation_attempts (creation_id, workspace_id, usage_event_id, job_id, provider, model)
  values (creation.id, creation.workspace_id, v_charge, job.id, creation.provider, creation.provider_model);
end $$;
comment on function private.replay_creation(studio.creations, ops.jobs) is
  'Holds a new charge for a creation whose dead job is replayed.';
revoke all on function private.replay_creation from public, anon, authenticated, service_role;

create function private.notify_creation(creation studio.creations, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_what text := (select t.output_kind from studio.creation_types t where t.creation_type = creation.creation_type);
  v_name text := case v_what when 'video' then 'video' else 'picture' end;
begin
  if creation.created_by is null then
    return;
  end if;
  perform private.notify_user(creation.created_by, creation.workspace_id,
    case event when 'completed' then 'success' else 'error' end,
    case event when 'completed' then format('Your %s is ready', v_name)
      else format('Your %s could not be made', v_name) end,
    case when event <> 'completed'
      then 'Nothing was charged. ' || regexp_replace(creation.error_message, '^[a-z_]+: ', '') end,
    '/studio/creations/' || creation.id,
    jsonb_build_object('creation_id', creation.id, 'creation_type', creation.creation_type),
    format('creation:%s:%s:%s', creation.id, event, creation.usage_event_id),
    case event when 'completed' then 'studio.creation_completed' else 'studio.creation_failed' end);
end $$;
comment on function private.notify_creation(studio.creations, text) is
  'Tells the person who asked for a creation how it ended.';
revoke all on function private.notify_creation from public, anon, authenticated, service_role;

-- on_event of studio.creation: keeps creation, attempt, charge and job in step. A creation listens to its present job
-- only: earlier ones ended when another provider went on.
create function studio.on_creation_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_creation studio.creations;
  -- errors of ours are written to be read; what others said stays with the job
  v_error text := case when event <> 'dead' then null when job.error ~ '^[a-z][a-z_]*: ' then job.error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  if event = 'replayed' then
    -- before a retry of it, or after
    perform pg_catalog.pg_advisory_xact_lock(
      pg_catalog.hashtextextended('retry:' || (job.payload ->> 'creation_id'), 0));
  end if;
  -- the job's lock guards what follows; the creation's own comes last (see complete_creation)
  if job.workspace_id is not null then
    perform private.share_studio(job.workspace_id);
  end if;
  select * into v_creation from studio.creations c where c.id = (job.payload ->> 'creation_id')::uuid;
  if v_creation.id is null or v_creation.job_id <> job.id or event = 'replayed'
    and exists (select from studio.creations c where c.retry_of = v_creation.id) then
    if event = 'replayed' then
      perform private.fail(case when v_creation.id is null then 'unknown_creation' else 'creation_went_on' end,
        'The creation of this job has been deleted, went on with another one, or was tried again.', job.payload);
    end if;
    return;
  end if;
  case event
    when 'progressed' then
      perform private.show_creation_progress(v_creation, job);
      return;
    when 'replayed' then
      perform private.replay_creation(v_creation, job);
      return;
    when 'completed' then
      perform private.complete_creation(v_creation, job);
      -- some of several may have been given up; a single one has ended
      if jsonb_array_length(job.checkpoint -> 'runs') > 1 then
        perform private.stop_creation_runs(v_creation, job);
      end if;
    when 'cancelled' then
      perform private.end_creation_attempt(v_creation, job, 'cancelled', null);
      perform private.abandon_creation(v_creation, job, 'cancelled', null);
      return;
    when 'dead' then
      perform private.end_creation_attempt(v_creation, job, 'failed', v_error);
      if private.follow_up_creation(v_creation, job, v_error) then
        return;
      end if;
      perform private.abandon_creation(v_creation, job, 'failed', v_error);
  end case;
  select * into v_creation from studio.creations c where c.id = v_creation.id;
  perform private.notify_creation(v_creation, event);
end $$;
comment on function studio.on_creation_job(ops.jobs, text) is
  'Settles a creation and its charge in the transaction that ends its job, or has another provider go on.';
revoke all on function studio.on_creation_job from public, anon, authenticated, service_role;
