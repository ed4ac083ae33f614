-- Suspending a person takes all rights at once. The state is the profile's; triggers carry it to the person's
-- memberships, where the helpers of all policies and functions read it in the index that they read anyway. What a
-- person owns without a workspace (profile, settings, devices, notifications) stays readable, and nothing of it can be
-- written; API keys and tokens that the person made are refused. Workspaces stay as they are, also those whose only
-- owner it is: others go on in their roles, and what takes an owner waits until the suspension is lifted, or the
-- service names another. Sessions at the auth server live on, without rights, until it bans the account.

insert into private.error_codes (name, sqlstate, hint) values
  ('account_suspended', 'PT403', 'The account is suspended: write to support by the contact form.');

-- For tables that people write without a role in a workspace, directly or through functions.
create function private.refuse_suspended() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if private.is_suspended() then
    perform private.fail('account_suspended', 'This account is suspended and changes nothing.');
  end if;
  return null;
end $$;
comment on function private.refuse_suspended() is 'Trigger: who is suspended writes nothing.';
revoke all on function private.refuse_suspended from public, anon, authenticated, service_role;

create trigger refuse_suspended before update on identity.profiles
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before update on identity.personal_details
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before update on identity.user_settings
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on identity.workspaces
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on identity.workspace_members
  for each statement execute function private.refuse_suspended();

-- The lock puts a membership that begins and a suspension in order, whichever comes first.
create function private.know_suspension() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  select p.status = 'suspended' into new.is_suspended from identity.profiles p where p.id = new.user_id for share;
  -- a person who is not there is the foreign key's to refuse
  new.is_suspended := coalesce(new.is_suspended, false);
  return new;
end $$;
comment on function private.know_suspension() is 'Trigger: a membership of who is suspended begins without rights.';
revoke all on function private.know_suspension from public, anon, authenticated, service_role;
create trigger workspace_members_know_suspension before insert or update of user_id, is_suspended
  on identity.workspace_members for each row execute function private.know_suspension();

create function private.carry_suspension() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform from identity.workspace_members m where m.user_id = new.id order by m.id for no key update;
  update identity.workspace_members m set is_suspended = new.status = 'suspended' where m.user_id = new.id;
  perform ops.write_audit(
    case new.status when 'suspended' then 'identity.person_suspended' else 'identity.suspension_lifted' end,
    'identity.profiles', jsonb_build_object('status', old.status), jsonb_build_object('status', new.status),
    metadata => jsonb_strip_nulls(jsonb_build_object('reason', nullif(current_setting('backlot.reason', true), ''))),
    target_id => new.id::text);
  return null;
end $$;
comment on function private.carry_suspension() is
  'Trigger: carries a suspension, or its end, to the person''s memberships and into the audit log.';
revoke all on function private.carry_suspension from public, anon, authenticated, service_role;
create trigger profiles_carry_suspension after update of status on identity.profiles
  for each row when (old.status <> new.status) execute function private.carry_suspension();
