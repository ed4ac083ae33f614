-- What is at work for a workspace, as its people see it: the jobs that are at the root of something, and below each its
-- children. Of a job only what is no machinery: kind, state, progress, error; never its payload or its result.

-- Only roots and their workspaces: the children of a bulk job, of which there are thousands, cost nothing. No column of
-- it changes while a job lives, so that claims stay as cheap as they are.
create index live_jobs_roots on ops.live_jobs (workspace_id, id desc)
  where workspace_id is not null and parent_id is null;

-- parent_id null: the roots. before: the last id of the page before. Errors: unknown_workspace.
create function private.running_jobs(workspace_id uuid, parent_id bigint, before bigint, most integer)
returns table (
  job_id bigint, kind text, description text, state text, stage text, progress integer, error text, attempt integer,
  parent_job_id bigint, pending_children integer, failed_children integer, created_at timestamptz,
  started_at timestamptz, run_at timestamptz, age_seconds bigint
)
language plpgsql stable security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_before bigint := coalesce(before, 9223372036854775807);
  v_size integer := least(greatest(coalesce(most, 50), 1), 200);
begin
  perform private.require_role(running_jobs.workspace_id, 'viewer');
  return query
  select j.id, j.kind, k.description, case when c.id is null then j.state else 'running' end, j.stage,
    j.progress::integer, j.error, j.attempt + (c.id is not null)::integer, j.parent_id, j.pending_children,
    j.failed_children, j.created_at, coalesce(j.started_at, c.started_at), j.run_at,
    greatest(0, extract(epoch from private.now() - j.created_at))::bigint
  from (
    (select * from ops.live_jobs r
      where running_jobs.parent_id is null and r.workspace_id = running_jobs.workspace_id and r.parent_id is null
        and r.id < v_before
      order by r.id desc limit v_size)
    union all
    (select * from ops.live_jobs r
      where r.parent_id = running_jobs.parent_id and r.workspace_id = running_jobs.workspace_id and r.id < v_before
      order by r.id desc limit v_size)
  ) j
  join ops.job_kinds k on k.kind = j.kind
  left join lateral (
    select c.id, c.started_at from ops.claims c where j.id = any (c.job_ids) and c.worker <> '' limit 1) c on true
  order by j.id desc;
end $$;
comment on function private.running_jobs(uuid, bigint, bigint, integer) is 'Core of messaging.running_jobs.';
revoke all on function private.running_jobs from public, anon, authenticated, service_role;
grant execute on function private.running_jobs to authenticated, service_role;

create function messaging.running_jobs(workspace_id uuid, parent_id bigint default null, before bigint default null,
  most integer default 50) returns table (
  job_id bigint, kind text, description text, state text, stage text, progress integer, error text, attempt integer,
  parent_job_id bigint, pending_children integer, failed_children integer, created_at timestamptz,
  started_at timestamptz, run_at timestamptz, age_seconds bigint
)
language sql stable
set search_path = ''
as $$
  select * from private.running_jobs(running_jobs.workspace_id, running_jobs.parent_id, running_jobs.before,
    running_jobs.most)
$$;
comment on function messaging.running_jobs(uuid, bigint, bigint, integer) is
  'Jobs under way for a workspace, newest first; with parent_id the children of one; before begins a page.';
revoke all on function messaging.running_jobs from public, anon, authenticated, service_role;
grant execute on function messaging.running_jobs to authenticated, service_role;
