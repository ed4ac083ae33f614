-- What a new state means for the changes that were asked for, and for the people concerned.

-- Where a change stands, seen from the subscription it is about; null: it is still to be carried out.
create function billing._change_status(change billing.subscription_changes, subscription billing.subscriptions,
  state billing.subscription_state) returns text
language sql stable
set search_path = ''
as $$
  select case
    when subscription.ended_at is not null or subscription.status in ('cancelled', 'incomplete_expired')
      then case change.kind when 'cancel' then 'completed' else 'superseded' end
    when change.kind = 'cancel'
      then case when change.at_period_end and subscription.cancel_at_period_end then 'scheduled'
        when change.status = 'scheduled' then 'superseded' end
    when change.kind = 'resume' then case when not subscription.cancel_at_period_end then 'completed' end
    when change.kind = 'keep' then case when subscription.scheduled_plan_id is null then 'completed' end
    when subscription.plan_price_id = change.to_plan_price_id then 'completed'
    when subscription.scheduled_plan_price_id = change.to_plan_price_id then 'scheduled'
    when state.pending_price_id = (select p.provider_price_id from billing.plan_prices p
      where p.id = change.to_plan_price_id) then 'awaiting_payment'
    when change.status <> 'pending' then 'superseded'
  end
$$;
comment on function billing._change_status is 'Where a requested change stands according to the provider''s state.';
revoke all on function billing._change_status from public, anon, authenticated, service_role;

-- Moves the changes that were asked for to where they stand now, and notes what nobody asked for here.
create function billing._settle_changes(old billing.subscriptions, subscription billing.subscriptions,
  state billing.subscription_state) returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_same boolean := coalesce(old.provider_subscription_id = subscription.provider_subscription_id, false);
  v_price billing.plan_prices;
  v_old_price billing.plan_prices;
  v_kind text;
  v_asked boolean;
begin
  with stands as (
    select c.id, billing._change_status(c, subscription, state) as status from billing.subscription_changes c
    where c.subscription_id = subscription.id and c.provider_subscription_id = subscription.provider_subscription_id
      and c.status in ('pending', 'awaiting_payment', 'scheduled')
  ), moved as (
    update billing.subscription_changes c
    set status = n.status, completed_at = case n.status when 'completed' then private.now() end,
      effective_at = case n.status when 'scheduled' then coalesce(subscription.scheduled_at, subscription.cancel_at,
        subscription.current_period_end) when 'completed' then coalesce(subscription.ended_at, private.now()) end
    from stands n where c.id = n.id and n.status is not null and n.status <> c.status
    returning c.kind, c.status, c.to_plan_price_id
  )
  select bool_or(m.status = 'completed' and (m.to_plan_price_id = subscription.plan_price_id or m.kind = 'cancel'))
  into v_asked from moved m;
  v_kind := case when not v_same then 'start'
    when subscription.ended_at is not null and old.ended_at is null then 'end'
    when subscription.plan_price_id is distinct from old.plan_price_id then 'upgrade' end;
  if v_kind is null or (coalesce(v_asked, false) and v_kind <> 'start') then
    return;
  end if;
  select * into v_price from billing.plan_prices p where p.id = subscription.plan_price_id;
  select * into v_old_price from billing.plan_prices p where p.id = old.plan_price_id;
  if v_kind = 'upgrade' and not coalesce(billing._is_upgrade(v_old_price, v_price), false) then
    v_kind := 'downgrade';
  end if;
  insert into billing.subscription_changes (workspace_id, subscription_id, kind, source, from_plan_id, to_plan_id,
    to_plan_price_id, status, effective_at, completed_at, provider, provider_subscription_id, created_at)
  values (subscription.workspace_id, subscription.id, v_kind,
    case v_kind when 'start' then 'member' else 'provider' end, old.plan_id,
    case when v_kind <> 'end' then subscription.plan_id end,
    case when v_kind <> 'end' then subscription.plan_price_id end, 'completed',
    coalesce(subscription.ended_at, private.now()), private.now(), subscription.provider,
    subscription.provider_subscription_id, private.now());
end $$;
comment on function billing._settle_changes is 'Brings the requested changes in line with what the provider says.';
revoke all on function billing._settle_changes from public, anon, authenticated, service_role;

-- What owners are told when a subscription has changed.
create function billing._announce_subscription(old billing.subscriptions, subscription billing.subscriptions)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_plan text := (select p.name from billing.plans p where p.id = subscription.plan_id);
  v_was text := case when old.provider_subscription_id = subscription.provider_subscription_id then old.status end;
begin
  if subscription.status = 'past_due' and v_was is distinct from 'past_due' then
    perform billing._tell_owners(subscription, 'past_due', 'error', 'A payment failed',
      format('The plan %s could not be paid. It stays open until %s; pay the open invoice to keep it.', v_plan,
        to_char(subscription.grace_ends_at at time zone 'UTC', 'FMDD FMMonth YYYY')));
  elsif subscription.status = 'unpaid' and v_was is distinct from 'unpaid' then
    perform billing._tell_owners(subscription, 'unpaid', 'error', 'The plan is closed until it is paid',
      format('The plan %s is unpaid, and the provider has given up trying. Pay the open invoice to open it again.',
        v_plan));
  elsif subscription.status = 'cancelled' and v_was is distinct from 'cancelled' then
    perform billing._tell_owners(subscription, 'cancelled', 'info', 'The plan has ended',
      format('The plan %s has ended. Credits that were bought stay.', v_plan));
  elsif subscription.cancel_at_period_end and not (v_was is not null and old.cancel_at_period_end) then
    perform billing._tell_owners(subscription, 'ending', 'info', 'The plan will end',
      format('The plan %s ends on %s. Until then it can be resumed.', v_plan,
        to_char(coalesce(subscription.cancel_at, subscription.current_period_end) at time zone 'UTC',
          'FMDD FMMonth YYYY')));
  end if;
end $$;
comment on function billing._announce_subscription is 'Tells owners what a change of their subscription means.';
revoke all on function billing._announce_subscription from public, anon, authenticated, service_role;

-- Sweep: announces the ends of trials that are near.
create function billing.announce_trial_ends() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_row billing.subscriptions;
  v_told integer := 0;
begin
  for v_row in
    select s.* from billing.subscriptions s
    join billing.subscription_settings t on t.app = s.app
    where s.status = 'trialing' and s.trial_end > private.now() and s.trial_end <= private.now() + t.trial_notice
      and not s.cancel_at_period_end and coalesce(s.trial_announced_at < s.trial_end - t.trial_notice, true)
    order by s.trial_end limit 500 for no key update of s skip locked
  loop
    perform billing._tell_owners(v_row, 'trial_ending', 'warning', 'The trial ends soon',
      format('The trial of the plan %s ends on %s; then its price is charged. Cancel before, if you do not want it.',
        (select p.name from billing.plans p where p.id = v_row.plan_id),
        to_char(v_row.trial_end at time zone 'UTC', 'FMDD FMMonth YYYY')));
    update billing.subscriptions s set trial_announced_at = private.now() where s.id = v_row.id;
    v_told := v_told + 1;
  end loop;
  return v_told;
end $$;
comment on function billing.announce_trial_ends() is
  'Sweep: tells the owners of up to 500 trials that they end soon; returns how many.';
revoke all on function billing.announce_trial_ends from public, anon, authenticated, service_role;
grant execute on function billing.announce_trial_ends to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('announce ends of trials', 'billing.announce_trial_ends', interval '10 minutes');
