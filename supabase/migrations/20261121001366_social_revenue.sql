-- Revenue that came of try-ons, as clients read it. Amounts are in hundredths of the currency's unit and never added
-- over currencies; net is what was paid less what was given back.

create view social.attributed_orders with (security_invoker = true) as
select a.workspace_id, a.order_id, o.name, a.account_id, o.connected_account_id as shop_account_id, a.method, a.post_id,
  a.conversation_id, a.creation_id, a.product_id, o.currency, o.total_cents, o.refunded_cents,
  o.total_cents - o.refunded_cents as net_cents, o.ordered_at, o.paid_at, a.taken_back_at
from social.order_attributions a
join commerce.orders o on o.id = a.order_id;
comment on view social.attributed_orders is 'Orders that came of try-ons, with what was paid and given back.';
revoke all on table social.attributed_orders from public, anon, authenticated, service_role;
grant select on table social.attributed_orders to authenticated, service_role;

create view social.revenue_by_post with (security_invoker = true) as
select a.workspace_id, a.account_id, a.post_id, a.currency, count(*) as orders,
  count(a.taken_back_at) as orders_taken_back, sum(a.total_cents)::bigint as total_cents,
  sum(a.refunded_cents)::bigint as refunded_cents, sum(a.net_cents)::bigint as net_cents
from social.attributed_orders a
group by a.workspace_id, a.account_id, a.post_id, a.currency;
comment on view social.revenue_by_post is 'Revenue of try-ons by post and currency; post_id null: by no post.';
revoke all on table social.revenue_by_post from public, anon, authenticated, service_role;
grant select on table social.revenue_by_post to authenticated, service_role;

create view social.revenue_by_product with (security_invoker = true) as
select a.workspace_id, a.account_id, i.product_id, i.shopify_product_id, max(i.title) as title, a.currency,
  count(distinct a.order_id) as orders, sum(i.quantity)::bigint as quantity,
  sum(i.refunded_quantity)::bigint as refunded_quantity,
  sum(i.price_cents * i.quantity - i.discount_cents)::bigint as total_cents,
  sum(i.refunded_cents)::bigint as refunded_cents
from social.attributed_orders a
join commerce.order_items i on i.order_id = a.order_id
group by a.workspace_id, a.account_id, i.product_id, i.shopify_product_id, a.currency;
comment on view social.revenue_by_product is
  'What was bought with orders that came of try-ons, by product and currency, after discounts and before shipping.';
revoke all on table social.revenue_by_product from public, anon, authenticated, service_role;
grant select on table social.revenue_by_product to authenticated, service_role;

-- By the day of the order in a time zone (by default the workspace's), the days from_day to to_day (both included, by
-- default the last 30). Errors: unknown_workspace, invalid_argument, invalid_timezone.
create function social.revenue_by_day(workspace_id uuid, from_day date default null, to_day date default null,
  timezone text default null, account_id uuid default null)
returns table (day date, currency text, orders bigint, orders_taken_back bigint, total_cents bigint,
  refunded_cents bigint, net_cents bigint)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_timezone text;
  v_range record;
begin
  perform private.require_role(revenue_by_day.workspace_id, 'viewer');
  v_timezone := billing._timezone(revenue_by_day.workspace_id, revenue_by_day.timezone);
  select * into v_range from billing._day_range(from_day, to_day, v_timezone);
  return query
  select (a.ordered_at at time zone v_timezone)::date, a.currency, count(*), count(a.taken_back_at),
    sum(a.total_cents)::bigint, sum(a.refunded_cents)::bigint, sum(a.net_cents)::bigint
  from social.attributed_orders a
  where a.workspace_id = revenue_by_day.workspace_id and a.ordered_at >= v_range.from_at
    and a.ordered_at < v_range.to_at and (revenue_by_day.account_id is null or a.account_id = revenue_by_day.account_id)
  group by 1, 2
  order by 1, 2;
end $$;
comment on function social.revenue_by_day is 'Revenue of try-ons by day of a time zone and currency.';
revoke all on function social.revenue_by_day from public, anon, authenticated, service_role;
grant execute on function social.revenue_by_day to authenticated, service_role;
