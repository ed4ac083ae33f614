// What is asked of the sources by themselves, each by a program: `npm run check` shows it, the tests demand it.

import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { root } from "./generated.ts";
import { program } from "./program.ts";

const node = process.execPath;
const deno = program("deno", "bin.cjs");
const forDeno = globSync(["functions/*/index.ts", "tests/bench/bare-webhook.ts"], { cwd: root }).sort();

export const sourceChecks: { name: string; args: string[] }[] = [
  {
    name: "format and lint",
    args: [program("@biomejs/biome", "bin/biome"), "check", "--error-on-warnings", "."],
  },
  { name: "SQL style", args: ["scripts/lint-sql.ts"] },
  { name: "types of node code", args: [program("typescript", "bin/tsc"), "--noEmit"] },
  { name: "types of edge functions", args: [deno, "check", "--config=functions/deno.json", ...forDeno] },
];

/** Runs a check; gives what it wrote if it found a fault. */
export function faultsOf({ args }: { args: string[] }): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    child.once("error", reject);
    child.once("close", (code) => resolve(code === 0 ? null : output || `It ended with ${code}.`));
  });
}
