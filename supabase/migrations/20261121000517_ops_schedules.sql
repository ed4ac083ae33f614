-- Schedules: jobs that come by the calendar. A schedule is a cron expression in a time zone and the job it
-- enqueues; the clock's ops.tick() runs what is due, by pg_cron on the hosted platform and by the timer of the
-- local stack. Sweeps stay apart: they are SQL functions of the clock itself, run in its transaction at
-- intervals, never missed and never caught up, and need no worker to be alive; a schedule makes a job.

create table ops.schedules (
  name text primary key,
  expression text not null,
  timezone text not null default 'UTC',
  kind text not null,
  payload jsonb not null default '{}',
  workspace_id uuid,
  queue text not null default 'default',
  priority integer not null default 0,
  max_attempts integer not null default 5,
  catch_up text not null default 'once',
  most_caught_up integer not null default 100,
  is_enabled boolean not null default true,
  next_run_at timestamptz not null,
  retry_at timestamptz,
  last_run_at timestamptz,
  last_job_id bigint,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint schedules_kind_fkey foreign key (kind) references ops.job_kinds (kind),
  constraint schedules_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint schedules_name_length check (length(name) between 1 and 200),
  constraint schedules_payload_is_object check (jsonb_typeof(payload) = 'object'),
  constraint schedules_priority_in_range check (priority between -32768 and 32767),
  constraint schedules_attempts_in_range check (max_attempts between 1 and 100),
  constraint schedules_catch_up_known check (catch_up in ('skip', 'once', 'all')),
  constraint schedules_most_caught_up_in_range check (most_caught_up between 1 and 1000),
  constraint schedules_job_has_time check ((last_job_id is null) = (last_run_at is null)),
  constraint schedules_retry_has_error check (retry_at is null or last_error is not null)
);
comment on table ops.schedules is
  'Jobs that come by the calendar: a cron expression in a time zone and what it enqueues.';
comment on column ops.schedules.catch_up is
  'What becomes of times that passed while the clock stood: skip them, run once for the latest, or run all.';
comment on column ops.schedules.most_caught_up is
  'With all: how many missed times are run, the latest ones; the others are left out.';
comment on column ops.schedules.next_run_at is 'The earliest time that has not been run or left out yet.';
comment on column ops.schedules.retry_at is 'When a run that could not be enqueued is tried again.';
comment on column ops.schedules.last_run_at is 'The time by the calendar of the job that was enqueued last.';
create index schedules_due on ops.schedules ((coalesce(retry_at, next_run_at))) where is_enabled;
create index schedules_kind on ops.schedules (kind);
create index schedules_workspace_id on ops.schedules (workspace_id) where workspace_id is not null;
create trigger touch_schedules before update on ops.schedules
  for each row execute function private.touch_updated_at();
alter table ops.schedules enable row level security;
revoke all on table ops.schedules from public, anon, authenticated, service_role;
grant select on table ops.schedules to service_role;

-- Adds a schedule or changes it; deploying the same again changes nothing, least of all when it runs next. A new
-- expression or zone, or enabling, begins with the next time after now.
-- Errors: invalid_cron, invalid_timezone, unknown_job_kind, unknown_workspace, invalid_argument.
create function ops.upsert_schedule(name text, expression text, kind text, timezone text default 'UTC',
  payload jsonb default '{}', workspace_id uuid default null, queue text default 'default', priority integer default 0,
  max_attempts integer default 5, catch_up text default 'once', most_caught_up integer default 100,
  is_enabled boolean default true) returns ops.schedules
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_next timestamptz := ops.cron_next(expression, timezone, private.now());
  v_schedule ops.schedules;
begin
  -- a zone by its name, which PostgreSQL looks up in the files of the zones: POSIX rules are none
  if not exists (select from pg_catalog.pg_timezone_names z where lower(z.name) = lower(timezone)) then
    perform private.fail('invalid_timezone', format('There is no time zone "%s".', timezone),
      jsonb_build_object('timezone', timezone));
  elsif not exists (select from ops.job_kinds k where k.kind = upsert_schedule.kind) then
    perform private.fail('unknown_job_kind', format('There is no job kind "%s".', kind),
      jsonb_build_object('kind', kind));
  elsif workspace_id is not null and not exists (select from identity.workspaces w where w.id = workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  insert into ops.schedules as s (name, expression, timezone, kind, payload, workspace_id, queue, priority,
    max_attempts, catch_up, most_caught_up, is_enabled, next_run_at)
  values (name, expression, timezone, kind, payload, workspace_id, queue, priority, max_attempts, catch_up,
    most_caught_up, is_enabled, v_next)
  on conflict on constraint schedules_pkey do update
  set expression = excluded.expression, timezone = excluded.timezone, kind = excluded.kind,
    payload = excluded.payload, workspace_id = excluded.workspace_id, queue = excluded.queue,
    priority = excluded.priority, max_attempts = excluded.max_attempts, catch_up = excluded.catch_up,
    most_caught_up = excluded.most_caught_up, is_enabled = excluded.is_enabled,
    next_run_at = case when (s.expression, s.timezone) = (excluded.expression, excluded.timezone)
      and (s.is_enabled or not excluded.is_enabled) then s.next_run_at else excluded.next_run_at end
  returning s.* into v_schedule;
  if v_schedule.next_run_at > private.now() and v_schedule.retry_at is not null then
    -- the run that failed is left out, and the next one is not tried before its time
    update ops.schedules s set retry_at = null, last_error = null where s.name = upsert_schedule.name
    returning s.* into v_schedule;
  end if;
  return v_schedule;
exception when check_violation or not_null_violation then
  perform private.fail('invalid_argument', format('This schedule cannot be: %s.', sqlerrm),
    jsonb_build_object('name', name));
  return null;
end $$;
comment on function ops.upsert_schedule is 'Adds a schedule or changes the one of that name.';
revoke all on function ops.upsert_schedule from public, anon, authenticated, service_role;
grant execute on function ops.upsert_schedule to service_role;

create function ops.delete_schedule(name text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  delete from ops.schedules s where s.name = delete_schedule.name;
  return found;
end $$;
comment on function ops.delete_schedule(text) is
  'Removes a schedule; its jobs stay. False when there was none of that name.';
revoke all on function ops.delete_schedule from public, anon, authenticated, service_role;
grant execute on function ops.delete_schedule to service_role;

-- The times of a schedule that have passed and are to be run by its policy, in order. They are searched from the
-- end, further and further back, so that a long standstill costs no more than the runs it leaves.
create function ops._due_times(schedule ops.schedules, until timestamptz) returns timestamptz[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_most integer := case schedule.catch_up when 'all' then schedule.most_caught_up else 1 end;
  v_back interval := v_most * interval '1 minute';
  v_from timestamptz;
  v_time timestamptz;
  v_times timestamptz[];
begin
  loop
    v_from := greatest(until - v_back, schedule.next_run_at);
    v_time := v_from;
    v_times := case when v_from = schedule.next_run_at then array[v_from] else '{}' end;
    loop
      v_time := ops.cron_next(schedule.expression, schedule.timezone, v_time);
      exit when v_time > until;
      v_times := v_times || v_time;
    end loop;
    exit when v_from = schedule.next_run_at or cardinality(v_times) >= v_most;
    v_back := v_back * 4;
  end loop;
  -- what could not begin within a minute has been missed
  if schedule.catch_up = 'skip' and v_times[cardinality(v_times)] < until - interval '1 minute' then
    return '{}';
  end if;
  return v_times[greatest(1, cardinality(v_times) - v_most + 1):];
end $$;
comment on function ops._due_times(ops.schedules, timestamptz) is
  'The passed times of a schedule that its policy runs, in order.';
revoke all on function ops._due_times from public, anon, authenticated, service_role;

-- Enqueues what a locked schedule owes and moves it on. The key of a job is its schedule and time, so that one
-- time is one job whoever computes it; each run is the root of a correlation of its own.
create function ops._run_schedule(schedule ops.schedules) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := private.now();
  v_time timestamptz;
  v_job_id bigint;
  v_created boolean;
  v_enqueued integer := 0;
begin
  foreach v_time in array ops._due_times(schedule, v_now) loop
    perform private.correlate_as(gen_random_uuid());
    select j.job_id, j.created into v_job_id, v_created
    from ops.enqueue_job(schedule.kind, schedule.payload || jsonb_build_object('due_at', v_time), schedule.workspace_id,
      schedule.queue, schedule.priority, max_attempts => schedule.max_attempts,
      key => format('schedule:%s:%s', schedule.name, to_char(v_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
      j;
    v_enqueued := v_enqueued + v_created::integer;
  end loop;
  update ops.schedules s
  set next_run_at = ops.cron_next(s.expression, s.timezone, v_now), retry_at = null, last_error = null,
    last_run_at = coalesce(v_time, s.last_run_at), last_job_id = coalesce(v_job_id, s.last_job_id)
  where s.name = schedule.name;
  return v_enqueued;
end $$;
comment on function ops._run_schedule(ops.schedules) is
  'Enqueues the jobs that a locked schedule owes, once each, and moves it on.';
revoke all on function ops._run_schedule from public, anon, authenticated, service_role;

-- Runs what is due of up to 100 schedules; ops.tick() calls it. Whom another tick is running is left to it. A
-- schedule that fails is noted, tried again in a minute, and does not stop the others.
create function ops.run_due_schedules() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_schedule ops.schedules;
  v_enqueued integer := 0;
begin
  for _ in 1 .. 100 loop
    select * into v_schedule from ops.schedules s
    where s.is_enabled and coalesce(s.retry_at, s.next_run_at) <= private.now()
    order by coalesce(s.retry_at, s.next_run_at) limit 1 for update skip locked;
    exit when not found;
    begin
      v_enqueued := v_enqueued + ops._run_schedule(v_schedule);
    exception when others then
      update ops.schedules s set retry_at = private.now() + interval '1 minute', last_error = sqlerrm
      where s.name = v_schedule.name;
    end;
  end loop;
  perform private.correlate_as(null);
  return v_enqueued;
end $$;
comment on function ops.run_due_schedules() is 'Enqueues the jobs of schedules that are due; returns how many.';
revoke all on function ops.run_due_schedules from public, anon, authenticated, service_role;
grant execute on function ops.run_due_schedules to service_role;
