-- What the end of a creation's job does, in the job's own transaction.

-- A completed creation: results, the charge for as many outputs as there are, counters. The creation comes
-- last, because deleting a garment, model or project locks that first and then its creations; the project's
-- totals follow by a trigger.
create function private.complete_creation(creation studio.creations, output jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_paths text[];
  v_charge billing.usage_result;
begin
  if jsonb_typeof(output -> 'result_paths') = 'array' then
    v_paths := array(select jsonb_array_elements_text(output -> 'result_paths'));
  end if;
  if coalesce(cardinality(v_paths), 0) = 0 then
    perform private.fail('creation_without_results', 'The provider gave no picture.');
  end if;
  v_charge := billing.capture_usage(creation.usage_event_id, least(cardinality(v_paths), creation.num_outputs));
  update studio.wardrobe_garments g set usage_count = g.usage_count + 1, last_used_at = private.now()
    where g.id = creation.garment_id;
  insert into studio.wardrobe_usage_events (garment_id, workspace_id, event_type, event_metadata)
  select g.id, g.workspace_id, creation.creation_type, jsonb_build_object('creation_id', creation.id)
  from studio.wardrobe_garments g where g.id = creation.garment_id;
  update studio.models m set usage_count = m.usage_count + 1, last_used_at = private.now()
    where m.id = creation.model_id;
  perform from studio.projects p where p.id = creation.project_id for no key update;
  update studio.creations c
  set status = 'completed', progress = 100, stage = null, result_paths = v_paths, thumbnail_path = v_paths[1],
    cost_micro = v_charge.amount_micro, completed_at = private.now()
  where c.id = creation.id;
end $$;
comment on function private.complete_creation(studio.creations, jsonb) is
  'Captures the charge and stores the results of a creation.';
revoke all on function private.complete_creation from public, anon, authenticated, service_role;

-- A creation that failed or was cancelled: the charge goes back, the provider is told to stop.
create function private.abandon_creation(creation studio.creations, job ops.jobs, status text) returns void
language plpgsql
set search_path = ''
as $$
declare
  -- errors of ours are written to be read; what others said stays with the job
  v_error text := case when status <> 'failed' then null when job.error ~ '^[a-z][a-z_]*: ' then job.error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  perform billing.release_usage(creation.usage_event_id, coalesce(v_error, status));
  update studio.creations c
  set status = abandon_creation.status, stage = null, error_message = v_error, completed_at = private.now(),
    error_code = split_part(v_error, ':', 1)
  where c.id = creation.id;
  if job.checkpoint ? 'request_id' then
    perform ops.enqueue_job('studio.cancel_at_provider', job.checkpoint
      || jsonb_build_object('creation_id', creation.id),
      creation.workspace_id, max_attempts => 3,
        key => format('cancel:%s:%s', creation.id, job.checkpoint ->> 'request_id'));
  end if;
end $$;
comment on function private.abandon_creation(studio.creations, ops.jobs, text) is
  'Releases the charge of a creation that will not complete.';
revoke all on function private.abandon_creation from public, anon, authenticated, service_role;

-- on_event of studio.creation: keeps creation, charge and job in step.
create function studio.on_creation_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_creation studio.creations;
begin
  -- the job's lock guards what follows; the creation's own comes last (see complete_creation)
  select * into v_creation from studio.creations c where c.id = (job.payload ->> 'creation_id')::uuid;
  if not found then
    if event = 'replayed' then
      perform private.fail('unknown_creation', 'The creation of this job has been deleted.', job.payload);
    end if;
    return;
  end if;
  case event
    when 'progressed' then
      update studio.creations c
      set status = 'processing', progress = job.progress, stage = job.stage,
        started_at = coalesce(c.started_at, private.now()),
        provider = coalesce(job.checkpoint ->> 'provider', c.provider),
        provider_request_id = coalesce(job.checkpoint ->> 'request_id', c.provider_request_id)
      where c.id = v_creation.id;
      return;
    when 'replayed' then
      update studio.creations c
      set status = 'pending', progress = 0, error_code = null, error_message = null, completed_at = null,
        provider_request_id = null, usage_event_id = private.hold_creation_charge(v_creation)
      where c.id = v_creation.id;
      return;
    when 'completed' then
      perform private.complete_creation(v_creation, job.output);
    when 'dead' then
      perform private.abandon_creation(v_creation, job, 'failed');
      select * into v_creation from studio.creations c where c.id = v_creation.id;
    when 'cancelled' then
      perform private.abandon_creation(v_creation, job, 'cancelled');
      return;
  end case;
  if v_creation.created_by is not null then
    perform private.notify_user(v_creation.created_by, v_creation.workspace_id, case event
      when 'completed' then 'success' else 'error' end,
      case event when 'completed' then 'Your picture is ready' else 'Your picture could not be made' end,
      case event when 'completed' then null
        else 'Nothing was charged. ' || regexp_replace(v_creation.error_message, '^[a-z_]+: ', '') end,
      '/studio/creations/' || v_creation.id,
        jsonb_build_object('creation_id', v_creation.id, 'creation_type', v_creation.creation_type),
      format('creation:%s:%s:%s', v_creation.id, event, v_creation.usage_event_id));
  end if;
end $$;
comment on function studio.on_creation_job(ops.jobs, text) is
  'Settles a creation and its charge in the transaction that ends its job.';
revoke all on function studio.on_creation_job from public, anon, authenticated, service_role;
