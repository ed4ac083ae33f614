-- Files that no row leads to: those of a workspace that is gone, and objects that no row ever named.

-- Up to 500; none while the workspace is there. The name is in the text of the statement, so that its prefix is looked
-- up in the index.
create function ops.files_of_workspace(workspace_id uuid) returns table (bucket text, path text)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if not exists (select from identity.workspaces w
    where w.id = files_of_workspace.workspace_id and w.deleted_at is null) then
    return query execute format('select o.bucket_id, o.name from storage.objects o '
      'join ops.file_buckets b on b.bucket = o.bucket_id and b.goes_with_workspace where o.name like %L limit 500',
      files_of_workspace.workspace_id || '/%');
  end if;
end $$;
comment on function ops.files_of_workspace(uuid) is
  'For workers: files that a workspace has left, without those that stay for the books.';
revoke all on function ops.files_of_workspace from public, anon, authenticated, service_role;
grant execute on function ops.files_of_workspace to service_role;

create function private.empty_workspace() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform ops.enqueue_job('storage.empty_workspace', jsonb_build_object('workspace_id', old.id), max_attempts => 20);
  return null;
end $$;
comment on function private.empty_workspace() is 'Trigger: the files of a workspace that is closed or deleted go.';
revoke all on function private.empty_workspace from public, anon, authenticated, service_role;
create trigger workspaces_files_of_closed after update of deleted_at on identity.workspaces
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function private.empty_workspace();
create trigger workspaces_files_of_deleted after delete on identity.workspaces
  for each row execute function private.empty_workspace();

-- A bucket's next 1,000 objects, by name. What is younger than a day may still find its row; what goes is asked for
-- once more by the job. Returns how many are on their way out.
create function private.sweep_bucket(swept ops.file_buckets) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_most constant integer := 1000;
  v_names text[];
  v_old jsonb;
  v_orphans jsonb;
begin
  select array_agg(o.name order by o.name), jsonb_agg(jsonb_build_object('bucket', swept.bucket, 'path', o.name))
    filter (where coalesce(o.updated_at, o.created_at) < private.now() - interval '1 day')
  into v_names, v_old from (
    select s.name, s.updated_at, s.created_at from storage.objects s
    where s.bucket_id = swept.bucket and s.name > swept.position order by s.name limit v_most) o;
  if v_old is not null then
    select jsonb_agg(f.file) into v_orphans from jsonb_array_elements(v_old) f (file)
    where not exists (select from private.uses_of_files(v_old) u where u.path = f.file ->> 'path');
    perform private.remove_files(v_orphans);
  end if;
  update ops.file_buckets b
  set position = case when cardinality(v_names) = v_most then v_names[v_most] else '' end,
    next_pass_at = case when cardinality(v_names) = v_most then b.next_pass_at
      else private.now() + interval '6 hours' end
  where b.bucket = swept.bucket;
  return coalesce(jsonb_array_length(v_orphans), 0);
end $$;
comment on function private.sweep_bucket(ops.file_buckets) is
  'Has objects of a bucket deleted that no row names; goes on where it ended.';
revoke all on function private.sweep_bucket from public, anon, authenticated, service_role;

create function ops.sweep_files() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_bucket ops.file_buckets;
  v_orphans integer := 0;
begin
  for v_bucket in
    select b.* from ops.file_buckets b where b.next_pass_at <= private.now() order by b.bucket for update skip locked
  loop
    v_orphans := v_orphans + private.sweep_bucket(v_bucket);
  end loop;
  return v_orphans;
end $$;
comment on function ops.sweep_files() is
  'Sweep: has files deleted that no row has named for a day; returns how many are on their way out.';
revoke all on function ops.sweep_files from public, anon, authenticated, service_role;
grant execute on function ops.sweep_files to service_role;
insert into ops.sweeps (name, function_name, every) values ('delete files of nobody', 'ops.sweep_files', '1 minute');
