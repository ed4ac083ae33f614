-- What the look at a picture came to, and looking again.

-- image: {"status", "errors"} and, where it was read, {"mime_type", "file_size", "width", "height",
-- "has_transparency", "thumbnail_path"}.
create function private.note_picture(kind text, id uuid, version integer, image jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_set text := $sql$
    update studio.%I p set image_status = $3 ->> 'status', image_errors = coalesce($3 -> 'errors', '[]'),
      image_checked_at = case when $3 ->> 'status' <> 'pending' then private.now() end,
      mime_type = $3 ->> 'mime_type', file_size = ($3 ->> 'file_size')::bigint, width = ($3 ->> 'width')::integer,
      height = ($3 ->> 'height')::integer, has_transparency = coalesce(($3 ->> 'has_transparency')::boolean, false),
      thumbnail_path = $3 ->> 'thumbnail_path'
    where p.id = $1 and p.image_version = $2 $sql$;
begin
  case kind
    when 'garment' then
      execute format(v_set, 'wardrobe_garments') using id, version, image;
    when 'model' then
      execute format(v_set, 'models') using id, version, image;
    when 'creation' then
      update studio.creations c set thumbnail_path = image ->> 'thumbnail_path'
      where c.id = note_picture.id and c.status = 'completed' and image ->> 'status' = 'accepted';
  end case;
end $$;
comment on function private.note_picture(text, uuid, integer, jsonb) is 'Writes down what a picture is.';
revoke all on function private.note_picture from public, anon, authenticated, service_role;

-- on_event of studio.check_picture and studio.thumbnail.
create function studio.on_picture_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_image jsonb;
begin
  case event
    when 'completed' then
      if not job.output ? 'status' then
        return;
      end if;
      v_image := job.output;
    when 'dead', 'cancelled' then
      v_image := jsonb_build_object('status', 'unchecked', 'errors', jsonb_build_array(
        case when event = 'cancelled'
          then '{"code": "cancelled", "message": "Nobody has looked at the picture."}'::jsonb
        when job.error ~ '^[a-z][a-z_]*: ' then jsonb_build_object('code', split_part(job.error, ':', 1),
          'message', regexp_replace(job.error, '^[a-z_]+: ', ''))
        else '{"code": "internal_error", "message": "The picture could not be looked at."}'::jsonb end));
    when 'replayed' then
      v_image := '{"status": "pending"}';
    else
      return;
  end case;
  perform private.note_picture(job.payload ->> 'kind', (job.payload ->> 'id')::uuid,
    (job.payload ->> 'version')::integer, v_image);
end $$;
comment on function studio.on_picture_job(ops.jobs, text) is 'Writes what a job saw, in the transaction that ends it.';
revoke all on function studio.on_picture_job from public, anon, authenticated, service_role;

create function private.recheck_garment(garment_id uuid) returns studio.wardrobe_garments
language plpgsql security definer
set search_path = ''
as $$
declare
  v_garment studio.wardrobe_garments;
begin
  select * into v_garment from studio.wardrobe_garments g where g.id = recheck_garment.garment_id
    and (private.is_service() or private.has_role(g.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_garment', 'There is no such garment.', jsonb_build_object('garment_id', garment_id));
  end if;
  perform private.require_role(v_garment.workspace_id, 'member');
  update studio.wardrobe_garments g
  set image_version = g.image_version + 1, image_status = 'pending', image_errors = '[]', image_checked_at = null
  where g.id = v_garment.id returning * into v_garment;
  return v_garment;
end $$;
comment on function private.recheck_garment is 'Core of studio.recheck_garment; checks the caller first.';
revoke all on function private.recheck_garment from public, anon, authenticated, service_role;
grant execute on function private.recheck_garment to authenticated, service_role;

-- Has a garment's picture looked at again, after it was replaced. Members may. Errors: unknown_garment, role_too_low.
create function studio.recheck_garment(garment_id uuid) returns studio.wardrobe_garments
language sql
set search_path = ''
as $$ select private.recheck_garment(garment_id) $$;
comment on function studio.recheck_garment is 'Has a garment''s picture looked at again, after it was replaced.';
revoke all on function studio.recheck_garment from public, anon, authenticated, service_role;
grant execute on function studio.recheck_garment to authenticated, service_role;

create function private.recheck_model(model_id uuid) returns studio.models
language plpgsql security definer
set search_path = ''
as $$
declare
  v_model studio.models;
begin
  select * into v_model from studio.models m where m.id = recheck_model.model_id
    and (private.is_service() or private.has_role(m.workspace_id, 'viewer'));
  if not found then
    perform private.fail('unknown_model', 'There is no such model.', jsonb_build_object('model_id', model_id));
  end if;
  perform private.require_role(v_model.workspace_id, 'member');
  update studio.models m
  set image_version = m.image_version + 1, image_status = 'pending', image_errors = '[]', image_checked_at = null
  where m.id = v_model.id returning * into v_model;
  return v_model;
end $$;
comment on function private.recheck_model is 'Core of studio.recheck_model; checks the caller first.';
revoke all on function private.recheck_model from public, anon, authenticated, service_role;
grant execute on function private.recheck_model to authenticated, service_role;

-- Has a model's picture looked at again, after it was replaced. Members may. Errors: unknown_model, role_too_low.
create function studio.recheck_model(model_id uuid) returns studio.models
language sql
set search_path = ''
as $$ select private.recheck_model(model_id) $$;
comment on function studio.recheck_model is 'Has a model''s picture looked at again, after it was replaced.';
revoke all on function studio.recheck_model from public, anon, authenticated, service_role;
grant execute on function studio.recheck_model to authenticated, service_role;
