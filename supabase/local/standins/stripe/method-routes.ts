import { Hono } from "hono";
import { z } from "zod";
import { openDispute, resolveDispute } from "./disputes.ts";
import { ApiError, check, missing } from "./errors.ts";
import type { Env } from "./gate.ts";
import { authenticate, confirmIntent } from "./intents.ts";
import { expanded, page } from "./lists.ts";
import * as schema from "./method-params.ts";
import { attach, confirmSetup, createSetup, detach, findMethod } from "./methods.ts";
import { expandOnly, listFields } from "./params.ts";
import type { Deps } from "./state.ts";

/** Saved cards, setup intents and disputes of Stripe's API. */
export function methodRoutes(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  app.post("/payment_methods/:id/attach", (c) => {
    const { customer, expand } = check(schema.methodAttach, c.get("params"));
    return c.json(expanded(deps, attach(deps, c.req.param("id"), customer, c.get("cause")), expand));
  });
  app.post("/payment_methods/:id/detach", (c) => c.json(detach(deps, c.req.param("id"), c.get("cause"))));
  app.get("/payment_methods/:id", (c) => {
    const { expand } = check(expandOnly, c.get("params"));
    return c.json(expanded(deps, findMethod(deps, c.req.param("id")), expand));
  });
  app.get("/customers/:id/payment_methods", (c) => {
    const id = c.req.param("id");
    if (!data.customers[id]) throw missing("customer", id);
    const params = check(z.strictObject({ ...listFields, ...schema.methodList }), c.get("params"));
    const all = Object.values(data.methods).filter(
      ({ customer, type }) => customer === id && (!params.type || type === params.type),
    );
    return c.json(page(all, `/v1/customers/${id}/payment_methods`, params));
  });
  app.post("/setup_intents", (c) => {
    const params = check(schema.setupCreate, c.get("params"));
    return c.json(expanded(deps, createSetup(deps, params), params.expand));
  });
  app.get("/setup_intents/:id", (c) => {
    const setup = data.setups[c.req.param("id")];
    if (!setup) throw missing("setupintent", c.req.param("id"));
    return c.json(setup);
  });
  app.post("/setup_intents/:id/confirm", (c) => {
    const { payment_method } = check(schema.setupConfirm, c.get("params"));
    return c.json(confirmSetup(deps, c.req.param("id"), payment_method, c.get("cause")));
  });
  app.get("/disputes", (c) => {
    const filters = { ...listFields, created: z.strictObject({ gte: z.coerce.number() }).optional() };
    const params = check(z.strictObject(filters), c.get("params"));
    const since = params.created?.gte ?? 0;
    const all = Object.values(data.disputes).filter(({ created }) => created >= since);
    return c.json(page(all, "/v1/disputes", params));
  });
  app.get("/disputes/:id", (c) => {
    const dispute = data.disputes[c.req.param("id")];
    if (!dispute) throw missing("dispute", c.req.param("id"));
    return c.json(dispute);
  });
}

const disputed = z.object({
  amount: z.number().int().positive().optional(),
  inquiry: z.boolean().optional(),
});
const decided = z.object({ outcome: z.enum(["won", "lost"]) });
const saved = z.object({ payment_method: z.string().default("pm_card_visa") });
const confirmed = z.object({ outcome: z.enum(["success", "fail"]).default("success") });

/** What happens outside of the API: the customer at his bank, the bank itself. None asks for a key. */
export function bankRoutes(deps: Deps): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json({ error: error.body }, error.status);
    throw error;
  });
  // what Stripe.js does with the client secret of a payment that needs its customer, and the customer confirms
  app.post("/bank/confirm/:secret", (c) => {
    const secret = c.req.param("secret");
    const intent = Object.values(deps.data.intents).find(({ client_secret }) => client_secret === secret);
    if (!intent) throw missing("payment_intent", secret.split("_secret_")[0] ?? "");
    const method = intent.last_payment_error?.payment_method?.id ?? intent.payment_method;
    confirmIntent(deps, intent, { ...(method && { payment_method: String(method) }) }, null);
    return c.json(intent.status === "requires_action" ? authenticate(deps, intent.id, true) : intent);
  });
  app.post("/bank/authenticate/:intent", async (c) => {
    const { outcome } = confirmed.parse(await c.req.json());
    return c.json(authenticate(deps, c.req.param("intent"), outcome === "success"));
  });
  // what Stripe.js does with the client secret of a setup intent
  app.post("/bank/setups/:setup", async (c) => {
    const { payment_method } = saved.parse(await c.req.json());
    return c.json(confirmSetup(deps, c.req.param("setup"), payment_method, null));
  });
  app.post("/bank/disputes/:charge", async (c) => {
    const { amount, inquiry } = disputed.parse(await c.req.json());
    return c.json(openDispute(deps, c.req.param("charge"), amount, inquiry ?? false));
  });
  app.post("/bank/disputes/:dispute/close", async (c) => {
    const { outcome } = decided.parse(await c.req.json());
    return c.json(resolveDispute(deps, c.req.param("dispute"), outcome));
  });
  return app;
}
