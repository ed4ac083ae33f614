// Two brands, and how much there is of all that a request makes.

import { beforeEach } from "vitest";
import { createStudio, noon } from "./studio.ts";

export const db = await createStudio();
export const [ann, ben] = await Promise.all([db.brand(), db.brand()]);
beforeEach(() => db.setClock(noon));

export const counts = async () =>
  (
    await db.query(`select (select count(*) from studio.creations) as creations, (select count(*) from ops.jobs) as jobs,
      (select count(*) from ops.job_keys) as keys, (select count(*) from billing.usage_events) as charges,
      (select count(*) from billing.ledger_transactions) as transactions`)
  )[0]!;
