-- Connecting an outside account: the state that travels with the browser, what became of each attempt, installations
-- that begin at the provider and wait for somebody to claim them. Tokens are sealed by the functions before they come.

insert into private.error_codes (name, sqlstate, hint) values
  ('oauth_state_invalid', 'PT400', 'Begin to connect the account again, and finish within 10 minutes.'),
  ('too_many_oauth_starts', 'PT429', 'Finish one of the connections that you have begun, or wait 10 minutes.'),
  ('account_taken', 'PT409', 'Disconnect the account from the other workspace first.'),
  ('unknown_installation', 'PT404', 'Install the app from the provider''s app store again.');

-- Only the hash is kept: who reads the table cannot finish what others have begun.
create table integrations.oauth_states (
  id uuid primary key default gen_random_uuid(),
  state_hash bytea not null,
  provider text not null,
  workspace_id uuid,
  user_id uuid,
  external_account_id text,
  return_to text,
  expires_at timestamptz not null default private.now() + interval '10 minutes',
  used_at timestamptz,
  created_at timestamptz not null default private.now(),
  constraint oauth_states_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint oauth_states_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint oauth_states_once unique (state_hash),
  constraint oauth_states_hash_length check (octet_length(state_hash) = 32),
  constraint oauth_states_provider_shape check (provider ~ '^[a-z][a-z0-9_]{1,39}$'),
  constraint oauth_states_of_somebody check ((workspace_id is null) = (user_id is null)),
  constraint oauth_states_return_to_length check (length(return_to) <= 2000)
);
comment on table integrations.oauth_states is
  'Connections that have begun: each state is good once, for ten minutes, for the person and workspace that began it.';
comment on column integrations.oauth_states.workspace_id is
  'Null: begun at the provider, by somebody who may have no account here.';
comment on column integrations.oauth_states.external_account_id is
  'What is to be connected, where that is known before.';
create index oauth_states_expires_at on integrations.oauth_states (expires_at);
create index oauth_states_workspace_id on integrations.oauth_states (workspace_id);
create index oauth_states_user_id on integrations.oauth_states (user_id, expires_at);
alter table integrations.oauth_states enable row level security;
revoke all on table integrations.oauth_states from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.oauth_states to service_role;

create table integrations.oauth_audit_log (
  id uuid primary key default gen_random_uuid(),
  event_type text not null,
  workspace_id uuid,
  user_id uuid,
  provider text not null,
  external_account_id text,
  ip_address inet,
  user_agent text,
  success boolean not null default true,
  error_message text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default private.now(),
  constraint oauth_audit_log_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint oauth_audit_log_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete set null,
  constraint oauth_audit_log_event_type_shape check (event_type ~ '^[a-z][a-z_]{2,49}$'),
  constraint oauth_audit_log_failure_says_why check (success or error_message is not null),
  constraint oauth_audit_log_user_agent_length check (length(user_agent) <= 1000),
  constraint oauth_audit_log_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);
comment on table integrations.oauth_audit_log is
  'Who began, finished, failed, refreshed or ended the connection of an outside account, and from where.';
comment on column integrations.oauth_audit_log.event_type is
  'oauth_initiated, oauth_callback_success, oauth_callback_failed, account_connected, token_refreshed ...';
create index oauth_audit_log_workspace_id on integrations.oauth_audit_log (workspace_id, created_at desc);
create index oauth_audit_log_user_id on integrations.oauth_audit_log (user_id, created_at desc);
create index oauth_audit_log_provider on integrations.oauth_audit_log (provider, created_at desc);
create index oauth_audit_log_event_type on integrations.oauth_audit_log (event_type, created_at desc);
create index oauth_audit_log_failed on integrations.oauth_audit_log (created_at desc) where not success;
alter table integrations.oauth_audit_log enable row level security;
revoke all on table integrations.oauth_audit_log from public, anon, authenticated, service_role;
grant select on table integrations.oauth_audit_log to authenticated;
grant select, insert, delete on table integrations.oauth_audit_log to service_role;
create policy "Admins see how their workspaces' accounts were connected" on integrations.oauth_audit_log
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

-- The tokens are one sealed text, bound to the provider and the account; see functions/oauth/tokens.ts.
create table integrations.pending_installations (
  id uuid primary key default gen_random_uuid(),
  provider text not null default 'shopify',
  external_account_id text not null,
  claim_hash bytea,
  scopes text[] not null default '{}',
  status text not null default 'pending',
  key_id text,
  nonce bytea,
  ciphertext bytea,
  oauth_data jsonb not null default '{}',
  metadata jsonb not null default '{}',
  installed_at timestamptz not null default private.now(),
  expires_at timestamptz not null default private.now() + interval '7 days',
  completed_at timestamptz,
  linked_workspace_id uuid,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default private.now(),
  constraint pending_installations_linked_workspace_id_fkey foreign key (linked_workspace_id)
    references identity.workspaces (id) on delete set null,
  constraint pending_installations_claim_hash_once unique (claim_hash),
  constraint pending_installations_status_known check (status in ('pending', 'claimed', 'expired', 'uninstalled')),
  constraint pending_installations_ended_says_when check ((status = 'pending') = (completed_at is null)),
  constraint pending_installations_secret_while_pending
    check ((status = 'pending') = (ciphertext is not null and nonce is not null and key_id is not null
      and claim_hash is not null)),
  constraint pending_installations_nonce_length check (octet_length(nonce) = 12),
  constraint pending_installations_ciphertext_has_tag check (octet_length(ciphertext) > 16),
  constraint pending_installations_json_are_objects
    check (jsonb_typeof(oauth_data) = 'object' and jsonb_typeof(metadata) = 'object')
);
comment on table integrations.pending_installations is
  'Apps installed at the provider that wait seven days for somebody to claim them for a workspace.';
create unique index pending_installations_waiting on integrations.pending_installations (provider, external_account_id)
  where status = 'pending';
create index pending_installations_expires_at on integrations.pending_installations (expires_at)
  where status = 'pending';
create index pending_installations_linked on integrations.pending_installations (linked_workspace_id);
create trigger touch_pending_installations before update on integrations.pending_installations
  for each row execute function private.touch_updated_at();
alter table integrations.pending_installations enable row level security;
revoke all on table integrations.pending_installations from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.pending_installations to service_role;

-- 244 random bits, told once. Errors: unknown_workspace, role_too_low, not_signed_in, too_many_oauth_starts.
create function private.start_oauth(workspace_id uuid, provider text, external_account_id text, return_to text)
returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid := auth.uid();
  v_state text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
  if v_user is null then
    perform private.fail('not_signed_in', 'Only a signed-in person can connect an account.');
  end if;
  perform private.require_role(workspace_id, 'admin');
  if (select count(*) from integrations.oauth_states s
    where s.user_id = v_user and s.used_at is null and s.expires_at > private.now()) >= 20 then
    perform private.fail('too_many_oauth_starts', 'Twenty connections have been begun and not finished.');
  end if;
  insert into integrations.oauth_states (state_hash, provider, workspace_id, user_id, external_account_id, return_to)
  values (sha256(convert_to(v_state, 'UTF8')), start_oauth.provider, start_oauth.workspace_id, v_user,
    start_oauth.external_account_id, start_oauth.return_to);
  insert into integrations.oauth_audit_log (event_type, workspace_id, user_id, provider, external_account_id)
  values ('oauth_initiated', start_oauth.workspace_id, v_user, start_oauth.provider, start_oauth.external_account_id);
  return v_state;
end $$;
comment on function private.start_oauth(uuid, text, text, text) is 'Core of integrations.start_oauth.';
revoke all on function private.start_oauth from public, anon, authenticated, service_role;
grant execute on function private.start_oauth to authenticated;

create function integrations.start_oauth(workspace_id uuid, provider text, external_account_id text default null,
  return_to text default null) returns text
language sql
set search_path = ''
as $$
  select private.start_oauth(start_oauth.workspace_id, start_oauth.provider, start_oauth.external_account_id,
    start_oauth.return_to)
$$;
comment on function integrations.start_oauth(uuid, text, text, text) is
  'An admin begins to connect an account; returns the state that has to come back. The oauth function calls it.';
revoke all on function integrations.start_oauth from public, anon, authenticated, service_role;
grant execute on function integrations.start_oauth to authenticated;

create function private.role_of(workspace_id uuid, user_id uuid) returns text
language sql stable
set search_path = ''
as $$
  select m.role from identity.workspace_members m
  where m.workspace_id = role_of.workspace_id and m.user_id = role_of.user_id and not m.is_suspended
    and (m.expires_at is null or m.expires_at > private.now())
$$;
comment on function private.role_of(uuid, uuid) is 'The role of a person in a workspace, for the service; null: none.';
revoke all on function private.role_of from public, anon, authenticated, service_role;
grant execute on function private.role_of to service_role;

-- Single use: of two callbacks with one state, one gets it. Whoever began must still be an admin.
create function integrations.use_oauth_state(state_hash bytea, provider text) returns integrations.oauth_states
language plpgsql
set search_path = ''
as $$
declare
  v_state integrations.oauth_states;
begin
  update integrations.oauth_states s set used_at = private.now()
  where s.state_hash = use_oauth_state.state_hash and s.provider = use_oauth_state.provider
    and s.used_at is null and s.expires_at > private.now()
  returning * into v_state;
  if v_state.id is null or (v_state.workspace_id is not null
    and coalesce(private.role_of(v_state.workspace_id, v_state.user_id), '') not in ('admin', 'owner')) then
    perform private.fail('oauth_state_invalid', 'The connection was not begun here, took too long, or is used up.');
  end if;
  return v_state;
end $$;
comment on function integrations.use_oauth_state(bytea, text) is
  'The connection that a state belongs to, once; the oauth function calls it when the browser comes back.';
revoke all on function integrations.use_oauth_state from public, anon, authenticated, service_role;
grant execute on function integrations.use_oauth_state to service_role;
