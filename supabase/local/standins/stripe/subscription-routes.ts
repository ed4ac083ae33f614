import type { Hono } from "hono";
import { createProduct } from "./catalog.ts";
import { ApiError, check, missing } from "./errors.ts";
import type { Env } from "./gate.ts";
import { expanded, page } from "./lists.ts";
import { expandOnly } from "./params.ts";
import { createPortalSession } from "./portal.ts";
import type { Deps } from "./state.ts";
import { findInvoice, voidInvoice } from "./subscription-invoices.ts";
import * as schema from "./subscription-params.ts";
import { createSchedule, findSchedule, releaseSchedule, updateSchedule } from "./subscription-schedules.ts";
import { hasEnded } from "./subscription-state.ts";
import { payInvoice, previewUpdate, updateSubscription } from "./subscription-updates.ts";
import {
  bill,
  createSubscription,
  endSubscription,
  findSubscription,
  recurringPrice,
  tell,
} from "./subscriptions.ts";

export function subscriptionRoutes(app: Hono<Env>, deps: Deps): void {
  subscriptions(app, deps);
  schedules(app, deps);
  invoices(app, deps);
  catalog(app, deps);
  app.post("/billing_portal/sessions", (c) => {
    const params = check(schema.portalCreate, c.get("params"));
    return c.json(createPortalSession(deps, params.customer, params.return_url ?? null));
  });
}

function subscriptions(app: Hono<Env>, deps: Deps): void {
  app.post("/subscriptions", (c) => {
    const { items, expand, payment_behavior, ...params } = check(schema.subscriptionCreate, c.get("params"));
    const [item] = items;
    const price = recurringPrice(deps, item?.price, "items[0][price]");
    const subscription = createSubscription(deps, { ...params, price, quantity: item?.quantity });
    if (subscription.status !== "trialing") {
      const declined = payment_behavior === "default_incomplete";
      const paid = bill(deps, subscription, "subscription_create", { cause: c.get("cause"), declined });
      if (paid !== "paid") subscription.status = "incomplete";
    }
    tell(deps, subscription, c.get("cause"), "created");
    return c.json(expanded(deps, subscription, expand));
  });
  app.get("/subscriptions", (c) => {
    const params = check(schema.subscriptionList, c.get("params"));
    const all = Object.values(deps.data.subscriptions).filter(
      (subscription) =>
        (!params.customer || subscription.customer === params.customer) &&
        (params.status === "all" ||
          (params.status ? subscription.status === params.status : subscription.status !== "canceled")),
    );
    return c.json(page(all, "/v1/subscriptions", params));
  });
  app.get("/subscriptions/:id", (c) => {
    const { expand } = check(expandOnly, c.get("params"));
    return c.json(expanded(deps, findSubscription(deps, c.req.param("id")), expand));
  });
  app.post("/subscriptions/:id", (c) => {
    const params = check(schema.subscriptionUpdate, c.get("params"));
    const subscription = findSubscription(deps, c.req.param("id"));
    return c.json(
      expanded(deps, updateSubscription(deps, subscription, params, c.get("cause")), params.expand),
    );
  });
  app.delete("/subscriptions/:id", (c) => {
    const { cancellation_details = {}, expand } = check(schema.subscriptionCancel, c.get("params"));
    const subscription = findSubscription(deps, c.req.param("id"));
    if (hasEnded(subscription)) throw missing("subscription", subscription.id);
    const options = { cause: c.get("cause"), details: cancellation_details };
    return c.json(expanded(deps, endSubscription(deps, subscription, "canceled", options), expand));
  });
}

function schedules(app: Hono<Env>, deps: Deps): void {
  const path = "/subscription_schedules";
  app.post(path, (c) => {
    const { from_subscription, expand } = check(schema.scheduleCreate, c.get("params"));
    return c.json(expanded(deps, createSchedule(deps, from_subscription, c.get("cause")), expand));
  });
  app.get(`${path}/:id`, (c) => c.json(findSchedule(deps, c.req.param("id"))));
  app.post(`${path}/:id`, (c) => {
    const params = check(schema.scheduleUpdate, c.get("params"));
    const schedule = updateSchedule(deps, c.req.param("id"), params, c.get("cause"));
    return c.json(expanded(deps, schedule, params.expand));
  });
  app.post(`${path}/:id/release`, (c) => c.json(releaseSchedule(deps, c.req.param("id"), c.get("cause"))));
}

function invoices(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  app.get("/invoices", (c) => {
    const params = check(schema.invoiceList, c.get("params"));
    const all = Object.values(data.invoices).filter(
      (invoice) =>
        (!params.subscription ||
          invoice.parent?.subscription_details?.subscription === params.subscription) &&
        (!params.customer || invoice.customer === params.customer) &&
        (!params.status || invoice.status === params.status),
    );
    return c.json(page(all, "/v1/invoices", params));
  });
  app.post("/invoices/create_preview", (c) => {
    const { subscription, subscription_details } = check(schema.invoicePreview, c.get("params"));
    const [item] = subscription_details.items;
    return c.json(previewUpdate(deps, findSubscription(deps, subscription), item!));
  });
  app.get("/invoices/:id", (c) => {
    const { expand } = check(expandOnly, c.get("params"));
    return c.json(expanded(deps, findInvoice(deps, c.req.param("id")), expand));
  });
  app.post("/invoices/:id/pay", (c) => {
    const { payment_method, expand } = check(schema.invoicePay, c.get("params"));
    const method = payment_method ?? null;
    const { invoice, outcome } = payInvoice(deps, c.req.param("id"), { method, cause: c.get("cause") });
    if (outcome === "paid") return c.json(expanded(deps, invoice, expand));
    const code = outcome === "declined" ? "card_declined" : "invoice_payment_intent_requires_action";
    throw new ApiError(402, { type: "card_error", code, message: "The invoice could not be paid." });
  });
  app.post("/invoices/:id/void", (c) => {
    const invoice = findInvoice(deps, c.req.param("id"));
    return c.json(voidInvoice(deps, invoice, c.get("cause")));
  });
  app.get("/invoice_payments", (c) => {
    const params = check(schema.invoicePaymentList, c.get("params"));
    const all = Object.values(data.invoicePayments).filter(
      ({ invoice, status }) =>
        (!params.invoice || invoice === params.invoice) && (!params.status || status === params.status),
    );
    return c.json(page(all, "/v1/invoice_payments", params));
  });
}

function catalog(app: Hono<Env>, deps: Deps): void {
  const { data } = deps;
  app.post("/products", (c) => {
    const { expand, ...params } = check(schema.productCreate, c.get("params"));
    if (params.id && data.products[params.id]) {
      const message = "Product already exists.";
      throw new ApiError(400, { type: "invalid_request_error", code: "resource_already_exists", message });
    }
    return c.json(expanded(deps, createProduct(deps, params), expand));
  });
  app.get("/products/:id", (c) => {
    const product = data.products[c.req.param("id")];
    if (!product) throw missing("product", c.req.param("id"));
    return c.json(product);
  });
  app.get("/prices", (c) => {
    const params = check(schema.priceList, c.get("params"));
    const all = Object.values(data.prices).filter(
      ({ lookup_key, product, active }) =>
        (!params.lookup_keys || params.lookup_keys.includes(lookup_key ?? "")) &&
        (!params.product || product === params.product) &&
        (params.active === undefined || active === params.active),
    );
    return c.json(page(all, "/v1/prices", params));
  });
  app.get("/prices/:id", (c) => {
    const price = data.prices[c.req.param("id")];
    if (!price) throw missing("price", c.req.param("id"));
    return c.json(price);
  });
}
