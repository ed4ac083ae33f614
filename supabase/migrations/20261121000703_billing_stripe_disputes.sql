-- Stripe's news of disputes, how they are found when the news is lost, and our own word on a wallet.

-- Source: statuses of a dispute, and that only funds_withdrawn and funds_reinstated tell of money (Stripe API,
-- Disputes). A warning is an inquiry: no money has been taken.
create function billing.apply_stripe_dispute(dispute jsonb, funds text default null) returns text
language sql security definer
set search_path = ''
as $$
  select billing.apply_dispute('stripe', dispute ->> 'payment_intent', dispute ->> 'id',
    (dispute ->> 'amount')::bigint,
    case when dispute ->> 'status' in ('won', 'lost', 'under_review') then dispute ->> 'status'
      when dispute ->> 'status' in ('warning_closed', 'prevented') then 'closed'
      when dispute ->> 'status' like 'warning%' then 'inquiry' else 'open' end,
    dispute ->> 'reason', to_timestamp(nullif((dispute -> 'evidence_details' ->> 'due_by')::bigint, 0)), funds)
$$;
comment on function billing.apply_stripe_dispute is 'Applies a dispute as Stripe shows it; null when it is not ours.';
revoke all on function billing.apply_stripe_dispute from public, anon, authenticated, service_role;
grant execute on function billing.apply_stripe_dispute to service_role;

create function billing._apply_dispute_event(event ops.webhook_events) returns boolean
language sql
set search_path = ''
as $$
  select billing.apply_stripe_dispute(event.payload -> 'data' -> 'object', case event.event_type
    when 'charge.dispute.funds_withdrawn' then 'withdrawn'
    when 'charge.dispute.funds_reinstated' then 'reinstated' end) is not null
$$;
comment on function billing._apply_dispute_event(ops.webhook_events) is 'Applies the state of a Stripe dispute.';
revoke all on function billing._apply_dispute_event from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name) values
  ('charge.dispute.created', 'billing._apply_dispute_event'),
  ('charge.dispute.updated', 'billing._apply_dispute_event'),
  ('charge.dispute.closed', 'billing._apply_dispute_event'),
  ('charge.dispute.funds_withdrawn', 'billing._apply_dispute_event'),
  ('charge.dispute.funds_reinstated', 'billing._apply_dispute_event');

-- News of disputes may be lost like any other, and nobody waits for them: they are asked for once a day.
insert into ops.job_kinds (kind, description, on_event, timeout) values
  ('billing.sync_disputes', 'Asks Stripe for disputes that no event has told of.', null, interval '1 day');

create function billing.look_for_disputes() returns integer
language plpgsql security definer
set search_path = ''
as $$
begin
  if not exists (select from billing.payments p where p.provider = 'stripe'
    and p.paid_at > private.now() - interval '120 days') then
    return 0;
  end if;
  return (select j.created::integer from ops.enqueue_job('billing.sync_disputes', '{}', max_attempts => 20,
    key => 'sync_disputes:' || (private.now() at time zone 'UTC')::date) j);
end $$;
comment on function billing.look_for_disputes() is
  'Sweep: has Stripe asked for disputes, once a day while there are payments that can be disputed.';
revoke all on function billing.look_for_disputes from public, anon, authenticated, service_role;
grant execute on function billing.look_for_disputes to service_role;
create index payments_paid_at on billing.payments (paid_at) where paid_at is not null;
insert into ops.sweeps (name, function_name, every) values
  ('look for disputes', 'billing.look_for_disputes', interval '1 hour');

-- Freezes a wallet for a reason of ours, or thaws it whatever froze it. Errors: unknown_workspace, invalid_argument.
create function billing.set_wallet_status(workspace_id uuid, status text, reason text) returns billing.wallets
language plpgsql security definer
set search_path = ''
as $$
declare
  v_wallet billing.wallets := billing._lock_wallet(workspace_id);
begin
  if status is null or status not in ('active', 'frozen')
    or (status = 'frozen' and coalesce(trim(reason), '') = '') then
    perform private.fail('invalid_argument', 'status is active, or frozen with a reason.', '{"argument": "status"}');
  end if;
  update billing.wallets w set status = set_wallet_status.status,
    frozen_reason = case set_wallet_status.status when 'frozen' then reason end
  where w.workspace_id = set_wallet_status.workspace_id
  returning * into v_wallet;
  return v_wallet;
end $$;
comment on function billing.set_wallet_status is 'Freezes or thaws a workspace''s wallet.';
revoke all on function billing.set_wallet_status from public, anon, authenticated, service_role;
grant execute on function billing.set_wallet_status to service_role;
