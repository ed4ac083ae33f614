-- Holding companies: brands join one, and its admins see figures over all of them. Whoever administers several
-- workspaces may compare those without a holding.

insert into private.error_codes (name, sqlstate, hint) values
  ('no_holding', 'PT422', 'Use a workspace of the type holding.');

-- Both sides must agree: one person who is an admin of the brand and of the holding, or the service.
create function private.join_holding(workspace_id uuid, holding_id uuid) returns identity.workspaces
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace identity.workspaces;
begin
  perform private.require_role(join_holding.workspace_id, 'admin');
  if holding_id is not null then
    perform private.require_role(join_holding.holding_id, 'admin');
  end if;
  update identity.workspaces w set parent_id = join_holding.holding_id where w.id = join_holding.workspace_id
  returning * into v_workspace;
  return v_workspace;
end $$;
comment on function private.join_holding(uuid, uuid) is 'Core of ai.join_holding.';
revoke all on function private.join_holding from public, anon, authenticated, service_role;
grant execute on function private.join_holding to authenticated, service_role;

-- Errors: unknown_workspace, role_too_low, workspace_parent.
create function ai.join_holding(workspace_id uuid, holding_id uuid) returns identity.workspaces
language sql
set search_path = ''
as $$ select private.join_holding(join_holding.workspace_id, join_holding.holding_id) $$;
comment on function ai.join_holding(uuid, uuid) is
  'Puts a brand under a holding company, or takes it out (null); an admin of both may.';
revoke all on function ai.join_holding from public, anon, authenticated, service_role;
grant execute on function ai.join_holding to authenticated, service_role;

create type ai.brand_figures as (
  workspace_id uuid, name text, skus bigint, in_stock bigint, low_stock bigint, creations_30d bigint,
  spent_micro_30d bigint, conversations_30d bigint, customers bigint, revenue_30d jsonb, revenue_before jsonb,
  knowledge_chunks bigint
);
comment on type ai.brand_figures is
  'Figures of one brand: the catalog now, the last 30 days, sales in hundredths by currency and those 30 days before.';

create function private.revenue(workspace_id uuid, since timestamptz, until timestamptz) returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(r.currency, r.cents), '{}') from (
    select o.currency, sum(o.total_cents - o.refunded_cents) as cents from commerce.orders o
    where o.workspace_id = revenue.workspace_id and o.ordered_at >= revenue.since and o.ordered_at < revenue.until
      and o.paid_at is not null and o.cancelled_at is null and not o.is_test
    group by 1) r
$$;
comment on function private.revenue is 'Paid sales less refunds, in hundredths of each currency.';
revoke all on function private.revenue from public, anon, authenticated, service_role;

create function private.figures_of(workspace_ids uuid[]) returns setof ai.brand_figures
language sql stable
set search_path = ''
as $$
  with span as (select private.now() as now, private.now() - interval '30 days' as since)
  select w.id, w.name, p.skus, p.in_stock, p.low_stock,
    (select count(*) from studio.creations c where c.workspace_id = w.id and c.created_at >= s.since),
    (select coalesce(sum(e.captured_micro - e.refunded_micro), 0)::bigint from billing.usage_events e
      where e.workspace_id = w.id and e.created_at >= s.since),
    (select count(*) from ai.conversation_sessions v where v.workspace_id = w.id and v.last_activity_at >= s.since),
    (select count(distinct f.customer_id) from ai.customer_preferences f
      where f.workspace_id = w.id and f.customer_id is not null),
    private.revenue(w.id, s.since, s.now + interval '1 day'),
    private.revenue(w.id, s.since - interval '30 days', s.since),
    (select count(*) from ai.knowledge_chunks k where k.workspace_id = w.id and k.is_active)
  from identity.workspaces w
  cross join span s
  cross join lateral (select count(*) as skus, count(*) filter (where x.has_variants_in_stock) as in_stock,
      count(*) filter (where x.lowest_stock_level < 10) as low_stock
    from commerce.shopify_products x where x.workspace_id = w.id and x.deleted_at is null) p
  where w.id = any (figures_of.workspace_ids) and w.deleted_at is null
  order by w.name, w.id
$$;
comment on function private.figures_of(uuid[]) is 'Figures of brands, one row each.';
revoke all on function private.figures_of from public, anon, authenticated, service_role;

-- The workspaces that a person may compare: those they administer, and the brands of holdings they administer.
create function private.portfolio_of_caller() returns uuid[]
language sql stable security definer
set search_path = ''
as $$
  select coalesce(array_agg(distinct w.id), '{}') from identity.workspaces w
  where w.deleted_at is null and w.type <> 'holding'
    and (w.id = any (private.workspace_ids('admin')) or w.parent_id = any (private.workspace_ids('admin')))
$$;
comment on function private.portfolio_of_caller() is
  'Workspaces that the caller administers, by themselves or by a holding.';
revoke all on function private.portfolio_of_caller from public, anon, authenticated, service_role;

create function private.portfolio(workspace_ids uuid[]) returns setof ai.brand_figures
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_allowed uuid[] := case when private.is_service() then portfolio.workspace_ids
    else private.portfolio_of_caller() end;
  v_unknown uuid;
begin
  select u.id into v_unknown from unnest(portfolio.workspace_ids) u (id) where u.id <> all (v_allowed) limit 1;
  if v_unknown is not null then
    perform private.fail('unknown_workspace', 'There is no such workspace among those you administer.',
      jsonb_build_object('workspace_id', v_unknown));
  end if;
  return query select * from private.figures_of(coalesce(portfolio.workspace_ids, v_allowed));
end $$;
comment on function private.portfolio(uuid[]) is 'Core of ai.portfolio.';
revoke all on function private.portfolio from public, anon, authenticated, service_role;
grant execute on function private.portfolio to authenticated, service_role;

create function ai.portfolio(workspace_ids uuid[] default null) returns setof ai.brand_figures
language sql stable
set search_path = ''
as $$ select * from private.portfolio(portfolio.workspace_ids) $$;
comment on function ai.portfolio(uuid[]) is
  'Figures of the workspaces that the caller administers, and of the brands of holdings they administer.';
revoke all on function ai.portfolio from public, anon, authenticated, service_role;
grant execute on function ai.portfolio to authenticated, service_role;
