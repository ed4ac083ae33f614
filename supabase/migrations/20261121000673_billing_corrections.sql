-- Corrections: a charge of any age is amended or voided, and work nobody charged is entered later, always by new
-- ledger transactions. What is taken off goes back to its sources; what is added is a charge of its own that names the
-- one it corrects. Of the service only.

create table billing.usage_corrections (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  usage_event_id uuid not null,
  kind text not null,
  quantity_before numeric(20, 6) not null,
  quantity_after numeric(20, 6) not null,
  amount_before_micro bigint not null,
  amount_after_micro bigint not null,
  reason text not null,
  key text not null,
  content_hash bytea not null,
  created_at timestamptz not null default now(),
  constraint usage_corrections_usage_event_id_fkey foreign key (usage_event_id) references billing.usage_events (id),
  constraint usage_corrections_key unique (workspace_id, key),
  constraint usage_corrections_kind_known check (kind in ('amend', 'void', 'backfill')),
  constraint usage_corrections_amounts_not_negative check (quantity_before >= 0 and quantity_after >= 0
    and amount_before_micro >= 0 and amount_after_micro >= 0),
  constraint usage_corrections_key_length check (length(key) between 1 and 255)
);
comment on table billing.usage_corrections is
  'What charges were amended, voided or entered later, why, and what they came to; micro-units.';
create index usage_corrections_usage_event_id on billing.usage_corrections (usage_event_id, created_at);
create trigger usage_corrections_immutable before update or delete on billing.usage_corrections
  for each row execute function private.forbid_change();
alter table billing.usage_corrections enable row level security;
create policy "Members may read the corrections of their workspace" on billing.usage_corrections for select
  to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.usage_corrections from public, anon, authenticated, service_role;
grant select on table billing.usage_corrections to authenticated, service_role;

create type billing.correction_effect as (
  amount_before_micro bigint, amount_after_micro bigint, allowance_micro bigint, lots_micro bigint,
  prepaid_micro bigint, available_micro bigint
);

insert into private.error_codes (name, sqlstate, hint) values
  ('usage_held', 'PT409', 'Capture or release the charge first; then it can be corrected.'),
  ('correction_previewed', 'PT409', 'billing.preview_correction undoes what it tried in this way; it never leaves it.');

-- A charge that is made and captured at once: what a correction adds to another charge, or work entered later.
create function billing._charge_at_once(draft billing.usage_events, meter text, reason text) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_wallet billing.wallets := billing._fresh_wallet(draft.workspace_id);
  v_draw record := billing._draw(v_wallet, meter, draft.amount_micro);
  v_id uuid;
begin
  if v_draw.left_micro > 0 then
    v_wallet.status := 'active';  -- a frozen wallet can be corrected, an empty one cannot pay
    perform billing._refuse_charge(v_wallet, draft.amount_micro, v_draw.left_micro);
  end if;
  insert into billing.usage_events (workspace_id, user_id, meter_id, quantity, captured_quantity, unit_amount_micro,
    amount_micro, captured_micro, status, sources, key, content_hash, plan_slug, source_platform, source_id,
    corrects_id, metadata, reason, hold_expires_at, completed_at, event_at)
  values (draft.workspace_id, draft.user_id, draft.meter_id, draft.quantity, draft.quantity, draft.unit_amount_micro,
    draft.amount_micro, draft.amount_micro, 'captured', (select coalesce(jsonb_agg(s || jsonb_build_object('captured',
      (s ->> 'held')::bigint, 'refunded', 0) order by n), '[]') from jsonb_array_elements(v_draw.sources)
      with ordinality as e (s, n)), draft.key, draft.content_hash, draft.plan_slug, draft.source_platform,
    draft.source_id, draft.corrects_id, coalesce(draft.metadata, '{}'), reason, private.now(), private.now(),
    draft.event_at)
  returning id into v_id;
  if draft.amount_micro > 0 then
    perform billing._post(draft.workspace_id, 'adjust',
      v_draw.lines || row('revenue', null, draft.amount_micro)::billing.posting, usage_event_id => v_id,
      reason => reason, event_at => draft.event_at);
  end if;
  return v_id;
end $$;
comment on function billing._charge_at_once is 'Charges what a correction adds, at the time it belongs to.';
revoke all on function billing._charge_at_once from public, anon, authenticated, service_role;

-- The correction of a key, when there is one. Error: key_reused.
create function billing._known_correction(workspace_id uuid, key text, content_hash bytea)
returns billing.usage_corrections
language plpgsql stable
set search_path = ''
as $$
declare
  v_known billing.usage_corrections;
begin
  select * into v_known from billing.usage_corrections c
  where c.workspace_id = _known_correction.workspace_id and c.key = _known_correction.key;
  if v_known.content_hash <> _known_correction.content_hash then
    perform private.fail('key_reused', 'This key has been used for a different correction.',
      jsonb_build_object('key', key));
  end if;
  return v_known;
end $$;
comment on function billing._known_correction is 'An earlier correction under this key, or nulls.';
revoke all on function billing._known_correction from public, anon, authenticated, service_role;

-- Makes a charge come to what another quantity costs at the price of its day, once for a key; 0 voids it. Less goes
-- back to its sources, more is drawn from the wallet now and never below zero. Refunds so far are part of what it came
-- to. Errors: unknown_usage_event, usage_held, invalid_argument, insufficient_credits, key_required, key_reused.
create function billing.amend_usage(usage_event_id uuid, quantity numeric, reason text, key text)
returns billing.usage_corrections
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_asked billing.usage_events := billing._lock_usage(usage_event_id);
  v_event billing.usage_events;
  v_part billing.usage_events;
  v_correction billing.usage_corrections;
  v_hash bytea := private.content_hash(jsonb_build_object('event', v_asked.id, 'quantity', trim_scale(quantity)));
  v_back bigint;
begin
  perform billing._check_key(key);
  v_correction := billing._known_correction(v_asked.workspace_id, key, v_hash);
  if v_correction.id is not null then
    return v_correction;
  end if;
  if quantity is null or quantity = 'NaN' or quantity < 0 or quantity > 1000000000
    or coalesce(length(trim(reason)), 0) = 0 then
    perform private.fail('invalid_argument', 'A correction needs a quantity of 0 or more and a reason.',
      jsonb_build_object('argument', case when quantity between 0 and 1000000000 then 'reason' else 'quantity' end));
  end if;
  select * into v_event from billing.usage_events e where e.id = coalesce(v_asked.corrects_id, v_asked.id);
  if v_event.status = 'held' then
    perform private.fail('usage_held', 'This charge is still held.', jsonb_build_object('status', v_event.status));
  end if;
  select coalesce(sum(e.captured_micro - e.refunded_micro), 0) into v_correction.amount_before_micro
  from billing.usage_events e where e.id = v_event.id or e.corrects_id = v_event.id;
  v_correction.amount_after_micro := ceil(v_event.unit_amount_micro * round(quantity, 6));
  v_correction.quantity_before := coalesce((select c.quantity_after from billing.usage_corrections c
    where c.usage_event_id = v_event.id order by c.created_at desc, c.id limit 1), v_event.captured_quantity, 0);

  v_back := v_correction.amount_before_micro - v_correction.amount_after_micro;
  if v_back < 0 then
    v_part := v_event;
    v_part.corrects_id := v_event.id;
    v_part.key := format('correction:%s', key);
    v_part.content_hash := v_hash;
    v_part.amount_micro := -v_back;
    v_part.quantity := greatest(round(-v_back::numeric / v_event.unit_amount_micro, 6), 0.000001);
    perform billing._charge_at_once(v_part, (select m.slug from billing.meters m where m.id = v_event.meter_id),
      reason);
  end if;
  for v_part in
    select * from billing.usage_events e where e.id = v_event.id or e.corrects_id = v_event.id
    order by e.id <> v_event.id desc, e.created_at desc, e.id
  loop
    exit when v_back <= 0;
    continue when v_part.captured_micro = v_part.refunded_micro;
    perform billing._return_charge(v_part, least(v_back, v_part.captured_micro - v_part.refunded_micro), 'adjust',
      reason);
    v_back := v_back - (v_part.captured_micro - v_part.refunded_micro);
  end loop;
  insert into billing.usage_corrections (workspace_id, usage_event_id, kind, quantity_before, quantity_after,
    amount_before_micro, amount_after_micro, reason, key, content_hash, created_at)
  values (v_event.workspace_id, v_event.id, case quantity when 0 then 'void' else 'amend' end,
    v_correction.quantity_before, quantity, v_correction.amount_before_micro, v_correction.amount_after_micro, reason,
    key, v_hash, clock_timestamp())
  returning * into v_correction;
  return v_correction;
end $$;
comment on function billing.amend_usage is
  'Corrects a charge of any age to what another quantity costs, once for a key; 0 voids it.';
revoke all on function billing.amend_usage from public, anon, authenticated, service_role;
grant execute on function billing.amend_usage to service_role;

-- Enters work that nobody charged, at the time it was done, once for a key; at today's price of the meter or at the
-- one told. Errors: unknown_workspace, unknown_meter, invalid_argument, insufficient_credits, key_required, key_reused.
create function billing.backfill_usage(workspace_id uuid, meter text, quantity numeric, event_at timestamptz,
  reason text, key text, unit_amount_micro bigint default null, metadata jsonb default '{}')
returns billing.usage_corrections
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_draft billing.usage_events;
  v_correction billing.usage_corrections;
begin
  perform billing._check_key(key);
  perform billing._lock_wallet(workspace_id);
  v_draft.content_hash := private.content_hash(jsonb_build_object('meter', meter, 'quantity', trim_scale(quantity),
    'event_at', extract(epoch from event_at), 'unit_amount_micro', unit_amount_micro, 'metadata', metadata));
  v_correction := billing._known_correction(workspace_id, key, v_draft.content_hash);
  if v_correction.id is not null then
    return v_correction;
  end if;
  if (quantity > 0 and quantity <= 1000000000 and round(quantity, 6) > 0 and event_at <= private.now()
      and isfinite(event_at) and coalesce(unit_amount_micro, 0) between 0 and 1000000000
      and length(trim(reason)) > 0) is not true then
    perform private.fail('invalid_argument',
      'Work is entered with a quantity above 0, a time in the past, a price of 0 or more and a reason.',
      '{"argument": "quantity"}');
  end if;
  select m.id, coalesce(backfill_usage.unit_amount_micro, m.unit_amount_micro)
  into v_draft.meter_id, v_draft.unit_amount_micro from billing.meters m where m.slug = meter;
  if not found then
    perform private.fail('unknown_meter', format('There is no meter "%s".', meter), jsonb_build_object('meter', meter));
  end if;
  v_draft.workspace_id := workspace_id;
  v_draft.user_id := (select u.id from auth.users u where u.id = private.try_uuid(metadata ->> 'user_id'));
  v_draft.source_platform := metadata ->> 'source_platform';
  v_draft.source_id := metadata ->> 'source_id';
  v_draft.metadata := metadata;
  v_draft.quantity := round(quantity, 6);
  v_draft.amount_micro := ceil(v_draft.unit_amount_micro * v_draft.quantity);
  v_draft.key := format('correction:%s', key);
  v_draft.event_at := event_at;
  v_draft.id := billing._charge_at_once(v_draft, meter, reason);
  insert into billing.usage_corrections (workspace_id, usage_event_id, kind, quantity_before, quantity_after,
    amount_before_micro, amount_after_micro, reason, key, content_hash)
  values (workspace_id, v_draft.id, 'backfill', 0, v_draft.quantity, 0, v_draft.amount_micro, reason, key,
    v_draft.content_hash)
  returning * into v_correction;
  return v_correction;
end $$;
comment on function billing.backfill_usage is 'Charges work of the past that nobody charged, once for a key.';
revoke all on function billing.backfill_usage from public, anon, authenticated, service_role;
grant execute on function billing.backfill_usage to service_role;

-- What a correction would do, by doing it and undoing it: what the charge comes to before and after, and by how much
-- each of the wallet's balances would move. Of a charge (usage_event_id, quantity) or of work entered later
-- (workspace_id, meter, quantity, event_at). Errors as those of the correction itself.
create function billing.preview_correction(usage_event_id uuid default null, quantity numeric default 0,
  workspace_id uuid default null, meter text default null, event_at timestamptz default null,
  unit_amount_micro bigint default null) returns billing.correction_effect
language plpgsql security definer
set search_path = ''
as $$
declare
  v_correction billing.usage_corrections;
  v_before record;
  v_after record;
  v_workspace uuid := coalesce((select e.workspace_id from billing.usage_events e
    where e.id = preview_correction.usage_event_id), preview_correction.workspace_id);
begin
  begin
    if preview_correction.usage_event_id is not null then
      perform billing._lock_usage(preview_correction.usage_event_id);
    else
      perform billing._fresh_wallet(v_workspace);
    end if;
    select * into v_before from billing.balance(v_workspace);
    if preview_correction.usage_event_id is not null then
      v_correction := billing.amend_usage(preview_correction.usage_event_id, quantity, 'preview',
        'preview:' || gen_random_uuid());
    else
      v_correction := billing.backfill_usage(v_workspace, meter, quantity, event_at, 'preview',
        'preview:' || gen_random_uuid(), preview_correction.unit_amount_micro);
    end if;
    select * into v_after from billing.balance(v_workspace);
    perform private.fail('correction_previewed', 'All of it is undone.');
  exception when others then
    if sqlerrm not like 'correction_previewed:%' then
      raise;
    end if;
  end;
  return row(v_correction.amount_before_micro, v_correction.amount_after_micro,
    v_after.allowance_micro - v_before.allowance_micro, v_after.lots_micro - v_before.lots_micro,
    v_after.prepaid_micro - v_before.prepaid_micro, v_after.available_micro)::billing.correction_effect;
end $$;
comment on function billing.preview_correction is 'What a correction would move; nothing is kept.';
revoke all on function billing.preview_correction from public, anon, authenticated, service_role;
grant execute on function billing.preview_correction to service_role;
