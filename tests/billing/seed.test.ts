// supabase/seed.sql: what a developer's new database holds beside what production has.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

const seed = await readFile(join(import.meta.dirname, "../../supabase/seed.sql"), "utf8");
const db = await createTestDatabase();

const load = () => db.query(`begin; set local role postgres; ${seed}; commit`);
const onSale = () =>
  db.anon.query<{ plan: string; period: string; minor: number }>(
    `select p.app || ' ' || p.slug as plan, x.billing_period as period, x.amount_minor as minor
    from billing.plans p join billing.plan_prices x on x.plan_id = p.id order by p.app, p.sort_order, minor`,
  );

test("the rows for development put plans on sale, and a second load changes nothing", async () => {
  expect(await onSale()).toEqual([]);
  await load();
  const prices = await onSale();
  expect(prices.filter(({ plan }) => plan.startsWith("selify"))).toEqual([
    { plan: "selify starter", period: "month", minor: 1000 },
    { plan: "selify starter", period: "year", minor: 10_000 },
    { plan: "selify pro", period: "month", minor: 3000 },
    { plan: "selify pro", period: "year", minor: 30_000 },
  ]);
  await load();
  expect(await onSale()).toEqual(prices);
});

test("its voucher can be redeemed and a referral brings both something", async () => {
  const ada = await db.createUser();
  const [voucher] = await db.user(ada.id).rpc("billing.redeem_voucher", {
    workspace_id: ada.workspaceId,
    code: "welcome-10",
    app: "selify",
    key: "v",
  });
  expect(voucher).toMatchObject({ outcome: "applied", credits_micro: 10_000 });
  const [terms] = await db.anon.query("select referrer_micro, referee_micro from billing.referral_programs");
  expect(terms).toEqual({ referrer_micro: 50_000, referee_micro: 20_000 });
});
