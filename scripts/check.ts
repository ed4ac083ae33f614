// npm run check: format, lint and types, in half a minute. Every check runs, whatever the one before found.

import { faultsOf, sourceChecks } from "./source-checks.ts";

for (const check of sourceChecks) {
  const started = performance.now();
  const faults = await faultsOf(check);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${faults === null ? "ok    " : "FAILED"}  ${check.name}  (${seconds} s)`);
  if (faults === null) continue;
  console.error(faults);
  process.exitCode = 1;
}
