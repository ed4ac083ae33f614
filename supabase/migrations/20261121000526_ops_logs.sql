-- What happened: the audit log for ever, requests, errors and refreshes for a while.
-- Only the service reads and writes them: RLS is on, there are no policies because service_role
-- bypasses RLS and no client role has a grant.

-- Rows never change, so there are no foreign keys: "on delete set null" would be a change, and the
-- trail must outlive the people and workspaces it names. Two documents are one here: actions of
-- administrators, and changes with what was before and after.
create table ops.audit_log (
  id bigint generated always as identity primary key,
  event_id text not null default gen_random_uuid()::text,
  event_type text,
  action text not null,
  resource text,
  target_id text,
  workspace_id uuid,
  actor_id uuid,
  actor_email text,
  before_data jsonb,
  after_data jsonb,
  status text not null default 'success',
  error_message text,
  risk_level text,
  description text,
  ip_address inet,
  user_agent text,
  session_id text,
  request_id text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint audit_log_event_id_key unique (event_id),
  constraint audit_log_event_id_length check (length(event_id) between 1 and 255),
  constraint audit_log_action_shape check (action ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$'),
  constraint audit_log_status_known check (status in ('success', 'failure', 'denied')),
  constraint audit_log_success_has_no_error check (status <> 'success' or error_message is null),
  constraint audit_log_risk_level_known check (risk_level in ('low', 'medium', 'high', 'critical')),
  constraint audit_log_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);
comment on table ops.audit_log is 'Who did what to which resource, with what was before and after; rows never change.';
comment on column ops.audit_log.action is
  'Dotted lower case; known from before: role_change, token_adjustment, voucher_create, voucher_update, '
  'voucher_delete, user_delete, admin_login.';
comment on column ops.audit_log.event_id is 'Key of the event: written twice, it is stored once.';
comment on column ops.audit_log.actor_id is 'The user who acted; null: the service itself.';
create index audit_log_actor_id on ops.audit_log (actor_id, created_at desc) where actor_id is not null;
create index audit_log_workspace_id on ops.audit_log (workspace_id, created_at desc) where workspace_id is not null;
create index audit_log_action on ops.audit_log (action, created_at desc);
create index audit_log_target_id on ops.audit_log (target_id) where target_id is not null;
create index audit_log_created_at on ops.audit_log (created_at);
create index audit_log_risky on ops.audit_log (created_at desc) where risk_level in ('high', 'critical');
create trigger forbid_change before update or delete or truncate on ops.audit_log
  for each statement execute function private.forbid_change();
alter table ops.audit_log enable row level security;
revoke all on table ops.audit_log from public, anon, authenticated, service_role;
grant select, insert on table ops.audit_log to service_role;

-- Headers as PostgREST passes them on; nothing when the caller is not a client of it.
create function ops._request_header(name text) returns text
language sql stable
set search_path = ''
as $$
  select case when pg_catalog.pg_input_is_valid(h.headers, 'jsonb') then left(h.headers::jsonb ->> name, 1000) end
  from (select pg_catalog.current_setting('request.headers', true)) h (headers)
$$;
comment on function ops._request_header(text) is 'A header of the client''s request, or null.';
revoke all on function ops._request_header from public, anon, authenticated, service_role;

-- Security definer: cores that act for a member write here too, and the actor's e-mail is in auth.
-- The e-mail is kept as it was, because the account may be gone when somebody reads the trail.
create function ops.write_audit(
  action text, resource text default null, before jsonb default null, after jsonb default null,
  workspace_id uuid default null, actor uuid default null, metadata jsonb default '{}',
  target_id text default null, event_id text default null
) returns bigint
language plpgsql security definer
set search_path = ''
as $$
declare
  v_actor uuid := coalesce(actor, auth.uid());
  v_address text := trim(split_part(ops._request_header('x-forwarded-for'), ',', 1));
  v_ip inet;
  v_log ops.audit_log;
begin
  if pg_catalog.pg_input_is_valid(v_address, 'inet') then
    v_ip := v_address;
  end if;
  insert into ops.audit_log as l (event_id, action, resource, target_id, workspace_id, actor_id, actor_email,
    before_data, after_data, ip_address, user_agent, session_id, request_id, metadata)
  values (coalesce(write_audit.event_id, pg_catalog.gen_random_uuid()::text), write_audit.action, write_audit.resource,
    write_audit.target_id, write_audit.workspace_id, v_actor, (select u.email from auth.users u where u.id = v_actor),
    before, after, v_ip, ops._request_header('user-agent'), auth.jwt() ->> 'session_id',
    ops._request_header('x-request-id'), coalesce(write_audit.metadata, '{}'))
  on conflict on constraint audit_log_event_id_key do nothing
  returning l.* into v_log;
  if found then
    return v_log.id;
  end if;
  select l.* into strict v_log from ops.audit_log l where l.event_id = write_audit.event_id;
  if (v_log.action, v_log.resource, v_log.target_id, v_log.workspace_id, v_log.before_data, v_log.after_data)
    is distinct from (write_audit.action, write_audit.resource, write_audit.target_id, write_audit.workspace_id,
      before, after) then
    perform private.fail('key_reused', 'This audit event was written with different content.',
      jsonb_build_object('event_id', event_id));
  end if;
  return v_log.id;
end $$;
comment on function ops.write_audit(text, text, jsonb, jsonb, uuid, uuid, jsonb, text, text) is
  'Adds a row to the audit log in the caller''s transaction, with what is known of actor and request; returns its id.';
revoke all on function ops.write_audit from public, anon, authenticated, service_role;
grant execute on function ops.write_audit to service_role;

create table ops.request_log (
  id bigint generated always as identity primary key,
  request_id text,
  source text not null,
  method text not null,
  path text not null,
  status integer not null,
  duration_ms integer not null,
  user_id uuid,
  workspace_id uuid,
  ip_address inet,
  user_agent text,
  error_code text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint request_log_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint request_log_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete set null,
  constraint request_log_method_known
    check (method in ('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS')),
  constraint request_log_status_in_range check (status between 100 and 599),
  constraint request_log_duration_positive check (duration_ms >= 0)
);
comment on table ops.request_log is 'Requests that edge functions answered, kept for 30 days.';
comment on column ops.request_log.source is 'The edge function that answered.';
create index request_log_created_at on ops.request_log (created_at);
create index request_log_request_id on ops.request_log (request_id) where request_id is not null;
create index request_log_user_id on ops.request_log (user_id) where user_id is not null;
create index request_log_workspace_id on ops.request_log (workspace_id, created_at desc) where workspace_id is not null;
create index request_log_failed on ops.request_log (created_at desc) where status >= 500;
alter table ops.request_log enable row level security;
revoke all on table ops.request_log from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.request_log to service_role;

create table ops.error_log (
  id bigint generated always as identity primary key,
  occurred_at timestamptz not null default now(),
  environment text not null,
  message text not null,
  error_type text,
  error_code text,
  stack text,
  source_file text,
  source_line integer,
  source_column integer,
  caller_name text,
  route text,
  request_id text,
  user_id uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint error_log_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint error_log_environment_known check (environment in ('frontend', 'backend')),
  constraint error_log_source_line_positive check (source_line >= 0),
  constraint error_log_source_column_positive check (source_column >= 0)
);
comment on table ops.error_log is 'Errors of clients and of the backend with where they arose, kept for 30 days.';
comment on column ops.error_log.occurred_at is 'When it happened; created_at is when it was reported.';
create index error_log_occurred_at on ops.error_log (occurred_at);
create index error_log_source_file on ops.error_log (source_file) where source_file is not null;
create index error_log_error_type on ops.error_log (error_type, occurred_at desc) where error_type is not null;
create index error_log_environment on ops.error_log (environment, occurred_at desc);
create index error_log_user_id on ops.error_log (user_id) where user_id is not null;
alter table ops.error_log enable row level security;
revoke all on table ops.error_log from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.error_log to service_role;

create table ops.mv_refresh_log (
  id bigint generated always as identity primary key,
  view_name text not null,
  status text not null default 'running',
  is_concurrent boolean not null default true,
  row_count bigint,
  error text,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  duration_ms bigint generated always as ((extract(epoch from finished_at - started_at) * 1000)::bigint) stored,
  constraint mv_refresh_log_view_name_shape check (view_name ~ '^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$'),
  constraint mv_refresh_log_status_known check (status in ('running', 'succeeded', 'failed')),
  constraint mv_refresh_log_ended_has_time check ((status = 'running') = (finished_at is null)),
  constraint mv_refresh_log_ends_after_start check (finished_at >= started_at),
  constraint mv_refresh_log_failed_has_error check ((status = 'failed') = (error is not null)),
  constraint mv_refresh_log_row_count_positive check (row_count >= 0)
);
comment on table ops.mv_refresh_log is 'Refreshes of materialized views with their time and end, kept for 90 days.';
create index mv_refresh_log_view_name on ops.mv_refresh_log (view_name, started_at desc);
create index mv_refresh_log_started_at on ops.mv_refresh_log (started_at);
-- two refreshes of a view at once would only wait for each other
create unique index mv_refresh_log_one_running on ops.mv_refresh_log (view_name) where status = 'running';
alter table ops.mv_refresh_log enable row level security;
revoke all on table ops.mv_refresh_log from public, anon, authenticated, service_role;
grant select, insert, update, delete on table ops.mv_refresh_log to service_role;

-- In small bites, so that a sweep never holds many locks; what is left over goes next time.
create function ops.prune_records(max_rows integer default 5000) returns table (relation text, deleted bigint)
language sql
set search_path = ''
as $$
  with requests as (
    delete from ops.request_log l where l.id in (select r.id from ops.request_log r
      where r.created_at < ops._kept_since('logs') order by r.created_at limit max_rows) returning 1
  ), errors as (
    delete from ops.error_log l where l.id in (select e.id from ops.error_log e
      where e.occurred_at < ops._kept_since('logs') order by e.occurred_at limit max_rows) returning 1
  ), refreshes as (
    delete from ops.mv_refresh_log l where l.id in (select m.id from ops.mv_refresh_log m
      where m.started_at < ops._kept_since('refreshes') order by m.started_at limit max_rows) returning 1
  ), limits as (
    -- deleted by the row's place and not by its key: a bucket that was used again meanwhile has moved and stays
    delete from ops.rate_limits l where l.ctid = any (array(select r.ctid from ops.rate_limits r
      where r.window_started_at < private.now() - pg_catalog.make_interval(secs => 2.0 * r.period_seconds)
      limit max_rows for update skip locked)) returning 1
  ), settings as (
    delete from ops.kv_store v where v.expires_at < private.now()
      and (v.namespace, v.key) in (select k.namespace, k.key from ops.kv_store k
        where k.expires_at < private.now() order by k.expires_at limit max_rows) returning 1
  )
  select 'request_log', count(*) from requests
  union all select 'error_log', count(*) from errors
  union all select 'mv_refresh_log', count(*) from refreshes
  union all select 'rate_limits', count(*) from limits
  union all select 'kv_store', count(*) from settings
$$;
comment on function ops.prune_records(integer) is
  'Deletes records that are past their time: logs, idle rate limits, expired values.';
revoke all on function ops.prune_records from public, anon, authenticated, service_role;
grant execute on function ops.prune_records to service_role;

insert into ops.sweeps (name, function_name, every) values
  ('prune records', 'ops.prune_records', interval '5 minutes');
