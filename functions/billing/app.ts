import type { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { timing } from "hono/timing";
import type Stripe from "stripe";
import { type PackagesAnswer, type TopUpAnswer, topUpRequest } from "../../types/contracts.ts";
import { createBase, crossOrigin, limitBody, parseBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import type { Log } from "../_shared/log.ts";
import type { Rates } from "../_shared/rates.ts";
import type { Razorpay } from "../_shared/razorpay.ts";
import { attachCheckout, paymentFacts } from "../_shared/sql/payments.ts";
import { paymentMethodRoutes } from "./auto-reload.ts";
import type { Backend } from "./backend.ts";
import { checkoutSession } from "./checkout.ts";
import { currencyRoutes } from "./currencies.ts";
import { paymentRoutes } from "./payments.ts";
import { payoutRoutes } from "./payouts.ts";
import { authorizationOf, checkReturn } from "./requests.ts";
import { statementRoutes } from "./statements.ts";
import { subscriptionRoutes } from "./subscriptions.ts";

export interface Deps {
  backend: Backend;
  db: Database;
  stripe: Stripe;
  /** Without it nothing can be paid through Razorpay. */
  razorpay?: Razorpay | null | undefined;
  /** Without it prices are known only in currencies whose rate is cached. */
  rates?: Rates | undefined;
  log: Log;
  /** Origins a checkout may return to; without them, any. */
  appOrigins?: readonly string[] | undefined;
}

/**
 * GET /billing/packages: what is on sale. POST /billing/top-up: starts the purchase of a package and answers the
 * checkout page's address. Errors of top-up: those of billing.start_top_up, invalid_json, invalid_argument (400),
 * not_signed_in (401), key_reused (409), payload_too_large (413), payment_provider_unavailable (502).
 */
export function createApp(deps: Deps): Hono {
  const { backend, db, stripe, log, appOrigins, rates } = deps;
  const app = createBase("billing", log);
  app.use(
    crossOrigin(["GET", "POST"]),
    secureHeaders({ crossOriginResourcePolicy: "cross-origin" }),
    timing(),
  );

  app.get("/packages", async (c) => {
    return c.json({ packages: await backend.packages(authorizationOf(c)) } satisfies PackagesAnswer);
  });

  app.post("/top-up", limitBody(16 * 1024), async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(topUpRequest, await c.req.text());
    const { workspace_id, package: slug, key, currency } = request;
    checkReturn(request, ["success_url", "cancel_url"], appOrigins);
    if (currency) await rates?.("USD", currency);
    const payment = await backend.startTopUp(authorization, {
      workspace_id,
      package: slug,
      ...(key && { key }),
      ...(currency && { currency }),
    });
    const facts = await paymentFacts(db, payment.id);
    if (!facts) throw new Error(`The payment ${payment.id} is gone.`);
    const session = await checkoutSession(stripe, { ...payment, ...facts }, facts, request);
    await attachCheckout(db, payment.id, session.id);
    return c.json({
      payment_id: payment.id,
      status: facts.status,
      session_id: session.id,
      checkout_url: session.status === "open" ? session.url : null,
      expires_at: new Date(session.expires_at * 1000).toISOString(),
    } satisfies TopUpAnswer);
  });
  statementRoutes(app, { backend, log });
  app.route("/subscriptions", subscriptionRoutes(deps));
  app.route("/payouts", payoutRoutes(deps));
  app.route("/", paymentRoutes(deps));
  app.route("/", currencyRoutes(deps));
  app.route("/payment-methods", paymentMethodRoutes(deps));
  return app;
}
