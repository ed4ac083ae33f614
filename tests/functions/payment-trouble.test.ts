import Stripe from "stripe";
import { beforeEach, describe, expect, test } from "vitest";
import { RazorpayError } from "../../functions/_shared/razorpay.ts";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { syncDisputes } from "../../functions/worker/handlers/sync-disputes.ts";
import { paymentTrouble } from "../../functions/worker/payment-trouble.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
await testDb.query("update ops.sweeps set next_run_at = 'infinity'");

let answer: () => Response;
/** Stripe's client, whose own repetitions are off. */
const stripe = createStripe("sk_test_x", "http://stripe.test", async () => answer());
const says = (status: number, error: object = {}, headers: Record<string, string> = {}) => {
  answer = () =>
    Response.json({ error }, { status, headers: { "stripe-should-retry": "false", ...headers } });
};
const thrown = () =>
  stripe.disputes.list().then(
    () => undefined,
    (error: unknown) => error,
  );

describe("a failed call of Stripe", () => {
  test.each([
    ["429 with a time", 429, {}, { "retry-after": "7" }, { provider: "busy", retryIn: 7 }],
    ["429 without one", 429, {}, {}, { provider: "busy" }],
    ["429 because somebody else changes the object", 429, { code: "lock_timeout" }, {}, undefined],
    ["500", 500, {}, {}, { provider: "failed" }],
    ["503", 503, {}, {}, { provider: "failed" }],
    ["400", 400, { type: "invalid_request_error" }, {}, undefined],
    ["402", 402, { type: "card_error" }, {}, undefined],
    ["401", 401, {}, {}, undefined],
  ])("that is answered %s", async (_, status, error, headers, trouble) => {
    says(status, error, headers);
    const failure = await thrown();
    expect(failure).toBeInstanceOf(Stripe.errors.StripeError);
    expect(paymentTrouble(failure)).toEqual(trouble);
  });

  test("that is not answered at all", async () => {
    const gone = createStripe("sk_test_x", "http://stripe.test", () =>
      Promise.reject(new Error("ECONNREFUSED")),
    );
    const failure = await gone.disputes.list({}, { maxNetworkRetries: 0 }).catch((error: unknown) => error);
    expect(paymentTrouble(failure)).toEqual({ provider: "failed" });
  });
});

test.each([
  [new RazorpayError(false, "unreachable", "No answer."), { provider: "failed" }],
  [new RazorpayError(false, "SERVER_ERROR", "Trouble.", { status: 502 }), { provider: "failed" }],
  [new RazorpayError(false, "BAD_REQUEST_ERROR", "Slower.", { status: 429 }), { provider: "busy" }],
  [new RazorpayError(true, "BAD_REQUEST_ERROR", "No.", { status: 400 }), undefined],
  [new RazorpayError(false, "unexpected_answer", "What?"), undefined],
  [new Error("of ours"), undefined],
  [undefined, undefined],
])("of Razorpay and of others: %s", (error, trouble) => {
  expect(paymentTrouble(error)).toEqual(trouble);
});

describe("jobs that depend on Stripe", () => {
  const { log } = keptLog();
  const work = () => workOnce({ db, handlers: { "billing.sync_disputes": syncDisputes(stripe) }, log });
  const jobs = () => testDb.query("select state, failed_attempts, error from ops.jobs order by id");
  const add = async (n: number) => {
    for (; n > 0; n--)
      await testDb.service.call("ops.enqueue_job", {
        kind: "billing.sync_disputes",
        payload: {},
        max_attempts: 50,
      });
  };
  beforeEach(async () => {
    await testDb.setClock("2026-11-21T12:00:00Z");
    await testDb.query(`truncate ${queueTables}, ops.workers cascade; delete from ops.limit_keys;
      delete from ops.circuit_breakers`);
  });

  test("wait all when it asks one of them to, and count no failure", async () => {
    says(429, {}, { "retry-after": "45" });
    await add(1);
    await work();
    expect(await jobs()).toMatchObject([{ state: "scheduled", failed_attempts: 0 }]);
    answer = () => Response.json({ object: "list", data: [], has_more: false });
    await add(2);
    await work();
    expect((await jobs()).map(({ state }) => state)).toEqual(["scheduled", "queued", "queued"]);
    await testDb.advanceClock("46 seconds");
    await testDb.service.rpc("ops.tick");
    await work();
    expect((await jobs()).map(({ state }) => state)).toEqual(["completed", "completed", "completed"]);
  });

  test("stop when it is in trouble, and go on when one of them finds it well", async () => {
    says(503);
    await add(5);
    await work();
    expect(await testDb.query("select name, state from ops.circuit_breakers")).toEqual([
      { name: "provider:stripe", state: "open" },
    ]);
    answer = () => Response.json({ object: "list", data: [], has_more: false });
    await add(3);
    await work();
    expect((await jobs()).filter(({ state }) => state === "completed")).toEqual([]);
    await testDb.advanceClock("31 seconds");
    await testDb.service.rpc("ops.tick");
    for (let turn = 0; turn < 3; turn++) await work();
    expect((await jobs()).filter(({ state }) => state === "completed")).toHaveLength(8);
    expect(await testDb.query("select state from ops.circuit_breakers")).toEqual([{ state: "closed" }]);
  });
});
