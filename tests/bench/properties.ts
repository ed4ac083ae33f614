// npm run bench:properties: hundreds of thousands of steps of random histories against the model of a wallet.
// PROPERTY_STEPS says how many, PROPERTY_SEED repeats a run.
import fc from "fast-check";
import { expect, test } from "vitest";
import { insertPlans, live, step } from "../billing/histories.ts";
import { billingDatabase, expectSound } from "../billing/money.ts";
import { seed } from "../helpers/properties.ts";

const wanted = Number(process.env.PROPERTY_STEPS ?? 200_000);
const lanes = 2;

// Each lane has a database of its own, because the clock is the database's.
test(`${wanted} steps end as the model says (seed ${seed})`, async () => {
  const taken = await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)));
  const total = taken.reduce((sum, steps) => sum + steps, 0);
  console.log(`${total.toLocaleString("en")} steps, seed ${seed}: the database and the model agree`);
  expect(total).toBeGreaterThanOrEqual(wanted);
});

async function run(lane: number): Promise<number> {
  const db = await billingDatabase();
  const service = await db.connect("service");
  await insertPlans(db);
  const began = Date.now();
  let steps = 0;
  const history = fc.array(step, { minLength: 20, maxLength: 120, size: "max" });
  for (let round = 0; steps < wanted / lanes; round++) {
    await fc.assert(
      fc.asyncProperty(history, async (history) => {
        await live(db, service, history);
        steps += history.length;
      }),
      { numRuns: 50, seed: seed + lane * 1_000_003 + round },
    );
    const speed = (steps / (Date.now() - began)) * 1000;
    console.log(`lane ${lane}: ${steps.toLocaleString("en")} steps, ${speed.toFixed(0)} a second`);
  }
  await expectSound(db);
  return steps;
}
