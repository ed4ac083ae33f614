-- Credits whose payment was returned (a refund, a lost dispute) are taken back as far as they are unspent. A wallet
-- never goes below zero: what was spent, held or expired is missing, and the caller hears how much that is.

alter table billing.credit_lots add constraint credit_lots_payment_id_fkey
  foreign key (payment_id) references billing.payments (id);

create table billing.claw_backs (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  payment_id uuid not null,
  amount_micro bigint not null,
  taken_micro bigint not null,
  missing_micro bigint not null,
  reason text not null,
  key text not null,
  ledger_transaction_id bigint,
  created_at timestamptz not null default now(),
  constraint claw_backs_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id),
  constraint claw_backs_payment_id_fkey foreign key (payment_id) references billing.payments (id),
  constraint claw_backs_transaction_fkey foreign key (ledger_transaction_id)
    references billing.ledger_transactions (id),
  constraint claw_backs_key unique (payment_id, key),
  constraint claw_backs_key_length check (length(key) between 1 and 255),
  constraint claw_backs_amounts_add_up check (amount_micro > 0 and taken_micro >= 0 and missing_micro >= 0
    and taken_micro + missing_micro = amount_micro),
  constraint claw_backs_taken_is_booked check ((taken_micro > 0) = (ledger_transaction_id is not null))
);
comment on table billing.claw_backs is
  'Credits taken back because their payment was returned, and how much could not be; micro-units.';
create index claw_backs_workspace_id on billing.claw_backs (workspace_id, created_at desc);
create index claw_backs_transaction on billing.claw_backs (ledger_transaction_id);
create trigger claw_backs_immutable before update or delete on billing.claw_backs
  for each row execute function private.forbid_change();
alter table billing.claw_backs enable row level security;
create policy "Members may read what their workspace gave back" on billing.claw_backs for select to authenticated
  using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
revoke all on table billing.claw_backs from public, anon, authenticated, service_role;
grant select on table billing.claw_backs to authenticated, service_role;

-- What a claw-back of so much may take, in order: the payment's own lots, the prepaid balance when the payment
-- brought prepaid, then what else was bought (money is money), never what was given. The caller holds the wallet's
-- lock.
create function billing._claw_back_lines(payment billing.payments, amount_micro bigint) returns billing.posting[]
language sql stable
set search_path = ''
as $$
  select array_agg(row(t.code, t.lot_id, -t.take)::billing.posting order by t.turn, t.created_at, t.lot_id)
  from (
    select s.*, least(s.have, amount_micro - (sum(s.have) over (order by s.turn, s.created_at, s.lot_id) - s.have))
      as take
    from (
      select case when l.payment_id = payment.id then 1 else 3 end as turn, 'lots' as code, l.id as lot_id,
        l.remaining_micro as have, l.created_at
      from billing.credit_lots l
      where l.workspace_id = payment.workspace_id and l.is_open and (l.kind = 'purchase' or l.payment_id is not null)
      union all
      select 2, 'prepaid', null, w.prepaid_micro, w.created_at
      from billing.wallets w where w.workspace_id = payment.workspace_id and w.prepaid_micro > 0
    ) s
  ) t
  where t.take > 0
$$;
comment on function billing._claw_back_lines is 'Ledger lines that take back so much of what a payment brought.';
revoke all on function billing._claw_back_lines from public, anon, authenticated, service_role;

-- Takes back credits of a payment, once for a key: at most what the payment brought and no earlier call took.
-- Returns {taken_micro, missing_micro, created}; what is missing was spent, is held or has expired.
-- Errors: unknown_payment, key_required, key_reused, invalid_argument.
create function billing.claw_back(payment_id uuid, amount_micro bigint, reason text, key text) returns jsonb
language plpgsql security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_payment billing.payments;
  v_known billing.claw_backs;
  v_lines billing.posting[];
  v_taken bigint;
  v_transaction bigint;
begin
  perform billing._check_key(key);
  if amount_micro is null or amount_micro <= 0 or coalesce(length(trim(reason)), 0) = 0 then
    perform private.fail('invalid_argument', 'A claw-back needs an amount above 0 and a reason.',
      jsonb_build_object('argument', case when amount_micro > 0 then 'reason' else 'amount_micro' end));
  end if;
  select * into v_payment from billing.payments p where p.id = payment_id;
  if not found then
    perform private.fail('unknown_payment', 'There is no such payment.', jsonb_build_object('payment_id', payment_id));
  end if;
  perform billing._fresh_wallet(v_payment.workspace_id);
  select * into v_known from billing.claw_backs c where c.payment_id = claw_back.payment_id and c.key = claw_back.key;
  if found then
    if v_known.amount_micro <> amount_micro then
      perform private.fail('key_reused', 'This key has been used to take back another amount.',
        jsonb_build_object('key', key, 'amount_micro', v_known.amount_micro));
    end if;
    return jsonb_build_object('taken_micro', v_known.taken_micro, 'missing_micro', v_known.missing_micro,
      'created', false);
  end if;

  v_lines := billing._claw_back_lines(v_payment, least(amount_micro,
    (select coalesce(-sum(e.amount_micro) filter (where t.kind = 'purchase'), 0)
        - coalesce(sum(e.amount_micro) filter (where t.kind = 'claw_back'), 0)
      from billing.ledger_transactions t
      join billing.ledger_entries e on e.transaction_id = t.id
      join billing.ledger_accounts a on a.id = e.account_id and a.code = 'payments'
      where t.payment_id = claw_back.payment_id)::bigint));
  select coalesce(-sum(l.amount_micro), 0) into v_taken from unnest(v_lines) l;
  if v_taken > 0 then
    v_transaction := billing._post(v_payment.workspace_id, 'claw_back',
      v_lines || row('payments', null, v_taken)::billing.posting, payment_id => payment_id, reason => reason);
  end if;
  insert into billing.claw_backs (workspace_id, payment_id, amount_micro, taken_micro, missing_micro, reason, key,
    ledger_transaction_id)
  values (v_payment.workspace_id, payment_id, amount_micro, v_taken, amount_micro - v_taken, reason, key,
    v_transaction);
  return jsonb_build_object('taken_micro', v_taken, 'missing_micro', amount_micro - v_taken, 'created', true);
end $$;
comment on function billing.claw_back is
  'Takes back unspent credits of a returned payment, once for a key; says what is missing.';
revoke all on function billing.claw_back from public, anon, authenticated, service_role;
grant execute on function billing.claw_back to service_role;
