-- Proposing tasks, deciding on them, and the month's budget that no decision exceeds.

-- What a task would cost now. Errors: invalid_argument, unknown_knowledge_source, and those of the creations.
create function private.estimate_task(workspace_id uuid, task_type text, config jsonb, out amount_micro bigint,
  out items integer)
language plpgsql stable
set search_path = ''
as $$
begin
  items := 1;
  case task_type
    when 'creations' then
      if jsonb_typeof(config -> 'items') is distinct from 'array'
        or jsonb_array_length(config -> 'items') not between 1 and 50 then
        perform private.fail('invalid_argument', 'config.items must be an array of 1 to 50 creations.',
          '{"argument": "config"}');
      end if;
      items := jsonb_array_length(config -> 'items');
      select sum(e.amount_micro) into amount_micro
      from jsonb_to_recordset(config -> 'items') as i (creation_type text, quality text, num_outputs integer,
        settings jsonb)
      cross join lateral studio.estimate_creation(estimate_task.workspace_id, i.creation_type,
        coalesce(i.quality, 'balanced'), coalesce(i.num_outputs, 1), coalesce(i.settings, '{}')) e;
    when 'refresh_knowledge' then
      select coalesce((billing._price('knowledge', greatest(sum(c.token_estimate), 1000) / 1000.0)).amount_micro, 0)
      into amount_micro
      from ai.knowledge_sources s left join ai.knowledge_chunks c on c.source_id = s.id
      where s.id = private.try_uuid(config ->> 'source_id') and s.workspace_id = estimate_task.workspace_id
      group by s.id;
      if amount_micro is null then
        perform private.fail('unknown_knowledge_source', 'There is no such knowledge source in this workspace.');
      end if;
    when 'analyze_brand' then
      amount_micro := (billing._price('assistant', private.turn_limit() / 4)).amount_micro;
    else
      perform private.fail('invalid_argument', 'task_type must be creations, refresh_knowledge or analyze_brand.',
        '{"argument": "task_type"}');
  end case;
end $$;
comment on function private.estimate_task is 'The price of a task and how many items it has; refuses what cannot be.';
revoke all on function private.estimate_task from public, anon, authenticated, service_role;

-- What a task that has ended costs: what it asked for goes on when it is cancelled, and counts with its hold till then.
-- A creation that has been deleted is found by the name of its charge.
create function private.task_spent(task ai.autonomous_tasks) returns bigint
language sql stable
set search_path = ''
as $$
  select greatest(task.cost_micro, case task.task_type
    when 'creations' then (
      select coalesce(sum(case e.status when 'held' then e.amount_micro else e.captured_micro end), 0)::bigint
      from jsonb_array_elements(coalesce(task.result -> 'creations', '[]')) r
      left join studio.creations c on c.id = (r ->> 'creation_id')::uuid
      join billing.usage_events e on e.workspace_id = task.workspace_id and (e.id = c.usage_event_id
        or (c.id is null and e.key = 'creation:' || (r ->> 'creation_id'))))
    when 'refresh_knowledge' then (
      select case when i.completed_at is null then greatest(i.cost_micro, i.max_cost_micro) else i.cost_micro end
      from ai.knowledge_ingestion_jobs i where i.id = (task.result ->> 'ingestion_id')::uuid)
    else (
      select case b.analysis_status when 'pending' then task.estimated_cost_micro end
      from ai.brand_intelligence b where b.workspace_id = task.workspace_id and task.status = 'cancelled'
        and task.result is not null) end)
$$;
comment on function private.task_spent(ai.autonomous_tasks) is
  'What a task has cost and what it set going may still cost, in micro-units.';
revoke all on function private.task_spent from public, anon, authenticated, service_role;

-- What is left of the month's budget; null: no bound. Locks the settings, so that approvals are one after the other.
create function private.task_budget_left(workspace_id uuid) returns bigint
language plpgsql
set search_path = ''
as $$
declare
  v_settings ai.task_settings;
begin
  insert into ai.task_settings (workspace_id) values (task_budget_left.workspace_id) on conflict do nothing;
  select * into v_settings from ai.task_settings s where s.workspace_id = task_budget_left.workspace_id
  for no key update;
  return v_settings.monthly_budget_micro - (
    select coalesce(sum(case when t.status in ('approved', 'running') then t.estimated_cost_micro
      else private.task_spent(t) end), 0)
    from ai.autonomous_tasks t
    where t.workspace_id = v_settings.workspace_id and t.approval is not null
      and t.decided_at >= date_trunc('month', private.now() at time zone 'UTC') at time zone 'UTC');
end $$;
comment on function private.task_budget_left(uuid) is
  'What tasks may still cost this month: open ones count with what was approved, ended ones with what they cost.';
revoke all on function private.task_budget_left from public, anon, authenticated, service_role;

create function private.start_task(task ai.autonomous_tasks, approval text, decided_by uuid)
returns ai.autonomous_tasks
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_task ai.autonomous_tasks;
begin
  update ai.autonomous_tasks t
  set status = 'approved', approval = start_task.approval, decided_by = start_task.decided_by,
    decided_at = private.now(),
    job_id = (select j.job_id from ops.enqueue_job('ai.task', jsonb_build_object('task_id', task.id),
      task.workspace_id, run_at => task.scheduled_at, key => 'task:' || task.id) j)
  where t.id = task.id returning * into v_task;
  return v_task;
end $$;
comment on function private.start_task is 'Approves a task and enqueues its job.';
revoke all on function private.start_task from public, anon, authenticated, service_role;

create function private.propose_task(workspace_id uuid, task_type text, title text, config jsonb,
  scheduled_at timestamptz, session_id uuid, key text) returns ai.autonomous_tasks
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_task ai.autonomous_tasks;
  v_estimate record;
  v_left bigint;
  v_settings ai.task_settings;
begin
  perform private.require_role(propose_task.workspace_id, 'member');
  if length(btrim(coalesce(propose_task.title, ''))) not between 1 and 300 then
    perform private.fail('invalid_argument', 'title must have 1 to 300 characters.', '{"argument": "title"}');
  end if;
  v_estimate := private.estimate_task(propose_task.workspace_id, propose_task.task_type, propose_task.config);
  perform private.correlate();
  insert into ai.autonomous_tasks (workspace_id, task_type, title, config, items_total, estimated_cost_micro,
    scheduled_at, session_id, proposed_by, key)
  select propose_task.workspace_id, propose_task.task_type, btrim(propose_task.title), propose_task.config,
    v_estimate.items, v_estimate.amount_micro, propose_task.scheduled_at,
    (select s.id from ai.conversation_sessions s
      where s.id = propose_task.session_id and s.workspace_id = propose_task.workspace_id), auth.uid(),
    propose_task.key
  on conflict on constraint autonomous_tasks_key do nothing
  returning * into v_task;
  if v_task.id is null then
    select * into v_task from ai.autonomous_tasks t
    where t.workspace_id = propose_task.workspace_id and t.key = propose_task.key;
    if (v_task.task_type, v_task.config) is distinct from (propose_task.task_type, propose_task.config) then
      perform private.fail('key_reused', 'This key has been used for a different task.',
        jsonb_build_object('key', key));
    end if;
    return v_task;
  end if;
  v_left := private.task_budget_left(v_task.workspace_id);
  select * into v_settings from ai.task_settings s where s.workspace_id = v_task.workspace_id;
  if v_task.estimated_cost_micro <= v_settings.auto_approve_micro and v_settings.auto_approve_micro > 0
    and v_task.task_type = any (v_settings.allowed_types) and coalesce(v_left >= v_task.estimated_cost_micro, true) then
    return private.start_task(v_task, 'automatic', null);
  end if;
  perform private.notify_user(m.user_id, v_task.workspace_id, 'info', 'A task waits for your approval', v_task.title,
    '/assistant/tasks/' || v_task.id, jsonb_build_object('task_id', v_task.id), 'task:' || v_task.id)
  from identity.workspace_members m
  where m.workspace_id = v_task.workspace_id and m.role in ('admin', 'owner') and not m.is_suspended
    and (m.expires_at is null or m.expires_at > private.now());
  return v_task;
end $$;
comment on function private.propose_task is 'Core of ai.propose_task.';
revoke all on function private.propose_task from public, anon, authenticated, service_role;
grant execute on function private.propose_task to authenticated, service_role;

-- Errors: unknown_workspace, role_too_low, invalid_argument, unknown_knowledge_source, key_reused.
create function ai.propose_task(workspace_id uuid, task_type text, title text, config jsonb default '{}',
  scheduled_at timestamptz default null, session_id uuid default null, key text default null)
returns ai.autonomous_tasks
language sql
set search_path = ''
as $$
  select private.propose_task(propose_task.workspace_id, propose_task.task_type, propose_task.title,
    propose_task.config, propose_task.scheduled_at, propose_task.session_id, propose_task.key)
$$;
comment on function ai.propose_task is
  'Proposes a task; within the limits of ai.task_settings it begins by itself, else an admin is asked.';
revoke all on function ai.propose_task from public, anon, authenticated, service_role;
grant execute on function ai.propose_task to authenticated, service_role;

create function private.task_of_caller(task_id uuid) returns ai.autonomous_tasks
language plpgsql
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks;
begin
  select * into v_task from ai.autonomous_tasks t where t.id = task_id;
  if v_task.id is null or not private.has_role(v_task.workspace_id, 'viewer') then
    perform private.fail('unknown_task', 'There is no such task among those of your workspaces.',
      jsonb_build_object('task_id', task_id));
  end if;
  return v_task;
end $$;
comment on function private.task_of_caller(uuid) is 'A task that the caller sees.';
revoke all on function private.task_of_caller from public, anon, authenticated, service_role;

create function private.decide_task(task_id uuid, approve boolean, note text) returns ai.autonomous_tasks
language plpgsql security definer
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks := private.task_of_caller(decide_task.task_id);
  v_left bigint;
begin
  perform private.require_role(v_task.workspace_id, 'admin');
  v_left := private.task_budget_left(v_task.workspace_id);
  select * into v_task from ai.autonomous_tasks t where t.id = v_task.id for no key update;
  if v_task.status <> 'proposed' then
    perform private.fail('task_not_open', format('This task is %s.', v_task.status),
      jsonb_build_object('status', v_task.status));
  elsif not approve then
    update ai.autonomous_tasks t set status = 'rejected', decided_by = auth.uid(), decided_at = private.now(),
      completed_at = private.now(), decision_note = left(note, 1000)
    where t.id = v_task.id returning * into v_task;
    return v_task;
  elsif v_left < v_task.estimated_cost_micro then
    perform private.fail('task_budget_exceeded', format('The task may cost %s micro-units and %s are left this month.',
      v_task.estimated_cost_micro, v_left),
      jsonb_build_object('estimated_cost_micro', v_task.estimated_cost_micro, 'left_micro', v_left));
  end if;
  perform private.correlate();
  return private.start_task(v_task, 'person', auth.uid());
end $$;
comment on function private.decide_task(uuid, boolean, text) is 'Core of ai.approve_task and ai.reject_task.';
revoke all on function private.decide_task from public, anon, authenticated, service_role;
grant execute on function private.decide_task to authenticated, service_role;

create function ai.approve_task(task_id uuid) returns ai.autonomous_tasks
language sql
set search_path = ''
as $$ select private.decide_task(approve_task.task_id, true, null) $$;
comment on function ai.approve_task(uuid) is 'Lets a proposed task begin, within the month''s budget; admins may.';
revoke all on function ai.approve_task from public, anon, authenticated, service_role;
grant execute on function ai.approve_task to authenticated, service_role;

create function ai.reject_task(task_id uuid, note text default null) returns ai.autonomous_tasks
language sql
set search_path = ''
as $$ select private.decide_task(reject_task.task_id, false, reject_task.note) $$;
comment on function ai.reject_task(uuid, text) is 'Refuses a proposed task; admins may.';
revoke all on function ai.reject_task from public, anon, authenticated, service_role;
grant execute on function ai.reject_task to authenticated, service_role;

create function private.cancel_task(task_id uuid) returns ai.autonomous_tasks
language plpgsql security definer
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks := private.task_of_caller(cancel_task.task_id);
begin
  perform private.require_role(v_task.workspace_id,
    case when v_task.proposed_by = auth.uid() then 'member' else 'editor' end);
  if v_task.status in ('approved', 'running') then
    perform ops.cancel_job(v_task.job_id);
  else
    update ai.autonomous_tasks t set status = 'cancelled', completed_at = private.now()
    where t.id = v_task.id and t.status = 'proposed';
  end if;
  select * into v_task from ai.autonomous_tasks t where t.id = v_task.id;
  if v_task.status <> 'cancelled' then
    perform private.fail('task_not_open', format('This task is %s.', v_task.status),
      jsonb_build_object('status', v_task.status));
  end if;
  return v_task;
end $$;
comment on function private.cancel_task(uuid) is 'Core of ai.cancel_task.';
revoke all on function private.cancel_task from public, anon, authenticated, service_role;
grant execute on function private.cancel_task to authenticated, service_role;

create function ai.cancel_task(task_id uuid) returns ai.autonomous_tasks
language sql
set search_path = ''
as $$ select private.cancel_task(cancel_task.task_id) $$;
comment on function ai.cancel_task(uuid) is
  'Ends a task before it is through; creations it has asked for already go on. Its proposer may, and editors.';
revoke all on function ai.cancel_task from public, anon, authenticated, service_role;
grant execute on function ai.cancel_task to authenticated, service_role;
