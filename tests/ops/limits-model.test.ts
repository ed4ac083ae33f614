import fc from "fast-check";
import { expect, test } from "vitest";
import { histories, secondsFor } from "../helpers/properties.ts";
import { live, prepare } from "./limits-histories.ts";
import { rules, steps } from "./limits-steps.ts";
import { createQueueDatabase } from "./queue.ts";

// Random histories against a small model. npm run bench:properties lives through many more.

test("in every history just what all limits let start is started, and all of it", {
  timeout: secondsFor(120),
}, async () => {
  const db = await createQueueDatabase();
  const { service, workspaces } = await prepare(db);
  let lives = 0;
  await fc.assert(
    fc.asyncProperty(rules, steps(40), async (rules, steps) => {
      await live(db, service, workspaces, rules, steps);
      lives++;
    }),
    // on a busy machine fewer of them rather than a failure
    histories(60, { seconds: 20 }),
  );
  expect(lives).toBeGreaterThan(0);
});
