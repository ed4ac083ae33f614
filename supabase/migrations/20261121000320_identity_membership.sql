-- Making and deleting workspaces, changing and removing members. The exposed functions are thin; their cores
-- in private are security definer, because clients may write neither table, and check the caller first.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_member', 'PT404', 'Use the user id of a member of this workspace.'),
  ('personal_workspace', 'PT409', 'A personal workspace lives and ends with its account.');

-- A slug from any text: accents go, everything else that is no letter or digit becomes a dash.
create function private.slug_of(content text) returns text
language sql immutable
set search_path = ''
as $$
  select btrim(left(btrim(regexp_replace(
    lower(regexp_replace(normalize(slug_of.content, NFKD), '[\u0300-\u036f]', '', 'g')),
    '[^a-z0-9]+', '-', 'g'), '-'), 48), '-')
$$;
comment on function private.slug_of(text) is 'The slug that a name suggests; may be empty or taken.';
revoke all on function private.slug_of from public, anon, authenticated, service_role;

-- Inserts under the wished slug or, where that is taken, under one with a suffix. `on conflict` waits for a
-- concurrent insert of the same slug, so two callers never get an error of it.
create function private.insert_workspace(name text, slug text, type text, owner_id uuid)
returns identity.workspaces
language plpgsql
set search_path = ''
as $$
declare
  v_base text := case when char_length(insert_workspace.slug) >= 2 then insert_workspace.slug else 'workspace' end;
  v_slug text := v_base;
  v_attempt integer := 1;
  v_workspace identity.workspaces;
begin
  loop
    insert into identity.workspaces (name, slug, type, created_by)
    values (insert_workspace.name, v_slug, insert_workspace.type, insert_workspace.owner_id)
    on conflict on constraint workspaces_slug_key do nothing
    returning * into v_workspace;
    exit when v_workspace.id is not null;
    v_attempt := v_attempt + 1;
    v_slug := left(v_base, 50) || '-' || case when v_attempt <= 5 then v_attempt::text
      else left(replace(gen_random_uuid()::text, '-', ''), 12) end;
  end loop;
  insert into identity.workspace_members (workspace_id, user_id, role, joined_at)
  values (v_workspace.id, insert_workspace.owner_id, 'owner', private.now());
  return v_workspace;
end $$;
comment on function private.insert_workspace(text, text, text, uuid) is
  'A workspace with its first owner and a slug that is free.';
revoke all on function private.insert_workspace from public, anon, authenticated, service_role;

create function private.create_workspace(name text, slug text, type text) returns identity.workspaces
language plpgsql security definer
set search_path = ''
as $$
declare
  v_name text := btrim(create_workspace.name);
  v_slug text := lower(btrim(create_workspace.slug));
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person may make a workspace.');
  end if;
  if v_name is null or char_length(v_name) not between 1 and 100 then
    perform private.fail('invalid_argument', 'A workspace''s name has 1 to 100 characters.',
      jsonb_build_object('argument', 'name', 'length', coalesce(char_length(v_name), 0)));
  end if;
  if v_slug is not null and (v_slug !~ '^[a-z0-9]+(-[a-z0-9]+)*$' or char_length(v_slug) not between 2 and 63) then
    perform private.fail('invalid_argument', 'A slug has 2 to 63 letters and digits, with single dashes between.',
      jsonb_build_object('argument', 'slug', 'value', left(v_slug, 100)));
  end if;
  if create_workspace.type is null or create_workspace.type not in ('team', 'brand', 'organizer', 'holding') then
    perform private.fail('invalid_argument', format('A workspace cannot be made with type %L.', create_workspace.type),
      jsonb_build_object('argument', 'type', 'value', create_workspace.type,
        'allowed', jsonb_build_array('team', 'brand', 'organizer', 'holding')));
  end if;
  return private.insert_workspace(v_name, coalesce(v_slug, private.slug_of(v_name)), create_workspace.type, auth.uid());
end $$;
comment on function private.create_workspace(text, text, text) is 'Core of identity.create_workspace.';
revoke all on function private.create_workspace from public, anon, authenticated, service_role;
grant execute on function private.create_workspace to authenticated, service_role;

create function identity.create_workspace(name text, slug text default null, type text default 'team')
returns identity.workspaces
language sql
set search_path = ''
as $$ select private.create_workspace(create_workspace.name, create_workspace.slug, create_workspace.type) $$;
comment on function identity.create_workspace(text, text, text) is
  'Makes a workspace that the caller owns; without a slug the name gives one, and a taken slug gets a suffix.';
revoke all on function identity.create_workspace from public, anon, authenticated, service_role;
grant execute on function identity.create_workspace to authenticated, service_role;

create function private.delete_workspace(workspace_id uuid) returns identity.workspaces
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace identity.workspaces;
begin
  perform private.require_role(delete_workspace.workspace_id, 'owner');
  select * into v_workspace from identity.workspaces w where w.id = delete_workspace.workspace_id for no key update;
  if v_workspace.id is null then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', delete_workspace.workspace_id));
  elsif v_workspace.type = 'person' then
    perform private.fail('personal_workspace', 'A personal workspace cannot be deleted on its own.',
      jsonb_build_object('workspace_id', delete_workspace.workspace_id));
  end if;
  update identity.workspaces w set deleted_at = coalesce(w.deleted_at, private.now())
  where w.id = delete_workspace.workspace_id
  returning * into v_workspace;
  return v_workspace;
end $$;
comment on function private.delete_workspace(uuid) is 'Core of identity.delete_workspace.';
revoke all on function private.delete_workspace from public, anon, authenticated, service_role;
grant execute on function private.delete_workspace to authenticated, service_role;

create function identity.delete_workspace(workspace_id uuid) returns identity.workspaces
language sql
set search_path = ''
as $$ select private.delete_workspace(delete_workspace.workspace_id) $$;
comment on function identity.delete_workspace(uuid) is
  'An owner closes a workspace: nobody is a member any more, its books stay.';
revoke all on function identity.delete_workspace from public, anon, authenticated, service_role;
grant execute on function identity.delete_workspace to authenticated, service_role;

-- Locks the workspace, then the member, in the order in which keep_an_owner locks, and judges by what is true
-- under the lock. The service ranks as an owner.
create function private.lock_member(workspace_id uuid, user_id uuid) returns identity.workspace_members
language plpgsql
set search_path = ''
as $$
declare
  v_member identity.workspace_members;
begin
  perform from identity.workspaces w where w.id = lock_member.workspace_id for no key update;
  select * into v_member from identity.workspace_members m
  where m.workspace_id = lock_member.workspace_id and m.user_id = lock_member.user_id for update;
  if v_member.id is null then
    perform private.fail('unknown_member', 'This person is not a member of the workspace.',
      jsonb_build_object('workspace_id', lock_member.workspace_id, 'user_id', lock_member.user_id));
  end if;
  return v_member;
end $$;
comment on function private.lock_member(uuid, uuid) is
  'The membership, locked after its workspace; raises when there is none.';
revoke all on function private.lock_member from public, anon, authenticated, service_role;

create function private.caller_rank(workspace_id uuid) returns integer
language sql stable
set search_path = ''
as $$
  select case when private.is_service() then private.role_rank('owner')
    else private.member_rank(caller_rank.workspace_id, (select auth.uid())) end
$$;
comment on function private.caller_rank(uuid) is 'Rank of the caller in a workspace; the service ranks as an owner.';
revoke all on function private.caller_rank from public, anon, authenticated, service_role;

create function private.remove_member(workspace_id uuid, user_id uuid) returns identity.workspace_members
language plpgsql security definer
set search_path = ''
as $$
declare
  v_member identity.workspace_members;
  v_self boolean := coalesce(remove_member.user_id = auth.uid(), false);
begin
  perform private.require_role(remove_member.workspace_id, case when v_self then 'viewer' else 'admin' end);
  v_member := private.lock_member(remove_member.workspace_id, remove_member.user_id);
  if not v_self and private.caller_rank(v_member.workspace_id)
      < greatest(private.role_rank('admin'), private.role_rank(v_member.role)) then
    perform private.fail('role_too_low', format('Only an owner may remove a member who is %s.', v_member.role),
      jsonb_build_object('workspace_id', v_member.workspace_id, 'user_id', v_member.user_id, 'role', v_member.role));
  end if;
  delete from identity.workspace_members m where m.id = v_member.id;
  return v_member;
end $$;
comment on function private.remove_member(uuid, uuid) is 'Core of identity.remove_member.';
revoke all on function private.remove_member from public, anon, authenticated, service_role;
grant execute on function private.remove_member to authenticated, service_role;

create function identity.remove_member(workspace_id uuid, user_id uuid) returns identity.workspace_members
language sql
set search_path = ''
as $$ select private.remove_member(remove_member.workspace_id, remove_member.user_id) $$;
comment on function identity.remove_member(uuid, uuid) is
  'Ends a membership and returns it: admins remove others, everyone may leave, the last owner stays.';
revoke all on function identity.remove_member from public, anon, authenticated, service_role;
grant execute on function identity.remove_member to authenticated, service_role;

create function private.change_member_role(workspace_id uuid, user_id uuid, role text)
returns identity.workspace_members
language plpgsql security definer
set search_path = ''
as $$
declare
  v_member identity.workspace_members;
begin
  if private.role_rank(change_member_role.role) is null then
    perform private.fail('invalid_argument', format('There is no role %L.', change_member_role.role),
      jsonb_build_object('argument', 'role', 'value', change_member_role.role));
  end if;
  perform private.require_role(change_member_role.workspace_id, 'admin');
  v_member := private.lock_member(change_member_role.workspace_id, change_member_role.user_id);
  if private.caller_rank(v_member.workspace_id) < greatest(private.role_rank('admin'),
      private.role_rank(v_member.role), private.role_rank(change_member_role.role)) then
    perform private.fail('role_too_low',
      format('Only an owner may turn a member who is %s into %s.', v_member.role, change_member_role.role),
      jsonb_build_object('workspace_id', v_member.workspace_id, 'user_id', v_member.user_id,
        'from_role', v_member.role, 'to_role', change_member_role.role));
  end if;
  update identity.workspace_members m
  set role = change_member_role.role,
    expires_at = case when change_member_role.role = 'owner' then null else m.expires_at end
  where m.id = v_member.id
  returning * into v_member;
  return v_member;
end $$;
comment on function private.change_member_role(uuid, uuid, text) is 'Core of identity.change_member_role.';
revoke all on function private.change_member_role from public, anon, authenticated, service_role;
grant execute on function private.change_member_role to authenticated, service_role;

create function identity.change_member_role(workspace_id uuid, user_id uuid, role text)
returns identity.workspace_members
language sql
set search_path = ''
as $$
  select private.change_member_role(
    change_member_role.workspace_id, change_member_role.user_id, change_member_role.role)
$$;
comment on function identity.change_member_role(uuid, uuid, text) is
  'Gives a member another role; admins up, and nobody gives or takes a role above their own.';
revoke all on function identity.change_member_role from public, anon, authenticated, service_role;
grant execute on function identity.change_member_role to authenticated, service_role;
