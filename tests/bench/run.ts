// npm run bench: every benchmark, one after the other, each in a process of its own.
// npm run bench -- ledger runs one. BENCH_SECONDS sets the length of a measurement.
import { spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { join } from "node:path";

const all = ["ledger", "queue", "webhooks", "latency", "entitlements", "auto-reload"];
// only when named: they write millions of rows first
const large = ["ledger-scale", "queue-depth", "queue-horizon", "lists", "knowledge"];
const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => ![...all, ...large].includes(name));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}. Choose from ${[...all, ...large].join(", ")}.`);
  process.exit(2);
}
console.log(
  `${cpus().length} cores, Node ${process.version}; ratios are ours to the peer's, above 1 is faster`,
);
for (const name of chosen.length > 0 ? chosen : all) {
  const { status } = spawnSync(process.execPath, [join(import.meta.dirname, `${name}.ts`)], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
