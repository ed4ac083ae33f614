// npm run bench:properties: tens of thousands of steps of random histories against the model of limits. LIMIT_STEPS
// says how many, PROPERTY_SEED repeats a run.
import fc from "fast-check";
import { expect, test } from "vitest";
import { seed } from "../helpers/properties.ts";
import { live, prepare } from "../ops/limits-histories.ts";
import { rules, steps } from "../ops/limits-steps.ts";
import { createQueueDatabase } from "../ops/queue.ts";

const wanted = Number(process.env.LIMIT_STEPS ?? 40_000);

test(`${wanted} steps start what the model of limits lets start (seed ${seed})`, async () => {
  const db = await createQueueDatabase();
  const { service, workspaces } = await prepare(db);
  let taken = 0;
  for (let round = 0; taken < wanted; round++) {
    await fc.assert(
      fc.asyncProperty(rules, steps(120), async (rules, steps) => {
        await live(db, service, workspaces, rules, steps);
        taken += steps.length;
      }),
      { numRuns: 50, seed: seed + round },
    );
    console.log(`limits: ${taken.toLocaleString("en")} steps`);
  }
  expect(taken).toBeGreaterThanOrEqual(wanted);
});
