-- One table for every outside account a workspace connects (shops, social networks, video, cloud storage, ads),
-- where five apps had six. Tokens are apart, encrypted, and no client role can read them.
-- A person's accounts (video, storage, ads) belong to the person's workspace; user_id says who connected them.

create schema if not exists integrations;
comment on schema integrations is 'Connected outside accounts and their encrypted secrets.';
revoke all on schema integrations from public;
grant usage on schema integrations to anon, authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_account', 'PT404', 'Use the id of a connected account of a workspace that you belong to.');

-- provider has a shape and no list: a new one needs an adapter in the functions, not a migration.
create table integrations.connected_accounts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  provider text not null,
  external_account_id text,
  username text,
  display_name text,
  email text,
  avatar_url text,
  scopes text[] not null default '{}',
  status text not null default 'active',
  marketplace_id text,
  region text,
  selling_status text,
  root_folder_id text,
  root_folder_path text,
  folder_naming_pattern text,
  provider_data jsonb not null default '{}',
  settings jsonb not null default '{}',
  stats jsonb not null default '{}',
  token_expires_at timestamptz,
  token_last_refreshed_at timestamptz,
  last_sync_at timestamptz,
  last_used_at timestamptz,
  error_message text,
  error_count integer not null default 0,
  connected_at timestamptz,
  disconnected_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint connected_accounts_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint connected_accounts_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete set null,
  constraint connected_accounts_once unique (workspace_id, provider, external_account_id),
  constraint connected_accounts_provider_shape check (provider ~ '^[a-z][a-z0-9_]{1,39}$'),
  constraint connected_accounts_status_known
    check (status in ('pending', 'active', 'expired', 'error', 'disconnected')),
  constraint connected_accounts_named_when_connected
    check (external_account_id is not null or status in ('pending', 'disconnected')),
  constraint connected_accounts_disconnected_says_when
    check ((status = 'disconnected') = (disconnected_at is not null)),
  constraint connected_accounts_error_count_positive check (error_count >= 0),
  constraint connected_accounts_json_are_objects check (
    jsonb_typeof(provider_data) = 'object' and jsonb_typeof(settings) = 'object' and jsonb_typeof(stats) = 'object'
  )
);
comment on table integrations.connected_accounts is
  'An outside account of a workspace, its state and settings, without any token.';
comment on column integrations.connected_accounts.external_account_id is
  'The provider''s id: Instagram account, shop domain, Amazon seller, YouTube channel, ad account.';
comment on column integrations.connected_accounts.marketplace_id is
  'Amazon: the marketplace, ATVPDKIKX0DER for the US.';
comment on column integrations.connected_accounts.disconnected_at is
  'The row stays 90 days from then, for a reconnection.';
-- Webhooks of these name only the outside account, so it must lead to one workspace.
create unique index connected_accounts_one_live on integrations.connected_accounts (provider, external_account_id)
  where status in ('active', 'pending') and provider in ('instagram', 'facebook', 'whatsapp', 'shopify');
-- A workspace has one seller account, and one of each cloud storage.
create unique index connected_accounts_one_of_kind on integrations.connected_accounts (workspace_id, provider)
  where status <> 'disconnected' and provider in ('amazon', 'google_drive', 'onedrive', 'dropbox');
create index connected_accounts_external_idx on integrations.connected_accounts (provider, external_account_id);
create index connected_accounts_active_idx on integrations.connected_accounts (workspace_id, provider)
  where status = 'active';
create index connected_accounts_user_id_idx on integrations.connected_accounts (user_id);
create index connected_accounts_token_expires_idx on integrations.connected_accounts (token_expires_at)
  where status = 'active';
create index connected_accounts_disconnected_idx on integrations.connected_accounts (disconnected_at)
  where status = 'disconnected';
create trigger touch_connected_accounts before update on integrations.connected_accounts
  for each row execute function private.touch_updated_at();
alter table integrations.connected_accounts enable row level security;
revoke all on table integrations.connected_accounts from public, anon, authenticated, service_role;
grant select on table integrations.connected_accounts to authenticated;
grant select, insert, update, delete on table integrations.connected_accounts to service_role;

create policy "Members see the connected accounts of their workspaces" on integrations.connected_accounts
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- AES-256-GCM: the tag is the last 16 bytes of the ciphertext, as WebCrypto writes it. key_id names the key of
-- the environment, so that keys can rotate; rotated_at says when the row was last encrypted anew.
create table integrations.account_secrets (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null,
  kind text not null,
  key_id text not null,
  algorithm text not null default 'aes-256-gcm',
  nonce bytea not null,
  ciphertext bytea not null,
  expires_at timestamptz,
  rotated_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint account_secrets_account_id_fkey foreign key (account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint account_secrets_once unique (account_id, kind),
  constraint account_secrets_kind_known
    check (kind in ('access_token', 'refresh_token', 'tokens', 'api_key', 'password', 'webhook_secret', 'stream_key')),
  constraint account_secrets_algorithm_known check (algorithm = 'aes-256-gcm'),
  constraint account_secrets_nonce_length check (octet_length(nonce) = 12),
  constraint account_secrets_ciphertext_has_tag check (octet_length(ciphertext) > 16),
  constraint account_secrets_key_id_length check (char_length(key_id) between 1 and 100)
);
comment on table integrations.account_secrets is
  'Tokens of connected accounts, encrypted outside the database; only the service reads or writes them.';
create index account_secrets_key_id_idx on integrations.account_secrets (key_id);
create index account_secrets_expires_at_idx on integrations.account_secrets (expires_at) where expires_at is not null;
create trigger touch_account_secrets before update on integrations.account_secrets
  for each row execute function private.touch_updated_at();
alter table integrations.account_secrets enable row level security;
revoke all on table integrations.account_secrets from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.account_secrets to service_role;

-- The tokens go at once; what the account was and did stays for the days in which it may be connected again.
create function private.end_account(id uuid) returns integrations.connected_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
begin
  select * into v_account from integrations.connected_accounts a where a.id = end_account.id for update;
  delete from integrations.account_secrets s where s.account_id = v_account.id;
  if v_account.status <> 'disconnected' then
    update integrations.connected_accounts a
    set status = 'disconnected', disconnected_at = private.now(), token_expires_at = null
    where a.id = v_account.id
    returning * into v_account;
  end if;
  return v_account;
end $$;
comment on function private.end_account(uuid) is 'Disconnects an account, whoever wants it.';
revoke all on function private.end_account from public, anon, authenticated, service_role;

create function private.disconnect_account(id uuid) returns integrations.connected_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace_id uuid := (
    select a.workspace_id from integrations.connected_accounts a where a.id = disconnect_account.id);
begin
  if v_workspace_id is null or not private.has_role(v_workspace_id, 'viewer') then
    perform private.fail('unknown_account', 'There is no such account among those of your workspaces.',
      jsonb_build_object('account_id', disconnect_account.id));
  end if;
  perform private.require_role(v_workspace_id, 'admin');
  return private.end_account(disconnect_account.id);
end $$;
comment on function private.disconnect_account(uuid) is 'Core of integrations.disconnect_account.';
revoke all on function private.disconnect_account from public, anon, authenticated, service_role;
grant execute on function private.disconnect_account to authenticated, service_role;

create function integrations.disconnect_account(id uuid) returns integrations.connected_accounts
language sql
set search_path = ''
as $$ select private.disconnect_account(disconnect_account.id) $$;
comment on function integrations.disconnect_account(uuid) is
  'An admin disconnects an account: its tokens go at once, the row 90 days later.';
revoke all on function integrations.disconnect_account from public, anon, authenticated, service_role;
grant execute on function integrations.disconnect_account to authenticated, service_role;

create function private.purge_disconnected_accounts() returns integer
language sql
set search_path = ''
as $$
  with purged as (
    delete from integrations.connected_accounts a
    where a.status = 'disconnected' and a.disconnected_at <= private.now() - interval '90 days'
    returning 1
  )
  select count(*)::integer from purged
$$;
comment on function private.purge_disconnected_accounts() is
  'Deletes accounts that were disconnected 90 days ago; a sweep of ops.tick() calls it.';
revoke all on function private.purge_disconnected_accounts from public, anon, authenticated, service_role;
grant execute on function private.purge_disconnected_accounts to service_role;
