import { createHmac } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Shop } from "../../supabase/local/standins/shopify/state.ts";
import { control, type Stage, startStage } from "./receiver.ts";

let stage: Stage;
let orders: ReturnType<typeof control>;
let url: string;
const shop = "demo.myshopify.com";

beforeAll(async () => {
  stage = await startStage();
  url = stage.standIns.shopify.url;
  orders = control(url);
});
afterAll(() => stage.close());
beforeEach(() => orders.reset());

async function send(path: string, body?: unknown, headers: Record<string, string> = {}, method?: string) {
  const response = await fetch(url + path, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: { "content-type": "application/json", ...headers },
    redirect: "manual",
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : text,
  };
}
const act = async (...actions: unknown[][]) => (await send(`/_shops/${shop}`, actions)).body;
const settings = (change: Partial<Shop>) => send(`/_shops/${shop}/settings`, change);

/** Installs the app and gives a token. */
async function install(expiring = true): Promise<Record<string, string>> {
  const { SHOPIFY_CLIENT_ID: client_id = "", SHOPIFY_CLIENT_SECRET: client_secret = "" } = stage.standIns.env;
  const query = new URLSearchParams({
    client_id,
    scope: "read_products",
    redirect_uri: "https://app.test/back",
    state: "s",
  });
  const { headers } = await send(`/${shop}/admin/oauth/authorize?${query}`);
  const back = new URL(headers.get("location")!);
  const { hmac, ...parameters } = Object.fromEntries(back.searchParams);
  const message = Object.entries(parameters)
    .sort()
    .map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
    .join("&");
  expect(createHmac("sha256", client_secret).update(message).digest("hex")).toBe(hmac);
  const body = {
    client_id,
    client_secret,
    code: back.searchParams.get("code"),
    ...(expiring && { expiring: "1" }),
  };
  return (await send(`/${shop}/admin/oauth/access_token`, body)).body;
}
async function graphql(query: string, token: string, variables = {}) {
  const headers = { "x-shopify-access-token": token };
  return send(`/${shop}/admin/api/2026-10/graphql.json`, { query, variables }, headers);
}

describe("OAuth", () => {
  test("a code is exchanged once; a refresh token changes at each use", async () => {
    const first = await install();
    expect(first).toMatchObject({ scope: "read_products", expires_in: 3600 });
    const { SHOPIFY_CLIENT_ID: client_id, SHOPIFY_CLIENT_SECRET: client_secret } = stage.standIns.env;
    const renew = () =>
      send(`/${shop}/admin/oauth/access_token`, {
        client_id,
        client_secret,
        grant_type: "refresh_token",
        refresh_token: first.refresh_token,
      });
    const second = await renew();
    expect(second.body.refresh_token).not.toBe(first.refresh_token);
    expect((await renew()).status).toBe(400);
    expect(await install(false)).toEqual({ access_token: expect.any(String), scope: "read_products" });
  });
});

describe("the Admin API", () => {
  test("answers pages by cursor, with what they cost", async () => {
    const { access_token: token } = await install();
    await act(...Array.from({ length: 7 }, (_, i) => ["createProduct", { title: `P${i}` }]));
    const query =
      "query ($after: String) { products(first: 3, after: $after, sortKey: ID) { nodes { title } pageInfo { hasNextPage endCursor } } }";
    const titles: string[] = [];
    let after: string | null = null;
    do {
      const { body } = await graphql(query, token!, { after });
      const { nodes, pageInfo } = body.data.products;
      titles.push(...nodes.map(({ title }: { title: string }) => title));
      after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
      expect(body.extensions.cost).toMatchObject({
        requestedQueryCost: 5,
        throttleStatus: { restoreRate: 100 },
      });
    } while (after);
    expect(titles).toEqual(["P0", "P1", "P2", "P3", "P4", "P5", "P6"]);
  });

  test("refuses strangers, unknown fields, dear queries, and whoever has no points left", async () => {
    expect((await graphql("{ shop { name } }", "wrong")).status).toBe(401);
    const { access_token: token } = await install();
    expect((await graphql("{ shop { secrets } }", token!)).body.errors[0].message).toContain("secrets");
    const dear = "{ products(first: 250) { nodes { variants(first: 100) { nodes { id } } } } }";
    expect((await graphql(dear, token!)).body.errors[0].extensions.code).toBe("MAX_COST_EXCEEDED");
    await settings({ bucket: { maximum: 100, restoreRate: 1000, available: 0, at: Date.now() } });
    const { status, body } = await graphql("{ products(first: 90) { nodes { id } } }", token!);
    expect([status, body.errors[0].extensions.code]).toEqual([200, "THROTTLED"]);
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect((await graphql("{ products(first: 90) { nodes { id } } }", token!)).body.errors).toBeUndefined();
    await settings({ bucket: { maximum: 2000, restoreRate: 100, available: 2000, at: Date.now() } });
  });

  test("fails when told to, with Retry-After", async () => {
    const { access_token: token } = await install();
    await orders.add({ fail: "submit", http_status: 429, retry_after: 7, times: 1 });
    const { status, headers } = await graphql("{ shop { name } }", token!);
    expect([status, headers.get("retry-after")]).toEqual([429, "7"]);
    expect((await graphql("{ shop { name } }", token!)).status).toBe(200);
  });
});

test("who subscribes is told of what the merchant does, signed as Shopify signs", async () => {
  const { access_token: token } = await install();
  const subscribe = (topic: string) =>
    graphql(
      "mutation ($topic: WebhookSubscriptionTopic!, $uri: String!) { webhookSubscriptionCreate(topic: $topic, webhookSubscription: { uri: $uri, format: JSON }) { userErrors { message } webhookSubscription { id topic } } }",
      token!,
      { topic, uri: `${stage.receiver.url}/webhooks/shopify` },
    );
  expect((await subscribe("PRODUCTS_CREATE")).body.data.webhookSubscriptionCreate.userErrors).toEqual([]);
  expect((await subscribe("PRODUCTS_CREATE")).body.data.webhookSubscriptionCreate.userErrors).toHaveLength(1);
  await orders.add({ duplicate: 1, times: 1 });
  const [{ id }] = await act(["createProduct", { title: "Announced" }]);
  const [first, second] = await stage.receiver.until(2, ({ body }) => body.includes("Announced"));
  const signature = createHmac("sha256", stage.standIns.env.SHOPIFY_CLIENT_SECRET!)
    .update(first!.body)
    .digest("base64");
  expect(first!.headers).toMatchObject({
    "x-shopify-topic": "products/create",
    "x-shopify-shop-domain": shop,
    "x-shopify-hmac-sha256": signature,
  });
  expect(second!.headers["x-shopify-webhook-id"]).toBe(first!.headers["x-shopify-webhook-id"]);
  expect(JSON.parse(first!.body)).toMatchObject({
    id: Number(id),
    title: "Announced",
    status: "active",
    variants: [{ price: "19.90" }],
  });
});

test("an app that takes itself out has no token any more", async () => {
  const { access_token: token } = await install();
  const headers = { "x-shopify-access-token": token! };
  expect(
    (await send(`/${shop}/admin/api_permissions/current.json`, undefined, headers, "DELETE")).status,
  ).toBe(200);
  expect((await graphql("{ shop { name } }", token!)).status).toBe(401);
});
