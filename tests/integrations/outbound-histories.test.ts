import fc from "fast-check";
import { expect, test } from "vitest";
import { histories, secondsFor } from "../helpers/properties.ts";
import { live, steps } from "./outbound-histories.ts";
import { db } from "./outbound-stage.ts";

// Random histories of events, answers, lost workers and changes of endpoints against a small model.

test("every event that an enabled endpoint asked for is delivered unless it is given up, and in order where asked", {
  timeout: secondsFor(120),
}, async () => {
  const service = await db.connect("service");
  let lives = 0;
  await fc.assert(
    fc.asyncProperty(fc.tuple(fc.boolean(), fc.boolean()), steps, async (ordered, steps) => {
      await live(service, ordered, steps);
      lives++;
    }),
    histories(40, { seconds: 15 }),
  );
  await service.close();
  expect(lives).toBeGreaterThan(0);
});
