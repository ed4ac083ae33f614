// What the tests of commissions work with.

import { beforeAll, beforeEach } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { sweepGrowth } from "./growth.ts";
import { billingDatabase, noon } from "./money.ts";

export let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

beforeEach(async () => {
  await db.setClock(noon);
});

export const sweep = () => sweepGrowth(db);
export const one = async (sql: string, ...params: unknown[]) => (await db.query(sql, params))[0]!;
export const affiliateNow = (id: string) => one("select * from billing.affiliates where id = $1", id);
export const pay = (batch: string, more = {}) => db.service.rpc("billing.pay_affiliates", { batch, ...more });
export const owed = async (workspaceId: string) =>
  one(
    `select held_micro, payable_micro, in_transit_micro from billing.payable_balances
    where workspace_id = $1 and currency = 'USD'`,
    workspaceId,
  );
