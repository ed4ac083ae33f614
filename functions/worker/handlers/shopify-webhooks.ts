import { z } from "zod";
import type { ShopifyClient } from "../../_shared/shopify.ts";
import { noteHealth } from "../../_shared/sql/accounts.ts";
import { keepShopWebhooks } from "../../_shared/sql/shops.ts";
import { completed, type Handler, JobError } from "../job.ts";
import { type ShopDeps, withShop } from "../shopify/shop.ts";

const payload = z.object({ account_id: z.uuid() });

/** What a shop is to send. The compliance topics are set in the app's configuration at Shopify, not here. */
export const shopifyTopics = [
  "products/create",
  "products/update",
  "products/delete",
  "collections/create",
  "collections/update",
  "collections/delete",
  "inventory_levels/connect",
  "inventory_levels/update",
  "inventory_levels/disconnect",
  "inventory_items/create",
  "inventory_items/update",
  "inventory_items/delete",
  "orders/create",
  "orders/paid",
  "orders/cancelled",
  "refunds/create",
  "app/uninstalled",
];
const enumOf = (topic: string) => topic.replaceAll("/", "_").toUpperCase();
const topicOf = new Map(shopifyTopics.map((topic) => [enumOf(topic), topic]));

const listQuery = `query Subscriptions($after: String) {
  webhookSubscriptions(first: 100, after: $after) { nodes { id topic uri } pageInfo { hasNextPage endCursor } }
}`;
const listShape = z.object({
  webhookSubscriptions: z.object({
    nodes: z.array(z.object({ id: z.string(), topic: z.string(), uri: z.string() })),
    pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
  }),
});
const createMutation = `mutation Subscribe($topic: WebhookSubscriptionTopic!, $uri: String!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: { uri: $uri, format: JSON }) {
    userErrors { message } webhookSubscription { id }
  }
}`;
const createShape = z.object({
  webhookSubscriptionCreate: z.object({
    userErrors: z.array(z.object({ message: z.string() })),
    webhookSubscription: z.object({ id: z.string() }).nullable(),
  }),
});
const deleteMutation = `mutation Unsubscribe($id: ID!) {
  webhookSubscriptionDelete(id: $id) { userErrors { message } deletedWebhookSubscriptionId }
}`;
const deleteShape = z.object({ webhookSubscriptionDelete: z.object({}) });

interface Subscription {
  id: string;
  topic: string;
  uri: string;
}

/**
 * shopify.verify_webhooks: makes the shop send every topic to our address, and nothing to an address that was ours
 * before. A topic that the app may not have (orders, without the scope) is left out and reported.
 */
export function verifyShopWebhooks(deps: ShopDeps): Handler {
  return async (job, context) => {
    const { db } = context;
    const { account_id } = payload.parse(job.payload);
    const address = `${deps.functionsUrl}/webhooks/shopify`;
    return withShop(deps, context, account_id, async ({ client, account }) => {
      const present = await list(client);
      const kept = new Map<string, string>();
      for (const { id, topic, uri } of present) {
        const name = topicOf.get(topic);
        if (name === undefined) continue;
        if (uri === address && !kept.has(name)) kept.set(name, id);
        else await client.query(deleteMutation, { id }, deleteShape);
      }
      const refused: string[] = [];
      for (const topic of shopifyTopics) {
        if (kept.has(topic)) continue;
        const created = await client.query(
          createMutation,
          { topic: enumOf(topic), uri: address },
          createShape,
        );
        const { webhookSubscription, userErrors } = created.data.webhookSubscriptionCreate;
        if (webhookSubscription) kept.set(topic, webhookSubscription.id);
        else refused.push(`${topic}: ${userErrors.map(({ message }) => message).join(" ")}`);
      }
      if (kept.size === 0) {
        throw new JobError("webhooks_refused", "The shop took no webhook subscription.", { cause: refused });
      }
      await keepShopWebhooks(
        db,
        account.id,
        [...kept].map(([topic, external_id]) => ({ topic, external_id })),
      );
      await noteHealth(db, account, null);
      return completed({ topics: kept.size, refused });
    });
  };
}

async function list(client: ShopifyClient): Promise<Subscription[]> {
  const found: Subscription[] = [];
  let after: string | null = null;
  do {
    const answer: { data: z.infer<typeof listShape> } = await client.query(listQuery, { after }, listShape);
    const { nodes, pageInfo } = answer.data.webhookSubscriptions;
    found.push(...nodes);
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  return found;
}
