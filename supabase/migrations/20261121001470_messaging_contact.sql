-- Forms that anybody fills in: contact and feedback. What comes is checked, limited by a salted hash of the sender's
-- address (the address itself is not kept) and by the mail address it names, and answered by mail at most once a day.

insert into private.error_codes (name, sqlstate, hint) values
  ('too_many_messages', 'PT429', 'Wait an hour before sending again.'),
  ('unknown_submission', 'PT404', 'Check the id of the contact form.');

-- Null when the caller is no client of the API. What a proxy of the platform says of the sender comes before what the
-- sender may have written.
create function private.sender_hash() returns bytea
language sql stable
set search_path = ''
as $$
  select coalesce(private.address_hash(ops._request_header('cf-connecting-ip')), private.request_address_hash())
$$;
comment on function private.sender_hash() is 'A salted hash of the address that a request comes from.';
revoke all on function private.sender_hash from public, anon, authenticated, service_role;

create function private.is_staff() returns boolean
language sql stable
set search_path = ''
as $$ select coalesce(auth.jwt() -> 'app_metadata' ->> 'staff' = 'true', false) and not private.is_suspended() $$;
comment on function private.is_staff() is
  'Does the caller work for Backlot? Only the service can set app_metadata.staff.';
revoke all on function private.is_staff from public, anon, authenticated, service_role;
grant execute on function private.is_staff to anon, authenticated, service_role;

create table messaging.contact_submissions (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  email text not null,
  subject text,
  message text not null,
  status text not null default 'new',
  priority text not null default 'normal',
  source text,
  user_id uuid,
  sender_hash bytea,
  user_agent text,
  notes text,
  auto_response_sent_at timestamptz,
  replied_at timestamptz,
  replied_by uuid,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint contact_submissions_user_id_fkey foreign key (user_id)
    references identity.profiles (id) on delete set null,
  constraint contact_submissions_replied_by_fkey foreign key (replied_by)
    references identity.profiles (id) on delete set null,
  constraint contact_submissions_texts_in_range check (length(name) between 1 and 255 and length(subject) <= 255
    and length(message) between 1 and 10000 and length(source) <= 100 and length(user_agent) <= 1000),
  constraint contact_submissions_email_shape
    check (email ~ '^[^@\s<>,;"]+@[^@\s<>,;"]+\.[^@\s<>,;"]+$' and length(email) <= 254),
  constraint contact_submissions_status_known check (status in ('new', 'in_progress', 'replied', 'closed', 'spam')),
  constraint contact_submissions_priority_known check (priority in ('low', 'normal', 'high', 'urgent')),
  constraint contact_submissions_replied_says_when check (status <> 'replied' or replied_at is not null)
);
comment on table messaging.contact_submissions is 'What people wrote into contact forms, with an account or without.';
comment on column messaging.contact_submissions.source is 'The site or app of the form.';
comment on column messaging.contact_submissions.sender_hash is
  'Salted hash of the sender''s address, to see what comes from one place; the address is not kept.';
create index contact_submissions_list on messaging.contact_submissions (status, created_at desc, id desc);
create index contact_submissions_email on messaging.contact_submissions (email, created_at desc);
create index contact_submissions_source on messaging.contact_submissions (source, created_at desc);
create index contact_submissions_user_id on messaging.contact_submissions (user_id) where user_id is not null;
create index contact_submissions_replied_by on messaging.contact_submissions (replied_by) where replied_by is not null;
create trigger touch_contact_submissions before update on messaging.contact_submissions
  for each row execute function private.touch_updated_at();
alter table messaging.contact_submissions enable row level security;
revoke all on table messaging.contact_submissions from public, anon, authenticated, service_role;
grant select on table messaging.contact_submissions to authenticated;
grant update (status, priority, notes, replied_at, replied_by) on table messaging.contact_submissions to authenticated;
grant select, insert, update, delete on table messaging.contact_submissions to service_role;
create policy "Staff read contact forms" on messaging.contact_submissions
  for select to authenticated using ((select private.is_staff()));
create policy "Staff work on contact forms" on messaging.contact_submissions
  for update to authenticated using ((select private.is_staff())) with check ((select private.is_staff()));

alter table messaging.email_log add constraint email_log_contact_submission_id_fkey foreign key (contact_submission_id)
  references messaging.contact_submissions (id) on delete cascade;
create index email_log_contact_submission_id on messaging.email_log (contact_submission_id)
  where contact_submission_id is not null;
alter policy "People see mail sent to them or from accounts they may use" on messaging.email_log
  using (user_id = (select auth.uid()) or account_id = any ((select private.mail_account_ids('readonly'))::uuid[])
    or (contact_submission_id is not null and (select private.is_staff())));

create table messaging.contact_responses (
  id uuid primary key default gen_random_uuid(),
  submission_id uuid not null,
  user_id uuid,
  response text not null,
  response_type text not null default 'email',
  created_at timestamptz not null default private.now(),
  constraint contact_responses_submission_id_fkey foreign key (submission_id)
    references messaging.contact_submissions (id) on delete cascade,
  constraint contact_responses_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete set null,
  constraint contact_responses_response_length check (length(response) between 1 and 20000),
  constraint contact_responses_type_known check (response_type in ('email', 'phone', 'note'))
);
comment on table messaging.contact_responses is 'What staff answered to contact forms, by mail or otherwise.';
create index contact_responses_submission_id on messaging.contact_responses (submission_id, created_at);
create index contact_responses_user_id on messaging.contact_responses (user_id) where user_id is not null;
alter table messaging.contact_responses enable row level security;
revoke all on table messaging.contact_responses from public, anon, authenticated, service_role;
grant select on table messaging.contact_responses to authenticated;
grant select, insert, delete on table messaging.contact_responses to service_role;
create policy "Staff read answers to contact forms" on messaging.contact_responses
  for select to authenticated using ((select private.is_staff()));

-- Mail of our own, through Resend: a row of the log a mail, which the job fills in.
create function messaging.on_system_mail_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_log messaging.email_log;
begin
  -- What Resend tells of the mail may come before its job has ended.
  update messaging.email_log l
  set status = case event when 'completed' then case l.status when 'pending' then 'sent' when 'failed' then 'sent'
      else l.status end when 'replayed' then 'pending' else 'failed' end,
    sent_at = case event when 'completed' then coalesce(l.sent_at, private.now()) end, attempts = job.attempt,
    provider_id = coalesce(l.provider_id, job.output ->> 'id'),
    error_message = case event when 'dead' then coalesce(job.error, 'internal_error: The mail was not sent.')
      when 'cancelled' then 'cancelled: The mail was not sent.' end
  where l.id = (job.payload ->> 'email_log_id')::uuid and event in ('completed', 'dead', 'cancelled', 'replayed')
  returning * into v_log;
  if v_log.email_type = 'contact_auto_response' and event = 'completed' then
    update messaging.contact_submissions s set auto_response_sent_at = v_log.sent_at
    where s.id = v_log.contact_submission_id and s.auto_response_sent_at is null;
  end if;
end $$;
comment on function messaging.on_system_mail_job(ops.jobs, text) is 'Keeps the log of a mail the same as its job.';
revoke all on function messaging.on_system_mail_job from public, anon, authenticated, service_role;
insert into ops.job_kinds (kind, description, on_event, timeout, provider) values
  ('mail.system', 'Sends a mail of our own through Resend.', 'messaging.on_system_mail_job', interval '1 day',
    'resend');
-- Source: Resend, rate limit: 2 requests a second for a new account.
insert into ops.limits (scope, subject, max_running, max_starts, per, description) values
  ('provider', 'resend', null, 2, interval '1 second', 'Mails through Resend; set it to what the account allows.');

create function private.send_system_mail(email_type text, sent_to text, subject text, text_body text,
  contact_submission_id uuid default null, user_id uuid default null) returns messaging.email_log
language plpgsql
set search_path = ''
as $$
declare
  v_log messaging.email_log;
begin
  insert into messaging.email_log (email_type, template, sent_to, subject, provider, contact_submission_id, user_id)
  values (send_system_mail.email_type, send_system_mail.email_type, send_system_mail.sent_to, send_system_mail.subject,
    'resend', send_system_mail.contact_submission_id, send_system_mail.user_id)
  returning * into v_log;
  perform ops.enqueue_job('mail.system', jsonb_build_object('email_log_id', v_log.id, 'to', v_log.sent_to,
    'subject', v_log.subject, 'text', send_system_mail.text_body), max_attempts => 8,
    key => 'system-mail:' || v_log.id);
  return v_log;
end $$;
comment on function private.send_system_mail(text, text, text, text, uuid, uuid) is
  'Sends a mail of our own and logs it; for other domains, inside their transactions.';
revoke all on function private.send_system_mail from public, anon, authenticated, service_role;

-- Errors: too_many_messages. Each place and each address named may write five times an hour.
create function private.limit_forms(form text, email text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_sender bytea := private.sender_hash();
begin
  if (v_sender is not null
      and not ops.check_rate_limit(format('%s:from:%s', form, encode(v_sender, 'hex')), 5, interval '1 hour'))
    or (email is not null
      and not ops.check_rate_limit(format('%s:by:%s', form, md5(lower(email))), 5, interval '1 hour')) then
    perform private.fail('too_many_messages', 'Five messages an hour are enough.');
  end if;
end $$;
comment on function private.limit_forms(text, text) is 'Limits how often one place and one person fill in a form.';
revoke all on function private.limit_forms from public, anon, authenticated, service_role;

-- website is a field that people do not see: who fills it in is a program, and is told that all went well.
create function private.submit_contact(name text, email text, message text, subject text, source text, website text)
returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_row messaging.contact_submissions;
  v_email text := lower(trim(email));
begin
  if coalesce(website, '') <> '' then
    return true;
  end if;
  if coalesce(trim(name), '') = '' or length(name) > 255 or name ~ '[\r\n]' then
    perform private.fail('invalid_argument', 'name must be a line of 1 to 255 characters.', '{"argument": "name"}');
  elsif coalesce(v_email !~ '^[^@\s<>,;"]+@[^@\s<>,;"]+\.[^@\s<>,;"]+$' or length(v_email) > 254, true) then
    perform private.fail('invalid_argument', 'email must be an address such as name@example.com.',
      '{"argument": "email"}');
  elsif coalesce(trim(message), '') = '' or length(message) > 10000 then
    perform private.fail('invalid_argument', 'message must have 1 to 10,000 characters.', '{"argument": "message"}');
  elsif length(subject) > 255 or subject ~ '[\r\n]' or length(source) > 100 then
    perform private.fail('invalid_argument', 'subject must be a line of up to 255 characters.',
      '{"argument": "subject"}');
  end if;
  perform private.limit_forms('contact', v_email);
  insert into messaging.contact_submissions (name, email, subject, message, source, user_id, sender_hash, user_agent)
  values (trim(submit_contact.name), v_email, nullif(trim(submit_contact.subject), ''), submit_contact.message,
    submit_contact.source, auth.uid(), private.sender_hash(), ops._request_header('user-agent'))
  returning * into v_row;
  -- A stranger may have named the address: it hears of it once a day, and all together no more than 300 times an hour.
  -- Nothing of what the form holds is repeated to it but the subject of ours.
  if ops.check_rate_limit('contact:answer:' || md5(v_email), 1, interval '1 day')
    and ops.check_rate_limit('contact:answers', 300, interval '1 hour') then
    perform private.send_system_mail('contact_auto_response', v_email, 'We have received your message',
      E'Hello,\n\nthank you for writing to us. Your message has arrived, and we will answer it as soon as we can.\n\n'
      || 'If you have not written to us, somebody has used your address by mistake; you need not do anything.',
      contact_submission_id => v_row.id);
  end if;
  return true;
end $$;
comment on function private.submit_contact(text, text, text, text, text, text) is 'Core of messaging.submit_contact.';
revoke all on function private.submit_contact from public, anon, authenticated, service_role;
grant execute on function private.submit_contact to anon, authenticated;

create function messaging.submit_contact(name text, email text, message text, subject text default null,
  source text default null, website text default null) returns boolean
language sql
set search_path = ''
as $$
  select private.submit_contact(submit_contact.name, submit_contact.email, submit_contact.message,
    submit_contact.subject, submit_contact.source, submit_contact.website)
$$;
comment on function messaging.submit_contact(text, text, text, text, text, text) is
  'Sends a contact form, by anybody. website is a field hidden from people: leave it empty.';
revoke all on function messaging.submit_contact from public, anon, authenticated, service_role;
grant execute on function messaging.submit_contact to anon, authenticated;

-- Errors: unknown_submission (also to those who are not staff), invalid_argument.
create function private.answer_contact(submission_id uuid, response text, response_type text)
returns messaging.contact_submissions
language plpgsql security definer
set search_path = ''
as $$
declare
  v_row messaging.contact_submissions;
begin
  if private.is_staff() then
    select * into v_row from messaging.contact_submissions s where s.id = answer_contact.submission_id for update;
  end if;
  if v_row.id is null then
    perform private.fail('unknown_submission', 'There is no such contact form.');
  end if;
  if coalesce(trim(response), '') = '' or length(response) > 20000
    or coalesce(response_type, '') not in ('email', 'phone', 'note') then
    perform private.fail('invalid_argument', 'response must be a text, response_type email, phone or note.',
      '{"argument": "response"}');
  end if;
  insert into messaging.contact_responses (submission_id, user_id, response, response_type)
  values (v_row.id, auth.uid(), answer_contact.response, answer_contact.response_type);
  if response_type = 'email' then
    perform private.send_system_mail('contact_answer', v_row.email,
      'Re: ' || coalesce(v_row.subject, 'Your message'), response, contact_submission_id => v_row.id);
  end if;
  if response_type <> 'note' then
    update messaging.contact_submissions s
    set status = 'replied', replied_at = private.now(), replied_by = auth.uid()
    where s.id = v_row.id returning * into v_row;
  end if;
  return v_row;
end $$;
comment on function private.answer_contact(uuid, text, text) is 'Core of messaging.answer_contact.';
revoke all on function private.answer_contact from public, anon, authenticated, service_role;
grant execute on function private.answer_contact to authenticated;
create function messaging.answer_contact(submission_id uuid, response text, response_type text default 'email')
returns messaging.contact_submissions
language sql
set search_path = ''
as $$
  select private.answer_contact(answer_contact.submission_id, answer_contact.response, answer_contact.response_type)
$$;
comment on function messaging.answer_contact(uuid, text, text) is
  'Staff answer a contact form, by mail, by telephone, or with a note for themselves.';
revoke all on function messaging.answer_contact from public, anon, authenticated, service_role;
grant execute on function messaging.answer_contact to authenticated;
