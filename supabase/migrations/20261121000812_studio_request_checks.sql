-- What a request for a creation has to be before anything is held or begun for it: pictures that may be used,
-- settings that its type knows.

-- An uploaded picture that a request may use. What lies in the folders `visitors` and `instagram` is lent by customers,
-- to the service alone.
-- Errors: unknown_image, unsupported_image_type.
create function private.require_image(path text, workspace_id uuid) returns void
language plpgsql stable
set search_path = ''
as $$
declare
  v_mime_type text;
begin
  select coalesce(o.metadata ->> 'mimetype', '') into v_mime_type from storage.objects o
  where o.bucket_id = 'studio-uploads' and o.name = path and private.is_workspace_path(path, workspace_id)
    and (split_part(path, '/', 2) not in ('visitors', 'instagram') or private.is_service());
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

-- What is wrong with a creation's settings; null: nothing. Keys that the type does not know are passed over, a null
-- is as none.
create function private.wrong_setting(creation_type text, settings jsonb, quality text) returns text
language sql stable
set search_path = ''
as $$
  select format('settings.%s: must be %s', s.setting, case s.kind
    when 'choice' then 'one of ' || (select string_agg(c #>> '{}', ', ') from jsonb_array_elements(s.choices) c)
    when 'text' then format('a text of at most %s characters', m.most)
    else format('%s from %s to %s%s', case s.kind when 'integer' then 'a whole number' else 'a number' end, s.minimum,
      m.most, case when m.most < s.maximum then ' in the quality ' || wrong_setting.quality end) end)
  from studio.creation_settings s cross join lateral (select wrong_setting.settings -> s.setting as value) g
  cross join lateral (
    select least(s.maximum, (s.maximum_by_quality ->> wrong_setting.quality)::numeric) as most) m
  where s.creation_type = wrong_setting.creation_type and jsonb_typeof(g.value) <> 'null'
    and case s.kind
      when 'choice' then s.choices @> jsonb_build_array(g.value)
      when 'text' then jsonb_typeof(g.value) = 'string' and length(g.value #>> '{}') between s.minimum and m.most
      else case when jsonb_typeof(g.value) = 'number' then (g.value #>> '{}')::numeric between s.minimum and m.most
        and (s.kind = 'number' or (g.value #>> '{}')::numeric % 1 = 0) else false end
    end is not true
  order by s.setting limit 1
$$;
comment on function private.wrong_setting(text, jsonb, text) is 'The first fault of a creation''s settings, or null.';
revoke all on function private.wrong_setting from public, anon, authenticated, service_role;
grant execute on function private.wrong_setting to authenticated, service_role;

-- Fills in the paths of a request's pictures. Errors: unknown_garment, unknown_model, unknown_image,
-- unsupported_image_type, image_rejected.
create function private.with_pictures(request studio.creations) returns studio.creations
language plpgsql stable
set search_path = ''
as $$
declare
  v_refused jsonb;
begin
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
  return request;
end $$;
comment on function private.with_pictures(studio.creations) is 'A creation request with the paths of its pictures.';
revoke all on function private.with_pictures from public, anon, authenticated, service_role;

-- Checks a request and fills in the paths of its pictures. Errors: as studio.request_creation.
create function private.check_creation(request studio.creations) returns studio.creations
language plpgsql stable
set search_path = ''
as $$
declare
  v_type studio.creation_types := (select t from studio.creation_types t where t.creation_type = request.creation_type);
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
    when request.num_outputs > v_type.max_outputs
      then format('num_outputs: must be %s for %s', case v_type.max_outputs when 1 then '1' else '1 to '
        || v_type.max_outputs end, request.creation_type)
    when v_type.needs_prompt and coalesce(trim(request.prompt), '') = ''
      and coalesce(trim(request.settings ->> v_type.prompt_setting), '') = ''
      then 'prompt: is required' || coalesce(', or settings.' || v_type.prompt_setting, '')
    else private.wrong_setting(request.creation_type, request.settings, request.quality)
  end;
begin
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  if not v_type.is_available then
    perform private.fail('creation_type_unavailable', format('"%s" is not available.', request.creation_type));
  end if;
  request := private.with_pictures(request);
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
