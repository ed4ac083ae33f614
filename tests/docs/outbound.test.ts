// The examples for receivers of our events are one program: an endpoint is made, a receiver checks what is signed with its
// secret, and the endpoint's deliveries are read.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Hono } from "hono";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/outbound-webhooks.md"), "utf8");

// Without workers nothing is sent to the page's address.
const s = useStack({ functions: [], standIns: false, clockwork: false });
const app = new Hono();
const handled: unknown[][] = [];

async function receive(secret: string, body: string): Promise<number> {
  const at = new Date();
  const headers = {
    "webhook-id": "event-1",
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign("event-1", at, body),
  };
  return (await app.request("/hooks/backlot", { method: "POST", body, headers })).status;
}

const other = `whsec_${Buffer.alloc(32).toString("base64")}`;
const checks: ((values: Values) => unknown)[] = [
  ({ endpoint, secret }) => {
    expect(endpoint).toMatchObject({ event_types: ["creation.completed", "credits.low"], ordered: false });
    expect(secret).toMatch(/^whsec_/);
  },
  async ({ secret }) => {
    expect(await receive(secret, '{"type":"credits.low"}')).toBe(204);
    expect(await receive(other, '{"type":"credits.low"}')).toBe(500);
    expect(handled).toEqual([["event-1", { type: "credits.low" }]]);
  },
  ({ replayed }) => expect(replayed).toBe(0),
  ({ test: event_id, deliveries }) =>
    expect(deliveries).toMatchObject([
      { event_id, event_type: "webhook.test", state: "pending", attempts: 0 },
    ]),
];

test("the examples for receivers run from top to bottom and show what the page says", async () => {
  app.onError((_, c) => c.body(null, 500));
  const { client, workspaceId } = await s.person(0);
  const given: Values = {
    supabase: client,
    workspace_id: workspaceId,
    YESTERDAY: new Date(Date.now() - 86_400_000).toISOString(),
    Webhook,
    app,
    handleOnce: (...what: unknown[]) => handled.push(what),
  };
  const program = blocks(page, "ts");
  expect(program).toHaveLength(checks.length);
  await runBlocks(program, given, (index, values) => checks[index]!(values));
});
