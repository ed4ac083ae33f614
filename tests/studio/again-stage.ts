// A brand whose creations fail, are tried again and replayed; after each test rows, holds and ledger agree.

import { beforeAll, beforeEach, expect } from "vitest";
import { idleHolds } from "../helpers/holds.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { type Brand, createStudio, inconsistent, noon, type Studio } from "./studio.ts";

export let db: Studio;
export let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  ann = await db.brand();
  return async () => {
    expect(await db.query(inconsistent)).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});
