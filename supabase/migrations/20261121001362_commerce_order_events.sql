-- Orders and refunds as Shopify tells of them, in any order and as often as it likes: of two states of an order the
-- later wins, a refund counts once by its id.

-- Salted with the account, so that no two shops' customers can be compared.
create function private.person_ref(account_id uuid, value text) returns text
language sql immutable
set search_path = ''
as $$
  select encode(sha256(convert_to(person_ref.account_id || ':' || lower(btrim(value)), 'UTF8')), 'hex')
  where btrim(value) <> ''
$$;
comment on function private.person_ref(uuid, text) is 'A hash that stands for a person within one account.';
revoke all on function private.person_ref from public, anon, authenticated, service_role;

-- Values are left as they are encoded; what is looked for in them needs no encoding.
create function private.query_of(url text) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(left(split_part(p, '=', 1), 64), left(split_part(p, '=', 2), 200)), '{}')
  from regexp_split_to_table(split_part(split_part(url, '#', 1), '?', 2), '&') p where p ~ '^[^=]+=.'
$$;
comment on function private.query_of(text) is 'The parameters of an address by name, encoded as they are.';
revoke all on function private.query_of from public, anon, authenticated, service_role;

create function private.cart_attribute(payload jsonb, names text[]) returns text
language sql immutable
set search_path = ''
as $$
  select left(a ->> 'value', 200) from jsonb_array_elements(
    case jsonb_typeof(payload -> 'note_attributes') when 'array' then payload -> 'note_attributes' else '[]' end) a
  where lower(ltrim(a ->> 'name', '_')) = any (names) and a ->> 'value' <> '' limit 1
$$;
comment on function private.cart_attribute(jsonb, text[]) is
  'An attribute of an order''s cart by one of its names, a leading _ (which hides it from buyers) or not.';
revoke all on function private.cart_attribute from public, anon, authenticated, service_role;

create function private.campaign_of(payload jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(q.key, q.value), '{}')
    || jsonb_strip_nulls(jsonb_build_object('tryon', private.cart_attribute(payload, '{tryon,tryon_id,backlot_tryon}')))
  from jsonb_each_text(private.query_of(payload ->> 'landing_site')) q
  where q.key in ('utm_source', 'utm_medium', 'utm_campaign', 'utm_content', 'utm_term', 'tryon')
$$;
comment on function private.campaign_of(jsonb) is 'Where the buyer of an order came from.';
revoke all on function private.campaign_of from public, anon, authenticated, service_role;

create function private.keep_order_items(stored commerce.orders, payload jsonb) returns void
language sql
set search_path = ''
as $$
  insert into commerce.order_items as i (workspace_id, order_id, shopify_line_item_id, product_id, variant_id,
    shopify_product_id, shopify_variant_id, title, quantity, price_cents, discount_cents)
  select stored.workspace_id, stored.id, l ->> 'id', p.id, v.id, l ->> 'product_id', l ->> 'variant_id',
    left(l ->> 'title', 500), (l ->> 'quantity')::integer, private.cents_of(l ->> 'price'),
    coalesce((select sum(private.cents_of(d ->> 'amount')) from jsonb_array_elements(l -> 'discount_allocations') d),
      private.cents_of(l ->> 'total_discount'), 0)
  from jsonb_array_elements(payload -> 'line_items') l
  left join commerce.shopify_products p
    on p.connected_account_id = stored.connected_account_id and p.shopify_product_id = l ->> 'product_id'
  left join commerce.shopify_product_variants v
    on v.connected_account_id = stored.connected_account_id and v.shopify_variant_id = l ->> 'variant_id'
  on conflict on constraint order_items_once do update
  set product_id = excluded.product_id, variant_id = excluded.variant_id, quantity = excluded.quantity,
    price_cents = excluded.price_cents, discount_cents = excluded.discount_cents
$$;
comment on function private.keep_order_items(commerce.orders, jsonb) is
  'Keeps the lines of an order as the shop told them.';
revoke all on function private.keep_order_items from public, anon, authenticated, service_role;

-- Returns whether what was told is the newest.
create function private.keep_order(account integrations.connected_accounts, payload jsonb, seen timestamptz)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_order commerce.orders;
begin
  insert into commerce.orders as o (workspace_id, connected_account_id, shopify_order_id, name, currency,
    subtotal_cents, discount_cents, tax_cents, total_cents, financial_status, is_test, customer_ref, handle_ref,
    discount_codes, campaign, ordered_at, paid_at, cancelled_at, shopify_updated_at, observed_at)
  values (account.workspace_id, account.id, payload ->> 'id', left(payload ->> 'name', 100), payload ->> 'currency',
    coalesce(private.cents_of(payload ->> 'subtotal_price'), 0),
    coalesce(private.cents_of(payload ->> 'total_discounts'), 0),
    coalesce(private.cents_of(payload ->> 'total_tax'), 0), private.cents_of(payload ->> 'total_price'),
    lower(payload ->> 'financial_status'), coalesce((payload ->> 'test')::boolean, false),
    private.person_ref(account.id, coalesce(payload #>> '{customer,id}', payload ->> 'email')),
    private.person_ref(account.id, ltrim(private.cart_attribute(payload,
      '{instagram,instagram_handle,instagram_username,ig_handle}'), '@')),
    array(select distinct upper(d ->> 'code') from jsonb_array_elements(
      case jsonb_typeof(payload -> 'discount_codes') when 'array' then payload -> 'discount_codes' else '[]' end) d
      where d ->> 'code' <> '' order by 1),
    private.campaign_of(payload), coalesce(payload ->> 'created_at', payload ->> 'updated_at')::timestamptz,
    case when lower(payload ->> 'financial_status') in ('paid', 'partially_refunded', 'refunded')
      then coalesce(payload ->> 'processed_at', payload ->> 'updated_at')::timestamptz end,
    (payload ->> 'cancelled_at')::timestamptz, (payload ->> 'updated_at')::timestamptz, seen)
  on conflict on constraint orders_once do update
  set subtotal_cents = excluded.subtotal_cents, discount_cents = excluded.discount_cents,
    tax_cents = excluded.tax_cents, total_cents = excluded.total_cents, financial_status = excluded.financial_status,
    customer_ref = case when o.redacted_at is null then excluded.customer_ref end,
    handle_ref = case when o.redacted_at is null then excluded.handle_ref end,
    discount_codes = excluded.discount_codes, campaign = o.campaign || excluded.campaign,
    paid_at = coalesce(o.paid_at, excluded.paid_at), cancelled_at = excluded.cancelled_at,
    shopify_updated_at = excluded.shopify_updated_at, observed_at = excluded.observed_at
  where private.is_later(excluded.shopify_updated_at, excluded.observed_at, o.shopify_updated_at, o.observed_at)
  returning * into v_order;
  if not found then
    return false;
  end if;
  perform private.keep_order_items(v_order, payload);
  return true;
end $$;
comment on function private.keep_order(integrations.connected_accounts, jsonb, timestamptz) is
  'Keeps an order as the shop told it; false when something later is known.';
revoke all on function private.keep_order from public, anon, authenticated, service_role;

-- Only money that has gone back counts: successful transactions of kind refund.
create function private.keep_refund(account integrations.connected_accounts, order_id text, refund jsonb)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into commerce.order_refunds as r (connected_account_id, shopify_refund_id, workspace_id, shopify_order_id,
    amount_cents, items, refunded_at)
  values (account.id, refund ->> 'id', account.workspace_id, keep_refund.order_id,
    coalesce((select sum(private.cents_of(t ->> 'amount')) from jsonb_array_elements(refund -> 'transactions') t
      where t ->> 'kind' = 'refund' and t ->> 'status' = 'success'), 0),
    coalesce((select jsonb_agg(jsonb_build_object('line_item_id', l ->> 'line_item_id', 'quantity',
        (l ->> 'quantity')::integer, 'cents', coalesce(private.cents_of(l ->> 'subtotal'), 0)
          + coalesce(private.cents_of(l ->> 'total_tax'), 0)))
      from jsonb_array_elements(refund -> 'refund_line_items') l), '[]'),
    coalesce((refund ->> 'processed_at')::timestamptz, (refund ->> 'created_at')::timestamptz, private.now()))
  on conflict on constraint order_refunds_pkey do update
  set amount_cents = excluded.amount_cents, items = excluded.items
  where r.amount_cents < excluded.amount_cents;
  return found;
end $$;
comment on function private.keep_refund(integrations.connected_accounts, text, jsonb) is
  'Keeps a refund once; told again with more money gone back (a transaction that succeeded later), that counts.';
revoke all on function private.keep_refund from public, anon, authenticated, service_role;

-- The order's refunds, summed up; null when the order is not known yet.
create function private.total_refunds(account_id uuid, order_id text) returns commerce.orders
language plpgsql
set search_path = ''
as $$
declare
  v_order commerce.orders;
begin
  update commerce.orders o
  set refunded_cents = (select coalesce(sum(r.amount_cents), 0) from commerce.order_refunds r
    where r.connected_account_id = o.connected_account_id and r.shopify_order_id = o.shopify_order_id)
  where o.connected_account_id = total_refunds.account_id and o.shopify_order_id = total_refunds.order_id
  returning * into v_order;
  update commerce.order_items i
  set refunded_quantity = s.quantity, refunded_cents = s.cents
  from (
    select l ->> 'line_item_id' as line, sum((l ->> 'quantity')::integer)::integer as quantity,
      sum((l ->> 'cents')::bigint)::bigint as cents
    from commerce.order_refunds r cross join lateral jsonb_array_elements(r.items) l
    where r.connected_account_id = total_refunds.account_id and r.shopify_order_id = total_refunds.order_id
    group by l ->> 'line_item_id'
  ) s
  where i.order_id = v_order.id and i.shopify_line_item_id = s.line
    and (i.refunded_quantity, i.refunded_cents) <> (s.quantity, s.cents);
  return v_order;
end $$;
comment on function private.total_refunds(uuid, text) is 'Sums the refunds of an order up, on it and on its lines.';
revoke all on function private.total_refunds from public, anon, authenticated, service_role;

-- What stands for a person in orders of a shop goes; amounts and goods stay.
create function private.redact_orders_of(account_id uuid, order_ids jsonb, refs text[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_redacted integer;
begin
  update commerce.orders o
  set customer_ref = null, handle_ref = null, redacted_at = private.now()
  where o.connected_account_id = redact_orders_of.account_id and o.redacted_at is null
    and (o.shopify_order_id in (select jsonb_array_elements_text(order_ids)) or o.customer_ref = any (refs)
      or o.handle_ref = any (refs));
  get diagnostics v_redacted = row_count;
  return v_redacted;
end $$;
comment on function private.redact_orders_of(uuid, jsonb, text[]) is
  'Orders of a shop, named by the shop''s ids or by the person''s hash, forget the person; answers how many.';
revoke all on function private.redact_orders_of from public, anon, authenticated, service_role;

-- customers/redact names the customer and their orders.
create function private.redact_orders(event ops.webhook_events, account integrations.connected_accounts) returns text
language plpgsql
set search_path = ''
as $$
begin
  return (
    select case when sum(private.redact_orders_of(a.id, coalesce(event.payload -> 'orders_to_redact', '[]'),
      array_remove(array[private.person_ref(a.id, event.payload #>> '{customer,id}'),
        private.person_ref(a.id, event.payload #>> '{customer,email}')], null))) > 0 then 'redacted' end
    from integrations.connected_accounts a
    where a.provider = 'shopify' and a.external_account_id = lower(event.payload ->> 'shop_domain'));
end $$;
comment on function private.redact_orders(ops.webhook_events, integrations.connected_accounts) is
  'customers/redact: what stands for the customer in orders goes.';
revoke all on function private.redact_orders from public, anon, authenticated, service_role;

-- position 0: it reads the customer before the request itself is emptied
insert into commerce.shopify_event_handlers (topic, function_name, needs_shop, position) values
  ('customers/redact', 'private.redact_orders', false, 0);
