-- Cron expressions, by which schedules go (next file): when one comes next in a time zone, whatever its clocks do.

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
