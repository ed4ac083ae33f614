-- Runs of the tests. Staff ask for one, or a push does; a runner outside takes the oldest, tells what each test did,
-- and ends it (ops.finish_qa_run).

-- Whom a run is about: the specs that it names, or all active ones of the app that have one of its tags.
create function ops._qa_specs_of(run ops.qa_test_runs) returns setof ops.qa_test_specs
language sql stable
set search_path = ''
as $$
  select s.* from ops.qa_test_specs s
  where s.status = 'active' and s.deleted_at is null and case when cardinality(run.spec_ids) > 0
    then s.id = any (run.spec_ids)
    else s.target_app = coalesce(run.target_app, s.target_app)
      and (cardinality(run.tags) = 0 or s.tags && run.tags) end
$$;
comment on function ops._qa_specs_of(ops.qa_test_runs) is 'The active tests that a run is about.';
revoke all on function ops._qa_specs_of from public, anon, authenticated, service_role;
grant execute on function ops._qa_specs_of to service_role;

-- Errors: not_staff, no_qa_specs, invalid_argument.
create function private.request_qa_run(name text, environment text, target_app text, spec_ids uuid[], tags text[],
  base_url text) returns ops.qa_test_runs
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_run ops.qa_test_runs;
begin
  perform private.require_staff();
  if coalesce(environment, '') not in ('development', 'staging', 'production') then
    perform private.fail('invalid_argument', 'environment must be development, staging or production.',
      '{"argument": "environment"}');
  end if;
  insert into ops.qa_test_runs as r (name, environment, target_app, spec_ids, tags, base_url, triggered_by,
    trigger_type)
  values (request_qa_run.name, request_qa_run.environment, request_qa_run.target_app,
    coalesce(request_qa_run.spec_ids, '{}'), coalesce(request_qa_run.tags, '{}'), request_qa_run.base_url, auth.uid(),
    'manual')
  returning r.* into v_run;
  update ops.qa_test_runs r set total_specs = (select count(*) from ops._qa_specs_of(v_run))
  where r.id = v_run.id returning r.* into v_run;
  if v_run.total_specs = 0 then
    perform private.fail('no_qa_specs', 'No active test matches.');
  end if;
  return v_run;
end $$;
comment on function private.request_qa_run(text, text, text, uuid[], text[], text) is 'Core of staff.request_qa_run.';
revoke all on function private.request_qa_run from public, anon, authenticated, service_role;
grant execute on function private.request_qa_run to authenticated;
create function staff.request_qa_run(name text default null, environment text default 'staging',
  target_app text default null, spec_ids uuid[] default '{}', tags text[] default '{}', base_url text default null)
returns setof staff.qa_runs
language sql
set search_path = ''
as $$
  select * from private.request_qa_run(request_qa_run.name, request_qa_run.environment, request_qa_run.target_app,
    request_qa_run.spec_ids, request_qa_run.tags, request_qa_run.base_url)
$$;
comment on function staff.request_qa_run(text, text, text, uuid[], text[], text) is
  'Asks for a run of the tests named, or of all active ones that match.';
revoke all on function staff.request_qa_run from public, anon, authenticated, service_role;
grant execute on function staff.request_qa_run to authenticated;

-- One run a commit of a repository, of the specs that wait for its pushes; null: none does.
create function ops.request_qa_run_for_push(repo text, sha text, branch text default null, message text default null,
  workflow_id text default null) returns ops.qa_test_runs
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ids uuid[] := (select array_agg(s.id order by s.push_priority desc, s.spec_number) from ops.qa_test_specs s
    where s.deleted_at is null and s.status = 'active' and s.run_on_push and s.trigger_on_repos @> array[repo]);
  v_run ops.qa_test_runs;
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('qa:' || repo || ':' || sha, 0));
  select r.* into v_run from ops.qa_test_runs r
  where r.trigger_type = 'push' and r.trigger_ref = repo || '@' || sha;
  if v_run.id is not null or v_ids is null then
    return v_run;
  end if;
  insert into ops.qa_test_runs as r (name, spec_ids, total_specs, trigger_type, trigger_ref, git_repo, git_branch,
    git_commit, git_push_sha, git_message, git_workflow_id)
  values (format('Push to %s', repo), v_ids, cardinality(v_ids), 'push', repo || '@' || sha, repo, branch, sha, sha,
    message, workflow_id)
  returning r.* into v_run;
  return v_run;
end $$;
comment on function ops.request_qa_run_for_push(text, text, text, text, text) is
  'Asks for the run that a push to a repository is followed by, once a commit.';
revoke all on function ops.request_qa_run_for_push from public, anon, authenticated, service_role;
grant execute on function ops.request_qa_run_for_push to service_role;

-- For the runner: the oldest run that waits, running now, with a pending result for each of its tests; null: none.
create function ops.begin_qa_run() returns ops.qa_test_runs
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_run ops.qa_test_runs;
begin
  update ops.qa_test_runs r set status = 'running', started_at = private.now()
  where r.id = (select w.id from ops.qa_test_runs w where w.status = 'queued'
    order by w.created_at, w.run_number limit 1 for update skip locked)
  returning r.* into v_run;
  if v_run.id is not null then
    insert into ops.qa_test_results (run_id, spec_id, status, total_attempts)
    select v_run.id, s.id, 'pending', s.retries + 1 from ops._qa_specs_of(v_run) s;
    update ops.qa_test_runs r
    set total_specs = (select count(*) from ops.qa_test_results t where t.run_id = v_run.id)
    where r.id = v_run.id returning r.* into v_run;
  end if;
  return v_run;
end $$;
comment on function ops.begin_qa_run() is 'Gives the runner the oldest run that waits; null when none does.';
revoke all on function ops.begin_qa_run from public, anon, authenticated, service_role;
grant execute on function ops.begin_qa_run to service_role;

-- result: the fields of ops.qa_test_results that the runner knows, status among them. Told twice, the last counts.
-- Errors: unknown_qa_run, qa_run_not_running, unknown_qa_spec.
create function ops.record_qa_result(run_id uuid, spec_id uuid, attempt_number integer, result jsonb)
returns ops.qa_test_results
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_run ops.qa_test_runs;
  v_retries integer := (select s.retries from ops.qa_test_specs s where s.id = record_qa_result.spec_id);
  v_new ops.qa_test_results := jsonb_populate_record(null::ops.qa_test_results, result);
begin
  select r.* into v_run from ops.qa_test_runs r where r.id = record_qa_result.run_id for update;
  if v_run.id is null then
    perform private.fail('unknown_qa_run', 'There is no such test run.', jsonb_build_object('run_id', run_id));
  elsif v_run.status <> 'running' then
    perform private.fail('qa_run_not_running', 'The test run is ' || v_run.status || '.',
      jsonb_build_object('run_id', run_id, 'status', v_run.status));
  elsif v_retries is null then
    perform private.fail('unknown_qa_spec', 'There is no such test.', jsonb_build_object('id', spec_id));
  end if;
  insert into ops.qa_test_results as t (run_id, spec_id, attempt_number, total_attempts, status, started_at,
    completed_at, error_message, error_stack, error_screenshot_url, failure_step, was_healed, heal_reason,
    original_code, healed_code, healer_confidence, visual_diff_url, visual_diff_percent, visual_passed, screenshot_url,
    video_url, trace_url, console_logs, network_logs, metadata)
  values (v_run.id, record_qa_result.spec_id, record_qa_result.attempt_number,
    greatest(v_retries + 1, record_qa_result.attempt_number), v_new.status,
    case when v_new.status not in ('pending') then coalesce(v_new.started_at, private.now()) end,
    case when v_new.status not in ('pending', 'running') then coalesce(v_new.completed_at, private.now()) end,
    v_new.error_message, v_new.error_stack, v_new.error_screenshot_url, v_new.failure_step,
    v_new.healed_code is not null, v_new.heal_reason, v_new.original_code, v_new.healed_code, v_new.healer_confidence,
    v_new.visual_diff_url, v_new.visual_diff_percent, v_new.visual_passed, v_new.screenshot_url, v_new.video_url,
    v_new.trace_url, v_new.console_logs, v_new.network_logs, coalesce(v_new.metadata, '{}'))
  on conflict on constraint qa_test_results_attempt_key do update
  set status = excluded.status, started_at = coalesce(t.started_at, excluded.started_at),
    completed_at = excluded.completed_at, error_message = excluded.error_message,
    error_stack = excluded.error_stack,
    error_screenshot_url = excluded.error_screenshot_url, failure_step = excluded.failure_step,
    was_healed = excluded.was_healed, heal_reason = excluded.heal_reason, original_code = excluded.original_code,
    healed_code = excluded.healed_code, healer_confidence = excluded.healer_confidence,
    visual_diff_url = excluded.visual_diff_url, visual_diff_percent = excluded.visual_diff_percent,
    visual_passed = excluded.visual_passed, screenshot_url = excluded.screenshot_url, video_url = excluded.video_url,
    trace_url = excluded.trace_url, console_logs = excluded.console_logs, network_logs = excluded.network_logs,
    metadata = excluded.metadata
  returning t.* into v_new;
  return v_new;
end $$;
comment on function ops.record_qa_result(uuid, uuid, integer, jsonb) is
  'Keeps what one attempt of a test did in a run.';
revoke all on function ops.record_qa_result from public, anon, authenticated, service_role;
grant execute on function ops.record_qa_result to service_role;
