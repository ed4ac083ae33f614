import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();

// biome-ignore lint/suspicious/noExplicitAny: rows and answers of stand-ins
type Row = Record<string, any>;
const domain = "atelier.myshopify.com";
const post = async (url: string, body: unknown): Promise<Row & Row[]> => {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as Row & Row[];
};
const shop = (...actions: unknown[][]) => post(`${s.stack.standins.shopify}/_shops/${domain}`, actions);
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;

/** Connects an account as a browser would; answers its id. */
async function connect(person: Person, path: string, body: Row): Promise<string> {
  const started = must(
    await person.client.functions.invoke(`oauth/${path}/start`, {
      body: { workspace_id: person.workspaceId, return_to: "http://127.0.0.1:3000/", ...body },
    }),
  );
  const target = new URL(await hop((await hop(started.url)).replace(/#_$/, "")));
  expect(target.searchParams.get("error")).toBeNull();
  const integrations = (person.client as unknown as SupabaseClient).schema("integrations" as never);
  const code = target.searchParams.get("connection");
  return (must(await integrations.rpc("claim_connection" as never, { code } as never)) as Row).id;
}

test("an order with the bot's promo code is revenue of the post, until it is refunded; figures are as people acted", async () => {
  const person = await s.person();
  const social = (person.client as unknown as SupabaseClient).schema("social" as never);
  const commerce = (person.client as unknown as SupabaseClient).schema("commerce" as never);
  const call = async (name: string, args: Row) =>
    must(await social.rpc(name as never, args as never)) as Row[];
  const rows = async (table: string) => must(await social.from(table).select("*")) as unknown as Row[];

  await shop(["createProduct", { title: "Linen tee", variants: [{ price: "40.00" }] }]);
  await connect(person, "shopify", { account: domain });
  const variant = await eventually("the product", async () => {
    const { data } = await commerce.from("shopify_product_variants").select("shopify_variant_id, product_id");
    return (data as Row[] | null)?.[0];
  });
  await eventually("the shop's webhooks", async () => {
    const { subscriptions } = (await (
      await fetch(`${s.stack.standins.shopify}/_shops/${domain}`)
    ).json()) as Row;
    return Object.values(subscriptions as Row).some(({ topic }) => topic === "refunds/create");
  });

  const meta = s.stack.standins.meta;
  const { id: external } = await post(`${meta}/_accounts`, { username: "atelier" });
  const act = (...actions: unknown[][]) => post(`${meta}/_accounts/${external}`, actions);
  const [media] = await act(["post", { caption: "Summer", like_count: 20 }]);
  const accountId = await connect(person, "instagram", {});
  const [stored] = await eventually("the post", async () => {
    const found = await rows("posts");
    return found.length > 0 ? found : undefined;
  });
  await eventually("the subscription", async () => {
    const account = (await (await fetch(`${meta}/_accounts/${external}`)).json()) as Row;
    return account.subscribedFields.includes("comments");
  });
  await call("bind_garment", { post_id: stored!.id, garment_id: person.garmentId });
  const sold = { shopify_product_id: variant.product_id };
  must(
    await social
      .from("posts")
      .update(sold as never)
      .eq("id", stored!.id)
      .select(),
  );
  const settings = { promo_code: "SUMMER10" };
  must(
    await social
      .from("bot_settings")
      .update(settings as never)
      .eq("account_id", accountId)
      .select(),
  );

  await act(["comment", "ida", media!.id, "tryon"]);
  const thread = async () => {
    const { threads } = (await (await fetch(`${meta}/_accounts/${external}`)).json()) as Row;
    return (Object.values(threads as Row)[0]?.messages ?? []) as Row[];
  };
  await eventually("the reply", async () => (await thread()).length >= 1);
  const photo = await readFile(join(import.meta.dirname, "../../samples/person-ada.jpg"));
  await fetch(`${meta}/_photos/ida.jpg`, {
    method: "PUT",
    body: photo,
    headers: { "content-type": "image/jpeg" },
  });
  await act(["say", "ida", null, [{ type: "image", url: `${meta}/_photos/ida.jpg` }]]);
  await eventually("the promo code", async () =>
    (await thread()).some(({ text }) => (text ?? "").includes("SUMMER10")),
  );
  await eventually("the step", async () =>
    (await rows("bot_interactions")).some(({ kind }) => kind === "promo_sent"),
  );

  // What Ida tried on is bought; another order has nothing to do with it.
  const [order] = await shop(
    [
      "placeOrder",
      {
        items: [{ variant: variant.shopify_variant_id, quantity: 2 }],
        discount_code: "summer10",
        discount: "8.00",
        customer: { id: 71, email: "ida@example.com" },
      },
    ],
    ["placeOrder", { items: [{ variant: variant.shopify_variant_id }] }],
  );
  await shop(["payOrder", order!.id]);
  const sale = await eventually("the sale", async () => (await rows("attributed_orders"))[0]);
  expect(sale).toMatchObject({
    method: "promo_code",
    account_id: accountId,
    post_id: stored!.id,
    currency: "USD",
    total_cents: 7200,
    net_cents: 7200,
  });
  expect((await rows("revenue_by_product"))[0]).toMatchObject({
    product_id: variant.product_id,
    quantity: 2,
  });
  expect((await call("revenue_by_day", { workspace_id: person.workspaceId }))[0]).toMatchObject({
    orders: 1,
    net_cents: 7200,
  });

  await s.sql("select social.request_insights()");
  const figures = await eventually("what Instagram counts", async () => {
    const [seen] = await rows("post_metrics");
    return seen?.reach ? seen : undefined;
  });
  expect(figures).toMatchObject({
    reach: 349,
    likes: 20,
    comments: 1,
    shares: 4,
    saves: 5,
    comment_received: 1,
    keyword_matched: 1,
    tryon_completed: 1,
    order_attributed: 1,
    conversion_rate: 1,
    revenue: { USD: 7200 },
  });
  const today = (await rows("account_metrics_daily")).find(({ reach }) => reach > 0);
  expect(today).toMatchObject({ reach: 349, followers: 1001, tryon_completed: 1, success_rate: 1 });
  const funnel = await call("funnel", { account_id: accountId, timezone: "Asia/Tokyo" });
  expect(funnel.map(({ interactions }) => interactions)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1]);
  const [overview] = await call("account_overview", { workspace_id: person.workspaceId });
  expect(overview).toMatchObject({ account_id: accountId, token_valid: true, health_status: "healthy" });
  expect(overview!.sent_last_hour).toBe((await thread()).filter(({ from }) => from === external).length);

  await shop(["refundOrder", order!.id]);
  const back = await eventually("the refund", async () => {
    const [seen] = await rows("attributed_orders");
    return seen?.taken_back_at ? seen : undefined;
  });
  expect(back).toMatchObject({ refunded_cents: 7200, net_cents: 0 });
  expect(await rows("revenue_by_post")).toMatchObject([{ orders: 1, orders_taken_back: 1, net_cents: 0 }]);
  expect(must(await commerce.from("orders").select("name"))).toHaveLength(2);

  // Bo has seen the picture and follows the link that came with it.
  const result = (await thread()).find(({ text }) => text?.includes("utm_content"))!;
  const link = new URL(/https:\S+/.exec(result.text)![0]);
  expect([link.hostname, link.pathname]).toEqual([domain, expect.stringMatching(/^\/products\/linen-tee/)]);
  const [byLink] = await shop([
    "placeOrder",
    { items: [{ variant: variant.shopify_variant_id }], landing_site: `${link.pathname}${link.search}` },
  ]);
  await shop(["payOrder", byLink!.id]);
  const second = await eventually("the sale by the link", async () =>
    (await rows("attributed_orders")).find(({ method }) => method === "link"),
  );
  expect(second).toMatchObject({ creation_id: sale.creation_id, post_id: stored!.id, net_cents: 4000 });
  expect(await s.sql("select * from social.verify_counts()")).toEqual([]);
  expect(await s.faults()).toEqual([]);
}, 150_000);
