-- What people ask of their mail accounts: to send, to be tried, to look for new mail.

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
    perform private.fail('invalid_argument', v_bad || '.',
      jsonb_build_object('argument', split_part(v_bad, ' ', 1)));
  end if;
  if reply_to_message is not null and not exists (select from messaging.email_messages m
    where m.id = reply_to_message and m.account_id = v_account.id) then
    perform private.fail('unknown_mail', 'The mail to answer is not one of this account.',
      jsonb_build_object('message_id', reply_to_message));
  end if;
  insert into messaging.email_messages as m (account_id, direction, status, folder, in_reply_to, from_address,
    from_name, to_addresses, cc_addresses, bcc_addresses, subject, snippet, text_body, html_body, is_read, key,
    created_by)
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

-- What a worker has begun to hand over may still be sent. Errors: unknown_mail, and those of
-- private.mail_account_of_caller.
create function private.cancel_email(message_id uuid) returns messaging.email_messages
language plpgsql security definer
set search_path = ''
as $$
declare
  v_message messaging.email_messages;
begin
  select * into v_message from messaging.email_messages m
  where m.id = cancel_email.message_id and m.direction = 'out'
    and m.account_id = any (private.mail_account_ids('readonly')) and auth.uid() is not null;
  if v_message.id is null then
    perform private.fail('unknown_mail', 'There is no such mail that you may cancel.',
      jsonb_build_object('message_id', cancel_email.message_id));
  end if;
  perform private.mail_account_of_caller(v_message.account_id, 'member');
  if v_message.status = 'queued' then
    perform ops.cancel_job(v_message.job_id);
  end if;
  select * into v_message from messaging.email_messages m where m.id = cancel_email.message_id;
  return v_message;
end $$;
comment on function private.cancel_email(uuid) is 'Core of messaging.cancel_email.';
revoke all on function private.cancel_email from public, anon, authenticated, service_role;
grant execute on function private.cancel_email to authenticated;
create function messaging.cancel_email(message_id uuid) returns messaging.email_messages
language sql
set search_path = ''
as $$ select private.cancel_email(cancel_email.message_id) $$;
comment on function messaging.cancel_email(uuid) is
  'Takes back a mail that is not sent yet; one that is sent stays so.';
revoke all on function messaging.cancel_email from public, anon, authenticated, service_role;
grant execute on function messaging.cancel_email to authenticated;

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
