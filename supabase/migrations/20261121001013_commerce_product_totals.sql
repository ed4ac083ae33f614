-- What a product has of its variants: stock, prices, availability. It follows by
-- triggers, whoever writes.

create function private.total_products(ids uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
  update commerce.shopify_products p
  set variants_count = s.variants_count, total_inventory = s.total_inventory,
    has_variants_in_stock = s.in_stock, lowest_stock_level = s.lowest, price_min_cents = s.price_min,
    price_max_cents = s.price_max, compare_at_price_min_cents = s.compare_min,
    available_for_sale = s.available and p.status = 'active' and p.deleted_at is null
  from (
    select c.product_id, count(v.id)::integer as variants_count,
      coalesce(sum(v.inventory_quantity), 0)::bigint as total_inventory,
      coalesce(bool_or(v.inventory_quantity > 0), false) as in_stock,
      coalesce(bool_or(v.available), false) as available,
      min(v.inventory_quantity) filter (where v.tracked) as lowest, min(v.price_cents) as price_min,
      max(v.price_cents) as price_max, min(v.compare_at_price_cents) as compare_min
    from unnest(ids) c (product_id)
    left join commerce.shopify_product_variants v on v.product_id = c.product_id and v.deleted_at is null
    group by 1
  ) s
  where p.id = s.product_id
    and (p.variants_count, p.total_inventory, p.has_variants_in_stock, p.lowest_stock_level, p.price_min_cents,
      p.price_max_cents, p.compare_at_price_min_cents, p.available_for_sale)
      is distinct from (s.variants_count, s.total_inventory, s.in_stock, s.lowest, s.price_min, s.price_max,
        s.compare_min, s.available and p.status = 'active' and p.deleted_at is null);
end $$;
comment on function private.total_products(uuid[]) is
  'Stock, prices and availability of these products become those of their live variants.';
revoke all on function private.total_products from public, anon, authenticated, service_role;
grant execute on function private.total_products to service_role;

create function private.total_shopify_products() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[] := array(select distinct n.product_id from changed n);
begin
  if v_ids <> '{}' then
    perform private.total_products(v_ids);
  end if;
  return null;
end $$;
comment on function private.total_shopify_products() is
  'Trigger: stock, prices and availability of a product are those of its live variants.';
revoke all on function private.total_shopify_products from public, anon, authenticated, service_role;
create trigger total_after_insert after insert on commerce.shopify_product_variants
  referencing new table as changed for each statement execute function private.total_shopify_products();
create trigger total_after_update after update on commerce.shopify_product_variants
  referencing new table as changed for each statement execute function private.total_shopify_products();
create trigger total_after_delete after delete on commerce.shopify_product_variants
  referencing old table as changed for each statement execute function private.total_shopify_products();

-- A variant that is said to be another product's is gone from the one before.
create function private.total_product_before() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform private.total_products(array[old.product_id]);
  return null;
end $$;
comment on function private.total_product_before() is
  'Trigger: a product that lost a variant to another is summed anew.';
revoke all on function private.total_product_before from public, anon, authenticated, service_role;
create trigger total_before after update of product_id on commerce.shopify_product_variants
  for each row when (old.product_id <> new.product_id) execute function private.total_product_before();

-- A product that is withdrawn is no longer for sale, though none of its variants changed.
create function private.keep_product_availability() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.available_for_sale := new.status = 'active' and new.deleted_at is null and exists (
    select from commerce.shopify_product_variants v
    where v.product_id = new.id and v.deleted_at is null and v.available);
  return new;
end $$;
comment on function private.keep_product_availability() is
  'Trigger: a product is for sale when it is active and a live variant may be bought.';
revoke all on function private.keep_product_availability from public, anon, authenticated, service_role;
create trigger keep_availability before update of status, deleted_at on commerce.shopify_products
  for each row execute function private.keep_product_availability();
