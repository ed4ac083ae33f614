-- API keys of workspaces: shown once, kept as a hash, known by their visible beginning.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_api_key', 'PT404', 'Use the id of an API key of a workspace that you belong to.'),
  ('invalid_api_key', 'PT401', 'Send a key that is neither revoked nor expired, or make a new one.');

create table identity.api_keys (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  created_by uuid,
  name text not null,
  description text,
  prefix text not null,
  key_hash bytea not null,
  permissions text[] not null default '{}',
  rate_limit integer,
  rate_limit_window interval,
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  usage_count bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint api_keys_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint api_keys_created_by_fkey foreign key (created_by) references identity.profiles (id) on delete set null,
  constraint api_keys_key_hash_key unique (key_hash),
  constraint api_keys_key_hash_is_sha256 check (octet_length(key_hash) = 32),
  constraint api_keys_prefix_shape check (prefix ~ '^bl_live_[0-9a-f]{8}$'),
  constraint api_keys_name_length check (char_length(name) between 1 and 100),
  constraint api_keys_description_length check (char_length(description) <= 2000),
  constraint api_keys_permissions_are_texts check (array_position(permissions, null) is null),
  constraint api_keys_rate_limit_whole check (
    (rate_limit is null) = (rate_limit_window is null) and rate_limit > 0 and rate_limit_window > interval '0'
  ),
  constraint api_keys_usage_count_positive check (usage_count >= 0)
);
comment on table identity.api_keys is 'Keys by which programs act for a workspace; only their SHA-256 is stored.';
comment on column identity.api_keys.permissions is 'What the key may do; empty: everything that a member may.';
create index api_keys_workspace_id_idx on identity.api_keys (workspace_id, created_at desc);
create index api_keys_created_by_idx on identity.api_keys (created_by);
create trigger touch_api_keys before update on identity.api_keys
  for each row execute function private.touch_updated_at();
alter table identity.api_keys enable row level security;
revoke all on table identity.api_keys from public, anon, authenticated, service_role;
grant select (
  id, workspace_id, created_by, name, description, prefix, permissions, rate_limit, rate_limit_window, expires_at,
  revoked_at, last_used_at, usage_count, created_at, updated_at
), update (name, description) on table identity.api_keys to authenticated;
grant select, insert, update, delete on table identity.api_keys to service_role;

create policy "Admins see the API keys of their workspaces" on identity.api_keys
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));
create policy "Admins name the API keys of their workspaces" on identity.api_keys
  for update to authenticated using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]))
  with check (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]));

create type identity.new_api_key as (
  id uuid, workspace_id uuid, name text, prefix text, permissions text[], expires_at timestamptz,
  created_at timestamptz, key text
);
comment on type identity.new_api_key is 'An API key with the key itself, as its maker sees it this once.';

create function private.create_api_key(workspace_id uuid, name text, permissions text[], expires_at timestamptz)
returns identity.new_api_key
language plpgsql security definer
set search_path = ''
as $$
declare
  v_name text := btrim(create_api_key.name);
  v_key text := 'bl_live_' || private.new_token();
  v_result identity.new_api_key;
begin
  perform private.require_role(create_api_key.workspace_id, 'admin');
  if v_name is null or char_length(v_name) not between 1 and 100 then
    perform private.fail('invalid_argument', 'An API key''s name has 1 to 100 characters.',
      jsonb_build_object('argument', 'name', 'length', coalesce(char_length(v_name), 0)));
  elsif create_api_key.expires_at <= private.now() then
    perform private.fail('invalid_argument', 'An API key expires in the future.',
      jsonb_build_object('argument', 'expires_at', 'value', create_api_key.expires_at));
  elsif array_position(create_api_key.permissions, null) is not null then
    perform private.fail('invalid_argument', 'A permission is a text.', jsonb_build_object('argument', 'permissions'));
  end if;
  insert into identity.api_keys as k (workspace_id, created_by, name, prefix, key_hash, permissions, expires_at)
  values (create_api_key.workspace_id, auth.uid(), v_name, left(v_key, 16), private.token_hash(v_key),
    coalesce(create_api_key.permissions, '{}'), create_api_key.expires_at)
  returning k.id, k.workspace_id, k.name, k.prefix, k.permissions, k.expires_at, k.created_at, v_key into v_result;
  return v_result;
end $$;
comment on function private.create_api_key(uuid, text, text[], timestamptz) is 'Core of identity.create_api_key.';
revoke all on function private.create_api_key from public, anon, authenticated, service_role;
grant execute on function private.create_api_key to authenticated, service_role;

create function identity.create_api_key(
  workspace_id uuid, name text, permissions text[] default '{}', expires_at timestamptz default null
) returns identity.new_api_key
language sql
set search_path = ''
as $$
  select private.create_api_key(
    create_api_key.workspace_id, create_api_key.name, create_api_key.permissions, create_api_key.expires_at)
$$;
comment on function identity.create_api_key(uuid, text, text[], timestamptz) is
  'An admin makes an API key for the workspace; the key is in the answer and never shown again.';
revoke all on function identity.create_api_key from public, anon, authenticated, service_role;
grant execute on function identity.create_api_key to authenticated, service_role;

create function private.revoke_api_key(id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace_id uuid;
begin
  select k.workspace_id into v_workspace_id from identity.api_keys k
  where k.id = revoke_api_key.id and private.has_role(k.workspace_id, 'viewer') for update;
  if not found then
    perform private.fail('unknown_api_key', 'There is no such API key among those of your workspaces.',
      jsonb_build_object('api_key_id', revoke_api_key.id));
  end if;
  perform private.require_role(v_workspace_id, 'admin');
  update identity.api_keys k set revoked_at = coalesce(k.revoked_at, private.now()) where k.id = revoke_api_key.id;
end $$;
comment on function private.revoke_api_key(uuid) is 'Core of identity.revoke_api_key.';
revoke all on function private.revoke_api_key from public, anon, authenticated, service_role;
grant execute on function private.revoke_api_key to authenticated, service_role;

create function identity.revoke_api_key(id uuid) returns void
language sql
set search_path = ''
as $$ select private.revoke_api_key(revoke_api_key.id) $$;
comment on function identity.revoke_api_key(uuid) is
  'An admin ends an API key at once; ending it again changes nothing.';
revoke all on function identity.revoke_api_key from public, anon, authenticated, service_role;
grant execute on function identity.revoke_api_key to authenticated, service_role;

create type identity.api_key_caller as (
  api_key_id uuid, workspace_id uuid, permissions text[], rate_limit integer, rate_limit_window interval
);
comment on type identity.api_key_caller is 'For whom, and with which rights, the bearer of an API key acts.';

-- For edge functions. Every use is counted in the key's own row, which only that key's calls share. Keys of who is
-- suspended are good for nothing until that is lifted.
create function identity.authenticate_api_key(key text) returns identity.api_key_caller
language plpgsql security definer
set search_path = ''
as $$
declare
  v_caller identity.api_key_caller;
begin
  update identity.api_keys k set last_used_at = private.now(), usage_count = k.usage_count + 1
  from identity.workspaces w
  where k.key_hash = private.token_hash(authenticate_api_key.key) and w.id = k.workspace_id
    and k.revoked_at is null and w.deleted_at is null and (k.expires_at is null or k.expires_at > private.now())
    and not exists (select from identity.profiles p where p.id = k.created_by and p.status = 'suspended')
  returning k.id, k.workspace_id, k.permissions, k.rate_limit, k.rate_limit_window into v_caller;
  if v_caller.api_key_id is null then
    perform private.fail('invalid_api_key', 'The API key is unknown, revoked or expired, or its maker is suspended.');
  end if;
  return v_caller;
end $$;
comment on function identity.authenticate_api_key(text) is
  'For the service: whose an API key is, if it is good now; counts the use.';
revoke all on function identity.authenticate_api_key from public, anon, authenticated, service_role;
grant execute on function identity.authenticate_api_key to service_role;
