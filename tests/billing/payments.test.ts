import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newTopUp, paymentNow, startTopUp } from "./checkout.ts";
import { balance, billingDatabase, books, expectSound, freshKey, newWorkspace } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query(`insert into billing.credit_packages (slug, name, credits_micro, price_minor, valid_days, is_active) values
    ('gone', 'Gone', 1000, 100, null, false)`);
});

const topUp = () => newTopUp(db);

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
    await expectError(startTopUp(db.user(editor.id), workspaceId, "starter"), "role_too_low", "PT403");
    const stranger = db.user((await db.createUser()).id);
    const unchanged = await books(db);
    for (const id of [workspaceId, randomUUID(), null])
      await expectError(startTopUp(stranger, id, "starter"), "unknown_workspace", "PT404");
    await expectError(startTopUp(db.anon, workspaceId, "starter"), "42501");
    await expectError(startTopUp(db.service, workspaceId, "starter"), "42501");
    expect(await books(db)).toEqual(unchanged);
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
      expect((await paymentNow(db, payment.id)).status).toBe(status);
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
