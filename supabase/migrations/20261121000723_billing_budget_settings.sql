-- How budgets are set, seen, told about and checked.

-- What work done between two moments holds and has cost; user_id null: of everybody. Work is booked when it is done
-- or later, so created_at, which is indexed, bounds it from below. The caller holds the wallet's lock.
create function billing._count_charges(budget billing.budgets, from_at timestamptz, to_at timestamptz,
  out held_micro bigint, out spent_micro bigint)
language sql stable
set search_path = ''
as $$
  select coalesce(sum(e.amount_micro) filter (where e.status = 'held'), 0)::bigint,
    coalesce(sum(e.captured_micro - e.refunded_micro), 0)::bigint
  from billing.usage_events e
  where e.workspace_id = budget.workspace_id and e.created_at >= from_at and e.event_at >= from_at
    and e.event_at < to_at
    and (budget.user_id is null or e.user_id = budget.user_id)
$$;
comment on function billing._count_charges is
  'Sums of the charges that a budget counts, straight from the usage events.';
revoke all on function billing._count_charges from public, anon, authenticated, service_role;

-- Begins to count a budget anew with the period that is running, and with any later one in which a charge has been
-- asked for by a transaction that began after this one. The caller holds the wallet's lock.
create function billing._recount_budget(budget_id uuid) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_budget billing.budgets;
begin
  delete from billing.budget_periods p where p.budget_id = _recount_budget.budget_id;
  update billing.budgets b
  set counted_from_at = (select p.starts_at from billing._budget_period(b.period, b.timezone, private.now()) p)
  where b.id = budget_id returning * into strict v_budget;
  insert into billing.budget_periods (budget_id, starts_at, ends_at, held_micro, spent_micro)
  select budget_id, p.starts_at, p.ends_at, c.held_micro, c.spent_micro
  from (
    select n.starts_at, n.ends_at from billing._budget_period(v_budget.period, v_budget.timezone, private.now()) n
    union
    select l.starts_at, l.ends_at
    from billing.usage_events e
    cross join lateral billing._budget_period(v_budget.period, v_budget.timezone, e.event_at) l
    where e.workspace_id = v_budget.workspace_id and e.created_at > private.now() and e.event_at > private.now()
      and l.starts_at > v_budget.counted_from_at
  ) p
  cross join lateral billing._count_charges(v_budget, p.starts_at, p.ends_at) c;
end $$;
comment on function billing._recount_budget(uuid) is 'Counts a budget anew from the period that is running.';
revoke all on function billing._recount_budget from public, anon, authenticated, service_role;

create function private.set_budget(workspace_id uuid, limit_micro bigint, period text, user_id uuid, stops boolean,
  alert_shares smallint[], timezone text) returns billing.budgets
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_known billing.budgets;
  v_budget billing.budgets;
  v_period billing.budget_periods;
  v_timezone text;
begin
  perform private.require_role(workspace_id, 'admin');
  v_timezone := billing._timezone(workspace_id, timezone);
  if period is null or period not in ('day', 'week', 'month') then
    perform private.fail('invalid_argument', 'period must be day, week or month.', '{"argument": "period"}');
  elsif limit_micro is null or limit_micro not between 0 and 1000000000000000 then
    perform private.fail('invalid_argument', 'limit_micro must be between 0 and 1,000,000,000,000,000.',
      '{"argument": "limit_micro"}');
  elsif alert_shares is null or cardinality(alert_shares) > 20 or array_position(alert_shares, null) is not null
    or exists (select from unnest(alert_shares) s where s not between 1 and 1000) then
    perform private.fail('invalid_argument', 'alert_shares must be at most 20 percentages between 1 and 1000.',
      '{"argument": "alert_shares"}');
  elsif user_id is not null and private.member_rank(workspace_id, user_id) = 0 then
    perform private.fail('unknown_member', 'This person is not a member of the workspace.',
      jsonb_build_object('user_id', user_id));
  end if;
  perform billing._lock_wallet(workspace_id);
  select * into v_known from billing.budgets b where b.workspace_id = set_budget.workspace_id
    and b.user_id is not distinct from set_budget.user_id and b.period = set_budget.period;
  insert into billing.budgets as b (workspace_id, user_id, period, timezone, limit_micro, stops, alert_shares,
    counted_from_at)
  values (workspace_id, user_id, period, v_timezone, limit_micro, coalesce(stops, true), alert_shares, private.now())
  on conflict on constraint budgets_subject_key do update
  set timezone = excluded.timezone, limit_micro = excluded.limit_micro, stops = excluded.stops,
    alert_shares = excluded.alert_shares
  returning * into v_budget;
  if v_known.id is null or v_known.timezone <> v_timezone then
    perform billing._recount_budget(v_budget.id);
  end if;
  select b.* into v_budget from billing.budgets b where b.id = v_budget.id;
  select p.* into v_period from billing.budget_periods p
  where p.budget_id = v_budget.id and p.starts_at <= private.now() and p.ends_at > private.now();
  if found then
    -- a share that the new limit is far from can be reached, and told, again
    delete from billing.budget_alerts a where a.budget_id = v_budget.id and a.starts_at = v_period.starts_at
      and v_period.spent_micro::numeric * 100 < v_budget.limit_micro::numeric * a.share;
    perform billing._note_budget_alerts(v_budget, v_period);
  end if;
  return v_budget;
end $$;
comment on function private.set_budget is 'Core of billing.set_budget; checks the caller first.';
revoke all on function private.set_budget from public, anon, authenticated, service_role;
grant execute on function private.set_budget to authenticated, service_role;

-- Sets the budget of a workspace, or of one member, for a day, week or month, in place of the one there was; work goes
-- on at once when it is raised, and shares that are then ahead again are told once more. Admins may. Without a timezone
-- the workspace's own. Errors: unknown_workspace, role_too_low, unknown_member, invalid_argument, invalid_timezone.
create function billing.set_budget(workspace_id uuid, limit_micro bigint, period text default 'month',
  user_id uuid default null, stops boolean default true, alert_shares smallint[] default '{50,80,100}',
  timezone text default null)
returns billing.budgets
language sql
set search_path = ''
as $$ select private.set_budget(workspace_id, limit_micro, period, user_id, stops, alert_shares, timezone) $$;
comment on function billing.set_budget is
  'Sets what a workspace or a member may spend in a period, and whether work stops there; the caller is an admin.';
revoke all on function billing.set_budget from public, anon, authenticated, service_role;
grant execute on function billing.set_budget to authenticated, service_role;

create function private.remove_budget(budget_id uuid) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace uuid := (select b.workspace_id from billing.budgets b where b.id = budget_id);
begin
  if v_workspace is null or not private.has_role(v_workspace, 'viewer') then
    perform private.fail('unknown_budget', 'There is no such budget.', jsonb_build_object('budget_id', budget_id));
  end if;
  perform private.require_role(v_workspace, 'admin');
  perform billing._lock_wallet(v_workspace);
  delete from billing.budgets b where b.id = budget_id;
  return found;
end $$;
comment on function private.remove_budget is 'Core of billing.remove_budget; checks the caller first.';
revoke all on function private.remove_budget from public, anon, authenticated, service_role;
grant execute on function private.remove_budget to authenticated, service_role;

-- Removes a budget; work that it stopped goes on at once. Admins may. Errors: unknown_budget, role_too_low.
create function billing.remove_budget(budget_id uuid) returns boolean
language sql
set search_path = ''
as $$ select private.remove_budget(budget_id) $$;
comment on function billing.remove_budget is 'Removes a budget; the caller is an admin of its workspace.';
revoke all on function billing.remove_budget from public, anon, authenticated, service_role;
grant execute on function billing.remove_budget to authenticated, service_role;

create view billing.budget_status with (security_invoker = true) as
select b.id as budget_id, b.workspace_id, b.user_id, b.period, b.timezone, b.limit_micro, b.stops, b.alert_shares,
  n.starts_at, n.ends_at, coalesce(p.spent_micro, 0) as spent_micro, coalesce(p.held_micro, 0) as held_micro,
  greatest(b.limit_micro - coalesce(p.spent_micro + p.held_micro, 0), 0) as left_micro,
  coalesce((select max(a.share) from billing.budget_alerts a
    where a.budget_id = b.id and a.starts_at = n.starts_at), 0) as reached_share
from billing.budgets b
cross join lateral billing._budget_period(b.period, b.timezone, private.now()) n
left join billing.budget_periods p on p.budget_id = b.id and p.starts_at = n.starts_at;
comment on view billing.budget_status is
  'Budgets with what their running period has spent, holds and has left, in micro-units.';
revoke all on table billing.budget_status from public, anon, authenticated, service_role;
grant select on table billing.budget_status to authenticated, service_role;

-- Sweep: tells the admins of a workspace, and the member whose budget it is, which shares were reached.
create function billing.send_budget_alerts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_alert record;
  v_sent integer := 0;
begin
  for v_alert in
    select a.*, b.workspace_id, b.user_id, b.period, b.stops
    from billing.budget_alerts a join billing.budgets b on b.id = a.budget_id
    where a.notified_at is null order by a.created_at limit 200 for update of a skip locked
  loop
    perform private.notify_user(m.user_id, v_alert.workspace_id,
      case when v_alert.share >= 100 then 'error' else 'warning' end,
      case when v_alert.share >= 100 then 'Budget used up' else 'Budget alert' end,
      format('%s%% of the %s''s budget%s has been spent.%s', v_alert.share, v_alert.period,
        case when v_alert.user_id is not null then ' of a member' else '' end,
        case when v_alert.share >= 100 and v_alert.stops then ' Work that costs credits has stopped.' else '' end),
      '/billing', jsonb_build_object('budget_id', v_alert.budget_id, 'share', v_alert.share,
        'limit_micro', v_alert.limit_micro, 'spent_micro', v_alert.spent_micro),
      format('budget:%s:%s:%s:%s', v_alert.budget_id, extract(epoch from v_alert.starts_at), v_alert.share,
        v_alert.limit_micro),
      'billing.budget_reached')
    from identity.workspace_members m
    where m.workspace_id = v_alert.workspace_id and private.member_rank(m.workspace_id, m.user_id)
      >= case when m.user_id = v_alert.user_id then 1 else private.role_rank('admin') end;
    update billing.budget_alerts a set notified_at = private.now()
    where a.budget_id = v_alert.budget_id and a.starts_at = v_alert.starts_at and a.share = v_alert.share;
    v_sent := v_sent + 1;
  end loop;
  return v_sent;
end $$;
comment on function billing.send_budget_alerts() is
  'Sweep: tells admins which shares of budgets were reached; returns how many alerts.';
revoke all on function billing.send_budget_alerts from public, anon, authenticated, service_role;
grant execute on function billing.send_budget_alerts to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('send budget alerts', 'billing.send_budget_alerts', interval '1 minute');

-- A row for each counted period of a budget that is not what its usage events say; none when all are right.
create function billing.verify_budgets()
returns table (fault text, workspace_id uuid, subject text, expected_micro bigint, actual_micro bigint)
language sql stable security definer
set search_path = ''
as $$
  select 'budget differs from its charges', b.workspace_id, concat_ws('/', b.id, p.starts_at at time zone 'UTC'),
    c.held_micro + c.spent_micro, p.held_micro + p.spent_micro
  from billing.budgets b
  join billing.budget_periods p on p.budget_id = b.id
  cross join lateral billing._count_charges(b, p.starts_at, p.ends_at) c
  where (c.held_micro, c.spent_micro) is distinct from (p.held_micro, p.spent_micro)
$$;
comment on function billing.verify_budgets() is
  'Checks what budgets have counted against the usage events; a row for each fault, none when sound.';
revoke all on function billing.verify_budgets from public, anon, authenticated, service_role;
grant execute on function billing.verify_budgets to service_role;
