-- The last step of a connection. Whoever finishes at the provider need not be who began: a link passed on would connect
-- a stranger's shop to the workspace of the one who sent it. So a callback connects nothing. It keeps what was granted
-- and gives the browser a code; the person who began, signed in, claims it with the code, and only then is the account
-- connected. What was installed at the provider by somebody unknown waits for its own claim (pending_installations).

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_connection', 'PT404',
    'Finish the connection in the browser and with the account that began it, within 10 minutes; or begin again.');

-- account and secrets as integrations.connect_account takes them; the secrets are sealed for the account they become.
create table integrations.pending_connections (
  id uuid primary key default gen_random_uuid(),
  code_hash bytea not null,
  workspace_id uuid not null,
  user_id uuid not null,
  provider text not null,
  external_account_id text not null,
  account jsonb not null,
  secrets jsonb,
  account_id uuid,
  claimed_at timestamptz,
  expires_at timestamptz not null default private.now() + interval '10 minutes',
  created_at timestamptz not null default private.now(),
  constraint pending_connections_code_once unique (code_hash),
  constraint pending_connections_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint pending_connections_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint pending_connections_account_id_fkey foreign key (account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint pending_connections_hash_length check (octet_length(code_hash) = 32),
  constraint pending_connections_provider_shape check (provider ~ '^[a-z][a-z0-9_]{1,39}$'),
  constraint pending_connections_json_shapes
    check (jsonb_typeof(account) = 'object' and jsonb_typeof(secrets) = 'array'),
  constraint pending_connections_secrets_until_claimed check ((secrets is null) = (claimed_at is not null)),
  constraint pending_connections_claimed_is_account check ((account_id is null) = (claimed_at is null))
);
comment on table integrations.pending_connections is
  'What providers have granted and nobody has claimed yet, for ten minutes; tokens are sealed and go with the claim.';
create index pending_connections_workspace_id on integrations.pending_connections (workspace_id);
create index pending_connections_user_id on integrations.pending_connections (user_id);
create index pending_connections_account_id on integrations.pending_connections (account_id)
  where account_id is not null;
create index pending_connections_expires_at on integrations.pending_connections (expires_at);
alter table integrations.pending_connections enable row level security;
revoke all on table integrations.pending_connections from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.pending_connections to service_role;

create function integrations.keep_connection(workspace_id uuid, user_id uuid, account jsonb, secrets jsonb,
  code_hash bytea) returns void
language sql
set search_path = ''
as $$
  insert into integrations.pending_connections
    (workspace_id, user_id, provider, external_account_id, account, secrets, code_hash)
  values (keep_connection.workspace_id, keep_connection.user_id, account ->> 'provider',
    account ->> 'external_account_id', account, secrets, keep_connection.code_hash)
$$;
comment on function integrations.keep_connection(uuid, uuid, jsonb, jsonb, bytea) is
  'Keeps what a provider granted until the person who asked for it claims it with the code.';
revoke all on function integrations.keep_connection from public, anon, authenticated, service_role;
grant execute on function integrations.keep_connection to service_role;

-- Another person is told the same as one with a wrong code. Claimed again by the same person: the same account.
-- Errors: not_signed_in, unknown_connection, unknown_workspace, role_too_low, account_taken.
create function private.claim_connection(code text) returns integrations.connected_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid := auth.uid();
  v_pending integrations.pending_connections;
  v_account integrations.connected_accounts;
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can claim a connection.');
  end if;
  select * into v_pending from integrations.pending_connections p
  where p.code_hash = sha256(convert_to(claim_connection.code, 'UTF8')) and p.user_id = v_user for update;
  if v_pending.id is null or v_pending.expires_at <= private.now() then
    perform private.fail('unknown_connection', 'There is no such connection that you have begun and not finished.');
  end if;
  perform private.require_role(v_pending.workspace_id, 'admin');
  if v_pending.account_id is not null then
    select * into v_account from integrations.connected_accounts a where a.id = v_pending.account_id;
    return v_account;
  end if;
  v_account := integrations.connect_account(v_pending.workspace_id, v_user, v_pending.account, v_pending.secrets);
  update integrations.pending_connections p
  set secrets = null, account_id = v_account.id, claimed_at = private.now()
  where p.id = v_pending.id;
  return v_account;
end $$;
comment on function private.claim_connection(text) is 'Core of integrations.claim_connection.';
revoke all on function private.claim_connection from public, anon, authenticated, service_role;
grant execute on function private.claim_connection to authenticated;

create function integrations.claim_connection(code text) returns integrations.connected_accounts
language sql
set search_path = ''
as $$ select private.claim_connection(claim_connection.code) $$;
comment on function integrations.claim_connection(text) is
  'Connects what the caller has just granted: code is the parameter "connection" of the page returned to.';
revoke all on function integrations.claim_connection from public, anon, authenticated, service_role;
grant execute on function integrations.claim_connection to authenticated;

create function private.expire_connections() returns integer
language sql
set search_path = ''
as $$
  with expired as (
    delete from integrations.pending_connections p where p.expires_at <= private.now() returning 1
  )
  select count(*)::integer from expired
$$;
comment on function private.expire_connections() is 'Sweep: forgets connections that nobody claimed in time.';
revoke all on function private.expire_connections from public, anon, authenticated, service_role;
grant execute on function private.expire_connections to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('expire connections', 'private.expire_connections', interval '5 minutes');

-- The trail of accounts is written where they change, so that no way to connect, lose or end one is without it: the
-- person's own call, the provider's uninstall, the expiry found by a job.
create function private.audit_account() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_address text := trim(split_part(ops._request_header('x-forwarded-for'), ',', 1));
  v_event text := case new.status when 'active' then 'account_connected' when 'disconnected' then 'account_disconnected'
    else 'account_expired' end;
begin
  insert into integrations.oauth_audit_log (event_type, workspace_id, user_id, provider, external_account_id,
    ip_address, user_agent, success, error_message, metadata)
  values (v_event, new.workspace_id, coalesce(auth.uid(), case when v_event = 'account_connected' then new.user_id end),
    new.provider, new.external_account_id,
    case when pg_catalog.pg_input_is_valid(v_address, 'inet') then v_address::inet end,
    ops._request_header('user-agent'), v_event <> 'account_expired',
    case when v_event = 'account_expired' then coalesce(new.error_message, 'The account has expired.') end,
    jsonb_build_object('account_id', new.id));
  return new;
end $$;
comment on function private.audit_account() is 'Notes that an account was connected, expired or was disconnected.';
revoke all on function private.audit_account from public, anon, authenticated, service_role;
create trigger audit_new_account after insert on integrations.connected_accounts
  for each row when (new.status = 'active') execute function private.audit_account();
create trigger audit_account after update of status, connected_at on integrations.connected_accounts
  for each row when ((new.status in ('disconnected', 'expired') and old.status <> new.status)
    or (new.status = 'active' and old.connected_at is distinct from new.connected_at))
  execute function private.audit_account();
