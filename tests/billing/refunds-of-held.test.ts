// Money that goes back while work still has the credits it bought: they are missing then, and are taken when they come
// back. What was bought later, and what was given, is nobody's debt.
import { randomUUID } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  grant,
  newWorkspace,
  pay,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase({ poolSize: 20 });
});

/** A payment of 5 USD that brought 1,000 micro-units. */
async function bought(kind = "prepaid") {
  const { workspaceId } = await newWorkspace(db);
  const payment = await pay(db, workspaceId, 1000, kind);
  await db.query("update billing.payments set provider_payment_id = $2 where id = $1", [
    payment,
    `pi_${payment}`,
  ]);
  const tell = (status: string, cents = 500) =>
    db.service.call<string>("billing.apply_refund", {
      provider: "stripe",
      provider_payment_id: `pi_${payment}`,
      provider_refund_id: `re_${payment}`,
      amount_minor: cents,
      status,
    });
  const dispute = (status: string, cents = 500) =>
    db.service.call<string>("billing.apply_dispute", {
      provider: "stripe",
      provider_payment_id: `pi_${payment}`,
      provider_dispute_id: `dp_${payment}`,
      amount_minor: cents,
      status,
    });
  const taken = async () =>
    (
      await db.query("select taken_micro, missing_micro from billing.payment_refunds where payment_id = $1", [
        payment,
      ])
    )[0];
  const available = async () => (await balance(db.service, workspaceId)).available_micro;
  return { workspaceId, payment, tell, dispute, taken, available };
}

test.each(["prepaid", "purchase"])("held %s credits are taken when the hold is released", async (kind) => {
  const { workspaceId, tell, taken, available } = await bought(kind);
  const { usage_event_id } = await authorize(db.service, workspaceId, 800);
  await tell("succeeded");
  expect(await taken()).toEqual({ taken_micro: 200, missing_micro: 800 });
  for (let i = 0; i < 2; i++) await release(db.service, usage_event_id);
  expect(await taken()).toEqual({ taken_micro: 1000, missing_micro: 0 });
  expect(await available()).toBe(0);
  await expectSound(db);
});

test("of a hold that is captured in part only the rest is taken; what was worked for stays missing", async () => {
  const { workspaceId, tell, taken, available } = await bought();
  const { usage_event_id } = await authorize(db.service, workspaceId, 800);
  await tell("succeeded");
  await capture(db.service, usage_event_id, 300);
  expect(await taken()).toEqual({ taken_micro: 700, missing_micro: 300 });
  await refund(db.service, usage_event_id, "half of it was bad", 100);
  await refund(db.service, usage_event_id, "the other half, too", 100);
  expect(await taken()).toEqual({ taken_micro: 900, missing_micro: 100 });
  expect(await available()).toBe(0);
  await expectSound(db);
});

test("no more is taken than was refunded, and nothing of what was given or bought later", async () => {
  const { workspaceId, tell, taken, available } = await bought();
  await grant(db.service, workspaceId, 50, "promotion");
  const before = await authorize(db.service, workspaceId, 950);
  await tell("pending", 250);
  expect(await taken()).toEqual({ taken_micro: 100, missing_micro: 400 });
  await pay(db, workspaceId, 600);
  const after = await authorize(db.service, workspaceId, 600);
  await release(db.service, after.usage_event_id);
  expect(await available()).toBe(600);
  await release(db.service, before.usage_event_id);
  expect(await taken()).toEqual({ taken_micro: 500, missing_micro: 0 });
  // the promotion's 50, the half that was not refunded, and what was bought later
  expect(await available()).toBe(50 + 500 + 600);
  await expectSound(db);
});

test("a refund that fails in the end gives all of it back, and nothing is taken after that", async () => {
  const { workspaceId, tell, available } = await bought();
  const [early, late] = [
    await authorize(db.service, workspaceId, 300),
    await record(db.service, workspaceId, 400),
  ];
  await tell("pending");
  await release(db.service, early.usage_event_id);
  expect(await available()).toBe(0);
  await tell("failed");
  expect(await available()).toBe(600);
  await refund(db.service, late.usage_event_id);
  expect(await available()).toBe(1000);
  await expectSound(db);
});

test("releases and the refund's end at the same moment wait for each other and leave one sum", async () => {
  const { workspaceId, tell, available } = await bought();
  const holds = await Promise.all(Array.from({ length: 10 }, () => authorize(db.service, workspaceId, 100)));
  await tell("pending");
  await Promise.all([
    ...holds.map(({ usage_event_id }) => release(db.service, usage_event_id, randomUUID())),
    tell("failed"),
    tell("failed"),
  ]);
  expect(await available()).toBe(1000);
  await expectSound(db);
});

test("held credits of a disputed payment are taken when they come back, and the wallet thaws with the last", async () => {
  const { workspaceId, dispute, available } = await bought();
  const holds = [
    await authorize(db.service, workspaceId, 300),
    await authorize(db.service, workspaceId, 200),
  ];
  const walletOf = async () =>
    (
      await db.query("select status, frozen_reason from billing.wallets where workspace_id = $1", [
        workspaceId,
      ])
    )[0];
  await dispute("open");
  for (const { usage_event_id } of holds) {
    expect(await walletOf()).toEqual({ status: "frozen", frozen_reason: "dispute" });
    await release(db.service, usage_event_id);
    expect(await available()).toBe(0);
  }
  expect(await walletOf()).toEqual({ status: "active", frozen_reason: null });
  await dispute("won");
  expect(await available()).toBe(1000);
  await expectSound(db);
});

test("releases and the dispute's end at the same moment leave one sum, too", async () => {
  const { workspaceId, dispute, available } = await bought();
  const holds = await Promise.all(Array.from({ length: 10 }, () => authorize(db.service, workspaceId, 100)));
  await dispute("open");
  await Promise.all([
    ...holds.map(({ usage_event_id }) => release(db.service, usage_event_id)),
    dispute("under_review"),
    dispute("won"),
  ]);
  expect(await available()).toBe(1000);
  await expectSound(db);
});
