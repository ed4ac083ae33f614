import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { Row } from "../helpers/session.ts";
import { createStudio, type Studio } from "../studio/studio.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
const statements = [...page.matchAll(/^```sql\n(.*?)^```$/gms)].map(([, sql]) => sql!);

let db: Studio;
let creation: Row;
let event: Row;
beforeAll(async () => {
  db = await createStudio();
  const brand = await db.brand();
  const made = await db.request(brand);
  await db.finish([made]);
  creation = await db.request(brand);
  await db.jobs.claim("w", { max: 10 });
  const failed = { outcome: "failed", error: "provider_unavailable: Down.", retry: false };
  await db.jobs.complete("w", [{ id: creation.job_id, ...failed }]);
  event = { event_id: "evt_1" };
  const hook = { provider: "stripe", event_id: event.event_id, event_type: "x", payload: {} };
  await db.service.call("ops.receive_webhook", hook);
});

/** Runs the page's one statement that matches, as the service. */
function run(pattern: RegExp, params: unknown[] = []): Promise<Row[]> {
  const found = statements.filter((sql) => pattern.test(sql));
  expect(found, String(pattern)).toHaveLength(1);
  tried.add(found[0]!);
  return db.service.query(found[0]!.replace(/;\s*$/, ""), params);
}
const tried = new Set<string>();
const whats = (rows: Row[]) => rows.map(({ what, state }) => `${what} ${state}`);

test("the traces of the page lead from a creation, a webhook and a charge to all that came of it", async () => {
  const expected = [
    "creation failed",
    "usage_event released",
    "ledger_transaction authorize",
    "job dead",
    "attempt dead",
    "ledger_transaction release",
  ];
  expect(whats(await run(/from studio\.creations/, [creation.id]))).toEqual(expected);
  expect(whats(await run(/from billing\.usage_events/, [creation.usage_event_id]))).toEqual(expected);
  expect(whats(await run(/from ops\.webhook_events/, [event.event_id]))).toEqual([
    "webhook_event pending",
    "job queued",
  ]);
});

test("the figures of the page show attempts, depth, throughput and failures", async () => {
  expect(await run(/from ops\.job_attempts/, [creation.job_id])).toMatchObject([
    { attempt: 1, outcome: "dead" },
  ]);
  expect(await run(/from ops\.queue_depth/)).toMatchObject([
    { kind: "studio.creation", state: "dead", jobs: 1 },
    { queue: "webhooks", kind: "webhook.stripe", state: "queued", jobs: 1 },
  ]);
  const kinds = (await run(/from ops\.throughput/)).map(({ kind, completed, failed }) => ({
    kind,
    completed,
    failed,
  }));
  expect(kinds.reduce((sum, { completed }) => sum + completed, 0)).toBe(1);
  expect(await run(/from ops\.failures/)).toMatchObject([{ code: "provider_unavailable", dead: 1 }]);
});

test("the sweeps of the page that fail or stand are found", async () => {
  await db.query("update ops.sweeps set next_run_at = now() + every, last_error = null");
  await db.query("update ops.sweeps set last_error = 'no' where name = 'prune starts'");
  await db.query("update ops.sweeps set next_run_at = now() - 2 * every where name = 'prune flows'");
  expect((await run(/from ops\.sweeps/)).map(({ name }) => name).sort()).toEqual([
    "prune flows",
    "prune starts",
  ]);
});

test("the schedule of the page can be made, looked at and removed", async () => {
  const [made] = await run(/ops\.upsert_schedule/);
  const [next] = await run(/select ops\.cron_next/);
  expect(next!.cron_next).toEqual(made!.next_run_at);
  expect(await run(/from ops\.schedules/)).toMatchObject([{ name: "nightly reconcile", last_error: null }]);
  expect(await run(/ops\.delete_schedule/)).toEqual([{ delete_schedule: true }]);
});

test("the dead jobs of the page are found and replayed, one and many", async () => {
  expect(await run(/where state = 'dead' order by/)).toMatchObject([{ id: creation.job_id }]);
  expect(await run(/ops\.replay_job\(\$1\)/, [creation.job_id])).toEqual([
    { job_id: creation.job_id, state: "queued" },
  ]);
  await db.jobs.claim("w", { max: 10 });
  const error = "provider_unavailable: Down.";
  await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
  expect(await run(/from ops\.replay_jobs/)).toEqual([
    { job_id: creation.job_id, state: "queued", error: null },
  ]);
});

test("files and people: how far the sweep is, who is suspended and who is not any more", async () => {
  expect(await run(/from ops\.file_buckets/)).toHaveLength(7);
  const { id } = await db.createUser();
  expect(await run(/suspend_person/, [id])).toEqual([{ id, status: "suspended" }]);
  expect(await run(/lift_suspension/, [id])).toEqual([{ id, status: "active" }]);
});

test("every statement of the page has been run", () => {
  expect(statements.filter((sql) => !tried.has(sql))).toEqual([]);
});
