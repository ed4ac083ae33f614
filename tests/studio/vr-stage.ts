// A shop of a brand of its own for each test, and what comes of it.

import { beforeEach, expect } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, noon } from "./studio.ts";
import { openShop, type Shop, visits } from "./vr.ts";

export const db = await createStudio();
export const visit = visits(db);
export let ann: Brand;
export let shop: Shop;

beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query("truncate ops.rate_limits");
  await db.query(clearJobs);
  ann = await db.brand();
  shop = await openShop(db, ann);
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

export const creationOf = async ({ id }: Row) => {
  const [row] = await db.query(
    "select c.* from studio.creations c join studio.vr_tryons t on t.creation_id = c.id where t.id = $1",
    [id],
  );
  return row!;
};
