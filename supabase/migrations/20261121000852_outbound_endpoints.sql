-- What admins do with their workspace's webhook endpoints: add, change and delete them, and change what signs for them.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_endpoint', 'PT404', 'Use the id of a webhook endpoint of a workspace that you belong to.'),
  ('unknown_event_type', 'PT404', 'Use the types of integrations.webhook_event_types.'),
  ('too_many_endpoints', 'PT409', 'Delete an endpoint of the workspace that is not needed any more.');

create type integrations.new_webhook_endpoint as (
  id uuid, workspace_id uuid, url text, event_types text[], ordered boolean, created_at timestamptz, secret text
);
comment on type integrations.new_webhook_endpoint is 'An endpoint with its signing secret, shown this once.';

create type integrations.new_webhook_secret as (endpoint_id uuid, secret text, previous_valid_until timestamptz);
comment on type integrations.new_webhook_secret is
  'A new signing secret, shown this once, and how long the ones before it sign, too.';

-- The shape is a first sieve: where a name leads is checked by the worker at every attempt. Plain http is for
-- the local stack alone: an operator allows it with the row (webhooks, allow_http) = true of ops.kv_store.
create function private.check_webhook_endpoint(url text, event_types text[], description text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_http boolean := exists (select from ops.kv_store v
    where v.namespace = 'webhooks' and v.key = 'allow_http' and v.value = 'true');
  v_unknown text[];
begin
  if url !~ '^https?://[^][/?#@\\[:space:][:cntrl:]]+([/?][^#[:space:][:cntrl:]]*)?$' or char_length(url) > 2048
    or (url !~ '^https://' and not v_http) then
    perform private.fail('invalid_argument',
      'The address must be https:// with a host name, without user, password or fragment.', '{"argument": "url"}');
  elsif char_length(description) > 500 then
    perform private.fail('invalid_argument', 'A description has at most 500 characters.',
      '{"argument": "description"}');
  elsif array_position(event_types, null) is not null or cardinality(event_types) > 100 then
    perform private.fail('invalid_argument', 'event_types are at most 100 texts.', '{"argument": "event_types"}');
  end if;
  v_unknown := array(select t from unnest(event_types) t where not exists (
    select from integrations.webhook_event_types e where e.type = t));
  if v_unknown <> '{}' then
    perform private.fail('unknown_event_type', format('There is no event "%s".', v_unknown[1]),
      jsonb_build_object('event_types', v_unknown));
  end if;
end $$;
comment on function private.check_webhook_endpoint(text, text[], text) is
  'Raises unless address, event types and description of an endpoint may be stored; null is not looked at.';
revoke all on function private.check_webhook_endpoint from public, anon, authenticated, service_role;

-- The endpoint, locked, if the caller is an admin of its workspace; a stranger is not told that it exists.
create function private.lock_webhook_endpoint(id uuid) returns integrations.webhook_endpoints
language plpgsql
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints;
begin
  select * into v_endpoint from integrations.webhook_endpoints e
  where e.id = lock_webhook_endpoint.id and private.has_role(e.workspace_id, 'viewer') for no key update;
  if not found then
    perform private.fail('unknown_endpoint', 'There is no such endpoint among those of your workspaces.',
      jsonb_build_object('endpoint_id', lock_webhook_endpoint.id));
  end if;
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  return v_endpoint;
end $$;
comment on function private.lock_webhook_endpoint(uuid) is 'Locks an endpoint for an admin of its workspace.';
revoke all on function private.lock_webhook_endpoint from public, anon, authenticated, service_role;

-- 32 bytes; the ones before it end at the time given, and of these only the four newest go on.
create function private.add_webhook_secret(endpoint_id uuid, previous_valid_until timestamptz) returns text
language plpgsql
set search_path = ''
as $$
declare
  v_secret text := 'whsec_' || encode(decode(private.new_token(), 'hex'), 'base64');
begin
  update ops.webhook_signing_secrets s set expires_at = add_webhook_secret.previous_valid_until
  where s.endpoint_id = add_webhook_secret.endpoint_id
    and (s.expires_at is null or s.expires_at > add_webhook_secret.previous_valid_until);
  delete from ops.webhook_signing_secrets s
  where s.endpoint_id = add_webhook_secret.endpoint_id and (s.expires_at <= private.now() or s.id not in (
    select n.id from ops.webhook_signing_secrets n where n.endpoint_id = add_webhook_secret.endpoint_id
    order by n.id desc limit 4));
  insert into ops.webhook_signing_secrets (endpoint_id, secret) values (add_webhook_secret.endpoint_id, v_secret);
  return v_secret;
end $$;
comment on function private.add_webhook_secret(uuid, timestamptz) is
  'Gives an endpoint a new signing secret and the older ones an end.';
revoke all on function private.add_webhook_secret from public, anon, authenticated, service_role;

create function private.create_webhook_endpoint(workspace_id uuid, url text, event_types text[], description text,
  ordered boolean) returns integrations.new_webhook_endpoint
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints;
begin
  perform private.require_role(create_webhook_endpoint.workspace_id, 'admin');
  perform private.check_webhook_endpoint(coalesce(url, ''), event_types, description);
  -- one at a time, so that the limit holds
  perform from identity.workspaces w
  where w.id = create_webhook_endpoint.workspace_id and w.deleted_at is null for no key update;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', create_webhook_endpoint.workspace_id));
  elsif (select count(*) from integrations.webhook_endpoints e
    where e.workspace_id = create_webhook_endpoint.workspace_id) >= 20 then
    perform private.fail('too_many_endpoints', 'A workspace has at most 20 webhook endpoints.',
      jsonb_build_object('workspace_id', create_webhook_endpoint.workspace_id));
  end if;
  insert into integrations.webhook_endpoints (workspace_id, created_by, url, event_types, description, ordered)
  values (create_webhook_endpoint.workspace_id, auth.uid(), create_webhook_endpoint.url,
    coalesce(create_webhook_endpoint.event_types, '{}'), create_webhook_endpoint.description,
    coalesce(create_webhook_endpoint.ordered, false))
  returning * into v_endpoint;
  return row(v_endpoint.id, v_endpoint.workspace_id, v_endpoint.url, v_endpoint.event_types, v_endpoint.ordered,
    v_endpoint.created_at,
    private.add_webhook_secret(v_endpoint.id, private.now()))::integrations.new_webhook_endpoint;
end $$;
comment on function private.create_webhook_endpoint(uuid, text, text[], text, boolean) is
  'Core of integrations.create_webhook_endpoint.';
revoke all on function private.create_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.create_webhook_endpoint to authenticated, service_role;

create function integrations.create_webhook_endpoint(workspace_id uuid, url text, event_types text[] default '{}',
  description text default null, ordered boolean default false) returns integrations.new_webhook_endpoint
language sql
set search_path = ''
as $$
  select private.create_webhook_endpoint(create_webhook_endpoint.workspace_id, create_webhook_endpoint.url,
    create_webhook_endpoint.event_types, create_webhook_endpoint.description, create_webhook_endpoint.ordered)
$$;
comment on function integrations.create_webhook_endpoint(uuid, text, text[], text, boolean) is
  'An admin adds an address for the workspace''s events (none named: all); the signing secret is shown this once.';
revoke all on function integrations.create_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.create_webhook_endpoint to authenticated, service_role;

-- What is null stays. Enabling and another address begin the count of failures anew; neither sends anything of what
-- was missed: that is what replaying is for.
create function private.update_webhook_endpoint(id uuid, url text, event_types text[], description text,
  ordered boolean, enabled boolean) returns integrations.webhook_endpoints
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  perform private.check_webhook_endpoint(url, event_types, description);
  update integrations.webhook_endpoints e
  set url = coalesce(update_webhook_endpoint.url, e.url),
    event_types = coalesce(update_webhook_endpoint.event_types, e.event_types),
    description = coalesce(update_webhook_endpoint.description, e.description),
    ordered = coalesce(update_webhook_endpoint.ordered, e.ordered),
    consecutive_failures = case when update_webhook_endpoint.url <> e.url then 0 else e.consecutive_failures end,
    first_failure_at = case when update_webhook_endpoint.url <> e.url then null else e.first_failure_at end
  where e.id = v_endpoint.id
  returning * into v_endpoint;
  if not enabled and v_endpoint.status = 'enabled' then
    v_endpoint := private.disable_webhook_endpoint(v_endpoint, 'by_admin');
  elsif enabled and v_endpoint.status = 'disabled' then
    update integrations.webhook_endpoints e
    set status = 'enabled', disabled_reason = null, disabled_at = null, consecutive_failures = 0,
      first_failure_at = null
    where e.id = v_endpoint.id
    returning * into v_endpoint;
  end if;
  perform private.dispatch_webhooks(v_endpoint);
  return v_endpoint;
end $$;
comment on function private.update_webhook_endpoint(uuid, text, text[], text, boolean, boolean) is
  'Core of integrations.update_webhook_endpoint.';
revoke all on function private.update_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.update_webhook_endpoint to authenticated, service_role;

create function integrations.update_webhook_endpoint(id uuid, url text default null, event_types text[] default null,
  description text default null, ordered boolean default null, enabled boolean default null)
returns integrations.webhook_endpoints
language sql
set search_path = ''
as $$
  select private.update_webhook_endpoint(update_webhook_endpoint.id, update_webhook_endpoint.url,
    update_webhook_endpoint.event_types, update_webhook_endpoint.description, update_webhook_endpoint.ordered,
    update_webhook_endpoint.enabled)
$$;
comment on function integrations.update_webhook_endpoint(uuid, text, text[], text, boolean, boolean) is
  'An admin changes an endpoint, disables or enables it; what is left out stays as it is.';
revoke all on function integrations.update_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.update_webhook_endpoint to authenticated, service_role;

create function private.delete_webhook_endpoint(id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  delete from integrations.webhook_endpoints e where e.id = v_endpoint.id;
end $$;
comment on function private.delete_webhook_endpoint(uuid) is 'Core of integrations.delete_webhook_endpoint.';
revoke all on function private.delete_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function private.delete_webhook_endpoint to authenticated, service_role;

create function integrations.delete_webhook_endpoint(id uuid) returns void
language sql
set search_path = ''
as $$ select private.delete_webhook_endpoint(delete_webhook_endpoint.id) $$;
comment on function integrations.delete_webhook_endpoint(uuid) is
  'An admin deletes an endpoint with its secrets and deliveries; nothing more is sent to it.';
revoke all on function integrations.delete_webhook_endpoint from public, anon, authenticated, service_role;
grant execute on function integrations.delete_webhook_endpoint to authenticated, service_role;

create function private.rotate_webhook_secret(id uuid, at_once boolean) returns integrations.new_webhook_secret
language plpgsql security definer
set search_path = ''
as $$
declare
  v_endpoint integrations.webhook_endpoints := private.lock_webhook_endpoint(id);
  v_until timestamptz := private.now() + case when at_once then interval '0' else interval '24 hours' end;
begin
  perform private.require_role(v_endpoint.workspace_id, 'admin');
  return row(v_endpoint.id, private.add_webhook_secret(v_endpoint.id, v_until), v_until)
    ::integrations.new_webhook_secret;
end $$;
comment on function private.rotate_webhook_secret(uuid, boolean) is 'Core of integrations.rotate_webhook_secret.';
revoke all on function private.rotate_webhook_secret from public, anon, authenticated, service_role;
grant execute on function private.rotate_webhook_secret to authenticated, service_role;

create function integrations.rotate_webhook_secret(id uuid, at_once boolean default false)
returns integrations.new_webhook_secret
language sql
set search_path = ''
as $$ select private.rotate_webhook_secret(rotate_webhook_secret.id, rotate_webhook_secret.at_once) $$;
comment on function integrations.rotate_webhook_secret(uuid, boolean) is
  'An admin gets a new signing secret; old and new both sign for 24 hours, or the new one alone at_once.';
revoke all on function integrations.rotate_webhook_secret from public, anon, authenticated, service_role;
grant execute on function integrations.rotate_webhook_secret to authenticated, service_role;
