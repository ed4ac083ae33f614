-- Orders of connected shops, as little of them as sales by try-on need: ids, amounts, lines, discount codes, where the
-- buyer came from. Of the buyer only hashes are kept: they tell whether two orders are of one buyer, and whether the
-- buyer is somebody the bot talked to, and name nobody. Amounts are in hundredths of the currency's unit, as prices.

create table commerce.orders (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  connected_account_id uuid not null,
  shopify_order_id text not null,
  name text,
  currency text not null,
  subtotal_cents bigint not null default 0,
  discount_cents bigint not null default 0,
  tax_cents bigint not null default 0,
  total_cents bigint not null,
  refunded_cents bigint not null default 0,
  financial_status text,
  is_test boolean not null default false,
  customer_ref text,
  handle_ref text,
  discount_codes text[] not null default '{}',
  campaign jsonb not null default '{}',
  ordered_at timestamptz not null,
  paid_at timestamptz,
  cancelled_at timestamptz,
  redacted_at timestamptz,
  shopify_updated_at timestamptz not null,
  observed_at timestamptz not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint orders_workspace_id_fkey foreign key (workspace_id) references identity.workspaces (id) on delete cascade,
  constraint orders_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint orders_once unique (connected_account_id, shopify_order_id),
  constraint orders_currency_shape check (currency ~ '^[A-Z]{3}$'),
  constraint orders_amounts_not_negative check (
    subtotal_cents >= 0 and discount_cents >= 0 and tax_cents >= 0 and total_cents >= 0 and refunded_cents >= 0
  ),
  constraint orders_campaign_object check (jsonb_typeof(campaign) = 'object'),
  constraint orders_redacted_names_nobody check (redacted_at is null or (customer_ref is null and handle_ref is null))
);
comment on table commerce.orders is
  'Orders of connected shops, without their buyers; amounts in hundredths of the currency''s unit.';
comment on column commerce.orders.customer_ref is 'Hash of the shop''s customer, the same for all their orders there.';
comment on column commerce.orders.handle_ref is 'Hash of the social handle that the buyer gave in the cart.';
comment on column commerce.orders.discount_codes is 'In capitals.';
comment on column commerce.orders.campaign is
  'utm_* and tryon of the address where the visit began or of the cart, as they stood there.';
comment on column commerce.orders.paid_at is 'When the shop had the money; only what is paid is revenue.';
comment on column commerce.orders.redacted_at is
  'When the shop, or the person themselves, asked to forget the customer.';
create index orders_workspace_id on commerce.orders (workspace_id, ordered_at desc, id);
create index orders_customer_ref on commerce.orders (connected_account_id, customer_ref) where customer_ref is not null;
create index orders_handle_ref on commerce.orders (connected_account_id, handle_ref) where handle_ref is not null;
create trigger touch_orders before update on commerce.orders
  for each row execute function private.touch_updated_at();
alter table commerce.orders enable row level security;
revoke all on table commerce.orders from public, anon, authenticated, service_role;
grant select on table commerce.orders to authenticated;
grant select, insert, update, delete on table commerce.orders to service_role;
create policy "Members see the orders of their workspaces' shops" on commerce.orders
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

create table commerce.order_items (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  order_id uuid not null,
  shopify_line_item_id text not null,
  product_id uuid,
  variant_id uuid,
  shopify_product_id text,
  shopify_variant_id text,
  title text,
  quantity integer not null,
  price_cents bigint not null,
  discount_cents bigint not null default 0,
  refunded_quantity integer not null default 0,
  refunded_cents bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint order_items_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint order_items_order_id_fkey foreign key (order_id) references commerce.orders (id) on delete cascade,
  constraint order_items_product_id_fkey foreign key (product_id)
    references commerce.shopify_products (id) on delete set null,
  constraint order_items_variant_id_fkey foreign key (variant_id)
    references commerce.shopify_product_variants (id) on delete set null,
  constraint order_items_once unique (order_id, shopify_line_item_id),
  constraint order_items_numbers_not_negative check (
    quantity >= 0 and price_cents >= 0 and discount_cents >= 0 and refunded_quantity >= 0 and refunded_cents >= 0
  )
);
comment on table commerce.order_items is
  'What was bought with an order; price_cents is of one piece, the rest of the line.';
comment on column commerce.order_items.product_id is 'Null: the shop sold what the catalog does not have.';
comment on column commerce.order_items.refunded_cents is 'Given back for the line, with its tax.';
create index order_items_workspace_id on commerce.order_items (workspace_id, product_id);
create index order_items_product_id on commerce.order_items (product_id) where product_id is not null;
create index order_items_variant_id on commerce.order_items (variant_id) where variant_id is not null;
create trigger touch_order_items before update on commerce.order_items
  for each row execute function private.touch_updated_at();
alter table commerce.order_items enable row level security;
revoke all on table commerce.order_items from public, anon, authenticated, service_role;
grant select on table commerce.order_items to authenticated;
grant select, insert, update, delete on table commerce.order_items to service_role;
create policy "Members see what was bought in their workspaces' shops" on commerce.order_items
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));

-- A refund may be told before its order: it names the order by the shop's id.
create table commerce.order_refunds (
  connected_account_id uuid not null,
  shopify_refund_id text not null,
  workspace_id uuid not null,
  shopify_order_id text not null,
  amount_cents bigint not null,
  items jsonb not null default '[]',
  refunded_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint order_refunds_pkey primary key (connected_account_id, shopify_refund_id),
  constraint order_refunds_connected_account_id_fkey foreign key (connected_account_id)
    references integrations.connected_accounts (id) on delete cascade,
  constraint order_refunds_workspace_id_fkey foreign key (workspace_id)
    references identity.workspaces (id) on delete cascade,
  constraint order_refunds_amount_not_negative check (amount_cents >= 0),
  constraint order_refunds_items_array check (jsonb_typeof(items) = 'array')
);
comment on table commerce.order_refunds is 'What shops have given back of orders, each refund once.';
comment on column commerce.order_refunds.items is '[{line_item_id, quantity, cents}].';
create index order_refunds_order on commerce.order_refunds (connected_account_id, shopify_order_id);
create index order_refunds_workspace_id on commerce.order_refunds (workspace_id, refunded_at desc);
alter table commerce.order_refunds enable row level security;
revoke all on table commerce.order_refunds from public, anon, authenticated, service_role;
grant select on table commerce.order_refunds to authenticated;
grant select, insert, update, delete on table commerce.order_refunds to service_role;
create policy "Members see the refunds of their workspaces' shops" on commerce.order_refunds
  for select to authenticated using (workspace_id = any ((select private.workspace_ids('viewer'))::uuid[]));
