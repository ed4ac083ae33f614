-- How credits come into a wallet and leave it unspent: grants, the allowance of a plan, expiry.

-- Allowance periods are counted from a subscription's allowance_anchor_at, so each workspace resets on its
-- own cycle. Before the anchor it is the first period. In UTC, whatever the session's time zone.
create function billing._allowance_period(anchor timestamptz, interval_name text, at_time timestamptz)
returns table (starts_at timestamptz, ends_at timestamptz)
language plpgsql immutable
set search_path = ''
as $$
declare
  v_anchor timestamp := anchor at time zone 'UTC';
  v_step interval := case interval_name when 'week' then interval '7 days' else interval '1 month' end;
  v_count integer := greatest(0,
    floor(extract(epoch from at_time - anchor) / case interval_name when 'week' then 604800 else 2678400 end));
begin
  -- months differ in length: an estimate from below, then forward to the period that holds at_time
  while (v_anchor + (v_count + 1) * v_step) at time zone 'UTC' <= at_time loop
    v_count := v_count + 1;
  end loop;
  starts_at := (v_anchor + v_count * v_step) at time zone 'UTC';
  ends_at := (v_anchor + (v_count + 1) * v_step) at time zone 'UTC';
  return next;
end $$;
comment on function billing._allowance_period is 'The allowance period, counted from an anchor, that holds a moment.';
revoke all on function billing._allowance_period from public, anon, authenticated, service_role;
grant execute on function billing._allowance_period to authenticated, service_role;

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
    where l.workspace_id = _expire_due_lots.workspace_id and l.remaining_micro > 0 and l.expires_at <= private.now()
    order by l.expires_at, l.id
  loop
    perform billing._post(workspace_id, 'expire', array[
      row(case v_lot.kind when 'allowance' then 'allowance' else 'lots' end, v_lot.id, -v_lot.remaining_micro),
      row('expired', null, v_lot.remaining_micro)]::billing.posting[]);
    v_expired := v_expired + 1;
  end loop;
  return v_expired;
end $$;
comment on function billing._expire_due_lots(uuid) is 'Books the expiry of a workspace''s due lots; returns how many.';
revoke all on function billing._expire_due_lots from public, anon, authenticated, service_role;

-- The allowances that the next charge would issue: one for the current period of each active subscription,
-- unless the period has brought its own already or an allowance of the app is still running. So a change of
-- plan, interval or anchor brings none early, and periods nobody looked at do not add up.
create function billing._due_allowances(workspace_id uuid)
returns table (key text, amount_micro bigint, expires_at timestamptz, metadata jsonb)
language sql stable
set search_path = ''
as $$
  select k.key, p.allowance_micro, period.ends_at,
    jsonb_build_object('subscription_id', s.id, 'app', s.app, 'plan', p.slug)
  from billing.subscriptions s
  join billing.plans p on p.id = s.plan_id
  cross join lateral billing._allowance_period(s.allowance_anchor_at, p.allowance_interval, private.now()) period
  cross join lateral format('allowance:%s:%s:%s', s.id, p.allowance_interval,
    extract(epoch from period.starts_at)) as k (key)
  where s.workspace_id = _due_allowances.workspace_id and s.status in ('active', 'trialing') and p.allowance_micro > 0
    and period.starts_at <= private.now()
    and not exists (select from billing.ledger_transactions t where t.workspace_id = s.workspace_id and t.key = k.key)
    and not exists (select from billing.credit_lots l where l.workspace_id = s.workspace_id and l.kind = 'allowance'
      and l.expires_at > private.now() and l.metadata ->> 'app' = s.app)
  order by s.id
$$;
comment on function billing._due_allowances(uuid) is 'Allowances that are due but not yet booked.';
revoke all on function billing._due_allowances from public, anon, authenticated, service_role;
grant execute on function billing._due_allowances to authenticated, service_role;

-- Issues the allowances that are due and notes when to look again. The caller holds the wallet's lock.
create function billing._issue_allowances(workspace_id uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_due record;
  v_lot uuid;
begin
  for v_due in select * from billing._due_allowances(workspace_id) loop
    insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, expires_at, metadata)
    values (workspace_id, 'allowance', v_due.amount_micro, 0, v_due.expires_at, v_due.metadata)
    returning id into v_lot;
    perform billing._post(workspace_id, 'allowance', array[
      row('allowance', v_lot, v_due.amount_micro), row('grants', null, -v_due.amount_micro)]::billing.posting[],
        v_due.key);
  end loop;
  update billing.wallets w
  set allowance_due_at = (
    select min(case when period.starts_at > private.now() then period.starts_at else least(period.ends_at,
      (select min(l.expires_at) from billing.credit_lots l
        where l.workspace_id = s.workspace_id and l.kind = 'allowance' and l.expires_at > private.now())) end)
    from billing.subscriptions s
    join billing.plans p on p.id = s.plan_id
    cross join lateral billing._allowance_period(s.allowance_anchor_at, p.allowance_interval, private.now()) period
    where s.workspace_id = w.workspace_id and s.status in ('active', 'trialing'))
  where w.workspace_id = _issue_allowances.workspace_id;
end $$;
comment on function billing._issue_allowances(uuid) is 'Issues the due allowances of a workspace.';
revoke all on function billing._issue_allowances from public, anon, authenticated, service_role;

-- A wallet brought up to date under its lock: expired lots are gone, the period's allowance is there.
create function billing._fresh_wallet(workspace_id uuid) returns billing.wallets
language plpgsql
set search_path = ''
as $$
declare
  v_wallet billing.wallets := billing._lock_wallet(workspace_id);
  v_changed boolean := false;
begin
  if v_wallet.lots_micro > 0 or v_wallet.allowance_micro > 0 then
    v_changed := billing._expire_due_lots(workspace_id) > 0;
  end if;
  if v_wallet.allowance_due_at <= private.now() then
    perform billing._issue_allowances(workspace_id);
    v_changed := true;
  end if;
  if v_changed then
    v_wallet := billing._lock_wallet(workspace_id);
  end if;
  return v_wallet;
end $$;
comment on function billing._fresh_wallet(uuid) is 'Locks a wallet and brings expiry and allowance up to date.';
revoke all on function billing._fresh_wallet from public, anon, authenticated, service_role;

-- A new or changed subscription makes the workspace's allowance due.
create function private.mark_allowance_due() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update billing.wallets w set allowance_due_at = private.now() where w.workspace_id = new.workspace_id;
  return null;
end $$;
comment on function private.mark_allowance_due() is 'Trigger: the next movement of the wallet issues the allowance.';
revoke all on function private.mark_allowance_due from public, anon, authenticated, service_role;
create trigger subscriptions_mark_allowance_due
  after insert or update of plan_id, status, allowance_anchor_at on billing.subscriptions
  for each row execute function private.mark_allowance_due();

-- The core of grant_credits; payment_id names the payment that brought the credits.
create function billing._grant(workspace_id uuid, amount_micro bigint, kind text, key text, expires_at timestamptz,
  metadata jsonb, payment_id uuid)
returns table (ledger_transaction_id bigint, created boolean)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_key text := 'grant:' || key;
  v_hash bytea := private.content_hash(jsonb_build_object('amount_micro', amount_micro, 'kind', kind,
    'expires_at', extract(epoch from expires_at), 'metadata', metadata));
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
    insert into billing.credit_lots (workspace_id, kind, amount_micro, remaining_micro, expires_at, payment_id,
      metadata)
    values (workspace_id, kind, amount_micro, 0, expires_at, payment_id, coalesce(metadata, '{}'))
    returning id into v_lot;
  end if;
  ledger_transaction_id := billing._post(workspace_id, case when v_bought then 'purchase' else 'grant' end, array[
    row(case when kind = 'prepaid' then 'prepaid' else 'lots' end, v_lot, amount_micro),
    row(case when v_bought then 'payments' else 'grants' end, null, -amount_micro)]::billing.posting[],
    v_key, v_hash, payment_id => payment_id, metadata => metadata);
  created := true;
  return next;
end $$;
comment on function billing._grant is 'Books a grant or purchase of credits, once for a key.';
revoke all on function billing._grant from public, anon, authenticated, service_role;

-- Gives credits to a workspace, once for a key. kind: admin (drawn first), promotion, purchase, voucher,
-- referral, compensation (lots, drawn by earliest expiry) or prepaid (the balance that never expires).
-- Errors: unknown_workspace, invalid_argument, key_required, key_reused.
create function billing.grant_credits(workspace_id uuid, amount_micro bigint, kind text, key text,
  expires_at timestamptz default null, metadata jsonb default '{}')
returns table (ledger_transaction_id bigint, created boolean)
language sql security definer
set search_path = ''
as $$
  select g.ledger_transaction_id, g.created
    from billing._grant(workspace_id, amount_micro, kind, key, expires_at, metadata, null) g
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

-- What a workspace has, in micro-units. Lots past their expiry and an allowance that is due but not yet
-- booked are counted as the next charge would find them. Errors: unknown_workspace.
create function billing.balance(workspace_id uuid) returns table (
  allowance_micro bigint, lots_micro bigint, prepaid_micro bigint, held_micro bigint, available_micro bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_wallet billing.wallets;
begin
  perform private.require_role(workspace_id, 'viewer');
  select * into v_wallet from billing.wallets w where w.workspace_id = balance.workspace_id;
  if not found then
    perform private.fail('unknown_workspace', 'There is no such workspace.',
      jsonb_build_object('workspace_id', workspace_id));
  end if;
  select coalesce(sum(l.remaining_micro) filter (where l.kind = 'allowance'), 0),
    coalesce(sum(l.remaining_micro) filter (where l.kind <> 'allowance'), 0)
  into allowance_micro, lots_micro
  from billing.credit_lots l
  where l.workspace_id = balance.workspace_id and l.remaining_micro > 0
    and (l.expires_at is null or l.expires_at > private.now());
  if v_wallet.allowance_due_at <= private.now() then
    allowance_micro := allowance_micro + (select coalesce(sum(d.amount_micro), 0)
      from billing._due_allowances(workspace_id) d);
  end if;
  prepaid_micro := v_wallet.prepaid_micro;
  held_micro := v_wallet.held_micro;
  available_micro := allowance_micro + lots_micro + prepaid_micro;
  return next;
end $$;
comment on function billing.balance is
  'A workspace''s credits in micro-units: by source, held, and available to spend.';
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
      where l.remaining_micro > 0 and l.expires_at <= private.now() order by l.expires_at limit 500)
    for no key update skip locked
  loop
    v_expired := v_expired + billing._expire_due_lots(v_workspace);
  end loop;
  return v_expired;
end $$;
comment on function billing.expire_lots() is 'Sweep: books the expiry of up to 500 due lots; returns how many.';
revoke all on function billing.expire_lots from public, anon, authenticated, service_role;
grant execute on function billing.expire_lots to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('expire credit lots', 'billing.expire_lots', interval '5 minutes');
