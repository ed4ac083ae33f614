-- Suspending people, for staff and the service; how it works is in identity_suspension. And what else the suspended do
-- not write: tables that people come to without a role in a workspace. The contact form and feedback stay open to them.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_person', 'PT404', 'Check the id of the account.'),
  ('suspension_of_staff', 'PT403', 'Have the service do it: staff do not suspend each other.');

create trigger refuse_suspended before insert or update or delete on identity.follows
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on identity.user_devices
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before update or delete on messaging.notifications
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on messaging.email_accounts
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on messaging.email_account_members
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on billing.referrals
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on billing.affiliates
  for each statement execute function private.refuse_suspended();
create trigger refuse_suspended before insert or update or delete on billing.affiliate_referrals
  for each statement execute function private.refuse_suspended();

-- Setting what is set already changes nothing. Errors: not_staff, invalid_argument, unknown_person,
-- suspension_of_staff.
create function private.set_suspension(user_id uuid, suspended boolean, reason text) returns identity.profiles
language plpgsql security definer
set search_path = ''
as $$
declare
  v_reason text := btrim(reason);
  v_profile identity.profiles;
begin
  if not private.is_service() then
    perform private.require_staff();
  end if;
  if v_reason is null or char_length(v_reason) not between 1 and 1000 then
    perform private.fail('invalid_argument', 'reason: must have 1 to 1,000 characters.', '{"argument": "reason"}');
  end if;
  select * into v_profile from identity.profiles p where p.id = set_suspension.user_id for no key update;
  if not found then
    perform private.fail('unknown_person', 'There is no such account.', jsonb_build_object('user_id', user_id));
  elsif not private.is_service() and exists (select from auth.users u
    where u.id = v_profile.id and u.raw_app_meta_data ->> 'staff' = 'true') then
    perform private.fail('suspension_of_staff', 'This account is of staff.', jsonb_build_object('user_id', user_id));
  end if;
  perform set_config('backlot.reason', v_reason, true);
  update identity.profiles p set status = case when suspended then 'suspended' else 'active' end
  where p.id = v_profile.id returning p.* into v_profile;
  perform set_config('backlot.reason', '', true);
  return v_profile;
end $$;
comment on function private.set_suspension(uuid, boolean, text) is
  'Core of staff.suspend_person and staff.lift_suspension; checks the caller first.';
revoke all on function private.set_suspension from public, anon, authenticated, service_role;
grant execute on function private.set_suspension to authenticated, service_role;

create function staff.suspend_person(user_id uuid, reason text) returns identity.profiles
language sql
set search_path = ''
as $$ select private.set_suspension(user_id, true, reason) $$;
comment on function staff.suspend_person(uuid, text) is
  'For staff and the service: a person loses all rights at once, with a reason for the audit log.';
revoke all on function staff.suspend_person from public, anon, authenticated, service_role;
grant execute on function staff.suspend_person to authenticated, service_role;

create function staff.lift_suspension(user_id uuid, reason text) returns identity.profiles
language sql
set search_path = ''
as $$ select private.set_suspension(user_id, false, reason) $$;
comment on function staff.lift_suspension(uuid, text) is
  'For staff and the service: a suspended person has all rights again, with a reason for the audit log.';
revoke all on function staff.lift_suspension from public, anon, authenticated, service_role;
grant execute on function staff.lift_suspension to authenticated, service_role;
