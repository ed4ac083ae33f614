-- Charging for work: a charge is authorized (held) when work is requested. Credits are drawn from admin
-- grants, then the allowance, then lots by earliest expiry, then the prepaid balance. What becomes of a hold
-- is in the next file, refunds are in the one after. Whoever changes a charge holds its wallet's lock, and
-- no other.

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
  correlation_id uuid default nullif(current_setting('backlot.correlation_id', true), '')::uuid,
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
comment on column billing.usage_events.correlation_id is 'The request, webhook or schedule it came of; null: none.';
comment on column billing.usage_events.hold_expires_at is 'A hold nobody settled by then is released by a sweep.';
create index usage_events_workspace_id on billing.usage_events (workspace_id, created_at desc);
create index usage_events_user_id on billing.usage_events (user_id) where user_id is not null;
create index usage_events_meter_id on billing.usage_events (meter_id, created_at desc);
create index usage_events_correlation_id on billing.usage_events (correlation_id) where correlation_id is not null;
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
