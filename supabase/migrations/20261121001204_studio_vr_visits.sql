-- What visitors bring and get: photos that are deleted after the shop's hours, and try-ons, each a creation of the
-- shop's workspace.

create table studio.vr_photos (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  shop_id uuid not null,
  token_id uuid,
  storage_path text not null,
  mime_type text not null,
  size_bytes integer not null,
  expires_at timestamptz not null,
  removal_job_id bigint,
  removed_at timestamptz,
  created_at timestamptz not null default now(),
  constraint vr_photos_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_photos_shop_id_fkey foreign key (workspace_id, shop_id)
    references studio.vr_shops (workspace_id, id) on delete cascade,
  constraint vr_photos_token_id_fkey foreign key (token_id) references studio.vr_shop_tokens (id) on delete set null,
  constraint vr_photos_path_in_workspace check (private.is_workspace_path(storage_path, workspace_id)),
  constraint vr_photos_mime_type_known check (mime_type in ('image/png', 'image/jpeg', 'image/webp')),
  constraint vr_photos_size_in_range check (size_bytes between 1 and 10485760)
);
comment on table studio.vr_photos is 'Photos of visitors of VR shops, until their files are deleted.';
comment on column studio.vr_photos.storage_path is 'In the bucket studio-uploads, where no member sees it.';
comment on column studio.vr_photos.removed_at is 'When the file was deleted.';
create index vr_photos_shop_id on studio.vr_photos (workspace_id, shop_id, created_at desc);
create index vr_photos_token_id on studio.vr_photos (token_id);
create index vr_photos_due on studio.vr_photos (expires_at) where removed_at is null and removal_job_id is null;
alter table studio.vr_photos enable row level security;
revoke all on table studio.vr_photos from public, anon, authenticated, service_role;
grant select, insert, update, delete on table studio.vr_photos to service_role;

create table studio.vr_tryons (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  shop_id uuid not null,
  token_id uuid,
  garment_id uuid,
  photo_id uuid,
  creation_id uuid,
  key text,
  status text not null default 'pending',
  progress smallint not null default 0,
  result_paths text[] not null default '{}',
  error_code text,
  error_message text,
  cost_micro bigint,
  generation_time_ms integer,
  expires_at timestamptz not null,
  removal_job_id bigint,
  removed_at timestamptz,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint vr_tryons_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint vr_tryons_shop_id_fkey foreign key (workspace_id, shop_id)
    references studio.vr_shops (workspace_id, id) on delete cascade,
  constraint vr_tryons_token_id_fkey foreign key (token_id) references studio.vr_shop_tokens (id) on delete set null,
  constraint vr_tryons_garment_id_fkey foreign key (garment_id) references studio.vr_garments (id) on delete set null,
  constraint vr_tryons_photo_id_fkey foreign key (photo_id) references studio.vr_photos (id) on delete set null,
  constraint vr_tryons_creation_id_fkey foreign key (creation_id) references studio.creations (id) on delete set null,
  constraint vr_tryons_key unique (photo_id, key),
  constraint vr_tryons_key_length check (length(key) between 1 and 255),
  constraint vr_tryons_status_known check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  constraint vr_tryons_progress_in_range check (progress between 0 and 100),
  constraint vr_tryons_ended_has_time
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint vr_tryons_completed_has_result check (status <> 'completed'
    or (cost_micro is not null and (cardinality(result_paths) > 0 or removed_at is not null))),
  constraint vr_tryons_failed_has_error check ((status = 'failed') = (error_message is not null)),
  constraint vr_tryons_numbers_not_negative check (cost_micro >= 0 and generation_time_ms >= 0)
);
comment on table studio.vr_tryons is
  'Try-ons of visitors: state, result, cost; the pictures go when their time is over.';
comment on column studio.vr_tryons.key is 'Asked twice with the same photo and key, it is made and charged once.';
comment on column studio.vr_tryons.cost_micro is
  'What the workspace was charged, in micro-units; null until completed.';
comment on column studio.vr_tryons.generation_time_ms is 'Milliseconds from the request to its end.';
comment on column studio.vr_tryons.removed_at is 'When its pictures were deleted.';
create index vr_tryons_workspace_id on studio.vr_tryons (workspace_id, created_at desc, id desc);
create index vr_tryons_shop_id on studio.vr_tryons (workspace_id, shop_id, created_at desc);
create index vr_tryons_token_id on studio.vr_tryons (token_id);
create index vr_tryons_garment_id on studio.vr_tryons (garment_id);
create unique index vr_tryons_creation_id on studio.vr_tryons (creation_id);
create index vr_tryons_due on studio.vr_tryons (expires_at) where removed_at is null and removal_job_id is null;
alter table studio.vr_tryons enable row level security;
create policy "Members may read their shops' try-ons" on studio.vr_tryons for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table studio.vr_tryons from public, anon, authenticated, service_role;
grant select on table studio.vr_tryons to authenticated;
grant select, insert, update, delete on table studio.vr_tryons to service_role;

-- In the transaction that changes the creation: the try-on goes along, and the token's figures count its end; that of
-- one which failed and is replayed is taken back. The wallet's lock is held by then, the token's comes last.
create function private.follow_vr_creation() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_tryon studio.vr_tryons;
  v_by integer := (new.completed_at is not null)::integer - (old.completed_at is not null)::integer;
  v_end studio.creations := case when v_by < 0 then old else new end;
  v_good integer := v_by * (v_end.status = 'completed')::integer;
begin
  update studio.vr_tryons t
  set status = new.status, progress = new.progress, result_paths = new.result_paths, cost_micro = new.cost_micro,
    error_code = new.error_code, error_message = new.error_message, completed_at = new.completed_at,
    generation_time_ms = least(extract(epoch from new.completed_at - t.created_at) * 1000, 2147483647)::integer
  where t.creation_id = new.id
  returning t.* into v_tryon;
  if v_tryon.token_id is null or v_by = 0 then
    return null;
  end if;
  update studio.vr_shop_tokens t
  set total_successful = t.total_successful + v_good, total_failed = t.total_failed + v_by - v_good
  where t.id = v_tryon.token_id;
  insert into studio.vr_token_usage as u (token_id, day, workspace_id)
  values (v_tryon.token_id, (v_end.completed_at at time zone 'utc')::date, v_tryon.workspace_id)
  on conflict on constraint vr_token_usage_pkey do nothing;
  update studio.vr_token_usage u
  set successful = u.successful + v_good, failed = u.failed + v_by - v_good,
    cost_micro = u.cost_micro + v_by * coalesce(v_end.cost_micro, 0)
  where u.token_id = v_tryon.token_id and u.day = (v_end.completed_at at time zone 'utc')::date;
  return null;
end $$;
comment on function private.follow_vr_creation() is 'Trigger: a visitor''s try-on shows what its creation does.';
revoke all on function private.follow_vr_creation from public, anon, authenticated, service_role;
create trigger creations_of_visitors after update of status, progress on studio.creations
  for each row when (new.settings ? 'vr_tryon_id') execute function private.follow_vr_creation();

-- Its pictures go with it, whoever deletes it: the try-on shows none any more.
create function private.forget_vr_pictures() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update studio.vr_tryons t set result_paths = '{}', removed_at = private.now()
  where t.creation_id = old.id and t.removed_at is null;
  return old;
end $$;
comment on function private.forget_vr_pictures() is
  'Trigger: a visitor''s try-on shows no picture of a creation that is deleted.';
revoke all on function private.forget_vr_pictures from public, anon, authenticated, service_role;
create trigger creations_of_visitors_deleted before delete on studio.creations
  for each row when (old.settings ? 'vr_tryon_id' and old.completed_at is not null)
  execute function private.forget_vr_pictures();

-- A member knows the path of a visitor's photo from the creation, and can still make nothing of it, nor have the
-- service make it, as a task does: its one creation is that of the visitor's own try-on, which has none yet.
create function private.guard_visitors_photos() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not private.is_service() or split_part(new.garment_path, '/', 2) = 'visitors' or not exists (
    select from studio.vr_tryons y join studio.vr_photos p on p.id = y.photo_id
    where y.id = private.try_uuid(new.settings ->> 'vr_tryon_id') and y.status = 'pending' and y.creation_id is null
      and p.storage_path = new.model_storage_path and p.workspace_id = new.workspace_id) then
    perform private.fail('unknown_image', 'Visitors'' photos are for their own try-ons.',
      jsonb_build_object('path', new.model_storage_path));
  end if;
  return new;
end $$;
comment on function private.guard_visitors_photos() is
  'Trigger: refuses creations of visitors'' photos but for their own try-ons.';
revoke all on function private.guard_visitors_photos from public, anon, authenticated, service_role;
create trigger creations_guard_visitors before insert on studio.creations
  for each row when (split_part(new.model_storage_path, '/', 2) = 'visitors'
    or split_part(new.garment_path, '/', 2) = 'visitors')
  execute function private.guard_visitors_photos();
-- Nor are they, or what people sent to the bot, models, garments or references, of which members see thumbnails and the
-- worker makes pictures.
alter table studio.models
  add constraint models_no_visitors check (split_part(storage_path, '/', 2) not in ('visitors', 'instagram'));
alter table studio.wardrobe_garments add constraint wardrobe_garments_no_visitors
  check (split_part(storage_path, '/', 2) not in ('visitors', 'instagram'));
alter table studio.personas add constraint personas_no_visitors
  check (split_part(face_reference_path, '/', 2) not in ('visitors', 'instagram'));

-- Rows that clients wait for.
do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table studio.vr_tryons;
  end if;
end $$;
