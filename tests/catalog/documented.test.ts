import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { assembleLegacyMap, type LegacyColumn } from "../../scripts/docs/legacy-map.ts";
import { root } from "../../scripts/generated.ts";
import { liveCatalog } from "./catalog.ts";

// What the apps' own documents say there was, table by table, "column type, column type". The documents are not part of
// this repository; where they are at hand, the copy is held against them.
const folder = join(import.meta.dirname, "documented");
const apps = readdirSync(folder).map((file) => file.replace(".json", ""));
const documents = join(root, "../shared/reference/tables.json");

const catalog = await liveCatalog();
const map = await assembleLegacyMap();
const sources = testSources(join(root, "tests"));

describe.each(apps)("%s", (app) => {
  const tables = Object.entries(
    JSON.parse(readFileSync(join(folder, `${app}.json`), "utf8")) as Record<string, string>,
  ).map(([table, columns]) => ({
    name: `${app}.${table}`,
    columns: columns.split(/, (?=\w+ )/).map((column) => {
      const [name = "", ...type] = column.split(" ");
      return { name, type: type.join(" ") };
    }),
    entry: map[`${app}.${table}`],
  }));

  test("every table lives on in relations that are there, or says why it does not", () => {
    const faults = tables.flatMap(({ name, entry }) => {
      if (!entry) return [`${name}: no entry`];
      const missing = (entry.relations ?? []).filter((relation) => !isThere(relation));
      const nowhere = entry.dropped === undefined && (entry.relations ?? []).length === 0;
      return [
        ...missing.map((relation) => `${name} -> ${relation}`),
        ...(nowhere ? [`${name}: nowhere`] : []),
      ];
    });
    expect(faults).toEqual([]);
  });

  test("every column has a place that is there, or a reason; and none is made up", () => {
    const faults = tables.flatMap(({ name, columns, entry }) => {
      const recorded = Object.keys(entry?.columns ?? {});
      return [
        ...columns
          .filter((column) => !recorded.includes(column.name))
          .map((column) => `${name}.${column.name}`),
        ...recorded
          .filter((column) => columns.every((one) => one.name !== column))
          .map((column) => `${name}.${column}: not documented`),
        ...Object.values(entry?.columns ?? {})
          .flatMap((fate) => placeOf(fate) ?? [])
          .filter((place) => !isThere(place.split(".").slice(0, 2).join(".")))
          .map((place) => `${name} -> ${place}`),
      ];
    });
    expect(faults).toEqual([]);
  });

  test("a column that is kept as it was holds what it held", () => {
    const faults = tables.flatMap(({ name, columns, entry }) =>
      columns.flatMap(({ name: column, type }) => {
        const fate = entry?.columns?.[column];
        if (typeof fate !== "string" || isPlatforms(fate)) return [];
        const [schema, relation, target] = fate.split(".");
        const now = catalog
          .relation(`${schema}.${relation}`)
          ?.columns.find((one) => one.name === target)?.type;
        return now !== undefined && holds(now, type) ? [] : [`${name}.${column} ${type} -> ${fate} ${now}`];
      }),
    );
    expect(faults).toEqual([]);
  });

  test("every relation that it lives on in is worked with by a test of its own", () => {
    const relations = new Set(
      tables.flatMap(({ entry }) => entry?.relations ?? []).filter((one) => !isPlatforms(one)),
    );
    const untested = [...relations].filter((relation) => {
      const [, name] = relation.split(".");
      return !sources.some((text) => text.includes(relation) || text.includes(`from("${name}")`));
    });
    expect(untested).toEqual([]);
  });

  test.runIf(existsSync(documents))("the copy says what the app's document says", () => {
    const said = JSON.parse(readFileSync(documents, "utf8"))[app].tables as Record<
      string,
      { columns: { name: string; type: string }[] }
    >;
    const short = (type: string) => type.replace("timestamp with time zone", "timestamptz");
    expect(Object.fromEntries(tables.map(({ name, columns }) => [name, columns]))).toEqual(
      Object.fromEntries(
        Object.entries(said).map(([table, { columns }]) => [
          `${app}.${table}`,
          columns.map(({ name, type }) => ({ name, type: short(type) })),
        ]),
      ),
    );
  });
});

function placeOf(fate: LegacyColumn): string | undefined {
  if (typeof fate === "string") return fate;
  return "moved" in fate ? fate.moved : undefined;
}

const isPlatforms = (place: string) => /^(auth|storage)\./.test(place);
const isThere = (relation: string) => isPlatforms(relation) || catalog.relation(relation) !== undefined;

/** Does a column of one type take every value of another? */
function holds(now: string, before: string): boolean {
  const wide: [RegExp, RegExp][] = [
    [/^(text|character varying(\(\d+\))?|qa_\w+)$/, /^(text|character varying|[a-z]+\.[a-z_]+)/],
    [/^(integer|bigint)$/, /^(integer|smallint|bigint|numeric)/],
    [/^numeric/, /^(numeric|double precision|real)/],
    [/^vector\(1536\)$/, /^ai\.embedding$/],
    [/^timestamptz$/, /^timestamp with time zone$/],
  ];
  return now === before || wide.some(([old, fresh]) => old.test(before) && fresh.test(now));
}

/** Tests that work with rows, not those that look over the whole catalog. */
function testSources(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter(({ name, parentPath }) => name.endsWith(".ts") && !/\/(catalog|bench)(\/|$)/.test(parentPath))
    .map(({ name, parentPath }) => readFileSync(join(parentPath, name), "utf8"));
}
