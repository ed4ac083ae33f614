-- Pictures that were uploaded, or fetched from a shop, are looked at by a job: what they really are, whether they will
-- do, and a small copy for lists. What waits for its job is a row of studio.picture_queue, written with the row it is
-- about; a sweep makes jobs of them by the thousand.

create table studio.picture_rules (
  kind text primary key,
  max_bytes bigint not null,
  min_side integer not null,
  max_side integer not null,
  max_pixels bigint not null,
  max_pixels_whole bigint not null,
  created_at timestamptz not null default now(),
  constraint picture_rules_kind_known check (kind in ('garment', 'model')),
  constraint picture_rules_in_range
    check (max_bytes > 0 and min_side > 0 and max_side >= min_side and max_pixels > 0 and max_pixels_whole > 0)
);
comment on table studio.picture_rules is
  'What pictures of garments and people may be: PNG, JPEG or WebP of these sizes, in bytes and pixels.';
comment on column studio.picture_rules.max_pixels is 'Width times height, of a JPEG.';
comment on column studio.picture_rules.max_pixels_whole is
  'Width times height, of a PNG or WebP: these are decoded whole, and a worker''s memory is small.';
alter table studio.picture_rules enable row level security;
create policy "Everybody may read the rules of pictures" on studio.picture_rules for select to anon, authenticated
  using (true);
revoke all on table studio.picture_rules from public, anon, authenticated, service_role;
grant select on table studio.picture_rules to anon, authenticated;
grant select, insert, update, delete on table studio.picture_rules to service_role;
insert into studio.picture_rules (kind, max_bytes, min_side, max_side, max_pixels, max_pixels_whole) values
  ('garment', 20971520, 200, 8000, 25000000, 12000000),
  ('model', 20971520, 256, 8000, 25000000, 12000000);

create table studio.picture_queue (
  id bigint generated always as identity primary key,
  kind text not null,
  subject_id uuid not null,
  workspace_id uuid not null,
  version integer not null default 1,
  priority integer not null default 0,
  created_at timestamptz not null default now(),
  constraint picture_queue_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint picture_queue_kind_known check (kind in ('garment', 'model', 'creation'))
);
comment on table studio.picture_queue is 'Pictures that wait for a job: subject_id is of a garment, model or creation.';
create index picture_queue_workspace_id on studio.picture_queue (workspace_id);
alter table studio.picture_queue enable row level security;
revoke all on table studio.picture_queue from public, anon, authenticated, service_role;
grant select on table studio.picture_queue to service_role;

-- Argument of the trigger: the kind. What is fetched by the thousand comes after what a person waits for.
create function private.queue_picture() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_row jsonb := to_jsonb(new);
begin
  insert into studio.picture_queue (kind, subject_id, workspace_id, version, priority)
  values (tg_argv[0], new.id, new.workspace_id, coalesce((v_row ->> 'image_version')::integer, 1),
    case when (v_row ->> 'is_synced')::boolean then -10 else 0 end);
  return null;
end $$;
comment on function private.queue_picture() is
  'Trigger: a picture that is new, or to be looked at again, waits for its job.';
revoke all on function private.queue_picture from public, anon, authenticated, service_role;
create trigger wardrobe_garments_queue after insert on studio.wardrobe_garments
  for each row execute function private.queue_picture('garment');
create trigger wardrobe_garments_queue_again after update of image_version on studio.wardrobe_garments
  for each row when (new.image_version > old.image_version) execute function private.queue_picture('garment');
create trigger models_queue after insert on studio.models
  for each row execute function private.queue_picture('model');
create trigger models_queue_again after update of image_version on studio.models
  for each row when (new.image_version > old.image_version) execute function private.queue_picture('model');
create trigger creations_queue after update of status on studio.creations
  for each row when (new.status = 'completed' and old.status <> 'completed'
    and new.result_paths[1] ~ '\.(png|jpg|jpeg|webp)$')
  execute function private.queue_picture('creation');

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('studio.check_picture', 'Looks at a picture of a garment or a person: fetches, checks and shrinks it.',
    'studio.on_picture_job', interval '1 day'),
  ('studio.thumbnail', 'Makes the small copy of a result.', 'studio.on_picture_job', interval '1 day');

create function studio.enqueue_picture_work() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_count integer := 0;
  v_group record;
begin
  for v_group in
    with taken as (
      delete from studio.picture_queue q where q.id in (
        select w.id from studio.picture_queue w order by w.id limit 5000 for update skip locked)
      returning q.*
    )
    select t.workspace_id, t.priority, t.kind = 'creation' as is_result,
      array_agg(jsonb_build_object('kind', t.kind, 'id', t.subject_id, 'version', t.version) order by t.id) as payloads,
      array_agg(format('picture:%s:%s:%s', t.kind, t.subject_id, t.version) order by t.id) as keys
    from taken t group by 1, 2, 3 order by 1, 2, 3
  loop
    v_count := v_count + (select count(*) from ops.enqueue_jobs(
      case when v_group.is_result then 'studio.thumbnail' else 'studio.check_picture' end, v_group.payloads,
      v_group.workspace_id, priority => v_group.priority, keys => v_group.keys));
  end loop;
  return v_count;
end $$;
comment on function studio.enqueue_picture_work() is 'Sweep: makes jobs of the pictures that wait.';
revoke all on function studio.enqueue_picture_work from public, anon, authenticated, service_role;
grant execute on function studio.enqueue_picture_work to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('enqueue picture work', 'studio.enqueue_picture_work', interval '2 seconds');

-- What a job has to look at; nothing when that is gone, or is to be looked at by a later job.
create function studio.picture_of(kind text, id uuid, version integer)
returns table (workspace_id uuid, bucket text, path text, source_url text, thumbnail_path text, rules jsonb)
language sql stable
set search_path = ''
as $$
  select g.workspace_id, 'studio-uploads', g.storage_path, g.source_url,
    format('%s/thumbnails/garments/%s.webp', g.workspace_id, g.id),
    (select to_jsonb(r) from studio.picture_rules r where r.kind = 'garment')
  from studio.wardrobe_garments g
  where picture_of.kind = 'garment' and g.id = picture_of.id and g.image_version = picture_of.version
  union all
  select m.workspace_id, 'studio-uploads', m.storage_path, null,
    format('%s/thumbnails/models/%s.webp', m.workspace_id, m.id),
    (select to_jsonb(r) from studio.picture_rules r where r.kind = 'model')
  from studio.models m
  where picture_of.kind = 'model' and m.id = picture_of.id and m.image_version = picture_of.version
  union all
  select c.workspace_id, 'studio-results', c.result_paths[1], null,
    format('%s/%s/thumbnail.webp', c.workspace_id, c.id), null
  from studio.creations c
  where picture_of.kind = 'creation' and c.id = picture_of.id and c.status = 'completed'
$$;
comment on function studio.picture_of(text, uuid, integer) is
  'Where a picture lies that a job looks at, and its rules.';
revoke all on function studio.picture_of from public, anon, authenticated, service_role;
grant execute on function studio.picture_of to service_role;
