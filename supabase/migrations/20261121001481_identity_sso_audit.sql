-- Who signs in by what, beside what the platform keeps of it: every login provider that is linked to an account or
-- taken off it, written where the auth server does so.
create function private.audit_identity() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_user uuid;
  v_provider text;
  v_email text;
begin
  if tg_op = 'INSERT' then
    v_user := new.user_id; v_provider := new.provider; v_email := new.identity_data ->> 'email';
  else
    v_user := old.user_id; v_provider := old.provider; v_email := old.identity_data ->> 'email';
  end if;
  insert into identity.sso_audit_log (user_id, email, event_type, login_method)
  values ((select p.id from identity.profiles p where p.id = v_user), v_email,
    case tg_op when 'INSERT' then 'identity_linked' else 'identity_unlinked' end, v_provider);
  return null;
end $$;
comment on function private.audit_identity() is 'Notes that a login provider was linked to an account or taken off it.';
revoke all on function private.audit_identity from public, anon, authenticated, service_role;
create trigger audit_identity after insert or delete on auth.identities
  for each row execute function private.audit_identity();

alter policy "People see their own sign-ins" on identity.sso_audit_log
  using (user_id = (select auth.uid()) or (select private.is_staff()));
alter policy "People see their own sign-ins" on identity.sso_audit_log
  rename to "People see their own sign-ins, staff all";
alter policy "Admins see how their workspaces' accounts were connected" on integrations.oauth_audit_log
  using (workspace_id = any ((select private.workspace_ids('admin'))::uuid[]) or (select private.is_staff()));
alter policy "Admins see how their workspaces' accounts were connected" on integrations.oauth_audit_log
  rename to "Admins and staff see how accounts were connected";

-- What an app notes of the caller's own session. What is refused before anybody is signed in, the auth server's hooks
-- write as the service. Errors: not_signed_in, invalid_argument, too_many_messages.
create function private.record_sso_event(event_type text, source_subdomain text, return_to_url text, login_method text)
returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_id uuid;
  v_address text := trim(split_part(ops._request_header('x-forwarded-for'), ',', 1));
  v_country text := upper(ops._request_header('cf-ipcountry'));
begin
  if auth.uid() is null then
    perform private.fail('not_signed_in', 'Only a signed-in person has a session.');
  end if;
  if coalesce(event_type, '') not in ('sign_in', 'sign_out', 'session_refreshed', 'redirected') then
    perform private.fail('invalid_argument', 'event_type must be sign_in, sign_out, session_refreshed or redirected.',
      '{"argument": "event_type"}');
  end if;
  if not ops.check_rate_limit('sso:' || auth.uid(), 60, interval '1 hour') then
    perform private.fail('too_many_messages', 'Sixty entries an hour are enough.');
  end if;
  insert into identity.sso_audit_log (user_id, email, event_type, source_subdomain, return_to_url, login_method,
    ip_address, user_agent, country_code)
  values ((select p.id from identity.profiles p where p.id = auth.uid()), auth.jwt() ->> 'email',
    record_sso_event.event_type, left(record_sso_event.source_subdomain, 255),
    left(record_sso_event.return_to_url, 2000), left(record_sso_event.login_method, 100),
    case when pg_catalog.pg_input_is_valid(v_address, 'inet') then v_address::inet end,
    ops._request_header('user-agent'), case when v_country ~ '^[A-Z][A-Z0-9]$' then v_country end)
  returning id into v_id;
  return v_id;
end $$;
comment on function private.record_sso_event(text, text, text, text) is 'Core of identity.record_sso_event.';
revoke all on function private.record_sso_event from public, anon, authenticated, service_role;
grant execute on function private.record_sso_event to authenticated;
create function identity.record_sso_event(event_type text, source_subdomain text default null,
  return_to_url text default null, login_method text default null) returns uuid
language sql
set search_path = ''
as $$
  select private.record_sso_event(record_sso_event.event_type, record_sso_event.source_subdomain,
    record_sso_event.return_to_url, record_sso_event.login_method)
$$;
comment on function identity.record_sso_event(text, text, text, text) is
  'Notes a sign-in, sign-out or hand-over between the apps'' subdomains in the caller''s own trail.';
revoke all on function identity.record_sso_event from public, anon, authenticated, service_role;
grant execute on function identity.record_sso_event to authenticated;
