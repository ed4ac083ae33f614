import { beforeEach, describe, expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
beforeEach(() => s.calm());

const available = async (person: Person) => (await s.balance(person)).available_micro;

/** Saves a test card as Stripe's script does in the browser. */
async function saveCard(person: Person, card = "pm_card_visa"): Promise<string> {
  const { setup_intent_id } = must(
    await person.client.functions.invoke("billing/payment-methods", {
      body: { workspace_id: person.workspaceId },
    }),
  );
  const answer = await fetch(`${s.stack.standins.stripe}/bank/setups/${setup_intent_id}`, {
    method: "POST",
    body: JSON.stringify({ payment_method: card }),
  });
  expect(answer.status).toBe(200);
  return eventually("the saved card", async () => {
    const { data } = await person.client.schema("billing").from("payment_methods").select("id");
    return data?.[0]?.id;
  });
}

async function switchOn(person: Person, payment_method_id: string): Promise<void> {
  must(
    await person.client.schema("billing").rpc("set_auto_reload", {
      workspace_id: person.workspaceId,
      enabled: true,
      threshold_minor: 500,
      amount_minor: 1500,
      payment_method_id,
    }),
  );
}

async function spend(person: Person, generations: number): Promise<void> {
  must(
    await s.service.schema("billing").rpc("record_usage", {
      workspace_id: person.workspaceId,
      meter: "generation",
      quantity: generations,
      key: crypto.randomUUID(),
    }),
  );
}

const lastReload = async (person: Person) => {
  const [row] = await s.sql<{ id: string; status: string; payment_id: string }>(
    "select id, status, payment_id from billing.auto_reloads where workspace_id = $1 order by created_at desc limit 1",
    [person.workspaceId],
  );
  return row;
};
const reloaded = (person: Person, status: string) =>
  eventually(`a reload that is ${status}`, async () => {
    const reload = await lastReload(person);
    return reload?.status === status ? reload : undefined;
  });

describe("the automatic reload", () => {
  test("buys credits when they run low, hands out the invoice, and is refunded in part", async () => {
    const person = await s.person(600_000);
    await switchOn(person, await saveCard(person));
    await spend(person, 60);
    const left = 600_000 - 60 * 2298;
    const { payment_id } = await reloaded(person, "succeeded");
    expect(await available(person)).toBe(left + 1_500_000);

    const invoice = await eventually("the invoice's PDF", async () => {
      const { data } = await person.client.schema("billing").from("invoices").select("*");
      return data?.[0]?.pdf_path ? data[0] : undefined;
    });
    expect(invoice).toMatchObject({ status: "paid", total_minor: 1500, currency: "USD" });
    const { signedUrl } = must(
      await person.client.storage.from("billing-documents").createSignedUrl(invoice.pdf_path!, 60),
    );
    expect((await (await fetch(signedUrl)).text()).startsWith("%PDF-")).toBe(true);

    const refund = must(
      await person.client.functions.invoke("billing/refunds", {
        body: { payment_id, amount_minor: 500, reason: "too much", key: "refund-1" },
      }),
    );
    expect(refund).toMatchObject({ status: "pending", taken_micro: 500_000 });
    expect(await available(person)).toBe(left + 1_000_000);
    await eventually("the refund", async () => {
      const { data } = await person.client.schema("billing").from("payment_refunds").select("status");
      return data?.[0]?.status === "succeeded";
    });
    const money = must(
      await person.client
        .schema("billing")
        .from("financial_transactions")
        .select("transaction_type, amount_minor, balance_before_micro, balance_after_micro, status")
        .order("created_at"),
    );
    expect(money).toEqual([
      {
        transaction_type: "auto_reload",
        amount_minor: 1500,
        balance_before_micro: left,
        balance_after_micro: left + 1_500_000,
        status: "completed",
      },
      {
        transaction_type: "refund",
        amount_minor: -500,
        balance_before_micro: left + 1_500_000,
        balance_after_micro: left + 1_000_000,
        status: "completed",
      },
    ]);
    expect(await s.faults()).toEqual([]);
  });

  test("survives a declined card and lost webhooks: the next try brings the credits, once", async () => {
    const person = await s.person(0);
    await s.order("stripe", { fail: "run", times: 1 });
    await switchOn(person, await saveCard(person));
    await reloaded(person, "retrying");
    expect(await available(person)).toBe(0);
    await s.order("stripe", { lose_webhook: true });
    await s.sql("update billing.auto_reloads set next_attempt_at = now() where workspace_id = $1", [
      person.workspaceId,
    ]);
    // The job may be about to wait for the time that stood there before.
    await eventually("the job waits", () =>
      s
        .sql(
          "select from ops.jobs where kind = 'billing.auto_reload' and state = 'waiting' and workspace_id = $1",
          [person.workspaceId],
        )
        .then((rows) => rows.length > 0),
    );
    await s.hurry();
    await reloaded(person, "succeeded");
    expect(await available(person)).toBe(1_500_000);
    const titles = must(await person.client.schema("messaging").from("notifications").select("title"));
    expect(titles.map(({ title }) => title).sort()).toEqual(["Automatic reload failed", "Credits reloaded"]);
    expect(await s.faults()).toEqual([]);
  });

  test("asks the customer where the bank wants him, and goes on when he has confirmed", async () => {
    const person = await s.person(0);
    await switchOn(person, await saveCard(person, "pm_card_authenticationRequired"));
    const { payment_id } = await reloaded(person, "requires_action");
    const action = must(
      await person.client.functions.invoke(`billing/payments/${payment_id}/action`, { method: "GET" }),
    );
    expect(action.client_secret).toMatch(/^pi_.*_secret_/);
    const bank = await fetch(`${s.stack.standins.stripe}/bank/confirm/${action.client_secret}`, {
      method: "POST",
      body: "{}",
    });
    expect(bank.status).toBe(200);
    await reloaded(person, "succeeded");
    expect(await available(person)).toBe(1_500_000);
  });
});

describe("a payment through Razorpay", () => {
  test("is proven by its signature and told by its webhooks, and brings its credits once", async () => {
    const person = await s.person(0);
    await s.sql(
      `insert into ref.currency_rates (from_currency, to_currency, rate, expires_at)
        values ('USD', 'INR', 83.25, now() + interval '1 hour')
        on conflict (from_currency, to_currency) do update set expires_at = excluded.expires_at`,
    );
    const order = must(
      await person.client.functions.invoke("billing/orders", {
        body: { workspace_id: person.workspaceId, package: "starter" },
      }),
    );
    expect(order).toMatchObject({ amount_minor: 41_625, currency: "INR" });
    const proof = await (
      await fetch(`${s.stack.standins.razorpay}/pay/${order.order_id}`, { method: "POST", body: "{}" })
    ).json();
    const verified = must(
      await person.client.functions.invoke("billing/orders/verify", {
        body: { payment_id: order.payment_id, ...proof },
      }),
    );
    expect(verified).toEqual({ payment_id: order.payment_id, status: "succeeded" });
    await eventually("all events", async () => {
      const [row] = await s.sql<{ open: string; all: string }>(
        `select count(*) filter (where status = 'pending') as open, count(*) as all from ops.webhook_events
          where provider = 'razorpay' and payload::text like $1`,
        [`%${order.order_id}%`],
      );
      return Number(row!.all) === 3 && Number(row!.open) === 0;
    });
    expect(await available(person)).toBe(500_000);
    expect(await s.faults()).toEqual([]);
  });
});
