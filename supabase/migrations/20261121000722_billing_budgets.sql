-- Budgets: what a workspace, or one of its members, means to spend in a day, week or month. Shares of it are told
-- once each in a period; a budget that stops refuses the hold that would pass it. Whoever changes a charge holds its
-- wallet's lock, so the sums beside a budget are exact without a lock of their own, and only workspaces that have
-- budgets keep any.

create table billing.budgets (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  period text not null,
  timezone text not null,
  limit_micro bigint not null,
  stops boolean not null,
  alert_shares smallint[] not null,
  counted_from_at timestamptz not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint budgets_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint budgets_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
  constraint budgets_subject_key unique nulls not distinct (workspace_id, user_id, period),
  constraint budgets_period_known check (period in ('day', 'week', 'month')),
  constraint budgets_limit_in_range check (limit_micro between 0 and 1000000000000000),
  constraint budgets_alert_shares_in_range check (cardinality(alert_shares) <= 20
    and 1 <= all (alert_shares) and 1000 >= all (alert_shares) and array_position(alert_shares, null) is null)
);
comment on table billing.budgets is
  'What a workspace, or a member of it, means to spend in a period, and whether work stops there; micro-units.';
comment on column billing.budgets.user_id is 'Whose charges count; null: all of the workspace.';
comment on column billing.budgets.stops is 'Work that would pass the limit is refused: spend_cap_reached.';
comment on column billing.budgets.alert_shares is 'Percentages of the limit at which the admins are told.';
comment on column billing.budgets.counted_from_at is 'Periods that began before are not counted.';
create index budgets_user_id on billing.budgets (user_id) where user_id is not null;
create trigger budgets_touch before update on billing.budgets for each row
  execute function private.touch_updated_at();
alter table billing.budgets enable row level security;
create policy "Members may read their workspace's budgets" on billing.budgets for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.budgets from public, anon, authenticated, service_role;
grant select on table billing.budgets to authenticated, service_role;

create table billing.budget_periods (
  budget_id uuid not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  held_micro bigint not null default 0,
  spent_micro bigint not null default 0,
  constraint budget_periods_pkey primary key (budget_id, starts_at),
  constraint budget_periods_budget_id_fkey foreign key (budget_id) references billing.budgets (id) on delete cascade,
  constraint budget_periods_in_order check (ends_at > starts_at),
  constraint budget_periods_not_negative check (held_micro >= 0 and spent_micro >= 0)
) with (fillfactor = 50);
comment on table billing.budget_periods is
  'What the work done in a budget''s period holds and has cost, refunds taken off; micro-units.';
alter table billing.budget_periods enable row level security;
create policy "Members may read the periods of their workspace's budgets" on billing.budget_periods for select
  to authenticated
  using (budget_id = any (array(select b.id from billing.budgets b
    where b.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))));
revoke all on table billing.budget_periods from public, anon, authenticated, service_role;
grant select on table billing.budget_periods to authenticated, service_role;

create table billing.budget_alerts (
  budget_id uuid not null,
  starts_at timestamptz not null,
  share smallint not null,
  limit_micro bigint not null,
  spent_micro bigint not null,
  created_at timestamptz not null default now(),
  notified_at timestamptz,
  constraint budget_alerts_pkey primary key (budget_id, starts_at, share),
  constraint budget_alerts_period_fkey foreign key (budget_id, starts_at)
    references billing.budget_periods (budget_id, starts_at) on delete cascade
);
comment on table billing.budget_alerts is
  'Shares of a budget that were reached, each once in a period and for a limit.';
comment on column billing.budget_alerts.share is 'Per cent of the limit.';
create index budget_alerts_untold on billing.budget_alerts (created_at) where notified_at is null;
alter table billing.budget_alerts enable row level security;
create policy "Members may read the alerts of their workspace's budgets" on billing.budget_alerts for select
  to authenticated
  using (budget_id = any (array(select b.id from billing.budgets b
    where b.workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]))));
revoke all on table billing.budget_alerts from public, anon, authenticated, service_role;
grant select on table billing.budget_alerts to authenticated, service_role;

insert into private.error_codes (name, sqlstate, hint) values
  ('spend_cap_reached', 'PT403',
    'Ask an admin to raise the budget with billing.set_budget, or wait for the next period.'),
  ('unknown_budget', 'PT404', 'Use the id of a budget of your workspace: see billing.budget_status.');

-- The period of a budget that holds a moment; weeks begin on Monday.
create function billing._budget_period(period text, timezone text, at_time timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz)
language plpgsql stable
set search_path = ''
as $$
declare
  v_start timestamp := date_trunc(period, at_time at time zone timezone);
begin
  starts_at := v_start at time zone timezone;
  ends_at := (v_start + ('1 ' || period)::interval) at time zone timezone;
  return next;
end $$;
comment on function billing._budget_period(text, text, timestamptz) is
  'The day, week or month of a time zone that holds a moment.';
revoke all on function billing._budget_period from public, anon, authenticated, service_role;
grant execute on function billing._budget_period to authenticated, service_role;

-- Notes the shares of a budget that its period has reached, each once.
create function billing._note_budget_alerts(budget billing.budgets, period billing.budget_periods) returns void
language sql
set search_path = ''
as $$
  insert into billing.budget_alerts (budget_id, starts_at, share, limit_micro, spent_micro)
  select budget.id, period.starts_at, s.share, budget.limit_micro, period.spent_micro
  from (select distinct unnest(budget.alert_shares) as share) s
  where budget.limit_micro > 0 and period.spent_micro::numeric * 100 >= budget.limit_micro::numeric * s.share
  on conflict on constraint budget_alerts_pkey do nothing
$$;
comment on function billing._note_budget_alerts is 'Notes which shares of a budget have been reached.';
revoke all on function billing._note_budget_alerts from public, anon, authenticated, service_role;

-- Refuses a hold that passes a budget which stops.
create function billing._check_spend_cap(budget billing.budgets, period billing.budget_periods, amount_micro bigint)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_before bigint := period.held_micro + period.spent_micro - amount_micro;
begin
  if not budget.stops or amount_micro = 0 or v_before + amount_micro <= budget.limit_micro then
    return;
  end if;
  perform private.fail('spend_cap_reached', format('This needs %s micro-units and %s of the %s''s %s are left%s.',
    amount_micro, greatest(budget.limit_micro - v_before, 0), budget.period, budget.limit_micro,
    case when budget.user_id is not null then ' for this member' else '' end),
    jsonb_build_object('budget_id', budget.id, 'user_id', budget.user_id, 'period', budget.period,
      'period_ends_at', period.ends_at, 'limit_micro', budget.limit_micro, 'spent_micro', period.spent_micro,
      'held_micro', period.held_micro - amount_micro, 'required_micro', amount_micro,
      'left_micro', greatest(budget.limit_micro - v_before, 0)));
end $$;
comment on function billing._check_spend_cap is 'Refuses a hold that would pass a budget which stops.';
revoke all on function billing._check_spend_cap from public, anon, authenticated, service_role;

-- Adds what a charge holds and costs to the periods of the budgets that it falls under. Its wallet is locked.
create function private.count_against_budgets() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_held bigint := case when new.status = 'held' then new.amount_micro else 0 end;
  v_spent bigint := new.captured_micro - new.refunded_micro;
  v_budget billing.budgets;
  v_at record;
  v_period billing.budget_periods;
begin
  -- most have none, and this is asked at every charge
  if not exists (select from billing.budgets b where b.workspace_id = new.workspace_id) then
    return null;
  end if;
  if tg_op = 'UPDATE' then
    v_held := v_held - case when old.status = 'held' then old.amount_micro else 0 end;
    v_spent := v_spent - (old.captured_micro - old.refunded_micro);
  end if;
  for v_budget in
    select * from billing.budgets b
    where b.workspace_id = new.workspace_id and (b.user_id is null or b.user_id = new.user_id) order by b.id
  loop
    select * into v_at from billing._budget_period(v_budget.period, v_budget.timezone, new.event_at);
    continue when v_at.starts_at < v_budget.counted_from_at;
    if tg_op = 'INSERT' then
      insert into billing.budget_periods (budget_id, starts_at, ends_at)
      values (v_budget.id, v_at.starts_at, v_at.ends_at) on conflict on constraint budget_periods_pkey do nothing;
    end if;
    update billing.budget_periods p
    set held_micro = p.held_micro + v_held, spent_micro = p.spent_micro + v_spent
    where p.budget_id = v_budget.id and p.starts_at = v_at.starts_at
    returning * into v_period;
    continue when not found;
    if tg_op = 'INSERT' and new.status = 'held' then
      perform billing._check_spend_cap(v_budget, v_period, new.amount_micro);
    end if;
    if v_spent > 0 and exists (select from unnest(v_budget.alert_shares) s
      where v_period.spent_micro * 100 >= v_budget.limit_micro * s
        and (v_period.spent_micro - v_spent) * 100 < v_budget.limit_micro * s) then
      perform billing._note_budget_alerts(v_budget, v_period);
    end if;
  end loop;
  return null;
end $$;
comment on function private.count_against_budgets() is
  'Trigger: counts a charge against budgets, and refuses a hold that passes one which stops.';
revoke all on function private.count_against_budgets from public, anon, authenticated, service_role;
create trigger usage_events_count_new after insert on billing.usage_events for each row
  execute function private.count_against_budgets();
create trigger usage_events_count_change
  after update of status, amount_micro, captured_micro, refunded_micro on billing.usage_events for each row
  execute function private.count_against_budgets();
