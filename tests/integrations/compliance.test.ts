import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
const shop = "ada.myshopify.com";
let owner: TestUser;
let sent = 0;

beforeEach(async () => {
  await db.query("delete from ops.webhook_events");
  await db.query("delete from integrations.connected_accounts");
  owner = await db.createUser();
});

async function connect(status = "active") {
  await db.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at,
      disconnected_at) values ($1, 'shopify', $2, $3, now(), case $3 when 'disconnected' then now() end)`,
    [owner.workspaceId, shop, status],
  );
}

async function receive(topic: string, payload: object, from = shop): Promise<number> {
  const { webhook_event_id } = await db.service.call("ops.receive_webhook", {
    provider: "shopify",
    event_id: `${from}:${topic}:${++sent}`,
    event_type: topic,
    payload,
    headers: { "x-shopify-shop-domain": from },
  });
  return webhook_event_id;
}
const apply = (webhook_event_id: number) =>
  db.service.call("commerce.apply_shopify_event", { webhook_event_id });
const redacted = async () =>
  (await db.query("select id from ops.webhook_events where payload ? 'redacted_at' order by id")).map(
    ({ id }) => id,
  );
const news = () =>
  db.query("select type, title, description, metadata from messaging.notifications where user_id = $1", [
    owner.id,
  ]);

const ofShop = { shop_id: 7, shop_domain: shop };
const eve = { id: 191167, email: "eve@example.com", phone: "555-625-1199" };
const order = (id: number, more: object = {}) => ({ id, name: `#${id}`, ...more });

describe("customers/redact", () => {
  test("empties what the inbox keeps of the customer, the request too, and nothing of others", async () => {
    const mine = [
      await receive("orders/paid", order(1, { customer: eve })),
      await receive("orders/paid", order(2, { email: eve.email })),
      await receive("orders/paid", order(3)),
      await receive("refunds/create", { id: 9, order_id: 3 }),
      await receive("customers/update", eve),
    ];
    await receive("orders/paid", order(4, { customer: { id: 5, email: "bo@example.com" } }));
    await receive("orders/paid", order(3, { customer: eve }), "other.myshopify.com");
    await receive("products/update", { id: 191167, title: "Tee" });
    const request = await receive("customers/redact", { ...ofShop, customer: eve, orders_to_redact: [3] });
    expect(await apply(request)).toBe("redacted");
    expect(await redacted()).toEqual([...mine, request]);
    const [kept] = await db.query("select payload, event_id from ops.webhook_events where id = $1", [
      request,
    ]);
    expect(kept!.payload).toEqual({ ...ofShop, redacted_at: expect.any(String) });
    expect(JSON.stringify(kept)).not.toContain(eve.email);
  });

  test("of an order that was redacted stays known: its repetition brings nothing back", async () => {
    const first = { provider: "shopify", event_id: `${shop}:orders/paid:x`, event_type: "orders/paid" };
    await db.service.call("ops.receive_webhook", { ...first, payload: order(1, { customer: eve }) });
    const request = { ...ofShop, customer: eve, orders_to_redact: [] };
    await apply(await receive("customers/redact", request));
    const again = await db.service.call("ops.receive_webhook", {
      ...first,
      payload: order(1, { customer: eve }),
    });
    expect(again.created).toBe(false);
    expect(await redacted()).toHaveLength(2);
    // A second request finds nothing more, and does no harm.
    expect(await apply(await receive("customers/redact", request))).toBe("redacted");
  });
});

describe("customers/data_request", () => {
  const request = { ...ofShop, customer: eve, orders_requested: [3], data_request: { id: 99 } };

  test("tells the workspace's admins once what is kept", async () => {
    await connect();
    const member = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [owner.workspaceId, member.id],
    );
    const kept = [
      await receive("orders/paid", order(1, { customer: eve })),
      await receive("orders/paid", order(3)),
    ];
    await receive("orders/paid", order(4));
    const id = await receive("customers/data_request", request);
    expect(await apply(id)).toBe("told");
    expect(await apply(id)).toBe("told");
    expect(await news()).toEqual([
      {
        type: "warning",
        title: "A customer asks for their data",
        description: `A customer of ${shop} asks what is kept of them: 2 webhooks are. Answer within 30 days.`,
        metadata: { shop, customer_id: eve.id, data_request_id: 99, webhook_event_ids: kept },
      },
    ]);
    const told = await db.query("select from messaging.notifications where user_id = $1", [member.id]);
    expect(told).toEqual([]);
  });

  test("says so when nothing is kept, and tells nobody of a shop that is connected to no workspace", async () => {
    expect(await apply(await receive("customers/data_request", request))).toBe("ignored");
    expect(await news()).toEqual([]);
    await connect();
    await apply(
      await receive("customers/data_request", { ...request, customer: { ...eve, id: 1, email: "f@g" } }),
    );
    expect((await news())[0]!.description).toContain("nothing is");
  });
});

describe("shop/redact", () => {
  test("empties all of the shop's webhooks and deletes the account that was disconnected", async () => {
    await connect("disconnected");
    const all = [
      await receive("products/update", { id: 1, title: "Tee" }),
      await receive("orders/paid", order(1, { customer: eve })),
    ];
    await receive("orders/paid", order(1), "other.myshopify.com");
    const request = await receive("shop/redact", ofShop);
    await apply(request);
    expect(await redacted()).toEqual([...all, request]);
    expect(await db.query("select from integrations.connected_accounts")).toEqual([]);
  });

  test("of a shop that has been connected again changes nothing", async () => {
    await connect();
    await receive("orders/paid", order(1, { customer: eve }));
    await apply(await receive("shop/redact", ofShop));
    expect(await redacted()).toEqual([]);
    expect(await db.query("select from integrations.connected_accounts")).toHaveLength(1);
  });
});
