-- Bought credits that a charge had while their money went back: they were missing then, and are taken when the charge
-- gives them back. What was bought later is nobody's debt, and what was given is never taken.

-- How much of what a charge gives back was bought.
create function billing._bought_of(lines billing.posting[]) returns bigint
language sql stable
set search_path = ''
as $$
  select coalesce(sum(p.amount_micro), 0)::bigint from unnest(lines) p
  left join billing.credit_lots l on l.id = p.lot_id
  where p.amount_micro > 0 and (p.code = 'prepaid' or l.kind = 'purchase' or l.payment_id is not null)
$$;
comment on function billing._bought_of(billing.posting[]) is 'How much of what comes back was bought; micro-units.';
revoke all on function billing._bought_of from public, anon, authenticated, service_role;

-- Takes what refunds and disputes since the charge found missing out of what the charge has just given back. The caller
-- holds the wallet's lock. Whoever settles refunds and disputes takes it before their rows, and locks the payment in a
-- way that naming it in the ledger does not wait for.
create function billing._take_returned(event billing.usage_events, lines billing.posting[], transaction_id bigint)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_debt record;
  v_left bigint;
  v_taken bigint;
begin
  for v_debt in
    select true as is_refund, r.id, r.payment_id, r.missing_micro, r.reason,
      format('refund:%s:%s', r.id, transaction_id) as key, r.created_at
    from billing.payment_refunds r
    where r.workspace_id = event.workspace_id and r.missing_micro > 0 and r.status in ('pending', 'succeeded')
      and r.created_at >= event.created_at
    union all
    select false, d.id, d.payment_id, d.missing_micro, 'the payment is disputed',
      format('dispute:%s:again:%s', d.id, transaction_id), d.created_at
    from billing.disputes d
    where d.workspace_id = event.workspace_id and d.missing_micro > 0 and d.frozen_at is not null
      and d.released_at is null and d.created_at >= event.created_at
    order by 1 desc, 7, 2
  loop
    v_left := coalesce(v_left, billing._bought_of(lines));
    exit when v_left = 0;
    v_taken := (billing.claw_back(v_debt.payment_id, least(v_debt.missing_micro, v_left), v_debt.reason, v_debt.key)
      ->> 'taken_micro')::bigint;
    v_left := v_left - v_taken;
    if v_debt.is_refund then
      update billing.payment_refunds r
      set taken_micro = r.taken_micro + v_taken, missing_micro = r.missing_micro - v_taken,
        disputed_micro = least(r.disputed_micro, r.missing_micro - v_taken)
      where r.id = v_debt.id;
    else
      update billing.disputes d set taken_micro = d.taken_micro + v_taken, missing_micro = d.missing_micro - v_taken
      where d.id = v_debt.id;
      perform billing._thaw_disputed(event.workspace_id);
    end if;
  end loop;
end $$;
comment on function billing._take_returned is 'Takes credits that come back after their money did.';
revoke all on function billing._take_returned from public, anon, authenticated, service_role;
