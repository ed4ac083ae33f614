-- Storing what a provider granted: the account, its sealed tokens, its health.

create table integrations.connect_handlers (
  provider text not null,
  function_name text not null,
  created_at timestamptz not null default now(),
  constraint connect_handlers_pkey primary key (provider, function_name),
  constraint connect_handlers_function_name_shape check (function_name ~ '^[a-z_]+\.[a-z_]+$')
);
comment on table integrations.connect_handlers is
  'What begins when an account of a provider is connected, such as the first reading of a shop.';
comment on column integrations.connect_handlers.function_name is
  'Called as f(account integrations.connected_accounts), in the transaction that connects.';
alter table integrations.connect_handlers enable row level security;
revoke all on table integrations.connect_handlers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.connect_handlers to service_role;

-- secrets: [{kind, key_id, nonce, ciphertext, expires_at}], bytes as \x hex; the account has no others afterwards.
create function private.keep_secrets(account_id uuid, secrets jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into integrations.account_secrets as k
    (account_id, kind, key_id, nonce, ciphertext, expires_at, rotated_at)
  select keep_secrets.account_id, s.kind, s.key_id, s.nonce, s.ciphertext, s.expires_at, private.now()
  from jsonb_to_recordset(secrets) as s (kind text, key_id text, nonce bytea, ciphertext bytea, expires_at timestamptz)
  on conflict on constraint account_secrets_once do update
  set key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
    expires_at = excluded.expires_at, rotated_at = excluded.rotated_at;
end $$;
comment on function private.keep_secrets(uuid, jsonb) is 'Stores sealed tokens of an account in place of older ones.';
revoke all on function private.keep_secrets from public, anon, authenticated, service_role;
grant execute on function private.keep_secrets to service_role;

-- account: {provider, external_account_id, username, display_name, email, avatar_url, scopes, token_expires_at,
-- marketplace_id, region, selling_status, provider_data}. An account that was connected before is the same row again,
-- with its settings. Errors: account_taken.
create function integrations.connect_account(workspace_id uuid, user_id uuid, account jsonb, secrets jsonb)
returns integrations.connected_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_function text;
begin
  begin
    insert into integrations.connected_accounts as a (workspace_id, user_id, provider, external_account_id, username,
      display_name, email, avatar_url, scopes, token_expires_at, marketplace_id, region, selling_status,
      provider_data, status, connected_at)
    select connect_account.workspace_id, connect_account.user_id, s.provider, s.external_account_id, s.username,
      s.display_name, s.email, s.avatar_url, coalesce(s.scopes, '{}'), s.token_expires_at, s.marketplace_id, s.region,
      s.selling_status, coalesce(s.provider_data, '{}'), 'active', private.now()
    from jsonb_to_record(account) as s (provider text, external_account_id text, username text, display_name text,
      email text, avatar_url text, scopes text[], token_expires_at timestamptz, marketplace_id text, region text,
      selling_status text, provider_data jsonb)
    on conflict on constraint connected_accounts_once do update
    set user_id = coalesce(excluded.user_id, a.user_id), username = excluded.username,
      display_name = excluded.display_name, email = excluded.email, avatar_url = excluded.avatar_url,
      scopes = excluded.scopes, token_expires_at = excluded.token_expires_at,
      marketplace_id = coalesce(excluded.marketplace_id, a.marketplace_id),
      region = coalesce(excluded.region, a.region),
      selling_status = coalesce(excluded.selling_status, a.selling_status),
      provider_data = a.provider_data || excluded.provider_data,
      status = 'active', connected_at = excluded.connected_at, disconnected_at = null, error_message = null,
      error_count = 0
    returning * into v_account;
  exception when unique_violation then
    perform private.fail('account_taken', 'The account is connected already, to this kind or to another workspace.',
      jsonb_build_object('provider', account ->> 'provider', 'account', account ->> 'external_account_id'));
  end;
  delete from integrations.account_secrets k where k.account_id = v_account.id;
  perform private.keep_secrets(v_account.id, secrets);
  -- an installation that still waits has older tokens: claimed later, it would put them over these
  perform integrations.end_installation(p.id, 'claimed', v_account.workspace_id)
  from integrations.pending_installations p
  where p.provider = v_account.provider and p.external_account_id = v_account.external_account_id
    and p.status = 'pending';
  for v_function in
    select h.function_name from integrations.connect_handlers h
    where h.provider = v_account.provider order by h.function_name
  loop
    -- the shape of the name is held by a constraint of the table
    execute 'select ' || v_function || '($1)' using v_account;
  end loop;
  return v_account;
end $$;
comment on function integrations.connect_account(uuid, uuid, jsonb, jsonb) is
  'Connects an account with its sealed tokens, or connects it again, and begins what follows from it.';
revoke all on function integrations.connect_account from public, anon, authenticated, service_role;
grant execute on function integrations.connect_account to service_role;

-- Webhooks name only the outside account (see connected_accounts_one_live): one that had died, and that another
-- workspace has connected since, does not live again.
create function private.is_taken(account integrations.connected_accounts) returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  return account.provider in ('instagram', 'facebook', 'whatsapp', 'shopify') and exists (
    select from integrations.connected_accounts a
    where a.provider = account.provider and a.external_account_id = account.external_account_id
      and a.id <> account.id and a.status in ('active', 'pending'));
end $$;
comment on function private.is_taken(integrations.connected_accounts) is
  'Has another workspace connected the outside account since?';
revoke all on function private.is_taken from public, anon, authenticated, service_role;
grant execute on function private.is_taken to service_role;

-- New tokens of an account that is connected, in place of those of the connection that was made then (to the
-- millisecond; null: any); false when it has ended or been made anew.
create function integrations.store_tokens(account_id uuid, secrets jsonb, token_expires_at timestamptz,
  connected_at timestamptz default null) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update integrations.connected_accounts a
  set token_expires_at = store_tokens.token_expires_at, token_last_refreshed_at = private.now(),
    status = case when a.status in ('expired', 'error') and not private.is_taken(a) then 'active' else a.status end,
    error_message = null, error_count = 0
  where a.id = store_tokens.account_id and a.status <> 'disconnected' and (store_tokens.connected_at is null
    or date_trunc('milliseconds', a.connected_at) = date_trunc('milliseconds', store_tokens.connected_at));
  if not found then
    return false;
  end if;
  perform private.keep_secrets(store_tokens.account_id, secrets);
  return true;
end $$;
comment on function integrations.store_tokens(uuid, jsonb, timestamptz, timestamptz) is
  'Puts refreshed tokens in place of the old ones; false when the account has been disconnected, or connected anew.';
revoke all on function integrations.store_tokens from public, anon, authenticated, service_role;
grant execute on function integrations.store_tokens to service_role;

-- connected_at: of which connection it is said (to the millisecond; null: of any); of a later one it says nothing.
create function integrations.note_account_health(account_id uuid, status text default null, message text default null,
  connected_at timestamptz default null) returns void
language sql
set search_path = ''
as $$
  update integrations.connected_accounts a
  set status = coalesce(note_account_health.status, case when a.status = 'error' and not private.is_taken(a)
      then 'active' else a.status end),
    error_message = message, error_count = case when message is null then 0 else a.error_count + 1 end,
    last_used_at = case when message is null then private.now() else a.last_used_at end
  where a.id = note_account_health.account_id and a.status in ('active', 'expired', 'error')
    and (note_account_health.connected_at is null or date_trunc('milliseconds', a.connected_at)
      = date_trunc('milliseconds', note_account_health.connected_at))
$$;
comment on function integrations.note_account_health(uuid, text, text, timestamptz) is
  'Keeps whether an account works: without a message it does; with one it is expired or in error.';
revoke all on function integrations.note_account_health from public, anon, authenticated, service_role;
grant execute on function integrations.note_account_health to service_role;

-- secret: {key_id, nonce, ciphertext}. A shop that installs again waits anew; the older claim is void.
create function integrations.keep_installation(installation jsonb, secret jsonb, claim_hash bytea)
returns integrations.pending_installations
language plpgsql
set search_path = ''
as $$
declare
  v_row integrations.pending_installations;
begin
  update integrations.pending_installations p
  set status = 'expired', completed_at = private.now(), claim_hash = null, key_id = null, nonce = null,
    ciphertext = null
  where p.provider = installation ->> 'provider' and p.external_account_id = installation ->> 'external_account_id'
    and p.status = 'pending';
  insert into integrations.pending_installations (provider, external_account_id, claim_hash, scopes, key_id, nonce,
    ciphertext, oauth_data)
  select i.provider, i.external_account_id, keep_installation.claim_hash, coalesce(i.scopes, '{}'), s.key_id, s.nonce,
    s.ciphertext, coalesce(i.oauth_data, '{}')
  from jsonb_to_record(installation) as i (provider text, external_account_id text, scopes text[], oauth_data jsonb),
    jsonb_to_record(secret) as s (key_id text, nonce bytea, ciphertext bytea)
  returning * into v_row;
  return v_row;
end $$;
comment on function integrations.keep_installation(jsonb, jsonb, bytea) is
  'Keeps an installation that began at the provider until somebody claims it, for seven days.';
revoke all on function integrations.keep_installation from public, anon, authenticated, service_role;
grant execute on function integrations.keep_installation to service_role;

create function integrations.find_installation(claim_hash bytea) returns integrations.pending_installations
language plpgsql stable
set search_path = ''
as $$
declare
  v_row integrations.pending_installations;
begin
  select * into v_row from integrations.pending_installations p
  where p.claim_hash = find_installation.claim_hash and p.status = 'pending' and p.expires_at > private.now();
  if v_row.id is null then
    perform private.fail('unknown_installation', 'There is no such installation that waits, or its time is over.');
  end if;
  return v_row;
end $$;
comment on function integrations.find_installation(bytea) is 'An installation that waits for its claim.';
revoke all on function integrations.find_installation from public, anon, authenticated, service_role;
grant execute on function integrations.find_installation to service_role;

-- Once: of two claims at the same time, one ends with unknown_installation.
create function integrations.end_installation(id uuid, status text, workspace_id uuid default null) returns void
language plpgsql
set search_path = ''
as $$
begin
  update integrations.pending_installations p
  set status = end_installation.status, linked_workspace_id = end_installation.workspace_id,
    completed_at = private.now(), claim_hash = null, key_id = null, nonce = null, ciphertext = null
  where p.id = end_installation.id and p.status = 'pending';
  if not found then
    perform private.fail('unknown_installation', 'The installation has been claimed or has ended.');
  end if;
end $$;
comment on function integrations.end_installation(uuid, text, uuid) is
  'Ends the wait of an installation, claimed for a workspace or not; its tokens go.';
revoke all on function integrations.end_installation from public, anon, authenticated, service_role;
grant execute on function integrations.end_installation to service_role;

-- Claims for a member with the right to: connects the account and ends the wait, together.
create function integrations.claim_installation(id uuid, workspace_id uuid, user_id uuid, account jsonb, secrets jsonb)
returns integrations.connected_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
begin
  perform integrations.end_installation(claim_installation.id, 'claimed', claim_installation.workspace_id);
  v_account := integrations.connect_account(claim_installation.workspace_id, claim_installation.user_id, account,
    secrets);
  return v_account;
end $$;
comment on function integrations.claim_installation(uuid, uuid, uuid, jsonb, jsonb) is
  'Connects the account of a waiting installation to a workspace.';
revoke all on function integrations.claim_installation from public, anon, authenticated, service_role;
grant execute on function integrations.claim_installation to service_role;

create function private.expire_installations() returns integer
language sql
set search_path = ''
as $$
  with expired as (
    update integrations.pending_installations p
    set status = 'expired', completed_at = private.now(), claim_hash = null, key_id = null, nonce = null,
      ciphertext = null
    where p.status = 'pending' and p.expires_at <= private.now()
    returning 1
  ), states as (
    delete from integrations.oauth_states s where s.expires_at < private.now() - interval '1 day' returning 1
  )
  select (select count(*) from expired)::integer + (select count(*) from states)::integer
$$;
comment on function private.expire_installations() is
  'Sweep: forgets tokens of installations that nobody claimed in time, and states that have ended.';
revoke all on function private.expire_installations from public, anon, authenticated, service_role;
grant execute on function private.expire_installations to service_role;
