// The routes /billing/subscriptions/*: plans are bought, changed, cancelled and resumed, and the provider's own pages
// are opened. The database decides who may and what it means; Stripe is called here, and by a job if that fails.

import { Hono } from "hono";
import type { z } from "zod";
import {
  cancelPlanRequest,
  changePlanRequest,
  type PlanChangeAnswer,
  type PlanPreviewAnswer,
  type PortalAnswer,
  portalRequest,
  resumePlanRequest,
  type SubscribeAnswer,
  subscribeRequest,
} from "../../types/contracts-subscriptions.ts";
import { limitBody, parseBody } from "../_shared/app.ts";
import { ApiError } from "../_shared/errors.ts";
import { carryOut } from "../_shared/plans/change.ts";
import { upgradeCost } from "../_shared/plans/preview.ts";
import { attachSession, type ChangeFacts, checkoutFacts } from "../_shared/sql/plans.ts";
import type { Deps } from "./app.ts";
import { authorizationOf, checkReturn } from "./requests.ts";
import { closeOthers, planSession, unavailable } from "./subscription-checkout.ts";

const small = limitBody(16 * 1024);

/** A row of billing.change_preview, as the API gives it. */
interface Preview {
  kind: PlanPreviewAnswer["kind"];
  subscription_id: string;
  plan_price_id: string;
  currency: string;
  amount_minor: number;
  effective_at: string;
  next_payment_at: string;
}

/**
 * POST checkout, preview, change, cancel, resume, portal. Errors: those of the SQL functions of the same purpose
 * (billing.start_subscription, preview_change, change_subscription, cancel_subscription, resume_subscription,
 * billing_customer), invalid_json, invalid_argument (400), not_signed_in (401), card_declined (402), no_customer (404),
 * key_reused, refused_by_provider (409), payload_too_large (413), payment_provider_unavailable (502).
 */
export function subscriptionRoutes({ backend, db, stripe, log, appOrigins }: Deps): Hono {
  const app = new Hono();

  app.post("/checkout", small, async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(subscribeRequest, await c.req.text());
    checkReturn(request, ["success_url", "cancel_url"], appOrigins);
    const { workspace_id, plan_price_id, key } = request;
    const args = { workspace_id, plan_price_id, ...(key && { key }) };
    const begun = await backend.rpc<{ id: string }>(authorization, "start_subscription", args);
    const checkout = await checkoutFacts(db, begun.id);
    if (!checkout) throw new Error(`The checkout ${begun.id} is gone.`);
    const session = await planSession(stripe, db, checkout, request);
    await closeOthers(stripe, db, log, await attachSession(db, checkout.id, session.id));
    return c.json({
      checkout_id: checkout.id,
      status: session.status === "complete" ? "complete" : session.status === "expired" ? "expired" : "open",
      session_id: session.id,
      checkout_url: session.status === "open" ? session.url : null,
      trial_days: checkout.trial_days,
      expires_at: new Date(session.expires_at * 1000).toISOString(),
    } satisfies SubscribeAnswer);
  });

  app.post("/preview", small, async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(changePlanRequest, await c.req.text());
    const asked = await backend.rpc<Preview>(authorization, "preview_change", request);
    const cost =
      asked.kind === "upgrade"
        ? await unavailable(() => upgradeCost(stripe, db, asked.subscription_id, asked.plan_price_id))
        : null;
    return c.json({
      kind: asked.kind,
      currency: asked.currency,
      effective_at: new Date(asked.effective_at).toISOString(),
      due_now_minor: cost?.dueNow ?? 0,
      proration_minor: cost?.proration ?? 0,
      next_payment_minor: asked.amount_minor,
      next_payment_at: (cost?.nextPaymentAt ?? new Date(asked.next_payment_at)).toISOString(),
    } satisfies PlanPreviewAnswer);
  });

  const change = (path: string, name: string, schema: z.ZodType<Record<string, unknown>>) =>
    app.post(path, small, async (c) => {
      const authorization = authorizationOf(c);
      const request = parseBody(schema, await c.req.text());
      const { id } = await backend.rpc<{ id: string }>(authorization, name, request);
      const facts = await unavailable(() => carryOut(stripe, db, log, id));
      if (!facts) throw new Error(`The change ${id} is gone.`);
      return c.json(answerOf(facts));
    });
  change("/change", "change_subscription", changePlanRequest);
  change("/cancel", "cancel_subscription", cancelPlanRequest);
  change("/resume", "resume_subscription", resumePlanRequest);

  app.post("/portal", small, async (c) => {
    const authorization = authorizationOf(c);
    const request = parseBody(portalRequest, await c.req.text());
    checkReturn(request, ["return_url"], appOrigins);
    const { workspace_id, return_url } = request;
    const customer = await backend.rpc<string | null>(authorization, "billing_customer", { workspace_id });
    if (!customer) {
      throw new ApiError(404, "no_customer", "The workspace has bought nothing yet.");
    }
    const { url } = await unavailable(() => stripe.billingPortal.sessions.create({ customer, return_url }));
    return c.json({ portal_url: url } satisfies PortalAnswer);
  });
  return app;
}

/** Errors: card_declined (402), refused_by_provider (409). */
function answerOf(change: ChangeFacts): PlanChangeAnswer {
  if (change.status === "failed") {
    const [code = "refused_by_provider", sentence = ""] = (change.error ?? "").split(/: (.*)/s);
    throw new ApiError(code === "card_declined" ? 402 : 409, code, sentence, {
      details: { change_id: change.id },
      hint: "Nothing has been changed.",
    });
  }
  return {
    change_id: change.id,
    kind: change.kind,
    status: change.status,
    effective_at: change.effective_at?.toISOString() ?? null,
    proration_minor: change.proration_minor,
    payment_url: change.status === "awaiting_payment" ? change.payment_url : null,
  };
}
