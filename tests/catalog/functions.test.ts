import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fullName, signature } from "../../scripts/catalog/read.ts";
import { clientRoles, exposedSchemas } from "../../scripts/catalog/schemas.ts";
import type { Routine } from "../../scripts/catalog/types.ts";
import { liveCatalog } from "./catalog.ts";
import { expectNoneBut } from "./exceptions.ts";

const { routines } = await liveCatalog();
const signatures = (list: Routine[]) => list.map(signature);
const forClients = (routine: Routine) =>
  routine.grants.some(({ role }) => clientRoles.includes(role as "anon"));
const isExposed = (routine: Routine) => exposedSchemas.includes(routine.schema);

test("every function has an empty search path", () => {
  expect(signatures(routines.filter(({ settings }) => !settings.includes('search_path=""')))).toEqual([]);
});

test("every function has a comment", () => {
  expect(signatures(routines.filter(({ comment }) => !comment))).toEqual([]);
});

test("no exposed function that clients may call runs with its owner's rights", () => {
  const exposed = routines.filter((routine) => routine.definer && isExposed(routine) && forClients(routine));
  expect(signatures(exposed)).toEqual([]);
});

test("every function with its owner's rights is listed with the reason", () => {
  const groups = JSON.parse(readFileSync(join(import.meta.dirname, "definers.json"), "utf8")) as {
    reason: string;
    functions: string[];
  }[];
  const listed = groups.flatMap((group) => group.functions);
  const definers = new Set(routines.filter(({ definer }) => definer).map(fullName));
  expect(groups.filter(({ reason }) => reason.length < 20)).toEqual([]);
  expect(listed.length).toBe(new Set(listed).size);
  expect(listed.toSorted()).toEqual([...definers].toSorted());
});

test("a function with its owner's rights that clients may reach asks who is calling", () => {
  const asks =
    /\b(auth\.uid|private\.(require_role|has_role|caller_rank|is_service|workspace_ids|mail_account_of_caller|is_staff|require_staff))\(/;
  const silent = routines.filter(
    (routine) => routine.definer && forClients(routine) && !asks.test(routine.source),
  );
  // It only puts together the text of an error.
  expect(silent.map(fullName)).toEqual(["private.fail"]);
});

test("exposed functions for clients name all their arguments, without a prefix", () => {
  const odd = routines.filter(
    (routine) =>
      isExposed(routine) &&
      forClients(routine) &&
      routine.arguments !== "" &&
      routine.arguments.split(", ").some((argument) => /^(_|p_|v_|in_)/.test(argument)),
  );
  expect(signatures(odd)).toEqual([]);
});

test("exposed functions for clients have typed results", () => {
  const untyped = routines.filter(
    (routine) =>
      isExposed(routine) && forClients(routine) && /^(SETOF )?(jsonb?|record)$/.test(routine.returns),
  );
  expect(signatures(untyped)).toEqual([]);
});

test("functions are short", () => {
  const long = routines.filter(({ source }) => source.trim().split("\n").length > 60);
  expectNoneBut("function of more than 60 lines", long.map(fullName));
});
