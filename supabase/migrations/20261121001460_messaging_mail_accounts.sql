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
  failed_checks integer not null default 0,
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
  constraint email_accounts_uids_not_negative check (last_uid >= 0 and uid_validity > 0 and failed_checks >= 0)
);
comment on table messaging.email_accounts is
  'A mailbox with its servers, of a person or shared in a workspace, without its password.';
comment on column messaging.email_accounts.imap_secure is
  'TLS from the first byte; false: STARTTLS, which must succeed before the password is sent.';
comment on column messaging.email_accounts.status is
  'no_password, untested, active, or error with the reason in sync_error.';
comment on column messaging.email_accounts.failed_checks is
  'Readings of the inbox that failed since one went well: the next ones come ever later, after twelve none.';
comment on column messaging.email_accounts.last_uid is
  'The inbox has been read up to this UID, as long as the server''s UIDVALIDITY is uid_validity.';
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
  where m.user_id = (select auth.uid()) and not private.is_suspended()
    and private.mail_rank(m.role) >= private.mail_rank(minimum_role)
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
