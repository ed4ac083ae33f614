import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually, must, useStack } from "../e2e/stack.ts";
import type { Values } from "./blocks.ts";
import { hangTee, hop, runPage, signUp, type Visitor } from "./selify.ts";

const s = useStack();
const samples = join(import.meta.dirname, "../../samples");
const meta = async (path: string, body?: unknown): Promise<Values> => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.meta}${path}`, init)).json();
};

const domain = "atelier.myshopify.com";
const shop = async (...actions: unknown[][]): Promise<Values[]> => {
  const init = actions.length === 0 ? {} : { method: "POST", body: JSON.stringify(actions) };
  return (await fetch(`${s.stack.standins.shopify}/_shops/${domain}`, init)).json();
};

/** A connected shop that sells a tee; answers the tee's variant. */
async function openShop({ client, workspace_id }: Values): Promise<string> {
  await shop(["createProduct", { title: "Linen tee", variants: [{ price: "40.00" }] }]);
  const body = { workspace_id, account: domain, return_to: "http://127.0.0.1:3000/connections" };
  const started: Values = must(await client.functions.invoke("oauth/shopify/start", { body }));
  const code = new URL(await hop(await hop(started.url))).searchParams.get("connection");
  must(await client.schema("integrations").rpc("claim_connection", { code }));
  const variants = client.schema("commerce").from("shopify_product_variants");
  const variant = await eventually("the tee", async () => {
    const { data } = await variants.select("shopify_variant_id");
    return data?.[0]?.shopify_variant_id as string | undefined;
  });
  await eventually("the shop's webhooks", async () => {
    const { subscriptions } = (await shop()) as Values;
    return Object.values(subscriptions as Values).some(({ topic }) => topic === "orders/paid");
  });
  return variant;
}

/** An Instagram account with a post, connected, and a garment in the wardrobe. */
async function connect(person: Visitor) {
  const { client, garmentId } = await hangTee(s, person);
  const workspace_id = person.workspaceId;
  const account = await meta("/_accounts", { username: "atelier" });
  const act = (...actions: unknown[][]) => meta(`/_accounts/${account.id}`, actions);
  await act(["post", { caption: "Summer", like_count: 20 }]);
  const body = { workspace_id, return_to: "http://127.0.0.1:3000/connections" };
  const started = must(await client.functions.invoke("oauth/instagram/start", { body }));
  const code = new URL(await hop(await hop(started.url))).searchParams.get("connection");
  must(await client.schema("integrations").rpc("claim_connection", { code }));
  await eventually("the post", async () => {
    const { data } = await client.schema("social").from("posts").select("id");
    return data!.length > 0;
  });
  await eventually("the subscription", async () =>
    (await meta(`/_accounts/${account.id}`)).subscribedFields.includes("comments"),
  );
  return { act, garmentId, account };
}

test("Instagram's screens work as their page says", async () => {
  const person = await signUp(s, 100_000);
  const { act, garmentId, account } = await connect(person);
  const said = async () => {
    const { threads } = await meta(`/_accounts/${account.id}`);
    return (Object.values(threads as Values)[0]?.messages ?? []) as Values[];
  };
  await runPage(
    s,
    "instagram.md",
    person,
    {
      posts: ({ overview, posts, reading }) => {
        expect(overview).toMatchObject([{ username: "atelier", token_valid: true }]);
        expect(reading.account_id).toBe(overview[0].account_id);
        expect(posts).toMatchObject([{ caption: "Summer", like_count: 20 }]);
      },
      binding: ({ binding, trial }) => {
        expect(binding).toMatchObject({ garment_name: "the tee", is_active: true });
        expect(trial).toMatchObject({ trigger_word: "wear it", answers: true });
      },
      settings: async ({ defaults, settings, limits, posts, social }) => {
        expect(defaults.length).toBeGreaterThan(5);
        expect(settings).toMatchObject({ promo_code: "SUMMER10", daily_tryons_per_person: 3 });
        expect(limits.hourly_limit).toBe(150);
        const { data } = await social.from("posts").select("platform_post_id").eq("id", posts[0].id).single();
        await act(["comment", "ida", data.platform_post_id, "tryon"]);
        await eventually("the reply", async () => (await said()).length >= 1);
        const body = await readFile(join(samples, "person-ada.jpg"));
        const headers = { "content-type": "image/jpeg" };
        const url = `${s.stack.standins.meta}/_photos/ida.jpg`;
        await fetch(url, { method: "PUT", body, headers });
        await act(["say", "ida", null, [{ type: "image", url }]]);
        await eventually("the picture and the code", async () =>
          (await said()).some(({ text }) => text?.includes("SUMMER10")),
        );
        await eventually("the inbox", async () => {
          const { data: rows } = await social.from("conversations").select("stage");
          return rows[0]?.stage === "completed";
        });
      },
      seen: ({ open, messages, earlier, seen }) => {
        expect(open).toMatchObject({ platform_username: "ida", unread_count: 1 });
        expect(messages.length).toBeGreaterThan(4);
        expect(earlier).toEqual([]);
        expect(seen.unread_count).toBe(0);
      },
      handed: async ({ sent, hearted, handed }) => {
        expect(sent).toMatchObject({ status: "sent", source: "member" });
        expect(hearted.direction).toBe("inbound");
        expect(handed.taken_over_at).toBeNull();
      },
      funnel: async ({ bars, days, best, history, client, social, workspace_id }) => {
        expect(bars[0]).toMatchObject({ interactions: 1 });
        expect(days).toMatchObject([{ comment_received: 1, tryon_completed: 1 }]);
        expect(best).toMatchObject([{ caption: "Summer", tryon_completed: 1 }]);
        expect(history).toMatchObject([{ tryon_completed: 1 }]);
        const variant = await openShop({ client, workspace_id });
        const items = [{ variant, quantity: 2 }];
        const [order] = await shop(["placeOrder", { items, discount_code: "summer10", discount: "8.00" }]);
        await shop(["payOrder", order!.id]);
        await eventually("the sale", async () => {
          const { data } = await social.from("attributed_orders").select("order_id");
          return data.length > 0;
        });
      },
      sales: ({ sales, perDay, perPost, perProduct, posts }) => {
        const sold = { currency: "USD", net_cents: 7200 };
        expect(sales).toMatchObject([{ method: "promo_code", post_id: posts[0].id, ...sold }]);
        expect(perDay).toMatchObject([{ orders: 1, ...sold }]);
        expect(perPost).toMatchObject([{ orders: 1, post_id: posts[0].id, ...sold }]);
        expect(perProduct).toMatchObject([{ title: "Linen tee", quantity: 2 }]);
      },
    },
    { garmentId },
  );
}, 180_000);
