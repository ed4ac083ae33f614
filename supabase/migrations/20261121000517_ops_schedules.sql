-- Schedules: jobs that come by the calendar. A schedule is a cron expression in a time zone and the job it
-- enqueues; the clock's ops.tick() runs what is due, by pg_cron on the hosted platform and by the timer of the
-- local stack. Sweeps stay apart: they are SQL functions of the clock itself, run in its transaction at
-- intervals, never missed and never caught up, and need no worker to be alive; a schedule makes a job.

insert into private.error_codes (name, sqlstate, hint) values
  ('invalid_cron', 'PT400', 'Write five fields (minute hour day month weekday) such as "30 9 * * mon-fri", or @daily.'),
  ('invalid_timezone', 'PT400', 'Use a name of pg_timezone_names such as Europe/Berlin.');

-- What an expression says. either: a day counts when it is one of days or one of weekdays, else it must be
-- both. elapsed: the minute or the hour begins with a star.
create type ops.cron as (
  minutes integer[], hours integer[], days integer[], months integer[], weekdays integer[],
  either boolean, elapsed boolean
);

-- The numbers that a field stands for, or null when it is not well formed: * or a list of n, n-m, */s, n-m/s.
create function ops._cron_field(field text, lowest integer, highest integer, names text[] default '{}')
returns integer[]
language plpgsql immutable
set search_path = ''
as $$
declare
  v_part text;
  v_match text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_numbers integer[] := '{}';
begin
  foreach v_part in array coalesce(string_to_array(field, ','), '{}') loop
    v_match := regexp_match(v_part,
      '^(?:(\*)|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?$');
    v_from := case when v_match[1] = '*' then lowest when v_match[2] ~ '^[0-9]' then v_match[2]::integer
      else array_position(names, v_match[2]) - 1 + lowest end;
    v_to := case when v_match[1] = '*' then highest when v_match[3] is null then v_from
      when v_match[3] ~ '^[0-9]' then v_match[3]::integer else array_position(names, v_match[3]) - 1 + lowest end;
    v_step := coalesce(v_match[4]::integer, 1);
    if (v_from >= lowest and v_to <= highest and v_from <= v_to and v_step > 0) is not true
      or (v_match[4] is not null and v_match[1] is null and v_match[3] is null) then
      return null;
    end if;
    v_numbers := v_numbers || array(select generate_series(v_from, v_to, v_step));
  end loop;
  return nullif(v_numbers, '{}');
end $$;
comment on function ops._cron_field(text, integer, integer, text[]) is
  'Numbers of one field of a cron expression; null when it is not well formed.';
revoke all on function ops._cron_field from public, anon, authenticated, service_role;
grant execute on function ops._cron_field to service_role;

create function ops._parse_cron(expression text) returns ops.cron
language plpgsql stable
set search_path = ''
as $$
declare
  v_text text := lower(trim(expression));
  v_fields text[] := regexp_split_to_array(case v_text
    when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *'
    when '@weekly' then '0 0 * * 0' when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *'
    when '@hourly' then '0 * * * *' else v_text end, '\s+');
  v_cron ops.cron;
  v_wrong text;
begin
  v_cron.minutes := ops._cron_field(v_fields[1], 0, 59);
  v_cron.hours := ops._cron_field(v_fields[2], 0, 23);
  v_cron.days := ops._cron_field(v_fields[3], 1, 31);
  v_cron.months := ops._cron_field(v_fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
  v_cron.weekdays := array(select distinct d % 7
    from unnest(ops._cron_field(v_fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}')) d order by 1);
  v_wrong := case when coalesce(cardinality(v_fields), 0) <> 5 then 'it has not five fields'
    when v_cron.minutes is null then 'the minute is wrong' when v_cron.hours is null then 'the hour is wrong'
    when v_cron.days is null then 'the day of the month is wrong' when v_cron.months is null then 'the month is wrong'
    when v_cron.weekdays = '{}' then 'the day of the week is wrong' end;
  if v_wrong is not null then
    perform private.fail('invalid_cron', format('"%s" is no cron expression: %s.', expression, v_wrong),
      jsonb_build_object('expression', expression));
  end if;
  -- as Vixie's cron has it: a star counts also as */2
  v_cron.either := v_fields[3] !~ '^\*' and v_fields[5] !~ '^\*';
  v_cron.elapsed := v_fields[1] ~ '^\*' or v_fields[2] ~ '^\*';
  return v_cron;
end $$;
comment on function ops._parse_cron(text) is 'Takes a cron expression apart, or fails with invalid_cron.';
revoke all on function ops._parse_cron from public, anon, authenticated, service_role;
grant execute on function ops._parse_cron to service_role;

create function ops._cron_matches_day(cron ops.cron, day date) returns boolean
language sql immutable
set search_path = ''
as $$
  select case when cron.either then v.in_days or v.in_weekdays else v.in_days and v.in_weekdays end
  from (select extract(day from day) = any (cron.days) as in_days,
    extract(dow from day) = any (cron.weekdays) as in_weekdays) v
$$;
comment on function ops._cron_matches_day(ops.cron, date) is
  'Whether a day of a matching month is one of an expression''s.';
revoke all on function ops._cron_matches_day from public, anon, authenticated, service_role;
grant execute on function ops._cron_matches_day to service_role;

-- The moment at which the clocks were put forward over a local time that never was.
create function ops._moment_after_gap(local_time timestamp, timezone text) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  -- the zone's offset before the gap was applied to it, so this is as long after the gap as it lies within
  v_late timestamptz := local_time at time zone timezone;
  v_gap interval := (v_late at time zone timezone) - local_time;
  v_early timestamptz := v_late - v_gap;
  v_offset interval := (v_late at time zone timezone) - (v_late at time zone 'UTC');
  v_middle timestamptz;
begin
  while v_late - v_early > interval '1 second' loop
    v_middle := date_trunc('second', v_early + (v_late - v_early) / 2);
    if (v_middle at time zone timezone) - (v_middle at time zone 'UTC') = v_offset then
      v_late := v_middle;
    else
      v_early := v_middle;
    end if;
  end loop;
  return v_late;
end $$;
comment on function ops._moment_after_gap(timestamp, text) is
  'When the clocks were put forward over a local time that does not exist.';
revoke all on function ops._moment_after_gap from public, anon, authenticated, service_role;
grant execute on function ops._moment_after_gap to service_role;

-- The first moment after one at which an expression's time of day comes on a local day near which the clocks are
-- changed. As Vixie's cron does it: times written with a star in minute or hour follow the clock on the wall,
-- both times an hour comes; a fixed time comes once: the first time round, and in a gap as soon as that ends.
create function ops._cron_on_changing_day(cron ops.cron, day date, timezone text, after timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
  select min(m.moment)
  from (
    select e.*, e.late at time zone timezone = e.local_time as late_is_real,
      e.early at time zone timezone = e.local_time as early_is_real
    from (
      -- late: by the offset after a change of the clocks; early: by the one of a day ago
      select l.*, (l.local_time - ((l.late - interval '24 hours') at time zone timezone
        - (l.late - interval '24 hours') at time zone 'UTC')) at time zone 'UTC' as early
      from (
        select d.local_time, d.local_time at time zone timezone as late
        from (select day + make_time(h, m, 0) from unnest(cron.hours) h, unnest(cron.minutes) m) d (local_time)
      ) l
    ) e
  ) t, lateral (values
    (case when t.early_is_real then t.early when t.late_is_real then t.late
      when not cron.elapsed then ops._moment_after_gap(t.local_time, timezone) end),
    (case when cron.elapsed and t.late_is_real then t.late end)
  ) m (moment)
  where m.moment > after
$$;
comment on function ops._cron_on_changing_day(ops.cron, date, text, timestamptz) is
  'The first moment after one at which a cron expression comes on a local day, whatever the clocks do.';
revoke all on function ops._cron_on_changing_day from public, anon, authenticated, service_role;
grant execute on function ops._cron_on_changing_day to service_role;

-- The same for any day. Where the offset stays as it is from the day before to the day after, local times are in
-- the order of the moments, and the first one suffices: twenty times as fast for an expression of every minute.
create function ops._cron_on_day(cron ops.cron, day date, timezone text, after timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_before timestamptz := ((day - 1)::timestamp at time zone timezone);
  v_offset interval := (v_before at time zone timezone) - (v_before at time zone 'UTC');
  v_later timestamptz := v_before + interval '72 hours';
  v_minute integer;
begin
  if v_offset <> (v_later at time zone timezone) - (v_later at time zone 'UTC') then
    return ops._cron_on_changing_day(cron, day, timezone, after);
  end if;
  select min(h * 60 + m) into v_minute
  from unnest(cron.hours) h, unnest(cron.minutes) m
  where h * 60 + m > floor(extract(epoch from (after at time zone 'UTC') + v_offset - day) / 60);
  return (day + make_interval(mins => v_minute) - v_offset) at time zone 'UTC';
end $$;
comment on function ops._cron_on_day(ops.cron, date, text, timestamptz) is
  'The first moment after one at which a cron expression comes on a local day, or null.';
revoke all on function ops._cron_on_day from public, anon, authenticated, service_role;
grant execute on function ops._cron_on_day to service_role;

-- When a cron expression comes next in a time zone, strictly after a moment. Five fields (lists, ranges, steps,
-- names of months and weekdays, 0 and 7 are Sunday) or @hourly, @daily, @weekly, @monthly, @yearly; when both
-- days are restricted, either suffices. Errors: invalid_cron (also when it never comes), invalid_timezone.
create function ops.cron_next(expression text, timezone text, after timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_cron ops.cron := ops._parse_cron(expression);
  v_day date;
  v_last date;
  v_found timestamptz;
begin
  begin
    -- a day early and, below, a day late: a change of the clocks at midnight repeats or skips parts of two days
    v_day := (after at time zone timezone)::date - 1;
  exception when invalid_parameter_value then
    perform private.fail('invalid_timezone', format('There is no time zone "%s".', timezone),
      jsonb_build_object('timezone', timezone));
  end;
  -- the calendar repeats its weekdays within 40 years
  v_last := v_day + 40 * 366;
  while v_day <= v_last and (v_found is null or v_day <= (v_found at time zone timezone)::date + 1) loop
    if extract(month from v_day) <> all (v_cron.months) then
      v_day := (date_trunc('month', v_day::timestamp) + interval '1 month')::date;
      continue;
    end if;
    if ops._cron_matches_day(v_cron, v_day) then
      v_found := least(v_found, ops._cron_on_day(v_cron, v_day, timezone, after));
    end if;
    v_day := v_day + 1;
  end loop;
  if v_found is null then
    perform private.fail('invalid_cron', format('"%s" never comes.', expression),
      jsonb_build_object('expression', expression));
  end if;
  return v_found;
end $$;
comment on function ops.cron_next(text, text, timestamptz) is
  'When a cron expression comes next in a time zone, strictly after a moment.';
revoke all on function ops.cron_next from public, anon, authenticated, service_role;
grant execute on function ops.cron_next to service_role;

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
