-- The rules of allowances: what a plan brings, what it carries over, what it regenerates, and what is due now.

alter table billing.plans
  add column upgrade_rule text not null default 'prorated',
  add column regeneration_micro bigint not null default 0,
  add column regeneration_every interval,
  add column regeneration_cap_micro bigint not null default 0,
  add constraint plans_upgrade_rule_known check (upgrade_rule in ('difference', 'prorated', 'none')),
  add constraint plans_regeneration_whole check ((regeneration_micro > 0) = (regeneration_every is not null)
    and regeneration_micro between 0 and 1000000000000 and regeneration_cap_micro between 0 and 1000000000000
    and regeneration_micro <= regeneration_cap_micro
    and regeneration_every between interval '1 minute' and interval '31 days');
comment on column billing.plans.rollover_cap_micro is
  'How much of what is unspent goes into the next period, together with what was carried before.';
comment on column billing.plans.upgrade_rule is
  'What a change to this plan within a period brings at once: the difference, prorated by time, or none.';
comment on column billing.plans.regeneration_micro is
  'Credits that come back with time: so many each regeneration_every, up to regeneration_cap_micro unspent.';

alter table billing.subscriptions add column allowance_since_at timestamptz not null default now();
comment on column billing.subscriptions.allowance_since_at is
  'Since when plan, status and anchor are what they are: earlier periods are not made up for.';

-- Allowance periods are counted from a subscription's allowance_anchor_at, so each workspace resets on its
-- own cycle. Before the anchor it is the first period, number 0. In UTC, whatever the session's time zone.
create function billing._allowance_period(anchor timestamptz, interval_name text, at_time timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz, number integer)
language plpgsql immutable rows 1
set search_path = ''
as $$
declare
  v_anchor timestamp := anchor at time zone 'UTC';
  v_step interval := case interval_name when 'week' then interval '7 days' else interval '1 month' end;
begin
  number := greatest(0,
    floor(extract(epoch from at_time - anchor) / case interval_name when 'week' then 604800 else 2678400 end));
  -- months differ in length: an estimate from below, then forward to the period that holds at_time
  while (v_anchor + (number + 1) * v_step) at time zone 'UTC' <= at_time loop
    number := number + 1;
  end loop;
  starts_at := (v_anchor + number * v_step) at time zone 'UTC';
  ends_at := (v_anchor + (number + 1) * v_step) at time zone 'UTC';
  return next;
end $$;
comment on function billing._allowance_period is 'The allowance period, counted from an anchor, that holds a moment.';
revoke all on function billing._allowance_period from public, anon, authenticated, service_role;
grant execute on function billing._allowance_period to authenticated, service_role;

-- Until when staff have let a trial of an app go on; null: they have not.
create function private.trial_extended_to(workspace_id uuid, app text) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
begin
  return (select max(g.expires_at) from billing.admin_grants g
    where g.workspace_id = trial_extended_to.workspace_id and g.kind = 'trial_extension'
      and g.app = trial_extended_to.app and g.revoked_at is null);
end $$;
comment on function private.trial_extended_to(uuid, text) is 'Until when a trial of an app goes on by a grant.';
revoke all on function private.trial_extended_to from public, anon, authenticated, service_role;
grant execute on function private.trial_extended_to to authenticated, service_role;

create type billing.due_allowance as (subscription_id uuid, app text, plan_slug text, interval_name text, key text,
  starts_at timestamptz, ends_at timestamptz, due_micro bigint, unspent_micro bigint, carried_micro bigint,
  regeneration_lot_id uuid, regeneration_steps bigint, regenerated_micro bigint);

-- What the next movement of a wallet will book for each active subscription:
-- - due_micro: the allowance of the current period, unless the period has brought its own already or an allowance of
--   the app is still running. So a change of plan, interval or anchor brings none early.
--   A period that begins when the subscription is to end brings nothing, and one that begins when another plan is to
--   follow brings that one's, however late the provider's news of it comes.
-- - carried_micro: comes with it. What the ended period left and what the periods nobody looked at would have
--   brought, up to the plan's cap: as if each had been carried into the next. Without a cap they do not add up.
-- - regenerated_micro: what time has brought back, one step for each whole regeneration_every since the anchor.
create function billing._due_allowances(workspace_id uuid)
returns setof billing.due_allowance
language sql stable
set search_path = ''
as $$
  select s.id, s.app, p.slug, p.allowance_interval, k.key, period.starts_at, period.ends_at, due.amount,
    ended.unspent::bigint,
    case when due.amount > 0 then least(p.rollover_cap_micro, ended.unspent + p.allowance_micro * greatest(0,
      period.number - (select f.number from billing._allowance_period(s.allowance_anchor_at, p.allowance_interval,
        greatest(ended.at, s.allowance_since_at)) f)))::bigint else 0 end,
    pool.lot_id, coalesce(pool.steps, 0), coalesce(pool.regenerated, 0)
  from billing.subscriptions s
  join billing.plans present on present.id = s.plan_id
  cross join (select private.now()) clock (now)
  -- a trial that no provider knows of ends on time, before anybody has noted its end
  cross join lateral (select least(s.cancel_at, case when s.status = 'trialing' and s.provider is null
    and s.trial_end is not null then greatest(s.trial_end, private.trial_extended_to(s.workspace_id, s.app)) end)
  ) final (at)
  cross join lateral billing._allowance_period(s.allowance_anchor_at, present.allowance_interval, clock.now) begun
  join billing.plans p
    on p.id = case when s.scheduled_at <= begun.starts_at then s.scheduled_plan_id else s.plan_id end
  cross join lateral billing._allowance_period(s.allowance_anchor_at, p.allowance_interval, clock.now) period
  cross join lateral format('allowance:%s:%s:%s', s.id, p.allowance_interval,
    extract(epoch from period.starts_at)) as k (key)
  cross join lateral (
    select coalesce(sum(l.remaining_micro) filter (where l.expires_at <= clock.now), 0) as unspent,
      max(l.expires_at) filter (where l.expires_at <= clock.now) as at,
      coalesce(bool_or(l.expires_at > clock.now and l.kind = 'allowance'), false) as running
    from billing.credit_lots l
    where l.workspace_id = s.workspace_id and l.kind in ('allowance', 'rollover') and l.metadata ->> 'app' = s.app
  ) ended
  cross join lateral (select case when p.allowance_micro > 0 and period.starts_at <= clock.now and not ended.running
    and coalesce(period.starts_at < final.at, true)
    and (select t.id from billing.ledger_transactions t
      where t.workspace_id = s.workspace_id and t.key = k.key) is null then p.allowance_micro else 0 end) due (amount)
  left join lateral (
    select r.lot_id, r.steps,
      least(r.steps * p.regeneration_micro::numeric, greatest(0, p.regeneration_cap_micro - r.remaining))::bigint
        as regenerated
    from (
      select (array_agg(l.id))[1] as lot_id, coalesce(sum(l.remaining_micro), 0) as remaining,
        case when s.allowance_anchor_at > clock.now then 0 else greatest(0,
          floor(extract(epoch from least(clock.now, final.at) - s.allowance_anchor_at) / e.every)
          - floor(extract(epoch from greatest(max((l.metadata ->> 'regenerated_at')::timestamptz),
            s.allowance_since_at, s.allowance_anchor_at) - s.allowance_anchor_at) / e.every)
          -- the first step comes with the subscription
          + (count(l.id) = 0)::integer) end::bigint as steps
      from (select extract(epoch from p.regeneration_every)) e (every)
      left join billing.credit_lots l on l.workspace_id = s.workspace_id and l.kind = 'regeneration'
        and l.metadata ->> 'app' = s.app
      group by e.every
    ) r
  ) pool on p.regeneration_micro > 0
  where s.workspace_id = _due_allowances.workspace_id and s.status in ('active', 'trialing')
  order by s.id
$$;
comment on function billing._due_allowances(uuid) is 'Allowances that are due but not yet booked, by subscription.';
revoke all on function billing._due_allowances from public, anon, authenticated, service_role;
grant execute on function billing._due_allowances to authenticated, service_role;
