// Webhooks received per second by the real function (signature checked, stored once, job enqueued) beside a
// bare Hono route on the same runtime that inserts one row.
import { type ChildProcess, spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../supabase/local/ports.ts";
import { inTurns, type Line, report, startBench } from "./bench.ts";

const seconds = Number(process.env.BENCH_SECONDS ?? 5);
const root = join(import.meta.dirname, "../..");
const secret = "whsec_bench";
const children: ChildProcess[] = [];
const bench = await startBench(0);
try {
  await bench.admin.query(`create schema bare;
    create table bare.webhook_events (id bigint generated always as identity primary key, provider text not null,
      event_id text not null, event_type text not null, payload jsonb not null, created_at timestamptz not null default now(),
      unique (provider, event_id))`);
  const [ours, bare] = await Promise.all([
    serve("functions/webhooks/index.ts"),
    serve("tests/bench/bare-webhook.ts"),
  ]);
  await Promise.all([flood(ours, 32, 1), flood(bare, 32, 1)]);
  const lines: Line[] = [];
  for (const atOnce of [32, 1]) {
    const figures = await inTurns({
      ours: () => flood(ours, atOnce, seconds),
      bare: () => flood(bare, atOnce, seconds),
    });
    lines.push({
      what: `verified, stored once, job enqueued, ${atOnce} at a time`,
      ours: figures.ours,
      unit: "webhooks/s",
      peer: "bare insert of one row",
      theirs: figures.bare,
    });
  }
  const { rows } = await bench.admin.query(
    "select count(*)::integer as events, count(distinct j.id)::integer as jobs from ops.webhook_events e join ops.jobs j on j.id = e.job_id",
  );
  if (rows[0].events === 0 || rows[0].events !== rows[0].jobs) throw new Error("The events have no jobs.");
  report("Webhooks through Deno, every commit on disk", lines);
} finally {
  for (const child of children) child.kill("SIGKILL");
  await bench.stop();
}

/** Starts a function on Deno as the local stack does; returns its route for Stripe. */
async function serve(script: string): Promise<string> {
  const port = await freePort();
  const child = spawn(
    join(root, "node_modules/.bin/deno"),
    [
      "run",
      "--config",
      "functions/deno.json",
      "--allow-net",
      "--allow-env",
      "--allow-read",
      "--allow-sys",
      script,
    ],
    {
      cwd: root,
      stdio: ["ignore", "ignore", "inherit"],
      env: {
        ...process.env,
        DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}`,
        SUPABASE_URL: "http://127.0.0.1:1",
        SUPABASE_DB_URL: bench.url,
        SUPABASE_PUBLISHABLE_KEY: "sb_publishable_bench",
        SUPABASE_SECRET_KEY: "sb_secret_bench",
        STRIPE_SECRET_KEY: "sk_test_bench",
        STRIPE_WEBHOOK_SECRETS: secret,
        FAL_KEY: "bench",
        FUNCTIONS_URL: "http://127.0.0.1:1",
      },
    },
  );
  children.push(child);
  const url = `http://127.0.0.1:${port}/webhooks/stripe`;
  for (let tries = 0; tries < 200; tries++) {
    const answer = await fetch(url, { method: "POST", body: "{}" }).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer) return url;
    await sleep(100);
  }
  throw new Error(`${script} does not answer.`);
}

async function flood(url: string, atOnce: number, forSeconds: number): Promise<number> {
  const start = performance.now();
  const end = start + forSeconds * 1000;
  let received = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (performance.now() < end) {
        const { body, signature } = signedEvent();
        const answer = await fetch(url, {
          method: "POST",
          headers: { "stripe-signature": signature, "content-type": "application/json" },
          body,
        });
        await answer.arrayBuffer();
        if (!answer.ok) throw new Error(`${url} answered ${answer.status}.`);
        received++;
      }
    }),
  );
  return received / ((performance.now() - start) / 1000);
}

function signedEvent(): { body: string; signature: string } {
  const created = Math.floor(Date.now() / 1000);
  const body = JSON.stringify({
    id: `evt_${randomUUID().replaceAll("-", "")}`,
    object: "event",
    api_version: "2026-10-28.endive",
    created,
    type: "customer.updated",
    livemode: false,
    pending_webhooks: 1,
    request: null,
    data: { object: { id: "cus_bench", object: "customer", description: "x".repeat(1000) } },
  });
  const digest = createHmac("sha256", secret).update(`${created}.${body}`).digest("hex");
  return { body, signature: `t=${created},v1=${digest}` };
}
