-- The room of Backlot's own staff: what is kept where no client comes (ops), shown to those whose app_metadata says
-- staff. Its views read through functions that give nobody else a row. First in it: the end-to-end tests of the apps.

create schema if not exists staff;
comment on schema staff is 'Views and functions for Backlot''s own staff, over tables that no client reaches.';
revoke all on schema staff from public;
grant usage on schema staff to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('not_staff', 'PT403', 'Ask an administrator of Backlot to make the account one of staff.'),
  ('unknown_qa_spec', 'PT404', 'Check the id of the test.'),
  ('no_qa_specs', 'PT409', 'Activate a test that matches, or name other tests.');

create function private.require_staff() returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if not private.is_staff() then
    perform private.fail('not_staff', 'This is for Backlot''s own staff.');
  end if;
end $$;
comment on function private.require_staff() is 'Refuses callers who are not of staff.';
revoke all on function private.require_staff from public, anon, authenticated, service_role;

create function private.staff_qa_specs() returns setof ops.qa_test_specs
language sql stable security definer
set search_path = ''
as $$ select * from ops.qa_test_specs s where private.is_staff() and s.deleted_at is null $$;
comment on function private.staff_qa_specs() is 'Core of staff.qa_specs.';
create function private.staff_qa_runs() returns setof ops.qa_test_runs
language sql stable security definer
set search_path = ''
as $$ select * from ops.qa_test_runs where private.is_staff() $$;
comment on function private.staff_qa_runs() is 'Core of staff.qa_runs.';
create function private.staff_qa_results() returns setof ops.qa_test_results
language sql stable security definer
set search_path = ''
as $$ select * from ops.qa_test_results where private.is_staff() $$;
comment on function private.staff_qa_results() is 'Core of staff.qa_results.';
revoke all on function private.staff_qa_specs, private.staff_qa_runs, private.staff_qa_results
  from public, anon, authenticated, service_role;
grant execute on function private.staff_qa_specs, private.staff_qa_runs, private.staff_qa_results to authenticated;

create view staff.qa_specs with (security_invoker = true) as select * from private.staff_qa_specs();
comment on view staff.qa_specs is 'Tests of the apps in plain words, with the code made from them and how they fare.';
revoke all on table staff.qa_specs from public, anon, authenticated, service_role;
grant select on table staff.qa_specs to authenticated;
create view staff.qa_runs with (security_invoker = true) as select * from private.staff_qa_runs();
comment on view staff.qa_runs is 'Runs of the tests: what started them, on which environment, how they ended.';
revoke all on table staff.qa_runs from public, anon, authenticated, service_role;
grant select on table staff.qa_runs to authenticated;
create view staff.qa_results with (security_invoker = true) as select * from private.staff_qa_results();
comment on view staff.qa_results is 'What each test did in each run, with its evidence.';
revoke all on table staff.qa_results from public, anon, authenticated, service_role;
grant select on table staff.qa_results to authenticated;

-- What a person writes of a test; what runs and healing make of it is not theirs to write. Generated code keeps its
-- time unless it changes. Errors: not_staff, unknown_qa_spec, invalid_argument.
create function private.save_qa_spec(spec jsonb, id uuid) returns ops.qa_test_specs
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_old ops.qa_test_specs;
  v_new ops.qa_test_specs;
begin
  perform private.require_staff();
  if save_qa_spec.id is not null then
    select * into v_old from ops.qa_test_specs s where s.id = save_qa_spec.id and s.deleted_at is null for update;
    if v_old.id is null then
      perform private.fail('unknown_qa_spec', 'There is no such test.', jsonb_build_object('id', save_qa_spec.id));
    end if;
  end if;
  begin
    v_new := jsonb_populate_record(v_old, spec);
    insert into ops.qa_test_specs as s (id, name, description, target_app, target_url, nl_spec, generated_code,
      generated_at, generated_by, generation_model, spec_file_path, test_file_path, status, tags, category, priority,
      timeout_ms, retries, browser, viewport_width, viewport_height, depends_on, setup_spec_id, visual_baseline_url,
      visual_threshold, run_on_push, trigger_on_repos, push_priority, push_timeout_ms, created_by)
    values (coalesce(v_old.id, gen_random_uuid()), v_new.name, v_new.description,
      coalesce(v_new.target_app, 'dash.selify.ai'), v_new.target_url, v_new.nl_spec, v_new.generated_code,
      case when v_new.generated_code is not distinct from v_old.generated_code then v_old.generated_at
        when v_new.generated_code is not null then private.now() end,
      v_new.generated_by, v_new.generation_model, v_new.spec_file_path, v_new.test_file_path,
      coalesce(v_new.status, 'draft'), coalesce(v_new.tags, '{}'), v_new.category, coalesce(v_new.priority, 50),
      coalesce(v_new.timeout_ms, 30000), coalesce(v_new.retries, 2), coalesce(v_new.browser, 'chromium'),
      coalesce(v_new.viewport_width, 1280), coalesce(v_new.viewport_height, 720), coalesce(v_new.depends_on, '{}'),
      v_new.setup_spec_id, v_new.visual_baseline_url, coalesce(v_new.visual_threshold, 0.01),
      coalesce(v_new.run_on_push, false), coalesce(v_new.trigger_on_repos, '{}'), coalesce(v_new.push_priority, 100),
      coalesce(v_new.push_timeout_ms, 60000), auth.uid())
    on conflict on constraint qa_test_specs_pkey do update
    set name = excluded.name, description = excluded.description, target_app = excluded.target_app,
      target_url = excluded.target_url, nl_spec = excluded.nl_spec, generated_code = excluded.generated_code,
      generated_at = excluded.generated_at, generated_by = excluded.generated_by,
      generation_model = excluded.generation_model, spec_file_path = excluded.spec_file_path,
      test_file_path = excluded.test_file_path, status = excluded.status, tags = excluded.tags,
      category = excluded.category, priority = excluded.priority, timeout_ms = excluded.timeout_ms,
      retries = excluded.retries, browser = excluded.browser, viewport_width = excluded.viewport_width,
      viewport_height = excluded.viewport_height, depends_on = excluded.depends_on,
      setup_spec_id = excluded.setup_spec_id, visual_baseline_url = excluded.visual_baseline_url,
      visual_threshold = excluded.visual_threshold, run_on_push = excluded.run_on_push,
      trigger_on_repos = excluded.trigger_on_repos, push_priority = excluded.push_priority,
      push_timeout_ms = excluded.push_timeout_ms
    returning s.* into v_new;
  exception when check_violation or not_null_violation or foreign_key_violation or data_exception then
    perform private.fail('invalid_argument', 'A field of the test is missing or not of its kind.',
      '{"argument": "spec"}');
  end;
  return v_new;
end $$;
comment on function private.save_qa_spec(jsonb, uuid) is 'Core of staff.save_qa_spec.';
revoke all on function private.save_qa_spec from public, anon, authenticated, service_role;
grant execute on function private.save_qa_spec to authenticated;
create function staff.save_qa_spec(spec jsonb, id uuid default null) returns setof staff.qa_specs
language sql
set search_path = ''
as $$ select * from private.save_qa_spec(save_qa_spec.spec, save_qa_spec.id) $$;
comment on function staff.save_qa_spec(jsonb, uuid) is
  'Adds a test of the apps, {name, nl_spec, target_app, status, ...}, or changes one.';
revoke all on function staff.save_qa_spec from public, anon, authenticated, service_role;
grant execute on function staff.save_qa_spec to authenticated;

-- Errors: not_staff, unknown_qa_spec.
create function private.delete_qa_spec(id uuid) returns void
language plpgsql security definer
set search_path = ''
as $$
begin
  perform private.require_staff();
  update ops.qa_test_specs s set deleted_at = private.now(), status = 'archived'
  where s.id = delete_qa_spec.id and s.deleted_at is null;
  if not found then
    perform private.fail('unknown_qa_spec', 'There is no such test.', jsonb_build_object('id', delete_qa_spec.id));
  end if;
end $$;
comment on function private.delete_qa_spec(uuid) is 'Core of staff.delete_qa_spec.';
revoke all on function private.delete_qa_spec from public, anon, authenticated, service_role;
grant execute on function private.delete_qa_spec to authenticated;
create function staff.delete_qa_spec(id uuid) returns void
language sql
set search_path = ''
as $$ select private.delete_qa_spec(delete_qa_spec.id) $$;
comment on function staff.delete_qa_spec(uuid) is 'Takes a test out of use; its results stay.';
revoke all on function staff.delete_qa_spec from public, anon, authenticated, service_role;
grant execute on function staff.delete_qa_spec to authenticated;
