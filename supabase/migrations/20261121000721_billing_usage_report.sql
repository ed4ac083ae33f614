-- What dashboards ask: usage and cost of a workspace by hour, day, meter, member and source, in the time zone that
-- its people live in.

-- Who has used a meter may go on reading its name when it is no longer offered.
drop policy "Everybody may read the active meters" on billing.meters;
create policy "Visitors may read the active meters" on billing.meters for select to anon using (is_active);
create policy "Users may read the active meters and those they have used" on billing.meters for select to authenticated
  using (is_active or exists (select from billing.usage_rollups r where r.meter_id = meters.id
    and r.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[])));

-- A time zone that exists: the given one, else the workspace's own setting, else UTC. Error: invalid_timezone.
create function billing._timezone(workspace_id uuid, timezone text default null) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  v_timezone text := coalesce(timezone, (select w.settings ->> 'timezone' from identity.workspaces w
    where w.id = _timezone.workspace_id), 'UTC');
begin
  perform private.now() at time zone v_timezone;
  return v_timezone;
exception when invalid_parameter_value then
  if timezone is null then
    return 'UTC';
  end if;
  perform private.fail('invalid_timezone', format('There is no time zone "%s".', timezone),
    jsonb_build_object('timezone', timezone));
end $$;
comment on function billing._timezone(uuid, text) is 'The time zone to report in: as asked, the workspace''s, or UTC.';
revoke all on function billing._timezone from public, anon, authenticated, service_role;
grant execute on function billing._timezone to authenticated, service_role;

-- The days from_day to to_day of a time zone as moments, from the first to before the last; by default the last 30
-- days. Errors: invalid_argument (in the wrong order, or more than 1,100 days).
create function billing._day_range(from_day date, to_day date, timezone text)
returns table (from_at timestamptz, to_at timestamptz)
language plpgsql stable
set search_path = ''
as $$
declare
  v_to date := coalesce(to_day, (private.now() at time zone timezone)::date);
  v_from date := coalesce(from_day, v_to - 29);
begin
  if not isfinite(v_from) or not isfinite(v_to) or v_from > v_to or v_to - v_from >= 1100 then
    perform private.fail('invalid_argument',
      'from_day must not lie after to_day, and a report covers 1,100 days at most.', '{"argument": "from_day"}');
  end if;
  from_at := v_from::timestamp at time zone timezone;
  to_at := (v_to + 1)::timestamp at time zone timezone;
  return next;
end $$;
comment on function billing._day_range(date, date, text) is
  'Days of a time zone as moments: from the first to before the last.';
revoke all on function billing._day_range from public, anon, authenticated, service_role;
grant execute on function billing._day_range to authenticated, service_role;

-- The coarsest grain whose buckets fit the days (and hours, when asked) of a time zone exactly: some zones are half
-- an hour or a quarter away from UTC, and some for a part of the year.
create function billing._usage_grain(from_at timestamptz, to_at timestamptz, timezone text, by_hour boolean)
returns text
language sql stable
set search_path = ''
as $$
  select case when max(o.seconds) = 0 and min(o.seconds) = 0 and not by_hour then 'day'
    when bool_and(o.seconds % 3600 = 0) then 'hour' else 'quarter' end
  from (
    select extract(epoch from (t at time zone timezone) - (t at time zone 'UTC')) as seconds
    from generate_series(from_at, to_at, interval '1 day') t
  ) o
$$;
comment on function billing._usage_grain(timestamptz, timestamptz, text, boolean) is
  'The coarsest grain of usage_rollups that fits the days of a time zone.';
revoke all on function billing._usage_grain from public, anon, authenticated, service_role;
grant execute on function billing._usage_grain to authenticated, service_role;

-- Usage and cost of the days from_day to to_day (both included; by default the last 30), summed by any of day, hour,
-- meter, member and source; what is not summed by is null. starts_at is the beginning of the day or hour. Sums are
-- up to half a minute old. Errors: unknown_workspace, invalid_argument, invalid_timezone.
create function billing.usage_report(workspace_id uuid, from_day date default null, to_day date default null,
  group_by text[] default '{day}', timezone text default null)
returns table (starts_at timestamptz, day date, meter text, user_id uuid, source text, charges bigint,
  quantity numeric, refunded_quantity numeric, captured_micro bigint, refunded_micro bigint, cost_micro bigint)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_timezone text;
  v_range record;
  v_unit text := case when 'hour' = any (group_by) then 'hour' when 'day' = any (group_by) then 'day' end;
begin
  perform private.require_role(usage_report.workspace_id, 'viewer');
  if group_by is null or not group_by <@ '{day,hour,meter,member,source}'::text[] then
    perform private.fail('invalid_argument', 'group_by may name day, hour, meter, member and source.',
      '{"argument": "group_by"}');
  end if;
  v_timezone := billing._timezone(usage_report.workspace_id, usage_report.timezone);
  select * into v_range from billing._day_range(from_day, to_day, v_timezone);
  return query
  select b.starts_at, (b.starts_at at time zone v_timezone)::date, b.meter, b.user_id, b.source,
    sum(b.charges)::bigint, sum(b.quantity), sum(b.refunded_quantity), sum(b.captured_micro)::bigint,
    sum(b.refunded_micro)::bigint, sum(b.captured_micro - b.refunded_micro)::bigint
  from (
    select date_trunc(v_unit, r.starts_at, v_timezone) as starts_at,
      case when 'meter' = any (group_by) then m.slug end as meter,
      case when 'member' = any (group_by) then r.user_id end as user_id,
      case when 'source' = any (group_by) then r.source end as source,
      r.charges, r.quantity, r.refunded_quantity, r.captured_micro, r.refunded_micro
    from billing.usage_rollups r
    left join billing.meters m on m.id = r.meter_id
    where r.workspace_id = usage_report.workspace_id and r.starts_at >= v_range.from_at
      and r.starts_at < v_range.to_at
      and r.grain = billing._usage_grain(v_range.from_at, v_range.to_at, v_timezone, v_unit is not distinct from 'hour')
  ) b
  group by b.starts_at, b.meter, b.user_id, b.source
  order by b.starts_at, b.meter, b.user_id, b.source;
end $$;
comment on function billing.usage_report is
  'Usage and cost of a workspace over days of a time zone, by day, hour, meter, member and source; micro-units.';
revoke all on function billing.usage_report from public, anon, authenticated, service_role;
grant execute on function billing.usage_report to authenticated, service_role;

-- The sums as they are, in UTC, for clients that filter and page by themselves.
create view billing.usage_hourly with (security_invoker = true) as
select r.workspace_id, r.starts_at, m.slug as meter, r.meter_id, r.user_id, r.source, r.charges, r.quantity,
  r.refunded_quantity, r.captured_micro, r.refunded_micro, r.captured_micro - r.refunded_micro as cost_micro
from billing.usage_rollups r
left join billing.meters m on m.id = r.meter_id
where r.grain = 'hour';
comment on view billing.usage_hourly is 'Captured usage and its cost by hour (UTC), meter, member and source.';
revoke all on table billing.usage_hourly from public, anon, authenticated, service_role;
grant select on table billing.usage_hourly to authenticated, service_role;

create view billing.usage_daily with (security_invoker = true) as
select r.workspace_id, (r.starts_at at time zone 'UTC')::date as day, m.slug as meter, r.meter_id, r.user_id, r.source,
  r.charges, r.quantity, r.refunded_quantity, r.captured_micro, r.refunded_micro,
  r.captured_micro - r.refunded_micro as cost_micro
from billing.usage_rollups r
left join billing.meters m on m.id = r.meter_id
where r.grain = 'day';
comment on view billing.usage_daily is 'Captured usage and its cost by day (UTC), meter, member and source.';
revoke all on table billing.usage_daily from public, anon, authenticated, service_role;
grant select on table billing.usage_daily to authenticated, service_role;
