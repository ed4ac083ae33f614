import { Hono } from "hono";
import { html } from "hono/html";
import { z } from "zod";
import { ApiError, missing } from "./errors.ts";
import { layout, money } from "./page.ts";
import { type Deps, newId, seconds } from "./state.ts";
import { advance } from "./subscription-cycle.ts";
import { findInvoice } from "./subscription-invoices.ts";
import { clock, hasEnded, itemOf, type Subscription } from "./subscription-state.ts";
import { payInvoice, updateSubscription } from "./subscription-updates.ts";
import { findSubscription } from "./subscriptions.ts";

export function createPortalSession(deps: Deps, customer: string, return_url: string | null) {
  if (!deps.data.customers[customer]) throw missing("customer", customer, "customer");
  const id = newId("bps");
  const session = {
    id,
    object: "billing_portal.session" as const,
    configuration: "bpc_standin",
    created: seconds(),
    customer,
    customer_account: null,
    flow: null,
    livemode: false,
    locale: null,
    on_behalf_of: null,
    return_url,
    url: `${deps.baseUrl()}/portal/${id}`,
  };
  deps.data.portalSessions[id] = session;
  return session;
}

/** Seconds to let pass, and what dunning ends in. */
const clockOrder = z.strictObject({
  advance: z.number().int().min(0).default(0),
  dunning: z.enum(["unpaid", "cancel"]).optional(),
});
const portalOrder = z.object({ subscription: z.string(), action: z.enum(["cancel", "resume"]) });
const invoiceOrder = z.object({ outcome: z.enum(["success", "decline"]).default("success") });

/** What customers do at Stripe itself: pay an open invoice, end or resume a plan. Forms for people, JSON for programs. */
export function customerRoutes(deps: Deps): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json({ error: error.body }, error.status);
    throw error;
  });
  app.post("/_clock", async (c) => {
    const parsed = clockOrder.safeParse(await c.req.json());
    if (!parsed.success) return c.json({ error: z.prettifyError(parsed.error) }, 400);
    if (parsed.data.dunning) deps.data.dunning = parsed.data.dunning;
    advance(deps, parsed.data.advance);
    deps.changed();
    return c.json({ now: clock(deps) });
  });
  app.get("/invoice/:id", (c) => {
    const invoice = findInvoice(deps, c.req.param("id"));
    const total = money(invoice.amount_due, invoice.currency);
    const form = html`<form method="post">
      <button class="pay" name="outcome" value="success">Pay ${total}</button>
      <button name="outcome" value="decline">Pay with a card that is declined</button>
    </form>`;
    const state = invoice.status === "open" ? form : html`<p>This invoice is ${invoice.status}.</p>`;
    return c.html(layout(`Invoice ${invoice.number}`, html`<h1>${total}</h1>${state}`));
  });
  app.post("/invoice/:id", async (c) => {
    const byForm = !c.req.header("content-type")?.includes("application/json");
    const { outcome } = invoiceOrder.parse(byForm ? await c.req.parseBody() : await c.req.json());
    const id = c.req.param("id");
    const paid = payInvoice(deps, id, { byCustomer: true, declined: outcome === "decline" });
    deps.changed();
    return byForm ? c.redirect(`/invoice/${id}`, 303) : c.json(paid.invoice);
  });
  app.get("/portal/:id", (c) => {
    const session = portalSession(deps, c.req.param("id"));
    const mine = Object.values(deps.data.subscriptions).filter(
      (subscription) => subscription.customer === session.customer && !hasEnded(subscription),
    );
    return c.html(layout("Your plans", html`<h1>Your plans</h1><ul>${mine.map(planRow)}</ul>`));
  });
  app.post("/portal/:id", async (c) => {
    const session = portalSession(deps, c.req.param("id"));
    const byForm = !c.req.header("content-type")?.includes("application/json");
    const order = portalOrder.parse(byForm ? await c.req.parseBody() : await c.req.json());
    const subscription = findSubscription(deps, order.subscription);
    if (subscription.customer !== session.customer) throw missing("subscription", subscription.id);
    // In flexible billing the portal sets the date, not the flag.
    const cancel_at = order.action === "cancel" ? itemOf(subscription).current_period_end : ("" as const);
    updateSubscription(deps, subscription, { cancel_at }, null);
    deps.changed();
    return byForm ? c.redirect(`/portal/${session.id}`, 303) : c.json(subscription);
  });
  return app;
}

function portalSession(deps: Deps, id: string) {
  const session = deps.data.portalSessions[id];
  if (!session) throw missing("billing_portal.session", id);
  return session;
}

function planRow(subscription: Subscription) {
  const { price } = itemOf(subscription);
  const action = subscription.cancel_at ? "resume" : "cancel";
  return html`<li><span>${money(price.unit_amount, price.currency)} (${subscription.status})</span>
    <form method="post"><input type="hidden" name="subscription" value="${subscription.id}">
    <button name="action" value="${action}">${action}</button></form></li>`;
}
