import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Session } from "../helpers/session.ts";
import { balance, billingDatabase, books, expectSound, freshKey, newWorkspace } from "./money.ts";

interface Payment {
  id: string;
  workspace_id: string;
  user_id: string;
  status: string;
  amount_minor: number;
  currency: string;
  credits_micro: number;
  provider_session_id: string | null;
  error: string | null;
  paid_at: Date | null;
}

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query(`insert into billing.credit_packages (slug, name, credits_micro, price_minor, valid_days, is_active) values
    ('short', 'Short', 1000, 100, 30, true), ('gone', 'Gone', 1000, 100, null, false)`);
});

const startTopUp = (
  session: Session,
  workspace_id: string | null,
  slug: string | null,
  key?: string | null,
) => session.call<Payment>("billing.start_top_up", { workspace_id, package: slug, key });

const settle = (session: unknown, failed = false, as: Session = db.service) =>
  as.call<Payment>("billing.settle_checkout", { session, failed });

/** A new payment of a new workspace with its checkout session attached. */
async function topUp(slug = "starter") {
  const { workspaceId, userId } = await newWorkspace(db);
  const payment = await startTopUp(db.user(userId), workspaceId, slug);
  const session = {
    id: `cs_${payment.id}`,
    object: "checkout.session",
    client_reference_id: payment.id,
    status: "complete",
    payment_status: "paid",
    amount_total: payment.amount_minor,
    currency: payment.currency.toLowerCase(),
    payment_intent: `pi_${payment.id}`,
    customer: `cus_${payment.id}`,
  };
  await db.service.call("billing.attach_checkout", { payment_id: payment.id, session_id: session.id });
  return { workspaceId, userId, payment, session };
}

const paymentNow = async (id: string): Promise<Payment> =>
  (
    await db.query<Payment & Record<string, unknown>>("select * from billing.payments where id = $1", [id])
  )[0]!;

describe("starting a top-up", () => {
  test("records a pending payment at the package's price and the job that will ask the provider", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const payment = await startTopUp(db.user(userId), workspaceId, "starter");
    expect(payment).toMatchObject({
      workspace_id: workspaceId,
      user_id: userId,
      status: "pending",
      amount_minor: 500,
      currency: "USD",
      credits_micro: 500000,
    });
    const jobs = await db.query(
      "select run_at, state from ops.jobs where kind = 'billing.reconcile_payment' and payload ->> 'payment_id' = $1",
      [payment.id],
    );
    expect(jobs).toEqual([{ run_at: new Date("2027-01-13T12:02:00Z"), state: "scheduled" }]);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
  });

  test("is for admins: a member is told so, a stranger finds no workspace, a visitor nothing", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const admin = await db.createUser();
    const editor = await db.createUser();
    for (const [user, role] of [
      [admin, "admin"],
      [editor, "editor"],
    ] as const)
      await db.query(
        "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
        [workspaceId, user.id, role],
      );
    for (const id of [userId, admin.id])
      expect(await startTopUp(db.user(id), workspaceId, "starter")).toMatchObject({ user_id: id });
    const before = await books(db);
    await expectError(startTopUp(db.user(editor.id), workspaceId, "starter"), "role_too_low", "PT403");
    const stranger = db.user((await db.createUser()).id);
    const unchanged = await books(db);
    for (const id of [workspaceId, randomUUID(), null])
      await expectError(startTopUp(stranger, id, "starter"), "unknown_workspace", "PT404");
    await expectError(startTopUp(db.anon, workspaceId, "starter"), "42501");
    await expectError(startTopUp(db.service, workspaceId, "starter"), "42501");
    expect(await books(db)).toEqual(unchanged);
    expect(before).toBeTruthy();
  });

  test("refuses packages that are unknown or no longer on sale", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    for (const slug of ["nonsense", "gone", null])
      await expectError(startTopUp(db.user(userId), workspaceId, slug), "unknown_package", "PT404");
    await expectError(startTopUp(db.user(userId), workspaceId, "starter", ""), "key_required", "PT400");
  });

  test("with a key is one payment, also when called at once; another package is refused", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const key = freshKey();
    const session = db.user(userId);
    const payments = await Promise.all(
      Array.from({ length: 8 }, () => startTopUp(session, workspaceId, "starter", key)),
    );
    expect(new Set(payments.map(({ id }) => id)).size).toBe(1);
    const { facts } = await expectError(
      startTopUp(session, workspaceId, "creator", key),
      "key_reused",
      "PT409",
    );
    expect(facts).toEqual({ key, payment_id: payments[0]!.id });
    const other = await newWorkspace(db);
    const elsewhere = await startTopUp(db.user(other.userId), other.workspaceId, "creator", key);
    expect(elsewhere.id).not.toBe(payments[0]!.id);
  });
});

describe("attaching the checkout session", () => {
  test("happens once; another session, or another payment's, is refused", async () => {
    const { payment, session } = await topUp();
    const other = await topUp();
    const attach = (payment_id: string | null, session_id: string | null) =>
      db.service.call("billing.attach_checkout", { payment_id, session_id });
    expect(await attach(payment.id, session.id)).toMatchObject({ provider_session_id: session.id });
    await expectError(attach(payment.id, "cs_other"), "key_reused", "PT409");
    const { workspaceId, userId } = await newWorkspace(db);
    const bare = await startTopUp(db.user(userId), workspaceId, "starter");
    await expectError(attach(bare.id, other.session.id), "key_reused", "PT409");
    await expectError(attach(bare.id, null), "invalid_argument", "PT400");
    for (const id of [randomUUID(), null]) await expectError(attach(id, "cs_x"), "unknown_payment", "PT404");
  });
});

describe("settling a checkout session", () => {
  test("that is paid brings the credits to the prepaid balance and tells the buyer", async () => {
    const { workspaceId, userId, payment, session } = await topUp();
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect(await balance(db.service, workspaceId)).toMatchObject({ prepaid_micro: 500000 });
    const [wallet] = await db.query("select * from billing.wallets where workspace_id = $1", [workspaceId]);
    expect(wallet).toMatchObject({
      total_purchased_micro: 500000,
      provider_customer_id: session.customer,
    });
    const notes = await db
      .user(userId)
      .query("select type, metadata from messaging.notifications where workspace_id = $1", [workspaceId]);
    expect(notes).toEqual([{ type: "success", metadata: { payment_id: payment.id, credits_micro: 500000 } }]);
    await expectSound(db);
  });

  test("of a package that expires brings a lot that does", async () => {
    const { workspaceId, session } = await topUp("short");
    await settle(session);
    const lots = await db.query(
      "select kind, remaining_micro, expires_at from billing.credit_lots where workspace_id = $1",
      [workspaceId],
    );
    expect(lots).toEqual([
      { kind: "purchase", remaining_micro: 1000, expires_at: new Date("2027-02-12T12:00:00Z") },
    ]);
    await expectSound(db);
  });

  test("finds its payment by the reference when the session was never attached", async () => {
    const { workspaceId, userId } = await newWorkspace(db);
    const payment = await startTopUp(db.user(userId), workspaceId, "starter");
    const session = {
      id: "cs_unattached",
      client_reference_id: payment.id,
      status: "complete",
      payment_status: "paid",
      amount_total: 500,
      currency: "usd",
      payment_intent: "pi_unattached",
      customer: null,
    };
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect(await settle(session)).toMatchObject({ id: payment.id, status: "succeeded" });
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500000);
  });

  test("brings the credits once under ten applications at once", async () => {
    const { workspaceId, userId, session } = await topUp();
    const connections = await Promise.all(Array.from({ length: 10 }, () => db.connect("service")));
    const answers = await Promise.all(connections.map((connection) => settle(session, false, connection)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(["succeeded"]));
    await Promise.all(connections.map((connection) => connection.close()));
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500000);
    const notes = await db.query("select from messaging.notifications where user_id = $1", [userId]);
    expect(notes).toHaveLength(1);
    await expectSound(db);
  });

  test.each([
    ["a smaller amount", { amount_total: 499 }],
    ["no amount", { amount_total: null }],
    ["another currency", { currency: "inr" }],
    ["no currency", { currency: null }],
    ["nothing at all", { payment_status: "no_payment_required", amount_total: 0 }],
  ])("that paid %s is refused and changes nothing", async (_, difference) => {
    const { session } = await topUp();
    const before = await books(db);
    await expectError(settle({ ...session, ...difference }), "payment_mismatch", "PT409");
    expect(await books(db)).toEqual(before);
  });

  test("of somebody else changes nothing and answers nothing", async () => {
    const before = await books(db);
    for (const session of [
      { id: "cs_foreign", status: "complete", payment_status: "paid", amount_total: 1, currency: "usd" },
      { id: "cs_foreign", client_reference_id: randomUUID(), payment_status: "paid" },
      { id: "cs_foreign", client_reference_id: "order-17", payment_status: "paid" },
      {},
      "nonsense",
      null,
    ])
      expect((await settle(session))?.id ?? null).toBeNull();
    expect(await books(db)).toEqual(before);
  });

  test("cannot be turned to a payment that has another session", async () => {
    const { payment, session } = await topUp();
    const before = await books(db);
    const answer = await settle({ ...session, id: "cs_forged" });
    expect(answer?.id ?? null).toBeNull();
    expect(await books(db)).toEqual(before);
    expect((await paymentNow(payment.id)).status).toBe("pending");
  });

  test("brings the credits even if another workspace has the same customer", async () => {
    const first = await topUp();
    const second = await topUp();
    await settle(first.session);
    expect(await settle({ ...second.session, customer: first.session.customer })).toMatchObject({
      status: "succeeded",
    });
    expect((await balance(db.service, second.workspaceId)).prepaid_micro).toBe(500000);
    await expectSound(db);
  });

  test("is for the service alone", async () => {
    const { userId, session, payment } = await topUp();
    for (const caller of [db.anon, db.user(userId)]) {
      await expectError(settle(session, false, caller), "42501");
      await expectError(caller.call("billing.apply_stripe_event", { webhook_event_id: 1 }), "42501");
      await expectError(
        caller.call("billing.attach_checkout", { payment_id: payment.id, session_id: "x" }),
        "42501",
      );
    }
  });
});

describe("in whatever order and however often its events come, a payment ends the same:", () => {
  const events = {
    completed: [{ status: "complete", payment_status: "unpaid" }, false],
    succeeded: [{ status: "complete", payment_status: "paid" }, false],
    failed: [{ status: "complete", payment_status: "unpaid" }, true],
    expired: [{ status: "expired", payment_status: "unpaid" }, false],
    open: [{ status: "open", payment_status: "unpaid" }, false],
  } as const;
  type Event = keyof typeof events;

  const orders = (items: Event[]): Event[][] =>
    items.length < 2
      ? [items]
      : items.flatMap((item, n) => orders(items.toSpliced(n, 1)).map((rest) => [item, ...rest]));

  test.each<[string, Event[]]>([
    ["succeeded", ["completed", "succeeded", "failed", "expired"]],
    ["succeeded", ["completed", "succeeded", "succeeded", "open"]],
    ["succeeded", ["expired", "succeeded"]],
    ["failed", ["completed", "failed", "failed", "open"]],
    ["failed", ["completed", "failed", "expired"]],
    ["expired", ["expired", "expired", "open"]],
    ["processing", ["completed", "completed", "open"]],
    ["pending", ["open", "open"]],
  ])("%s after %j", async (end, sequence) => {
    const { workspaceId, userId } = await newWorkspace(db);
    const seen = new Set(orders(sequence).map((order) => order.join()));
    for (const order of seen) {
      const payment = await startTopUp(db.user(userId), workspaceId, "starter");
      const base = {
        id: `cs_${payment.id}`,
        client_reference_id: payment.id,
        amount_total: 500,
        currency: "usd",
      };
      for (const name of order.split(",") as Event[]) {
        const [difference, failed] = events[name];
        const answer = await settle({ ...base, ...difference }, failed);
        expect(answer.id, `${order}: ${name}`).toBe(payment.id);
      }
      const after = await paymentNow(payment.id);
      expect([order, after.status]).toEqual([order, end]);
      expect(after.error).toBe(end === "failed" ? "the payment failed" : null);
    }
    const paid = end === "succeeded" ? seen.size : 0;
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(paid * 500000);
    await expectSound(db);
  });
});

describe("Stripe's events of the inbox", () => {
  async function deliver(type: string, object: unknown, id = `evt_${randomUUID()}`) {
    const received = await db.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: id,
      event_type: type,
      payload: { id, type, data: { object } },
    });
    return received as { webhook_event_id: number; created: boolean };
  }
  const apply = (webhook_event_id: number | null) =>
    db.service.call<string>("billing.apply_stripe_event", { webhook_event_id });

  test("are received once, get a job, and bring the credits once however often they are applied", async () => {
    const { workspaceId, session } = await topUp();
    const first = await deliver("checkout.session.completed", session, `evt_${session.id}`);
    const again = await deliver("checkout.session.completed", session, `evt_${session.id}`);
    expect(again).toEqual({ ...first, created: false });
    const other = await deliver("checkout.session.async_payment_succeeded", session);
    const jobs = await db.service.rpc("ops.claim_jobs", { worker: "w", queues: ["webhooks"] });
    expect(jobs.map(({ kind, payload }) => [kind, payload.webhook_event_id])).toEqual([
      ["webhook.stripe", first.webhook_event_id],
      ["webhook.stripe", other.webhook_event_id],
    ]);
    for (const { payload } of [...jobs, ...jobs])
      expect(await apply(payload.webhook_event_id)).toBe("applied");
    await db.service.rpc("ops.complete_jobs", {
      worker: "w",
      results: jobs.map(({ id }) => ({ id, output: { ignored: false } })),
    });
    const stored = await db.query("select status from ops.webhook_events where id = any ($1)", [
      [first.webhook_event_id, other.webhook_event_id],
    ]);
    expect(stored).toEqual([{ status: "processed" }, { status: "processed" }]);
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(500000);
    await expectSound(db);
  });

  test("that failed or expired end the payment without credits", async () => {
    for (const [type, status] of [
      ["checkout.session.async_payment_failed", "failed"],
      ["checkout.session.expired", "expired"],
    ] as const) {
      const { workspaceId, payment, session } = await topUp();
      const object = {
        ...session,
        payment_status: "unpaid",
        status: status === "expired" ? "expired" : "complete",
      };
      const { webhook_event_id } = await deliver(type, object);
      expect(await apply(webhook_event_id)).toBe("applied");
      expect((await paymentNow(payment.id)).status).toBe(status);
      expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    }
  });

  test("of other types, of foreign sessions, of other providers and unknown ones are ignored", async () => {
    const { session } = await topUp();
    const before = await books(db);
    const ignored = [
      await deliver("customer.created", session),
      await deliver("checkout.session.completed", { ...session, id: "cs_f", client_reference_id: null }),
      await deliver("checkout.session.completed", null),
    ].map(({ webhook_event_id }) => webhook_event_id);
    const { webhook_event_id: foreign } = await db.service.call("ops.receive_webhook", {
      provider: "fal",
      event_id: randomUUID(),
      event_type: "checkout.session.completed",
      payload: { data: { object: session } },
    });
    for (const id of [...ignored, foreign, 999999, null])
      expect([id, await apply(id)]).toEqual([id, "ignored"]);
    expect(await books(db)).toEqual(before);
  });
});
