-- Creations: a request holds its charge and enqueues its job in one transaction; the job's end settles or
-- releases the charge, updates the creation and tells the person, again in one transaction.

create table studio.creation_types (
  creation_type text primary key,
  meter text not null,
  needs_garment boolean not null default false,
  needs_person boolean not null default true,
  needs_prompt boolean not null default false,
  is_available boolean not null default false,
  created_at timestamptz not null default now(),
  constraint creation_types_meter_fkey foreign key (meter) references billing.meters (slug)
);
comment on table studio.creation_types is
  'What can be created, which inputs it needs and which meter counts its outputs.';
create index creation_types_meter on studio.creation_types (meter);
alter table studio.creation_types enable row level security;
create policy "Everybody may read the creation types" on studio.creation_types for select to anon, authenticated
  using (true);
revoke all on table studio.creation_types from public, anon, authenticated, service_role;
grant select on table studio.creation_types to anon, authenticated;
grant select, insert, update, delete on table studio.creation_types to service_role;
insert into studio.creation_types (creation_type, meter, needs_garment, needs_person, needs_prompt, is_available) values
  ('tryon', 'generation', true, true, false, true),
  ('bg_remove', 'generation', false, true, false, true),
  ('upscale', 'generation', false, true, false, true),
  ('color_change', 'generation', false, true, true, false),
  ('text_to_image', 'generation', false, false, true, false),
  ('image_to_image', 'generation', false, true, true, false),
  ('video', 'generation', false, true, true, false);

create table studio.creations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  project_id uuid,
  created_by uuid,
  creation_type text not null default 'tryon',
  garment_id uuid,
  model_id uuid,
  garment_path text,
  model_storage_path text,
  prompt text,
  quality text not null default 'balanced',
  category text not null default 'upper_body',
  num_outputs integer not null default 1,
  settings jsonb not null default '{}',
  status text not null default 'pending',
  progress smallint not null default 0,
  stage text,
  result_paths text[] not null default '{}',
  thumbnail_path text,
  provider text,
  provider_request_id text,
  usage_event_id uuid,
  job_id bigint,
  cost_micro bigint,
  error_code text,
  error_message text,
  key text,
  content_hash bytea,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  constraint creations_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint creations_project_id_fkey foreign key (project_id) references studio.projects (id) on delete set null,
  constraint creations_created_by_fkey foreign key (created_by) references auth.users (id) on delete set null,
  constraint creations_type_fkey foreign key (creation_type) references studio.creation_types (creation_type),
  constraint creations_garment_id_fkey foreign key (garment_id)
    references studio.wardrobe_garments (id) on delete set null,
  constraint creations_model_id_fkey foreign key (model_id) references studio.models (id) on delete set null,
  constraint creations_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint creations_quality_known check (quality in ('fast', 'balanced', 'high', 'ultra')),
  constraint creations_category_known check (category in ('upper_body', 'lower_body', 'dresses')),
  constraint creations_num_outputs_in_range check (num_outputs between 1 and 4),
  constraint creations_progress_in_range check (progress between 0 and 100),
  constraint creations_status_known check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  constraint creations_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint creations_completed_has_results
    check ((status = 'completed') = (cardinality(result_paths) > 0 and cost_micro is not null)),
  constraint creations_failed_has_error check ((status = 'failed') = (error_message is not null)),
  constraint creations_key_length check (length(key) between 1 and 255)
);
comment on table studio.creations is
  'One request for a try-on or other generation: inputs, live progress, results, cost.';
comment on column studio.creations.cost_micro is 'What was charged, in micro-units; null until completed.';
comment on column studio.creations.result_paths is 'Paths in the bucket studio-results.';
create unique index creations_key on studio.creations (workspace_id, key) where key is not null;
create index creations_workspace_id on studio.creations (workspace_id, created_at desc);
create index creations_type on studio.creations (workspace_id, creation_type, created_at desc);
create index creations_creation_type on studio.creations (creation_type);
create index creations_project_id on studio.creations (project_id, created_at desc);
create index creations_created_by on studio.creations (created_by);
create index creations_garment_id on studio.creations (garment_id);
create index creations_model_id on studio.creations (model_id);
create index creations_usage_event_id on studio.creations (usage_event_id);
create index creations_provider_request on studio.creations (provider, provider_request_id)
  where provider_request_id is not null;
create index creations_open on studio.creations (created_at) where status in ('pending', 'processing');
alter table studio.creations enable row level security;
create policy "Members may read their workspace's creations" on studio.creations for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Editors may move creations to another project" on studio.creations for update to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]))
  with check (project_id is null
    or exists (select from studio.projects p where p.id = project_id and p.workspace_id = creations.workspace_id));
create policy "Editors may delete creations that have ended" on studio.creations for delete to authenticated
  using (workspace_id = any ((select private.workspace_ids('editor'))::uuid[]) and completed_at is not null);
revoke all on table studio.creations from public, anon, authenticated, service_role;
grant select, delete, update (project_id) on table studio.creations to authenticated;
grant select on table studio.creations to service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_garment', 'PT404', 'Choose a garment of this workspace''s wardrobe.'),
  ('unknown_model', 'PT404', 'Choose a model of this workspace.'),
  ('unknown_project', 'PT404', 'Choose a project of this workspace.'),
  ('unknown_image', 'PT404', 'Upload the picture to the bucket studio-uploads, under the workspace''s id, first.'),
  ('unsupported_image_type', 'PT415', 'Use a PNG, JPEG or WebP picture.'),
  ('image_rejected', 'PT422', 'Replace the picture by one that fits the rules of studio.picture_rules.'),
  ('creation_type_unavailable', 'PT422', 'Choose a type of studio.creation_types that is available.'),
  ('unknown_creation', 'PT404', 'Check the creation''s id.'),
  ('creation_ended', 'PT409', 'The creation has ended, or is about to, and cannot be cancelled any more.'),
  ('creation_without_results', 'PT422', 'Complete the job with result_paths, the paths of the pictures it made.');

insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('studio.creation', 'Makes one creation at a provider and stores its results.', 'studio.on_creation_job',
    interval '30 minutes', 'fal'),
  ('studio.cancel_at_provider', 'Asks a provider to stop work nobody wants any more.', null, interval '1 hour', null);
insert into ops.webhook_providers (provider, job_kind) values ('fal', null);

-- An uploaded picture that a request may use. Errors: unknown_image, unsupported_image_type.
create function private.require_image(path text, workspace_id uuid) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_mime_type text;
begin
  select coalesce(o.metadata ->> 'mimetype', '') into v_mime_type from storage.objects o
  where o.bucket_id = 'studio-uploads' and o.name = path and private.is_workspace_path(path, workspace_id);
  if not found then
    perform private.fail('unknown_image', format('There is no uploaded picture "%s" in this workspace.', path),
      jsonb_build_object('path', path));
  elsif v_mime_type not in ('image/png', 'image/jpeg', 'image/webp') then
    perform private.fail('unsupported_image_type',
      format('"%s" is of the type %s.', path, coalesce(nullif(v_mime_type, ''), 'unknown')),
      jsonb_build_object('path', path, 'mime_type', v_mime_type));
  end if;
end $$;
comment on function private.require_image(text, uuid) is
  'Refuses a path that is no uploaded PNG, JPEG or WebP of the workspace.';
revoke all on function private.require_image from public, anon, authenticated, service_role;

-- errors: why the picture was rejected; null where it was not. Errors: image_rejected.
create function private.refuse_image(errors jsonb) returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if errors is not null then
    perform private.fail('image_rejected', errors -> 0 ->> 'message', jsonb_build_object('image_errors', errors));
  end if;
end $$;
comment on function private.refuse_image(jsonb) is 'Refuses a picture that has been looked at and rejected.';
revoke all on function private.refuse_image from public, anon, authenticated, service_role;

-- Checks a request and fills in the paths of its pictures. Errors: as studio.request_creation.
create function private.check_creation(request studio.creations) returns studio.creations
language plpgsql stable
set search_path = ''
as $$
declare
  v_type studio.creation_types := (select t from studio.creation_types t where t.creation_type = request.creation_type);
  v_refused jsonb;
  v_wrong text := case
    when request.quality is null or request.quality not in ('fast', 'balanced', 'high', 'ultra')
      then 'quality: must be fast, balanced, high or ultra'
    when request.category is null or request.category not in ('upper_body', 'lower_body', 'dresses')
      then 'category: must be upper_body, lower_body or dresses'
    when request.num_outputs is null or request.num_outputs not between 1 and 4 then 'num_outputs: must be 1 to 4'
    when jsonb_typeof(request.settings) is distinct from 'object' then 'settings: must be a JSON object'
    when length(request.prompt) > 4000 then 'prompt: must have at most 4000 characters'
    when v_type.creation_type is null then 'creation_type: is not known'
    when v_type.needs_garment and request.garment_id is null then 'garment_id: is required'
    when v_type.needs_person and num_nonnulls(request.model_id, request.model_storage_path) <> 1
      then 'input_path: exactly one of model_id and input_path is required'
    when v_type.needs_prompt and coalesce(trim(request.prompt), '') = '' then 'prompt: is required'
  end;
begin
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  if not v_type.is_available then
    perform private.fail('creation_type_unavailable', format('"%s" is not available.', request.creation_type));
  end if;
  if request.garment_id is not null then
    select g.storage_path, case when g.image_status = 'rejected' then g.image_errors end
    into request.garment_path, v_refused
    from studio.wardrobe_garments g where g.id = request.garment_id and g.workspace_id = request.workspace_id;
    if not found then
      perform private.fail('unknown_garment', 'There is no such garment in this workspace.',
        jsonb_build_object('garment_id', request.garment_id));
    end if;
    perform private.refuse_image(v_refused);
    perform private.require_image(request.garment_path, request.workspace_id);
  end if;
  if request.model_id is not null then
    select m.storage_path, case when m.image_status = 'rejected' then m.image_errors end
    into request.model_storage_path, v_refused
    from studio.models m
    where m.id = request.model_id and m.workspace_id = request.workspace_id;
    if not found then
      perform private.fail('unknown_model', 'There is no such model in this workspace.',
        jsonb_build_object('model_id', request.model_id));
    end if;
    perform private.refuse_image(v_refused);
  end if;
  if request.model_storage_path is not null then
    perform private.require_image(request.model_storage_path, request.workspace_id);
  end if;
  if request.project_id is not null and not exists (select from studio.projects p
    where p.id = request.project_id and p.workspace_id = request.workspace_id) then
    perform private.fail('unknown_project', 'There is no such project in this workspace.',
      jsonb_build_object('project_id', request.project_id));
  end if;
  return request;
end $$;
comment on function private.check_creation(studio.creations) is
  'Validates a creation request and resolves its pictures.';
revoke all on function private.check_creation from public, anon, authenticated, service_role;

-- Holds the charge of a creation that is about to be worked on. A replay's charge is named after the one
-- that was released before it.
create function private.hold_creation_charge(creation studio.creations) returns uuid
language sql
set search_path = ''
as $$
  select (billing.authorize_usage(creation.workspace_id, t.meter, creation.num_outputs,
    concat_ws(':', 'creation', creation.id, creation.usage_event_id),
    jsonb_strip_nulls(jsonb_build_object('source_id', creation.id, 'service_subtype', creation.creation_type,
      'user_id', creation.created_by)))).usage_event_id
  from studio.creation_types t where t.creation_type = creation.creation_type
$$;
comment on function private.hold_creation_charge(studio.creations) is 'Authorizes the price of a creation''s outputs.';
revoke all on function private.hold_creation_charge from public, anon, authenticated, service_role;

create function private.request_creation(workspace_id uuid, creation_type text, garment_id uuid, model_id uuid,
  input_path text,
  prompt text, quality text, category text, num_outputs integer, settings jsonb, project_id uuid, key text)
returns studio.creations
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_request studio.creations;
  v_creation studio.creations;
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
    perform private.correlate();
    insert into studio.creations as c (workspace_id, project_id, created_by, creation_type, garment_id, model_id,
      garment_path, model_storage_path, prompt, quality, category, num_outputs, settings, key, content_hash)
    values (workspace_id, project_id, auth.uid(), creation_type, garment_id, model_id, v_request.garment_path,
      v_request.model_storage_path, prompt, quality, category, num_outputs, settings, key, v_hash)
    on conflict do nothing
    returning c.* into v_creation;
    if found then
      update studio.creations c
      set usage_event_id = private.hold_creation_charge(v_creation),
        job_id = (select j.job_id
          from ops.enqueue_job('studio.creation', jsonb_build_object('creation_id', v_creation.id),
          workspace_id, max_attempts => 4, key => 'creation:' || v_creation.id) j)
      where c.id = v_creation.id
      returning c.* into v_creation;
      return v_creation;
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
  v_job := ops._lock_with_parent(v_creation.job_id);
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
