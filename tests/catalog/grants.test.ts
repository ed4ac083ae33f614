import { expect, test } from "vitest";
import { fullName, signature } from "../../scripts/catalog/read.ts";
import { clientRoles, exposedSchemas } from "../../scripts/catalog/schemas.ts";
import type { Grant } from "../../scripts/catalog/types.ts";
import { liveCatalog } from "./catalog.ts";

const { schemas, tables, views, routines } = await liveCatalog();
const objects: { name: string; grants: Grant[] }[] = [
  // PostgreSQL itself lets everybody use the schema public.
  ...schemas
    .filter(({ name }) => name !== "public")
    .map(({ name, grants }) => ({ name: `schema ${name}`, grants })),
  ...[...tables, ...views].map((relation) => ({ name: fullName(relation), grants: relation.grants })),
  ...routines.map((routine) => ({ name: signature(routine), grants: routine.grants })),
];

test("nothing is granted to PUBLIC", () => {
  expect(
    objects.filter(({ grants }) => grants.some(({ role }) => role === "public")).map(({ name }) => name),
  ).toEqual([]);
});

test("only the three API roles hold rights", () => {
  const known = ["anon", "authenticated", "service_role"];
  const others = objects.flatMap(({ name, grants }) =>
    grants.filter(({ role }) => !known.includes(role)).map(({ role }) => `${name}: ${role}`),
  );
  expect(others).toEqual([]);
});

test("clients cannot truncate, reference or put triggers on a table", () => {
  const needless = [...tables, ...views].flatMap((relation) =>
    relation.grants
      .filter(({ role, privilege }) => clientRoles.includes(role as "anon") && !isVerb(privilege))
      .map(({ role, privilege }) => `${fullName(relation)}: ${role} may ${privilege}`),
  );
  expect(needless).toEqual([]);
});

test("schemas that are not exposed have nothing for clients but what policies and wrappers call", () => {
  const reachable = [...tables, ...views]
    .filter(({ schema }) => !exposedSchemas.includes(schema))
    .filter(({ grants }) => grants.some(({ role }) => clientRoles.includes(role as "anon")));
  expect(reachable.map(fullName)).toEqual([]);
});

test("rights by role and object are the ones that were reviewed", async () => {
  const granted = objects.filter(({ grants }) => grants.length > 0);
  const lines = granted.map(({ name, grants }) => `${name}\n${describe(grants)}`);
  await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot("snapshots/grants.txt");
});

test("what clients can reach over the API is the surface that was reviewed", async () => {
  const reaches =
    (role: string) =>
    ({ grants }: { grants: Grant[] }) =>
      grants.some((grant) => grant.role === role);
  const sections = clientRoles.flatMap((role) => [
    `${role}: tables and views`,
    ...[...tables, ...views]
      .filter(({ schema }) => exposedSchemas.includes(schema))
      .filter(reaches(role))
      .map((relation) => `  ${fullName(relation)}: ${verbs(relation.grants, role)}`),
    `${role}: functions`,
    ...routines
      .filter(({ schema, isTrigger }) => exposedSchemas.includes(schema) && !isTrigger)
      .filter(reaches(role))
      .map((routine) => `  ${signature(routine)}`),
  ]);
  await expect(`${sections.join("\n")}\n`).toMatchFileSnapshot("snapshots/surface.txt");
});

function isVerb(privilege: string): boolean {
  return ["select", "insert", "update", "delete"].includes(privilege);
}

function verbs(grants: Grant[], role: string): string {
  const own = grants.filter((grant) => grant.role === role);
  return [...new Set(own.map(({ privilege }) => privilege))].join(", ");
}

function describe(grants: Grant[]): string {
  const byRole = Map.groupBy(grants, ({ role }) => role);
  return [...byRole]
    .map(
      ([role, own]) =>
        `  ${role}: ${own.map(({ privilege, columns }) => privilege + (columns ? ` (${columns.join(", ")})` : "")).join(", ")}`,
    )
    .join("\n");
}
