-- What Shopify's compliance topics ask. A shop that is gone goes with its catalog. The inbox keeps bodies of webhooks,
-- and those of orders and customers are about people: an event's row stays, so that a repetition is still known; its
-- body goes.

-- Those who answer for a workspace's accounts.
create function private.notify_admins(workspace_id uuid, title text, description text, metadata jsonb, key text,
  event_type text) returns void
language sql
set search_path = ''
as $$
  select private.notify_user(m.user_id, m.workspace_id, 'warning', title, description, null, metadata, key, event_type)
  from identity.workspace_members m
  where m.workspace_id = notify_admins.workspace_id and m.role in ('admin', 'owner') and not m.is_suspended
    and (m.expires_at is null or m.expires_at > private.now())
$$;
comment on function private.notify_admins is 'Warns the admins of a workspace, once for a key.';
revoke all on function private.notify_admins from public, anon, authenticated, service_role;

-- Ids of Shopify's events begin with their shop.
create index webhook_events_shop on ops.webhook_events (split_part(event_id, ':', 1)) where provider = 'shopify';

-- Empties the bodies of these events, but for what names no person.
create function private.redact_webhook_events(ids bigint[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_redacted integer;
begin
  update ops.webhook_events e
  set payload = jsonb_strip_nulls(jsonb_build_object('redacted_at', private.now(), 'shop_id', e.payload -> 'shop_id',
    'shop_domain', e.payload -> 'shop_domain'))
  where e.id = any (redact_webhook_events.ids) and not e.payload ? 'redacted_at';
  get diagnostics v_redacted = row_count;
  return v_redacted;
end $$;
comment on function private.redact_webhook_events(bigint[]) is 'Empties the stored bodies of events; answers how many.';
revoke all on function private.redact_webhook_events from public, anon, authenticated, service_role;

-- Events of a shop that are about a customer, or about one of these orders.
create function private.events_of_customer(shop text, customer jsonb, orders jsonb) returns bigint[]
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce((
    select array_agg(e.id order by e.id) from ops.webhook_events e
    where e.provider = 'shopify' and split_part(e.event_id, ':', 1) = events_of_customer.shop
      and not e.payload ? 'redacted_at' and (
        e.payload #> '{customer,id}' = customer -> 'id'
        or (e.event_type like 'customers/%' and e.payload -> 'id' = customer -> 'id')
        or e.payload ->> 'email' = customer ->> 'email'
        or e.payload #>> '{customer,email}' = customer ->> 'email'
        or (e.event_type like 'orders/%' and orders @> jsonb_build_array(e.payload -> 'id'))
        or orders @> jsonb_build_array(e.payload -> 'order_id')
      )
  ), '{}');
end $$;
comment on function private.events_of_customer(text, jsonb, jsonb) is
  'The stored webhooks of a shop that are about a customer or these orders.';
revoke all on function private.events_of_customer from public, anon, authenticated, service_role;

-- The request itself names the customer as well.
create function private.apply_customer_redaction(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
begin
  perform private.redact_webhook_events(event.id || private.events_of_customer(split_part(event.event_id, ':', 1),
    event.payload -> 'customer', coalesce(event.payload -> 'orders_to_redact', '[]')));
  return 'redacted';
end $$;
comment on function private.apply_customer_redaction(ops.webhook_events, integrations.connected_accounts) is
  'customers/redact: what the inbox keeps of the customer goes.';
revoke all on function private.apply_customer_redaction from public, anon, authenticated, service_role;

-- The merchant answers the customer: the workspace's admins are told what is kept. Of a shop that is connected to no
-- workspace, nobody can be told; what may be kept of it goes with shop/redact.
create function private.apply_customer_data_request(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_shop text := split_part(event.event_id, ':', 1);
  v_ids bigint[] := array_remove(private.events_of_customer(v_shop, event.payload -> 'customer',
    coalesce(event.payload -> 'orders_requested', '[]')), event.id);
begin
  if account.id is null then
    return null;
  end if;
  perform private.notify_admins(account.workspace_id, 'A customer asks for their data',
    format('A customer of %s asks what is kept of them: %s. Answer within 30 days.', v_shop,
      case cardinality(v_ids) when 0 then 'nothing is' when 1 then '1 webhook is' else cardinality(v_ids)
        || ' webhooks are' end),
    jsonb_build_object('shop', v_shop, 'customer_id', event.payload #> '{customer,id}',
      'data_request_id', event.payload #> '{data_request,id}', 'webhook_event_ids', to_jsonb(v_ids)),
    'shopify:data_request:' || event.id, 'integrations.customer_data_requested');
  return 'told';
end $$;
comment on function private.apply_customer_data_request(ops.webhook_events, integrations.connected_accounts) is
  'customers/data_request: the workspace''s admins are told what is kept of the customer.';
revoke all on function private.apply_customer_data_request from public, anon, authenticated, service_role;

-- Sent two days after an app was uninstalled. The catalog goes with the account.
create function private.apply_shop_redaction(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
begin
  delete from integrations.connected_accounts a
  where a.provider = 'shopify' and a.external_account_id = lower(event.payload ->> 'shop_domain')
    and a.status = 'disconnected';
  return case when found then 'deleted' end;
end $$;
comment on function private.apply_shop_redaction(ops.webhook_events, integrations.connected_accounts) is
  'shop/redact: what is kept of a shop that is no longer connected goes at once.';
revoke all on function private.apply_shop_redaction from public, anon, authenticated, service_role;

create function private.apply_inbox_redaction(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
begin
  if account.id is not null then
    -- it has been connected again since
    return null;
  end if;
  perform private.redact_webhook_events(array(
    select e.id from ops.webhook_events e
    where e.provider = 'shopify' and split_part(e.event_id, ':', 1) = split_part(event.event_id, ':', 1)));
  return 'redacted';
end $$;
comment on function private.apply_inbox_redaction(ops.webhook_events, integrations.connected_accounts) is
  'shop/redact: the bodies of the shop''s webhooks go.';
revoke all on function private.apply_inbox_redaction from public, anon, authenticated, service_role;

insert into commerce.shopify_event_handlers (topic, function_name, needs_shop, position) values
  ('shop/redact', 'private.apply_shop_redaction', false, 0),
  ('customers/redact', 'private.apply_customer_redaction', false, 10),
  ('customers/data_request', 'private.apply_customer_data_request', false, 10),
  ('shop/redact', 'private.apply_inbox_redaction', false, 10);
