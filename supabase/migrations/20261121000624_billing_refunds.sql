-- Refunds: captured credits go back to the sources they came from, last drawn first.

-- Gives a part of what a charge captured back to its sources, under its wallet's lock. Returns the charge as it is
-- then.
create function billing._return_charge(event billing.usage_events, amount_micro bigint, kind text, reason text,
  key text default null) returns billing.usage_events
language plpgsql
set search_path = ''
as $$
#variable_conflict use_variable
declare
  v_event billing.usage_events;
  v_source jsonb;
  v_sources jsonb := '[]';
  v_left bigint := amount_micro;
  v_give bigint;
  v_lines billing.posting[] := '{}';
  v_transaction bigint;
begin
  for v_source in select s from jsonb_array_elements(event.sources) with ordinality as e (s, n) order by n desc loop
    v_give := least(v_left, (v_source ->> 'captured')::bigint - (v_source ->> 'refunded')::bigint);
    v_left := v_left - v_give;
    v_sources := jsonb_build_array(v_source
      || jsonb_build_object('refunded', (v_source ->> 'refunded')::bigint + v_give)) || v_sources;
    if v_give > 0 then
      v_lines := v_lines || billing._return_line(event.id, v_source, v_give);
    end if;
  end loop;
  update billing.usage_events e
  set refunded_micro = e.refunded_micro + amount_micro, sources = v_sources, refunded_at = private.now(),
    reason = _return_charge.reason,
    status = case when e.refunded_micro + amount_micro = e.captured_micro then 'refunded' else 'captured' end
  where e.id = event.id
  returning e.* into v_event;
  -- a charge that cost nothing can be refunded as a whole, and no money moves
  if amount_micro > 0 then
    v_transaction := billing._post(event.workspace_id, kind,
      v_lines || row('revenue', null, -amount_micro)::billing.posting, key, usage_event_id => event.id,
      reason => reason);
    perform billing._take_returned(event, v_lines, v_transaction);
  end if;
  return v_event;
end $$;
comment on function billing._return_charge is 'Gives back a part of a captured charge, last drawn first.';
revoke all on function billing._return_charge from public, anon, authenticated, service_role;

-- Gives captured credits back, all that is left (amount_micro null) or a part. The reason names the refund:
-- the same event, reason and amount is one refund however often it is asked for, so a second partial refund
-- needs a reason of its own. Errors: unknown_usage_event, usage_not_captured, refund_too_large, invalid_argument.
create function billing.refund_usage(usage_event_id uuid, reason text, amount_micro bigint default null)
returns billing.usage_result
language plpgsql security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
  v_event billing.usage_events := billing._lock_usage(usage_event_id);
  v_amount bigint := coalesce(amount_micro, v_event.captured_micro - v_event.refunded_micro);
  v_key text := format('refund:%s:%s:%s', usage_event_id, coalesce(amount_micro::text, 'all'),
    encode(private.content_hash(to_jsonb(coalesce(reason, ''))), 'hex'));
  v_done bigint;
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

  v_event := billing._return_charge(v_event, v_amount, 'refund', reason, v_key);
  return row(v_event.id, v_event.status, v_amount, true)::billing.usage_result;
end $$;
comment on function billing.refund_usage is
  'Returns captured credits to the sources they came from, once for a reason and amount.';
revoke all on function billing.refund_usage from public, anon, authenticated, service_role;
grant execute on function billing.refund_usage to service_role;
