-- Giving credits to a workspace, what it has, and the expiry of what nobody touches.

-- Refuses what a lot's priority and scope cannot be. Error: invalid_argument.
create function billing._check_lot_terms(kind text, priority integer, meters text[]) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_wrong text := case
    when priority is null or priority not between 0 and 1000 then 'priority'
    when cardinality(meters) = 0 or (meters is not null and kind = 'prepaid')
      or exists (select from unnest(meters) m where not exists (select from billing.meters b where b.slug = m))
      then 'meters' end;
begin
  if v_wrong is not null then
    perform private.fail('invalid_argument',
      'priority must be between 0 and 1,000, and meters known slugs; prepaid balance pays for every meter.',
      jsonb_build_object('argument', v_wrong));
  end if;
end $$;
comment on function billing._check_lot_terms is 'Refuses an impossible priority or scope of a lot.';
revoke all on function billing._check_lot_terms from public, anon, authenticated, service_role;

-- The core of grant_credits; payment_id names the payment that brought the credits.
create function billing._grant(workspace_id uuid, amount_micro bigint, kind text, key text, expires_at timestamptz,
  metadata jsonb, payment_id uuid, priority integer default 100, meters text[] default null)
returns table (ledger_transaction_id bigint, created boolean)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_key text := 'grant:' || key;
  v_hash bytea := private.content_hash(jsonb_build_object('amount_micro', amount_micro, 'kind', kind,
    'expires_at', extract(epoch from expires_at), 'metadata', metadata, 'priority', priority, 'meters', meters));
  v_known billing.ledger_transactions;
  v_bought boolean := kind in ('purchase', 'prepaid');
  v_lot uuid;
begin
  perform billing._check_key(key);
  if amount_micro is null or amount_micro not between 1 and 1000000000000 then
    perform private.fail('invalid_argument', 'amount_micro must be between 1 and 1,000,000,000,000.',
      '{"argument": "amount_micro"}');
  end if;
  if kind is null or kind not in ('admin', 'promotion', 'purchase', 'voucher', 'referral', 'compensation',
    'prepaid') then
    perform private.fail('invalid_argument',
      'kind must be admin, promotion, purchase, voucher, referral, compensation or prepaid.', '{"argument": "kind"}');
  end if;
  perform billing._check_lot_terms(kind, priority, meters);
  perform billing._lock_wallet(workspace_id);
  select * into v_known from billing.ledger_transactions t where t.workspace_id = _grant.workspace_id and t.key = v_key;
  if found then
    if v_known.content_hash <> v_hash then
      perform private.fail('key_reused', 'This key has been used for a different grant.',
        jsonb_build_object('key', key));
    end if;
    ledger_transaction_id := v_known.id;
    created := false;
    return next;
    return;
  end if;
  if expires_at <= private.now() or (kind = 'prepaid' and expires_at is not null) then
    perform private.fail('invalid_argument', 'expires_at must lie ahead, and prepaid balance never expires.',
      '{"argument": "expires_at"}');
  end if;
  if kind <> 'prepaid' then
    insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, priority, meters, expires_at,
      payment_id, metadata)
    values (workspace_id, kind, amount_micro, 0, priority, meters, expires_at, payment_id, coalesce(metadata, '{}'))
    returning id into v_lot;
  end if;
  ledger_transaction_id := billing._post(workspace_id, case when v_bought then 'purchase' else 'grant' end, array[
    row(case when kind = 'prepaid' then 'prepaid' else 'lots' end, v_lot, amount_micro),
    row(case when v_bought then 'payments' else 'grants' end, null, -amount_micro)]::billing.posting[],
    v_key, v_hash, payment_id => payment_id, metadata => metadata);
  if meters is not null then
    perform billing._raise_reload(workspace_id, amount_micro);
  end if;
  created := true;
  return next;
end $$;
comment on function billing._grant is 'Books a grant or purchase of credits, once for a key.';
revoke all on function billing._grant from public, anon, authenticated, service_role;

-- Gives credits to a workspace, once for a key. kind: admin (drawn first), promotion, purchase, voucher,
-- referral, compensation (lots, drawn by priority, lowest first, then by earliest expiry) or prepaid (the balance that
-- never expires). meters: slugs of the only meters a lot pays for; null: every meter.
-- Errors: unknown_workspace, invalid_argument, key_required, key_reused.
create function billing.grant_credits(workspace_id uuid, amount_micro bigint, kind text, key text,
  expires_at timestamptz default null, metadata jsonb default '{}', priority integer default 100,
  meters text[] default null)
returns table (ledger_transaction_id bigint, created boolean)
language sql security definer
set search_path = ''
as $$
  select g.ledger_transaction_id, g.created
    from billing._grant(workspace_id, amount_micro, kind, key, expires_at, metadata, null, priority, meters) g
$$;
comment on function billing.grant_credits is 'Gives micro-units to a workspace, once for a key for ever.';
revoke all on function billing.grant_credits from public, anon, authenticated, service_role;
grant execute on function billing.grant_credits to service_role;

create function billing._check_key(key text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if coalesce(length(key), 0) not between 1 and 255 then
    perform private.fail('key_required', 'A key of 1 to 255 characters is required.', '{"argument": "key"}');
  end if;
end $$;
comment on function billing._check_key(text) is 'Refuses a missing or overlong idempotency key.';
revoke all on function billing._check_key from public, anon, authenticated, service_role;

-- What a workspace has, in micro-units. Lots past their expiry and allowances that are due but not yet
-- booked are counted as the next charge would find them. Lots that pay for certain meters only are part of
-- lots_micro, not of available_micro, which any work may draw; billing.quote knows what one meter may.
-- Errors: unknown_workspace.
create function billing.balance(workspace_id uuid) returns table (
  allowance_micro bigint, lots_micro bigint, prepaid_micro bigint, held_micro bigint, available_micro bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_wallet billing.wallets;
  v_now timestamptz := private.now();
  v_due boolean;
  v_scoped bigint := 0;
begin
  perform private.require_role(workspace_id, 'viewer');
  select * into v_wallet from billing.wallets w where w.workspace_id = balance.workspace_id;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  v_due := coalesce(least(v_wallet.allowance_due_at, v_wallet.lots_due_at) <= v_now, false);
  allowance_micro := v_wallet.allowance_micro;
  lots_micro := v_wallet.lots_micro;
  if v_due or lots_micro > 0 then
    select coalesce(sum(l.remaining_micro) filter (where l.code = 'allowance'), 0),
      coalesce(sum(l.remaining_micro) filter (where l.code = 'lots'), 0),
      coalesce(sum(l.remaining_micro) filter (where l.meters is not null), 0)
    into allowance_micro, lots_micro, v_scoped
    from billing.credit_lots l
    where l.workspace_id = balance.workspace_id and l.is_open and (l.expires_at is null or l.expires_at > v_now);
  end if;
  if v_due then
    allowance_micro := allowance_micro + (select coalesce(sum(d.due_micro + d.carried_micro + d.regenerated_micro), 0)
      from billing._due_allowances(workspace_id) d);
  end if;
  prepaid_micro := v_wallet.prepaid_micro;
  held_micro := v_wallet.held_micro;
  available_micro := allowance_micro + lots_micro + prepaid_micro - v_scoped;
  return next;
end $$;
comment on function billing.balance is
  'A workspace''s credits in micro-units: by source, held, and available to any work.';
revoke all on function billing.balance from public, anon, authenticated, service_role;
grant execute on function billing.balance to authenticated, service_role;

-- Sweep: books the expiry of lots in wallets that nobody touches. It waits for no wallet (a busy one is
-- brought up to date by its own next charge), so it is never part of a deadlock.
create function billing.expire_lots() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_workspace uuid;
  v_expired integer := 0;
begin
  for v_workspace in
    select w.workspace_id from billing.wallets w
    where w.workspace_id in (select l.workspace_id from billing.credit_lots l
      where l.is_open and l.expires_at <= private.now() order by l.expires_at limit 500)
    for no key update skip locked
  loop
    v_expired := v_expired + billing._refresh_wallet(v_workspace);
  end loop;
  return v_expired;
end $$;
comment on function billing.expire_lots() is 'Sweep: books the expiry of up to 500 due lots; returns how many.';
revoke all on function billing.expire_lots from public, anon, authenticated, service_role;
grant execute on function billing.expire_lots to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('expire credit lots', 'billing.expire_lots', interval '5 minutes');
