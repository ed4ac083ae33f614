// What Stripe must know before a plan can be sold: the price with its product, and the workspace's customer.

import Stripe from "stripe";
import type { Database } from "../db.ts";
import { attachCustomer, attachProviderPrice, detachCustomer, type PriceFacts } from "../sql/plans.ts";

/**
 * The price's id at Stripe; made there when the catalogue has none. It is found again by its lookup key, and a plan's
 * product by an id of our choice, so that a price is made once even if an answer was lost.
 */
export async function providerPrice(stripe: Stripe, db: Database, price: PriceFacts): Promise<string> {
  if (price.provider_price_id) return price.provider_price_id;
  const lookup_key = `backlot_${price.plan_price_id}`;
  const { data } = await stripe.prices.list({ lookup_keys: [lookup_key], limit: 1 });
  const made = data[0] ?? (await makePrice(stripe, price, lookup_key));
  return attachProviderPrice(db, price.plan_price_id, String(made.product), made.id);
}

async function makePrice(stripe: Stripe, price: PriceFacts, lookup_key: string): Promise<Stripe.Price> {
  const product = price.provider_product_id ?? (await planProduct(stripe, price));
  return stripe.prices.create(
    {
      product,
      currency: price.currency.toLowerCase(),
      unit_amount: price.amount_minor,
      recurring: { interval: price.billing_period, interval_count: price.billing_interval },
      lookup_key,
      metadata: { plan_price_id: price.plan_price_id },
    },
    { idempotencyKey: `plan-price:${price.plan_price_id}` },
  );
}

async function planProduct(stripe: Stripe, price: PriceFacts): Promise<string> {
  const id = `backlot_${price.plan_id}`;
  try {
    await stripe.products.create({
      id,
      name: price.plan_name,
      ...(price.plan_description && { description: price.plan_description }),
      metadata: { plan_id: price.plan_id },
    });
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError) || error.code !== "resource_already_exists")
      throw error;
  }
  return id;
}

/** The workspace's customer at Stripe; one a workspace, whoever asks first. `lost`: one that was deleted there. */
export async function customerOf(
  stripe: Stripe,
  db: Database,
  workspace: { workspace_id: string; workspace_name: string; provider_customer_id: string | null },
  lost?: string,
): Promise<string> {
  if (workspace.provider_customer_id && workspace.provider_customer_id !== lost)
    return workspace.provider_customer_id;
  if (lost) await detachCustomer(db, lost);
  const { workspace_id, workspace_name: name } = workspace;
  // A workspace that was renamed, or whose customer was deleted, makes another request.
  const request = encodeURIComponent(name).slice(0, 100);
  const idempotencyKey = ["customer", workspace_id, request, ...(lost ? [lost] : [])].join(":");
  const customer = await stripe.customers.create({ name, metadata: { workspace_id } }, { idempotencyKey });
  return attachCustomer(db, workspace_id, customer.id);
}

/** Carries out what needs the customer; with a new one when it was deleted at Stripe. */
export async function withCustomer<T>(
  stripe: Stripe,
  db: Database,
  workspace: Parameters<typeof customerOf>[2],
  use: (customer: string) => Promise<T>,
): Promise<T> {
  const customer = await customerOf(stripe, db, workspace);
  try {
    return await use(customer);
  } catch (error) {
    const isGone =
      error instanceof Stripe.errors.StripeError &&
      error.code === "resource_missing" &&
      error.param === "customer";
    if (!isGone) throw error;
    return use(await customerOf(stripe, db, workspace, customer));
  }
}
