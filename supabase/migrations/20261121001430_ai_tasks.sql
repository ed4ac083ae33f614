-- Work that the assistant, or a person, proposes and that is done by itself: at once where an admin has allowed it up
-- to
-- a price, else after an admin's approval, never beyond the month's budget.

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_task', 'PT404', 'Use the id of a task of one of your workspaces.'),
  ('task_not_open', 'PT409', 'Only a proposed task can be approved or rejected, and only an open one cancelled.'),
  ('task_budget_exceeded', 'PT409', 'Raise the month''s budget in ai.task_settings, or wait for the next month.');

create table ai.task_settings (
  workspace_id uuid primary key,
  auto_approve_micro bigint not null default 0,
  monthly_budget_micro bigint,
  allowed_types text[] not null default '{creations,refresh_knowledge,analyze_brand}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint task_settings_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint task_settings_amounts_in_range check (auto_approve_micro between 0 and 1000000000
    and monthly_budget_micro between 0 and 1000000000000),
  constraint task_settings_types_known check (allowed_types <@ '{creations,refresh_knowledge,analyze_brand}'::text[])
);
comment on table ai.task_settings is
  'Up to what price (micro-units) a task needs nobody''s approval, and what tasks may cost in a month.';
comment on column ai.task_settings.auto_approve_micro is
  'Tasks that cost at most this are approved at once; 0: none is.';
comment on column ai.task_settings.monthly_budget_micro is 'For all tasks of a calendar month (UTC); null: no bound.';
create trigger touch_task_settings before update on ai.task_settings
  for each row execute function private.touch_updated_at();
alter table ai.task_settings enable row level security;
revoke all on table ai.task_settings from public, anon, authenticated, service_role;
grant select on table ai.task_settings to authenticated;
grant select, insert, update, delete on table ai.task_settings to service_role;
create policy "Members see the limits of their workspaces' tasks" on ai.task_settings
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create function private.set_task_limits(workspace_id uuid, auto_approve_micro bigint, monthly_budget_micro bigint,
  allowed_types text[]) returns ai.task_settings
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_settings ai.task_settings;
  v_wrong text := case
    when auto_approve_micro is null or auto_approve_micro not between 0 and 1000000000
      then 'auto_approve_micro: must be 0 to 1,000,000,000'
    when monthly_budget_micro not between 0 and 1000000000000
      then 'monthly_budget_micro: must be 0 to 1,000,000,000,000'
    when allowed_types is null or not allowed_types <@ '{creations,refresh_knowledge,analyze_brand}'::text[]
      then 'allowed_types: must be of creations, refresh_knowledge and analyze_brand' end;
begin
  perform private.require_role(set_task_limits.workspace_id, 'admin');
  if v_wrong is not null then
    perform private.fail('invalid_argument', v_wrong || '.',
      jsonb_build_object('argument', split_part(v_wrong, ':', 1)));
  end if;
  insert into ai.task_settings as s (workspace_id, auto_approve_micro, monthly_budget_micro, allowed_types)
  values (set_task_limits.workspace_id, set_task_limits.auto_approve_micro, set_task_limits.monthly_budget_micro,
    set_task_limits.allowed_types)
  on conflict (workspace_id) do update set auto_approve_micro = excluded.auto_approve_micro,
    monthly_budget_micro = excluded.monthly_budget_micro, allowed_types = excluded.allowed_types
  returning * into v_settings;
  return v_settings;
end $$;
comment on function private.set_task_limits is 'Core of ai.set_task_limits.';
revoke all on function private.set_task_limits from public, anon, authenticated, service_role;
grant execute on function private.set_task_limits to authenticated, service_role;

create function ai.set_task_limits(workspace_id uuid, auto_approve_micro bigint,
  monthly_budget_micro bigint default null,
  allowed_types text[] default '{creations,refresh_knowledge,analyze_brand}') returns ai.task_settings
language sql
set search_path = ''
as $$
  select private.set_task_limits(set_task_limits.workspace_id, set_task_limits.auto_approve_micro,
    set_task_limits.monthly_budget_micro, set_task_limits.allowed_types)
$$;
comment on function ai.set_task_limits is
  'Says up to what price (micro-units) tasks begin by themselves, and what they may cost in a month; admins may.';
revoke all on function ai.set_task_limits from public, anon, authenticated, service_role;
grant execute on function ai.set_task_limits to authenticated, service_role;

create table ai.autonomous_tasks (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  task_type text not null,
  title text not null,
  status text not null default 'proposed',
  config jsonb not null default '{}',
  result jsonb,
  items_total integer not null default 0,
  items_processed integer not null default 0,
  items_succeeded integer not null default 0,
  items_failed integer not null default 0,
  estimated_cost_micro bigint not null,
  cost_micro bigint not null default 0,
  approval text,
  decided_by uuid,
  decided_at timestamptz,
  decision_note text,
  session_id uuid,
  proposed_by uuid,
  key text,
  job_id bigint,
  scheduled_at timestamptz,
  started_at timestamptz,
  completed_at timestamptz,
  error_message text,
  error_details jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint autonomous_tasks_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint autonomous_tasks_session_id_fkey foreign key (session_id)
    references ai.conversation_sessions (id) on delete set null,
  constraint autonomous_tasks_proposed_by_fkey foreign key (proposed_by)
    references identity.profiles (id) on delete set null,
  constraint autonomous_tasks_decided_by_fkey foreign key (decided_by)
    references identity.profiles (id) on delete set null,
  constraint autonomous_tasks_key unique (workspace_id, key),
  constraint autonomous_tasks_key_length check (length(key) between 1 and 255),
  constraint autonomous_tasks_type_known check (task_type in ('creations', 'refresh_knowledge', 'analyze_brand')),
  constraint autonomous_tasks_title_length check (length(title) between 1 and 300),
  constraint autonomous_tasks_status_known
    check (status in ('proposed', 'approved', 'running', 'completed', 'failed', 'rejected', 'cancelled')),
  constraint autonomous_tasks_approval_known check (approval in ('automatic', 'person')),
  constraint autonomous_tasks_approved_before_work
    check (status not in ('approved', 'running', 'completed', 'failed') or (approval is not null
      and decided_at is not null)),
  constraint autonomous_tasks_ended_has_time
    check ((status in ('completed', 'failed', 'rejected', 'cancelled')) = (completed_at is not null)),
  constraint autonomous_tasks_failed_says_why check ((status = 'failed') = (error_message is not null)),
  constraint autonomous_tasks_counts check (items_succeeded >= 0 and items_failed >= 0
    and items_processed = items_succeeded + items_failed and items_total >= items_processed
    and estimated_cost_micro >= 0 and cost_micro >= 0),
  constraint autonomous_tasks_json_shapes
    check (jsonb_typeof(config) = 'object' and jsonb_typeof(error_details) = 'array')
);
comment on table ai.autonomous_tasks is
  'Tasks that run by themselves once approved: what they do, what they may cost (micro-units), what came of them.';
comment on column ai.autonomous_tasks.estimated_cost_micro is
  'What was approved: the task asks for nothing that would cost more.';
comment on column ai.autonomous_tasks.approval is
  'automatic: within the limits of ai.task_settings; person: decided_by.';
comment on column ai.autonomous_tasks.config is
  'creations: {items: [{creation_type, garment_id, model_id, input_path, prompt, quality, num_outputs, ...}]}; '
  'refresh_knowledge: {source_id}.';
create index autonomous_tasks_workspace_id on ai.autonomous_tasks (workspace_id, created_at desc, id);
create index autonomous_tasks_open on ai.autonomous_tasks (workspace_id, status)
  where status in ('proposed', 'approved', 'running');
create index autonomous_tasks_month on ai.autonomous_tasks (workspace_id, decided_at) where approval is not null;
create index autonomous_tasks_session_id on ai.autonomous_tasks (session_id) where session_id is not null;
create index autonomous_tasks_proposed_by on ai.autonomous_tasks (proposed_by);
create index autonomous_tasks_decided_by on ai.autonomous_tasks (decided_by);
create trigger touch_autonomous_tasks before update on ai.autonomous_tasks
  for each row execute function private.touch_updated_at();
alter table ai.autonomous_tasks enable row level security;
revoke all on table ai.autonomous_tasks from public, anon, authenticated, service_role;
grant select on table ai.autonomous_tasks to authenticated;
grant select, insert, update, delete on table ai.autonomous_tasks to service_role;
create policy "Members see the tasks of their workspaces" on ai.autonomous_tasks
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
