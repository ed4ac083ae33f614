import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";

type Exceptions = Record<string, Record<string, string>>;
const file = join(import.meta.dirname, "exceptions.json");
const exceptions = JSON.parse(readFileSync(file, "utf8")) as Exceptions;

/**
 * Expects that nothing breaks the rule but what exceptions.json lists under it, each with a reason;
 * an exception that is no longer needed fails, too.
 */
export function expectNoneBut(rule: string, found: string[]): void {
  const allowed = exceptions[rule] ?? {};
  for (const [name, reason] of Object.entries(allowed)) {
    expect(reason.length, `exceptions.json: ${rule}: ${name} needs a reason`).toBeGreaterThan(20);
  }
  expect(found.toSorted(), `${rule}: fix these, or list them in tests/catalog/exceptions.json`).toEqual(
    Object.keys(allowed).toSorted(),
  );
}
