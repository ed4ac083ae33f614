-- Refunds: captured credits go back to the sources they came from, last drawn first.

-- Gives captured credits back, all that is left (amount_micro null) or a part. The reason names the refund:
-- the same event, reason and amount is one refund however often it is asked for, so a second partial refund
-- needs a reason of its own. Errors: unknown_usage_event, usage_not_captured, refund_too_large, invalid_argument.
create function billing.refund_usage(usage_event_id uuid, reason text, amount_micro bigint default null)
returns billing.usage_result
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event billing.usage_events := billing._lock_usage(usage_event_id);
  v_amount bigint := coalesce(amount_micro, v_event.captured_micro - v_event.refunded_micro);
  v_key text := format('refund:%s:%s:%s', usage_event_id, coalesce(amount_micro::text, 'all'),
    encode(private.content_hash(to_jsonb(coalesce(reason, ''))), 'hex'));
  v_done bigint;
  v_source jsonb;
  v_sources jsonb := '[]';
  v_left bigint := v_amount;
  v_give bigint;
  v_lines billing.posting[] := '{}';
begin
  if coalesce(length(trim(reason)), 0) = 0 then
    perform private.fail('invalid_argument', 'A refund needs a reason.', '{"argument": "reason"}');
  end if;
  select sum(e.amount_micro) into v_done
  from billing.ledger_transactions t join billing.ledger_entries e on e.transaction_id = t.id
  where t.workspace_id = v_event.workspace_id and t.key = v_key and e.amount_micro > 0;
  if v_done is not null or (amount_micro is null and v_event.status = 'refunded') then
    return row(v_event.id, v_event.status, coalesce(v_done, v_event.refunded_micro), false)::billing.usage_result;
  end if;
  if v_event.status not in ('captured', 'refunded') then
    perform private.fail('usage_not_captured', format('This charge is %s.', v_event.status),
      jsonb_build_object('status', v_event.status));
  elsif amount_micro <= 0 then
    perform private.fail('invalid_argument', 'amount_micro must be more than 0.', '{"argument": "amount_micro"}');
  elsif v_amount > v_event.captured_micro - v_event.refunded_micro then
    perform private.fail('refund_too_large',
      format('%s of %s micro-units are refunded already.', v_event.refunded_micro,
      v_event.captured_micro), jsonb_build_object('refundable_micro', v_event.captured_micro - v_event.refunded_micro));
  end if;

  for v_source in select s from jsonb_array_elements(v_event.sources) with ordinality as e (s, n) order by n desc loop
    v_give := least(v_left, (v_source ->> 'captured')::bigint - (v_source ->> 'refunded')::bigint);
    v_left := v_left - v_give;
    v_sources := jsonb_build_array(v_source
      || jsonb_build_object('refunded', (v_source ->> 'refunded')::bigint + v_give)) || v_sources;
    if v_give > 0 then
      v_lines := v_lines || billing._return_line(v_event.id, v_source, v_give);
    end if;
  end loop;
  update billing.usage_events e
  set refunded_micro = e.refunded_micro + v_amount, sources = v_sources, refunded_at = private.now(),
    reason = refund_usage.reason,
    status = case when e.refunded_micro + v_amount = e.captured_micro then 'refunded' else 'captured' end
  where e.id = v_event.id
  returning e.* into v_event;
  -- a charge that cost nothing can be refunded as a whole, and no money moves
  if v_amount > 0 then
    perform billing._post(v_event.workspace_id, 'refund', v_lines || row('revenue', null, -v_amount)::billing.posting,
      v_key, usage_event_id => v_event.id, reason => reason);
  end if;
  return row(v_event.id, v_event.status, v_amount, true)::billing.usage_result;
end $$;
comment on function billing.refund_usage is
  'Returns captured credits to the sources they came from, once for a reason and amount.';
revoke all on function billing.refund_usage from public, anon, authenticated, service_role;
grant execute on function billing.refund_usage to service_role;
