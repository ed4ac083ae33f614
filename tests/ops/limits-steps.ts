// Random rules, and random steps of a history under them.
import fc from "fast-check";
import type { Rule } from "./limits-model.ts";

const kinds = ["test.plain", "test.spied"];
const providers = [null, "painter", "painter", "painter", "writer"];
const limitKeys = [null, null, "shop:1", "shop:2", "mail:1", "mail:2"];

const scopes: [Rule["scope"], string][] = [
  ["kind", "test.plain"],
  ["kind", "test.spied"],
  ["workspace", "test.plain"],
  ["workspace", "test.spied"],
  ["provider", "painter"],
  ["provider", "writer"],
  ["key", "shop"],
  ["key", "mail"],
];
const rule: fc.Arbitrary<Rule> = fc
  .record({
    of: fc.constantFrom(...scopes),
    running: fc.integer({ min: 0, max: 4 }),
    starts: fc.integer({ min: 0, max: 4 }),
    per: fc.constantFrom(null, null, 10, 20),
    active: fc.integer({ min: 0, max: 5 }).map((n) => n > 0),
  })
  .map(({ of: [scope, subject], running, starts, per, active }) => {
    return { scope, subject, running: per ? null : running, starts: per ? starts : null, per, active };
  });
export const rules = fc.uniqueArray(rule, {
  minLength: 1,
  maxLength: 7,
  selector: ({ scope, subject, per }) => `${scope} ${subject} ${per}`,
});

const pick = fc.nat(1000);
const does = <D extends string>(word: D) => fc.constant(word);
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: does("enqueue"),
      kind: fc.constantFrom(...kinds),
      provider: fc.constantFrom(...providers),
      limitKey: fc.constantFrom(...limitKeys),
      workspace: fc.nat(2),
      priority: fc.constantFrom(-1, 0, 0, 1),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: does("claim"), max: fc.constantFrom(1, 2, 3, 5, 50) }) },
  { weight: 3, arbitrary: fc.record({ do: does("claim all") }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: does("end"),
      pick,
      how: fc.constantFrom(
        "completed",
        "completed",
        "failed",
        "provider failed",
        "provider failed",
        "busy",
        "park",
        "nap",
      ),
      seconds: fc.constantFrom(0, 3, 7, 30),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: does("pass"), seconds: fc.constantFrom(1, 5, 9, 10, 10, 15, 30, 61) }),
  },
  { weight: 2, arbitrary: fc.record({ do: does("answer"), pick }) },
  { weight: 1, arbitrary: fc.record({ do: does("cancel"), pick }) },
  { weight: 1, arbitrary: fc.record({ do: does("pause"), pick }) },
  { weight: 1, arbitrary: fc.record({ do: does("resume"), pick }) },
  { weight: 1, arbitrary: fc.record({ do: does("close"), pick, seconds: fc.constantFrom(4, 20) }) },
  { weight: 1, arbitrary: fc.record({ do: does("open"), pick }) },
  { weight: 2, arbitrary: fc.record({ do: does("break") }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: does("change rule"), pick, amount: fc.integer({ min: 0, max: 5 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: does("switch rule"), pick }) },
);
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
export const steps = (most: number) => fc.array(step, { minLength: 5, maxLength: most, size: "max" });
