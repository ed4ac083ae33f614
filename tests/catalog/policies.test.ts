import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { apiRoles } from "../../scripts/catalog/schemas.ts";
import type { Policy, Relation } from "../../scripts/catalog/types.ts";
import { liveCatalog } from "./catalog.ts";
import { expectNoneBut } from "./exceptions.ts";

const { tables, storage, routines } = await liveCatalog();
const all = [...tables, ...storage];
const policies = all.flatMap((table) => table.policies.map((policy) => ({ table, policy })));
const expressions = ({ using, check }: Policy) => [using, check].filter((text) => text !== null);
const label = ({ table, policy }: { table: Relation; policy: Policy }) =>
  `${fullName(table)}: ${policy.name}`;

test("every policy is for roles of its own, never for everybody", () => {
  const open = policies.filter(({ policy }) =>
    policy.roles.some((role) => !apiRoles.includes(role as "anon")),
  );
  expect(open.map(label)).toEqual([]);
});

test("the name of a policy is a sentence", () => {
  expect(policies.filter(({ policy }) => !/^[A-Z][^_]* [^_]*[^.]$/.test(policy.name)).map(label)).toEqual([]);
});

test("who is calling and where they belong is asked once per statement, in a sub-select", () => {
  // What is immutable looks at the row alone.
  const ofTheRow = routines.filter(({ volatility }) => volatility === "immutable").map(fullName);
  const calls = /\b(auth\.(?:uid|jwt|role|email)|private\.\w+|current_setting)\(/g;
  const bare = policies.filter(({ policy }) =>
    expressions(policy).some((text) =>
      [...text.matchAll(calls)].some(
        (call) => !ofTheRow.includes(call[1] ?? "") && !/SELECT (\(?)$/.test(text.slice(0, call.index)),
      ),
    ),
  );
  expectNoneBut("policy that calls a function for every row", bare.map(label));
});

test("every column that a policy compares with the caller is found by an index", () => {
  const compared = /(?:^|[\s(.])(\w+) = (?:ANY \(+\s*SELECT|\( SELECT auth\.uid)/g;
  // Columns before it in the index do no harm when the policy fixes them, too.
  const found = (table: Relation, column: string, text: string) =>
    table.indexes.some(({ columns }) => {
      const place = columns.indexOf(column);
      return place >= 0 && columns.slice(0, place).every((before) => text.includes(`${before} =`));
    });
  const unindexed = policies
    .filter(({ table }) => !storage.includes(table))
    .flatMap(({ table, policy }) =>
      expressions(policy).flatMap((text) =>
        [...text.matchAll(compared)]
          .map((match) => match[1] ?? "")
          .filter(
            (column) => table.columns.some(({ name }) => name === column) && !found(table, column, text),
          )
          .map((column) => `${fullName(table)}.${column}`),
      ),
    );
  expect([...new Set(unindexed)]).toEqual([]);
});

test("policies and grants agree: nothing is granted in vain, no policy waits for a grant", () => {
  const verbs = ["select", "insert", "update", "delete"];
  const faults = tables.flatMap((table) =>
    ["anon", "authenticated"].flatMap((role) =>
      verbs.flatMap((verb) => {
        const granted = table.grants.some((grant) => grant.role === role && grant.privilege === verb);
        const admitted = table.policies.some(
          (policy) =>
            policy.permissive && policy.roles.includes(role) && [verb, "all"].includes(policy.command),
        );
        if (granted === admitted) return [];
        return `${fullName(table)}: ${role} has ${granted ? "the right" : "a policy"} to ${verb}, but no ${granted ? "policy" : "right"}`;
      }),
    ),
  );
  expect(faults).toEqual([]);
});
