// A longer trial that staff grant reaches Stripe, so that nobody is charged at the old end.
import { beforeAll, expect, test } from "vitest";
import { extendTrial } from "../../functions/worker/handlers/extend-trial.ts";
import type { Job, JobContext } from "../../functions/worker/job.ts";
import { clock } from "../../supabase/local/standins/stripe/subscription-state.ts";
import { giveGrant } from "../billing/entitled.ts";
import { keptLog } from "./harness.ts";
import { type Stage, subscriptionStage } from "./subscription-stage.ts";

const day = 86_400;
let s: Stage;
let staffId: string;
beforeAll(async () => {
  s = await subscriptionStage();
  staffId = (await s.testDb.createUser()).id;
});

/** Runs the handler with the jobs that wait, as the worker would. */
async function extend(workspaceId: string): Promise<unknown[]> {
  const jobs = await s.testDb.query(
    "select id, payload from ops.jobs where kind = 'billing.extend_trial' and workspace_id = $1 order by id",
    [workspaceId],
  );
  const context = { db: s.db, log: keptLog().log } as unknown as JobContext;
  const handler = extendTrial(s.stripe);
  return Promise.all(jobs.map(async ({ payload }) => (await handler({ payload } as Job, context)).output));
}

const inDays = (days: number) => clock(s.deps) + days * day;
const iso = (seconds: number) => new Date(seconds * 1000).toISOString();
const give = (workspaceId: string, end: number, key = "longer") =>
  giveGrant(s.testDb, workspaceId, staffId, "trial_extension", key, {
    app: "spikeland",
    expires_at: iso(end),
  });
/** When the trial ends at Stripe. */
const endAtStripe = async (stripeId: string) => (await s.stripe.subscriptions.retrieve(stripeId)).trial_end;

test("Stripe's trial ends with the grant, and the first payment is then", async () => {
  const { workspaceId, stripeId } = await s.subscriber("trial");
  const end = inDays(30);
  expect(await endAtStripe(stripeId)).toBeLessThan(end);
  await give(workspaceId, end);
  await give(workspaceId, end);
  expect(await extend(workspaceId)).toEqual([{ extended: true, trial_end: iso(end) }]);
  expect(await endAtStripe(stripeId)).toBe(end);
  await s.deliverAll();
  expect(await s.rowOf(workspaceId)).toMatchObject({ status: "trialing", trial_end: new Date(iso(end)) });

  await s.pass(20 * day);
  await s.deliverAll();
  expect(await s.rowOf(workspaceId)).toMatchObject({ status: "trialing" });
  await s.pass(11 * day);
  await s.deliverAll();
  expect(await s.rowOf(workspaceId)).toMatchObject({ status: "active" });
  s.forget();
});

test("a grant that ends sooner, is revoked, or has no trial tells Stripe nothing", async () => {
  const { workspaceId, stripeId } = await s.subscriber("trial");
  const before = await endAtStripe(stripeId);
  await give(workspaceId, inDays(5), "shorter");
  expect(await extend(workspaceId)).toEqual([]);
  const { admin_grant_id } = await give(workspaceId, inDays(40));
  await s.testDb.service.call("billing.revoke_admin_grant", {
    admin_grant_id,
    reason: "Mistake",
    revoked_by: staffId,
  });
  expect(await extend(workspaceId)).toEqual([{ extended: false }]);
  expect(await endAtStripe(stripeId)).toBe(before);
  const paying = await s.subscriber("basic");
  await give(paying.workspaceId, inDays(40));
  expect(await extend(paying.workspaceId)).toEqual([]);
  s.forget();
});

test("a trial that has ended meanwhile is not begun again: it has been paid", async () => {
  const { workspaceId, stripeId } = await s.subscriber("trial");
  const before = await endAtStripe(stripeId);
  await give(workspaceId, inDays(60));
  // Stripe takes the first payment; we have not heard of it
  await s.pass(15 * day);
  expect(await s.rowOf(workspaceId)).toMatchObject({ status: "trialing" });
  expect(await extend(workspaceId)).toEqual([{ extended: false }]);
  expect((await s.stripe.subscriptions.retrieve(stripeId)).status).toBe("active");
  expect(await endAtStripe(stripeId)).toBe(before);
  s.forget();
});

test("a failure that may pass is tried again, a refusal is not", async () => {
  const { workspaceId, stripeId } = await s.subscriber("trial");
  const end = inDays(40);
  await give(workspaceId, end);
  s.deps.control.add({ fail: "answer", http_status: 503 });
  await expect(extend(workspaceId)).rejects.toMatchObject({ code: "provider_unavailable", retry: true });
  s.deps.control.reset();
  expect(await extend(workspaceId)).toMatchObject([{ extended: true }]);
  expect(await endAtStripe(stripeId)).toBe(end);

  const lost = await s.subscriber("trial");
  await give(lost.workspaceId, end);
  delete s.data.subscriptions[lost.stripeId];
  await expect(extend(lost.workspaceId)).rejects.toMatchObject({ code: "refused_by_provider", retry: false });
});
