import { Hono } from "hono";
import { z } from "zod";
import { controlRoutes } from "../control.ts";
import { createCustomer, createPrice } from "./catalog.ts";
import { expire } from "./checkout.ts";
import { connectPages, connectRoutes } from "./connect-routes.ts";
import { ApiError, check, invalid, missing } from "./errors.ts";
import { emit } from "./events.ts";
import { authentication, type Env, idempotency, recorder } from "./gate.ts";
import { cancelIntent, confirmIntent, createIntent, findIntent } from "./intents.ts";
import { expanded, lineItems, page } from "./lists.ts";
import { meterRoutes } from "./meters.ts";
import { bankRoutes, methodRoutes } from "./method-routes.ts";
import * as schema from "./params.ts";
import { payRoutes } from "./pay.ts";
import { customerRoutes } from "./portal.ts";
import { createRefund } from "./refunds.ts";
import { createSession, findSession } from "./sessions.ts";
import type { Deps } from "./state.ts";
import { subscriptionRoutes } from "./subscription-routes.ts";
import { deleteCustomer } from "./subscriptions.ts";

/** The part of Stripe's API that wallets and subscriptions need, in Stripe's wire format. */
export function createStripeStandIn(deps: Deps): Hono {
  const app = new Hono();
  app.route("/", controlRoutes(deps.control));
  app.route("/", payRoutes(deps));
  app.route("/", customerRoutes(deps));
  app.route("/", bankRoutes(deps));
  app.route("/", connectPages(deps));
  app.route("/v1", api(deps));
  return app;
}

function api(deps: Deps): Hono<Env> {
  const app = new Hono<Env>();
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json({ error: error.body }, error.status);
    console.error("stripe stand-in:", error);
    return c.json({ error: { type: "api_error", message: error.message } }, 500);
  });
  app.notFound((c) => {
    const message = `Unrecognized request URL (${c.req.method}: ${c.req.path}).`;
    return c.json({ error: { type: "invalid_request_error", message } }, 404);
  });
  app.use(recorder(deps), authentication(deps), idempotency(deps));
  customers(app, deps);
  sessions(app, deps);
  intents(app, deps);
  rest(app, deps);
  meterRoutes(app, deps);
  subscriptionRoutes(app, deps);
  methodRoutes(app, deps);
  connectRoutes(app, deps);
  return app;
}

function customers(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  const find = (id: string) => {
    const customer = data.customers[id];
    if (!customer) throw missing("customer", id);
    return customer;
  };
  app.post("/customers", (c) => {
    const { expand, ...params } = check(schema.customerCreate, c.get("params"));
    const customer = createCustomer(deps, params);
    emit(deps, c.get("cause"), [{ type: "customer.created", object: customer }]);
    return c.json(expanded(deps, customer, expand));
  });
  app.get("/customers", (c) => {
    const params = check(
      z.strictObject({ ...schema.listFields, email: z.string().optional() }),
      c.get("params"),
    );
    const all = Object.values(data.customers).filter(({ email }) => !params.email || email === params.email);
    return c.json(page(all, "/v1/customers", params));
  });
  app.get("/customers/:id", (c) => c.json(find(c.req.param("id"))));
  app.delete("/customers/:id", (c) => {
    const customer = find(c.req.param("id"));
    return c.json(deleteCustomer(deps, customer, c.get("cause")));
  });
  app.post("/customers/:id", (c) => {
    const { expand, metadata, ...params } = check(schema.customerCreate, c.get("params"));
    const customer = find(c.req.param("id"));
    Object.assign(customer, params, { metadata: { ...customer.metadata, ...metadata } });
    emit(deps, c.get("cause"), [{ type: "customer.updated", object: customer }]);
    return c.json(expanded(deps, customer, expand));
  });
}

function sessions(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  const filters = {
    customer: z.string().optional(),
    payment_intent: z.string().optional(),
    status: z.string().optional(),
  };
  app.post("/checkout/sessions", (c) => {
    const params = check(schema.sessionCreate, c.get("params"));
    return c.json(expanded(deps, createSession(deps, params), params.expand));
  });
  app.get("/checkout/sessions", (c) => {
    const params = check(z.strictObject({ ...schema.listFields, ...filters }), c.get("params"));
    const all = Object.values(data.sessions).filter((session) => {
      const matches = (name: keyof typeof filters) => !params[name] || session[name] === params[name];
      return matches("customer") && matches("payment_intent") && matches("status");
    });
    return c.json(page(all, "/v1/checkout/sessions", params));
  });
  app.get("/checkout/sessions/:id", (c) => {
    const { expand } = check(schema.expandOnly, c.get("params"));
    return c.json(expanded(deps, findSession(deps, c.req.param("id")), expand));
  });
  app.get("/checkout/sessions/:id/line_items", (c) => {
    return c.json(lineItems(deps, findSession(deps, c.req.param("id")).id));
  });
  app.post("/checkout/sessions/:id/expire", (c) => {
    return c.json(expire(deps, findSession(deps, c.req.param("id")), c.get("cause")));
  });
}

function intents(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  app.post("/payment_intents", (c) => {
    const params = check(schema.intentCreate, c.get("params"));
    if (params.confirm && !params.payment_method) {
      throw invalid("A payment method is needed to confirm.", "payment_method", "parameter_missing");
    }
    const intent = createIntent(deps, params);
    emit(deps, c.get("cause"), [{ type: "payment_intent.created", object: intent }]);
    if (params.confirm) confirmIntent(deps, intent, params, c.get("cause"));
    return c.json(expanded(deps, intent, params.expand));
  });
  app.get("/payment_intents", (c) => {
    const params = check(
      z.strictObject({ ...schema.listFields, customer: z.string().optional() }),
      c.get("params"),
    );
    const all = Object.values(data.intents).filter(
      ({ customer }) => !params.customer || customer === params.customer,
    );
    return c.json(page(all, "/v1/payment_intents", params));
  });
  app.get("/payment_intents/:id", (c) => {
    const { expand } = check(schema.expandOnly, c.get("params"));
    return c.json(expanded(deps, findIntent(deps, c.req.param("id")), expand));
  });
  app.post("/payment_intents/:id/confirm", (c) => {
    const params = check(schema.intentConfirm, c.get("params"));
    const intent = findIntent(deps, c.req.param("id"));
    confirmIntent(deps, intent, params, c.get("cause"));
    return c.json(expanded(deps, intent, params.expand));
  });
  app.post("/payment_intents/:id/cancel", (c) => {
    const { cancellation_reason } = check(schema.intentCancel, c.get("params"));
    const intent = findIntent(deps, c.req.param("id"));
    cancelIntent(deps, intent, cancellation_reason, c.get("cause"));
    return c.json(intent);
  });
}

function rest(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  app.post("/prices", (c) => {
    const { expand, ...params } = check(schema.priceCreate, c.get("params"));
    return c.json(expanded(deps, createPrice(deps, params), expand));
  });
  app.get("/charges/:id", (c) => c.json(found(data.charges, "charge", c.req.param("id"))));
  app.post("/refunds", (c) => {
    const params = check(schema.refundCreate, c.get("params"));
    return c.json(expanded(deps, createRefund(deps, params, c.get("cause")), params.expand));
  });
  app.get("/refunds", (c) => {
    const params = check(
      z.strictObject({ ...schema.listFields, payment_intent: z.string().optional() }),
      c.get("params"),
    );
    const wanted = params.payment_intent;
    const all = Object.values(data.refunds).filter(
      ({ payment_intent }) => !wanted || payment_intent === wanted,
    );
    return c.json(page(all, "/v1/refunds", params));
  });
  app.get("/refunds/:id", (c) => c.json(found(data.refunds, "refund", c.req.param("id"))));
  app.get("/events", (c) => {
    const filters = { type: z.string().optional(), types: z.array(z.string()).optional() };
    const params = check(z.strictObject({ ...schema.listFields, ...filters }), c.get("params"));
    const wanted = params.types ?? (params.type ? [params.type] : null);
    const all = Object.values(data.events).filter(({ type }) => !wanted || wanted.includes(type));
    return c.json(page(all, "/v1/events", params));
  });
  app.get("/events/:id", (c) => c.json(found(data.events, "event", c.req.param("id"))));
}

function found<T extends object>(table: Record<string, T>, kind: string, id: string): T {
  const object = table[id];
  if (!object) throw missing(kind, id);
  return object;
}
