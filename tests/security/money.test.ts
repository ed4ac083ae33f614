import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { settleCheckout, startTopUp } from "../billing/checkout.ts";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, inconsistent, noon, type Studio } from "../studio/studio.ts";

// Attempts to get something for nothing, or to use up what everybody shares.

let db: Studio;
let thief: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  thief = await db.brand();
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(inconsistent)).toEqual([]);
  };
});

const cancel = (creation: Row) =>
  db.user(thief.id).call("studio.cancel_creation", { creation_id: creation.id });
const sayMade = (creation: Row) =>
  db.service.call("ops.checkpoint_job", {
    worker: "w",
    id: creation.job_id,
    progress: 80,
    stage: "fetching",
  });

describe("pictures for nothing", () => {
  test("a creation whose pictures are being stored cannot be cancelled", async () => {
    const creation = await db.request(thief, { num_outputs: 4 });
    await db.claim();
    expect(await sayMade(creation)).toBe(true);
    await expectError(cancel(creation), "creation_ended", "PT409");
    expect(await db.finish([creation])).toEqual({ [creation.job_id]: "completed" });
    expect((await db.charge(creation)).status).toBe("captured");
  });

  test("nor between two attempts to store them", async () => {
    const creation = await db.request(thief);
    await db.claim();
    await sayMade(creation);
    await db.jobs.fail("w", creation.job_id, "storage_unavailable: Later.", "5 minutes");
    await expectError(cancel(creation), "creation_ended", "PT409");
    await db.advanceClock("5 minutes");
    expect(await db.finish([creation])).toEqual({ [creation.job_id]: "completed" });
  });

  test("cancelled and made at once: either nothing is stored, or it is not cancelled", async () => {
    const creations: Row[] = [];
    for (let i = 0; i < 24; i++) creations.push(await db.request(thief));
    await db.claim();
    const ends = await Promise.all(
      creations.map(async (creation, i) => {
        const stop = () => cancel(creation).then(({ status }) => status as string, String);
        const made = () => sayMade(creation);
        const [first, second] = await Promise.all(i % 2 === 0 ? [stop(), made()] : [made(), stop()]);
        return i % 2 === 0 ? [first, second] : [second, first];
      }),
    );
    for (const [stopped, mayStore] of ends) expect(stopped === "cancelled").toBe(mayStore === false);
    await db.finish(creations);
  });
});

test("what failed inside is not told to the person, in no place", async () => {
  const creation = await db.request(thief);
  await db.claim();
  const inside = 'relation "ops.secrets" does not exist at postgres://postgres:secret@db/postgres';
  await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error: inside, retry: false }]);
  const [told] = await db
    .user(thief.id)
    .query("select * from messaging.notifications where user_id = $1 and type = 'error'", [thief.id]);
  expect(told).toMatchObject({
    description: "Nothing was charged. The work failed for a reason on our side.",
  });
  expect(JSON.stringify([told, await db.creation(creation.id)])).not.toContain("ops.secrets");
});

describe("open payments, each asked about at the provider,", () => {
  const begin = (user: Brand, key?: string) =>
    startTopUp(db.user(user.id), user.workspaceId, "starter", key ?? null);

  test("are 20 for a person, in all workspaces together and begun at once", async () => {
    const other = await db
      .user(thief.id)
      .call("identity.create_workspace", { name: "Another purse", slug: null });
    const calls = Array.from({ length: 30 }, (_, i) =>
      startTopUp(db.user(thief.id), i % 2 ? thief.workspaceId : other.id, "starter", null),
    );
    const refused = (await Promise.allSettled(calls)).filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(10);
    const { facts } = await expectError(begin(thief), "too_many_payments", "PT429");
    expect(facts).toEqual({ most: 20 });
    expect((await begin(await db.brand())).status).toBe("pending");
  });

  test("do not keep a begun one from being answered again, and end with a day", async () => {
    const first = await begin(thief, "k");
    for (let i = 1; i < 20; i++) await begin(thief);
    await expectError(begin(thief), "too_many_payments");
    expect((await begin(thief, "k")).id).toBe(first.id);
    await db.setClock("2100-01-01T00:00:00Z");
    expect((await begin(thief)).status).toBe("pending");
  });
});

describe("a payment link of ours, whose reference the payer chooses,", () => {
  const link = (reference: string, more: object = {}) => ({
    id: `cs_link_${reference}`,
    client_reference_id: reference,
    status: "complete",
    payment_status: "paid",
    amount_total: 500,
    currency: "usd",
    payment_intent: `pi_link_${reference}`,
    metadata: {},
    ...more,
  });

  test.each([
    ["paid", {}],
    ["that waits for the money", { payment_status: "unpaid" }],
    ["with the metadata of another payment", { metadata: { payment_id: crypto.randomUUID() } }],
    ["without metadata", { metadata: null }],
  ])("%s, settles no top-up", async (_name, more) => {
    const payment = await startTopUp(db.user(thief.id), thief.workspaceId, "starter");
    const before = await db.balance(thief.workspaceId);
    expect((await settleCheckout(db.service, link(payment.id, more))).id).toBeNull();
    expect(await db.balance(thief.workspaceId)).toEqual(before);
    const ours = link(payment.id, { id: `cs_${payment.id}`, metadata: { payment_id: payment.id } });
    expect(await settleCheckout(db.service, ours)).toMatchObject({ id: payment.id, status: "succeeded" });
  });
});
