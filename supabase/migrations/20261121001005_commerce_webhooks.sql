-- Shopify's webhooks, applied. The worker calls commerce.apply_shopify_event() for each; which functions hear of a
-- topic is rows, so that another domain (orders, for instance) adds its own without touching this.

create table commerce.shopify_event_handlers (
  topic text not null,
  function_name text not null,
  needs_shop boolean not null default true,
  position smallint not null default 0,
  created_at timestamptz not null default now(),
  constraint shopify_event_handlers_pkey primary key (topic, function_name),
  constraint shopify_event_handlers_topic_shape check (topic ~ '^[a-z_]+/[a-z_]+$'),
  constraint shopify_event_handlers_function_name_shape check (function_name ~ '^[a-z_]+\.[a-z_]+$')
);
comment on table commerce.shopify_event_handlers is 'Which functions apply a topic of Shopify, in order of position.';
comment on column commerce.shopify_event_handlers.function_name is
  'Called as f(event ops.webhook_events, account integrations.connected_accounts) returns text, null: not concerned.';
comment on column commerce.shopify_event_handlers.needs_shop is 'False: called for shops that are not connected, too.';
alter table commerce.shopify_event_handlers enable row level security;
revoke all on table commerce.shopify_event_handlers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table commerce.shopify_event_handlers to service_role;

create function private.header_of(event ops.webhook_events, name text) returns text
language sql immutable
set search_path = ''
as $$ select coalesce(event.headers ->> ('shopify-' || name), event.headers ->> ('x-shopify-' || name)) $$;
comment on function private.header_of(ops.webhook_events, text) is 'A header of Shopify, of its older or newer family.';
revoke all on function private.header_of from public, anon, authenticated, service_role;
grant execute on function private.header_of to service_role;

-- Headers are not signed: a time that cannot be is not believed, nor one that lies in the future.
create function private.told_at(event ops.webhook_events) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_text text := private.header_of(event, 'triggered-at');
begin
  if v_text ~ '^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$' then
    return least(v_text::timestamptz, event.created_at + interval '1 minute');
  end if;
  return least((event.payload ->> 'updated_at')::timestamptz, event.created_at);
end $$;
comment on function private.told_at(ops.webhook_events) is 'When the shop sent an event off for the first time.';
revoke all on function private.told_at from public, anon, authenticated, service_role;
grant execute on function private.told_at to service_role;

create function private.cents_of(price text) returns bigint
language sql immutable
set search_path = ''
as $$ select case when price ~ '^\d{1,15}(\.\d+)?$' then round(price::numeric * 100)::bigint end $$;
comment on function private.cents_of(text) is
  'A decimal price in hundredths of the currency''s unit; null when it is none.';
revoke all on function private.cents_of from public, anon, authenticated, service_role;
grant execute on function private.cents_of to service_role;

create function private.shopify_variant_of(variant jsonb, images jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', variant ->> 'id', 'inventory_item_id', variant ->> 'inventory_item_id', 'title', variant ->> 'title',
    'sku', nullif(variant ->> 'sku', ''), 'barcode', nullif(variant ->> 'barcode', ''),
    'option1', variant ->> 'option1', 'option2', variant ->> 'option2', 'option3', variant ->> 'option3',
    'price_cents', private.cents_of(variant ->> 'price'),
    'compare_at_price_cents', private.cents_of(variant ->> 'compare_at_price'),
    'quantity', (variant ->> 'inventory_quantity')::integer, 'inventory_policy', lower(variant ->> 'inventory_policy'),
    'taxable', (variant ->> 'taxable')::boolean, 'position', (variant ->> 'position')::integer,
    'image_id', variant ->> 'image_id',
    'image_url', (select i ->> 'src' from jsonb_array_elements(images) i
      where i ->> 'id' = variant ->> 'image_id' limit 1),
    'created_at', variant ->> 'created_at', 'updated_at', variant ->> 'updated_at')
    || case when variant ? 'fulfillment_service'
      then jsonb_build_object('fulfillment_service', variant ->> 'fulfillment_service') else '{}' end
$$;
comment on function private.shopify_variant_of(jsonb, jsonb) is 'A variant of a webhook in the form that is applied.';
revoke all on function private.shopify_variant_of from public, anon, authenticated, service_role;

-- The one form in which webhooks and syncs describe a product.
create function private.shopify_product_of(payload jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', payload ->> 'id', 'title', payload ->> 'title', 'body_html', nullif(payload ->> 'body_html', ''),
    'vendor', nullif(payload ->> 'vendor', ''), 'product_type', nullif(payload ->> 'product_type', ''),
    'status', lower(payload ->> 'status'), 'handle', payload ->> 'handle',
    'published_at', payload ->> 'published_at', 'created_at', payload ->> 'created_at',
    'updated_at', payload ->> 'updated_at',
    'tags', array(select t from regexp_split_to_table(payload ->> 'tags', '\s*,\s*') t where t <> '' order by t),
    'options', coalesce((select jsonb_agg(
      jsonb_build_object('name', o ->> 'name', 'position', (o ->> 'position')::integer, 'values', o -> 'values')
      order by (o ->> 'position')::integer) from jsonb_array_elements(payload -> 'options') o), '[]'),
    'images', coalesce((select jsonb_agg(jsonb_build_object('url', i ->> 'src', 'alt', i ->> 'alt',
        'width', (i ->> 'width')::integer, 'height', (i ->> 'height')::integer) order by (i ->> 'position')::integer)
      from jsonb_array_elements(payload -> 'images') i), '[]'),
    'variants', coalesce((select jsonb_agg(private.shopify_variant_of(v, payload -> 'images'))
      from jsonb_array_elements(payload -> 'variants') v), '[]'))
    || case when jsonb_typeof(payload -> 'variant_gids') = 'array' then jsonb_build_object('variant_ids',
      array(select substring(g ->> 'admin_graphql_api_id' from '\d+$')
        from jsonb_array_elements(payload -> 'variant_gids') g)) else '{}' end
$$;
comment on function private.shopify_product_of(jsonb) is 'A product of a webhook in the form that is applied.';
revoke all on function private.shopify_product_of from public, anon, authenticated, service_role;

insert into ops.job_kinds (kind, description, timeout) values
  ('shopify.refresh', 'Reads one product or the members of one collection from its shop.', interval '1 day');

create function private.refresh_from_shop(account integrations.connected_accounts, what text, external_id text,
  version text) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform ops.enqueue_job('shopify.refresh',
    jsonb_build_object('account_id', account.id, 'what', what, 'id', external_id), account.workspace_id,
    limit_key => 'shopify:' || account.id,
    key => left(concat_ws(':', 'shopify', account.id, what, external_id, version), 255));
end $$;
comment on function private.refresh_from_shop(integrations.connected_accounts, text, text, text) is
  'Has one thing read from the shop, once for a version of it.';
revoke all on function private.refresh_from_shop from public, anon, authenticated, service_role;

create function private.apply_product_event(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_id text := event.payload ->> 'id';
  v_result text;
begin
  if event.event_type = 'products/delete' then
    return commerce.delete_shopify_product(account.id, v_id, private.told_at(event));
  end if;
  v_result := commerce.apply_shopify_product(account.id, private.shopify_product_of(event.payload),
    private.told_at(event));
  if v_result = 'applied' and exists (select from commerce.shopify_products p
    where p.connected_account_id = account.id and p.shopify_product_id = v_id and p.sync_status = 'pending') then
    perform private.refresh_from_shop(account, 'product', v_id, event.payload ->> 'updated_at');
  end if;
  return v_result;
end $$;
comment on function private.apply_product_event(ops.webhook_events, integrations.connected_accounts) is
  'products/*: what is left out of a long list of variants is read from the shop.';
revoke all on function private.apply_product_event from public, anon, authenticated, service_role;

create function private.apply_collection_event(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_payload jsonb := event.payload;
  v_result text;
begin
  if event.event_type = 'collections/delete' then
    return commerce.delete_shopify_collection(account.id, v_payload ->> 'id', private.told_at(event));
  end if;
  v_result := commerce.apply_shopify_collection(account.id, jsonb_build_object(
    'id', v_payload ->> 'id', 'title', v_payload ->> 'title', 'body_html', nullif(v_payload ->> 'body_html', ''),
    'handle', v_payload ->> 'handle', 'sort_order', lower(v_payload ->> 'sort_order'),
    'image_url', v_payload -> 'image' ->> 'src', 'image_alt', v_payload -> 'image' ->> 'alt',
    'published', v_payload ->> 'published_at' is not null, 'published_at', v_payload ->> 'published_at',
    'collection_type', case when jsonb_typeof(v_payload -> 'rules') = 'array' then 'smart' else 'custom' end,
    'updated_at', v_payload ->> 'updated_at'), private.told_at(event));
  if v_result = 'applied' then
    perform private.refresh_from_shop(account, 'collection', v_payload ->> 'id', v_payload ->> 'updated_at');
  end if;
  return v_result;
end $$;
comment on function private.apply_collection_event(ops.webhook_events, integrations.connected_accounts) is
  'collections/*: members are not in the message and are read from the shop.';
revoke all on function private.apply_collection_event from public, anon, authenticated, service_role;

create function private.apply_stock_event(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_payload jsonb := event.payload;
  v_seen timestamptz := private.told_at(event);
  v_news integer;
begin
  if event.event_type = 'inventory_items/delete' then
    return commerce.delete_inventory_item(account.id, v_payload ->> 'id', v_seen);
  end if;
  if event.event_type like 'inventory\_items/%' then
    v_news := commerce.apply_inventory_items(account.id, jsonb_build_array(jsonb_build_object(
      'id', v_payload ->> 'id', 'tracked', v_payload -> 'tracked', 'cost_cents', private.cents_of(v_payload ->> 'cost'),
      'requires_shipping', v_payload -> 'requires_shipping', 'updated_at', v_payload ->> 'updated_at')), v_seen);
  else
    v_news := commerce.apply_inventory_levels(account.id, jsonb_build_array(jsonb_build_object(
      'inventory_item_id', v_payload ->> 'inventory_item_id', 'location_id', v_payload ->> 'location_id',
      'available', v_payload -> 'available', 'updated_at', case
        when event.event_type <> 'inventory_levels/disconnect' then v_payload ->> 'updated_at' end,
      'disconnected', event.event_type = 'inventory_levels/disconnect')), v_seen);
  end if;
  return case when v_news > 0 then 'applied' else 'stale' end;
end $$;
comment on function private.apply_stock_event(ops.webhook_events, integrations.connected_accounts) is
  'inventory_items/* and inventory_levels/*.';
revoke all on function private.apply_stock_event from public, anon, authenticated, service_role;

-- The token is dead already. One that comes after the app was installed again is of the installation before.
create function private.apply_uninstall_event(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
begin
  if private.told_at(event) < account.connected_at then
    return 'stale';
  end if;
  perform private.disconnect_account(account.id);
  return 'disconnected';
end $$;
comment on function private.apply_uninstall_event(ops.webhook_events, integrations.connected_accounts) is
  'app/uninstalled: the account is disconnected; its catalog stays for the days in which it may come back.';
revoke all on function private.apply_uninstall_event from public, anon, authenticated, service_role;

create function private.end_waiting_installation(event ops.webhook_events, account integrations.connected_accounts)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
begin
  select p.id into v_id from integrations.pending_installations p
  where p.provider = 'shopify' and p.external_account_id = lower(private.header_of(event, 'shop-domain'))
    and p.status = 'pending' and p.installed_at <= private.told_at(event);
  if v_id is null then
    return null;
  end if;
  perform integrations.end_installation(v_id, 'uninstalled');
  return 'uninstalled';
end $$;
comment on function private.end_waiting_installation(ops.webhook_events, integrations.connected_accounts) is
  'app/uninstalled: an installation that nobody has claimed yet ends, and its token goes.';
revoke all on function private.end_waiting_installation from public, anon, authenticated, service_role;

insert into commerce.shopify_event_handlers (topic, function_name, needs_shop) values
  ('products/create', 'private.apply_product_event', true),
  ('products/update', 'private.apply_product_event', true),
  ('products/delete', 'private.apply_product_event', true),
  ('collections/create', 'private.apply_collection_event', true),
  ('collections/update', 'private.apply_collection_event', true),
  ('collections/delete', 'private.apply_collection_event', true),
  ('inventory_levels/connect', 'private.apply_stock_event', true),
  ('inventory_levels/update', 'private.apply_stock_event', true),
  ('inventory_levels/disconnect', 'private.apply_stock_event', true),
  ('inventory_items/create', 'private.apply_stock_event', true),
  ('inventory_items/update', 'private.apply_stock_event', true),
  ('inventory_items/delete', 'private.apply_stock_event', true),
  ('app/uninstalled', 'private.apply_uninstall_event', true),
  ('app/uninstalled', 'private.end_waiting_installation', false);

-- Returns what became of it: applied, unchanged, stale, deleted, disconnected, uninstalled; ignored when it
-- concerned nobody.
create function commerce.apply_shopify_event(webhook_event_id bigint) returns text
language plpgsql security definer
set search_path = ''
as $$
declare
  v_event ops.webhook_events;
  v_account integrations.connected_accounts;
  v_handler commerce.shopify_event_handlers;
  v_result text;
  v_last text;
begin
  select * into v_event from ops.webhook_events e where e.id = webhook_event_id and e.provider = 'shopify';
  perform private.correlate(v_event.correlation_id);
  perform private.say_catalog_source('webhook', v_event.event_type);
  -- live at this moment, not when the event was stored: the shop may have been connected or disconnected since
  select * into v_account from integrations.connected_accounts a
  where a.provider = 'shopify' and a.status in ('active', 'expired', 'error', 'pending')
    and a.external_account_id = lower(private.header_of(v_event, 'shop-domain'))
  order by a.connected_at desc nulls last limit 1;
  for v_handler in
    select * from commerce.shopify_event_handlers h
    where h.topic = v_event.event_type and (v_account.id is not null or not h.needs_shop)
    order by h.position, h.function_name
  loop
    -- the shape of the name is held by a constraint of the table
    execute 'select ' || v_handler.function_name || '($1, $2)' into v_last using v_event, v_account;
    v_result := coalesce(v_last, v_result);
  end loop;
  return coalesce(v_result, 'ignored');
end $$;
comment on function commerce.apply_shopify_event(bigint) is
  'Applies one Shopify webhook of the inbox; safe to repeat and in any order.';
revoke all on function commerce.apply_shopify_event from public, anon, authenticated, service_role;
grant execute on function commerce.apply_shopify_event to service_role;
