-- A refund may fail after it had succeeded, when a bank sends the money back: its commission comes again.

-- Gives back what was reversed of a payment's commission and is no longer refunded; of a commission that had been paid
-- out, as an adjustment of the next batch. The caller holds the wallet of the affiliate's workspace.
create function billing._restore_commission(payment billing.payments) returns void
language plpgsql
set search_path = ''
as $$
declare
  v_commission billing.affiliate_commissions;
  v_delta bigint;
  v_paid boolean;
begin
  select * into v_commission from billing.affiliate_commissions c
  where c.payment_id = payment.id and c.commission_type <> 'adjustment' for update;
  v_delta := v_commission.reversed_micro - least(v_commission.commission_micro,
    ceil(v_commission.commission_micro::numeric * billing._gone_minor(payment) / payment.amount_minor / 1000) * 1000);
  if coalesce(v_delta, 0) <= 0 then
    return;
  end if;
  v_paid := v_commission.payout_micro is not null;
  perform billing._move_payable(v_commission.workspace_id, 'USD', 'commissions',
    case when v_paid then 'payable' else 'held' end, v_delta,
    format('commission:%s:restore:%s', v_commission.id, v_commission.restored_micro + v_delta), payment.id,
    'the refund did not happen', jsonb_build_object('commission_id', v_commission.id));
  if v_paid then
    insert into billing.affiliate_commissions (affiliate_id, workspace_id, affiliate_referral_id, referred_user_id,
      source_workspace_id, payment_id, commission_type, commission_rate, commission_micro, status, adjusts_id, notes,
      cleared_at)
    values (v_commission.affiliate_id, v_commission.workspace_id, v_commission.affiliate_referral_id,
      v_commission.referred_user_id, v_commission.source_workspace_id, payment.id, 'adjustment',
      v_commission.commission_rate, v_delta, 'cleared', v_commission.id, 'the refund did not happen', private.now());
  end if;
  update billing.affiliate_commissions c
  set reversed_micro = c.reversed_micro - v_delta, restored_micro = c.restored_micro + v_delta,
    status = case when c.status <> 'reversed' then c.status when c.cleared_at is null then 'pending' else 'cleared' end
  where c.id = v_commission.id
  returning * into v_commission;
  update billing.affiliates a
  set balance_micro = a.balance_micro + v_delta, total_earned_micro = a.total_earned_micro + v_delta
  where a.id = v_commission.affiliate_id and v_commission.status <> 'pending';
end $$;
comment on function billing._restore_commission(billing.payments) is
  'Gives a commission again whose payment''s refund did not happen.';
revoke all on function billing._restore_commission from public, anon, authenticated, service_role;
