-- What the end of a training's job does, in the job's own transaction.

-- The weights become the persona's newest version and the one in use.
create function private.complete_training(training studio.lora_trainings, job ops.jobs) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_charge billing.usage_result;
begin
  if coalesce(job.output ->> 'lora_path', '') = '' then
    perform private.fail('training_without_weights', 'The provider gave no weights.');
  end if;
  v_charge := billing.capture_usage(training.usage_event_id);
  update studio.lora_trainings t
  set status = 'completed', progress = 100, stage = null, lora_path = job.output ->> 'lora_path',
    lora_size_bytes = (job.output ->> 'size')::bigint, processed_images = (job.output ->> 'images')::integer,
    training_seconds = (job.output ->> 'training_seconds')::numeric, cost_micro = v_charge.amount_micro,
    started_at = coalesce(t.started_at, job.started_at, t.created_at), completed_at = private.now(),
    charged_at = private.now()
  where t.id = training.id;
  update studio.personas p
  set lora_status = 'ready', lora_training_id = training.id, lora_version = training.version,
    lora_cost_micro = p.lora_cost_micro + v_charge.amount_micro, lora_training_error = null
  where p.id = training.persona_id;
end $$;
comment on function private.complete_training is 'Captures the charge of a training and makes its weights a version.';
revoke all on function private.complete_training from public, anon, authenticated, service_role;

-- The price goes back, the provider is told to stop. The persona keeps the version it had.
create function private.abandon_training(training studio.lora_trainings, job ops.jobs, status text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_error text := case when status <> 'failed' then null when job.error ~ '^[a-z][a-z_]*: ' then job.error
    else 'internal_error: The work failed for a reason on our side.' end;
begin
  perform billing.release_usage(training.usage_event_id, coalesce(v_error, status));
  update studio.lora_trainings t
  set status = abandon_training.status, stage = null, error_message = v_error,
    error_code = split_part(v_error, ':', 1), completed_at = private.now(), refunded_at = private.now()
  where t.id = training.id;
  update studio.personas p
  set lora_status = case when v_error is not null then 'failed' when p.lora_version > 0 then 'ready'
      else 'not_trained' end,
    lora_training_error = v_error
  where p.id = training.persona_id;
  if job.checkpoint ? 'request_id' then
    perform ops.enqueue_job('studio.cancel_at_provider', job.checkpoint
        || jsonb_build_object('training_id', training.id), training.workspace_id, max_attempts => 3,
      key => format('cancel:%s:%s', training.id, job.checkpoint ->> 'request_id'));
  end if;
  -- A run that was cancelled leaves the archive it was to learn from, or half of its weights.
  perform private.remove_files(jsonb_agg(jsonb_build_object('bucket', 'studio-loras', 'owned', true,
    'path', format('%s/%s/%s', training.workspace_id, training.id, n.name))))
  from unnest('{images.zip,lora.safetensors}'::text[]) n (name);
end $$;
comment on function private.abandon_training is 'Releases the charge of a training that will not complete.';
revoke all on function private.abandon_training from public, anon, authenticated, service_role;

create function private.replay_training(training studio.lora_trainings) returns void
language plpgsql
set search_path = ''
as $$
begin
  update studio.lora_trainings t
  set status = 'pending', progress = 0, error_code = null, error_message = null, completed_at = null,
    refunded_at = null, provider_request_id = null,
    version = (select p.lora_version + 1 from studio.personas p where p.id = training.persona_id),
    usage_event_id = private.hold_training_charge(training)
  where t.id = training.id;
  update studio.personas p set lora_status = 'training', lora_training_error = null where p.id = training.persona_id;
exception when unique_violation then
  perform private.fail('training_in_progress', 'This persona is being trained.',
    jsonb_build_object('persona_id', training.persona_id));
end $$;
comment on function private.replay_training is 'Holds the price of a failed training again and lets it begin anew.';
revoke all on function private.replay_training from public, anon, authenticated, service_role;

-- on_event of studio.lora_training: keeps training, persona, charge and job in step.
create function studio.on_lora_training_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_training studio.lora_trainings;
begin
  select * into v_training from studio.lora_trainings t where t.id = (job.payload ->> 'training_id')::uuid;
  if not found then
    if event = 'replayed' then
      perform private.fail('unknown_training', 'The training of this job has been deleted.', job.payload);
    end if;
    return;
  end if;
  case event
    when 'progressed' then
      update studio.lora_trainings t
      set status = 'training', progress = job.progress, stage = job.stage,
        started_at = coalesce(t.started_at, private.now()),
        provider = coalesce(job.checkpoint ->> 'provider', t.provider),
        provider_request_id = coalesce(job.checkpoint ->> 'request_id', t.provider_request_id)
      where t.id = v_training.id;
    when 'replayed' then
      perform private.replay_training(v_training);
    when 'completed' then
      perform private.complete_training(v_training, job);
    when 'dead' then
      perform private.abandon_training(v_training, job, 'failed');
    when 'cancelled' then
      perform private.abandon_training(v_training, job, 'cancelled');
  end case;
  if event in ('completed', 'dead') and v_training.created_by is not null then
    perform private.notify_user(v_training.created_by, v_training.workspace_id,
      case event when 'completed' then 'success' else 'error' end,
      case event when 'completed' then 'Your persona is trained' else 'Your persona could not be trained' end,
      case event when 'completed' then null else 'Nothing was charged.' end,
      '/studio/personas/' || v_training.persona_id,
      jsonb_build_object('persona_id', v_training.persona_id, 'training_id', v_training.id),
      format('lora_training:%s:%s:%s', v_training.id, event, v_training.usage_event_id));
  end if;
end $$;
comment on function studio.on_lora_training_job(ops.jobs, text) is
  'Settles a training and its charge in the transaction that ends its job.';
revoke all on function studio.on_lora_training_job from public, anon, authenticated, service_role;

-- Rows that clients wait for.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table studio.personas, studio.lora_trainings;
  end if;
end $$;
