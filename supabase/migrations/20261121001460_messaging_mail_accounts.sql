-- Mail accounts: those of a person and those that a workspace shares, where the old app had a table for each. An
-- account belongs to one of the two. Who may use it is a list of its own, because not everybody in a workspace reads
-- its mail. The password is apart, sealed by the functions, and no client role can read it.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_mail_account', 'PT404', 'Use the id of a mail account that you were given access to.'),
  ('mail_role_too_low', 'PT403', 'Ask an owner or admin of the mail account for a higher role.'),
  ('mail_account_exists', 'PT409', 'Change the account that is there, or delete it first.'),
  ('mail_account_not_ready', 'PT409', 'Enter the password of the account and switch it on first.'),
  ('last_mail_owner', 'PT409', 'Make somebody else an owner of the mail account first.');

create table messaging.email_accounts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  workspace_id uuid,
  email text not null,
  display_name text,
  color text,
  username text not null,
  imap_host text not null,
  imap_port integer not null default 993,
  imap_secure boolean not null default true,
  smtp_host text not null,
  smtp_port integer not null default 465,
  smtp_secure boolean not null default true,
  is_active boolean not null default true,
  status text not null default 'no_password',
  tested_at timestamptz,
  last_sync_at timestamptz,
  next_check_at timestamptz not null default private.now(),
  sync_error text,
  uid_validity bigint,
  last_uid bigint not null default 0,
  created_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint email_accounts_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint email_accounts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint email_accounts_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint email_accounts_of_one check (num_nonnulls(user_id, workspace_id) = 1),
  constraint email_accounts_once_for_person unique (user_id, email),
  constraint email_accounts_once_for_workspace unique (workspace_id, email),
  constraint email_accounts_email_shape
    check (email ~ '^[^@\s<>,;"]+@[^@\s<>,;"]+\.[^@\s<>,;"]+$' and length(email) <= 254),
  constraint email_accounts_texts_are_short check (length(display_name) <= 100 and length(username) between 1 and 254),
  constraint email_accounts_no_line_breaks check (display_name !~ '[\r\n]' and username !~ '[\r\n]'),
  constraint email_accounts_color_shape check (color ~ '^#[0-9a-fA-F]{6}$'),
  constraint email_accounts_hosts_shape
    check (imap_host ~ '^[A-Za-z0-9.:-]{1,253}$' and smtp_host ~ '^[A-Za-z0-9.:-]{1,253}$'),
  constraint email_accounts_ports_in_range check (imap_port between 1 and 65535 and smtp_port between 1 and 65535),
  constraint email_accounts_status_known check (status in ('no_password', 'untested', 'active', 'error')),
  constraint email_accounts_error_has_text check (status <> 'error' or sync_error is not null),
  constraint email_accounts_uids_not_negative check (last_uid >= 0 and uid_validity > 0)
);
comment on table messaging.email_accounts is
  'A mailbox with its servers, of a person or shared in a workspace, without its password.';
comment on column messaging.email_accounts.imap_secure is
  'TLS from the first byte; false: STARTTLS, which must succeed before the password is sent.';
comment on column messaging.email_accounts.status is
  'no_password, untested, active, or error with the reason in sync_error.';
comment on column messaging.email_accounts.last_uid is
  'The inbox has been read up to this UID, as long as the server''s UIDVALIDITY is uid_validity.';
create index email_accounts_workspace_id on messaging.email_accounts (workspace_id);
create index email_accounts_email on messaging.email_accounts (email);
create index email_accounts_created_by on messaging.email_accounts (created_by);
create index email_accounts_due on messaging.email_accounts (next_check_at) where is_active and status = 'active';
create trigger touch_email_accounts before update on messaging.email_accounts
  for each row execute function private.touch_updated_at();
alter table messaging.email_accounts enable row level security;
revoke all on table messaging.email_accounts from public, anon, authenticated, service_role;
grant select, delete on table messaging.email_accounts to authenticated;
grant update (display_name, color, is_active) on table messaging.email_accounts to authenticated;
grant select, insert, update, delete on table messaging.email_accounts to service_role;

create table messaging.email_account_secrets (
  account_id uuid not null,
  key_id text not null,
  nonce bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint email_account_secrets_pkey primary key (account_id),
  constraint email_account_secrets_account_id_fkey foreign key (account_id)
    references messaging.email_accounts (id) on delete cascade,
  constraint email_account_secrets_nonce_length check (octet_length(nonce) = 12),
  constraint email_account_secrets_ciphertext_has_tag check (octet_length(ciphertext) > 16),
  constraint email_account_secrets_key_id_length check (char_length(key_id) between 1 and 100)
);
comment on table messaging.email_account_secrets is
  'Passwords of mail accounts, sealed by AES-256-GCM outside the database; only the service reads or writes them.';
create index email_account_secrets_key_id on messaging.email_account_secrets (key_id);
create trigger touch_email_account_secrets before update on messaging.email_account_secrets
  for each row execute function private.touch_updated_at();
alter table messaging.email_account_secrets enable row level security;
revoke all on table messaging.email_account_secrets from public, anon, authenticated, service_role;
grant select, insert, update, delete on table messaging.email_account_secrets to service_role;

create table messaging.email_account_members (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null,
  user_id uuid not null,
  role text not null default 'member',
  created_at timestamptz not null default now(),
  constraint email_account_members_account_id_fkey foreign key (account_id)
    references messaging.email_accounts (id) on delete cascade,
  constraint email_account_members_user_id_fkey foreign key (user_id)
    references identity.profiles (id) on delete cascade,
  constraint email_account_members_once unique (account_id, user_id),
  constraint email_account_members_role_known check (role in ('owner', 'admin', 'member', 'readonly'))
);
comment on table messaging.email_account_members is
  'Who may use a mail account: readonly reads, member also sends, admin changes it and its members, owner all.';
create index email_account_members_user_id on messaging.email_account_members (user_id, account_id);
alter table messaging.email_account_members enable row level security;
revoke all on table messaging.email_account_members from public, anon, authenticated, service_role;
grant select on table messaging.email_account_members to authenticated;
grant select, insert, update, delete on table messaging.email_account_members to service_role;

create function private.mail_rank(role text) returns integer
language sql immutable parallel safe
set search_path = ''
as $$ select array_position(array['readonly', 'member', 'admin', 'owner'], role) $$;
comment on function private.mail_rank(text) is 'Roles of a mail account in their order; null is no role.';
revoke all on function private.mail_rank from public, anon, authenticated, service_role;
grant execute on function private.mail_rank to authenticated, service_role;

-- Whoever leaves the workspace leaves its mail accounts, without anybody having to think of it.
create function private.mail_account_ids(minimum_role text) returns uuid[]
language sql stable security definer
set search_path = ''
as $$
  select coalesce(array_agg(m.account_id), '{}')
  from messaging.email_account_members m join messaging.email_accounts a on a.id = m.account_id
  where m.user_id = (select auth.uid()) and private.mail_rank(m.role) >= private.mail_rank(minimum_role)
    and (a.user_id = m.user_id or a.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))
$$;
comment on function private.mail_account_ids(text) is
  'Mail accounts in which the caller has at least this role, for policies.';
revoke all on function private.mail_account_ids from public, anon, authenticated, service_role;
grant execute on function private.mail_account_ids to authenticated, service_role;

create policy "People see the mail accounts they may use or administer" on messaging.email_accounts
  for select to authenticated using (id = any ((select private.mail_account_ids('readonly'))::uuid[])
    or workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
create policy "Admins of a mail account name it and switch it" on messaging.email_accounts
  for update to authenticated using (id = any ((select private.mail_account_ids('admin'))::uuid[]))
  with check (id = any ((select private.mail_account_ids('admin'))::uuid[]));
create policy "Owners of a mail account and admins of its workspace delete it" on messaging.email_accounts
  for delete to authenticated using (id = any ((select private.mail_account_ids('owner'))::uuid[])
    or workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
create policy "People see with whom they share a mail account" on messaging.email_account_members
  for select to authenticated using (account_id = any ((select private.mail_account_ids('readonly'))::uuid[])
    or account_id in (select a.id from messaging.email_accounts a
      where a.workspace_id = any ((select private.workspace_ids('admin'))::uuid[])));

-- Errors: not_signed_in, unknown_mail_account, mail_role_too_low. An admin of the workspace may do what an admin of
-- its accounts may, but for reading and sending mail, which takes a role in the account itself.
create function private.mail_account_of_caller(account_id uuid, minimum_role text) returns messaging.email_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account messaging.email_accounts;
  v_role text;
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can use a mail account.');
  end if;
  select * into v_account from messaging.email_accounts a where a.id = mail_account_of_caller.account_id for update;
  v_role := case
    when v_account.id = any (private.mail_account_ids('owner')) then 'owner'
    when v_account.id = any (private.mail_account_ids('admin')) then 'admin'
    when minimum_role = 'admin' and v_account.workspace_id = any (private.workspace_ids('admin')) then 'admin'
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
