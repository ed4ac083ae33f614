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
