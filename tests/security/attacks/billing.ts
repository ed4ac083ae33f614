import { type Attack, has, type Scene, there } from "./attack.ts";

export async function ownBilling(scene: Scene): Promise<void> {
  const { ids } = scene;
  ids.payment = (await has(scene, "billing.start_top_up", { ...there(scene), package: "starter" })).id;
  const budget = { ...there(scene), limit_micro: 1_000_000_000, period: "month" };
  ids.budget = (await has(scene, "billing.set_budget", budget)).id;
}

const plan = (s: Scene) => ({ ...there(s), plan_price_id: s.victim.workspaceId });

export const billing: Attack[] = [
  [
    "private.request_payment_refund",
    ({ ids }) => ({ payment_id: ids.payment, amount_minor: 1, reason: "mine", key: "k" }),
    "unknown_payment",
  ],
  ["private.payment_handle", ({ ids }) => ({ payment_id: ids.payment }), "unknown_payment"],
  ["private.remove_budget", ({ ids }) => ({ budget_id: ids.budget }), "unknown_budget"],
  ["private.set_low_balance_threshold", (s) => ({ ...there(s), amount_micro: 1 }), "unknown_workspace"],
  ["private.request_reload", (s) => ({ ...there(s), required_micro: 1 }), "unknown_workspace"],
  [
    "private.set_auto_reload",
    (s) => ({
      ...there(s),
      enabled: true,
      threshold_minor: 500,
      amount_minor: 1500,
      monthly_cap_minor: null,
      payment_method_id: null,
    }),
    "unknown_workspace",
  ],
  [
    "private.set_billing_details",
    (s) => ({ ...there(s), name: "thief", email: null, address: null, tax_id: null }),
    "unknown_workspace",
  ],
  ["private.billing_customer", there, "unknown_workspace"],
  [
    "private.cancel_subscription",
    (s) => ({ ...there(s), app: "selify", at_once: true, reason: null, flow: null }),
    "unknown_workspace",
  ],
  ["private.change_subscription", (s) => ({ ...plan(s), app: "selify" }), "unknown_workspace"],
  ["private.preview_change", (s) => ({ ...plan(s), app: "selify" }), "unknown_workspace"],
  [
    "private.configure_payouts",
    (s) => ({ ...there(s), schedule: "manual", schedule_day: null, minimum_minor: 1 }),
    "unknown_workspace",
  ],
  ["private.entitlement", (s) => ({ ...there(s), feature: "generations" }), "unknown_workspace"],
  ["private.entitlements", there, "unknown_workspace"],
  [
    "private.redeem_voucher",
    (s) => ({ ...there(s), code: "FREE", app: null, key: "k" }),
    "unknown_workspace",
  ],
  ["private.request_payout", (s) => ({ ...there(s), amount_minor: 1, key: "k" }), "unknown_workspace"],
  ["private.resume_subscription", (s) => ({ ...there(s), app: "selify" }), "unknown_workspace"],
  [
    "private.set_budget",
    (s) => ({
      ...there(s),
      limit_micro: 1,
      period: "month",
      user_id: null,
      stops: true,
      alert_shares: [],
      timezone: null,
    }),
    "unknown_workspace",
  ],
  ["private.start_free_plan", (s) => ({ ...there(s), plan_id: s.victim.workspaceId }), "unknown_workspace"],
  [
    "private.start_payout_account",
    (s) => ({ ...there(s), country: "DE", currency: "EUR" }),
    "unknown_workspace",
  ],
  ["private.start_subscription", (s) => ({ ...plan(s), key: null }), "unknown_workspace"],
  ["private.start_plan_order", (s) => ({ ...plan(s), key: null, currency: "INR" }), "unknown_workspace"],
  [
    "private.start_top_up",
    (s) => ({ ...there(s), package: "starter", key: "k", provider: "stripe", currency: null }),
    "unknown_workspace",
  ],
];
