import { Hono } from "hono";
import type Stripe from "stripe";
import {
  type MethodsAnswer,
  methodsAnswer,
  removeMethodRequest,
  type SetupAnswer,
  workspaceRequest,
} from "../../types/contracts-payments.ts";
import { limitBody, parseBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError } from "../_shared/errors.ts";
import { customerOf } from "../_shared/plans/catalog.ts";
import { recordPaymentMethod, savedMethods, workspaceCustomer } from "../_shared/sql/money.ts";
import type { Backend } from "./backend.ts";
import { asking } from "./payments.ts";
import { authorizationOf } from "./requests.ts";

export interface MethodRouteDeps {
  backend: Backend;
  db: Database;
  stripe: Stripe;
}

/**
 * Saved cards, which the automatic reload charges. POST /payment-methods: lets Stripe.js save one. POST
 * /payment-methods/sync: looks at Stripe for those that are saved (a webhook tells the same, if a little later). POST
 * /payment-methods/remove: gives one up. Admins of the workspace may. Errors: those of billing.billing_customer,
 * not_signed_in (401), unknown_payment_method (404), payment_provider_unavailable (502).
 */
export function paymentMethodRoutes({ backend, db, stripe }: MethodRouteDeps): Hono {
  const app = new Hono();
  const small = limitBody(16 * 1024);

  app.post("/", small, async (c) => {
    const authorization = authorizationOf(c);
    const { workspace_id } = parseBody(workspaceRequest, await c.req.text());
    await backend.rpc(authorization, "billing_customer", { workspace_id });
    const setup = await asking(async () => {
      const customer = await customerOf(stripe, db, await workspaceCustomer(db, workspace_id));
      return stripe.setupIntents.create({ customer, usage: "off_session", metadata: { workspace_id } });
    });
    return c.json({
      setup_intent_id: setup.id,
      client_secret: setup.client_secret!,
    } satisfies SetupAnswer);
  });

  app.post("/sync", small, async (c) => {
    const authorization = authorizationOf(c);
    const { workspace_id } = parseBody(workspaceRequest, await c.req.text());
    await backend.rpc(authorization, "billing_customer", { workspace_id });
    const { provider_customer_id } = await workspaceCustomer(db, workspace_id);
    if (provider_customer_id) {
      const { data } = await asking(() =>
        stripe.customers.listPaymentMethods(provider_customer_id, { limit: 100 }),
      );
      for (const method of data) await recordPaymentMethod(db, method);
      const there = new Set(data.map(({ id }) => id));
      for (const { provider_payment_method_id: id } of await savedMethods(db, workspace_id)) {
        if (!there.has(id)) await recordPaymentMethod(db, { id, customer: null });
      }
    }
    return c.json(await answer(workspace_id));
  });

  app.post("/remove", small, async (c) => {
    const authorization = authorizationOf(c);
    const { workspace_id, payment_method_id } = parseBody(removeMethodRequest, await c.req.text());
    await backend.rpc(authorization, "billing_customer", { workspace_id });
    const method = (await savedMethods(db, workspace_id)).find(({ id }) => id === payment_method_id);
    if (!method) {
      throw new ApiError(404, "unknown_payment_method", "The workspace has no such saved card.", {
        details: { payment_method_id },
        hint: "Choose one of the workspace's saved cards: see billing.payment_methods.",
      });
    }
    const detached = await asking(() => stripe.paymentMethods.detach(method.provider_payment_method_id));
    await recordPaymentMethod(db, detached);
    return c.json(await answer(workspace_id));
  });
  return app;

  async function answer(workspaceId: string): Promise<MethodsAnswer> {
    return methodsAnswer.parse({ payment_methods: await savedMethods(db, workspaceId) });
  }
}
