import type Stripe from "stripe";
import { createCustomer } from "./catalog.ts";
import { declineOf } from "./charges.ts";
import { ApiError, invalid } from "./errors.ts";
import { emit } from "./events.ts";
import type { SessionParams } from "./params.ts";
import { type Deps, type LineItem, newId, type Session } from "./state.ts";
import { collect, createInvoice } from "./subscription-invoices.ts";
import { bill, createSubscription, fullLine, methodOf } from "./subscriptions.ts";

/** A session sells either one-time prices or, in mode subscription, one recurring price. */
export function checkMode(params: SessionParams, lines: LineItem[]): void {
  const recurring = lines.filter(({ price }) => price.recurring !== null);
  if (params.mode === "setup") throw invalid("This stand-in makes no sessions in mode setup.", "mode");
  if (params.mode === "payment" && recurring.length > 0) {
    throw invalid(
      "You must provide `mode=subscription` when a line item has a recurring price.",
      "line_items",
    );
  }
  if (params.mode === "subscription" && (recurring.length !== 1 || lines.length !== 1))
    throw invalid("This stand-in sells one recurring price a session in subscription mode.", "line_items");
}

/** What a session in mode subscription has of its own; on trial nothing is due today. */
export function subscriptionMode(deps: Deps, id: string, params: SessionParams): Partial<Session> {
  if (params.mode !== "subscription") return {};
  const { metadata = {}, trial_period_days = null } = params.subscription_data ?? {};
  deps.data.subscriptionOrders[id] = { metadata, trial_period_days };
  return {
    mode: "subscription",
    customer_creation: params.customer ? null : "always",
    payment_method_collection: params.payment_method_collection ?? "always",
    invoice_creation: null,
    ...(trial_period_days !== null && { amount_total: 0, amount_subtotal: 0 }),
  };
}

/** The customer pays, or gives a card for after the trial: the subscription begins. */
export function paySubscription(deps: Deps, session: Session, outcome: string): Session {
  const [line] = deps.data.lineItems[session.id] ?? [];
  const order = deps.data.subscriptionOrders[session.id];
  if (!line || !order || outcome.startsWith("async"))
    throw invalid("This stand-in takes no slow payments for subscriptions.");
  const onTrial = order.trial_period_days !== null && order.trial_period_days > 0;
  const decline = onTrial ? null : declineOf(deps, null, outcome === "decline");
  if (decline) throw new ApiError(402, { type: "card_error", ...decline });
  session.customer ??= createCustomer(deps, { email: session.customer_email }).id;
  const subscription = createSubscription(deps, {
    customer: String(session.customer),
    price: line.price as unknown as Stripe.Price,
    quantity: line.quantity ?? 1,
    metadata: order.metadata,
    trial_period_days: order.trial_period_days,
    default_payment_method: newId("pm"),
  });
  if (onTrial) {
    const free = [{ ...fullLine(subscription), amount: 0 }];
    collect(
      deps,
      createInvoice(deps, subscription, free, "subscription_create", null),
      methodOf(subscription),
    );
  } else bill(deps, subscription, "subscription_create");
  Object.assign(session, {
    status: "complete",
    payment_status: onTrial ? "no_payment_required" : "paid",
    url: null,
    subscription: subscription.id,
    invoice: subscription.latest_invoice,
  });
  emit(deps, null, [
    { type: "customer.subscription.created", object: subscription },
    { type: "checkout.session.completed", object: session },
  ]);
  return session;
}
