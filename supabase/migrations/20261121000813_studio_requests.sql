-- Asking for creations and cancelling them: the request is checked, its charge held and its job enqueued in one
-- transaction, or nothing happens.

-- What is charged for a creation: so many units of a meter. A type without a price row costs one unit an output.
create function private.creation_quantity(creation_type text, quality text, num_outputs integer, settings jsonb,
  out meter text, out quantity numeric)
language sql stable
set search_path = ''
as $$
  select coalesce(p.meter, t.meter), round(num_outputs * coalesce(p.units, 1)
    * case p.per when 'second' then private.creation_seconds(settings) else 1 end, 6)
  from studio.creation_types t
  left join studio.creation_prices p on p.creation_type = t.creation_type and p.quality = creation_quantity.quality
  where t.creation_type = creation_quantity.creation_type
$$;
comment on function private.creation_quantity is 'How many units of which meter a creation costs.';
revoke all on function private.creation_quantity from public, anon, authenticated, service_role;
grant execute on function private.creation_quantity to authenticated, service_role;

-- Holds the charge of a creation that is about to be worked on. A replay's charge is named after the one
-- that was released before it.
create function private.hold_creation_charge(creation studio.creations) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(creation.workspace_id, q.meter, q.quantity,
    concat_ws(':', 'creation', creation.id, creation.usage_event_id),
    jsonb_strip_nulls(jsonb_build_object('source_id', creation.id, 'service_subtype', creation.creation_type,
      'user_id', creation.created_by)))).usage_event_id
  from private.creation_quantity(creation.creation_type, creation.quality, creation.num_outputs, creation.settings) q
$$;
comment on function private.hold_creation_charge(studio.creations) is 'Authorizes the price of a creation''s outputs.';
revoke all on function private.hold_creation_charge from public, anon, authenticated, service_role;

-- Begins an attempt: a job at the model's provider, with the charge that is held already. The first job of a creation
-- is named after it, each later one counts.
create function private.begin_creation_attempt(creation studio.creations, model studio.provider_models)
returns studio.creations
language plpgsql
set search_path = ''
as $$
declare
  v_before bigint := (select count(*) from studio.creation_attempts a where a.creation_id = creation.id);
  v_creation studio.creations;
begin
  update studio.creations c
  set usage_event_id = creation.usage_event_id, provider = model.provider, provider_model = model.model,
    provider_request_id = null,
    job_id = (select j.job_id
      from ops.enqueue_job('studio.creation', jsonb_build_object('creation_id', creation.id), creation.workspace_id,
        max_attempts => 4, provider => model.provider,
        key => concat_ws(':', 'creation', creation.id, nullif(v_before, 0))) j)
  where c.id = creation.id
  returning c.* into v_creation;
  insert into studio.creation_attempts (creation_id, workspace_id, usage_event_id, job_id, provider, model)
  values (v_creation.id, v_creation.workspace_id, v_creation.usage_event_id, v_creation.job_id, model.provider,
    model.model);
  return v_creation;
end $$;
comment on function private.begin_creation_attempt(studio.creations, studio.provider_models) is
  'Enqueues a creation''s next attempt, at one model of one provider.';
revoke all on function private.begin_creation_attempt from public, anon, authenticated, service_role;

-- One order for rows that point at each other (projects, garments, models, creations, analyses): whoever writes them
-- for work shares this lock, and whoever deletes or moves them, in whatever order the planner likes, has it alone. It
-- comes after the locks of jobs, by workspace, and before the rows and the wallet.
create function private.share_studio(workspace_id uuid) returns void
language sql
set search_path = ''
as $$
  select pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('studio:' || workspace_id, 0))
$$;
comment on function private.share_studio(uuid) is
  'Keeps deletions of a workspace''s things out until the transaction ends.';
revoke all on function private.share_studio from public, anon, authenticated, service_role;

-- Before the statement, because a row's own triggers come when the row is locked.
create function private.hold_studio() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if auth.uid() is not null then
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('studio:' || w.id, 0))
    from (select u.id from unnest(private.workspace_ids('editor')) u (id) order by u.id) w;
  end if;
  return null;
end $$;
comment on function private.hold_studio() is 'Trigger: deletions of a person''s things wait for work that uses them.';
revoke all on function private.hold_studio from public, anon, authenticated, service_role;
create trigger projects_delete_alone before delete on studio.projects
  for each statement execute function private.hold_studio();
create trigger garments_delete_alone before delete on studio.wardrobe_garments
  for each statement execute function private.hold_studio();
create trigger models_delete_alone before delete on studio.models
  for each statement execute function private.hold_studio();
create trigger creations_move_alone before delete or update of project_id on studio.creations
  for each statement execute function private.hold_studio();

create function private.request_creation(workspace_id uuid, creation_type text, garment_id uuid, model_id uuid,
  input_path text,
  prompt text, quality text, category text, num_outputs integer, settings jsonb, project_id uuid, key text,
  retry_of uuid default null)
returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_request studio.creations;
  v_creation studio.creations;
  v_model studio.provider_models;
  v_hash bytea := private.content_hash(jsonb_build_array(creation_type, garment_id, model_id, input_path, prompt,
    quality, category, num_outputs, settings, project_id));
begin
  perform private.require_role(workspace_id, 'member');
  if key is not null then
    perform billing._check_key(key);
    select * into v_creation from studio.creations c where c.workspace_id = request_creation.workspace_id
      and c.key = request_creation.key;
  end if;
  if v_creation.id is null then
    v_request.workspace_id := workspace_id;
    v_request.creation_type := creation_type;
    v_request.garment_id := garment_id;
    v_request.model_id := model_id;
    v_request.model_storage_path := input_path;
    v_request.prompt := prompt;
    v_request.quality := quality;
    v_request.category := category;
    v_request.num_outputs := num_outputs;
    v_request.settings := settings;
    v_request.project_id := project_id;
    v_request := private.check_creation(v_request);
    v_model := private.choose_provider_model(v_request);
    if v_model.id is null then
      perform private.fail('creation_type_unavailable', format('Nobody makes %s outputs of "%s" in the quality %s.',
        num_outputs, creation_type, quality));
    end if;
    perform private.correlate();
    perform private.share_studio(workspace_id);
    insert into studio.creations as c (workspace_id, project_id, created_by, creation_type, garment_id, model_id,
      garment_path, model_storage_path, prompt, quality, category, num_outputs, settings, key, content_hash, retry_of)
    values (workspace_id, project_id, auth.uid(), creation_type, garment_id, model_id, v_request.garment_path,
      v_request.model_storage_path, prompt, quality, category, num_outputs, settings, key, v_hash, retry_of)
    on conflict do nothing
    returning c.* into v_creation;
    if found then
      v_creation.usage_event_id := private.hold_creation_charge(v_creation);
      return private.begin_creation_attempt(v_creation, v_model);
    end if;
    select * into v_creation from studio.creations c where c.workspace_id = request_creation.workspace_id
      and c.key = request_creation.key;
  end if;
  if v_creation.content_hash <> v_hash then
    perform private.fail('key_reused', 'This key has been used for a different creation.',
      jsonb_build_object('key', key, 'creation_id', v_creation.id));
  end if;
  return v_creation;
end $$;
comment on function private.request_creation is 'Core of studio.request_creation; checks the caller first.';
revoke all on function private.request_creation from public, anon, authenticated, service_role;
grant execute on function private.request_creation to authenticated, service_role;

-- Requests a creation: validates, holds the charge and enqueues the job in one transaction. Members of the
-- workspace may. The person comes from model_id or input_path (bucket studio-uploads). With a key, a repeat
-- answers the first creation. Errors: unknown_workspace, role_too_low, invalid_argument, unknown_garment,
-- unknown_model, unknown_project, unknown_image, unsupported_image_type, image_rejected, creation_type_unavailable,
-- insufficient_credits (402, details say what is missing), wallet_frozen, key_reused.
create function studio.request_creation(workspace_id uuid, creation_type text, garment_id uuid default null,
  model_id uuid default null, input_path text default null, prompt text default null, quality text default 'balanced',
  category text default 'upper_body', num_outputs integer default 1, settings jsonb default '{}',
    project_id uuid default null, key text default null) returns studio.creations
language sql
set search_path = ''
as $$
  select private.request_creation(workspace_id, creation_type, garment_id, model_id, input_path, prompt, quality,
    category, num_outputs, settings, project_id, key)
$$;
comment on function studio.request_creation is
  'Requests a try-on or other creation: the charge is held and the job enqueued, or nothing happens.';
revoke all on function studio.request_creation from public, anon, authenticated, service_role;
grant execute on function studio.request_creation to authenticated, service_role;

create function private.cancel_creation(creation_id uuid) returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
declare
  v_creation studio.creations;
  v_job ops.live_jobs;
begin
  select * into v_creation from studio.creations c where c.id = creation_id
    and (private.is_service() or private.has_role(c.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_creation', 'There is no such creation.',
      jsonb_build_object('creation_id', creation_id));
  end if;
  perform private.require_role(v_creation.workspace_id,
    case when v_creation.created_by = auth.uid() then 'member' else 'editor' end);
  -- From 80 on the pictures are made and being stored where members read them: whoever could cancel then would
  -- have them for nothing. The worker says so before it stores the first, and the lock puts the two in order.
  -- It may have gone on with another provider's job while the lock was waited for.
  loop
    v_job := ops._lock_with_parent(v_creation.job_id);
    exit when v_creation.job_id is not distinct from (select c.job_id from studio.creations c where c.id = creation_id);
    select * into v_creation from studio.creations c where c.id = creation_id;
  end loop;
  if v_job.progress >= 80 then
    perform private.fail('creation_ended', 'This creation is made, and its pictures are being stored.',
      jsonb_build_object('status', v_creation.status));
  end if;
  perform ops.cancel_job(v_creation.job_id);
  select * into v_creation from studio.creations c where c.id = creation_id;
  if v_creation.status <> 'cancelled' then
    perform private.fail('creation_ended', format('This creation is %s.', v_creation.status),
      jsonb_build_object('status', v_creation.status));
  end if;
  return v_creation;
end $$;
comment on function private.cancel_creation is 'Core of studio.cancel_creation; checks the caller first.';
revoke all on function private.cancel_creation from public, anon, authenticated, service_role;
grant execute on function private.cancel_creation to authenticated, service_role;

-- Cancels a creation: the charge is released at once, and what runs at a provider is told to stop by a job.
-- The one who asked for it may, and editors. Cancelling again answers the cancelled creation; one whose pictures
-- are made completes.
-- Errors: unknown_creation, role_too_low, creation_ended.
create function studio.cancel_creation(creation_id uuid) returns studio.creations
language sql
set search_path = ''
as $$ select private.cancel_creation(creation_id) $$;
comment on function studio.cancel_creation is 'Cancels a creation that has not ended; its charge is released.';
revoke all on function studio.cancel_creation from public, anon, authenticated, service_role;
grant execute on function studio.cancel_creation to authenticated, service_role;
