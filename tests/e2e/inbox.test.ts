import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { eventually, useStack } from "./stack.ts";

const secret = "whsec_e2e";
const s = useStack({ env: { STRIPE_WEBHOOK_SECRETS: secret } });

interface Answer {
  status: number;
  created: boolean;
}

/** Sends an event as Stripe would; status 0: no answer came. */
async function send(id: string): Promise<Answer> {
  const at = Math.floor(Date.now() / 1000);
  const body = JSON.stringify({ id, object: "event", type: "customer.updated", data: { object: {} } });
  const signature = createHmac("sha256", secret).update(`${at}.${body}`).digest("hex");
  try {
    const response = await fetch(`${s.stack.functionsUrl}/webhooks/stripe`, {
      method: "POST",
      headers: { "stripe-signature": `t=${at},v1=${signature}` },
      body,
    });
    const text = await response.text();
    return { status: response.status, created: text.includes('"created":true') };
  } catch {
    return { status: 0, created: false };
  }
}

test("what was answered with 200 is stored once with its job, whatever is killed meanwhile", {
  timeout: 180_000,
}, async () => {
  const created = new Map<string, number>();
  const note = async (id: string) => {
    const answer = await send(id);
    if (answer.created) created.set(id, (created.get(id) ?? 0) + 1);
    return answer.status === 200;
  };
  const all: string[] = [];
  for (let round = 0; round < 6; round++) {
    const ids = Array.from({ length: 60 }, (_, n) => `evt_${round}_${n}`);
    all.push(...ids);
    // Each three times, in three orders.
    const sent = [...ids, ...ids.toReversed(), ...ids].map(async (id) => {
      await sleep(Math.random() * 150);
      return (await note(id)) ? [id] : [];
    });
    await sleep(Math.random() * 150);
    if (round % 3 === 1) await s.stack.restartPostgres(true);
    else if (round % 3 === 2) await s.stack.functions.kill("webhooks");
    const taken = new Set((await Promise.all(sent)).flat());
    const stored = await eventually("the database is back", () =>
      s.sql<{ event_id: string }>("select event_id from ops.webhook_events").catch(() => undefined),
    );
    const known = new Set(stored.map(({ event_id }) => event_id));
    expect([...taken].filter((id) => !known.has(id))).toEqual([]);
    await Promise.all(ids.map((id) => eventually(`${id} is taken`, () => note(id))));
  }
  // An answer may be lost, never given twice.
  expect([...created.values()].every((times) => times === 1)).toBe(true);
  const [count] = await s.sql(
    `select count(*)::integer as events, count(distinct e.event_id)::integer as ids,
      count(distinct e.job_id)::integer as jobs from ops.webhook_events e where e.provider = 'stripe'`,
  );
  expect(count).toEqual({ events: all.length, ids: all.length, jobs: all.length });
  await eventually(
    "all are worked on",
    async () => {
      const [left] = await s.sql<{ n: number }>(
        "select count(*)::integer as n from ops.webhook_events where status <> 'ignored'",
      );
      return left!.n === 0;
    },
    90,
  );
});
