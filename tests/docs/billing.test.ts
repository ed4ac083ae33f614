// The page for clients is one program: its examples run in order, as they stand there, against the local stack. After
// each of them what it found is checked, and what happens outside (a card is paid with, work is done) is done.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { beforeAll, expect, test } from "vitest";
import { eventually, useStack } from "../e2e/stack.ts";
import { checksOf, visited } from "./billing-checks.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/billing.md"), "utf8");

const s = useStack({ functions: ["webhooks", "worker", "billing"] });
let today: string;
const checks = checksOf(s, () => today);

beforeAll(async () => {
  // the documents tell no prices of these plans, so that they are not on sale by themselves
  for (const [slug, amount_minor] of Object.entries({ starter: 1000, pro: 3000 })) {
    await s.sql(
      `select billing.change_plan('selify', $1, 'on sale', null,
        '{"is_active": true, "is_visible": true, "allowance_micro": 120000}', '{"weekly_credits": 20000}', $2)`,
      [slug, JSON.stringify([{ currency: "USD", billing_period: "month", amount_minor }])],
    );
  }
  today = (await s.sql<{ today: string }>("select (now() at time zone 'UTC')::date::text as today"))[0]!
    .today;
});

test("the page's examples run from top to bottom and show what it says", async () => {
  const program = blocks(page, "ts");
  expect(program.map(({ heading }) => heading)).toEqual(checks.map(([heading]) => heading));
  const friend = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  await friend.auth.signUp({ email: `${crypto.randomUUID()}@example.org`, password: "a long password" });
  const given: Values = {
    createClient,
    friend,
    API_URL: s.stack.apiUrl,
    PUBLISHABLE_KEY: s.stack.publishableKey,
    APP_URL: "https://app.example.com",
    TODAY: today,
    email: `${crypto.randomUUID()}@example.com`,
    password: "a long password",
    openRazorpay: async ({ order_id }: { order_id: string }) => {
      const page = `${s.stack.standins.razorpay}/pay/${order_id}`;
      return (await fetch(page, { method: "POST", body: JSON.stringify({ outcome: "success" }) })).json();
    },
    location: { assign: (url: string) => visited.push(url) },
  };
  await runBlocks(program, given, (index, values) => checks[index]![1](values));
  expect(await s.faults()).toEqual([]);
});

test("the operators' statements run", async () => {
  const [insert, begin, look, verify, ...more] = blocks(page, "sql").map(({ code }) =>
    code.replace(/;[^\n]*\n$/, ""),
  );
  expect(more).toEqual([]);
  const [customer] = await s.sql("select workspace_id from billing.subscriptions");
  await s.sql(insert!);
  const [reporting] = await s.sql(begin!, [customer!.workspace_id]);
  expect(reporting).toMatchObject({ is_active: true, provider_customer_id: expect.stringMatching(/^cus_/) });
  // usage of some hours ago is reported by the worker; the stand-in knows no such meter, and refuses it
  await s.sql("update billing.meter_reporting set report_from_at = report_from_at - interval '1 day'");
  await s.sql("update billing.usage_events set event_at = event_at - interval '3 hours'");
  await s.sql("select billing.roll_up_usage()");
  const [refused] = await eventually("the refusal", async () => {
    await s.sql("select billing.plan_meter_reports()");
    const rows = await s.sql<Values>(look!);
    return rows.length > 0 && rows;
  });
  expect(refused).toMatchObject({
    status: "refused",
    value: "1",
    error: expect.stringContaining("generations"),
  });
  await s.sql("select billing.decide_meter_report($1, counted => true)", [refused!.id]);
  expect(await s.sql(look!)).toEqual([]);
  expect(await s.sql(verify!)).toEqual([]);
});
