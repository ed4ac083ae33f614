import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

const root = join(import.meta.dirname, "../..");
const withHistories = globSync("tests/**/*.test.ts", { cwd: root }).filter((file) =>
  readFileSync(join(root, file), "utf8").includes("helpers/properties.ts"),
);

export default defineConfig({
  test: {
    include: ["tests/bench/properties.ts", "tests/bench/limits-properties.ts", ...withHistories],
    env: {
      PROPERTY_SEED: process.env.PROPERTY_SEED ?? String(Date.now() % 2 ** 31),
      PROPERTY_FACTOR: process.env.PROPERTY_FACTOR ?? "25",
    },
    globalSetup: ["tests/helpers/global-setup.ts"],
    reporters: ["verbose"],
    maxWorkers: 2,
    testTimeout: 24 * 3_600_000,
    hookTimeout: 120_000,
  },
});
