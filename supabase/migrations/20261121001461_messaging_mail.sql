-- Mail that comes and goes. Messages that came are known by their UID in the inbox, and by their Message-ID when a
-- server counts its UIDs anew; those that go out are jobs, sent at least once and always under the same Message-ID.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_mail', 'PT404', 'Use the id of a message in a mail account that you may use.');

create table messaging.email_messages (
  id uuid primary key default gen_random_uuid(),
  account_id uuid not null,
  direction text not null,
  status text not null,
  folder text not null default 'INBOX',
  uid_validity bigint,
  uid bigint,
  message_id text,
  in_reply_to text,
  from_address text,
  from_name text,
  to_addresses text[] not null default '{}',
  cc_addresses text[] not null default '{}',
  bcc_addresses text[] not null default '{}',
  subject text not null default '',
  snippet text not null default '',
  text_body text,
  html_body text,
  attachments jsonb not null default '[]',
  size_bytes bigint,
  is_truncated boolean not null default false,
  is_read boolean not null default false,
  sent_at timestamptz,
  key text,
  job_id bigint,
  error_message text,
  created_by uuid,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint email_messages_account_id_fkey foreign key (account_id)
    references messaging.email_accounts (id) on delete cascade,
  constraint email_messages_created_by_fkey foreign key (created_by)
    references identity.profiles (id) on delete set null,
  constraint email_messages_uid_once unique (account_id, folder, uid_validity, uid),
  constraint email_messages_key_once unique (account_id, key),
  constraint email_messages_direction_known check (direction in ('in', 'out')),
  constraint email_messages_status_known check (case direction when 'in' then status = 'received'
    else status in ('queued', 'sent', 'failed', 'cancelled') end),
  constraint email_messages_in_has_uid
    check ((direction = 'in') = (uid is not null and uid_validity is not null)),
  constraint email_messages_out_has_recipient check (direction = 'in'
    or cardinality(to_addresses) + cardinality(cc_addresses) + cardinality(bcc_addresses) between 1 and 50),
  constraint email_messages_sent_says_when check (direction = 'in' or (status = 'sent') = (sent_at is not null)),
  constraint email_messages_failed_has_error check ((status = 'failed') = (error_message is not null)),
  constraint email_messages_subject_is_a_line check (subject !~ '[\r\n]' and length(subject) <= 998),
  constraint email_messages_snippet_length check (length(snippet) <= 200),
  constraint email_messages_attachments_is_array check (jsonb_typeof(attachments) = 'array')
);
comment on table messaging.email_messages is
  'Mail of the accounts: what came into the inbox, and what was sent with what became of it.';
comment on column messaging.email_messages.html_body is
  'As it came from outside: show it in a frame without scripts, never as part of a page.';
comment on column messaging.email_messages.attachments is 'Names, types and sizes; the files stay at the server.';
comment on column messaging.email_messages.is_truncated is 'It was longer than what is read of a message, 1 MiB.';
comment on column messaging.email_messages.created_at is
  'Of what came: when the server received it. Lists are sorted by it.';
comment on column messaging.email_messages.sent_at is
  'Of what came: when the server received it; of what goes: when a server took it.';
create index email_messages_list on messaging.email_messages (account_id, created_at desc, id desc);
create index email_messages_unread on messaging.email_messages (account_id) where direction = 'in' and not is_read;
create index email_messages_message_id on messaging.email_messages (account_id, message_id)
  where message_id is not null;
create index email_messages_created_by on messaging.email_messages (created_by) where created_by is not null;
create trigger touch_email_messages before update on messaging.email_messages
  for each row execute function private.touch_updated_at();
alter table messaging.email_messages enable row level security;
revoke all on table messaging.email_messages from public, anon, authenticated, service_role;
grant select on table messaging.email_messages to authenticated;
grant update (is_read) on table messaging.email_messages to authenticated;
grant select, insert, update, delete on table messaging.email_messages to service_role;
create policy "People read the mail of accounts they may use" on messaging.email_messages
  for select to authenticated using (account_id = any ((select private.mail_account_ids('readonly'))::uuid[]));
create policy "Members of a mail account mark its mail" on messaging.email_messages
  for update to authenticated using (account_id = any ((select private.mail_account_ids('member'))::uuid[]))
  with check (account_id = any ((select private.mail_account_ids('member'))::uuid[]));

-- Every mail that Backlot sent, for whomever: from an account, in answer to a form, to a person.
create table messaging.email_log (
  id uuid primary key default gen_random_uuid(),
  email_type text not null,
  template text,
  user_id uuid,
  account_id uuid,
  message_id uuid,
  contact_submission_id uuid,
  sent_to text not null,
  subject text,
  provider text not null,
  provider_id text,
  status text not null default 'pending',
  attempts integer not null default 0,
  sent_at timestamptz,
  delivered_at timestamptz,
  opened_at timestamptz,
  clicked_at timestamptz,
  bounced_at timestamptz,
  error_message text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default private.now(),
  constraint email_log_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete cascade,
  constraint email_log_account_id_fkey foreign key (account_id)
    references messaging.email_accounts (id) on delete cascade,
  constraint email_log_message_id_fkey foreign key (message_id)
    references messaging.email_messages (id) on delete cascade,
  constraint email_log_message_once unique (message_id, sent_to),
  constraint email_log_provider_known check (provider in ('smtp', 'resend')),
  constraint email_log_provider_id_once unique (provider, provider_id, sent_to),
  constraint email_log_email_type_shape check (email_type ~ '^[a-z][a-z0-9_]{0,49}$'),
  constraint email_log_status_known
    check (status in ('pending', 'sent', 'delivered', 'opened', 'clicked', 'bounced', 'complained', 'failed')),
  constraint email_log_sent_says_when check (status in ('pending', 'failed') or sent_at is not null),
  constraint email_log_failed_has_error check (status <> 'failed' or error_message is not null),
  constraint email_log_attempts_not_negative check (attempts >= 0),
  constraint email_log_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);
comment on table messaging.email_log is
  'Mail that was sent, a row a recipient: by whom, to whom, and how far it came.';
comment on column messaging.email_log.provider_id is 'The id at Resend, or the Message-ID.';
create index email_log_account_id on messaging.email_log (account_id, created_at desc) where account_id is not null;
create index email_log_user_id on messaging.email_log (user_id, created_at desc) where user_id is not null;
create index email_log_sent_at on messaging.email_log (sent_at desc);
create index email_log_status on messaging.email_log (status);
create index email_log_template on messaging.email_log (template) where template is not null;
alter table messaging.email_log enable row level security;
revoke all on table messaging.email_log from public, anon, authenticated, service_role;
grant select on table messaging.email_log to authenticated;
grant select, insert, update, delete on table messaging.email_log to service_role;
create policy "People see mail sent to them or from accounts they may use" on messaging.email_log
  for select to authenticated using (user_id = (select auth.uid())
    or account_id = any ((select private.mail_account_ids('readonly'))::uuid[]));

-- How a mail job ends is how its message ends. A refused password puts the account in error, where its people see it.
create function messaging.on_mail_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_message uuid := (job.payload ->> 'message_id')::uuid;
begin
  update messaging.email_messages m
  set status = case event when 'completed' then 'sent' when 'dead' then 'failed' when 'cancelled' then 'cancelled'
      else 'queued' end,
    sent_at = case event when 'completed' then private.now() end,
    error_message = case event when 'dead' then coalesce(job.error, 'internal_error: The mail was not sent.') end
  where m.id = v_message and m.status <> 'sent' and event in ('completed', 'dead', 'cancelled', 'replayed')
    and (event <> 'completed' or not coalesce((job.output ->> 'ignored')::boolean, false));
  if not found then
    return;
  end if;
  update messaging.email_log l
  set status = case when event = 'completed' and not l.sent_to = any (private.texts_of(job.output -> 'rejected'))
      then 'sent' when event in ('completed', 'dead', 'cancelled') then 'failed' else 'pending' end,
    sent_at = case when event = 'completed' then private.now() end, attempts = job.attempt,
    error_message = case event when 'completed' then case
        when l.sent_to = any (private.texts_of(job.output -> 'rejected'))
          then 'rejected: The server refused the recipient.'
      end when 'dead' then coalesce(job.error, 'internal_error: The mail was not sent.')
      when 'cancelled' then 'cancelled: The mail was not sent.' end
  where l.message_id = v_message;
end $$;
comment on function messaging.on_mail_job(ops.jobs, text) is 'Keeps the status of a sent mail the same as its job''s.';
revoke all on function messaging.on_mail_job from public, anon, authenticated, service_role;

create function private.texts_of(list jsonb) returns text[]
language sql immutable
set search_path = ''
as $$ select coalesce(array_agg(t), '{}') from jsonb_array_elements_text(
  case jsonb_typeof(list) when 'array' then list else '[]' end) t $$;
comment on function private.texts_of(jsonb) is 'The texts of a JSON array; none of anything else.';
revoke all on function private.texts_of from public, anon, authenticated, service_role;
grant execute on function private.texts_of to service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('mail.send', 'Sends a mail from an account.', 'messaging.on_mail_job', interval '1 day'),
  ('mail.test', 'Tries whether a mail account can be read and sent from.', null, interval '1 hour'),
  ('mail.check', 'Reads what is new in the inbox of a mail account.', null, interval '1 hour');

-- Servers count connections of one user.
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('key', 'mail', 2, null, null, 'Jobs at work on one mail account at the same time.');

-- Errors: those of private.mail_account_of_caller, mail_account_not_ready, unknown_mail, invalid_argument, key_reused.
create function private.send_email(account_id uuid, to_addresses text[], subject text, text_body text, html_body text,
  cc_addresses text[], bcc_addresses text[], reply_to_message uuid, key text) returns messaging.email_messages
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account messaging.email_accounts := private.mail_account_of_caller(account_id, 'member');
  v_message messaging.email_messages;
  v_bad text;
begin
  if not v_account.is_active or v_account.status = 'no_password' then
    perform private.fail('mail_account_not_ready', 'The mail account is switched off or has no password.',
      jsonb_build_object('account_id', v_account.id, 'status', v_account.status));
  end if;
  select * into v_message from messaging.email_messages m
  where m.account_id = v_account.id and m.key = send_email.key;
  if v_message.id is not null then
    if (v_message.to_addresses, v_message.subject, v_message.text_body) is distinct from
      (coalesce(send_email.to_addresses, '{}'), send_email.subject, send_email.text_body) then
      perform private.fail('key_reused', 'The key stands for a different mail.', jsonb_build_object('key', key));
    end if;
    return v_message;
  end if;
  v_bad := case
    when coalesce(cardinality(to_addresses), 0) + coalesce(cardinality(cc_addresses), 0)
      + coalesce(cardinality(bcc_addresses), 0) not between 1 and 50 then 'to_addresses must name 1 to 50 recipients'
    when exists (select from unnest(coalesce(to_addresses, '{}') || coalesce(cc_addresses, '{}')
        || coalesce(bcc_addresses, '{}')) a where a is null or a !~ '^[^@\s<>,;"]{1,64}@[^@\s<>,;"]{1,189}$')
      then 'to_addresses must be addresses such as name@example.com'
    when subject is null or subject ~ '[\r\n]' or length(subject) > 998 then 'subject must be one line'
    when text_body is null and html_body is null then 'text_body must hold the mail, or html_body'
    when coalesce(length(text_body), 0) + coalesce(length(html_body), 0) > 1000000
      then 'text_body must be shorter than a million characters'
    when length(key) not between 1 and 200 then 'key must have 1 to 200 characters' end;
  if v_bad is not null then
    perform private.fail('invalid_argument', v_bad || '.', jsonb_build_object('argument', split_part(v_bad, ' ', 1)));
  end if;
  if reply_to_message is not null and not exists (select from messaging.email_messages m
    where m.id = reply_to_message and m.account_id = v_account.id) then
    perform private.fail('unknown_mail', 'The mail to answer is not one of this account.',
      jsonb_build_object('message_id', reply_to_message));
  end if;
  insert into messaging.email_messages as m (account_id, direction, status, folder, in_reply_to, from_address,
    from_name, to_addresses, cc_addresses, bcc_addresses, subject, snippet, text_body, html_body, is_read, key, created_by)
  values (v_account.id, 'out', 'queued', 'Sent',
    (select r.message_id from messaging.email_messages r where r.id = reply_to_message), v_account.email,
    v_account.display_name, coalesce(send_email.to_addresses, '{}'), coalesce(send_email.cc_addresses, '{}'),
    coalesce(send_email.bcc_addresses, '{}'), send_email.subject,
    left(regexp_replace(coalesce(send_email.text_body, ''), '\s+', ' ', 'g'), 200), send_email.text_body,
    send_email.html_body, true, send_email.key, auth.uid())
  returning * into v_message;
  insert into messaging.email_log (email_type, account_id, message_id, sent_to, subject, provider)
  select distinct on (a) 'account_mail', v_account.id, v_message.id, a, v_message.subject, 'smtp'
  from unnest(v_message.to_addresses || v_message.cc_addresses || v_message.bcc_addresses) a;
  update messaging.email_messages m
  set message_id = format('<%s@%s>', m.id, split_part(v_account.email, '@', 2)),
    job_id = (select j.job_id from ops.enqueue_job('mail.send', jsonb_build_object('message_id', m.id),
      v_account.workspace_id, max_attempts => 6, key => 'mail:' || m.id, limit_key => 'mail:' || v_account.id) j)
  where m.id = v_message.id returning * into v_message;
  return v_message;
end $$;
comment on function private.send_email(uuid, text[], text, text, text, text[], text[], uuid, text) is
  'Core of messaging.send_email.';
revoke all on function private.send_email from public, anon, authenticated, service_role;
grant execute on function private.send_email to authenticated;

create function messaging.send_email(account_id uuid, to_addresses text[], subject text, text_body text default null,
  html_body text default null, cc_addresses text[] default '{}', bcc_addresses text[] default '{}',
  reply_to_message uuid default null, key text default null) returns messaging.email_messages
language sql
set search_path = ''
as $$
  select private.send_email(send_email.account_id, send_email.to_addresses, send_email.subject, send_email.text_body,
    send_email.html_body, send_email.cc_addresses, send_email.bcc_addresses, send_email.reply_to_message,
    send_email.key)
$$;
comment on function messaging.send_email(uuid, text[], text, text, text, text[], text[], uuid, text) is
  'Sends a mail from an account; the row says when it is sent, or why not. The same key sends it once.';
revoke all on function messaging.send_email from public, anon, authenticated, service_role;
grant execute on function messaging.send_email to authenticated;

-- Once for a moment: what is asked for while it is under way is answered by it.
create function private.begin_mail_job(kind text, account messaging.email_accounts, moment bigint) returns void
language sql
set search_path = ''
as $$
  select ops.enqueue_job(begin_mail_job.kind, jsonb_build_object('account_id', account.id), account.workspace_id,
    max_attempts => 3, key => format('%s:%s:%s', begin_mail_job.kind, account.id, moment),
    limit_key => 'mail:' || account.id)
$$;
comment on function private.begin_mail_job(text, messaging.email_accounts, bigint) is
  'Has a mail account tested or checked.';
revoke all on function private.begin_mail_job from public, anon, authenticated, service_role;
grant execute on function private.begin_mail_job to service_role;

create function private.test_email_account(account_id uuid) returns messaging.email_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account messaging.email_accounts := private.mail_account_of_caller(account_id, 'admin');
begin
  if v_account.status = 'no_password' then
    perform private.fail('mail_account_not_ready', 'The mail account has no password.',
      jsonb_build_object('account_id', v_account.id, 'status', v_account.status));
  end if;
  update messaging.email_accounts a set status = 'untested', sync_error = null
  where a.id = v_account.id returning * into v_account;
  perform private.begin_mail_job('mail.test', v_account, extract(epoch from private.now())::bigint);
  return v_account;
end $$;
comment on function private.test_email_account(uuid) is 'Core of messaging.test_email_account.';
revoke all on function private.test_email_account from public, anon, authenticated, service_role;
grant execute on function private.test_email_account to authenticated;
create function messaging.test_email_account(account_id uuid) returns messaging.email_accounts
language sql
set search_path = ''
as $$ select private.test_email_account(test_email_account.account_id) $$;
comment on function messaging.test_email_account(uuid) is
  'Tries to read and to send with a mail account; its status becomes active, or error with the reason.';
revoke all on function messaging.test_email_account from public, anon, authenticated, service_role;
grant execute on function messaging.test_email_account to authenticated;

-- Asked for again within ten seconds: once.
create function private.check_email(account_id uuid) returns messaging.email_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account messaging.email_accounts := private.mail_account_of_caller(account_id, 'readonly');
begin
  if not v_account.is_active or v_account.status <> 'active' then
    perform private.fail('mail_account_not_ready', 'The mail account is switched off or does not work.',
      jsonb_build_object('account_id', v_account.id, 'status', v_account.status));
  end if;
  perform private.begin_mail_job('mail.check', v_account, floor(extract(epoch from private.now()) / 10)::bigint);
  return v_account;
end $$;
comment on function private.check_email(uuid) is 'Core of messaging.check_email.';
revoke all on function private.check_email from public, anon, authenticated, service_role;
grant execute on function private.check_email to authenticated;
create function messaging.check_email(account_id uuid) returns messaging.email_accounts
language sql
set search_path = ''
as $$ select private.check_email(check_email.account_id) $$;
comment on function messaging.check_email(uuid) is
  'Reads what is new in the inbox now; last_sync_at tells when that was done. It happens by itself every five minutes.';
revoke all on function messaging.check_email from public, anon, authenticated, service_role;
grant execute on function messaging.check_email to authenticated;

create function private.check_due_mail() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_account messaging.email_accounts;
  v_begun integer := 0;
begin
  for v_account in
    update messaging.email_accounts a set next_check_at = private.now() + interval '5 minutes'
    where a.id in (
      select d.id from messaging.email_accounts d
      where d.is_active and d.status = 'active' and d.next_check_at <= private.now()
      order by d.next_check_at limit 500 for update skip locked)
    returning *
  loop
    perform private.begin_mail_job('mail.check', v_account, floor(extract(epoch from private.now()) / 10)::bigint);
    v_begun := v_begun + 1;
  end loop;
  return v_begun;
end $$;
comment on function private.check_due_mail() is 'Sweep: has each active inbox read every five minutes.';
revoke all on function private.check_due_mail from public, anon, authenticated, service_role;
grant execute on function private.check_due_mail to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('check mail', 'private.check_due_mail', interval '1 minute');
