-- Moving all subscribers of a plan to another, when a plan is given up.

-- Asks for the move of every subscription of a plan to a price of another plan of the app: at once or at each one's
-- period end, with or without proration. A plan that costs nothing is moved here, all others by a job each. May be
-- called again: who is being moved already is passed over. Returns the changes it noted.
create function billing.migrate_plan(from_plan_id uuid, to_plan_price_id uuid, reason text,
  at_period_end boolean default true, is_prorated boolean default false) returns setof billing.subscription_changes
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_price billing.plan_prices;
  v_row billing.subscriptions;
  v_change billing.subscription_changes;
begin
  select * into v_price from billing.plan_prices p where p.id = to_plan_price_id and p.is_active;
  if not found or (select f.app from billing.plans f where f.id = from_plan_id) is distinct from
    (select t.app from billing.plans t where t.id = v_price.plan_id) then
    perform private.fail('unknown_price', 'The price is not of an active plan of the same app.',
      jsonb_build_object('plan_price_id', to_plan_price_id));
  end if;
  perform private.correlate();
  for v_row in
    select s.* from billing.subscriptions s
    left join billing.plan_prices o on o.id = s.plan_price_id
    where s.plan_id = from_plan_id and coalesce(s.provider, 'stripe') = 'stripe'
      and s.status in ('trialing', 'active', 'past_due') and (o.currency is null or o.currency = v_price.currency)
      and not exists (select from billing.subscription_changes c where c.subscription_id = s.id
        and c.kind = 'migration' and c.status in ('pending', 'awaiting_payment', 'scheduled'))
    -- the order in which wallets are locked
    order by s.workspace_id for no key update of s
  loop
    -- nobody is put on a plan that costs something without having given a card
    continue when v_row.provider is null and v_price.amount_minor > 0;
    v_change := billing._request_change(v_row, 'migration', 'operator', v_price,
      at_period_end and v_row.provider is not null, reason, interval '0');
    update billing.subscription_changes c
    set is_prorated = migrate_plan.is_prorated and not c.at_period_end,
      status = case when v_row.provider is null then 'completed' else c.status end,
      completed_at = case when v_row.provider is null then private.now() end,
      effective_at = case when v_row.provider is null then private.now() end
    where c.id = v_change.id
    returning * into v_change;
    if v_row.provider is null then
      update billing.subscriptions s set plan_id = v_price.plan_id, plan_price_id = v_price.id where s.id = v_row.id;
    end if;
    return next v_change;
  end loop;
end $$;
comment on function billing.migrate_plan is
  'Moves all subscriptions of a plan to a price of another, at once or at their period ends.';
revoke all on function billing.migrate_plan from public, anon, authenticated, service_role;
grant execute on function billing.migrate_plan to service_role;
