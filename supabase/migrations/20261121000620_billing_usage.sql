-- Charging for work: a charge is authorized (held) when work is requested, captured when it succeeds,
-- released when it fails or is cancelled, and refundable after. Credits are drawn from admin grants, then
-- the allowance, then lots by earliest expiry, then the prepaid balance; what comes back goes to where it
-- came from, last drawn first. Whoever changes a charge holds its wallet's lock, and no other.

create table billing.usage_events (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  user_id uuid,
  meter_id uuid not null,
  quantity numeric(20, 6) not null,
  unit_amount_micro bigint not null,
  amount_micro bigint not null,
  captured_micro bigint not null default 0,
  refunded_micro bigint not null default 0,
  status text not null default 'held',
  sources jsonb not null default '[]',
  key text not null,
  content_hash bytea not null,
  plan_slug text,
  source_platform text,
  source_id text,
  metadata jsonb not null default '{}',
  reason text,
  hold_expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  refunded_at timestamptz,
  constraint usage_events_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint usage_events_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint usage_events_meter_id_fkey foreign key (meter_id) references billing.meters (id),
  constraint usage_events_key unique (workspace_id, key),
  constraint usage_events_status_known check (status in ('held', 'captured', 'released', 'refunded')),
  constraint usage_events_quantity_positive check (quantity > 0),
  constraint usage_events_amounts_in_order
    check (refunded_micro between 0 and captured_micro and captured_micro between 0 and amount_micro),
  constraint usage_events_settled_has_time check ((status = 'held') = (completed_at is null)),
  constraint usage_events_refund_has_time check ((status = 'refunded') <= (refunded_at is not null)),
  constraint usage_events_status_fits_amounts check (case status
    when 'captured' then refunded_micro < captured_micro or captured_micro = 0
    when 'refunded' then refunded_micro = captured_micro
    else captured_micro = 0 end)
) with (fillfactor = 60);
comment on table billing.usage_events is
  'One charge: what was measured, what was held, captured and refunded, and from which sources.';
comment on column billing.usage_events.sources is
  'What each source gave, in order of drawing: [{source, lot_id, held, captured, refunded}], micro-units.';
comment on column billing.usage_events.hold_expires_at is 'A hold nobody settled by then is released by a sweep.';
create index usage_events_workspace_id on billing.usage_events (workspace_id, created_at desc);
create index usage_events_user_id on billing.usage_events (user_id) where user_id is not null;
create index usage_events_meter_id on billing.usage_events (meter_id, created_at desc);
create index usage_events_holds on billing.usage_events (hold_expires_at) where status = 'held';
alter table billing.usage_events enable row level security;
create policy "Members may read their workspace's usage" on billing.usage_events for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.usage_events from public, anon, authenticated, service_role;
grant select on table billing.usage_events to authenticated, service_role;

alter table billing.ledger_transactions add constraint ledger_transactions_usage_event_id_fkey
  foreign key (usage_event_id) references billing.usage_events (id);

insert into private.error_codes (name, sqlstate, hint) values
  ('unknown_meter', 'PT404', 'Use the slug of an active meter: see billing.meters.'),
  ('insufficient_credits', 'PT402', 'Buy credits or wait for the next allowance, then try again.'),
  ('unknown_usage_event', 'PT404', 'Check the usage event''s id.'),
  ('usage_not_held', 'PT409', 'Only a held charge can be captured or released; refund a captured one.'),
  ('usage_not_captured', 'PT409', 'Only a captured charge can be refunded; release a held one.'),
  ('capture_too_large', 'PT400', 'Capture at most what was held; authorize more beforehand.'),
  ('refund_too_large', 'PT400', 'Refund at most what was captured and not refunded yet.');

create type billing.usage_result as (usage_event_id uuid, status text, amount_micro bigint, created boolean);

-- The active meter and what a quantity of it costs. Quantities have six decimals; fractions of a micro-unit
-- are rounded up.
create function billing._price(meter text, quantity numeric) returns table (
  meter_id uuid, unit_amount_micro bigint, amount_micro bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  if quantity is null or quantity = 'NaN' or round(quantity, 6) <= 0 or quantity > 1000000000 then
    perform private.fail('invalid_argument', 'quantity must be at least 0.000001 and at most 1,000,000,000.',
      '{"argument": "quantity"}');
  end if;
  select m.id, m.unit_amount_micro, ceil(m.unit_amount_micro * round(quantity, 6))::bigint
  into meter_id, unit_amount_micro, amount_micro
  from billing.meters m where m.slug = meter and m.is_active;
  if not found then
    perform private.fail('unknown_meter', format('There is no active meter "%s".', meter),
      jsonb_build_object('meter', meter));
  end if;
  return next;
end $$;
comment on function billing._price(text, numeric) is 'The price of a quantity of a meter in micro-units.';
revoke all on function billing._price from public, anon, authenticated, service_role;
grant execute on function billing._price to authenticated, service_role;

-- What a quantity of a meter would cost now and whether the workspace can pay it.
-- Errors: unknown_workspace, unknown_meter, invalid_argument.
create function billing.quote(workspace_id uuid, meter text, quantity numeric default 1)
returns table (amount_micro bigint, available_micro bigint, affordable boolean)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  select b.available_micro into available_micro from billing.balance(quote.workspace_id) b;
  select p.amount_micro into amount_micro from billing._price(meter, quantity) p;
  affordable := available_micro >= amount_micro;
  return next;
end $$;
comment on function billing.quote is
  'What a quantity of a meter costs, what is available (micro-units), and whether it suffices.';
revoke all on function billing.quote from public, anon, authenticated, service_role;
grant execute on function billing.quote to authenticated, service_role;

-- Chooses the sources of an amount in drawing order, as usage_events.sources has them. The caller holds
-- the fresh wallet and knows that it suffices.
create function billing._draw(wallet billing.wallets, amount_micro bigint) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_sources jsonb := '[]';
  v_left bigint := amount_micro;
  v_lot billing.credit_lots;
  v_take bigint;
begin
  if wallet.lots_micro > 0 or wallet.allowance_micro > 0 then
    for v_lot in
      select * from billing.credit_lots l
      where l.workspace_id = wallet.workspace_id and l.remaining_micro > 0
        and (l.expires_at is null or l.expires_at > private.now())
      order by case l.kind when 'admin' then 0 when 'allowance' then 1 else 2 end, l.expires_at, l.created_at, l.id
    loop
      exit when v_left = 0;
      v_take := least(v_left, v_lot.remaining_micro);
      v_sources := v_sources || jsonb_build_object('source', v_lot.kind, 'lot_id', v_lot.id, 'held', v_take);
      v_left := v_left - v_take;
    end loop;
  end if;
  if v_left > 0 then
    v_sources := v_sources || jsonb_build_object('source', 'prepaid', 'lot_id', null, 'held', v_left);
  end if;
  return v_sources;
end $$;
comment on function billing._draw(billing.wallets, bigint) is
  'Splits an amount over a wallet''s sources in drawing order.';
revoke all on function billing._draw from public, anon, authenticated, service_role;

-- The ledger line that takes from or gives to a source of a usage event.
create function billing._source_line(source jsonb, amount_micro bigint) returns billing.posting
language sql immutable
set search_path = ''
as $$
  select row(case source ->> 'source' when 'prepaid' then 'prepaid' when 'allowance' then 'allowance' else 'lots' end,
    (source ->> 'lot_id')::uuid, amount_micro)::billing.posting
$$;
comment on function billing._source_line(jsonb, bigint) is 'A ledger line for one source of a charge.';
revoke all on function billing._source_line from public, anon, authenticated, service_role;

-- Holds what a quantity of a meter costs, once for a key. Answers the first call's charge with
-- created = false on a repeat. metadata may carry user_id, source_platform and source_id, which have
-- columns of their own. Errors: unknown_workspace, unknown_meter, invalid_argument, key_required,
-- key_reused, wallet_frozen, insufficient_credits (details: required_micro, available_micro, missing_micro).
create function billing.authorize_usage(workspace_id uuid, meter text, quantity numeric, key text,
  metadata jsonb default '{}')
returns billing.usage_result
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_price record;
  v_wallet billing.wallets;
  v_event billing.usage_events;
  v_hash bytea := private.content_hash(jsonb_build_object('meter', meter, 'quantity', trim_scale(quantity), 'metadata',
    metadata));
  v_available bigint;
  v_sources jsonb;
begin
  perform billing._check_key(key);
  v_wallet := billing._lock_wallet(workspace_id);
  select * into v_event from billing.usage_events e where e.workspace_id = authorize_usage.workspace_id
    and e.key = authorize_usage.key;
  if found then
    if v_event.content_hash <> v_hash then
      perform private.fail('key_reused', 'This key has been used for a different charge.',
        jsonb_build_object('key', key, 'usage_event_id', v_event.id));
    end if;
    return row(v_event.id, v_event.status, v_event.amount_micro, false)::billing.usage_result;
  end if;

  select * into v_price from billing._price(meter, quantity);
  if v_wallet.status = 'frozen' then
    perform private.fail('wallet_frozen', 'This wallet is frozen.', jsonb_build_object('workspace_id', workspace_id));
  end if;
  v_wallet := billing._fresh_wallet(workspace_id);
  v_available := v_wallet.allowance_micro + v_wallet.lots_micro + v_wallet.prepaid_micro;
  if v_available < v_price.amount_micro then
    perform private.fail('insufficient_credits',
      format('This needs %s micro-units and %s are available.', v_price.amount_micro, v_available),
      jsonb_build_object('required_micro', v_price.amount_micro, 'available_micro', v_available,
        'missing_micro', v_price.amount_micro - v_available));
  end if;

  v_sources := billing._draw(v_wallet, v_price.amount_micro);
  insert into billing.usage_events (workspace_id, user_id, meter_id, quantity, unit_amount_micro, amount_micro, sources,
    key, content_hash, plan_slug, source_platform, source_id, metadata, hold_expires_at)
  values (workspace_id, (select u.id from auth.users u where u.id = private.try_uuid(metadata ->> 'user_id')),
    v_price.meter_id, quantity, v_price.unit_amount_micro,
    v_price.amount_micro, v_sources, key, v_hash,
    (select p.slug from billing.subscriptions s join billing.plans p on p.id = s.plan_id
      where s.workspace_id = authorize_usage.workspace_id and s.status in ('active', 'trialing')
        order by s.created_at limit 1),
    metadata ->> 'source_platform', metadata ->> 'source_id', coalesce(metadata, '{}'),
      private.now() + interval '1 day')
  returning * into v_event;
  if v_event.amount_micro > 0 then
    perform billing._post(workspace_id, 'authorize',
      (select array_agg(billing._source_line(s, -(s ->> 'held')::bigint)) from jsonb_array_elements(v_sources) s)
        || row('held', null, v_event.amount_micro)::billing.posting,
      usage_event_id => v_event.id);
  end if;
  return row(v_event.id, v_event.status, v_event.amount_micro, true)::billing.usage_result;
end $$;
comment on function billing.authorize_usage is 'Holds the price of a quantity of a meter, once for a key for ever.';
revoke all on function billing.authorize_usage from public, anon, authenticated, service_role;
grant execute on function billing.authorize_usage to service_role;

-- The usage event under its wallet's lock. A charge has no lock of its own, so that no two transactions with
-- several charges of a workspace can wait for each other. Error: unknown_usage_event.
create function billing._lock_usage(usage_event_id uuid) returns billing.usage_events
language plpgsql
set search_path = ''
as $$
declare
  v_event billing.usage_events;
begin
  perform billing._lock_wallet(e.workspace_id) from billing.usage_events e where e.id = _lock_usage.usage_event_id;
  if not found then
    perform private.fail('unknown_usage_event', 'There is no such usage event.',
      jsonb_build_object('usage_event_id', usage_event_id));
  end if;
  -- read after the lock: what a transaction before this one made of it
  select * into v_event from billing.usage_events e where e.id = _lock_usage.usage_event_id;
  return v_event;
end $$;
comment on function billing._lock_usage(uuid) is 'Locks a usage event''s wallet and returns the event.';
revoke all on function billing._lock_usage from public, anon, authenticated, service_role;

-- Ends a hold: captures capture_micro of it (0: none, a release) and gives the rest back to the sources
-- drawn last. The caller holds the wallet's lock.
create function billing._settle_hold(event billing.usage_events, capture_micro bigint, status text,
  reason text) returns void
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
begin
  for v_source in select s from jsonb_array_elements(event.sources) with ordinality as e (s, n) order by n loop
    v_take := least(v_left, (v_source ->> 'held')::bigint);
    v_back := (v_source ->> 'held')::bigint - v_take;
    v_left := v_left - v_take;
    v_sources := v_sources || (v_source || jsonb_build_object('captured', v_take, 'refunded', 0));
    if v_back > 0 then
      v_lines := v_lines || billing._source_line(v_source, v_back);
    end if;
  end loop;
  update billing.usage_events e
  set status = _settle_hold.status, captured_micro = capture_micro, sources = v_sources, reason = _settle_hold.reason,
    completed_at = private.now()
  where e.id = event.id;
  if event.amount_micro > 0 then
    v_lines := v_lines || row('held', null, -event.amount_micro)::billing.posting;
    if capture_micro > 0 then
      v_lines := v_lines || row('revenue', null, capture_micro)::billing.posting;
    end if;
    perform billing._post(event.workspace_id, case when status = 'captured' then 'capture' else 'release' end, v_lines,
      usage_event_id => event.id, reason => reason);
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
  perform billing._settle_hold(v_event, v_amount, 'captured', null);
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

-- Gives captured credits back, all that is left (amount_micro null) or a part. The reason names the refund:
-- the same event, reason and amount is one refund however often it is asked for, so a second partial refund
-- needs a reason of its own. Errors: unknown_usage_event, usage_not_captured, refund_too_large, invalid_argument.
create function billing.refund_usage(usage_event_id uuid, reason text, amount_micro bigint default null)
returns billing.usage_result
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event billing.usage_events := billing._lock_usage(usage_event_id);
  v_amount bigint := coalesce(amount_micro, v_event.captured_micro - v_event.refunded_micro);
  v_key text := format('refund:%s:%s:%s', usage_event_id, coalesce(amount_micro::text, 'all'),
    encode(private.content_hash(to_jsonb(coalesce(reason, ''))), 'hex'));
  v_done bigint;
  v_source jsonb;
  v_sources jsonb := '[]';
  v_left bigint := v_amount;
  v_give bigint;
  v_lines billing.posting[] := '{}';
begin
  if coalesce(length(trim(reason)), 0) = 0 then
    perform private.fail('invalid_argument', 'A refund needs a reason.', '{"argument": "reason"}');
  end if;
  select sum(e.amount_micro) into v_done
  from billing.ledger_transactions t join billing.ledger_entries e on e.transaction_id = t.id
  where t.workspace_id = v_event.workspace_id and t.key = v_key and e.amount_micro > 0;
  if v_done is not null or (amount_micro is null and v_event.status = 'refunded') then
    return row(v_event.id, v_event.status, coalesce(v_done, v_event.refunded_micro), false)::billing.usage_result;
  end if;
  if v_event.status not in ('captured', 'refunded') then
    perform private.fail('usage_not_captured', format('This charge is %s.', v_event.status),
      jsonb_build_object('status', v_event.status));
  elsif amount_micro <= 0 then
    perform private.fail('invalid_argument', 'amount_micro must be more than 0.', '{"argument": "amount_micro"}');
  elsif v_amount > v_event.captured_micro - v_event.refunded_micro then
    perform private.fail('refund_too_large',
      format('%s of %s micro-units are refunded already.', v_event.refunded_micro,
      v_event.captured_micro), jsonb_build_object('refundable_micro', v_event.captured_micro - v_event.refunded_micro));
  end if;

  for v_source in select s from jsonb_array_elements(v_event.sources) with ordinality as e (s, n) order by n desc loop
    v_give := least(v_left, (v_source ->> 'captured')::bigint - (v_source ->> 'refunded')::bigint);
    v_left := v_left - v_give;
    v_sources := jsonb_build_array(v_source
      || jsonb_build_object('refunded', (v_source ->> 'refunded')::bigint + v_give)) || v_sources;
    if v_give > 0 then
      v_lines := v_lines || billing._source_line(v_source, v_give);
    end if;
  end loop;
  update billing.usage_events e
  set refunded_micro = e.refunded_micro + v_amount, sources = v_sources, refunded_at = private.now(),
    reason = refund_usage.reason,
    status = case when e.refunded_micro + v_amount = e.captured_micro then 'refunded' else 'captured' end
  where e.id = v_event.id
  returning e.* into v_event;
  -- a charge that cost nothing can be refunded as a whole, and no money moves
  if v_amount > 0 then
    perform billing._post(v_event.workspace_id, 'refund', v_lines || row('revenue', null, -v_amount)::billing.posting,
      v_key, usage_event_id => v_event.id, reason => reason);
  end if;
  return row(v_event.id, v_event.status, v_amount, true)::billing.usage_result;
end $$;
comment on function billing.refund_usage is
  'Returns captured credits to the sources they came from, once for a reason and amount.';
revoke all on function billing.refund_usage from public, anon, authenticated, service_role;
grant execute on function billing.refund_usage to service_role;

-- Authorize and capture in one, for work that is already done. Errors as authorize_usage.
create function billing.record_usage(workspace_id uuid, meter text, quantity numeric, key text,
  metadata jsonb default '{}')
returns billing.usage_result
language plpgsql security definer
set search_path = ''
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
    for v_event in
      select * from billing.usage_events e
      where e.workspace_id = v_workspace and e.status = 'held' and e.hold_expires_at <= private.now()
      order by e.hold_expires_at limit 500 - v_released
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
