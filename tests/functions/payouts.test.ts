import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp as createBilling } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { createApp as createWorker } from "../../functions/worker/app.ts";
import { payoutHandlers } from "../../functions/worker/handlers/payouts.ts";
import { applyEvent } from "../../functions/worker/handlers/webhook-stripe.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { accountBalance, connectData } from "../../supabase/local/standins/stripe/connect.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { onboardingAnswer } from "../../types/contracts-payouts.ts";
import { earn, owed, type Payout, payoutNow, requestPayout } from "../billing/payouts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";
import { type StripeEvent, stripeInProcess } from "./subscription-stage.ts";

const testDb = await createTestDatabase();
const pool = functionsDatabase(testDb);
const stripe = stripeInProcess();
const connect = connectData(stripe.deps);
const start = Date.UTC(2030, 0, 1);
let now = start;

beforeEach(async () => {
  now = start;
  await testDb.setClock(new Date(now));
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
  stripe.deps.control.reset();
  stripe.events.splice(0);
  connect.platformAvailable = null;
});

async function advance(seconds: number): Promise<void> {
  now += seconds * 1000;
  await testDb.setClock(new Date(now));
}

/** The statement after which the worker is lost: what was done outside is done, what it would record is not. */
let crashAt: string | null = null;
const db: Database = {
  ...pool,
  row: (statement, values) => {
    if (statement.name === crashAt) {
      crashAt = null;
      throw new Error("The worker is gone.");
    }
    return pool.row(statement, values);
  },
};

const { log } = keptLog();
const worker = createWorker({
  db,
  log,
  secretKeys: ["key"],
  handOn: () => {},
  limits: { ...platformLimits, idleMs: 0, pollMs: 5 },
  now: () => now,
  handlers: { "webhook.stripe": applyEvent, ...payoutHandlers(stripe.stripe) },
});
const work = async () => {
  await worker.request("/worker", { method: "POST", headers: { apikey: "key" } });
};

async function deliver(events: StripeEvent[]): Promise<void> {
  for (const event of events)
    await testDb.service.call("ops.receive_webhook", {
      provider: "stripe",
      event_id: event.id,
      event_type: event.type,
      payload: JSON.parse(event.body),
    });
  await work();
}
const deliverAll = () => deliver(stripe.events.splice(0));

const backend: Backend = {
  packages: () => Promise.reject(new Error("not used here")),
  startTopUp: () => Promise.reject(new Error("not used here")),
  rpc: (authorization, name, args) =>
    testDb.user(authorization.replace("Bearer ", "")).call(`billing.${name}`, args),
};
const billing = createBilling({
  backend,
  db: pool,
  stripe: stripe.stripe,
  log,
  appOrigins: ["https://app.test"],
});
const pages = { return_url: "https://app.test/done", refresh_url: "https://app.test/again" };
const onboarding = async (user: string | null, body: object) =>
  billing.request("/billing/payouts/onboarding", {
    method: "POST",
    body: JSON.stringify({ ...pages, country: "US", ...body }),
    headers: { "content-type": "application/json", ...(user && { authorization: `Bearer ${user}` }) },
  });

/** A workspace that has gone through the onboarding, with so much payable. */
async function organizer(minor = 5000) {
  const { id: userId, workspaceId } = await testDb.createUser();
  const answer = onboardingAnswer.parse(
    await (await onboarding(userId, { workspace_id: workspaceId })).json(),
  );
  const account = Object.values(connect.accounts).find(
    ({ metadata }) => metadata.payout_account_id === answer.payout_account_id,
  )!;
  await stripe.page(`/connect/onboarding/${account.id}`, { outcome: "complete" });
  await deliverAll();
  await earn(testDb, workspaceId, minor, { hold_days: 0 });
  await testDb.service.call("billing.release_earnings");
  return { userId, workspaceId, accountId: account.id };
}

const made = (payout: Payout) => ({
  transfers: Object.values(connect.transfers).filter(({ metadata }) => metadata.payout_id === payout.id),
  bank: Object.values(connect.bankPayouts).filter(({ metadata }) => metadata.payout_id === payout.id),
});
const bank = (payout: Payout, outcome: string) =>
  stripe.page(`/_bank/${made(payout).bank.at(-1)!.id}`, { outcome });
const statusOf = async (payout: Payout) => (await payoutNow(testDb, payout.id)).status;

async function expectSound(): Promise<void> {
  expect(await testDb.service.rpc("billing.verify_ledger")).toEqual([]);
  expect(await testDb.service.rpc("billing.verify_growth")).toEqual([]);
}

describe("the onboarding", () => {
  test("makes one account, whose capabilities come by its events, and a new page each time", async () => {
    const { id, workspaceId } = await testDb.createUser();
    const before = Object.keys(connect.accounts).length;
    const ask = async () =>
      onboardingAnswer.parse(await (await onboarding(id, { workspace_id: workspaceId })).json());
    const answers = await Promise.all([ask(), ask(), ask()]);
    expect(new Set(answers.map(({ payout_account_id }) => payout_account_id)).size).toBe(1);
    expect(Object.keys(connect.accounts)).toHaveLength(before + 1);
    expect(answers[0]!.url).toMatch(/^https:\/\/stripe\.test\/connect\/onboarding\/acct_/);
    const accountId = answers[0]!.url.split("/").at(-1)!;
    expect(connect.accounts[accountId]).toMatchObject({
      country: "US",
      capabilities: { transfers: "inactive" },
      settings: { payouts: { schedule: { interval: "manual" } } },
    });
    const status = async () =>
      (
        await testDb.query("select status from billing.payout_accounts where workspace_id = $1", [
          workspaceId,
        ])
      )[0]!.status;
    expect(await status()).toBe("pending");
    await stripe.page(`/connect/onboarding/${accountId}`, { outcome: "incomplete" });
    await deliverAll();
    expect(await status()).toBe("restricted");
    await stripe.page(`/connect/onboarding/${accountId}`, { outcome: "complete" });
    stripe.events.splice(0);
    // The event is lost; what the account may do is asked when the next one comes.
    await testDb.service.call("ops.enqueue_job", {
      kind: "billing.refresh_payout_account",
      payload: { payout_account_id: answers[0]!.payout_account_id },
      workspace_id: workspaceId,
    });
    await work();
    expect(await status()).toBe("active");
  });

  test("is for admins of the workspace and returns to our own pages only", async () => {
    const { id, workspaceId } = await testDb.createUser();
    const stranger = await testDb.createUser();
    const body = { workspace_id: workspaceId };
    const codeOf = async (response: Promise<Response>) => {
      const { status, ...rest } = await response.then(async (r) => ({
        status: r.status,
        ...errorEnvelope.parse(await r.json()),
      }));
      return [status, rest.error.code];
    };
    expect(await codeOf(onboarding(null, body))).toEqual([401, "not_signed_in"]);
    expect(await codeOf(onboarding(stranger.id, body))).toEqual([404, "unknown_workspace"]);
    expect(await codeOf(onboarding(id, { ...body, return_url: "https://evil.test/" }))).toEqual([
      400,
      "invalid_argument",
    ]);
    expect(await codeOf(onboarding(id, { ...body, country: "USA" }))).toEqual([400, "invalid_argument"]);
    stripe.deps.control.add({ fail: "submit", http_status: 500 });
    expect(await codeOf(onboarding(id, body))).toEqual([502, "payment_provider_unavailable"]);
    stripe.deps.control.reset();
    expect((await onboarding(id, body)).status).toBe(200);
  });
});

describe("a payout", () => {
  test("is one transfer and one bank payout, and ends by the bank's event", async () => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    const { transfers, bank: sent } = made(payout);
    expect(transfers).toMatchObject([{ amount: 5000, currency: "usd", destination: owner.accountId }]);
    expect(sent).toMatchObject([{ amount: 5000, account: owner.accountId, status: "pending" }]);
    await bank(payout, "paid");
    await deliverAll();
    expect(await payoutNow(testDb, payout.id)).toMatchObject({
      status: "paid",
      provider_transfer_id: transfers[0]!.id,
      settled_minor: 5000,
    });
    expect(await owed(testDb, owner.workspaceId)).toEqual({ held: 0, payable: 0, in_transit: 0 });
    await expectSound();
  });

  test("whose events are lost is asked about every six hours", async () => {
    const payout = await requestPayout(testDb, await organizer());
    await work();
    await bank(payout, "paid");
    stripe.events.splice(0);
    await advance(6 * 3600);
    await work();
    expect(await statusOf(payout)).toBe("paid");
    const [job] = await testDb.query("select state, output from ops.jobs where kind = 'billing.send_payout'");
    expect(job).toEqual({ state: "completed", output: { status: "paid" } });
  });

  test("that Stripe refuses is payable again", async () => {
    const owner = await organizer();
    connect.accounts[owner.accountId]!.capabilities.transfers = "inactive";
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await payoutNow(testDb, payout.id)).toMatchObject({
      status: "failed",
      failure_code: "insufficient_capabilities_for_transfer",
    });
    expect(made(payout).transfers).toEqual([]);
    expect(await owed(testDb, owner.workspaceId)).toMatchObject({ payable: 5_000_000, in_transit: 0 });
    await expectSound();
  });

  test("waits while our balance at Stripe does not cover it", async () => {
    const owner = await organizer();
    connect.platformAvailable = 4999;
    const payout = await requestPayout(testDb, owner);
    await work();
    expect(await statusOf(payout)).toBe("queued");
    connect.platformAvailable = 5000;
    await work();
    expect(await statusOf(payout)).toBe("queued");
    await advance(3600);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout).transfers).toHaveLength(1);
  });

  test.each(["the event", "the answer of the bank payout"])(
    "that the bank refuses, said by %s, is reversed and payable again, once",
    async (by) => {
      const owner = await organizer();
      const payout = await requestPayout(testDb, owner);
      if (by === "the event") {
        await work();
        await bank(payout, "failed");
        await deliverAll();
      } else {
        connect.accounts[owner.accountId]!.payouts_enabled = false;
        await work();
      }
      await work();
      expect(await statusOf(payout)).toBe("failed");
      expect(made(payout).transfers).toMatchObject([{ amount_reversed: 5000, reversed: true }]);
      await deliverAll();
      expect(await owed(testDb, owner.workspaceId)).toEqual({ held: 0, payable: 5_000_000, in_transit: 0 });
      expect(accountBalance(stripe.deps, owner.accountId, "usd")).toBe(0);
      await expectSound();
    },
  );

  test("that was reversed at Stripe by hand, in parts, is payable again and not sent on", async () => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    crashAt = "record_transfer";
    await work();
    const [transfer] = made(payout).transfers;
    await stripe.stripe.transfers.createReversal(transfer!.id, { amount: 2000 });
    await stripe.stripe.transfers.createReversal(transfer!.id, { amount: 3000 });
    await deliver(stripe.events.splice(0).toReversed());
    expect(await statusOf(payout)).toBe("reversed");
    expect(await owed(testDb, owner.workspaceId)).toMatchObject({ payable: 5_000_000, in_transit: 0 });
    await advance(3600);
    await work();
    expect(made(payout)).toMatchObject({ transfers: [{ amount: 5000 }], bank: [] });
    await expectSound();
  });
});

describe("a worker that is lost", () => {
  test.each(["record_transfer", "record_bank_payout"])("before %s makes nothing twice", async (statement) => {
    const owner = await organizer();
    const payout = await requestPayout(testDb, owner);
    crashAt = statement;
    await work();
    expect(crashAt).toBeNull();
    // A day later Stripe has forgotten the idempotency keys.
    stripe.data.idempotency = {};
    stripe.events.splice(0);
    await advance(86_400);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout)).toMatchObject({ transfers: [{ amount: 5000 }], bank: [{ amount: 5000 }] });
    await expectSound();
  });

  test("may have been told by an event first", async () => {
    const payout = await requestPayout(testDb, await organizer());
    crashAt = "record_transfer";
    await work();
    expect(await statusOf(payout)).toBe("queued");
    await deliverAll();
    expect(["transferred", "paying"]).toContain(await statusOf(payout));
    await advance(3600);
    await work();
    expect(await statusOf(payout)).toBe("paying");
    expect(made(payout).transfers).toHaveLength(1);
  });

  test("and any mix of faults come to one transfer, one bank payout and sound books", async () => {
    const faults = [
      "submit",
      "answer",
      "status",
      "record_transfer",
      "record_bank_payout",
      "forget",
      "events",
    ] as const;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...faults), { maxLength: 5 }),
        fc.constantFrom("paid", "failed"),
        async (planned, outcome) => {
          const owner = await organizer(700);
          const payout = await requestPayout(testDb, owner);
          for (const fault of planned) {
            if (fault === "submit" || fault === "answer" || fault === "status")
              stripe.deps.control.add({ fail: fault, times: 3, http_status: 500 });
            else if (fault === "forget") stripe.data.idempotency = {};
            else if (fault === "events") stripe.events.splice(0);
            else crashAt = fault;
            await work();
            stripe.deps.control.reset();
            await advance(7200);
          }
          crashAt = null;
          for (let i = 0; i < 6 && (await statusOf(payout)) !== "paying"; i++) {
            await deliverAll();
            await advance(7200);
            await work();
          }
          await bank(payout, outcome);
          await deliverAll();
          await advance(7200);
          await work();
          await deliverAll();
          const { transfers, bank: sent } = made(payout);
          expect([transfers.length, sent.length, await statusOf(payout)]).toEqual([1, 1, outcome]);
          expect(await owed(testDb, owner.workspaceId)).toEqual({
            held: 0,
            payable: outcome === "paid" ? 0 : 700_000,
            in_transit: 0,
          });
        },
      ),
      { numRuns: 12 },
    );
    await expectSound();
  }, 120_000);
});
