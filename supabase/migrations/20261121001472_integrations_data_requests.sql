-- What people ask for at Meta: that our app be cut off (deauthorize), and that what we keep of them be deleted. Meta
-- calls us with a request signed by the app that the person used (functions/webhooks/data-requests.ts); each is taken
-- once. Who asked is kept until the work is done, the code by which they follow it for ever.

insert into private.error_codes (name, sqlstate, hint) values
  ('data_request_replayed', 'PT409', 'A signed request is good for one callback of one app.');

create table integrations.data_requests (
  id uuid primary key default gen_random_uuid(),
  provider text not null,
  kind text not null,
  request_hash bytea not null,
  external_user_id text,
  issued_at timestamptz not null,
  confirmation_code text not null default replace(gen_random_uuid()::text, '-', ''),
  status text not null default 'pending',
  files jsonb not null default '[]',
  erased jsonb not null default '{}',
  job_id bigint,
  created_at timestamptz not null default private.now(),
  completed_at timestamptz,
  constraint data_requests_once unique (request_hash),
  constraint data_requests_code_once unique (confirmation_code),
  constraint data_requests_provider_known check (provider in ('instagram', 'facebook')),
  constraint data_requests_kind_known check (kind in ('deauthorize', 'deletion')),
  constraint data_requests_hash_length check (octet_length(request_hash) = 32),
  constraint data_requests_user_length check (length(external_user_id) between 1 and 255),
  constraint data_requests_status_known check (status in ('pending', 'completed')),
  constraint data_requests_completed_says_when check ((status = 'completed') = (completed_at is not null)),
  constraint data_requests_completed_names_nobody
    check ((status = 'completed') = (external_user_id is null) and (status = 'pending' or files = '[]')),
  constraint data_requests_json_shapes check (jsonb_typeof(files) = 'array' and jsonb_typeof(erased) = 'object')
);
comment on table integrations.data_requests is
  'Requests of people at Meta that our app be cut off or their data deleted, and how far that is.';
comment on column integrations.data_requests.request_hash is 'SHA-256 of what was signed: the same request is one.';
comment on column integrations.data_requests.external_user_id is
  'Who asked, by Meta''s id for our app; until it is done.';
comment on column integrations.data_requests.files is
  '[{bucket, path}]: whose rows are gone and whose bytes are not yet.';
comment on column integrations.data_requests.erased is 'How many things of each kind were erased.';
create index data_requests_pending on integrations.data_requests (created_at) where status = 'pending';
alter table integrations.data_requests enable row level security;
revoke all on table integrations.data_requests from public, anon, authenticated, service_role;
grant select, insert, update, delete on table integrations.data_requests to service_role;

-- Accounts that a person connected. Meta's callbacks name people by the id that they have for our app; Instagram's
-- webhooks name the account by another. What was connected after the request is not what it means.
create function private.accounts_of_person(request integrations.data_requests) returns uuid[]
language sql stable
set search_path = ''
as $$
  select coalesce(array_agg(a.id order by a.id), '{}') from integrations.connected_accounts a
  where a.provider = request.provider
    and request.external_user_id in (a.external_account_id, a.provider_data ->> 'app_scoped_id')
    and coalesce(a.connected_at, a.created_at) < request.issued_at + interval '1 second'
$$;
comment on function private.accounts_of_person(integrations.data_requests) is
  'The accounts that the person of a request had connected when it was made.';
revoke all on function private.accounts_of_person from public, anon, authenticated, service_role;
create index connected_accounts_app_scoped_id on integrations.connected_accounts ((provider_data ->> 'app_scoped_id'))
  where provider_data ? 'app_scoped_id';

-- As a member's disconnect: tokens go now, the rest after its 90 days.
create function private.deauthorize_accounts(request integrations.data_requests) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account integrations.connected_accounts;
  v_ended integer := 0;
begin
  for v_account in
    select a.* from integrations.connected_accounts a
    where a.id = any (private.accounts_of_person(request)) and a.status <> 'disconnected' order by a.id
  loop
    perform private.end_account(v_account.id);
    perform private.notify_admins(v_account.workspace_id, format('%s is not connected any more',
        coalesce('@' || v_account.username, 'An account')),
      format('Our access was withdrawn at %s. Connect the account again to go on.', initcap(v_account.provider)),
      jsonb_build_object('account_id', v_account.id, 'provider', v_account.provider),
      format('deauthorized:%s:%s', v_account.id, request.id), 'integrations.account_deauthorized');
    v_ended := v_ended + 1;
  end loop;
  return v_ended;
end $$;
comment on function private.deauthorize_accounts(integrations.data_requests) is
  'Disconnects the accounts of a person who has withdrawn our access; answers how many.';
revoke all on function private.deauthorize_accounts from public, anon, authenticated, service_role;

create function private.begin_erasure(request_id uuid) returns void
language sql
set search_path = ''
as $$
  update integrations.data_requests r
  set job_id = (select j.job_id from ops.enqueue_job('integrations.erase_person',
    jsonb_build_object('request_id', r.id), max_attempts => 20,
    key => format('erase:%s:%s', r.id, coalesce(r.job_id, 0))) j)
  where r.id = request_id
$$;
comment on function private.begin_erasure(uuid) is 'Has a person''s data erased by a job.';
revoke all on function private.begin_erasure from public, anon, authenticated, service_role;

-- The function that calls has proved who signed, and when. A request that comes again is the first one, and does
-- nothing; one that was made for another callback is refused. Errors: data_request_replayed.
create function integrations.receive_data_request(provider text, kind text, user_id text, request_hash bytea,
  issued_at timestamptz) returns integrations.data_requests
language plpgsql security definer
set search_path = ''
as $$
declare
  v_request integrations.data_requests;
begin
  insert into integrations.data_requests as r (provider, kind, external_user_id, request_hash, issued_at)
  values (receive_data_request.provider, receive_data_request.kind, receive_data_request.user_id,
    receive_data_request.request_hash, receive_data_request.issued_at)
  on conflict on constraint data_requests_once do nothing
  returning r.* into v_request;
  if v_request.id is null then
    select * into v_request from integrations.data_requests r
    where r.request_hash = receive_data_request.request_hash;
    if (v_request.provider, v_request.kind) <> (receive_data_request.provider, receive_data_request.kind) then
      perform private.fail('data_request_replayed', 'This request was made for another callback.');
    end if;
  elsif v_request.kind = 'deletion' then
    perform private.begin_erasure(v_request.id);
  else
    update integrations.data_requests r
    set erased = jsonb_build_object('accounts', private.deauthorize_accounts(v_request)), status = 'completed',
      completed_at = private.now(), external_user_id = null
    where r.id = v_request.id returning r.* into v_request;
  end if;
  return v_request;
end $$;
comment on function integrations.receive_data_request(text, text, text, bytea, timestamptz) is
  'Takes a verified request of a person at Meta, once: accounts are disconnected now, data is deleted by a job.';
revoke all on function integrations.receive_data_request from public, anon, authenticated, service_role;
grant execute on function integrations.receive_data_request to service_role;

-- A job that gave up, or was cancelled, does not end what was asked for.
create function private.resume_erasures() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
  v_resumed integer := 0;
begin
  for v_id in
    select r.id from integrations.data_requests r
    where r.status = 'pending' and not exists (select from ops.live_jobs j where j.id = r.job_id)
    order by r.created_at limit 100
  loop
    perform private.begin_erasure(v_id);
    v_resumed := v_resumed + 1;
  end loop;
  return v_resumed;
end $$;
comment on function private.resume_erasures() is 'Sweep: erasures whose job has ended before its work are begun again.';
revoke all on function private.resume_erasures from public, anon, authenticated, service_role;
grant execute on function private.resume_erasures to service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('integrations.erase_person', 'Erases what is kept of a person who asked for it at Meta.', interval '30 days');
insert into ops.sweeps (name, function_name, every) values
  ('resume erasures', 'private.resume_erasures', interval '1 hour');
