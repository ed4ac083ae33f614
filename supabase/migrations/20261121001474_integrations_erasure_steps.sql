-- How a person is erased, step by step, by one job: each step is a short transaction that can be repeated. Creations
-- under way are cancelled first, without a lock on their conversation; then conversations go, then traces of the person
-- elsewhere, and the accounts that were theirs.

create function private.note_erased(request_id uuid, thing text, number integer) returns void
language sql
set search_path = ''
as $$
  update integrations.data_requests r
  set erased = r.erased || jsonb_build_object(thing, coalesce((r.erased ->> thing)::integer, 0) + number)
  where r.id = request_id and number > 0
$$;
comment on function private.note_erased(uuid, text, integer) is 'Counts what an erasure has erased.';
revoke all on function private.note_erased from public, anon, authenticated, service_role;

-- Up to 500 of each: comments that led to no conversation, then what the inbox keeps. True: there may be more.
create function private.erase_traces(request integrations.data_requests, accounts uuid[]) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_comments social.comments[] := array(select c from social.comments c
    join integrations.connected_accounts a on a.id = c.connected_account_id and a.provider = request.provider
    where c.platform_user_id = request.external_user_id order by c.id limit 500 for update of c);
  v_events bigint[] := array(
    (select e.id from ops.webhook_events e where e.provider = 'meta'
      and private.person_of_meta(e.payload) = request.external_user_id
      and split_part(e.event_type, '.', 1) = request.provider limit 500)
    union
    (select e.id from ops.webhook_events e where e.provider = 'meta' and e.connected_account_id = any (accounts)
      and not e.payload ? 'redacted_at' limit 500));
begin
  perform private.forget_steps('{}', v_comments);
  delete from social.comments c where c.id in (select o.id from unnest(v_comments) o);
  perform private.redact_webhook_events(v_events);
  perform private.note_erased(request.id, 'comments', cardinality(v_comments));
  perform private.note_erased(request.id, 'webhooks', cardinality(v_events));
  return cardinality(v_comments) = 500 or cardinality(v_events) >= 500;
end $$;
comment on function private.erase_traces(integrations.data_requests, uuid[]) is
  'Erases comments of a person and the bodies of webhooks about them.';
revoke all on function private.erase_traces from public, anon, authenticated, service_role;

-- The person's own accounts go as after their 90 days; of the trail of their connection the name and the address.
create function private.erase_accounts(request integrations.data_requests, accounts uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  update integrations.oauth_audit_log l
  set external_account_id = null, ip_address = null, user_agent = null
  from integrations.connected_accounts a
  where a.id = any (accounts) and l.workspace_id = a.workspace_id and l.provider = a.provider
    and l.external_account_id = a.external_account_id;
  delete from messaging.notifications n using integrations.connected_accounts a
  where a.id = any (accounts) and n.workspace_id = a.workspace_id and n.metadata ->> 'account_id' = a.id::text;
  perform private.notify_admins(a.workspace_id, 'A connected account was deleted',
    format('Its owner had all that is kept of it deleted, by a request at %s.', initcap(a.provider)), '{}',
    'account-erased:' || a.id, 'integrations.account_erased')
  from integrations.connected_accounts a where a.id = any (accounts);
  delete from integrations.connected_accounts a where a.id = any (accounts);
  perform private.note_erased(request.id, 'accounts', cardinality(accounts));
end $$;
comment on function private.erase_accounts(integrations.data_requests, uuid[]) is
  'Deletes the accounts that a person had connected.';
revoke all on function private.erase_accounts from public, anon, authenticated, service_role;

-- Conversations whose work has ended, with their files noted before their rows go. Returns how many.
create function private.erase_conversations(request integrations.data_requests, conversation_ids uuid[])
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
  v_files jsonb;
  v_erased integer := 0;
begin
  foreach v_id in array conversation_ids loop
    v_files := private.files_of_conversations(array[v_id]);
    if private.erase_conversation(v_id) then
      v_erased := v_erased + 1;
      update integrations.data_requests r set files = r.files || v_files where r.id = request.id;
    end if;
  end loop;
  perform private.note_erased(request.id, 'conversations', v_erased);
  return v_erased;
end $$;
comment on function private.erase_conversations(integrations.data_requests, uuid[]) is
  'Erases conversations in which nothing is under way, and notes their files.';
revoke all on function private.erase_conversations from public, anon, authenticated, service_role;

-- What the job is to do next: {state: files, files} (delete them, then tell note_files_erased), again, waiting (for
-- work that ends by itself) or completed.
create function integrations.erase_step(request_id uuid) returns jsonb
language plpgsql security definer
set search_path = ''
as $$
declare
  v_request integrations.data_requests;
  v_accounts uuid[];
  v_conversations uuid[];
begin
  select * into v_request from integrations.data_requests r where r.id = request_id and r.kind = 'deletion' for update;
  if v_request.status is distinct from 'pending' then
    return '{"state": "completed"}';
  elsif v_request.files <> '[]' then
    return jsonb_build_object('state', 'files', 'files', v_request.files);
  end if;
  v_accounts := private.accounts_of_person(v_request);
  if private.deauthorize_accounts(v_request) > 0 then
    return '{"state": "again"}';
  end if;
  v_conversations := private.conversations_of_person(v_request, v_accounts, 20);
  if private.cancel_one_creation(v_conversations) then
    return '{"state": "again"}';
  elsif cardinality(v_conversations) > 0 then
    return case when private.erase_conversations(v_request, v_conversations) > 0 then '{"state": "again"}'::jsonb
      else '{"state": "waiting"}' end;
  elsif private.erase_traces(v_request, v_accounts) then
    return '{"state": "again"}';
  end if;
  perform private.erase_accounts(v_request, v_accounts);
  update integrations.data_requests r
  set status = 'completed', completed_at = private.now(), external_user_id = null where r.id = v_request.id;
  return '{"state": "completed"}';
end $$;
comment on function integrations.erase_step(uuid) is 'Does the next step of an erasure; says what remains.';
revoke all on function integrations.erase_step from public, anon, authenticated, service_role;
grant execute on function integrations.erase_step to service_role;

-- What storage still has stays in the request. Returns how many files that are.
create function integrations.note_files_erased(request_id uuid, files jsonb) returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_left jsonb;
begin
  select coalesce(jsonb_agg(f.file), '[]') into v_left
  from integrations.data_requests r cross join lateral jsonb_array_elements(r.files) f (file)
  where r.id = request_id and (not note_files_erased.files @> jsonb_build_array(f.file)
    or exists (select from storage.objects o where o.bucket_id = f.file ->> 'bucket' and o.name = f.file ->> 'path'));
  perform private.note_erased(request_id, 'files', jsonb_array_length(note_files_erased.files)
    - jsonb_array_length(v_left));
  update integrations.data_requests r set files = v_left where r.id = request_id;
  return jsonb_array_length(v_left);
end $$;
comment on function integrations.note_files_erased(uuid, jsonb) is
  'Notes that files of an erasure are gone; answers how many are not.';
revoke all on function integrations.note_files_erased from public, anon, authenticated, service_role;
grant execute on function integrations.note_files_erased to service_role;
