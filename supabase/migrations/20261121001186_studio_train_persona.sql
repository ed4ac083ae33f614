-- Asking for a training, cancelling it, choosing a version, and pictures made with one.

-- The pictures of a training: [{bucket, path}] in the order given. Uploads and results may be learnt from.
-- Errors: training_images_invalid, unknown_image, unsupported_image_type.
create function private.training_images(paths text[], workspace_id uuid) returns jsonb
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_path text;
  v_bucket text;
  v_type text;
  v_size bigint;
  v_total bigint := 0;
  v_images jsonb := '[]';
  v_most constant bigint := 150 * 1024 * 1024;
begin
  if (select count(distinct p.path) from unnest(paths) p (path)) not between 4 and 50
    or array_position(paths, null) is not null then
    perform private.fail('training_images_invalid', 'A training needs 4 to 50 different pictures.',
      jsonb_build_object('images', coalesce(cardinality(paths), 0), 'least', 4, 'most', 50));
  end if;
  for v_path in
    select p.path from unnest(paths) with ordinality as p (path, place) group by p.path order by min(p.place)
  loop
    select o.bucket_id, coalesce(o.metadata ->> 'mimetype', ''), (o.metadata ->> 'size')::bigint
    into v_bucket, v_type, v_size
    from storage.objects o where o.bucket_id in ('studio-uploads', 'studio-results') and o.name = v_path
      and private.is_workspace_path(v_path, workspace_id)
      and split_part(v_path, '/', 2) not in ('visitors', 'instagram')
      -- nor what was made of a customer's photo
      and not exists (select from studio.creations c where c.id = private.try_uuid(split_part(v_path, '/', 2))
        and split_part(c.model_storage_path, '/', 2) in ('visitors', 'instagram'))
    order by o.bucket_id desc limit 1;
    if not found then
      perform private.fail('unknown_image', format('There is no picture "%s" in this workspace.', v_path),
        jsonb_build_object('path', v_path));
    elsif v_type not in ('image/png', 'image/jpeg', 'image/webp') then
      perform private.fail('unsupported_image_type',
        format('"%s" is of the type %s.', v_path, coalesce(nullif(v_type, ''), 'unknown')),
        jsonb_build_object('path', v_path, 'mime_type', v_type));
    end if;
    v_total := v_total + coalesce(v_size, 0);
    v_images := v_images || jsonb_build_object('bucket', v_bucket, 'path', v_path);
  end loop;
  if v_total > v_most then
    perform private.fail('training_images_invalid', 'The pictures have more than 150 MiB in all.',
      jsonb_build_object('bytes', v_total, 'most_bytes', v_most));
  end if;
  return v_images;
end $$;
comment on function private.training_images(text[], uuid) is
  'Checks the pictures of a training and says where they lie.';
revoke all on function private.training_images from public, anon, authenticated, service_role;

create function private.hold_training_charge(training studio.lora_trainings) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(training.workspace_id, 'lora_training', training.steps,
    concat_ws(':', 'lora_training', training.id, training.usage_event_id),
    jsonb_strip_nulls(jsonb_build_object('source_id', training.id, 'user_id', training.created_by)))).usage_event_id
$$;
comment on function private.hold_training_charge(studio.lora_trainings) is
  'Authorizes the price of a training''s steps.';
revoke all on function private.hold_training_charge from public, anon, authenticated, service_role;

-- The persona is not locked: the indexes of trainings let one through at a time. The wallet's lock comes before the
-- persona's everywhere else.
create function private.train_persona(persona_id uuid, image_paths text[], steps integer, key text)
returns studio.lora_trainings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_persona studio.personas := private.find_persona(persona_id);
  v_paths text[] := coalesce(image_paths, v_persona.face_paths);
  v_hash bytea := private.content_hash(jsonb_build_array(persona_id, v_paths, steps));
  v_images jsonb;
  v_training studio.lora_trainings;
begin
  perform private.require_role(v_persona.workspace_id, 'member');
  if key is not null then
    perform billing._check_key(key);
    select * into v_training from studio.lora_trainings t
    where t.workspace_id = v_persona.workspace_id and t.key = train_persona.key;
  end if;
  if v_training.id is null then
    if steps is null or steps not between 100 and 10000 then
      perform private.fail('invalid_argument', 'steps: must be 100 to 10000.', '{"argument": "steps"}');
    end if;
    v_images := private.training_images(v_paths, v_persona.workspace_id);
    perform private.correlate();
    insert into studio.lora_trainings as t (workspace_id, persona_id, version, images, image_count, trigger_word,
      steps, key, content_hash, created_by)
    values (v_persona.workspace_id, persona_id, v_persona.lora_version + 1, v_images, jsonb_array_length(v_images),
      v_persona.lora_trigger_word, steps, key, v_hash, auth.uid())
    on conflict do nothing
    returning t.* into v_training;
    if found then
      update studio.lora_trainings t
      set usage_event_id = private.hold_training_charge(v_training),
        job_id = (select j.job_id from ops.enqueue_job('studio.lora_training',
          jsonb_build_object('training_id', v_training.id), v_persona.workspace_id, max_attempts => 4,
          key => 'lora_training:' || v_training.id) j)
      where t.id = v_training.id
      returning t.* into v_training;
      update studio.personas p set lora_status = 'training', lora_training_error = null where p.id = persona_id;
      return v_training;
    end if;
    select * into v_training from studio.lora_trainings t
    where t.workspace_id = v_persona.workspace_id and t.key = train_persona.key;
    if not found then
      perform private.fail('training_in_progress', 'This persona is being trained.',
        jsonb_build_object('persona_id', persona_id));
    end if;
  end if;
  if v_training.content_hash <> v_hash then
    perform private.fail('key_reused', 'This key has been used for a different training.',
      jsonb_build_object('key', key, 'training_id', v_training.id));
  end if;
  return v_training;
end $$;
comment on function private.train_persona is 'Core of studio.train_persona; checks the caller first.';
revoke all on function private.train_persona from public, anon, authenticated, service_role;
grant execute on function private.train_persona to authenticated, service_role;

-- Members. image_paths: 4 to 50 pictures of studio-uploads or studio-results; without them, the persona's faces. The
-- price goes by steps: billing.quote(workspace_id, 'lora_training', steps). With a key, a repeat answers the first.
-- Errors: unknown_persona, role_too_low, invalid_argument, training_images_invalid, unknown_image,
-- unsupported_image_type, training_in_progress, insufficient_credits, wallet_frozen, key_reused.
create function studio.train_persona(persona_id uuid, image_paths text[] default null, steps integer default 1000,
  key text default null) returns studio.lora_trainings
language sql
set search_path = ''
as $$ select private.train_persona(persona_id, image_paths, steps, key) $$;
comment on function studio.train_persona is
  'Trains a persona from pictures: the price is held and the job enqueued, or nothing happens.';
revoke all on function studio.train_persona from public, anon, authenticated, service_role;
grant execute on function studio.train_persona to authenticated, service_role;

create function private.cancel_lora_training(training_id uuid) returns studio.lora_trainings
language plpgsql security definer
set search_path = ''
as $$
declare
  v_training studio.lora_trainings;
  v_job ops.live_jobs;
begin
  select * into v_training from studio.lora_trainings t where t.id = training_id
    and (private.is_service() or private.has_role(t.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_training', 'There is no such training.',
      jsonb_build_object('training_id', training_id));
  end if;
  perform private.require_role(v_training.workspace_id,
    case when v_training.created_by = auth.uid() then 'member' else 'editor' end);
  -- From 80 on the provider's work is done and paid for.
  v_job := ops._lock_with_parent(v_training.job_id);
  if v_job.progress >= 80 then
    perform private.fail('training_ended', 'This training is done, and its weights are being stored.',
      jsonb_build_object('status', v_training.status));
  end if;
  perform ops.cancel_job(v_training.job_id);
  select * into v_training from studio.lora_trainings t where t.id = training_id;
  if v_training.status <> 'cancelled' then
    perform private.fail('training_ended', format('This training is %s.', v_training.status),
      jsonb_build_object('status', v_training.status));
  end if;
  return v_training;
end $$;
comment on function private.cancel_lora_training is 'Core of studio.cancel_lora_training; checks the caller first.';
revoke all on function private.cancel_lora_training from public, anon, authenticated, service_role;
grant execute on function private.cancel_lora_training to authenticated, service_role;

-- Whoever asked for it, and editors. Again: the same answer. Errors: unknown_training, role_too_low, training_ended.
create function studio.cancel_lora_training(training_id uuid) returns studio.lora_trainings
language sql
set search_path = ''
as $$ select private.cancel_lora_training(training_id) $$;
comment on function studio.cancel_lora_training is 'Cancels a training that has not ended; its price is released.';
revoke all on function studio.cancel_lora_training from public, anon, authenticated, service_role;
grant execute on function studio.cancel_lora_training to authenticated, service_role;

-- A version of a persona that has its weights. Errors: unknown_lora_version, persona_not_trained.
create function private.lora_version(persona studio.personas, version integer) returns studio.lora_trainings
language plpgsql stable
set search_path = ''
as $$
declare
  v_training studio.lora_trainings;
begin
  select * into v_training from studio.lora_trainings t
  where t.persona_id = persona.id and t.status = 'completed'
    and (t.version = lora_version.version or (lora_version.version is null and t.id = persona.lora_training_id));
  if not found then
    perform private.fail(case when version is null then 'persona_not_trained' else 'unknown_lora_version' end,
      'The persona has no such version.', jsonb_build_object('persona_id', persona.id, 'version', version));
  end if;
  return v_training;
end $$;
comment on function private.lora_version is 'The training of a persona''s version; null: of the one in use.';
revoke all on function private.lora_version from public, anon, authenticated, service_role;

create function private.use_lora_version(persona_id uuid, version integer) returns studio.personas
language plpgsql security definer
set search_path = ''
as $$
declare
  v_persona studio.personas := private.find_persona(persona_id);
begin
  perform private.require_role(v_persona.workspace_id, 'editor');
  if version is null then
    perform private.fail('invalid_argument', 'version: is required.', '{"argument": "version"}');
  end if;
  update studio.personas p set lora_training_id = (private.lora_version(v_persona, use_lora_version.version)).id
  where p.id = persona_id
  returning p.* into v_persona;
  return v_persona;
end $$;
comment on function private.use_lora_version is 'Core of studio.use_lora_version; checks the caller first.';
revoke all on function private.use_lora_version from public, anon, authenticated, service_role;
grant execute on function private.use_lora_version to authenticated, service_role;

-- Editors. Errors: unknown_persona, role_too_low, invalid_argument, unknown_lora_version.
create function studio.use_lora_version(persona_id uuid, version integer) returns studio.personas
language sql
set search_path = ''
as $$ select private.use_lora_version(persona_id, version) $$;
comment on function studio.use_lora_version is 'Chooses which trained version of a persona creations use.';
revoke all on function studio.use_lora_version from public, anon, authenticated, service_role;
grant execute on function studio.use_lora_version to authenticated, service_role;

create function private.request_persona_image(persona_id uuid, prompt text, num_outputs integer, quality text,
  version integer, lora_scale numeric, settings jsonb, project_id uuid, key text) returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_persona studio.personas := private.find_persona(persona_id);
  v_training studio.lora_trainings;
  v_creation studio.creations;
begin
  perform private.require_role(v_persona.workspace_id, 'member');
  if lora_scale is null or lora_scale not between 0 and 4 then
    perform private.fail('invalid_argument', 'lora_scale: must be 0 to 4.', '{"argument": "lora_scale"}');
  end if;
  v_training := private.lora_version(v_persona, version);
  -- The scale and the training are part of what a key stands for.
  v_creation := studio.request_creation(workspace_id => v_persona.workspace_id, creation_type => 'persona_image',
    prompt => case when position(lower(v_training.trigger_word) in lower(prompt)) > 0 then prompt
      else v_training.trigger_word || ', ' || prompt end,
    quality => quality, num_outputs => num_outputs, project_id => project_id, key => key,
    settings => v_persona.generation_settings || settings || jsonb_build_object('persona_id', persona_id,
      'lora_training_id', v_training.id, 'lora_scale', round(lora_scale, 2)));
  insert into studio.persona_creations (creation_id, workspace_id, persona_id, purpose, lora_training_id, lora_scale)
  values (v_creation.id, v_persona.workspace_id, persona_id, 'image', v_training.id, lora_scale)
  on conflict on constraint persona_creations_pkey do nothing;
  return v_creation;
end $$;
comment on function private.request_persona_image is 'Core of studio.request_persona_image; checks the caller first.';
revoke all on function private.request_persona_image from public, anon, authenticated, service_role;
grant execute on function private.request_persona_image to authenticated, service_role;

-- Members. Without a version, the one in use. lora_scale: how strongly the persona shows, 1 as trained. The
-- trigger word is added where the prompt lacks it. Errors: unknown_persona, role_too_low, invalid_argument,
-- persona_not_trained, unknown_lora_version, those of studio.request_creation.
create function studio.request_persona_image(persona_id uuid, prompt text, num_outputs integer default 1,
  quality text default 'balanced', version integer default null, lora_scale numeric default 1,
  settings jsonb default '{}', project_id uuid default null, key text default null) returns studio.creations
language sql
set search_path = ''
as $$
  select private.request_persona_image(persona_id, prompt, num_outputs, quality, version, lora_scale, settings,
    project_id, key)
$$;
comment on function studio.request_persona_image is
  'Asks for pictures of a trained persona: a creation like any other.';
revoke all on function studio.request_persona_image from public, anon, authenticated, service_role;
grant execute on function studio.request_persona_image to authenticated, service_role;
