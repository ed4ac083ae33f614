// A million rows for the lists that people page through: products of shops, and an inbox. One workspace has three in
// ten of all, ten have five in a hundred each, the rest is spread over two hundred.
import type pg from "pg";

/** Whose rows are asked for: the id of a workspace is also that of its owner. */
export const tenants = { large: 1, medium: 2, small: 20 };
export const tenantCount = 211;

export function tenantId(n: number): string {
  return `${n.toString(16).padStart(8, "0")}-0000-4000-8000-000000000000`;
}

const makeTenants = `
  insert into identity.workspaces (id, name, slug)
    select (lpad(to_hex(n), 8, '0') || '-0000-4000-8000-000000000000')::uuid, 'Bench', 'bench-' || n
    from generate_series(1, ${tenantCount}) n;
  insert into identity.workspace_members (workspace_id, user_id, role)
    select id, id, 'owner' from identity.workspaces where slug like 'bench-%';
  insert into integrations.connected_accounts (id, workspace_id, provider, external_account_id)
    select overlay(w.id::text placing '9' from 20)::uuid, w.id, 'shopify', w.slug
    from identity.workspaces w where slug like 'bench-%';
  create temporary table word as
    select kind, row_number() over (partition by kind) - 1 as n, w from (values
      ('cut', 'Slim Relaxed Oversized Cropped Tailored Pleated Wrap Belted Ribbed Boxy Flared Draped Classic Vintage
        Padded Quilted Layered Fitted Loose Straight Sculpted Gathered Ruched Smocked Embroidered'),
      ('cloth', 'Linen Cotton Wool Silk Denim Leather Cashmere Velvet Satin Corduroy Jersey Tweed Viscose Mohair Suede
        Canvas Chiffon Flannel Merino Poplin'),
      ('thing', 'Dress Shirt Coat Jacket Trousers Skirt Blouse Jumper Cardigan Blazer Jeans Shorts Hoodie Top Vest
        Jumpsuit Kimono Parka Trench Waistcoat Tunic Bodysuit Scarf Hat Belt Bag Boots Sandals Loafers Sneakers'),
      ('colour', 'Black White Navy Ivory Olive Rust Sand Blush Emerald Cobalt Charcoal Burgundy Mustard Teal Lilac'),
      ('tag', 'summer winter autumn spring sale new basics office evening festival wedding sport outlet organic vegan
        recycled limited petite tall plus unisex travel lounge gift')
    ) k (kind, words) cross join lateral regexp_split_to_table(words, '\\s+') w;
  create temporary table words as
    select kind, array_agg(w order by n) as list, count(*)::integer as size from word group by kind`;

/** n'th row of so many: the tenant that it belongs to. */
const tenantOf = (n: string) => `case when ${n} % 10 < 3 then 1 when ${n} % 10 < 8 then 2 + ${n} / 10 % 10
  else 12 + ${n} / 10 % 200 end`;

/** What part of all rows a tenant has: the trigger that puts products into slices is off here. */
const shareOf = (tenant: string) =>
  `case when ${tenant} = 1 then 0.3 when ${tenant} < 12 then 0.05 else 0.001 end`;

/** Products whose names, tags and texts are put together from words people use; the search indexes are made at the end. */
export async function fillProducts(client: pg.ClientBase, count: number): Promise<void> {
  await client.query(`set session_replication_role = replica; ${makeTenants};
    drop index commerce.shopify_products_search, commerce.shopify_products_tags`);
  const pick = (kind: string, n: string) =>
    `(select list[1 + (${n}) % size] from words where kind = '${kind}')`;
  for (let from = 0; from < count; from += 100_000) {
    await client.query(`
      insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, body_html,
        vendor, product_type, tags, price_min_cents, price_max_cents, total_inventory, variants_count,
        has_variants_in_stock, lowest_stock_level, search_slice, shopify_updated_at, observed_at)
      select t.id, overlay(t.id::text placing '9' from 20)::uuid, r.n::text,
        concat_ws(' ', ${pick("colour", "r.h / 7")}, ${pick("cut", "r.h / 11")}, ${pick("cloth", "r.h / 13")},
          ${pick("thing", "r.h / 17")}),
        '<p>A ' || ${pick("cut", "r.h / 19")} || ' ' || ${pick("thing", "r.h / 17")} || ' made of '
          || ${pick("cloth", "r.h / 13")} || ' and ' || ${pick("cloth", "r.h / 23")} || ', style ' || to_hex(r.h)
          || '. Goes with a ' || ${pick("thing", "r.h / 29")} || ' in ' || ${pick("colour", "r.h / 31")}
          || '. Machine wash cold, hang to dry, iron on the reverse side.</p>',
        'Maker ' || r.h % 200, ${pick("thing", "r.h / 17")},
        array[${pick("tag", "r.h / 37")}, ${pick("tag", "r.h / 41")}, lower(${pick("cloth", "r.h / 13")})],
        1000 + r.h % 20000, 1000 + r.h % 20000, r.h % 90, 3, r.h % 10 > 0, r.h % 30,
        floor(r.n * ${shareOf("r.tenant")} / 8000),
        timestamptz '2026-01-01' + make_interval(secs => r.h % 25000000), now()
      from (select n, abs(hashint4(n)) as h, ${tenantOf("n")} as tenant from generate_series(${from},
        ${Math.min(count, from + 100_000) - 1}) n) r
      cross join lateral (select (lpad(to_hex(r.tenant), 8, '0') || '-0000-4000-8000-000000000000')::uuid as id) t`);
  }
  await client.query(`set maintenance_work_mem = '1GB';
    create index shopify_products_search on commerce.shopify_products using gin (search) with (fastupdate = off)
      where deleted_at is null;
    create index shopify_products_tags on commerce.shopify_products
      using gin (workspace_id extensions.uuid_ops, tags) where deleted_at is null;
    set session_replication_role = origin`);
}

/** So many conversations, and as many messages in the first thousand conversations of their tenants. */
export async function fillInbox(client: pg.ClientBase, count: number): Promise<void> {
  const perConversation = Math.max(1, Math.floor(count / 1000));
  await client.query(`set session_replication_role = replica;
    insert into social.conversations (id, workspace_id, connected_account_id, platform_user_id, platform_username,
      category, is_accepted, unread_count, message_count, last_message_at, last_message_text)
    select (lpad(to_hex(n), 8, '0') || '-0000-4000-a000-000000000000')::uuid, t.id,
      overlay(t.id::text placing '9' from 20)::uuid, n::text, 'person.' || n,
      (array['primary', 'general', 'requests', 'hidden'])[1 + least(r.h % 10, 3)], r.h % 10 < 2,
      case when r.h % 20 = 0 then 1 + r.h % 5 else 0 end, 10,
      timestamptz '2026-01-01' + make_interval(secs => r.h % 25000000), 'Does it come in a size smaller?'
    from (select n, abs(hashint4(n)) as h, ${tenantOf("n")} as tenant from generate_series(0, ${count} - 1) n) r
    cross join lateral (select (lpad(to_hex(r.tenant), 8, '0') || '-0000-4000-8000-000000000000')::uuid as id) t;
    insert into social.messages (workspace_id, connected_account_id, conversation_id, direction, source, purpose, status,
      platform_message_id, sender_platform_id, message_text, sent_at, read_at, created_at)
    select c.workspace_id, c.connected_account_id, c.id, case when m % 2 = 0 then 'inbound' else 'outbound' end,
      case when m % 2 = 0 then 'person' else 'bot' end, case when m % 2 = 1 then 'photo_request' end,
      case when m % 2 = 0 then 'received' else 'sent' end, c.platform_user_id || ':' || m, c.platform_user_id,
      'Does it come in a size smaller?', at.at, at.at, at.at
    from (select * from social.conversations order by id limit 1000) c
    cross join generate_series(1, ${perConversation}) m
    cross join lateral (select timestamptz '2026-01-01' + make_interval(mins => m) as at) at;
    set session_replication_role = origin`);
}
