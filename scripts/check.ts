// npm run check: all that is asked of a change, step by step. Every step runs, whatever the one before said.

import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { root } from "./generated.ts";

const require = createRequire(import.meta.url);
const node = process.execPath;

/** The program that a package installs, to be run by this node. */
function program(name: string, file: string): string {
  return join(dirname(require.resolve(`${name}/package.json`)), file);
}

const deno = program("deno", "bin.cjs");
const forDeno = globSync(["functions/*/index.ts", "tests/bench/bare-webhook.ts"], { cwd: root }).sort();

const steps: [name: string, command: string, ...args: string[]][] = [
  ["format and lint", node, program("@biomejs/biome", "bin/biome"), "check", "--error-on-warnings", "."],
  ["SQL style", node, "scripts/lint-sql.ts"],
  ["types of node code", node, program("typescript", "bin/tsc"), "--noEmit"],
  ["types of edge functions", node, deno, "check", "--config=functions/deno.json", ...forDeno],
  ["database types in sync", node, "scripts/types.ts", "--check"],
  ["docs in sync", node, "scripts/docs.ts", "--check"],
  ["tests, advisors among them", node, program("vitest", "vitest.mjs"), "run"],
];

const failed: string[] = [];
for (const [name, command, ...args] of steps) {
  const started = performance.now();
  const ok = await run(command, args, name.startsWith("tests"));
  console.log(
    `${ok ? "ok    " : "FAILED"}  ${name}  (${((performance.now() - started) / 1000).toFixed(1)} s)`,
  );
  if (!ok) failed.push(name);
}
if (failed.length > 0) {
  console.error(`\nFailed: ${failed.join(", ")}`);
  process.exitCode = 1;
}

/** Shows what the step writes: as it comes, or all of it if the step fails. */
function run(command: string, args: string[], live: boolean): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: live ? "inherit" : ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    child.once("error", reject);
    child.once("close", (code) => {
      if (code !== 0) process.stderr.write(output);
      resolve(code === 0);
    });
  });
}
