-- A wallet is brought up to date by its next movement: what expired leaves it, what is due comes.

-- Credit lots of a workspace that have expired lose what remains. The caller holds the wallet's lock.
create function billing._expire_due_lots(workspace_id uuid) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_lot billing.credit_lots;
  v_expired integer := 0;
begin
  for v_lot in
    select * from billing.credit_lots l
    where l.workspace_id = _expire_due_lots.workspace_id and l.is_open and l.expires_at <= private.now()
    order by l.expires_at, l.id
  loop
    perform billing._post(workspace_id, 'expire', array[row(v_lot.code, v_lot.id, -v_lot.remaining_micro),
      row('expired', null, v_lot.remaining_micro)]::billing.posting[]);
    v_expired := v_expired + 1;
  end loop;
  return v_expired;
end $$;
comment on function billing._expire_due_lots(uuid) is 'Books the expiry of a workspace''s due lots; returns how many.';
revoke all on function billing._expire_due_lots from public, anon, authenticated, service_role;

-- Carries what an app's ended allowance left, and what unseen periods would have brought, into a lot that ends
-- with the current period and is drawn before its allowance.
create function billing._carry_over(workspace_id uuid, due billing.due_allowance) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lot uuid;
  v_lines billing.posting[];
begin
  select array_agg(row('allowance', l.id, -l.remaining_micro)::billing.posting order by l.expires_at, l.id) into v_lines
  from billing.credit_lots l
  where l.workspace_id = _carry_over.workspace_id and l.is_open and l.kind in ('allowance', 'rollover')
    and l.expires_at <= private.now() and l.metadata ->> 'app' = due.app;
  insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, priority, expires_at, metadata)
  values (workspace_id, 'rollover', due.carried_micro, 0, 50, due.ends_at,
    jsonb_build_object('subscription_id', due.subscription_id, 'app', due.app, 'plan', due.plan_slug))
  returning id into v_lot;
  perform billing._post(workspace_id, 'rollover', v_lines || row('allowance', v_lot, due.carried_micro)::billing.posting
    -- what is over the cap expires; what unseen periods bring is given
    || row('expired', null, greatest(due.unspent_micro - due.carried_micro, 0))::billing.posting
    || row('grants', null, least(due.unspent_micro - due.carried_micro, 0))::billing.posting, 'rollover:' || due.key);
end $$;
comment on function billing._carry_over is 'Books the rollover of an app''s ended allowance.';
revoke all on function billing._carry_over from public, anon, authenticated, service_role;

-- Puts what time has brought back into the app's regenerating lot, which never expires.
create function billing._regenerate(workspace_id uuid, due billing.due_allowance) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lot uuid := due.regeneration_lot_id;
  v_now jsonb := jsonb_build_object('regenerated_at', private.now());
begin
  if v_lot is null then
    insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, metadata)
    values (workspace_id, 'regeneration', due.regenerated_micro, 0,
      jsonb_build_object('subscription_id', due.subscription_id, 'app', due.app) || v_now)
    returning id into v_lot;
  else
    update billing.credit_lots l
    set amount_micro = l.amount_micro + due.regenerated_micro, metadata = l.metadata || v_now
    where l.id = v_lot;
  end if;
  if due.regenerated_micro > 0 then
    perform billing._post(workspace_id, 'allowance', array[row('allowance', v_lot, due.regenerated_micro),
      row('grants', null, -due.regenerated_micro)]::billing.posting[], reason => 'regenerated');
  end if;
end $$;
comment on function billing._regenerate is 'Books what time has brought back to an app''s regenerating lot.';
revoke all on function billing._regenerate from public, anon, authenticated, service_role;

-- Issues the allowances that are due. The caller holds the wallet's lock.
create function billing._issue_allowances(workspace_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_due billing.due_allowance;
  v_lot uuid;
begin
  for v_due in select * from billing._due_allowances(workspace_id) loop
    if v_due.carried_micro > 0 then
      perform billing._carry_over(workspace_id, v_due);
    end if;
    if v_due.due_micro > 0 then
      insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, expires_at, metadata)
      values (workspace_id, 'allowance', v_due.due_micro, 0, v_due.ends_at, jsonb_build_object(
        'subscription_id', v_due.subscription_id, 'app', v_due.app, 'plan', v_due.plan_slug,
        'interval', v_due.interval_name, 'starts_at', v_due.starts_at, 'highest_micro', v_due.due_micro))
      returning id into v_lot;
      perform billing._post(workspace_id, 'allowance', array[
        row('allowance', v_lot, v_due.due_micro), row('grants', null, -v_due.due_micro)]::billing.posting[], v_due.key);
    end if;
    if v_due.regeneration_steps > 0 then
      perform billing._regenerate(workspace_id, v_due);
    end if;
  end loop;
end $$;
comment on function billing._issue_allowances(uuid) is 'Issues the due allowances of a workspace.';
revoke all on function billing._issue_allowances from public, anon, authenticated, service_role;

-- Books what is due and what has expired, and notes when to look again. The caller holds the wallet's lock.
-- Returns how many lots expired.
create function billing._refresh_wallet(workspace_id uuid) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_expired integer;
begin
  perform billing._issue_allowances(workspace_id);
  v_expired := billing._expire_due_lots(workspace_id);
  update billing.wallets w
  set lots_due_at = (select min(l.expires_at) from billing.credit_lots l
      where l.workspace_id = w.workspace_id and l.is_open),
    allowance_due_at = (
      select min(least(
        case when period.starts_at > clock.now then period.starts_at else least(period.ends_at,
          (select min(l.expires_at) from billing.credit_lots l
            where l.workspace_id = s.workspace_id and l.kind = 'allowance' and l.expires_at > clock.now)) end,
        case when p.regeneration_micro > 0 then greatest(s.allowance_anchor_at, s.allowance_anchor_at
          + p.regeneration_every * (1 + floor(extract(epoch from clock.now - s.allowance_anchor_at)
            / extract(epoch from p.regeneration_every)))) end))
      from billing.subscriptions s
      join billing.plans p on p.id = s.plan_id
      cross join (select private.now()) clock (now)
      cross join lateral billing._allowance_period(s.allowance_anchor_at, p.allowance_interval, clock.now) period
      where s.workspace_id = w.workspace_id and s.status in ('active', 'trialing'))
  where w.workspace_id = _refresh_wallet.workspace_id;
  return v_expired;
end $$;
comment on function billing._refresh_wallet(uuid) is 'Brings a locked wallet up to date; returns how many lots ended.';
revoke all on function billing._refresh_wallet from public, anon, authenticated, service_role;

-- A wallet under its lock, brought up to date when it is time.
create function billing._fresh_wallet(workspace_id uuid) returns billing.wallets
language plpgsql
set search_path = ''
as $$
declare
  v_wallet billing.wallets := billing._lock_wallet(workspace_id);
begin
  if least(v_wallet.allowance_due_at, v_wallet.lots_due_at) <= private.now() then
    perform billing._refresh_wallet(workspace_id);
    v_wallet := billing._lock_wallet(workspace_id);
  end if;
  return v_wallet;
end $$;
comment on function billing._fresh_wallet(uuid) is 'Locks a wallet and brings expiry and allowance up to date.';
revoke all on function billing._fresh_wallet from public, anon, authenticated, service_role;

-- Changing to a plan that brings more within a period brings the difference to the most the period has seen, by the
-- plan's rule: to and fro brings it once.
create function billing._upgrade_allowance(subscription billing.subscriptions) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_plan billing.plans;
  v_lot billing.credit_lots;
  v_more bigint;
begin
  select * into v_plan from billing.plans p where p.id = subscription.plan_id;
  select * into v_lot from billing.credit_lots l
  where l.workspace_id = subscription.workspace_id and l.kind = 'allowance' and l.expires_at > private.now()
    and l.metadata ->> 'app' = subscription.app and l.metadata ->> 'interval' = v_plan.allowance_interval
  order by l.expires_at limit 1;
  v_more := v_plan.allowance_micro - (v_lot.metadata ->> 'highest_micro')::bigint;
  if v_more > 0 and v_plan.upgrade_rule <> 'none' and subscription.status in ('active', 'trialing') then
    if v_plan.upgrade_rule = 'prorated' then
      v_more := floor(v_more * extract(epoch from v_lot.expires_at - private.now())
        / extract(epoch from v_lot.expires_at - (v_lot.metadata ->> 'starts_at')::timestamptz));
    end if;
    update billing.credit_lots l
    set amount_micro = l.amount_micro + v_more, metadata = l.metadata
      || jsonb_build_object('highest_micro', v_plan.allowance_micro, 'plan', v_plan.slug)
    where l.id = v_lot.id;
    if v_more > 0 then
      perform billing._post(subscription.workspace_id, 'allowance', array[row('allowance', v_lot.id, v_more),
        row('grants', null, -v_more)]::billing.posting[], reason => 'upgraded to ' || v_plan.slug);
    end if;
  end if;
end $$;
comment on function billing._upgrade_allowance(billing.subscriptions) is
  'Books what a larger plan adds to the running allowance.';
revoke all on function billing._upgrade_allowance from public, anon, authenticated, service_role;

-- What was due under the old plan, status and anchor is booked before they change, so that when somebody looks makes
-- no difference to what there is. Terms that lasted no time bring nothing: a row may be made and filled in one go.
create function private.close_allowance_terms() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' then
    if (old.plan_id, old.status, old.allowance_anchor_at)
      is not distinct from (new.plan_id, new.status, new.allowance_anchor_at) then
      return new;
    elsif old.allowance_since_at < private.now() then
      perform billing._fresh_wallet(old.workspace_id);
    end if;
  end if;
  new.allowance_since_at := private.now();
  return new;
end $$;
comment on function private.close_allowance_terms() is
  'Trigger: books the allowances of a subscription before its terms change.';
revoke all on function private.close_allowance_terms from public, anon, authenticated, service_role;
create trigger subscriptions_close_allowance_terms before insert or update on billing.subscriptions
  for each row execute function private.close_allowance_terms();

-- A new or changed subscription makes the workspace's allowance due; a larger plan adds to the running one at once.
create function private.begin_allowance_terms() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace uuid := coalesce(new.workspace_id, old.workspace_id);
begin
  update billing.wallets w
  set allowance_due_at = private.now(), plan_slug = (
    select p.slug from billing.subscriptions s join billing.plans p on p.id = s.plan_id
    where s.workspace_id = w.workspace_id and s.status in ('active', 'trialing') order by s.created_at, s.id limit 1)
  where w.workspace_id = v_workspace;
  -- a plan that was to follow and did not may have brought its allowance
  if tg_op = 'UPDATE' and (old.plan_id <> new.plan_id
    or (old.scheduled_plan_id is not null and new.scheduled_plan_id is null)) then
    perform billing._upgrade_allowance(new);
  end if;
  return null;
end $$;
comment on function private.begin_allowance_terms() is
  'Trigger: the next movement of the wallet issues what a subscription brings.';
revoke all on function private.begin_allowance_terms from public, anon, authenticated, service_role;
create trigger subscriptions_begin_allowance_terms
  after insert or delete or update of plan_id, status, allowance_anchor_at, cancel_at, scheduled_plan_id, trial_end
  on billing.subscriptions
  for each row execute function private.begin_allowance_terms();

-- Whoever moves a lot's expiry (a grant that is revoked) moves the time at which its wallet looks.
create function private.lot_expiry_moved() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update billing.wallets w set lots_due_at = least(w.lots_due_at, new.expires_at)
  where w.workspace_id = new.workspace_id;
  return null;
end $$;
comment on function private.lot_expiry_moved() is 'Trigger: a wallet looks at its lots when the next one expires.';
revoke all on function private.lot_expiry_moved from public, anon, authenticated, service_role;
create trigger credit_lots_expiry_moved after update of expires_at on billing.credit_lots
  for each row execute function private.lot_expiry_moved();
