import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newTopUp } from "../billing/checkout.ts";
import { expectError } from "../helpers/errors.ts";
import { createStudio, resultPaths, type Studio } from "../studio/studio.ts";
import { describeNode, type Explained, explained } from "./plans.ts";

let db: Studio;
beforeAll(async () => {
  db = await createStudio();
  await db.query("insert into ops.job_kinds (kind, description) values ('test.plain', 'Does nothing.')");
});

const ofJob = async (id: number): Promise<string> =>
  (await db.query("select correlation_id from ops.jobs where id = $1", [id]))[0]!.correlation_id;
const trace = (correlation_id: string) => db.service.rpc("ops.trace", { correlation_id });
const list = async (correlation_id: string) =>
  (await trace(correlation_id)).map(({ what, state }) => `${what} ${state}`);
const claim = async () => (await db.jobs.claim("w", { max: 100 })).map(({ id }) => id);
const receive = (provider: string, event_id: string, event_type: string, payload: object) =>
  db.service.call("ops.receive_webhook", { provider, event_id, event_type, payload });

describe("one id", () => {
  test("follows a creation from its request through charge, ledger, attempts and webhook to its end", async () => {
    const creation = await db.request(await db.brand());
    const id = await ofJob(creation.job_id);
    await claim();
    const run = { provider: "fal", runs: [{ provider: "fal", request_id: "req-1" }] };
    await db.service.call("ops.checkpoint_job", { worker: "w", id: creation.job_id, checkpoint: run });
    expect(await list(id)).toEqual([
      "creation processing",
      "usage_event held",
      "ledger_transaction authorize",
      "job running",
      "attempt running",
    ]);
    await db.jobs.complete("w", [{ id: creation.job_id, outcome: "waiting", wait_key: "fal:req-1" }]);
    await receive("fal", "req-1", "result", { ok: true });
    await claim();
    await db.jobs.complete("w", [{ id: creation.job_id, output: { result_paths: resultPaths(creation) } }]);

    expect(await list(id)).toEqual([
      "creation completed",
      "usage_event captured",
      "ledger_transaction authorize",
      "job completed",
      "attempt waiting",
      "webhook_event processed",
      "attempt completed",
      "ledger_transaction capture",
    ]);
    const rows = await trace(id);
    expect(rows.map(({ at }) => at)).toEqual(rows.map(({ at }) => at).toSorted((a, b) => a - b));
    expect(rows[0]!.detail).toMatchObject({
      provider: "fal",
      provider_request_id: "req-1",
      cost_micro: 2298,
    });
    expect(rows[4]).toMatchObject({
      id: `${creation.job_id}:1`,
      detail: { kind: "studio.creation", provider: "fal", worker: "w" },
    });
    expect(rows.at(-1)!.detail).toMatchObject({
      amount_micro: 2298,
      usage_event_id: creation.usage_event_id,
    });
  });

  test("finds the callback that came before its job waited", async () => {
    const creation = await db.request(await db.brand());
    await receive("fal", "early", "result", {});
    await claim();
    await db.jobs.complete("w", [{ id: creation.job_id, outcome: "waiting", wait_key: "fal:early" }]);
    expect(await list(await ofJob(creation.job_id))).toContain("webhook_event processed");
    await db.service.call("ops.cancel_job", { id: creation.job_id });
  });

  test("goes on to the jobs that a cancelled creation leaves, and to the charge of its replay", async () => {
    const cancelled = await db.request(await db.brand());
    await claim();
    const checkpoint = { provider: "fal", runs: [{ provider: "fal", request_id: "req-2" }] };
    await db.service.call("ops.checkpoint_job", { worker: "w", id: cancelled.job_id, checkpoint });
    await db.service.call("ops.cancel_job", { id: cancelled.job_id });
    const rows = await trace(await ofJob(cancelled.job_id));
    expect(rows.map(({ what, state }) => `${what} ${state}`)).toEqual([
      "creation cancelled",
      "usage_event released",
      "ledger_transaction authorize",
      "job cancelled",
      "attempt cancelled",
      "ledger_transaction release",
      "job queued",
    ]);
    expect(rows.at(-1)!.detail.kind).toBe("studio.cancel_at_provider");

    const failed = await db.request(await db.brand());
    await claim();
    await db.jobs.complete("w", [{ id: failed.job_id, outcome: "failed", error: "x: No.", retry: false }]);
    await db.service.call("ops.replay_job", { id: failed.job_id });
    const charges = (await list(await ofJob(failed.job_id))).filter((line) => line.startsWith("usage"));
    expect(charges).toEqual(["usage_event released", "usage_event held"]);
    await db.service.call("ops.cancel_job", { id: failed.job_id });
  });

  test("leads from a payment's webhook to its job and the credits, and from the payment to the credits too", async () => {
    const { payment, session } = await newTopUp(db);
    await receive("stripe", `evt_${payment.id}`, "checkout.session.completed", { data: { object: session } });
    const [event] = await db.query("select * from ops.webhook_events where event_id = $1", [
      `evt_${payment.id}`,
    ]);
    await claim();
    await db.service.call("billing.apply_stripe_event", { webhook_event_id: event!.id });
    await db.jobs.complete("w", [{ id: event!.job_id, output: {} }]);
    expect(await list(event!.correlation_id)).toEqual([
      "webhook_event processed",
      "job completed",
      "attempt completed",
      "ledger_transaction purchase",
      "job queued",
    ]);
    const [root] = await db.query("select correlation_id from billing.payments where id = $1", [payment.id]);
    expect(await list(root!.correlation_id)).toEqual([
      "payment succeeded",
      "job scheduled",
      "ledger_transaction purchase",
    ]);
  });

  test("is shared by children and by what a schedule's job leaves, and by nothing else of the same call", async () => {
    const parent = await db.jobs.enqueue();
    const child = await db.jobs.enqueue({ parent_id: parent });
    const other = await db.jobs.enqueue();
    expect(await ofJob(child)).toBe(await ofJob(parent));
    expect(await ofJob(other)).not.toBe(await ofJob(parent));
    const service = await db.connect("service");
    await service.begin();
    const [first] = await service.rpc("ops.receive_webhook", hook("a"));
    const [second] = await service.rpc("ops.receive_webhook", hook("b"));
    await service.commit();
    await service.close();
    const ids = await db.query(
      `select e.correlation_id = j.correlation_id as same, e.correlation_id
        from ops.webhook_events e join ops.jobs j on j.id = e.job_id where e.id = any ($1)`,
      [[first!.webhook_event_id, second!.webhook_event_id]],
    );
    expect(ids.map(({ same }) => same)).toEqual([true, true]);
    expect(new Set(ids.map(({ correlation_id }) => correlation_id)).size).toBe(2);
  });
});

function hook(event_id: string) {
  return { provider: "stripe", event_id: `evt_${event_id}_${randomUUID()}`, event_type: "x", payload: {} };
}

describe("attempts", () => {
  const attempts = (id: number) =>
    db.query(
      "select attempt, outcome, worker, error, provider from ops.job_attempts where job_id = $1 order by attempt",
      [id],
    );

  test("are kept one by one with their worker, time, error and provider", async () => {
    await db.setClock("2026-11-21T12:00:00Z");
    const id = await db.jobs.enqueue({ payload: { provider: "fal" }, max_attempts: 3 });
    const step = async (worker: string, end: () => Promise<unknown>) => {
      await db.jobs.claim(worker, { max: 100 });
      await db.advanceClock("5 seconds");
      await end();
      await db.advanceClock("1 minute");
      await db.service.rpc("ops.tick");
    };
    await step("a", () => db.jobs.fail("a", id, "busy: Later.", "1 second"));
    await step("b", () => db.jobs.complete("b", [{ id, outcome: "waiting", poll_in: 1 }]));
    await step("c", async () => {});
    await step("d", () =>
      db.jobs.complete("d", [{ id, outcome: "failed", error: "busy: No.", retry: false }]),
    );
    expect(await attempts(id)).toEqual([
      { attempt: 1, outcome: "retrying", worker: "a", error: "busy: Later.", provider: "fal" },
      { attempt: 2, outcome: "waiting", worker: "b", error: null, provider: "fal" },
      {
        attempt: 3,
        outcome: "retrying",
        worker: "c",
        error: "worker_lost: The worker let its lease run out.",
        provider: "fal",
      },
      { attempt: 4, outcome: "dead", worker: "d", error: "busy: No.", provider: "fal" },
    ]);
    const [first] = await db.query("select * from ops.job_attempts where job_id = $1 and attempt = 1", [id]);
    expect(first!.ended_at - first!.started_at).toBe(5_000);
    await db.setClock(null);
  });

  test("never change, and go after 90 days", async () => {
    await expectError(db.query("update ops.ended_attempts set error = 'x'"), "immutable_row");
    await expectError(db.service.query("delete from ops.ended_attempts"), "42501");
    const old = () => db.query("select from ops.job_attempts where ended_at < now() - interval '90 days'");
    await db.query(
      `insert into ops.ended_attempts (job_id, attempt, kind, outcome, started_at, ended_at)
        select -n, 1, 'test.plain', 'waiting', now() - interval '91 days', now() - interval '91 days'
        from generate_series(1, 10) n`,
    );
    expect(await old()).toHaveLength(10);
    expect(await db.service.call("ops.prune_job_attempts")).toBe(10);
    expect(await old()).toHaveLength(0);
  });
});

// TRACE_ROWS=900000 measures with 11 million rows in all, which take some minutes to make.
describe("with many rows", () => {
  const size = Number(process.env.TRACE_ROWS ?? 10_000);
  let explain: Explained;
  let one: string;
  beforeAll(async () => {
    const { workspaceId } = await db.brand();
    const connection = await db.connect("superuser");
    // only the rows count: no triggers, no foreign keys
    await connection.query("set session_replication_role = 'replica'");
    const insert = (sql: string) => connection.query(sql, [size, workspaceId]);
    await connection.query(
      "create table public.roots as select n, gen_random_uuid() as id, gen_random_uuid() as charge from generate_series(1, $1::integer) n",
      [size],
    );
    await insert(`insert into ops.finished_jobs
      select p.*
      from public.roots r, (select * from ops.finished_jobs limit 1) f, lateral jsonb_populate_record(null::ops.finished_jobs, to_jsonb(f) || jsonb_build_object(
        'id', nextval('ops.job_ids'), 'kind', 'test.plain', 'state', 'completed', 'correlation_id', r.id,
        'workspace_id', $2::uuid, 'attempt', 2)) p where $1::integer > 0`);
    await insert(`insert into ops.job_correlations select correlation_id, id from ops.finished_jobs
      where workspace_id = $2::uuid and $1::integer > 0`);
    await insert(`insert into ops.ended_attempts (job_id, attempt, kind, outcome, started_at, ended_at)
      select id, 1, 'test.plain', 'waiting', now(), now() from ops.finished_jobs where workspace_id = $2::uuid and $1::integer > 0`);
    await insert(`insert into ops.webhook_events (provider, event_id, event_type, payload, status, processed_at, correlation_id)
      select 'fal', 'many-' || n, 'x', '{}', 'processed', now(), id from public.roots
      where $1::integer > 0 and $2::uuid is not null`);
    await insert(`insert into billing.usage_events (id, workspace_id, meter_id, quantity, unit_amount_micro, amount_micro,
        captured_micro, status, key, content_hash, hold_expires_at, completed_at, correlation_id)
      select charge, $2::uuid, m.id, 1, 5, 5, 5, 'captured', 'many-' || n, ''::bytea, now(), now(), r.id
      from public.roots r, (select id from billing.meters limit 1) m where $1::integer > 0`);
    await insert(`insert into billing.ledger_transactions (workspace_id, kind, usage_event_id, event_at, correlation_id)
      select $2::uuid, k, charge, now(), id from public.roots, unnest(array['authorize', 'capture']) k
      where $1::integer > 0`);
    await insert(`insert into billing.ledger_transactions (workspace_id, kind, event_at, correlation_id)
      select $2::uuid, 'grant', now(), id from public.roots where n % 10 = 0 and $1::integer > 0`);
    await insert(`insert into billing.ledger_entries (transaction_id, line, account_id, amount_micro)
      select t.id, l, 1, case l when 1 then 5 else -5 end from billing.ledger_transactions t, generate_series(1, 2) l
      where not exists (select from billing.ledger_entries e where e.transaction_id = t.id)
        and $1::integer > 0 and $2::uuid is not null`);
    await insert(`insert into billing.payments (workspace_id, kind, amount_minor, currency, correlation_id)
      select $2::uuid, 'subscription', 1, 'USD', id from public.roots where n % 10 = 0 and $1::integer > 0`);
    await insert(`insert into studio.creations (workspace_id, usage_event_id, status, result_paths, cost_micro, completed_at)
      select $2::uuid, charge, 'completed', '{a}', 5, now() from public.roots where $1::integer > 0`);
    await connection.close();
    await db.query("analyze");
    one = (await db.query("select id from public.roots where n = 20"))[0]!.id;
    explain = await explained(db.url);
  }, 3_600_000);
  afterAll(() => explain.end());

  test("a trace reads each table by an index, and hardly a row that it does not show", async () => {
    const nodes = await explain.nodes("select * from ops.trace($1)", [one]);
    const tables = nodes.filter((node) => node["Relation Name"]);
    // a table of a few rows is read whole
    const read = (node: (typeof tables)[number]) =>
      node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0);
    expect(
      tables.filter((node) => node["Node Type"] === "Seq Scan" && read(node) > 20).map(describeNode),
    ).toEqual([]);
    expect(
      tables.filter((node) => node["Node Type"] !== "Seq Scan" && read(node) > 4).map(describeNode),
    ).toEqual([]);
    const shown = await trace(one);
    expect(shown.map(({ what }) => what).toSorted()).toEqual([
      "attempt",
      "attempt",
      "creation",
      "job",
      "ledger_transaction",
      "ledger_transaction",
      "ledger_transaction",
      "payment",
      "usage_event",
      "webhook_event",
    ]);
  });

  test("a trace takes less than 50 ms", async () => {
    const fastest = await explain.time("select * from ops.trace($1)", [one]);
    if (process.env.TRACE_ROWS) console.log(`a trace among ${size} roots: ${fastest.toFixed(2)} ms`);
    expect(fastest).toBeLessThan(50);
  });
});
