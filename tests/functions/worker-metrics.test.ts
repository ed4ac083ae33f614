import { expect, test } from "vitest";
import { createApp, type Deps } from "../../functions/worker/app.ts";
import { completed, JobError } from "../../functions/worker/job.ts";
import { metricsText } from "../../functions/worker/metrics.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
await testDb.query(
  "insert into ops.job_kinds (kind, description) values ('test.one', 'A kind of these tests.')",
);

const { log, lines } = keptLog();
const deps: Deps = {
  db,
  log,
  limits: { ...platformLimits, idleMs: 30, pollMs: 5 },
  secretKeys: ["sb_secret_right"],
  handOn: () => {},
  handlers: {
    "test.one": async ({ payload }, context) => {
      context.log.info("at work");
      if (payload.fail) throw new JobError("provider_unavailable", "Busy.", { retry: false });
      return completed();
    },
  },
};
const app = createApp(deps);
const headers = { apikey: "sb_secret_right" };
const enqueue = (payload: object) => testDb.service.call("ops.enqueue_job", { kind: "test.one", payload });

test("GET /worker/health says that the database answers and what kinds of work are known, and 503 when it does not", async () => {
  const response = await app.request("/worker/health", { headers });
  expect([response.status, await response.json()]).toEqual([200, { ok: true, kinds: ["test.one"] }]);

  const gone = Object.assign(new Error("connect ECONNREFUSED 10.0.0.1:5432"), { code: "ECONNREFUSED" });
  const failing = { ...db, row: () => Promise.reject(gone), rows: () => Promise.reject(gone) };
  const broken = createApp({ ...deps, db: failing });
  const refused = await broken.request("/worker/health", { headers });
  expect(refused.status).toBe(503);
  expect(errorEnvelope.parse(await refused.json()).error.code).toBe("temporarily_unavailable");
  expect((await broken.request("/worker/metrics", { headers })).status).toBe(503);
});

test("GET /worker/metrics is only for the secret key", async () => {
  for (const wrong of [{}, { apikey: "sb_publishable_x" }]) {
    const response = await app.request("/worker/metrics", { headers: wrong as Record<string, string> });
    expect(response.status).toBe(401);
    expect(errorEnvelope.parse(await response.json()).error.code).toBe("not_allowed");
  }
});

test("GET /worker/metrics answers the queue's figures in Prometheus' text format", async () => {
  await enqueue({});
  await enqueue({ fail: true, provider: "fal" });
  expect((await app.request("/worker", { method: "POST", headers })).status).toBe(200);
  await enqueue({});
  const response = await app.request("/worker/metrics", { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  expect(text.endsWith("\n")).toBe(true);
  const samples = text.split("\n").slice(0, -1);
  for (const line of samples) {
    expect(line).toMatch(
      /^(# HELP backlot_\w+ [A-Z].+\.|# TYPE backlot_\w+ gauge|backlot_\w+(\{(\w+="[^"]*",?)+\})? \d+(\.\d+)?(e-?\d+)?)$/,
    );
  }
  expect(samples).toContain('backlot_queue_jobs{kind="test.one",queue="default",state="queued"} 1');
  expect(samples).toContain('backlot_queue_jobs{kind="test.one",queue="default",state="dead"} 1');
  expect(samples).toContain('backlot_attempts_per_minute{kind="test.one",outcome="completed"} 0.2');
  expect(samples).toContain(
    'backlot_failures_last_hour{code="provider_unavailable",kind="test.one",provider="fal"} 1',
  );
  expect(samples).toContain("backlot_workers_alive 0");
});

test("every figure has its help and type once, right before its samples", async () => {
  const text = await (await app.request("/worker/metrics", { headers })).text();
  const names = [...text.matchAll(/^# HELP (\w+) (.+)$/gm)].map(([, name, help]) => {
    expect(help).not.toBe(name);
    return name;
  });
  expect(new Set(names).size).toBe(names.length);
  expect([...text.matchAll(/^# TYPE (\w+) gauge$/gm)].map(([, name]) => name)).toEqual(names);
  let current = "";
  for (const line of text.trimEnd().split("\n")) {
    const name = /^(?:# (?:HELP|TYPE) )?(\w+)/.exec(line)![1]!;
    if (line.startsWith("# HELP")) current = name;
    expect(name).toBe(current);
  }
});

test("labels with quotes, backslashes and line breaks are escaped", () => {
  expect(metricsText([{ name: "backlot_queue_jobs", labels: { queue: 'a"b\\c\nd' }, value: 1 }])).toBe(
    "# HELP backlot_queue_jobs Open and dead jobs by queue, kind and state.\n" +
      '# TYPE backlot_queue_jobs gauge\nbacklot_queue_jobs{queue="a\\"b\\\\c\\nd"} 1\n',
  );
});

test("all that the worker says of a job carries its id, kind and correlation", async () => {
  await testDb.query(clearJobs);
  const { job_id } = await enqueue({ fail: true });
  lines.length = 0;
  await app.request("/worker", { method: "POST", headers });
  const [job] = await testDb.query("select correlation_id from ops.jobs where id = $1", [job_id]);
  const said = lines.filter(({ message }) => ["at work", "job failed"].includes(message));
  expect(said).toHaveLength(2);
  for (const line of said)
    expect(line).toMatchObject({ job_id, kind: "test.one", correlation_id: job!.correlation_id });
});
