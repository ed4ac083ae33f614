import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { assembleLegacyMap, type LegacyColumn } from "../../scripts/docs/legacy-map.ts";
import { root } from "../../scripts/generated.ts";
import { liveCatalog } from "./catalog.ts";

// The apps' documents as data; they are not part of this repository.
const reference = join(root, "../shared/reference");
const documents = ["tables.json", "legacy-map.json"].map((file) => join(reference, file));

const catalog = await liveCatalog();
const map = await assembleLegacyMap();
const columns = Object.entries(map).flatMap(([table, { columns = {} }]) =>
  Object.entries(columns).map(([column, fate]) => ({ table, column, fate })),
);

test("every target of the legacy map exists in the live database, unless it comes later", () => {
  const missing = columns.filter(
    ({ fate }) => targetOf(fate) !== undefined && !isLater(fate) && !exists(targetOf(fate)!),
  );
  expect(missing.map(({ table, column, fate }) => `${table}.${column} -> ${targetOf(fate)}`)).toEqual([]);
});

test("nothing is promised for later that is there already", () => {
  const present = columns.filter(({ fate }) => isLater(fate) && exists(targetOf(fate)!));
  expect(present.map(({ table, column, fate }) => `${table}.${column} -> ${targetOf(fate)}`)).toEqual([]);
});

test.runIf(documents.every(existsSync))("every documented table and column is accounted for", () => {
  const [tables, wanted] = documents.map((file) => JSON.parse(readFileSync(file, "utf8"))) as [
    Tables,
    Wanted,
  ];
  const faults = Object.entries(wanted).flatMap(([app, mapped]) =>
    Object.entries(mapped).flatMap(([table, relations]) => {
      const name = `${app}.${table}`;
      const built = Array.isArray(relations) && relations.some((relation) => catalog.relation(relation));
      const entry = map[name];
      if (!entry) return built ? [`${name}: no entry`] : [];
      const documented = tables[app]?.tables[table]?.columns ?? [];
      const recorded = Object.keys(entry.columns ?? {});
      const known = new Set(documented.flatMap(({ name, snake }) => [name, snake ?? name]));
      return [
        ...documented
          .filter((column) => !recorded.includes(column.name) && !recorded.includes(column.snake ?? ""))
          .map((column) => `${name}.${column.name}: not accounted for`),
        ...(documented.length > 0 ? recorded : [])
          .filter((column) => !known.has(column))
          .map((column) => `${name}.${column}: not in the document`),
      ];
    }),
  );
  expect(faults).toEqual([]);
});

type Tables = Record<string, { tables: Record<string, { columns?: { name: string; snake?: string }[] }> }>;
type Wanted = Record<string, Record<string, string[] | { dropped: string }>>;

function targetOf(fate: LegacyColumn): string | undefined {
  if (typeof fate === "string") return fate;
  return "moved" in fate ? fate.moved : undefined;
}

function isLater(fate: LegacyColumn): boolean {
  return typeof fate === "object" && "moved" in fate && fate.later === true;
}

/** Tables of the platform may take a column, too. */
function exists(target: string): boolean {
  const [schema = "", table = "", column = ""] = target.split(".");
  if (schema === "auth" || schema === "storage") return true;
  return catalog.relation(`${schema}.${table}`)?.columns.some(({ name }) => name === column) ?? false;
}
