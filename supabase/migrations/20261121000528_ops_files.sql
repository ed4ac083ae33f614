-- Files go with the rows that name them. Storage deletes what it is told to, and nothing else: so every column that
-- holds paths of objects is registered (private.register_files), and whatever deletes such a row, or takes a path out
-- of it, enqueues the deletion of its files in the same transaction. The job asks first who else uses a file, and
-- ends when storage has none of them. What no row names, an upload that nobody took or a picture whose worker crashed
-- before its row was written, is found by a sweep after a day.

create table ops.file_buckets (
  bucket text primary key,
  goes_with_workspace boolean not null default true,
  position text not null default '',
  next_pass_at timestamptz not null default private.now(),
  created_at timestamptz not null default now()
);
comment on table ops.file_buckets is
  'Buckets whose objects are named by rows, and how far the sweep for objects without one has come in each.';
comment on column ops.file_buckets.goes_with_workspace is 'False: its files stay for the books.';
comment on column ops.file_buckets.position is 'The name of the last object that was looked at; empty: between passes.';
alter table ops.file_buckets enable row level security;
revoke all on table ops.file_buckets from public, anon, authenticated, service_role;
grant select on table ops.file_buckets to service_role;

create table ops.file_columns (
  relation text not null,
  column_name text not null,
  kind text not null,
  bucket text not null,
  owns boolean not null,
  found_by text,
  counts_while text,
  at_work text not null default 'false',
  created_at timestamptz not null default now(),
  constraint file_columns_pkey primary key (relation, column_name),
  constraint file_columns_kind_known check (kind in ('text', 'text[]', 'jsonb'))
);
comment on table ops.file_columns is
  'Columns that hold paths of objects in storage; SQL in them speaks of a row as r and of a file as f.';
comment on column ops.file_columns.kind is 'Type of the column; jsonb: an array of {bucket, path}.';
comment on column ops.file_columns.bucket is 'SQL: the bucket that a row''s paths are in.';
comment on column ops.file_columns.owns is
  'The file is the row''s, and stays as long as one such row is there. False: the row uses the file of another; only '
  'one without an owner stays for it, or while it is at work.';
comment on column ops.file_columns.found_by is 'SQL: by which index rows of a path are found; null: by the column.';
comment on column ops.file_columns.counts_while is 'SQL: the row names its files while this is true; null: always.';
comment on column ops.file_columns.at_work is 'SQL: something is being made of the file, which waits for the end.';
alter table ops.file_columns enable row level security;
revoke all on table ops.file_columns from public, anon, authenticated, service_role;
grant select on table ops.file_columns to service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('storage.remove_files', 'Deletes files that no row needs any more.', null, null),
  ('storage.empty_workspace', 'Deletes the files of a workspace that is gone.', null, null);

-- Has files deleted by jobs of at most 100 each. files: [{bucket, path, owned}]; owned: a row that owned it is gone, a
-- row that only uses it does not keep it (false where it is not given). What storage does not have now is passed over,
-- and what is written later under the same name is another file. Returns the jobs; they belong to no workspace, which
-- may be going, too.
create function private.remove_files(files jsonb) returns bigint[]
language plpgsql security definer
set search_path = ''
as $$
declare
  v_parts jsonb[];
  v_jobs bigint[] := '{}';
begin
  select array_agg(p.payload order by p.part) into v_parts from (
    select g.part, jsonb_build_object('files', jsonb_agg(g.file)) as payload from (
      select (row_number() over (order by o.bucket_id, o.name) - 1) / 100 as part, jsonb_build_object('bucket',
        o.bucket_id, 'path', o.name, 'owned', coalesce(bool_or(f.owned), false), 'written_at', o.updated_at) as file
      from jsonb_to_recordset(files) as f (bucket text, path text, owned boolean)
      join storage.objects o on o.bucket_id = f.bucket and o.name = f.path
      group by o.bucket_id, o.name, o.updated_at) g
    group by g.part) p;
  for v_at in 1 .. coalesce(cardinality(v_parts), 0) by 10000 loop
    v_jobs := v_jobs || array(select j.job_id
      from ops.enqueue_jobs('storage.remove_files', v_parts[v_at : v_at + 9999], max_attempts => 20) j);
  end loop;
  return v_jobs;
end $$;
comment on function private.remove_files(jsonb) is 'Enqueues the deletion of files; returns the jobs.';
revoke all on function private.remove_files from public, anon, authenticated, service_role;

-- SQL that reads (bucket, path, owned) of all that rows of `source` name in one registered column. Only paths in the
-- folder of the row's workspace count: a path may have been written by a member.
create function private.file_paths_sql(registered ops.file_columns, source text) returns text
language sql immutable
set search_path = ''
as $$
  select format('select n.bucket, n.path, %L::boolean as owned from %s r cross join lateral (%s) n '
      || 'where starts_with(n.path, r.workspace_id || ''/'') and (%s)', registered.owns, source,
    case registered.kind
      when 'text' then format('select %s as bucket, r.%I as path', registered.bucket, registered.column_name)
      when 'text[]' then format('select %s as bucket, u.path from unnest(r.%I) u (path)', registered.bucket,
        registered.column_name)
      else format('select e.item ->> ''bucket'' as bucket, e.item ->> ''path'' as path '
        || 'from jsonb_array_elements(r.%I) e (item)', registered.column_name) end,
    coalesce(registered.counts_while, 'true'))
$$;
comment on function private.file_paths_sql(ops.file_columns, text) is
  'SQL that lists the files which rows name in a registered column.';
revoke all on function private.file_paths_sql from public, anon, authenticated, service_role;

create function private.release_files() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_sql text := (select string_agg(private.file_paths_sql(c, 'gone'), ' union all ') from ops.file_columns c
    where c.relation = format('%I.%I', tg_table_schema, tg_table_name));
  v_files jsonb;
begin
  execute format('select jsonb_agg(to_jsonb(f)) from (%s) f', v_sql) into v_files;
  if v_files is not null then
    perform private.remove_files(v_files);
  end if;
  return null;
end $$;
comment on function private.release_files() is 'Trigger: has the files deleted that deleted rows named.';
revoke all on function private.release_files from public, anon, authenticated, service_role;

-- Argument of the trigger: the column.
create function private.release_changed_files() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_source constant text := format('(select ($1::%I.%I).*)', tg_table_schema, tg_table_name);
  v_column ops.file_columns := (select c from ops.file_columns c
    where c.relation = format('%I.%I', tg_table_schema, tg_table_name) and c.column_name = tg_argv[0]);
  v_files jsonb;
begin
  execute format('select jsonb_agg(to_jsonb(f)) from (%s except %s) f', private.file_paths_sql(v_column, v_source),
    replace(private.file_paths_sql(v_column, v_source), '$1', '$2')) into v_files using old, new;
  if v_files is not null then
    perform private.remove_files(v_files);
  end if;
  return null;
end $$;
comment on function private.release_changed_files() is
  'Trigger: has the files deleted that a row named and names no more.';
revoke all on function private.release_changed_files from public, anon, authenticated, service_role;

create function private.register_files(relation regclass, column_name text, bucket text, owns boolean default true,
  found_by text default null, counts_while text default null, at_work text default 'false') returns void
language plpgsql
set search_path = ''
as $$
declare
  v_kind text := (select format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attname = register_files.column_name);
  v_name text := (select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
begin
  insert into ops.file_columns (relation, column_name, kind, bucket, owns, found_by, counts_while, at_work)
  values (v_name, column_name, v_kind, bucket, owns, found_by, counts_while, at_work);
  if not exists (select from pg_catalog.pg_trigger t where t.tgrelid = relation and t.tgname = 'files_of_deleted') then
    execute format('create trigger files_of_deleted after delete on %s referencing old table as gone '
      'for each statement execute function private.release_files()', v_name);
  end if;
  execute format('create trigger %I after update of %I on %s for each row when (old.%2$I is not null '
    || 'and old.%2$I is distinct from new.%2$I%4$s) execute function private.release_changed_files(%2$L)',
    'files_of_changed_' || column_name, column_name, v_name,
    case v_kind when 'text[]' then format(' and not old.%1$I <@ new.%1$I', column_name) else '' end);
end $$;
comment on function private.register_files is
  'Registers a column that holds paths of objects: its files go with the rows that name them.';
revoke all on function private.register_files from public, anon, authenticated, service_role;

-- Who names these files: [{bucket, path}]. Those of a workspace that is gone are named by nobody.
create function private.uses_of_files(files jsonb)
returns table (bucket text, path text, is_owned boolean, is_at_work boolean)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_sql text := (select string_agg(format('select f.bucket, f.path, %L::boolean as owned, (%s) as at_work '
      || 'from named f join %s r on r.workspace_id = f.workspace_id and (%s) = f.bucket and %s where %s',
      c.owns, c.at_work, c.relation, case c.kind when 'jsonb' then 'f.bucket' else c.bucket end,
      concat_ws(' and ', c.found_by, case c.kind
        when 'text' then format('r.%I = f.path', c.column_name)
        when 'text[]' then format('f.path = any (r.%I)', c.column_name)
        else format('r.%I @> jsonb_build_array(jsonb_build_object(''bucket'', f.bucket, ''path'', f.path))',
          c.column_name) end),
      coalesce(c.counts_while, 'true')), ' union all ') from ops.file_columns c);
begin
  return query execute format($sql$
    with named as materialized (
      select f.bucket, f.path, w.id as workspace_id from jsonb_to_recordset($1) as f (bucket text, path text)
      join ops.file_buckets b on b.bucket = f.bucket
      join identity.workspaces w on w.id = private.try_uuid(split_part(f.path, '/', 1))
        and (w.deleted_at is null or not b.goes_with_workspace))
    select u.bucket, u.path, bool_or(u.owned), bool_or(u.at_work) from (%s) u group by u.bucket, u.path $sql$, v_sql)
    using files;
end $$;
comment on function private.uses_of_files(jsonb) is 'Which of these files rows name: as owners, or at work on them.';
revoke all on function private.uses_of_files from public, anon, authenticated, service_role;

-- What a job that removes files does next. forced: whoever uses them. Files that storage does not have, that were
-- written anew since, or that are needed are not in the answer; waits: it is being worked on, and goes after that.
create function ops.plan_file_removal(files jsonb, forced boolean default false)
returns table (bucket text, path text, waits boolean)
language sql stable security definer
set search_path = ''
as $$
  select o.bucket_id, o.name, not forced and coalesce(u.is_at_work, false)
  from jsonb_to_recordset(files) as f (bucket text, path text, owned boolean, written_at timestamptz)
  join storage.objects o on o.bucket_id = f.bucket and o.name = f.path
    and (f.written_at is null or f.written_at = o.updated_at)
  left join private.uses_of_files(files) u on u.bucket = f.bucket and u.path = f.path
  where forced or u.path is null or (f.owned and not u.is_owned)
$$;
comment on function ops.plan_file_removal(jsonb, boolean) is
  'For workers: which of these files are to be deleted now, and which when nobody works on them any more.';
revoke all on function ops.plan_file_removal from public, anon, authenticated, service_role;
grant execute on function ops.plan_file_removal to service_role;

create function ops.count_files(files jsonb) returns integer
language sql stable security definer
set search_path = ''
as $$
  select count(*)::integer from jsonb_to_recordset(files) as f (bucket text, path text)
  join storage.objects o on o.bucket_id = f.bucket and o.name = f.path
$$;
comment on function ops.count_files(jsonb) is 'For workers: how many of these files storage has.';
revoke all on function ops.count_files from public, anon, authenticated, service_role;
grant execute on function ops.count_files to service_role;
