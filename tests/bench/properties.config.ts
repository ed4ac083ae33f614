import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/bench/properties.ts", "tests/bench/limits-properties.ts"],
    globalSetup: ["tests/helpers/global-setup.ts"],
    reporters: ["verbose"],
    testTimeout: 24 * 3_600_000,
    hookTimeout: 120_000,
  },
});
