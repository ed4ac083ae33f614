-- Who may do what with a mail account, and how it is added, changed and shared.

-- Errors: not_signed_in, unknown_mail_account, mail_role_too_low. An admin of the workspace may do what an admin of
-- its accounts may, but for reading and sending mail, which takes a role in the account itself.
create function private.mail_account_of_caller(account_id uuid, minimum_role text) returns messaging.email_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account messaging.email_accounts;
  v_managed uuid[] := case minimum_role when 'admin' then private.workspace_ids('admin') else '{}' end;
  v_role text;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can use a mail account.');
  end if;
  -- only what the caller may see is locked: a stranger waits for nobody, and nobody for them
  select * into v_account from messaging.email_accounts a
  where a.id = mail_account_of_caller.account_id
    and (a.id = any (private.mail_account_ids('readonly')) or a.workspace_id = any (v_managed)) for update;
  v_role := case
    when v_account.id = any (private.mail_account_ids('owner')) then 'owner'
    when v_account.id = any (private.mail_account_ids('admin')) then 'admin'
    when v_account.workspace_id = any (v_managed) then 'admin'
    when v_account.id = any (private.mail_account_ids('member')) then 'member'
    when v_account.id = any (private.mail_account_ids('readonly')) then 'readonly' end;
  if v_role is null then
    perform private.fail('unknown_mail_account', 'There is no such mail account among those you may use.',
      jsonb_build_object('account_id', mail_account_of_caller.account_id));
  end if;
  if private.mail_rank(v_role) < private.mail_rank(minimum_role) then
    perform private.fail('mail_role_too_low', format('This takes the role %s in the mail account.', minimum_role),
      jsonb_build_object('account_id', v_account.id, 'role', v_role, 'needed', minimum_role));
  end if;
  return v_account;
end $$;
comment on function private.mail_account_of_caller(uuid, text) is
  'A mail account in which the caller has at least this role, locked.';
revoke all on function private.mail_account_of_caller from public, anon, authenticated, service_role;

-- A password was given for a server and a user: for others it is not sent. Who changes them enters it anew, so that
-- an admin of a shared account cannot have its password sent to a server of their own.
create function private.forget_password_elsewhere() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from messaging.email_account_secrets s where s.account_id = new.id;
  new.status := 'no_password';
  new.sync_error := null;
  new.uid_validity := null;
  new.last_uid := 0;
  return new;
end $$;
comment on function private.forget_password_elsewhere() is 'Forgets the password when it would go to another server.';
revoke all on function private.forget_password_elsewhere from public, anon, authenticated, service_role;
create trigger forget_password_elsewhere before update on messaging.email_accounts
  for each row when (
    (old.imap_host, old.imap_port, old.imap_secure, old.smtp_host, old.smtp_port, old.smtp_secure, old.username)
    is distinct from
    (new.imap_host, new.imap_port, new.imap_secure, new.smtp_host, new.smtp_port, new.smtp_secure, new.username))
  execute function private.forget_password_elsewhere();

-- settings: {email, display_name, color, username, imap_host, imap_port, imap_secure, smtp_host, smtp_port,
-- smtp_secure}; what is left out keeps its value, or its default in a new account. Errors: invalid_argument,
-- mail_account_exists, and those of private.mail_account_of_caller and private.require_role.
create function private.save_email_account(settings jsonb, workspace_id uuid, account_id uuid)
returns messaging.email_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid := auth.uid();
  v_account messaging.email_accounts;
  v_new messaging.email_accounts;
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can keep a mail account.');
  end if;
  if account_id is not null then
    v_account := private.mail_account_of_caller(account_id, 'admin');
  elsif workspace_id is not null then
    perform private.require_role(workspace_id, 'admin');
  end if;
  if jsonb_typeof(settings) <> 'object' then
    perform private.fail('invalid_argument', 'settings must be a JSON object.', '{"argument": "settings"}');
  end if;
  v_new := jsonb_populate_record(v_account, coalesce(settings, '{}') - array['id', 'user_id', 'workspace_id', 'status',
    'created_by', 'created_at', 'updated_at', 'last_uid', 'uid_validity', 'sync_error', 'last_sync_at', 'is_active',
    'tested_at', 'next_check_at']);
  begin
    if v_account.id is null then
      insert into messaging.email_accounts (user_id, workspace_id, email, display_name, color, username, imap_host,
        imap_port, imap_secure, smtp_host, smtp_port, smtp_secure, created_by)
      values (case when save_email_account.workspace_id is null then v_user end, save_email_account.workspace_id,
        lower(v_new.email), v_new.display_name, v_new.color, coalesce(v_new.username, v_new.email), v_new.imap_host,
        coalesce(v_new.imap_port, 993), coalesce(v_new.imap_secure, true), v_new.smtp_host,
        coalesce(v_new.smtp_port, 465), coalesce(v_new.smtp_secure, true), v_user)
      returning * into v_account;
      insert into messaging.email_account_members (account_id, user_id, role) values (v_account.id, v_user, 'owner');
    else
      update messaging.email_accounts a
      set email = lower(v_new.email), display_name = v_new.display_name, color = v_new.color,
        username = v_new.username, imap_host = v_new.imap_host, imap_port = v_new.imap_port,
        imap_secure = v_new.imap_secure, smtp_host = v_new.smtp_host, smtp_port = v_new.smtp_port,
        smtp_secure = v_new.smtp_secure
      where a.id = v_account.id returning * into v_account;
    end if;
  exception
    when unique_violation then
      perform private.fail('mail_account_exists', 'There is a mail account of this address already.',
        jsonb_build_object('email', settings ->> 'email'));
    when check_violation or not_null_violation then
      perform private.fail('invalid_argument', 'An address, a server or a port of the account is missing or wrong.',
        jsonb_build_object('argument', 'settings'));
  end;
  return v_account;
end $$;
comment on function private.save_email_account(jsonb, uuid, uuid) is 'Core of messaging.save_email_account.';
revoke all on function private.save_email_account from public, anon, authenticated, service_role;
grant execute on function private.save_email_account to authenticated;

create function messaging.save_email_account(settings jsonb, workspace_id uuid default null,
  account_id uuid default null) returns messaging.email_accounts
language sql
set search_path = ''
as $$
  select private.save_email_account(save_email_account.settings, save_email_account.workspace_id,
    save_email_account.account_id)
$$;
comment on function messaging.save_email_account(jsonb, uuid, uuid) is
  'Adds a mail account, the caller''s own or one shared in a workspace, or changes one; its password comes after.';
revoke all on function messaging.save_email_account from public, anon, authenticated, service_role;
grant execute on function messaging.save_email_account to authenticated;

-- Called before a password is sealed for the account. Errors: those of private.mail_account_of_caller.
create function private.may_change_email_account(account_id uuid) returns uuid
language sql security definer
set search_path = ''
as $$
  select (a).id from private.mail_account_of_caller(may_change_email_account.account_id, 'admin') a
$$;
comment on function private.may_change_email_account(uuid) is 'Core of messaging.may_change_email_account.';
revoke all on function private.may_change_email_account from public, anon, authenticated, service_role;
grant execute on function private.may_change_email_account to authenticated;
create function messaging.may_change_email_account(account_id uuid) returns uuid
language sql
set search_path = ''
as $$ select private.may_change_email_account(may_change_email_account.account_id) $$;
comment on function messaging.may_change_email_account(uuid) is
  'The account''s id when the caller is one of its admins; the mail function asks before it takes a password.';
revoke all on function messaging.may_change_email_account from public, anon, authenticated, service_role;
grant execute on function messaging.may_change_email_account to authenticated;

-- role null: takes the person off. An admin changes admins and below; an owner, or an admin of the
-- workspace, everybody. One owner always stays.
create function private.set_email_account_role(account_id uuid, user_id uuid, role text) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account messaging.email_accounts := private.mail_account_of_caller(account_id, 'admin');
  v_now text := (select m.role from messaging.email_account_members m
    where m.account_id = set_email_account_role.account_id and m.user_id = set_email_account_role.user_id);
begin
  if 'owner' in (v_now, role) and v_account.user_id is null
    and not coalesce(private.has_role(v_account.workspace_id, 'admin'), false) then
    v_account := private.mail_account_of_caller(account_id, 'owner');
  end if;
  if role is not null and private.mail_rank(role) is null then
    perform private.fail('invalid_argument', 'role must be owner, admin, member or readonly.', '{"argument": "role"}');
  end if;
  if role is not null and not coalesce(private.role_of(v_account.workspace_id, user_id) is not null,
    v_account.user_id = user_id) then
    perform private.fail('invalid_argument', 'The person is not a member of the account''s workspace.',
      '{"argument": "user_id"}');
  end if;
  if v_now = 'owner' and role is distinct from 'owner' and (select count(*) from messaging.email_account_members m
    where m.account_id = v_account.id and m.role = 'owner') = 1 then
    perform private.fail('last_mail_owner', 'A mail account keeps an owner.');
  end if;
  if role is null then
    delete from messaging.email_account_members m
    where m.account_id = v_account.id and m.user_id = set_email_account_role.user_id;
    return;
  end if;
  insert into messaging.email_account_members as m (account_id, user_id, role)
  values (v_account.id, set_email_account_role.user_id, set_email_account_role.role)
  on conflict on constraint email_account_members_once do update set role = excluded.role;
end $$;
comment on function private.set_email_account_role(uuid, uuid, text) is 'Core of messaging.set_email_account_role.';
revoke all on function private.set_email_account_role from public, anon, authenticated, service_role;
grant execute on function private.set_email_account_role to authenticated;
create function messaging.set_email_account_role(account_id uuid, user_id uuid, role text default null) returns void
language sql
set search_path = ''
as $$
  select private.set_email_account_role(set_email_account_role.account_id, set_email_account_role.user_id,
    set_email_account_role.role)
$$;
comment on function messaging.set_email_account_role(uuid, uuid, text) is
  'Gives a member of the workspace a role in a mail account; without a role, takes it away.';
revoke all on function messaging.set_email_account_role from public, anon, authenticated, service_role;
grant execute on function messaging.set_email_account_role to authenticated;
