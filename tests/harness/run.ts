// npm run harness -- kills: 1,000 kills of workers. npm run harness -- catalog: a run over 10,000 items by edge
// functions alone. npm run harness -- products: a catalog job over 5,000 products through the fal stand-in, likewise.
// npm run harness -- bot: 10,000 comments under posts of 50 accounts, told twice and out of order. All
// are also tests, on a small scale. HARNESS_KILLS, HARNESS_ITEMS, HARNESS_PRODUCTS and HARNESS_COMMENTS set the scale.
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const scales: Record<string, Record<string, string>> = {
  kills: { HARNESS_KILLS: "1000" },
  catalog: { HARNESS_ITEMS: "10000" },
  products: { HARNESS_PRODUCTS: "5000" },
  bot: { HARNESS_COMMENTS: "10000" },
};
const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !Object.hasOwn(scales, name));
if (unknown.length > 0) {
  console.error(`There is no harness ${unknown.join(", ")}. Choose from ${Object.keys(scales).join(", ")}.`);
  process.exit(2);
}
const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
for (const name of chosen.length > 0 ? chosen : Object.keys(scales)) {
  const { status } = spawnSync(process.execPath, [vitest, "run", `tests/harness/${name}.test.ts`], {
    stdio: "inherit",
    env: { ...scales[name], ...process.env },
  });
  if (status !== 0) process.exit(status ?? 1);
}
