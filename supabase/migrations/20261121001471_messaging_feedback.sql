-- Feedback: faults and wishes, with an account or without. What people sent is theirs to see; what staff make of it is
-- a table of its own.

create table messaging.feedback (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  email text,
  title text not null,
  description text not null,
  category text not null default 'bug',
  affected_area text,
  page text,
  steps_to_reproduce text,
  expected_behavior text,
  actual_behavior text,
  screenshots text[] not null default '{}',
  source text not null default 'dashboard',
  user_agent text,
  metadata jsonb not null default '{}',
  status text not null default 'new',
  resolution text,
  resolved_at timestamptz,
  created_at timestamptz not null default private.now(),
  updated_at timestamptz not null default now(),
  constraint feedback_user_id_fkey foreign key (user_id) references identity.profiles (id) on delete set null,
  constraint feedback_category_known check (category in ('bug', 'idea', 'question', 'praise', 'other')),
  constraint feedback_status_known check (status in ('new', 'reviewed', 'in_progress', 'resolved', 'dismissed')),
  constraint feedback_resolved_says_when check ((status in ('resolved', 'dismissed')) = (resolved_at is not null)),
  constraint feedback_texts_in_range check (length(title) between 1 and 200 and length(description) between 1 and 10000
    and length(affected_area) <= 200 and length(page) <= 2000 and length(steps_to_reproduce) <= 10000
    and length(expected_behavior) <= 10000 and length(actual_behavior) <= 10000 and length(email) <= 254
    and length(source) between 1 and 100 and cardinality(screenshots) <= 10),
  constraint feedback_metadata_is_object check (jsonb_typeof(metadata) = 'object' and length(metadata::text) <= 20000)
);
comment on table messaging.feedback is 'Faults and wishes that people told us, and what became of them.';
comment on column messaging.feedback.screenshots is 'Paths or addresses of pictures.';
create index feedback_user_id on messaging.feedback (user_id, created_at desc) where user_id is not null;
create index feedback_status on messaging.feedback (status, created_at desc, id desc);
create index feedback_category on messaging.feedback (category, created_at desc);
create index feedback_created_at on messaging.feedback (created_at desc);
create trigger touch_feedback before update on messaging.feedback
  for each row execute function private.touch_updated_at();
alter table messaging.feedback enable row level security;
revoke all on table messaging.feedback from public, anon, authenticated, service_role;
grant select on table messaging.feedback to authenticated;
grant update (category, status, resolution, resolved_at) on table messaging.feedback to authenticated;
grant select, insert, update, delete on table messaging.feedback to service_role;
create policy "People see their own feedback, staff all" on messaging.feedback
  for select to authenticated using (user_id = (select auth.uid()) or (select private.is_staff()));
create policy "Staff work on feedback" on messaging.feedback
  for update to authenticated using ((select private.is_staff())) with check ((select private.is_staff()));

create table messaging.feedback_triage (
  feedback_id uuid not null,
  assigned_to uuid,
  internal_notes text,
  plane_issue_id text,
  github_issue_number integer,
  task_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint feedback_triage_pkey primary key (feedback_id),
  constraint feedback_triage_feedback_id_fkey foreign key (feedback_id)
    references messaging.feedback (id) on delete cascade,
  constraint feedback_triage_assigned_to_fkey foreign key (assigned_to)
    references identity.profiles (id) on delete set null,
  constraint feedback_triage_issue_positive check (github_issue_number > 0)
);
comment on table messaging.feedback_triage is 'What staff note about feedback: who has it, and which issue it became.';
create index feedback_triage_assigned_to on messaging.feedback_triage (assigned_to) where assigned_to is not null;
create index feedback_triage_task_id on messaging.feedback_triage (task_id) where task_id is not null;
create trigger touch_feedback_triage before update on messaging.feedback_triage
  for each row execute function private.touch_updated_at();
alter table messaging.feedback_triage enable row level security;
revoke all on table messaging.feedback_triage from public, anon, authenticated, service_role;
grant select, delete on table messaging.feedback_triage to authenticated;
grant insert (feedback_id, assigned_to, internal_notes, plane_issue_id, github_issue_number, task_id),
  update (assigned_to, internal_notes, plane_issue_id, github_issue_number, task_id)
  on table messaging.feedback_triage to authenticated;
grant select, insert, update, delete on table messaging.feedback_triage to service_role;
create policy "Staff read their notes on feedback" on messaging.feedback_triage
  for select to authenticated using ((select private.is_staff()));
create policy "Staff note about feedback" on messaging.feedback_triage
  for insert to authenticated with check ((select private.is_staff()));
create policy "Staff change their notes on feedback" on messaging.feedback_triage
  for update to authenticated using ((select private.is_staff())) with check ((select private.is_staff()));
create policy "Staff delete their notes on feedback" on messaging.feedback_triage
  for delete to authenticated using ((select private.is_staff()));

-- feedback: {title, description, category, email, affected_area, page, steps_to_reproduce, expected_behavior,
-- actual_behavior, screenshots, source, metadata, website}; website as in private.submit_contact. Errors:
-- invalid_argument, too_many_messages.
create function private.submit_feedback(feedback jsonb) returns uuid
language plpgsql security definer
set search_path = ''
as $$
declare
  v_new messaging.feedback;
begin
  if coalesce(feedback ->> 'website', '') <> '' then
    return gen_random_uuid();
  end if;
  begin
    v_new := jsonb_populate_record(null::messaging.feedback, feedback);
    perform private.limit_forms('feedback', coalesce(auth.uid()::text, v_new.email));
    insert into messaging.feedback (user_id, email, title, description, category, affected_area, page,
      steps_to_reproduce, expected_behavior, actual_behavior, screenshots, source, metadata, user_agent)
    values (auth.uid(), lower(coalesce(v_new.email, auth.jwt() ->> 'email')),
      coalesce(v_new.title, left(regexp_replace(v_new.description, '\s+', ' ', 'g'), 80)), v_new.description,
      coalesce(v_new.category, 'bug'), v_new.affected_area, v_new.page, v_new.steps_to_reproduce,
      v_new.expected_behavior, v_new.actual_behavior, coalesce(v_new.screenshots, '{}'),
      coalesce(v_new.source, 'dashboard'), coalesce(v_new.metadata, '{}'), ops._request_header('user-agent'))
    returning * into v_new;
  exception when check_violation or not_null_violation or data_exception or array_subscript_error then
    perform private.fail('invalid_argument', 'A field of the feedback is missing, too long or of another kind.',
      '{"argument": "feedback"}');
  end;
  return v_new.id;
end $$;
comment on function private.submit_feedback(jsonb) is 'Core of messaging.submit_feedback.';
revoke all on function private.submit_feedback from public, anon, authenticated, service_role;
grant execute on function private.submit_feedback to anon, authenticated;
create function messaging.submit_feedback(feedback jsonb) returns uuid
language sql
set search_path = ''
as $$ select private.submit_feedback(submit_feedback.feedback) $$;
comment on function messaging.submit_feedback(jsonb) is
  'Sends feedback, by anybody; a signed-in person sees it afterwards. description is the one field it must have.';
revoke all on function messaging.submit_feedback from public, anon, authenticated, service_role;
grant execute on function messaging.submit_feedback to anon, authenticated;

-- What Resend tells of mail that it sent. Events come in any order and twice: a mail never goes back to less.
create function messaging.apply_resend_event(webhook_event_id bigint) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event ops.webhook_events := (select e from ops.webhook_events e where e.id = webhook_event_id);
  v_at timestamptz := (v_event.payload ->> 'created_at')::timestamptz;
  v_status text := case v_event.event_type when 'email.sent' then 'sent' when 'email.delivered' then 'delivered'
    when 'email.opened' then 'opened' when 'email.clicked' then 'clicked' when 'email.bounced' then 'bounced'
    when 'email.complained' then 'complained' when 'email.failed' then 'failed' end;
  v_order text[] := array['pending', 'failed', 'sent', 'delivered', 'opened', 'clicked', 'bounced', 'complained'];
begin
  perform private.correlate(v_event.correlation_id);
  if v_status is null then
    return 'ignored';
  end if;
  update messaging.email_log l
  set status = case when array_position(v_order, v_status) > array_position(v_order, l.status) then v_status
      else l.status end,
    sent_at = case when v_status = 'failed' then l.sent_at else coalesce(l.sent_at, v_at) end,
    delivered_at = case when v_status = 'delivered' then least(l.delivered_at, v_at) else l.delivered_at end,
    opened_at = case when v_status = 'opened' then least(l.opened_at, v_at) else l.opened_at end,
    clicked_at = case when v_status = 'clicked' then least(l.clicked_at, v_at) else l.clicked_at end,
    bounced_at = case when v_status = 'bounced' then least(l.bounced_at, v_at) else l.bounced_at end,
    error_message = case v_status
      when 'bounced' then 'bounced: ' || coalesce(v_event.payload #>> '{data,bounce,message}', 'The mail came back.')
      when 'failed' then coalesce(l.error_message,
        'failed: ' || coalesce(v_event.payload #>> '{data,failed,reason}', 'The mail was not sent.'))
      else l.error_message end
  -- the tag finds a mail whose id at Resend is not noted yet
  where l.provider = 'resend' and (l.id = private.try_uuid(v_event.payload #>> '{data,tags,email_log_id}')
    or l.provider_id = v_event.payload #>> '{data,email_id}');
  return case when found then 'applied' else 'ignored' end;
end $$;
comment on function messaging.apply_resend_event(bigint) is 'Applies one event of Resend to the log of mail.';
revoke all on function messaging.apply_resend_event from public, anon, authenticated, service_role;
grant execute on function messaging.apply_resend_event to service_role;
