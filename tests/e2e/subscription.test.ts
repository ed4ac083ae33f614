// A plan's whole life as a client of the apps sees it: the price page, the provider's pages, and what follows.

import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const day = 24 * 60 * 60;
const s = useStack();
let prices: { basic: string; pro: string; trial: string };
beforeEach(() => s.calm());
beforeAll(async () => {
  const made = await s.sql<{ slug: string; id: string }>(`
    with plan as (
      insert into billing.plans (app, slug, name, allowance_micro, sort_order)
      values ('liventix', 'e2e-basic', 'Basic', 1000, 1), ('liventix', 'e2e-pro', 'Pro', 5000, 2),
        ('liventix', 'e2e-trial', 'Trial', 1000, 3)
      returning id, slug
    )
    insert into billing.plan_prices (plan_id, currency, amount_minor, billing_period, trial_period_days)
    select id, 'USD', case slug when 'e2e-pro' then 3000 else 1000 end, 'month',
      case slug when 'e2e-trial' then 14 else 0 end from plan
    returning id, (select slug from plan where plan.id = plan_id)`);
  const of = (slug: string) => made.find((row) => row.slug === slug)!.id;
  prices = { basic: of("e2e-basic"), pro: of("e2e-pro"), trial: of("e2e-trial") };
}, 60_000);

const invoke = async (person: Person, path: string, body: object) =>
  must(
    await person.client.functions.invoke(`billing/subscriptions/${path}`, {
      body: { workspace_id: person.workspaceId, ...body },
    }),
  );
const checkout = (person: Person, plan_price_id: string) =>
  invoke(person, "checkout", {
    plan_price_id,
    success_url: "https://example.com/thanks",
    cancel_url: "https://example.com/plans",
  });
const submit = (url: string, form: Record<string, string>) =>
  fetch(url, { method: "POST", body: new URLSearchParams(form), redirect: "manual" });
const pass = (advance: number) =>
  fetch(`${s.stack.standins.stripe}/_clock`, { method: "POST", body: JSON.stringify({ advance }) });

interface Row {
  id: string;
  status: string;
  plan_price_id: string;
  provider_subscription_id: string;
  cancel_at_period_end: boolean;
  scheduled_plan_price_id: string | null;
  current_period_end: string;
}

/** The member's own view of the plan, once it is as expected. */
const plan = (person: Person, what: string, as: Partial<Row>) =>
  eventually(what, async () => {
    const { data } = await person.client.schema("billing").from("subscriptions").select("*");
    const row = data?.[0] as Row | undefined;
    return Object.entries(as).every(([name, value]) => row?.[name as keyof Row] === value) && row;
  });

async function subscriber(price: string): Promise<Person> {
  const person = await s.person(0);
  const { checkout_url } = await checkout(person, price);
  await submit(checkout_url, { outcome: "success" });
  return person;
}

describe("a plan", () => {
  test("is chosen on a price page, bought, used, dearer, cheaper, cancelled and resumed", async () => {
    const person = await s.person(0);
    const offers = must(
      await person.client
        .schema("billing")
        .from("plan_prices")
        .select("id, amount_minor, plan:plans!plan_prices_plan_id_fkey(name, sort_order)")
        .in("id", [prices.basic, prices.pro]),
    );
    expect(offers).toHaveLength(2);
    const begun = await checkout(person, prices.basic);
    expect(begun).toMatchObject({ status: "open", trial_days: 0 });
    await submit(begun.checkout_url, { outcome: "success" });
    await plan(person, "the plan", { status: "active", plan_price_id: prices.basic });
    expect(await s.balance(person)).toMatchObject({ available_micro: 1000 });

    const app = { app: "liventix" };
    const up = await invoke(person, "change", { ...app, plan_price_id: prices.pro });
    expect(up).toMatchObject({ kind: "upgrade", status: "completed" });
    await plan(person, "the dearer plan", { plan_price_id: prices.pro });

    const down = await invoke(person, "change", { ...app, plan_price_id: prices.basic });
    expect(down).toMatchObject({ kind: "downgrade", status: "scheduled" });
    await plan(person, "the scheduled plan", { scheduled_plan_price_id: prices.basic });
    await pass(32 * day);
    await plan(person, "the cheaper plan", { plan_price_id: prices.basic, scheduled_plan_price_id: null });

    const end = await invoke(person, "cancel", { ...app, reason: "Only for a month", flow: "settings_page" });
    expect(end).toMatchObject({ kind: "cancel", status: "scheduled" });
    await plan(person, "the coming end", { cancel_at_period_end: true });
    await invoke(person, "resume", app);
    await plan(person, "the resumed plan", { cancel_at_period_end: false });

    const [feedback] = must(await person.client.schema("billing").from("cancellation_feedback").select("*"));
    expect(feedback).toMatchObject({
      reason: "Only for a month",
      flow: "settings_page",
      user_role: "owner",
      cancellation_type: "end_of_period",
      had_payment_failures: false,
    });
    expect(await s.faults()).toEqual([]);
  });

  test("on trial takes no money, and is ended in the provider's portal", async () => {
    const person = await subscriber(prices.trial);
    const row = await plan(person, "the trial", { status: "trialing" });
    const { portal_url } = await invoke(person, "portal", { return_url: "https://example.com/plans" });
    await submit(portal_url, { subscription: row.provider_subscription_id, action: "cancel" });
    await plan(person, "the coming end", { status: "trialing", cancel_at_period_end: true });
    await pass(15 * day);
    await plan(person, "the end", { status: "cancelled" });
    const news = must(await person.client.schema("messaging").from("notifications").select("title"));
    expect(news.map(({ title }) => title)).toContain("The plan has ended");
  });

  test.each([{ duplicate: 3 }, { reorder: true }, { late_ms: 300 }])("arrives once with %o", async (rule) => {
    await s.order("stripe", rule);
    const person = await subscriber(prices.basic);
    await plan(person, "the plan", { status: "active", plan_price_id: prices.basic });
  });

  test("whose webhooks are lost is found by asking", async () => {
    await s.order("stripe", { lose_webhook: true });
    const person = await subscriber(prices.basic);
    await s.hurry();
    await plan(person, "the plan", { status: "active" });
  });

  test("that cannot be paid any more says where to pay, and goes on when that is done", async () => {
    const person = await subscriber(prices.basic);
    await plan(person, "the plan", { status: "active" });
    await s.order("stripe", { fail: "run" });
    await pass(32 * day);
    const owing = await plan(person, "the failed renewal", { status: "past_due" });
    await s.calm();
    const { data } = await person.client
      .schema("billing")
      .from("subscriptions")
      .select("payment_url, has_access")
      .eq("id", owing.id)
      .single();
    expect(data?.has_access).toBe(true);
    await submit(data!.payment_url!, { outcome: "success" });
    await plan(person, "the paid plan", { status: "active" });
  });

  test("bought twice at the same moment is held once, and paid once", async () => {
    const person = await s.person(0);
    const [first, second] = await Promise.all([checkout(person, prices.basic), checkout(person, prices.pro)]);
    const pages = [first.checkout_url, second.checkout_url].filter((url) => url !== null);
    const paid = await Promise.all(pages.map((url) => submit(url, { outcome: "success" })));
    expect(paid.some(({ status }) => status === 303)).toBe(true);
    await plan(person, "the plan", { status: "active" });
    const refused = await person.client.functions.invoke("billing/subscriptions/checkout", {
      body: {
        workspace_id: person.workspaceId,
        plan_price_id: prices.pro,
        success_url: "https://example.com/thanks",
        cancel_url: "https://example.com/plans",
      },
    });
    expect((refused.error as { context: Response }).context.status).toBe(409);
    await eventually("the second one undone", async () => {
      const [{ n } = { n: 1 }] = await s.sql<{ n: number }>(
        "select count(*)::int as n from billing.surplus_subscriptions where status <> 'settled'",
      );
      return n === 0;
    });
  });
});

test("a member who is no admin may look at the plan but not change it", async () => {
  const owner = await subscriber(prices.basic);
  await plan(owner, "the plan", { status: "active" });
  const member = await s.person(0);
  await s.sql(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
    [owner.workspaceId, member.userId],
  );
  const seen = must(await member.client.schema("billing").from("subscriptions").select("status"));
  expect(seen).toEqual([{ status: "active" }]);
  const { error } = await member.client.functions.invoke("billing/subscriptions/cancel", {
    body: { workspace_id: owner.workspaceId, app: "liventix" },
  });
  expect((error as { context: Response }).context.status).toBe(403);
});
