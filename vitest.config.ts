import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// Whole stacks, processes that are killed, the environment: each file in a worker of its own. They are also the
// longest, and the first to be run ("alone" sorts before "together").
const alone = ["e2e", "docs", "harness", "convergence", "security", "local", "sources"].map(
  (f) => `tests/${f}/**/*.test.ts`,
);
const never = ["tests/bench/**", "**/node_modules/**"];

export default defineConfig({
  test: {
    globalSetup: ["tests/helpers/global-setup.ts"],
    // Most of the work is the servers' or waiting, so one file a core does not keep the cores busy on a small machine.
    maxWorkers: Math.max(3, availableParallelism()),
    projects: [
      { test: { name: "alone", include: alone, exclude: never, testTimeout: 60_000, hookTimeout: 120_000 } },
      {
        test: {
          name: "together",
          include: ["tests/**/*.test.ts"],
          exclude: [...alone, ...never],
          isolate: false,
          setupFiles: ["tests/helpers/own-modules.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
