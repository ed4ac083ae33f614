-- What the mail jobs and the mail function note.

-- secret: {key_id, nonce, ciphertext}, bytes as \x hex. The account is tried at once.
create function messaging.keep_email_password(account_id uuid, secret jsonb) returns messaging.email_accounts
language plpgsql
set search_path = ''
as $$
declare
  v_account messaging.email_accounts;
begin
  insert into messaging.email_account_secrets as s (account_id, key_id, nonce, ciphertext)
  select keep_email_password.account_id, n.key_id, n.nonce, n.ciphertext
  from jsonb_to_record(secret) as n (key_id text, nonce bytea, ciphertext bytea)
  on conflict on constraint email_account_secrets_pkey do update
  set key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext;
  update messaging.email_accounts a set status = 'untested', sync_error = null
  where a.id = keep_email_password.account_id returning * into v_account;
  perform private.begin_mail_job('mail.test', v_account, (extract(epoch from private.now()) * 1000)::bigint);
  return v_account;
end $$;
comment on function messaging.keep_email_password(uuid, jsonb) is
  'Keeps the sealed password of a mail account and has the account tested.';
revoke all on function messaging.keep_email_password from public, anon, authenticated, service_role;
grant execute on function messaging.keep_email_password to service_role;

-- error null: it works. An account whose password was forgotten meanwhile stays as it is.
create function messaging.note_email_account(account_id uuid, error text) returns void
language sql
set search_path = ''
as $$
  update messaging.email_accounts a
  set status = case when error is null then 'active' else 'error' end, sync_error = error, tested_at = private.now(),
    failed_checks = 0
  where a.id = note_email_account.account_id and a.status <> 'no_password'
$$;
comment on function messaging.note_email_account(uuid, text) is 'Notes whether a mail account works.';
revoke all on function messaging.note_email_account from public, anon, authenticated, service_role;
grant execute on function messaging.note_email_account to service_role;

-- A server that cannot be reached is asked again after 10 minutes, then 20, up to 6 hours; after twelve times in vain,
-- two days and more, its people have to have a look.
create function messaging.note_failed_check(account_id uuid, error text) returns void
language sql
set search_path = ''
as $$
  update messaging.email_accounts a
  set failed_checks = a.failed_checks + 1, sync_error = error,
    status = case when a.failed_checks >= 11 then 'error' else a.status end,
    next_check_at = private.now() + least(interval '6 hours', interval '10 minutes' * 2 ^ least(a.failed_checks, 6))
  where a.id = note_failed_check.account_id and a.status = 'active'
$$;
comment on function messaging.note_failed_check(uuid, text) is
  'Notes that the inbox of a mail account could not be read, and has it read later than usual.';
revoke all on function messaging.note_failed_check from public, anon, authenticated, service_role;
grant execute on function messaging.note_failed_check to service_role;

-- messages: [{uid, message_id, in_reply_to, from_address, from_name, to_addresses, cc_addresses, subject, snippet,
-- text_body, html_body, attachments, size_bytes, is_truncated, is_read, received_at}]. Read twice, nothing changes;
-- counted anew by the server (another UIDVALIDITY), what is known by its Message-ID only takes its new UID. False: the
-- account was switched off or given other servers meanwhile.
create function messaging.store_emails(account_id uuid, uid_validity bigint, up_to_uid bigint, messages jsonb)
returns boolean
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_account messaging.email_accounts;
begin
  update messaging.email_accounts a
  set uid_validity = store_emails.uid_validity, last_uid = case
      when a.uid_validity = store_emails.uid_validity then greatest(a.last_uid, up_to_uid) else up_to_uid end,
    last_sync_at = private.now(), sync_error = null, failed_checks = 0,
    next_check_at = private.now() + interval '5 minutes'
  where a.id = store_emails.account_id and a.is_active and a.status = 'active'
  returning * into v_account;
  if v_account.id is null then
    return false;
  end if;
  with news as (
    select * from jsonb_to_recordset(messages) as n (uid bigint, message_id text, in_reply_to text, from_address text,
      from_name text, to_addresses text[], cc_addresses text[], subject text, snippet text, text_body text,
      html_body text, attachments jsonb, size_bytes bigint, is_truncated boolean, is_read boolean,
      received_at timestamptz)
  ), renamed as (
    -- copies of one mail, which a list sends as well, have one Message-ID: each takes a UID of its own
    select k.id, n.uid
    from (select c.uid, c.message_id, row_number() over (partition by c.message_id order by c.uid) as place
      from news c where not exists (select from messaging.email_messages m where m.account_id = v_account.id
        and m.folder = 'INBOX' and m.uid_validity = store_emails.uid_validity and m.uid = c.uid)) n
    join (select m.id, m.message_id, row_number() over (partition by m.message_id order by m.uid) as place
      from messaging.email_messages m
      where m.account_id = v_account.id and m.direction = 'in' and m.uid_validity <> store_emails.uid_validity
        and m.message_id in (select c.message_id from news c)) k on k.message_id = n.message_id and k.place = n.place
  ), moved as (
    update messaging.email_messages m set uid_validity = store_emails.uid_validity, uid = n.uid
    from renamed n where m.id = n.id
    returning n.uid as uid
  )
  insert into messaging.email_messages (account_id, direction, status, uid_validity, uid, message_id, in_reply_to,
    from_address, from_name, to_addresses, cc_addresses, subject, snippet, text_body, html_body, attachments,
    size_bytes, is_truncated, is_read, sent_at, created_at)
  select v_account.id, 'in', 'received', store_emails.uid_validity, n.uid, n.message_id, n.in_reply_to, n.from_address,
    n.from_name, coalesce(n.to_addresses, '{}'), coalesce(n.cc_addresses, '{}'), coalesce(n.subject, ''),
    coalesce(n.snippet, ''), n.text_body, n.html_body, coalesce(n.attachments, '[]'), n.size_bytes,
    coalesce(n.is_truncated, false), coalesce(n.is_read, false), n.received_at,
    least(n.received_at, private.now())
  from news n where n.uid not in (select v.uid from moved v)
  on conflict on constraint email_messages_uid_once do nothing;
  return true;
end $$;
comment on function messaging.store_emails(uuid, bigint, bigint, jsonb) is
  'Stores what is new in the inbox of a mail account and how far it has been read.';
revoke all on function messaging.store_emails from public, anon, authenticated, service_role;
grant execute on function messaging.store_emails to service_role;

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table messaging.email_accounts, messaging.email_messages;
  end if;
end $$;
