-- Charging for work: a charge is authorized (held) when work is requested. Credits are drawn from admin
-- grants, then the allowance, then lots by priority and earliest expiry, then the prepaid balance. What becomes
-- of a hold is in the next file, refunds are in the one after. Whoever changes a charge holds its wallet's lock,
-- and no other.

create table billing.usage_events (
  -- begins with the time in milliseconds, so that its indexes grow at one end and reading by id is reading in order
  id uuid primary key default encode(overlay(uuid_send(gen_random_uuid()) placing
    substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 'hex')::uuid,
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
  captured_quantity numeric(20, 6),
  corrects_id uuid,
  metadata jsonb not null default '{}',
  reason text,
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
  hold_expires_at timestamptz not null,
  event_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  refunded_at timestamptz,
  constraint usage_events_user_id_fkey foreign key (user_id) references auth.users (id) on delete set null,
  constraint usage_events_key unique (workspace_id, key),
  constraint usage_events_amounts_in_order check (quantity > 0
    and refunded_micro between 0 and captured_micro and captured_micro <= amount_micro),
  -- one check: PostgreSQL reads the text of each anew for every statement that writes
  constraint usage_events_status_fits_facts check (case status
    when 'held' then completed_at is null and captured_quantity is null and captured_micro = 0
    when 'captured' then completed_at is not null and (refunded_micro < captured_micro or captured_micro = 0)
    when 'released' then completed_at is not null and captured_quantity is null and captured_micro = 0
    when 'refunded' then completed_at is not null and refunded_at is not null and refunded_micro = captured_micro
    else false end)
) with (fillfactor = 60);
comment on table billing.usage_events is
  'One charge: what was measured, what was held, captured and refunded, and from which sources.';
comment on column billing.usage_events.sources is
  'What each source gave, in order of drawing: [{source, lot_id, held, captured, refunded}], micro-units.';
comment on column billing.usage_events.captured_quantity is 'How much of the quantity was charged; null: not captured.';
comment on column billing.usage_events.corrects_id is 'The charge that this one adds to; null: a charge of its own.';
comment on column billing.usage_events.event_at is 'When the work was done; created_at is when it was booked.';
comment on column billing.usage_events.correlation_id is 'The request, webhook or schedule it came of; null: none.';
comment on column billing.usage_events.hold_expires_at is 'A hold nobody settled by then is released by a sweep.';
create index usage_events_workspace_id on billing.usage_events (workspace_id, created_at desc);
create index usage_events_user_id on billing.usage_events (user_id) where user_id is not null;
create index usage_events_corrects_id on billing.usage_events (corrects_id) where corrects_id is not null;
create index usage_events_correlation_id on billing.usage_events (correlation_id) where correlation_id is not null;
create index usage_events_holds on billing.usage_events (hold_expires_at) where status = 'held';
alter table billing.usage_events enable row level security;
create policy "Members may read their workspace's usage" on billing.usage_events for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.usage_events from public, anon, authenticated, service_role;
grant select on table billing.usage_events to authenticated, service_role;

-- The ledger names charges and charges name meters without foreign keys: what is named stays.
create function private.keep_charge() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from billing.ledger_transactions t where t.usage_event_id = old.id) then
    perform private.fail('immutable_row', 'A charge that the ledger names is never deleted.',
      jsonb_build_object('usage_event_id', old.id));
  end if;
  return old;
end $$;
comment on function private.keep_charge() is 'Trigger: refuses to delete a charge that the ledger names.';
revoke all on function private.keep_charge from public, anon, authenticated, service_role;
create trigger usage_events_keep before delete on billing.usage_events
  for each row execute function private.keep_charge();
create trigger usage_events_not_truncated before truncate on billing.usage_events
  for each statement execute function private.forbid_change();

create function private.keep_used_meter() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from billing.usage_events e where e.meter_id = old.id) then
    perform private.fail('meter_in_use', format('The meter "%s" has measured work.', old.slug),
      jsonb_build_object('meter', old.slug));
  end if;
  return old;
end $$;
comment on function private.keep_used_meter() is 'Trigger: refuses to delete a meter that charges name.';
revoke all on function private.keep_used_meter from public, anon, authenticated, service_role;
create trigger meters_keep_used before delete on billing.meters
  for each row execute function private.keep_used_meter();

insert into private.error_codes (name, sqlstate, hint) values
  ('meter_in_use', 'PT409', 'Retire the meter instead: set is_active to false.'),
  ('unknown_meter', 'PT404', 'Use the slug of an active meter: see billing.meters.'),
  ('insufficient_credits', 'PT402', 'Buy credits or wait for the next allowance, then try again.'),
  ('unknown_usage_event', 'PT404', 'Check the usage event''s id.'),
  ('usage_not_held', 'PT409', 'Only a held charge can be captured or released; refund a captured one.'),
  ('usage_not_captured', 'PT409', 'Only a captured charge can be refunded; release a held one.'),
  ('capture_too_large', 'PT400', 'Capture at most what was held; authorize more beforehand.'),
  ('refund_too_large', 'PT400', 'Refund at most what was captured and not refunded yet.');

create type billing.usage_result as (usage_event_id uuid, status text, amount_micro bigint, created boolean);

create type billing.price as (meter_id uuid, unit_amount_micro bigint, amount_micro bigint);

-- The active meter and what a quantity of it costs. Quantities have six decimals; fractions of a micro-unit
-- are rounded up.
create function billing._price(meter text, quantity numeric) returns billing.price
language plpgsql stable
set search_path = ''
as $$
declare
  v_price billing.price;
begin
  if quantity is null or quantity = 'NaN' or round(quantity, 6) <= 0 or quantity > 1000000000 then
    perform private.fail('invalid_argument', 'quantity must be at least 0.000001 and at most 1,000,000,000.',
      '{"argument": "quantity"}');
  end if;
  select m.id, m.unit_amount_micro, ceil(m.unit_amount_micro * round(quantity, 6))::bigint
  into v_price
  from billing.meters m where m.slug = meter and m.is_active;
  if not found then
    perform private.fail('unknown_meter', format('There is no active meter "%s".', meter),
      jsonb_build_object('meter', meter));
  end if;
  return v_price;
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
  available_micro := available_micro + (select coalesce(sum(l.remaining_micro), 0) from billing.credit_lots l
    where l.workspace_id = quote.workspace_id and l.is_open and quote.meter = any (l.meters)
      and (l.expires_at is null or l.expires_at > private.now()));
  select p.amount_micro into amount_micro from billing._price(meter, quantity) p;
  affordable := available_micro >= amount_micro;
  return next;
end $$;
comment on function billing.quote is
  'What a quantity of a meter costs, what is available (micro-units), and whether it suffices.';
revoke all on function billing.quote from public, anon, authenticated, service_role;
grant execute on function billing.quote to authenticated, service_role;

-- Chooses the sources of an amount for a meter in drawing order: as usage_events.sources has them, and the ledger
-- lines that take from them. left_micro is what the wallet lacks. The caller holds the fresh wallet.
create function billing._draw(wallet billing.wallets, meter text, amount_micro bigint, out sources jsonb,
  out lines billing.posting[], out left_micro bigint)
language plpgsql
set search_path = ''
as $$
declare
  v_lot billing.credit_lots;
  v_take bigint;
begin
  sources := '[]';
  lines := '{}';
  left_micro := amount_micro;
  if wallet.lots_micro > 0 or wallet.allowance_micro > 0 then
    for v_lot in
      select * from billing.credit_lots l
      where l.workspace_id = wallet.workspace_id and l.is_open and (l.meters is null or meter = any (l.meters))
        and (l.expires_at is null or l.expires_at > private.now())
      order by case when l.kind = 'admin' then 0 when l.code = 'allowance' then 1 else 2 end, l.priority, l.expires_at,
        l.created_at, l.id
    loop
      exit when left_micro = 0;
      v_take := least(left_micro, v_lot.remaining_micro);
      sources := sources || jsonb_build_object('source', v_lot.kind, 'lot_id', v_lot.id, 'held', v_take);
      lines := lines || row(v_lot.code, v_lot.id, -v_take)::billing.posting;
      left_micro := left_micro - v_take;
    end loop;
  end if;
  v_take := least(left_micro, wallet.prepaid_micro);
  if v_take > 0 then
    sources := sources || jsonb_build_object('source', 'prepaid', 'lot_id', null, 'held', v_take);
    lines := lines || row('prepaid', null, -v_take)::billing.posting;
    left_micro := left_micro - v_take;
  end if;
end $$;
comment on function billing._draw is 'Splits an amount over a wallet''s sources in drawing order.';
revoke all on function billing._draw from public, anon, authenticated, service_role;

-- What a wallet must be to pay: active and sufficient. Errors: wallet_frozen, insufficient_credits.
create function billing._refuse_charge(wallet billing.wallets, amount_micro bigint, left_micro bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  if wallet.status = 'frozen' then
    perform private.fail('wallet_frozen', 'This wallet is frozen.',
      jsonb_build_object('workspace_id', wallet.workspace_id));
  elsif left_micro > 0 then
    perform private.fail('insufficient_credits',
      format('This needs %s micro-units and %s are available.', amount_micro, amount_micro - left_micro),
      jsonb_build_object('required_micro', amount_micro, 'available_micro', amount_micro - left_micro,
        'missing_micro', left_micro));
  end if;
end $$;
comment on function billing._refuse_charge is 'Fails when a wallet cannot pay a charge.';
revoke all on function billing._refuse_charge from public, anon, authenticated, service_role;

-- Holds what a quantity of a meter costs, once for a key. Answers the first call's charge with
-- created = false on a repeat. metadata may carry user_id, source_platform and source_id, which have
-- columns of their own. Errors: unknown_workspace, unknown_meter, invalid_argument, key_required,
-- key_reused, wallet_frozen, insufficient_credits (details: required_micro, available_micro, missing_micro).
create function billing.authorize_usage(workspace_id uuid, meter text, quantity numeric, key text,
  metadata jsonb default '{}')
returns billing.usage_result
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_variable
declare
  v_now timestamptz := private.now();
  v_price billing.price;
  v_wallet billing.wallets;
  v_event billing.usage_events;
  v_user uuid;
  v_hash bytea := private.content_hash(jsonb_build_object('meter', meter, 'quantity', trim_scale(quantity), 'metadata',
    metadata));
  v_draw record;
begin
  if coalesce(length(key), 0) not between 1 and 255 then
    perform billing._check_key(key);
  end if;
  select * into v_wallet from billing.wallets w where w.workspace_id = authorize_usage.workspace_id for no key update;
  if not found then
    perform billing._lock_wallet(workspace_id);
  end if;
  select * into v_event from billing.usage_events e where e.workspace_id = authorize_usage.workspace_id
    and e.key = authorize_usage.key;
  if found then
    if v_event.content_hash <> v_hash then
      perform private.fail('key_reused', 'This key has been used for a different charge.',
        jsonb_build_object('key', key, 'usage_event_id', v_event.id));
    end if;
    return row(v_event.id, v_event.status, v_event.amount_micro, false)::billing.usage_result;
  end if;

  v_price := billing._price(meter, quantity);
  if least(v_wallet.allowance_due_at, v_wallet.lots_due_at) <= v_now then
    v_wallet := billing._fresh_wallet(workspace_id);
  end if;
  v_draw := billing._draw(v_wallet, meter, v_price.amount_micro);
  if v_draw.left_micro > 0 or v_wallet.status <> 'active' then
    perform billing._refuse_charge(v_wallet, v_price.amount_micro, v_draw.left_micro);
  end if;
  if metadata ? 'user_id' then
    select u.id into v_user from auth.users u where u.id = private.try_uuid(metadata ->> 'user_id');
  end if;
  insert into billing.usage_events (workspace_id, user_id, meter_id, quantity, unit_amount_micro, amount_micro, sources,
    key, content_hash, plan_slug, source_platform, source_id, metadata, hold_expires_at, event_at)
  values (workspace_id, v_user, v_price.meter_id, quantity, v_price.unit_amount_micro, v_price.amount_micro,
    v_draw.sources, key, v_hash, v_wallet.plan_slug, metadata ->> 'source_platform', metadata ->> 'source_id',
    coalesce(metadata, '{}'), v_now + interval '1 day', v_now)
  returning id into v_event.id;
  if v_price.amount_micro > 0 then
    perform billing._post(workspace_id, 'authorize',
      v_draw.lines || row('held', null, v_price.amount_micro)::billing.posting, usage_event_id => v_event.id,
      event_at => v_now);
  end if;
  return row(v_event.id, 'held', v_price.amount_micro, true)::billing.usage_result;
end $$;
comment on function billing.authorize_usage is 'Holds the price of a quantity of a meter, once for a key for ever.';
revoke all on function billing.authorize_usage from public, anon, authenticated, service_role;
grant execute on function billing.authorize_usage to service_role;
