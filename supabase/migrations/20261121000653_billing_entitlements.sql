-- What a workspace may do: the one question that every domain asks. The answer is read, not kept: a few rows by
-- index (the workspace's subscriptions, their plans' rows of the feature, open grants, the running quota). So a plan
-- with a million subscribers changes by one row, nothing is recomputed, and expiry needs nobody to notice it.

insert into private.error_codes (name, sqlstate, hint) values
  ('not_entitled', 'PT403', 'Choose a plan that allows the feature named in the details.'),
  ('quota_exceeded', 'PT402', 'Wait for period_end, free what is no longer needed, or choose a larger plan.');

create type billing.feature_entitlement as (
  workspace_id uuid, feature text, kind text, app text, unit text, allowed boolean, unlimited boolean,
  limit_value bigint, limit_period text, text_value text, used_value numeric, remaining numeric,
  period_start timestamptz, period_end timestamptz, source text, plan text, admin_grant_id uuid,
  subscription_id uuid, valid_until timestamptz
);
comment on type billing.feature_entitlement is
  'What holds of a feature: allowed now, its limit and use in units, from plan, admin_grant or default, until when.';

-- The period of a workspace's own cycle that holds a moment: counted from the anchor, also backwards. In UTC.
create function private.quota_period(anchor timestamptz, period text, at_time timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz)
language plpgsql immutable rows 1
set search_path = ''
as $$
declare
  v_anchor timestamp := anchor at time zone 'UTC';
  v_step interval := case period when 'week' then interval '7 days' when 'month' then interval '1 month'
    when 'year' then interval '1 year' end;
  v_count integer := floor(extract(epoch from at_time - anchor) / extract(epoch from v_step));
begin
  if v_step is null then
    return;
  end if;
  -- months and years differ in length: from an estimate to the period that holds at_time
  while (v_anchor + v_count * v_step) at time zone 'UTC' > at_time loop
    v_count := v_count - 1;
  end loop;
  while (v_anchor + (v_count + 1) * v_step) at time zone 'UTC' <= at_time loop
    v_count := v_count + 1;
  end loop;
  starts_at := (v_anchor + v_count * v_step) at time zone 'UTC';
  ends_at := (v_anchor + (v_count + 1) * v_step) at time zone 'UTC';
  return next;
end $$;
comment on function private.quota_period is 'The period of a cycle that holds a moment; none for a total.';
revoke all on function private.quota_period from public, anon, authenticated, service_role;
grant execute on function private.quota_period to service_role;

-- What allows a workspace anything now: plans by subscription (a trial with an extension is one still) and open
-- grants. A subscription gives the workspace its cycle, too.
create function private.entitlement_sources(workspace_id uuid, at_time timestamptz)
returns table (source text, kind text, app text, plan_id uuid, plan text, plan_rank integer, feature text,
  limit_value bigint, limit_period text, admin_grant_id uuid, subscription_id uuid, anchor timestamptz,
  valid_until timestamptz)
language plpgsql stable rows 3
set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
begin
  return query
  select 'plan', 'full_access', s.app, p.id, p.slug, p.sort_order, null::text, null::bigint, null::text, x.id, s.id,
    s.allowance_anchor_at, case when x.id is not null then x.expires_at
      when s.status = 'trialing' and s.provider is null then s.trial_end else s.grace_ends_at end
  from billing.subscriptions s
  join billing.plans p on p.id = s.plan_id
  -- as billing.has_access says, but a trial of our own ends on time, before anybody has noted its end
  cross join lateral (select s.status = 'active' or (s.status = 'past_due' and s.grace_ends_at > at_time)
    or (s.status = 'trialing' and (s.provider is not null or coalesce(s.trial_end > at_time, true)))) as own (access)
  left join lateral (
    select g.id, g.expires_at from billing.admin_grants g
    where own.access is not true and s.trial_end is not null and g.workspace_id = s.workspace_id
      and g.kind = 'trial_extension' and g.app = s.app and g.revoked_at is null and g.expires_at > at_time
    order by g.expires_at desc limit 1) x on true
  where s.workspace_id = entitlement_sources.workspace_id and (own.access or x.id is not null)
  union all
  select 'admin_grant', g.kind, g.app, g.plan_id, p.slug, null, g.feature, g.limit_value, g.limit_period, g.id, null,
    null, g.expires_at
  from billing.admin_grants g
  left join billing.plans p on p.id = g.plan_id
  where g.workspace_id = entitlement_sources.workspace_id and g.revoked_at is null
    and (g.expires_at is null or g.expires_at > at_time) and g.kind in ('full_access', 'limit_override', 'unlimited');
end $$;
comment on function private.entitlement_sources is 'The plans and grants that allow a workspace anything at a moment.';
revoke all on function private.entitlement_sources from public, anon, authenticated, service_role;
grant execute on function private.entitlement_sources to service_role;

-- The answers for features of a workspace. Of several plans and grants that speak of a feature the most generous
-- holds (on, unlimited, then the most in a year), a grant before a plan that gives the same; where none does, the
-- feature's default. A quota period that runs goes on to its end, whatever becomes of the plan meanwhile: neither
-- does a change of plan give a fresh quota, nor does it take what is used out of the count.
create function private.entitlements_of(workspace_id uuid, features text[])
returns setof billing.feature_entitlement
language plpgsql stable rows 1
set search_path = '' set plan_cache_mode = 'force_generic_plan'
as $$
declare
  v_now timestamptz := private.now();
begin
  return query
  with source as materialized (select * from private.entitlement_sources(workspace_id, v_now))
  select entitlements_of.workspace_id, f.slug, f.kind, f.app, f.unit,
    e.enabled and case f.kind when 'switch' then true when 'text' then e.text_value is not null
      else coalesce(u.used < e.limit_value, true) end,
    f.kind = 'limit' and e.enabled and e.limit_value is null, u.most, e.limit_period,
    case when e.enabled then e.text_value end, case when e.limit_period is not null then u.used end,
    case when e.limit_period is not null and u.most is not null then greatest(u.most - u.used, 0) end,
    coalesce(q.period_start, case e.limit_period when 'total' then born.created_at else fresh.starts_at end),
    coalesce(q.period_end, fresh.ends_at), e.source, e.plan, e.admin_grant_id, cycle.subscription_id, e.valid_until
  from unnest(features) with ordinality as asked (slug, n)
  join billing.features f on f.slug = asked.slug
  left join lateral (
    select s.source, s.plan, s.admin_grant_id, s.valid_until, coalesce(pf.enabled, true) as enabled, pf.text_value,
      coalesce(s.limit_value, pf.limit_value) as limit_value, coalesce(s.limit_period, pf.limit_period) as limit_period
    from source s
    left join billing.plan_features pf on pf.plan_id = s.plan_id and pf.feature = f.slug
    where case when s.plan_id is not null then pf.plan_id is not null when s.feature is not null
      then s.feature = f.slug else f.kind <> 'text' and coalesce(s.app = f.app, true) end
    order by coalesce(pf.enabled, true) desc, coalesce(s.limit_value, pf.limit_value) is null desc,
      coalesce(s.limit_value, pf.limit_value)::numeric * case coalesce(s.limit_period, pf.limit_period, f.limit_period)
        when 'week' then 52 when 'month' then 12 else 1 end desc, s.source, s.plan_rank desc
    limit 1) best on true
  -- a grant that says no period counts in the plan's
  left join lateral (
    select pf.limit_period from source s join billing.plan_features pf on pf.plan_id = s.plan_id
    where best.source = 'admin_grant' and best.limit_period is null and pf.feature = f.slug and s.source = 'plan'
    order by s.plan_rank desc limit 1) planned on true
  cross join lateral (
    select coalesce(best.source, 'default') as source, best.plan, best.admin_grant_id, best.valid_until,
      coalesce(best.enabled, f.default_enabled) as enabled,
      case when best.source is null then f.default_limit else best.limit_value end as limit_value,
      coalesce(best.limit_period, planned.limit_period, f.limit_period) as limit_period,
      case when best.source is null then f.default_text else best.text_value end as text_value) e
  left join lateral (
    select s.subscription_id, s.anchor from source s
    where e.limit_period is not null and s.subscription_id is not null and coalesce(s.app = f.app, true)
    order by s.anchor, s.subscription_id limit 1) cycle on true
  left join lateral (
    select q.used_value, q.period_start, q.period_end from billing.quotas q
    where e.limit_period is not null and q.workspace_id = entitlements_of.workspace_id and q.feature = f.slug
      and (q.period_end is null) = (e.limit_period = 'total')
    order by q.period_end desc nulls last limit 1) q on q.period_end is null or q.period_end > v_now
  left join lateral (
    select w.created_at from identity.workspaces w
    where w.id = entitlements_of.workspace_id and q.period_start is null and e.limit_period is not null
      and (cycle.anchor is null or e.limit_period = 'total')) born on true
  left join lateral private.quota_period(coalesce(cycle.anchor, born.created_at),
    case when q.period_start is null then e.limit_period end, v_now) fresh on true
  cross join lateral (select coalesce(q.used_value, 0), case when f.kind <> 'limit' then null
    when e.enabled then e.limit_value else 0 end) as u (used, most)
  order by asked.n;
end $$;
comment on function private.entitlements_of(uuid, text[]) is 'What holds of features of a workspace, in one read.';
revoke all on function private.entitlements_of from public, anon, authenticated, service_role;
grant execute on function private.entitlements_of to service_role;

-- Security definer: what a hidden plan or a grant allows is the member's to know, the rows behind it are not.
create function private.entitlement(workspace_id uuid, feature text) returns billing.feature_entitlement
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_answer billing.feature_entitlement;
begin
  perform private.require_role(workspace_id, 'viewer');
  select * into v_answer from private.entitlements_of(workspace_id, array[feature]);
  -- whoever has a plan or a grant exists
  if v_answer.source in ('plan', 'admin_grant') then
    return v_answer;
  elsif not exists (select from identity.workspaces w where w.id = entitlement.workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  elsif v_answer.feature is null then
    perform private.fail('unknown_feature', format('There is no feature %L.', feature),
      jsonb_build_object('feature', feature));
  end if;
  return v_answer;
end $$;
comment on function private.entitlement(uuid, text) is 'Core of billing.entitlement.';
revoke all on function private.entitlement from public, anon, authenticated, service_role;
grant execute on function private.entitlement to authenticated, service_role;

-- Whether and how far a workspace may use a feature now. Members may ask for their workspaces. A limit counts in
-- units of the feature; limit_value null with unlimited: no limit; a limit without a period is a ceiling that is
-- only compared. Errors: unknown_workspace, unknown_feature.
create function billing.entitlement(workspace_id uuid, feature text) returns billing.feature_entitlement
language plpgsql stable
set search_path = ''
as $$
begin
  return private.entitlement(workspace_id, feature);
end $$;
comment on function billing.entitlement(uuid, text) is
  'Whether and how far a workspace may use a feature now: limit, use, what remains, until when.';
revoke all on function billing.entitlement from public, anon, authenticated, service_role;
grant execute on function billing.entitlement to authenticated, service_role;

create function private.entitlements(workspace_id uuid) returns setof billing.feature_entitlement
language plpgsql stable security definer rows 50
set search_path = ''
as $$
begin
  perform private.require_role(workspace_id, 'viewer');
  if not exists (select from identity.workspaces w where w.id = entitlements.workspace_id) then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  return query select * from private.entitlements_of(workspace_id,
    array(select f.slug from billing.features f order by f.app nulls first, f.sort_order, f.slug));
end $$;
comment on function private.entitlements(uuid) is 'Core of billing.entitlements.';
revoke all on function private.entitlements from public, anon, authenticated, service_role;
grant execute on function private.entitlements to authenticated, service_role;

-- The answer of entitlement() for every feature, those of all apps first. Errors: unknown_workspace.
create function billing.entitlements(workspace_id uuid) returns setof billing.feature_entitlement
language sql stable
set search_path = ''
as $$ select * from private.entitlements(workspace_id) $$;
comment on function billing.entitlements(uuid) is 'What a workspace may do: entitlement() of every feature.';
revoke all on function billing.entitlements from public, anon, authenticated, service_role;
grant execute on function billing.entitlements to authenticated, service_role;

-- Raises what refuses a use: a feature that the plan does not have, or a limit with less than the amount left.
create function private.refuse_use(entitlement billing.feature_entitlement, amount numeric) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_facts jsonb := jsonb_build_object('feature', entitlement.feature, 'app', entitlement.app, 'plan', entitlement.plan,
    'source', entitlement.source);
begin
  if entitlement.kind <> 'limit' then
    perform private.fail('not_entitled', format('The feature %s is not part of the plan.', entitlement.feature),
      v_facts);
  end if;
  perform private.fail('quota_exceeded', format('%s of %s %s are used.', entitlement.used_value,
      entitlement.limit_value, entitlement.feature),
    v_facts || jsonb_build_object('limit_value', entitlement.limit_value, 'used_value', entitlement.used_value,
      'remaining', entitlement.remaining, 'requested', amount, 'unit', entitlement.unit,
      'limit_period', entitlement.limit_period, 'period_end', entitlement.period_end));
end $$;
comment on function private.refuse_use is 'Raises not_entitled or quota_exceeded with the facts.';
revoke all on function private.refuse_use from public, anon, authenticated, service_role;
grant execute on function private.refuse_use to authenticated, service_role;

-- The answer of entitlement() where it is yes; otherwise it raises. For domains, before they begin.
-- Errors: unknown_workspace, unknown_feature, not_entitled, quota_exceeded.
create function billing.require_entitlement(workspace_id uuid, feature text) returns billing.feature_entitlement
language plpgsql stable
set search_path = ''
as $$
declare
  v_answer billing.feature_entitlement := private.entitlement(workspace_id, feature);
begin
  if not v_answer.allowed then
    perform private.refuse_use(v_answer, 1);
  end if;
  return v_answer;
end $$;
comment on function billing.require_entitlement(uuid, text) is
  'entitlement(), but raises unless the feature is allowed.';
revoke all on function billing.require_entitlement from public, anon, authenticated, service_role;
grant execute on function billing.require_entitlement to authenticated, service_role;
