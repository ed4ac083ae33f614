-- The end of visitors' photos and pictures: a sweep finds what is due and has its files deleted by jobs, because only
-- the storage API deletes files. A row says that they are gone when they are.

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('studio.remove_files', 'Deletes files of visitors, whoever uses them.', 'studio.on_files_removed', null);

-- Results of a try-on, and the small copy that its creation has of the first.
create function private.tryon_pictures(tryon studio.vr_tryons) returns setof text
language sql stable
set search_path = ''
as $$
  select unnest(tryon.result_paths)
  union
  select c.thumbnail_path from studio.creations c where c.id = tryon.creation_id and c.thumbnail_path is not null
$$;
comment on function private.tryon_pictures(studio.vr_tryons) is 'Paths of a visitor''s pictures in studio-results.';
revoke all on function private.tryon_pictures from public, anon, authenticated, service_role;

-- What is still being worked on keeps its photo until it ends. Returns how many photos and
-- try-ons are on their way out.
create function studio.sweep_vr_files() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_photos uuid[];
  v_tryons uuid[];
  v_files jsonb;
  v_job bigint;
begin
  select array_agg(p.id) into v_photos from (
    select p.id from studio.vr_photos p
    where p.expires_at <= private.now() and p.removed_at is null and p.removal_job_id is null
      and not exists (select from studio.vr_tryons y where y.photo_id = p.id and y.completed_at is null)
    order by p.expires_at limit 50 for update skip locked) p;
  select array_agg(y.id) into v_tryons from (
    select y.id from studio.vr_tryons y
    where y.expires_at <= private.now() and y.removed_at is null and y.removal_job_id is null
      and y.completed_at is not null
    order by y.expires_at limit 50 for update skip locked) y;
  select jsonb_agg(f.file) into v_files from (
    select jsonb_build_object('bucket', 'studio-uploads', 'path', p.storage_path) as file
    from studio.vr_photos p where p.id = any (v_photos)
    union all
    select jsonb_build_object('bucket', 'studio-results', 'path', r.path)
    from studio.vr_tryons y cross join private.tryon_pictures(y) r (path) where y.id = any (v_tryons)) f;
  if v_photos is null and v_tryons is null then
    return 0;
  end if;
  select j.job_id into v_job from ops.enqueue_job('studio.remove_files', jsonb_build_object('forced', true,
    'files', coalesce(v_files, '[]'), 'photo_ids', coalesce(v_photos, '{}'), 'tryon_ids', coalesce(v_tryons, '{}')),
    max_attempts => 20) j;
  update studio.vr_photos p set removal_job_id = v_job where p.id = any (v_photos);
  update studio.vr_tryons y set removal_job_id = v_job where y.id = any (v_tryons);
  return coalesce(cardinality(v_photos), 0) + coalesce(cardinality(v_tryons), 0);
end $$;
comment on function studio.sweep_vr_files() is
  'Sweep: has the files of visitors deleted whose time is over; returns how many photos and try-ons.';
revoke all on function studio.sweep_vr_files from public, anon, authenticated, service_role;
grant execute on function studio.sweep_vr_files to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('delete visitors'' photos', 'studio.sweep_vr_files', interval '1 minute');

-- on_event of studio.remove_files. A job that gave up is asked for again by the sweep. With a try-on's pictures goes
-- its creation, which nobody could look at any more; the charge stays in the books.
create function studio.on_files_removed(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_photos uuid[] := array(select jsonb_array_elements_text(job.payload -> 'photo_ids')::uuid);
  v_tryons uuid[] := array(select jsonb_array_elements_text(job.payload -> 'tryon_ids')::uuid);
begin
  if event = 'completed' then
    delete from studio.creations c using studio.vr_tryons y
    where y.id = any (v_tryons) and c.id = y.creation_id and c.completed_at is not null;
    update studio.vr_tryons y set result_paths = '{}', removed_at = private.now() where y.id = any (v_tryons);
    update studio.vr_photos p set removed_at = private.now() where p.id = any (v_photos);
  elsif event in ('dead', 'cancelled') then
    update studio.vr_tryons y set removal_job_id = null where y.id = any (v_tryons);
    update studio.vr_photos p set removal_job_id = null where p.id = any (v_photos);
  end if;
end $$;
comment on function studio.on_files_removed(ops.jobs, text) is 'Notes that files of visitors are gone, or are not yet.';
revoke all on function studio.on_files_removed from public, anon, authenticated, service_role;

-- The pictures go with the creation, and the photo with its row.
create function private.remove_tryon_creations() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from studio.creations c using old_rows o where c.id = o.creation_id and c.completed_at is not null;
  return null;
end $$;
comment on function private.remove_tryon_creations() is
  'Trigger: what was made for a person''s try-on goes with it; for rows with a creation_id.';
revoke all on function private.remove_tryon_creations from public, anon, authenticated, service_role;
create trigger vr_tryons_creations after delete on studio.vr_tryons
  referencing old table as old_rows for each statement execute function private.remove_tryon_creations();
