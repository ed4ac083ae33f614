// What the tests of reloads work with.

import { beforeAll } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { billingDatabase } from "./money.ts";

export let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase({ poolSize: 20 });
});

export const toldTo = async (userId: string) =>
  (
    await db.query(
      "select title from messaging.notifications where user_id = $1 and event_type = 'billing.auto_reload' order by created_at",
      [userId],
    )
  ).map(({ title }) => title);
