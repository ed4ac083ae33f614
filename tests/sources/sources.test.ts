import { expect, test } from "vitest";
import { faultsOf, sourceChecks } from "../../scripts/source-checks.ts";

test.each(sourceChecks)("$name: no fault", { timeout: 180_000 }, async (check) => {
  expect(await faultsOf(check)).toBeNull();
});
