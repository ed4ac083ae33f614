-- How a payout goes on. What is known of it (transfer, way to the bank, reversal) is recorded as it is learnt, from
-- the job's own calls or from events, in any order and as often as it comes; its status and its bookings follow from
-- what is known. Source: Stripe API, Transfers, Transfer reversals, Payouts (a payout may fail after it was paid).

create function billing._lock_payout(payout_id uuid) returns billing.payouts
language plpgsql
set search_path = ''
as $$
declare
  v_payout billing.payouts;
begin
  select * into v_payout from billing.payouts p where p.id = payout_id;
  if not found then
    perform private.fail('unknown_payout', 'There is no such payout.', jsonb_build_object('payout_id', payout_id));
  end if;
  perform private.correlate(v_payout.correlation_id);
  perform billing._lock_wallet(v_payout.workspace_id);
  select * into v_payout from billing.payouts p where p.id = payout_id for update;
  return v_payout;
end $$;
comment on function billing._lock_payout(uuid) is 'A payout, locked after its wallet. Error: unknown_payout.';
revoke all on function billing._lock_payout from public, anon, authenticated, service_role;

-- Books a part of a payout, once: the key names what will have been settled and returned after it.
create function billing._book_payout(payout billing.payouts, from_code text, to_code text, amount_minor bigint,
  settled_minor bigint, returned_minor bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  if amount_minor > 0 then
    perform billing._move_payable(payout.workspace_id, payout.currency, from_code, to_code,
      amount_minor * private.minor_unit_micro(payout.currency),
      format('payout:%s:%s:%s:%s', payout.id, to_code, settled_minor, returned_minor), null, payout.failure_code,
      jsonb_build_object('payout_id', payout.id));
  end if;
end $$;
comment on function billing._book_payout is 'Moves a part of a payout between accounts of the ledger.';
revoke all on function billing._book_payout from public, anon, authenticated, service_role;

-- Brings status and bookings of a locked payout to what is known of it.
create function billing._settle_payout(payout billing.payouts) returns billing.payouts
language plpgsql
set search_path = ''
as $$
declare
  v_bank_refused boolean := coalesce(payout.bank_status in ('failed', 'canceled'), false);
  v_returned bigint := case when payout.refused then payout.amount_minor else payout.reversed_minor end;
  v_settled bigint := case when payout.bank_status = 'paid' then payout.amount_minor - v_returned else 0 end;
  v_status text := case
    when v_returned = payout.amount_minor then case when payout.refused or v_bank_refused then 'failed'
      else 'reversed' end
    when v_bank_refused then 'returning' when payout.bank_status = 'paid' then 'paid'
    when payout.provider_payout_id is not null then 'paying'
    when payout.provider_transfer_id is not null then 'transferred' else 'queued' end;
  v_row billing.payouts;
begin
  perform billing._book_payout(payout, 'transfers', 'in_transit', payout.settled_minor - v_settled, v_settled,
    payout.returned_minor);
  perform billing._book_payout(payout, 'in_transit', 'payable', v_returned - payout.returned_minor,
    least(payout.settled_minor, v_settled), v_returned);
  perform billing._book_payout(payout, 'in_transit', 'transfers', v_settled - payout.settled_minor, v_settled,
    v_returned);
  update billing.payouts p
  set status = v_status, settled_minor = v_settled, returned_minor = v_returned,
    finished_at = case when v_status in ('paid', 'failed', 'reversed') then coalesce(p.finished_at, private.now()) end,
    next_try_at = case when v_status in ('paid', 'failed', 'reversed') then null else p.next_try_at end
  where p.id = payout.id
  returning * into v_row;
  if v_status <> payout.status then
    perform billing._follow_payout(v_row);
  end if;
  return v_row;
end $$;
comment on function billing._settle_payout(billing.payouts) is 'Brings a payout''s status and bookings in step.';
revoke all on function billing._settle_payout from public, anon, authenticated, service_role;

-- What follows from a new status: the reversal of what the bank refused, an affiliate's payout, the news.
create function billing._follow_payout(payout billing.payouts) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_affiliate_payout uuid := (select a.id from billing.affiliate_payouts a where a.payout_id = payout.id);
begin
  if payout.status = 'returning' then
    perform ops.enqueue_job('billing.return_payout', jsonb_build_object('payout_id', payout.id), payout.workspace_id,
      max_attempts => 20, key => format('payout:%s:return', payout.id));
  end if;
  if payout.status not in ('paid', 'failed', 'reversed') then
    return;
  elsif v_affiliate_payout is not null then
    perform billing._end_affiliate_payout(v_affiliate_payout, payout.status = 'paid', payout.failure_code,
      payout.provider_payout_id);
    return;
  end if;
  perform private.notify_user(m.user_id, payout.workspace_id,
    case payout.status when 'paid' then 'success' else 'error' end,
    case payout.status when 'paid' then 'Payout paid' else 'Payout returned' end,
    format('%s %s %s', trim(to_char(payout.amount_minor * private.minor_unit_micro(payout.currency) / 100000.0,
      '999999999990.00')), payout.currency, case payout.status when 'paid' then 'is with the bank.'
      else 'is back in the balance.' end), '/payouts', jsonb_build_object('payout_id', payout.id),
    format('payout:%s:%s', payout.id, payout.status), 'billing.payout_' || payout.status)
  from identity.workspace_members m
  where m.workspace_id = payout.workspace_id and m.role in ('owner', 'admin') and not m.is_suspended;
end $$;
comment on function billing._follow_payout(billing.payouts) is 'Does what follows from the new status of a payout.';
revoke all on function billing._follow_payout from public, anon, authenticated, service_role;

-- Records the transfer of a payout as the provider shows it; reversals only grow. Errors: unknown_payout,
-- payout_mismatch.
create function billing.record_transfer(payout_id uuid, transfer jsonb) returns billing.payouts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payout billing.payouts := billing._lock_payout(payout_id);
begin
  if transfer ->> 'id' is null or (transfer ->> 'amount')::bigint is distinct from v_payout.amount_minor
    or upper(transfer ->> 'currency') is distinct from v_payout.currency
    or transfer ->> 'destination' is distinct from v_payout.provider_account_id or v_payout.refused
    or v_payout.provider_transfer_id <> transfer ->> 'id' then
    perform private.fail('payout_mismatch', format('Transfer %s is not the one of payout %s.', transfer ->> 'id',
      payout_id), jsonb_build_object('payout_id', payout_id, 'transfer_id', transfer ->> 'id'));
  end if;
  update billing.payouts p
  set provider_transfer_id = transfer ->> 'id',
    reversed_minor = greatest(p.reversed_minor, (transfer ->> 'amount_reversed')::bigint)
  where p.id = payout_id returning * into v_payout;
  return billing._settle_payout(v_payout);
end $$;
comment on function billing.record_transfer is
  'Records what the provider says of a payout''s transfer; safe to repeat.';
revoke all on function billing.record_transfer from public, anon, authenticated, service_role;
grant execute on function billing.record_transfer to service_role;

-- Records how far the money is on its way to the bank. An older word never undoes a newer one: pending, in_transit,
-- paid, failed or canceled. Without an id the bank payout could not even be made. Errors: unknown_payout,
-- payout_mismatch.
create function billing.record_bank_payout(payout_id uuid, bank_payout jsonb) returns billing.payouts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payout billing.payouts := billing._lock_payout(payout_id);
  v_rank text[] := array['pending', 'in_transit', 'paid', 'canceled', 'failed'];
  v_status text := bank_payout ->> 'status';
begin
  if v_status is null or v_status <> all (v_rank) or v_payout.provider_payout_id <> bank_payout ->> 'id'
    or v_payout.provider_transfer_id is null
    or (bank_payout ->> 'id' is null and (v_status <> 'failed' or v_payout.provider_payout_id is not null)) then
    perform private.fail('payout_mismatch', format('Bank payout %s is not the one of payout %s.', bank_payout ->> 'id',
      payout_id), jsonb_build_object('payout_id', payout_id, 'bank_payout_id', bank_payout ->> 'id'));
  end if;
  update billing.payouts p
  set provider_payout_id = coalesce(bank_payout ->> 'id', p.provider_payout_id),
    bank_status = case when coalesce(array_position(v_rank, p.bank_status), 0) < array_position(v_rank, v_status)
      then v_status else p.bank_status end,
    failure_code = coalesce(left(bank_payout ->> 'failure_code', 100), p.failure_code),
    error = coalesce(left(bank_payout ->> 'failure_message', 1000), p.error),
    arrives_at = coalesce(to_timestamp((bank_payout ->> 'arrival_date')::bigint), p.arrives_at)
  where p.id = payout_id returning * into v_payout;
  return billing._settle_payout(v_payout);
end $$;
comment on function billing.record_bank_payout is
  'Records how far a payout is on its way to the bank; safe to repeat and in any order.';
revoke all on function billing.record_bank_payout from public, anon, authenticated, service_role;
grant execute on function billing.record_bank_payout to service_role;

-- The provider refused the transfer for good: the money is payable again. Changes nothing once there is a transfer.
create function billing.refuse_payout(payout_id uuid, failure_code text, error text) returns billing.payouts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payout billing.payouts := billing._lock_payout(payout_id);
begin
  if v_payout.provider_transfer_id is not null or v_payout.refused then
    return v_payout;
  end if;
  update billing.payouts p
  set refused = true, failure_code = left(refuse_payout.failure_code, 100), error = left(refuse_payout.error, 1000)
  where p.id = payout_id returning * into v_payout;
  return billing._settle_payout(v_payout);
end $$;
comment on function billing.refuse_payout is 'Notes that a payout''s transfer was refused and returns its money.';
revoke all on function billing.refuse_payout from public, anon, authenticated, service_role;
grant execute on function billing.refuse_payout to service_role;

-- A job that gave up leaves the payout where it is, because nobody knows what the provider did: another job asks.
create function billing.on_payout_job(job ops.jobs, event text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if event in ('dead', 'cancelled') then
    update billing.payouts p set next_try_at = private.now() + interval '1 hour', error = left(job.error, 1000)
    where p.id = (job.payload ->> 'payout_id')::uuid and p.finished_at is null;
  end if;
end $$;
comment on function billing.on_payout_job(ops.jobs, text) is 'Hears how the jobs of payouts end.';
revoke all on function billing.on_payout_job from public, anon, authenticated, service_role;

create function billing.retry_payouts() returns integer
language plpgsql security definer
set search_path = ''
as $$
declare
  v_payout billing.payouts;
  v_count integer := 0;
begin
  for v_payout in
    update billing.payouts p set rounds = p.rounds + 1, next_try_at = null
    where p.id in (select o.id from billing.payouts o where o.next_try_at <= private.now()
      order by o.next_try_at limit 200 for update skip locked)
    returning p.*
  loop
    perform ops.enqueue_job(
      case v_payout.status when 'returning' then 'billing.return_payout' else 'billing.send_payout' end,
      jsonb_build_object('payout_id', v_payout.id), v_payout.workspace_id, max_attempts => 20,
      key => format('payout:%s:round:%s', v_payout.id, v_payout.rounds));
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;
comment on function billing.retry_payouts() is 'Sweep: enqueues payouts again whose jobs gave up; returns how many.';
revoke all on function billing.retry_payouts from public, anon, authenticated, service_role;
grant execute on function billing.retry_payouts to service_role;
insert into ops.sweeps (name, function_name, every)
  values ('retry payouts', 'billing.retry_payouts', interval '5 minutes');

-- Notes the account that the provider made for a workspace, once. Errors: payout_account_not_ready, key_reused.
create function billing.attach_payout_account(payout_account_id uuid, provider_account_id text)
returns billing.payout_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account billing.payout_accounts;
begin
  update billing.payout_accounts a
  set provider_account_id = attach_payout_account.provider_account_id,
    status = case a.status when 'new' then 'pending' else a.status end
  where a.id = attach_payout_account.payout_account_id
    and coalesce(a.provider_account_id, attach_payout_account.provider_account_id)
      = attach_payout_account.provider_account_id
  returning * into v_account;
  if not found then
    perform private.fail(case when exists (select from billing.payout_accounts a
        where a.id = attach_payout_account.payout_account_id) then 'key_reused' else 'payout_account_not_ready' end,
      'The account cannot be attached to this workspace.', jsonb_build_object('payout_account_id', payout_account_id));
  end if;
  return v_account;
end $$;
comment on function billing.attach_payout_account is 'Links a workspace''s payout account to the provider''s.';
revoke all on function billing.attach_payout_account from public, anon, authenticated, service_role;
grant execute on function billing.attach_payout_account to service_role;

-- What the provider says an account may do. What was said earlier than what is known changes nothing. Returns null
-- for an account that is not ours.
create function billing.sync_payout_account(account jsonb, seen_at timestamptz) returns billing.payout_accounts
language plpgsql security definer
set search_path = ''
as $$
declare
  v_account billing.payout_accounts;
  v_known text;
  v_transfers boolean := coalesce(account -> 'capabilities' ->> 'transfers' = 'active', false);
  v_payouts boolean := coalesce((account ->> 'payouts_enabled')::boolean, false);
  v_submitted boolean := coalesce((account ->> 'details_submitted')::boolean, false);
begin
  select * into v_account from billing.payout_accounts a
  where a.provider = 'stripe' and a.provider_account_id = account ->> 'id' for update;
  if not found or v_account.provider_seen_at > seen_at then
    return v_account;
  end if;
  v_known := v_account.status;
  update billing.payout_accounts a
  set transfers_enabled = v_transfers, payouts_enabled = v_payouts, details_submitted = v_submitted,
    status = case when v_transfers and v_payouts then 'active' when v_submitted then 'restricted' else 'pending' end,
    requirements = coalesce(account -> 'requirements', '{}'),
    disabled_reason = account -> 'requirements' ->> 'disabled_reason', provider_seen_at = seen_at
  where a.id = v_account.id
  returning * into v_account;
  if v_account.status <> v_known and v_account.status <> 'pending' then
    perform private.notify_user(m.user_id, v_account.workspace_id,
      case v_account.status when 'active' then 'success' else 'warning' end,
      case v_account.status when 'active' then 'Payouts are ready' else 'Payouts need attention' end,
      case v_account.status when 'active' then 'The workspace can be paid out to.'
        else 'The payment provider asks for more before it pays out.' end, '/payouts',
      jsonb_build_object('payout_account_id', v_account.id, 'disabled_reason', v_account.disabled_reason),
      format('payout_account:%s:%s:%s', v_account.id, v_account.status, extract(epoch from seen_at)),
      'billing.payout_account_' || v_account.status)
    from identity.workspace_members m
    where m.workspace_id = v_account.workspace_id and m.role in ('owner', 'admin') and not m.is_suspended;
  end if;
  return v_account;
end $$;
comment on function billing.sync_payout_account is 'Sets what a payout account may do, by the provider''s newest word.';
revoke all on function billing.sync_payout_account from public, anon, authenticated, service_role;
grant execute on function billing.sync_payout_account to service_role;

create function billing._apply_transfer_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_transfer jsonb := event.payload -> 'data' -> 'object';
  v_id uuid := coalesce((select p.id from billing.payouts p where p.provider_transfer_id = v_transfer ->> 'id'),
    (select p.id from billing.payouts p where p.id = private.try_uuid(v_transfer -> 'metadata' ->> 'payout_id')));
begin
  if v_id is not null then
    perform billing.record_transfer(v_id, v_transfer);
  end if;
  return v_id is not null;
end $$;
comment on function billing._apply_transfer_event(ops.webhook_events) is 'Records a transfer that Stripe tells of.';
revoke all on function billing._apply_transfer_event from public, anon, authenticated, service_role;

-- Events of payouts come from the connected account, which must be the payout's own.
create function billing._apply_bank_payout_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_bank jsonb := event.payload -> 'data' -> 'object';
  v_payout billing.payouts;
begin
  select * into v_payout from billing.payouts p
  where p.provider_account_id = event.payload ->> 'account' and (p.provider_payout_id = v_bank ->> 'id'
    or (p.provider_payout_id is null and p.id = private.try_uuid(v_bank -> 'metadata' ->> 'payout_id')));
  if not found then
    return false;
  end if;
  perform billing.record_bank_payout(v_payout.id, v_bank);
  return true;
end $$;
comment on function billing._apply_bank_payout_event(ops.webhook_events) is
  'Records how far a payout is on its way to the bank, by Stripe''s word.';
revoke all on function billing._apply_bank_payout_event from public, anon, authenticated, service_role;

-- Two events of one second have no order: the account itself is asked, and its answer is newer than both.
create function billing._apply_account_event(event ops.webhook_events) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_account billing.payout_accounts := billing.sync_payout_account(event.payload -> 'data' -> 'object',
    to_timestamp((event.payload ->> 'created')::bigint));
begin
  if v_account.id is null then
    return false;
  end if;
  perform ops.enqueue_job('billing.refresh_payout_account', jsonb_build_object('payout_account_id', v_account.id),
    v_account.workspace_id, key => 'account_event:' || event.id);
  return true;
end $$;
comment on function billing._apply_account_event(ops.webhook_events) is
  'Takes over what Stripe says an account may do, and has the account asked.';
revoke all on function billing._apply_account_event from public, anon, authenticated, service_role;

insert into billing.stripe_event_handlers (event_type, function_name) values
  ('transfer.created', 'billing._apply_transfer_event'), ('transfer.updated', 'billing._apply_transfer_event'),
  ('transfer.reversed', 'billing._apply_transfer_event'), ('payout.created', 'billing._apply_bank_payout_event'),
  ('payout.updated', 'billing._apply_bank_payout_event'), ('payout.paid', 'billing._apply_bank_payout_event'),
  ('payout.canceled', 'billing._apply_bank_payout_event'), ('payout.failed', 'billing._apply_bank_payout_event'),
  ('account.updated', 'billing._apply_account_event');
