-- Workspaces are the tenants; members belong to them by rank. The helpers that every policy of every
-- schema asks (private.workspace_ids, has_role, require_role) are here.

create table identity.workspaces (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text not null,
  type text not null default 'team',
  parent_id uuid,
  created_by uuid,
  description text,
  avatar_url text,
  banner_url text,
  website_url text,
  social_links jsonb not null default '{}',
  verification_status text not null default 'unverified',
  settings jsonb not null default '{}',
  social_platforms_config jsonb not null default '{}',
  brand_voice jsonb not null default '{}',
  brand_metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint workspaces_parent_id_fkey foreign key (parent_id) references identity.workspaces (id) on delete set null,
  constraint workspaces_created_by_fkey foreign key (created_by) references identity.profiles (id) on delete set null,
  constraint workspaces_slug_key unique (slug),
  constraint workspaces_name_length check (char_length(name) between 1 and 100 and name = btrim(name)),
  constraint workspaces_slug_shape check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and char_length(slug) between 2 and 63),
  constraint workspaces_type_known check (type in ('person', 'team', 'brand', 'organizer', 'holding')),
  constraint workspaces_holding_has_no_parent check (parent_id is null or (type <> 'holding' and parent_id <> id)),
  constraint workspaces_verification_status_known
    check (verification_status in ('unverified', 'pending', 'verified', 'rejected')),
  constraint workspaces_description_length check (char_length(description) <= 2000),
  constraint workspaces_avatar_url_length check (char_length(avatar_url) <= 2048),
  constraint workspaces_banner_url_length check (char_length(banner_url) <= 2048),
  constraint workspaces_website_url_length check (char_length(website_url) <= 2048),
  constraint workspaces_json_are_objects check (
    jsonb_typeof(social_links) = 'object' and jsonb_typeof(settings) = 'object'
    and jsonb_typeof(social_platforms_config) = 'object' and jsonb_typeof(brand_voice) = 'object'
    and jsonb_typeof(brand_metadata) = 'object'
  )
);
comment on table identity.workspaces is
  'A tenant: a person, team, brand, organizer or holding company; owns everything it makes.';
comment on column identity.workspaces.deleted_at is 'From then on nobody is a member; the rows stay for the books.';
comment on column identity.workspaces.parent_id is 'The holding company that this workspace belongs to.';
create unique index workspaces_one_personal_each on identity.workspaces (created_by) where type = 'person';
create index workspaces_created_by_idx on identity.workspaces (created_by);
create index workspaces_parent_id_idx on identity.workspaces (parent_id) where parent_id is not null;
create index workspaces_type_idx on identity.workspaces (type);
create index workspaces_settings_idx on identity.workspaces using gin (settings);
create trigger touch_workspaces before update on identity.workspaces
  for each row execute function private.touch_updated_at();

create table identity.workspace_members (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid not null,
  role text not null default 'member',
  permissions jsonb not null default '[]',
  invited_by uuid,
  invited_at timestamptz,
  joined_at timestamptz not null default now(),
  expires_at timestamptz,
  is_suspended boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint workspace_members_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint workspace_members_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint workspace_members_invited_by_fkey foreign key (invited_by)
    references identity.profiles (id) on delete set null,
  constraint workspace_members_once unique (workspace_id, user_id),
  constraint workspace_members_role_known check (role in ('viewer', 'member', 'editor', 'admin', 'owner')),
  constraint workspace_members_owner_never_expires check (role <> 'owner' or expires_at is null),
  constraint workspace_members_permissions_array check (jsonb_typeof(permissions) = 'array')
);
comment on table identity.workspace_members is 'Who belongs to a workspace, in which role and until when.';
comment on column identity.workspace_members.is_suspended is
  'The person is suspended (profiles.status, which triggers carry here): the membership gives no rights.';
create index workspace_members_user_id_idx on identity.workspace_members (user_id, workspace_id)
  include (role, expires_at, is_suspended);
create index workspace_members_invited_by_idx on identity.workspace_members (invited_by);
create index workspace_members_role_idx on identity.workspace_members (workspace_id, role);
create trigger touch_workspace_members before update on identity.workspace_members
  for each row execute function private.touch_updated_at();

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_workspace', 'PT404', 'Use the id of a workspace that you belong to.'),
  ('role_too_low', 'PT403', 'Ask an owner or admin of the workspace to do it or to raise your role.'),
  ('last_owner', 'PT409', 'Make another member owner first, or delete the workspace.'),
  ('workspace_parent', 'PT409', 'A parent must be an existing holding company that is not deleted.');

-- Every statement under row security asks what the next five answer, once or more. In plpgsql, which keeps its plans: a
-- function in SQL is parsed and planned by each statement that calls it, which took longer than a page of a list does.
-- Without sequential scans, because a plan made while there were few workspaces would read them all ever after.

create function private.role_rank(role text) returns integer
language plpgsql immutable
set search_path = ''
as $$
begin
  return pg_catalog.array_position(array['viewer', 'member', 'editor', 'admin', 'owner'], role_rank.role);
end $$;
comment on function private.role_rank(text) is
  'viewer 1, member 2, editor 3, admin 4, owner 5; null for an unknown role.';
revoke all on function private.role_rank from public, anon, authenticated, service_role;
grant execute on function private.role_rank to authenticated, service_role;

-- Security definer: the policy of workspace_members itself needs this answer.
create function private.member_rank(workspace_id uuid, user_id uuid) returns integer
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_roles constant text[] := array['viewer', 'member', 'editor', 'admin', 'owner'];
begin
  return coalesce((
    select array_position(v_roles, m.role)
    from identity.workspace_members m
    join identity.workspaces w on w.id = m.workspace_id
    where m.workspace_id = member_rank.workspace_id and m.user_id = member_rank.user_id and not m.is_suspended
      and w.deleted_at is null and (m.expires_at is null or m.expires_at > private.now())
  ), 0);
end $$;
comment on function private.member_rank(uuid, uuid) is
  'Rank of a person in a workspace now; 0 for strangers, the expired, the suspended, and in deleted workspaces.';
revoke all on function private.member_rank from public, anon, authenticated, service_role;
grant execute on function private.member_rank to service_role;

create function private.workspace_ids(minimum_role text default 'viewer') returns uuid[]
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_roles constant text[] := array['viewer', 'member', 'editor', 'admin', 'owner'];
begin
  -- Ranks are compared as numbers: for a list of roles the server would plan anew in every call.
  return array(
    select m.workspace_id
    from identity.workspace_members m
    join identity.workspaces w on w.id = m.workspace_id
    where m.user_id = auth.uid() and array_position(v_roles, m.role) >= array_position(v_roles, minimum_role)
      and not m.is_suspended and w.deleted_at is null and (m.expires_at is null or m.expires_at > private.now())
  );
end $$;
comment on function private.workspace_ids(text) is
  'Workspaces where the caller has at least this role, for policies: = any ((select ...)::uuid[]).';
revoke all on function private.workspace_ids from public, anon, authenticated, service_role;
grant execute on function private.workspace_ids to authenticated, service_role;

create function private.has_role(workspace_id uuid, minimum_role text) returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return private.is_service() or coalesce(
    private.member_rank(has_role.workspace_id, auth.uid()) >= private.role_rank(has_role.minimum_role), false);
end $$;
comment on function private.has_role(uuid, text) is
  'Whether the caller has at least this role in the workspace; the service always has.';
revoke all on function private.has_role from public, anon, authenticated, service_role;
grant execute on function private.has_role to authenticated, service_role;

create function private.require_role(workspace_id uuid, minimum_role text) returns void
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_rank integer;
begin
  if private.role_rank(minimum_role) is null then
    perform private.fail('invalid_argument', format('There is no role %L.', minimum_role),
      jsonb_build_object('argument', 'role', 'value', minimum_role));
  end if;
  if private.is_service() then
    return;
  end if;
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person may do this.');
  end if;
  v_rank := private.member_rank(require_role.workspace_id, auth.uid());
  if v_rank = 0 then
    perform private.fail('unknown_workspace', 'There is no such workspace among yours.',
      jsonb_build_object('workspace_id', require_role.workspace_id));
  elsif v_rank < private.role_rank(minimum_role) then
    perform private.fail('role_too_low', format('This needs the role %s or higher.', minimum_role),
      jsonb_build_object('workspace_id', require_role.workspace_id, 'required_role', minimum_role));
  end if;
end $$;
comment on function private.require_role(uuid, text) is
  'Raises unless the caller has at least this role; the service passes.';
revoke all on function private.require_role from public, anon, authenticated, service_role;
grant execute on function private.require_role to authenticated, service_role;

create function private.fellow_ids() returns uuid[]
language sql stable security definer
set search_path = ''
as $$
  select coalesce(array_agg(distinct m.user_id), '{}')
  from identity.workspace_members m
  where m.workspace_id = any (private.workspace_ids('viewer'))
    and (m.expires_at is null or m.expires_at > private.now())
$$;
comment on function private.fellow_ids() is 'People who share a workspace with the caller, the caller included.';
revoke all on function private.fellow_ids from public, anon, authenticated, service_role;
grant execute on function private.fellow_ids to authenticated, service_role;

-- Security definer: visitors do not see profiles of the suspended. More of suspensions is in identity_suspension.
create function private.is_suspended() returns boolean
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  return exists (select from identity.profiles p where p.id = auth.uid() and p.status = 'suspended');
end $$;
comment on function private.is_suspended() is 'Is the caller a person who is suspended?';
revoke all on function private.is_suspended from public, anon, authenticated, service_role;
grant execute on function private.is_suspended to anon, authenticated, service_role;

alter table identity.workspaces enable row level security;
revoke all on table identity.workspaces from public, anon, authenticated, service_role;
grant select on table identity.workspaces to authenticated;
grant update (
  name, slug, description, avatar_url, banner_url, website_url, social_links, settings, social_platforms_config,
  brand_voice, brand_metadata
) on table identity.workspaces to authenticated;
grant select, insert, update, delete on table identity.workspaces to service_role;

create policy "Members see their workspaces" on identity.workspaces
  for select to authenticated using (id = any ((select private.workspace_ids('viewer'))::uuid[]));
create policy "Admins change how their workspaces look and behave" on identity.workspaces
  for update to authenticated using (id = any ((select private.workspace_ids('admin'))::uuid[]))
  with check (id = any ((select private.workspace_ids('admin'))::uuid[]));

alter table identity.workspace_members enable row level security;
revoke all on table identity.workspace_members from public, anon, authenticated, service_role;
grant select on table identity.workspace_members to authenticated;
grant select, insert, update, delete on table identity.workspace_members to service_role;

create policy "Members see the members of their workspaces" on identity.workspace_members
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create policy "People see their own, open and fellow members' profiles" on identity.profiles
  for select to authenticated using (
    id = (select auth.uid())
    or (privacy_level = 'public' and status = 'active')
    or (privacy_level = 'normal' and status = 'active' and not (select private.is_suspended()))
    or id = any ((select private.fellow_ids())::uuid[])
  );

-- The last owner. Whoever takes an owner away first writes the workspace's row, so two owners who leave at
-- once do so one after the other, and the second sees that nobody is left (or, in a serializable
-- transaction, fails to serialize). A workspace that is deleted, or goes with this delete, needs no owner. An owner who
-- is suspended stays one; but nobody leaves those who go on working to an owner who cannot act.
create function private.keep_an_owner() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update identity.workspaces w set updated_at = private.now() where w.id = old.workspace_id and w.deleted_at is null;
  if found and not exists (
    select from identity.workspace_members m where m.workspace_id = old.workspace_id and m.role = 'owner'
      and (not m.is_suspended or old.is_suspended or not exists (select from identity.workspace_members o
        where o.workspace_id = old.workspace_id and not o.is_suspended))
  ) then
    perform private.fail('last_owner', 'A workspace always keeps at least one owner.',
      jsonb_build_object('workspace_id', old.workspace_id, 'user_id', old.user_id));
  end if;
  return null;
end $$;
comment on function private.keep_an_owner() is 'Trigger: no workspace loses its last owner, whoever writes.';
revoke all on function private.keep_an_owner from public, anon, authenticated, service_role;

create constraint trigger keep_an_owner_on_delete after delete on identity.workspace_members
  deferrable initially immediate for each row when (old.role = 'owner') execute function private.keep_an_owner();
create constraint trigger keep_an_owner_on_update after update on identity.workspace_members
  deferrable initially immediate for each row
  when (old.role = 'owner' and (new.role <> 'owner' or new.workspace_id <> old.workspace_id))
  execute function private.keep_an_owner();

-- A holding company has no parent (a check says so), so trees are one level deep and never form a circle.
create function private.check_workspace_parent() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform from identity.workspaces w
    where w.id = new.parent_id and w.type = 'holding' and w.deleted_at is null for share;
  if not found then
    perform private.fail('workspace_parent', 'The parent is not a holding company.',
      jsonb_build_object('workspace_id', new.id, 'parent_id', new.parent_id));
  end if;
  return new;
end $$;
comment on function private.check_workspace_parent() is 'Trigger: only an undeleted holding company is a parent.';
revoke all on function private.check_workspace_parent from public, anon, authenticated, service_role;

create trigger check_workspace_parent before insert or update of parent_id on identity.workspaces
  for each row when (new.parent_id is not null) execute function private.check_workspace_parent();
