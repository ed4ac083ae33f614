import { type Context, Hono } from "hono";
import { z } from "zod";
import { controlRoutes } from "../control.ts";
import { ordered, recorder } from "../recorder.ts";
import { ApiError, check } from "./errors.ts";
import * as payments from "./payments.ts";
import type { Deps } from "./state.ts";

/** The part of Razorpay's API that payments by order need, in its wire format. */
export function createRazorpayStandIn(deps: Deps): Hono {
  const app = new Hono();
  app.route("/", controlRoutes(deps.control));
  app.route("/", outside(deps));
  app.route("/v1", api(deps));
  app.get("/rates", (c) => c.json({ base_code: "USD", rates: perDollar }));
  return app;
}

/** Of the currencies that are sold in; they never change, so that prices can be told in advance. */
const perDollar = { USD: 1, EUR: 0.9, GBP: 0.8, JPY: 150, KWD: 0.3, INR: 84 };

const notes = z.union([z.record(z.string(), z.string().max(256)), z.tuple([])]).optional();
const amount = z.number().int().positive();
const orderCreate = z.strictObject({
  amount,
  currency: z.string().length(3),
  receipt: z.string().max(40).optional(),
  notes,
  partial_payment: z.boolean().optional(),
  payment: z.looseObject({ capture: z.enum(["automatic", "manual"]) }).optional(),
});
const captureBody = z.strictObject({ amount, currency: z.string().length(3) });
const refundBody = z.strictObject({
  amount: amount.optional(),
  speed: z.enum(["normal", "optimum"]).optional(),
  notes,
  receipt: z.string().max(40).optional(),
});

function list<T>(items: T[], query: Record<string, string>) {
  const skip = Number(query.skip ?? 0);
  const page = [...items].reverse().slice(skip, skip + Number(query.count ?? 10));
  return { entity: "collection", count: page.length, items: page };
}

function api(deps: Deps): Hono {
  const { data } = deps;
  const app = new Hono();
  answerErrors(app);
  app.use(async (c, next) => {
    await next();
    if (c.req.method === "POST") deps.changed();
  });
  app.use(
    recorder(deps.control, {
      refuse: (c, rule) =>
        ordered(c, rule, { error: { code: "SERVER_ERROR", description: "The stand-in was told to fail." } }),
      name: (c) => `${c.req.method} ${c.req.path}`,
      body: (text) => (text === "" ? null : parsed(text)),
    }),
  );
  app.use(async (c, next) => {
    const key = Buffer.from(
      (c.req.header("authorization") ?? "").replace(/^Basic /, ""),
      "base64",
    ).toString();
    if (key !== `${data.keyId}:${data.keySecret}`) throw new ApiError(401, "Authentication failed");
    await next();
  });
  app.post("/orders", async (c) => c.json(payments.createOrder(deps, check(orderCreate, await body(c)))));
  app.get("/orders", (c) => {
    const { receipt } = c.req.query();
    const all = Object.values(data.orders).filter((order) => !receipt || order.receipt === receipt);
    return c.json(list(all, c.req.query()));
  });
  app.get("/orders/:id", (c) => c.json(payments.found(data.orders, c.req.param("id"))));
  app.get("/orders/:id/payments", (c) => {
    const { id } = payments.found(data.orders, c.req.param("id"));
    return c.json(
      list(
        Object.values(data.payments).filter(({ order_id }) => order_id === id),
        c.req.query(),
      ),
    );
  });
  app.get("/payments/:id", (c) => c.json(payments.found(data.payments, c.req.param("id"))));
  app.post("/payments/:id/capture", async (c) => {
    const { amount } = check(captureBody, await body(c));
    return c.json(payments.capture(deps, payments.found(data.payments, c.req.param("id")), amount));
  });
  app.post("/payments/:id/refund", async (c) => {
    const id = c.req.param("id");
    const params = check(refundBody, await body(c));
    const key = c.req.header("x-refund-idempotency");
    const request = JSON.stringify([id, params]);
    const known = key ? data.refundKeys[key] : undefined;
    if (known && known.request !== request) {
      throw new ApiError(400, "Different request with the same idempotency key has already been processed.");
    }
    const made = known
      ? payments.found(data.refunds, known.refund)
      : payments.refund(deps, payments.found(data.payments, id), params);
    if (key) data.refundKeys[key] = { request, refund: made.id };
    return c.json(made);
  });
  app.get("/payments/:id/refunds", (c) => {
    const { id } = payments.found(data.payments, c.req.param("id"));
    return c.json(
      list(
        Object.values(data.refunds).filter(({ payment_id }) => payment_id === id),
        c.req.query(),
      ),
    );
  });
  app.get("/refunds/:id", (c) => c.json(payments.found(data.refunds, c.req.param("id"))));
  app.notFound((c) => c.json(new ApiError(400, "The requested URL was not found on the server.").body, 400));
  return app;
}

const outcome = z.object({ outcome: z.enum(["success", "fail", "authorize"]).default("success") });
const slowRefund = z.object({ amount: amount.optional(), slow: z.boolean().optional() });
const settled = z.object({ outcome: z.enum(["success", "fail"]) });
const decided = z.object({ outcome: z.enum(["won", "lost"]) });

/** The customer in Razorpay's window, the merchant in its dashboard, the bank. None asks for a key. */
function outside(deps: Deps): Hono {
  const { data } = deps;
  const app = new Hono();
  answerErrors(app);
  app.post("/pay/:order", async (c) => {
    return c.json(payments.pay(deps, c.req.param("order"), check(outcome, await body(c)).outcome));
  });
  app.post("/dashboard/refunds/:payment", async (c) => {
    const { amount, slow = false } = check(slowRefund, await body(c));
    return c.json(
      payments.refund(deps, payments.found(data.payments, c.req.param("payment")), { amount, slow }),
    );
  });
  app.post("/bank/refunds/:refund", async (c) => {
    const succeeds = check(settled, await body(c)).outcome === "success";
    return c.json(payments.settleRefund(deps, payments.found(data.refunds, c.req.param("refund")), succeeds));
  });
  app.post("/bank/disputes/:payment", (c) => {
    return c.json(payments.dispute(deps, payments.found(data.payments, c.req.param("payment"))));
  });
  app.post("/bank/disputes/:dispute/close", async (c) => {
    const made = payments.found(data.disputes, c.req.param("dispute"));
    return c.json(payments.decide(deps, made, check(decided, await body(c)).outcome));
  });
  return app;
}

function answerErrors(app: Hono): void {
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json(error.body, error.status);
    console.error("razorpay stand-in:", error);
    return c.json(new ApiError(500, error.message).body, 500);
  });
}

async function body(c: Context): Promise<unknown> {
  const text = await c.req.text();
  return text === "" ? {} : parsed(text);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, `The body is no JSON: ${(error as Error).message}.`);
  }
}
