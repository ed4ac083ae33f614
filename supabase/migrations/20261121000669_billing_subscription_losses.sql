-- What the provider has lost or thrown away: customers and subscriptions that are not there any more.

-- The workspace's next purchase makes a new customer. Returns whether the customer was its own.
create function billing.detach_customer(customer_id text) returns boolean
language plpgsql security definer
set search_path = ''
as $$
begin
  update billing.wallets w set provider_customer_id = null
  where w.provider_customer_id = detach_customer.customer_id;
  return found;
end $$;
comment on function billing.detach_customer(text) is 'Forgets a customer that is gone at the provider.';
revoke all on function billing.detach_customer from public, anon, authenticated, service_role;
grant execute on function billing.detach_customer to service_role;

create function billing._apply_customer_deleted(event ops.webhook_events) returns boolean
language sql
set search_path = ''
as $$ select billing.detach_customer(event.payload -> 'data' -> 'object' ->> 'id') $$;
comment on function billing._apply_customer_deleted(ops.webhook_events) is
  'Forgets the customer that was deleted at the provider.';
revoke all on function billing._apply_customer_deleted from public, anon, authenticated, service_role;
insert into billing.stripe_event_handlers (event_type, function_name, position) values
  -- after the look at its subscriptions was asked for: they end with it, each with an event of its own
  ('customer.deleted', 'billing._apply_customer_deleted', 10);

-- A subscription that the provider does not know, such as one of a wrong import: the row stays as it is, an operator
-- finds the note, and the sweep asks again in a day.
create function billing.note_missing_subscription(provider_subscription_id text) returns void
language sql security definer
set search_path = ''
as $$
  update billing.subscription_looks l
  set error = 'unknown_at_provider', job_id = null, wanted = false, looked_at = private.now(),
    next_look_at = private.now() + interval '1 day'
  where l.provider = 'stripe' and l.provider_subscription_id = note_missing_subscription.provider_subscription_id
$$;
comment on function billing.note_missing_subscription(text) is
  'Notes that the provider does not know a subscription; it is asked again in a day.';
revoke all on function billing.note_missing_subscription from public, anon, authenticated, service_role;
grant execute on function billing.note_missing_subscription to service_role;
