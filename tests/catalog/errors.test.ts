import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { functionErrors } from "../../types/function-errors.ts";
import { liveCatalog } from "./catalog.ts";

const { routines, errorCodes } = await liveCatalog();
const functionsFolder = join(import.meta.dirname, "../../functions");

test("errors are raised by private.fail alone", () => {
  // A bare `raise` passes on the error that a block caught.
  const raising = /\braise\b(?!\s*;)(?!\s+(?:notice|warning|info|log|debug)\b)/i;
  const found = routines.filter((routine) => raising.test(code(routine.source))).map(fullName);
  expect(found).toEqual(["private.fail"]);
});

test("every error that is raised by name is in private.error_codes", () => {
  const unknown = routines.flatMap((routine) =>
    [...routine.source.matchAll(/private\.fail\(\s*'([^']+)'/g)]
      .map((match) => match[1] ?? "")
      .filter((name) => !errorCodes.includes(name))
      .map((name) => `${fullName(routine)}: ${name}`),
  );
  expect(unknown).toEqual([]);
});

test("every row of private.error_codes is raised somewhere", () => {
  const sources = [...routines.map(({ source }) => source), ...edgeSources()].join("\n");
  expect(errorCodes.filter((name) => !new RegExp(`['"]${name}['"]`).test(sources))).toEqual([]);
});

test("every error that a function of clients names is in one of the two lists, and no name is in both", () => {
  const named = edgeSources(["_shared", "assistant", "billing", "mail", "oauth", "tryon"]).flatMap((source) =>
    [...source.matchAll(/new ApiError\(\s*\d+,\s*"([a-z_]+)"/g)].map((match) => match[1] ?? ""),
  );
  expect(named.length).toBeGreaterThan(30);
  const own = Object.keys(functionErrors);
  expect([...new Set(named)].filter((name) => !own.includes(name) && !errorCodes.includes(name))).toEqual([]);
  expect(own.filter((name) => errorCodes.includes(name))).toEqual([]);
  expect(own.filter((name) => !edgeSources().some((source) => source.includes(`"${name}"`)))).toEqual([]);
});

function code(source: string): string {
  return source.replaceAll(/--.*$/gm, "").replaceAll(/'[^']*'/g, "''");
}

function edgeSources(folders?: string[]): string[] {
  return readdirSync(functionsFolder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.includes("node_modules"))
    .filter((file) => !folders || folders.includes(file.split("/")[0]!))
    .map((file) => readFileSync(join(functionsFolder, file), "utf8"));
}
