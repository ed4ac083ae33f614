-- What every other migration stands on: the clock, named errors, who is calling, small helpers.
-- Nothing here is reachable through PostgREST; policies and functions of other schemas use it.

create schema if not exists private;
comment on schema private is 'Unexposed cores of exposed functions, helpers of policies, named errors.';
revoke all on schema private from public;
grant usage on schema private to anon, authenticated, service_role;

-- The clock. Logic whose time matters asks it, so that a test can own the time:
-- the test database replaces this one function, production never does.
-- In plpgsql because every charge and job asks it: a function in SQL is parsed again by each statement that calls it.
create function private.now() returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return pg_catalog.now();
end $$;
comment on function private.now() is 'The time that all rules use; only a test database replaces it.';
revoke all on function private.now from public, anon, authenticated, service_role;
grant execute on function private.now to anon, authenticated, service_role;

-- Named errors. One row an error; the docs page is made from this table.
create table private.error_codes (
  name text primary key,
  sqlstate text not null,
  hint text not null,
  constraint error_codes_name_shape check (name ~ '^[a-z][a-z0-9_]+$'),
  constraint error_codes_sqlstate_shape check (sqlstate ~ '^(PT[45][0-9]{2}|BL[0-9]{3})$')
);
comment on table private.error_codes is
  'Every error Backlot raises: PTxyz becomes HTTP status xyz in PostgREST, BLxxx is for workers.';
alter table private.error_codes enable row level security;
revoke all on table private.error_codes from public, anon, authenticated, service_role;
grant select on table private.error_codes to service_role;

-- Raises the named error. Message: "name: sentence"; detail: the facts as JSON; hint: what to do.
-- Security definer because callers of any role must be able to read the hint.
create function private.fail(name text, message text, facts jsonb default '{}') returns void
language plpgsql security definer
set search_path = ''
as $$
declare
  v_error private.error_codes;
begin
  select * into v_error from private.error_codes where error_codes.name = fail.name;
  if v_error.name is null then
    raise exception using errcode = 'PT500', message = 'unnamed_error: ' || fail.name || ': ' || fail.message,
      hint = 'Add the error to private.error_codes.';
  end if;
  raise exception using errcode = v_error.sqlstate, message = v_error.name || ': ' || fail.message,
    detail = fail.facts::text, hint = v_error.hint;
end $$;
comment on function private.fail(text, text, jsonb) is 'Raises a named error of private.error_codes; never returns.';
revoke all on function private.fail from public, anon, authenticated, service_role;
grant execute on function private.fail to anon, authenticated, service_role;

-- Is the service calling (the worker, an edge function, an operator), rather than a client?
-- The role setting survives security definer, current_user does not. PostgREST's login role
-- (authenticator) may become the service but is not it.
-- In plpgsql for the same reason as the clock.
create function private.is_service() returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
  v_role text := coalesce(pg_catalog.current_setting('role', true), 'none');
begin
  if v_role in ('anon', 'authenticated', 'authenticator') then
    return false;
  elsif v_role = 'none' then
    return session_user not in ('anon', 'authenticated', 'authenticator')
      and pg_catalog.pg_has_role(session_user, 'service_role', 'member');
  end if;
  return pg_catalog.pg_has_role(v_role, 'service_role', 'member');
end $$;
comment on function private.is_service() is 'True for service_role and operators, false for anon and signed-in users.';
revoke all on function private.is_service from public, anon, authenticated, service_role;
grant execute on function private.is_service to anon, authenticated, service_role;

create function private.touch_updated_at() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := private.now();
  return new;
end $$;
comment on function private.touch_updated_at() is 'Trigger: keeps updated_at at the time of the last change.';
revoke all on function private.touch_updated_at from public, anon, authenticated, service_role;

-- Guards rows that must never change (ledger, audit).
create function private.forbid_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform private.fail('immutable_row', tg_table_schema || '.' || tg_table_name || ' never changes.');
  return null;
end $$;
comment on function private.forbid_change() is 'Trigger: rejects update, delete and truncate.';
revoke all on function private.forbid_change from public, anon, authenticated, service_role;

-- A hash of what an idempotency key stands for, to tell a retry from a misuse of the key.
create function private.content_hash(content jsonb) returns bytea
language plpgsql immutable
set search_path = ''
as $$
begin
  return pg_catalog.sha256(pg_catalog.convert_to(content::text, 'UTF8'));
end $$;
comment on function private.content_hash(jsonb) is 'SHA-256 of a jsonb value in its canonical text form, 32 bytes.';
revoke all on function private.content_hash from public, anon, authenticated, service_role;
grant execute on function private.content_hash to service_role;

-- A text as uuid, or null when it is none.
create function private.try_uuid(value text) returns uuid
language sql immutable
set search_path = ''
as $$
  select case when value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then value::uuid end
$$;
comment on function private.try_uuid(text) is 'A text as uuid, null when it is not one.';
revoke all on function private.try_uuid from public, anon, authenticated, service_role;
grant execute on function private.try_uuid to anon, authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('immutable_row', 'PT409', 'Write a new row that corrects the old one.'),
  ('key_reused', 'PT409', 'A key stands for one request for ever: use a new key for a different request.'),
  ('invalid_argument', 'PT400', 'Correct the argument named in the details and call again.'),
  ('not_signed_in', 'PT401', 'Sign in and send the session''s access token.');
