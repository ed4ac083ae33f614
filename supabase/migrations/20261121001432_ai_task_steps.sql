-- How a task is done: its job calls ai.step_task until there is nothing left to do or to wait for. Each step is one
-- transaction and may be repeated.

-- Asks for the next item of a task of creations, unless it would cost more than was approved. Gives what became of it.
create function private.request_task_creation(task ai.autonomous_tasks, item jsonb, place integer) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_request record;
  v_spent bigint;
  v_price bigint;
  v_creation studio.creations;
begin
  select * into v_request from jsonb_to_record(item) as i (creation_type text, garment_id uuid, model_id uuid,
    input_path text, prompt text, quality text, category text, num_outputs integer, settings jsonb, project_id uuid);
  select coalesce(sum(e.amount_micro), 0) into v_spent
  from jsonb_array_elements(coalesce(task.result -> 'creations', '[]')) r
  join studio.creations c on c.id = (r ->> 'creation_id')::uuid
  join billing.usage_events e on e.id = c.usage_event_id and e.status <> 'released';
  select e.amount_micro into v_price from studio.estimate_creation(task.workspace_id, v_request.creation_type,
    coalesce(v_request.quality, 'balanced'), coalesce(v_request.num_outputs, 1), coalesce(v_request.settings, '{}')) e;
  if v_spent + v_price > task.estimated_cost_micro then
    return jsonb_build_object('item', place, 'error', 'task_budget_exceeded: Its price has risen since the approval.');
  end if;
  v_creation := studio.request_creation(workspace_id => task.workspace_id, creation_type => v_request.creation_type,
    garment_id => v_request.garment_id, model_id => v_request.model_id, input_path => v_request.input_path,
    prompt => v_request.prompt, quality => coalesce(v_request.quality, 'balanced'),
    category => coalesce(v_request.category, 'upper_body'), num_outputs => coalesce(v_request.num_outputs, 1),
    settings => coalesce(v_request.settings, '{}'), project_id => v_request.project_id,
    key => format('task:%s:%s', task.id, place));
  return jsonb_build_object('item', place, 'creation_id', v_creation.id);
exception when others then
  -- named errors are of this item; anything else is a fault that the job reports
  if sqlstate !~ '^(PT4|22P02|22023)' then
    raise;
  end if;
  return jsonb_build_object('item', place, 'error', case when sqlstate ~ '^PT' then sqlerrm
    else 'invalid_argument: The item is not as a creation is asked for.' end);
end $$;
comment on function private.request_task_creation is 'Asks for one creation of a task, within what was approved.';
revoke all on function private.request_task_creation from public, anon, authenticated, service_role;

create function private.step_creations(task ai.autonomous_tasks) returns ai.autonomous_tasks
language plpgsql
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks := task;
  v_done jsonb := coalesce(task.result -> 'creations', '[]');
  v_succeeded integer;
  v_failed integer;
begin
  for v_place in jsonb_array_length(v_done) .. least(jsonb_array_length(v_done) + 9, task.items_total - 1) loop
    v_task.result := jsonb_build_object('creations', v_done);
    v_done := v_done || private.request_task_creation(v_task, task.config #> array['items', v_place::text], v_place);
  end loop;
  select count(*) filter (where c.status = 'completed'),
    count(*) filter (where r ? 'error' or c.id is null or c.status in ('failed', 'cancelled')),
    coalesce(sum(c.cost_micro), 0)
  into v_succeeded, v_failed, v_task.cost_micro
  from jsonb_array_elements(v_done) r left join studio.creations c on c.id = (r ->> 'creation_id')::uuid;
  update ai.autonomous_tasks t
  set result = jsonb_build_object('creations', v_done), items_succeeded = v_succeeded, items_failed = v_failed,
    items_processed = v_succeeded + v_failed, cost_micro = v_task.cost_micro
  where t.id = task.id returning * into v_task;
  return v_task;
end $$;
comment on function private.step_creations is
  'Asks for up to ten more creations of a task and counts those that ended.';
revoke all on function private.step_creations from public, anon, authenticated, service_role;

create function private.step_refresh(task ai.autonomous_tasks) returns ai.autonomous_tasks
language plpgsql
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks;
  v_ingestion ai.knowledge_ingestion_jobs;
begin
  if task.result is null then
    if not exists (select from ai.knowledge_sources s where s.id = (task.config ->> 'source_id')::uuid) then
      perform private.fail('unknown_knowledge_source', 'The knowledge source is gone.');
    end if;
    v_ingestion := private.start_ingestion((task.config ->> 'source_id')::uuid, 'requested');
    -- one that somebody else has asked for goes on as they did
    update ai.knowledge_ingestion_jobs i set max_cost_micro = task.estimated_cost_micro
    where i.id = v_ingestion.id and i.created_at = now() returning * into v_ingestion;
    if v_ingestion.id is null then
      select * into v_ingestion from ai.knowledge_ingestion_jobs i
      where i.source_id = (task.config ->> 'source_id')::uuid and i.status in ('pending', 'running');
    end if;
  else
    select * into v_ingestion from ai.knowledge_ingestion_jobs i where i.id = (task.result ->> 'ingestion_id')::uuid;
  end if;
  update ai.autonomous_tasks t
  set result = jsonb_build_object('ingestion_id', v_ingestion.id, 'chunks_created', v_ingestion.chunks_created,
      'status', coalesce(v_ingestion.status, 'cancelled')),
    cost_micro = coalesce(v_ingestion.cost_micro, 0),
    items_succeeded = (coalesce(v_ingestion.status, '') = 'completed')::integer,
    items_failed = (coalesce(v_ingestion.status, 'cancelled') in ('failed', 'cancelled'))::integer,
    items_processed = (coalesce(v_ingestion.status, 'cancelled') in ('completed', 'failed', 'cancelled'))::integer
  where t.id = task.id returning * into v_task;
  return v_task;
end $$;
comment on function private.step_refresh is 'Has the source of a task read, and notes how that goes.';
revoke all on function private.step_refresh from public, anon, authenticated, service_role;

create function private.step_analysis(task ai.autonomous_tasks) returns ai.autonomous_tasks
language plpgsql
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks;
  v_brand ai.brand_intelligence;
begin
  if task.result is null then
    if (private.estimate_task(task.workspace_id, task.task_type, task.config)).amount_micro
      > task.estimated_cost_micro then
      perform private.fail('task_budget_exceeded', 'Its price has risen since the approval.',
        jsonb_build_object('estimated_cost_micro', task.estimated_cost_micro));
    end if;
    v_brand := private.analyze_voice(task.workspace_id);
  else
    select * into v_brand from ai.brand_intelligence b where b.workspace_id = task.workspace_id;
  end if;
  update ai.autonomous_tasks t
  set result = jsonb_build_object('status', v_brand.analysis_status, 'voice', v_brand.voice_attributes,
      'spent_before', coalesce((task.result ->> 'spent_before')::bigint, v_brand.cost_micro)),
    cost_micro = v_brand.cost_micro - coalesce((task.result ->> 'spent_before')::bigint, v_brand.cost_micro),
    items_succeeded = (v_brand.analysis_status = 'ready')::integer,
    items_failed = (v_brand.analysis_status in ('failed', 'none'))::integer,
    items_processed = (v_brand.analysis_status <> 'pending')::integer
  where t.id = task.id returning * into v_task;
  return v_task;
end $$;
comment on function private.step_analysis is 'Has the brand of a task analysed, and notes how that goes.';
revoke all on function private.step_analysis from public, anon, authenticated, service_role;

create function ai.step_task(task_id uuid) returns ai.autonomous_tasks
language plpgsql security definer
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks;
begin
  -- what the step charges before the task, as whoever ends the task's job does
  perform private.lock_wallets(array(select t.workspace_id from ai.autonomous_tasks t where t.id = task_id));
  select * into v_task from ai.autonomous_tasks t where t.id = task_id for no key update;
  if v_task.status is null or v_task.status not in ('approved', 'running') then
    return v_task;
  end if;
  update ai.autonomous_tasks t set status = 'running', started_at = coalesce(t.started_at, private.now())
  where t.id = v_task.id returning * into v_task;
  return case v_task.task_type when 'creations' then private.step_creations(v_task)
    when 'refresh_knowledge' then private.step_refresh(v_task) else private.step_analysis(v_task) end;
end $$;
comment on function ai.step_task(uuid) is
  'Does the next step of a task; it is through when all its items are processed.';
revoke all on function ai.step_task from public, anon, authenticated, service_role;
grant execute on function ai.step_task to service_role;

create function ai.on_task_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_task ai.autonomous_tasks;
begin
  if event = 'progressed' then
    return;
  end if;
  select * into v_task from ai.autonomous_tasks t where t.id = (job.payload ->> 'task_id')::uuid;
  if event = 'replayed' then
    update ai.autonomous_tasks t set status = 'running', completed_at = null, error_message = null
    where t.id = v_task.id;
    return;
  end if;
  update ai.autonomous_tasks t
  set status = case when event = 'cancelled' then 'cancelled'
      when event = 'dead' or (t.items_succeeded = 0 and t.items_failed > 0) then 'failed' else 'completed' end,
    completed_at = private.now(), error_details = private.task_errors(t),
    error_message = case when event = 'dead' then case when job.error ~ '^[a-z][a-z_]*: ' then job.error
        else 'internal_error: The work failed for a reason on our side.' end
      when event = 'completed' and t.items_succeeded = 0 and t.items_failed > 0
        then coalesce(private.task_errors(t) -> 0 ->> 'error', 'task_failed: Nothing of it could be done.') end
  where t.id = v_task.id returning * into v_task;
  if v_task.proposed_by is not null and event <> 'cancelled' then
    perform private.notify_user(v_task.proposed_by, v_task.workspace_id,
      case v_task.status when 'completed' then 'success' else 'error' end,
      case v_task.status when 'completed' then 'A task is done' else 'A task failed' end, v_task.title,
      '/assistant/tasks/' || v_task.id, jsonb_build_object('task_id', v_task.id),
      format('task:%s:%s', v_task.id, v_task.status));
  end if;
end $$;
comment on function ai.on_task_job(ops.jobs, text) is 'Closes a task as its job ends, and tells who proposed it.';
revoke all on function ai.on_task_job from public, anon, authenticated, service_role;

create function private.task_errors(task ai.autonomous_tasks) returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_agg(jsonb_build_object('item', r -> 'item', 'error', coalesce(r ->> 'error', c.error_message,
    'cancelled: The creation was cancelled.')) order by r -> 'item')
  from jsonb_array_elements(coalesce(task.result -> 'creations', '[]')) r
  left join studio.creations c on c.id = (r ->> 'creation_id')::uuid
  where r ? 'error' or c.status in ('failed', 'cancelled')
$$;
comment on function private.task_errors(ai.autonomous_tasks) is
  'Which items of a task failed, and why; null: none did.';
revoke all on function private.task_errors from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('ai.task', 'Does an autonomous task step by step.', 'ai.on_task_job', interval '2 days');
