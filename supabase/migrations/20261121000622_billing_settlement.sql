-- What becomes of a hold: captured when the work succeeded, released when it failed or was cancelled. What is
-- not captured goes back to where it came from, last drawn first.

-- The usage event under its wallet's lock, the wallet up to date. A charge has no lock of its own, so that no two
-- transactions with several charges of a workspace can wait for each other. Error: unknown_usage_event.
create function billing._lock_usage(usage_event_id uuid) returns billing.usage_events
language plpgsql
set search_path = ''
as $$
declare
  v_wallet billing.wallets;
  v_event billing.usage_events;
begin
  select * into v_wallet from billing.wallets w
  where w.workspace_id = (select e.workspace_id from billing.usage_events e where e.id = _lock_usage.usage_event_id)
  for no key update;
  if not found then
    perform private.fail('unknown_usage_event', 'There is no such usage event.',
      jsonb_build_object('usage_event_id', usage_event_id));
  end if;
  if v_wallet.lots_due_at is not null or v_wallet.allowance_due_at is not null then
    perform billing._fresh_wallet(v_wallet.workspace_id);
  end if;
  -- read after the lock: what a transaction before this one made of it
  select * into v_event from billing.usage_events e where e.id = _lock_usage.usage_event_id;
  return v_event;
end $$;
comment on function billing._lock_usage(uuid) is 'Locks a usage event''s wallet and returns the event.';
revoke all on function billing._lock_usage from public, anon, authenticated, service_role;

-- The ledger line that gives an amount back to a source of a charge. Credits that come back after their lot has
-- expired would be gone through no fault of their owner: they live on in a grace lot for a week. Those of a grant that
-- staff have revoked go to their lot and end with it.
create function billing._return_line(event_id uuid, source jsonb, amount_micro bigint) returns billing.posting
language plpgsql
set search_path = ''
as $$
declare
  v_lot billing.credit_lots;
  v_grace uuid;
begin
  if source ->> 'source' = 'prepaid' then
    return row('prepaid', null, amount_micro)::billing.posting;
  end if;
  select * into v_lot from billing.credit_lots l where l.id = (source ->> 'lot_id')::uuid;
  if v_lot.meters is not null then
    perform billing._raise_reload(v_lot.workspace_id, amount_micro);
  end if;
  if v_lot.expires_at is null or v_lot.expires_at > private.now() or (v_lot.kind = 'admin' and exists (
    select from billing.admin_grants g where g.credit_lot_id = v_lot.id and g.revoked_at is not null)) then
    return row(v_lot.code, v_lot.id, amount_micro)::billing.posting;
  end if;
  insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, priority, meters, expires_at,
    payment_id, origin_lot_id, origin_event_id)
  values (v_lot.workspace_id, 'grace', amount_micro, 0, v_lot.priority, v_lot.meters, private.now() + interval '7 days',
    v_lot.payment_id, v_lot.id, event_id)
  returning id into v_grace;
  return row('lots', v_grace, amount_micro)::billing.posting;
end $$;
comment on function billing._return_line is 'A ledger line that gives back to a source, or to a grace lot instead.';
revoke all on function billing._return_line from public, anon, authenticated, service_role;

-- Ends a hold: captures capture_micro of it (0: none, a release) and gives the rest back to the sources
-- drawn last. The caller holds the wallet's lock.
create function billing._settle_hold(event billing.usage_events, capture_micro bigint, status text,
  reason text, captured_quantity numeric default null) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_source jsonb;
  v_sources jsonb := '[]';
  v_left bigint := capture_micro;
  v_take bigint;
  v_back bigint;
  v_lines billing.posting[] := '{}';
  v_returned billing.posting[];
  v_transaction bigint;
  v_now timestamptz := private.now();
begin
  for v_place in 0 .. jsonb_array_length(event.sources) - 1 loop
    v_source := event.sources -> v_place;
    v_take := least(v_left, (v_source ->> 'held')::bigint);
    v_back := (v_source ->> 'held')::bigint - v_take;
    v_left := v_left - v_take;
    v_sources := v_sources || (v_source || jsonb_build_object('captured', v_take, 'refunded', 0));
    if v_back > 0 then
      v_lines := v_lines || billing._return_line(event.id, v_source, v_back);
    end if;
  end loop;
  update billing.usage_events e
  set status = _settle_hold.status, captured_micro = capture_micro, sources = v_sources, reason = _settle_hold.reason,
    captured_quantity = _settle_hold.captured_quantity, completed_at = v_now
  where e.id = event.id;
  v_returned := v_lines;
  if event.amount_micro > 0 then
    v_lines := v_lines || row('held', null, -event.amount_micro)::billing.posting;
    if capture_micro > 0 then
      v_lines := v_lines || row('revenue', null, capture_micro)::billing.posting;
    end if;
    v_transaction := billing._post(event.workspace_id, case when status = 'captured' then 'capture' else 'release' end,
      v_lines, usage_event_id => event.id, reason => reason, event_at => v_now);
  end if;
  if cardinality(v_returned) > 0 then
    perform billing._take_returned(event, v_returned, v_transaction);
  end if;
end $$;
comment on function billing._settle_hold is 'Captures a part of a hold and returns the rest to its sources.';
revoke all on function billing._settle_hold from public, anon, authenticated, service_role;

-- Charges a hold: all of it, or what a smaller quantity costs; the rest returns to its sources. A repeat
-- with the same quantity answers the first result. Errors: unknown_usage_event, usage_not_held,
-- capture_too_large, key_reused (captured before with another quantity), invalid_argument.
create function billing.capture_usage(usage_event_id uuid, quantity numeric default null) returns billing.usage_result
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event billing.usage_events := billing._lock_usage(usage_event_id);
  v_amount bigint := v_event.amount_micro;
begin
  if quantity is not null then
    if quantity = 'NaN' or quantity < 0 then
      perform private.fail('invalid_argument', 'quantity must not be negative.', '{"argument": "quantity"}');
    elsif round(quantity, 6) > v_event.quantity then
      perform private.fail('capture_too_large',
        format('%s were held, %s cannot be captured.', v_event.quantity, quantity),
        jsonb_build_object('held_quantity', v_event.quantity, 'held_micro', v_event.amount_micro));
    end if;
    v_amount := ceil(v_event.unit_amount_micro * round(quantity, 6));
  end if;
  if v_event.status in ('captured', 'refunded') then
    if v_event.captured_micro <> v_amount and quantity is not null then
      perform private.fail('key_reused', 'This charge has been captured with a different quantity.',
        jsonb_build_object('captured_micro', v_event.captured_micro));
    end if;
    return row(v_event.id, v_event.status, v_event.captured_micro, false)::billing.usage_result;
  elsif v_event.status <> 'held' then
    perform private.fail('usage_not_held', format('This charge is %s.', v_event.status),
      jsonb_build_object('status', v_event.status));
  end if;
  perform billing._settle_hold(v_event, v_amount, 'captured', null, coalesce(round(quantity, 6), v_event.quantity));
  return row(v_event.id, 'captured', v_amount, true)::billing.usage_result;
end $$;
comment on function billing.capture_usage is
  'Charges a held amount or less; what is not captured returns to its sources.';
revoke all on function billing.capture_usage from public, anon, authenticated, service_role;
grant execute on function billing.capture_usage to service_role;

-- Gives a whole hold back. A repeat answers the first result. Errors: unknown_usage_event, usage_not_held.
create function billing.release_usage(usage_event_id uuid, reason text) returns billing.usage_result
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event billing.usage_events := billing._lock_usage(usage_event_id);
begin
  if v_event.status = 'released' then
    return row(v_event.id, v_event.status, v_event.amount_micro, false)::billing.usage_result;
  elsif v_event.status <> 'held' then
    perform private.fail('usage_not_held', format('This charge is %s.', v_event.status),
      jsonb_build_object('status', v_event.status));
  end if;
  perform billing._settle_hold(v_event, 0, 'released', reason);
  return row(v_event.id, 'released', v_event.amount_micro, true)::billing.usage_result;
end $$;
comment on function billing.release_usage is 'Returns a held amount to the sources it came from.';
revoke all on function billing.release_usage from public, anon, authenticated, service_role;
grant execute on function billing.release_usage to service_role;

-- Authorize and capture in one, for work that is already done. Errors as authorize_usage.
create function billing.record_usage(workspace_id uuid, meter text, quantity numeric, key text,
  metadata jsonb default '{}')
returns billing.usage_result
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_held billing.usage_result := billing.authorize_usage(workspace_id, meter, quantity, key, metadata);
  v_captured billing.usage_result;
begin
  if not v_held.created and v_held.status <> 'held' then
    return v_held;
  end if;
  v_captured := billing.capture_usage(v_held.usage_event_id);
  return row(v_captured.usage_event_id, v_captured.status, v_captured.amount_micro,
    v_held.created)::billing.usage_result;
end $$;
comment on function billing.record_usage is 'Charges work that is already done, once for a key for ever.';
revoke all on function billing.record_usage from public, anon, authenticated, service_role;
grant execute on function billing.record_usage to service_role;

-- Sweep: releases holds that nobody settled within a day, so that no crash can hold credits for ever. It
-- waits for no wallet (one that is busy has its turn next time), so it is never part of a deadlock.
create function billing.release_expired_holds() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace uuid;
  v_event billing.usage_events;
  v_released integer := 0;
begin
  for v_workspace in
    select w.workspace_id from billing.wallets w
    where w.workspace_id in (select e.workspace_id from billing.usage_events e
      where e.status = 'held' and e.hold_expires_at <= private.now() order by e.hold_expires_at limit 500)
    for no key update skip locked
  loop
    perform billing._fresh_wallet(v_workspace);
    for v_event in
      select * from billing.usage_events e
      where e.workspace_id = v_workspace and e.status = 'held' and e.hold_expires_at <= private.now()
      order by e.hold_expires_at, e.created_at limit 500 - v_released
    loop
      perform billing._settle_hold(v_event, 0, 'released', 'the hold expired');
      v_released := v_released + 1;
    end loop;
    exit when v_released = 500;
  end loop;
  return v_released;
end $$;
comment on function billing.release_expired_holds() is
  'Sweep: releases up to 500 holds past their time; returns how many.';
revoke all on function billing.release_expired_holds from public, anon, authenticated, service_role;
grant execute on function billing.release_expired_holds to service_role;
insert into ops.sweeps (name, function_name, every) values
  ('release expired holds', 'billing.release_expired_holds', interval '5 minutes');

-- For every table whose rows name the hold of work under way (usage_event_id, beside the row's workspace_id): a
-- constraint trigger after delete, deferrable initially deferred, when the work is open. What was held goes back at
-- once. Whoever deletes has rows that those wait for who hold the wallet, so that it is not waited for here, and is
-- asked for last, when the transaction ends. If it is busy, the sweep of expired holds gives back; if the charge itself
-- is, it is being settled at this moment.
create function billing._release_deleted_hold() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event billing.usage_events;
begin
  perform from billing.wallets w where w.workspace_id = old.workspace_id for no key update skip locked;
  if found then
    select * into v_event from billing.usage_events e where e.id = old.usage_event_id;
    if v_event.status = 'held' then
      perform billing.release_usage(v_event.id, 'deleted');
    end if;
  else
    update billing.usage_events e set hold_expires_at = least(e.hold_expires_at, private.now())
    from (select u.id from billing.usage_events u where u.id = old.usage_event_id and u.status = 'held'
      for no key update skip locked) u
    where e.id = u.id;
  end if;
  return null;
end $$;
comment on function billing._release_deleted_hold() is 'Trigger: gives back what a deleted row still holds.';
revoke all on function billing._release_deleted_hold from public, anon, authenticated, service_role;
