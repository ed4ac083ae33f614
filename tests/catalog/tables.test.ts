import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { liveCatalog } from "./catalog.ts";
import { expectNoneBut } from "./exceptions.ts";

const { schemas, tables, views } = await liveCatalog();
const names = (relations: typeof tables) => relations.map(fullName);

test("every schema and every table has a comment", () => {
  expect(schemas.filter(({ comment }) => !comment).map(({ name }) => name)).toEqual([]);
  expect(names([...tables, ...views].filter(({ comment }) => !comment))).toEqual([]);
});

test("every comment of a table is one sentence", () => {
  const odd = tables.filter(({ comment }) => comment && !/^[^a-z].*[.]$/.test(comment));
  expect(odd.map((table) => `${fullName(table)}: ${table.comment}`)).toEqual([]);
});

test("row security is on for every table", () => {
  expect(names(tables.filter(({ rowSecurity }) => !rowSecurity))).toEqual([]);
});

test("every table has a primary key", () => {
  const without = tables.filter(({ constraints }) => !constraints.some(({ type }) => type === "primary key"));
  expectNoneBut("table without a primary key", names(without));
});

test("every view runs with its reader's rights", () => {
  expect(names(views.filter(({ kind, securityInvoker }) => kind === "view" && !securityInvoker))).toEqual([]);
});

test("every foreign key has an index that starts with its columns", () => {
  const missing = tables.flatMap((table) =>
    table.constraints
      .filter(({ type }) => type === "foreign key")
      .filter(
        ({ columns }) =>
          !table.indexes.some(
            (index) =>
              (index.predicate === null || columns.some((c) => index.predicate === `(${c} IS NOT NULL)`)) &&
              columns.every((column) => index.columns.slice(0, columns.length).includes(column)),
          ),
      )
      .map(({ name, columns }) => `${fullName(table)} (${columns.join(", ")}): ${name}`),
  );
  expectNoneBut("foreign key without an index", missing);
});

test("no index repeats the columns at the start of another", () => {
  const repeated = tables.flatMap((table) => {
    const plain = table.indexes.filter((index) => !/[()]/.test(columnList(index.definition)));
    return plain
      .filter((index) => !index.unique && !index.ofConstraint)
      .flatMap((index) =>
        plain
          .filter(
            (other) =>
              other.name !== index.name &&
              other.predicate === index.predicate &&
              method(other.definition) === method(index.definition) &&
              columnList(other.definition).startsWith(columnList(index.definition)) &&
              /^(,|$)/.test(columnList(other.definition).slice(columnList(index.definition).length)) &&
              !index.definition.includes(" INCLUDE "),
          )
          .map((other) => `${fullName(table)}: ${index.name} is the start of ${other.name}`),
      );
  });
  expect(repeated).toEqual([]);
});

test("every constraint has a name that says what it holds", () => {
  const generated = tables.flatMap((table) =>
    table.constraints
      .filter(({ type, name }) => type === "check" && /_check\d*$/.test(name))
      .map(({ name }) => `${fullName(table)}: ${name}`),
  );
  expect(generated).toEqual([]);
});

test("columns that end in _at are timestamptz, and every timestamp ends in _at or bounds a period", () => {
  const wrong = columnsWhere((name, type) =>
    name.endsWith("_at")
      ? type !== "timestamp with time zone"
      : type.startsWith("timestamp") && !/_(start|end|until)$/.test(name),
  );
  expect(wrong).toEqual([]);
});

test("columns that end in _micro or _minor are bigint", () => {
  expect(columnsWhere((name, type) => /_(micro|minor)$/.test(name) && type !== "bigint")).toEqual([]);
});

test("updated_at is kept by a trigger", () => {
  const untouched = tables.filter(
    ({ columns, triggers }) =>
      columns.some(({ name }) => name === "updated_at") &&
      !triggers.some(({ definition }) => definition.includes("private.touch_updated_at()")),
  );
  expectNoneBut("updated_at without a trigger", names(untouched));
});

test("no end time is the time of the insert by default", () => {
  const born = tables.flatMap((table) =>
    table.columns
      .filter(({ name }) =>
        /^(finished|completed|ended|expires|deleted|revoked|cancelled|captured|released)_at$/.test(name),
      )
      .filter((column) => /^(private\.)?now\(\)$/.test(column.default ?? ""))
      .map(({ name }) => `${fullName(table)}.${name}`),
  );
  expect(born).toEqual([]);
});

function columnsWhere(test: (name: string, type: string) => boolean): string[] {
  return tables.flatMap((table) =>
    table.columns
      .filter(({ name, type }) => test(name, type))
      .map(({ name, type }) => `${fullName(table)}.${name} ${type}`),
  );
}

function method(definition: string): string {
  return / USING (\w+) /.exec(definition)?.[1] ?? "";
}

function columnList(definition: string): string {
  return / USING \w+ \((.*?)\)( INCLUDE .*| WHERE .*| WITH .*)?$/.exec(definition)?.[1] ?? definition;
}

test("every table whose rows hold credits gives them back when a row is deleted", async () => {
  // the attempts of a creation name its hold, and are deleted with it alone
  const others = ["studio.creation_attempts"];
  const db = await createTestDatabase({ from: "plain" });
  const silent = await db.query(
    `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'usage_event_id' and not a.attisdropped
    where c.relkind = 'r' and n.nspname <> 'billing' and not exists (select from pg_trigger t
      where t.tgrelid = c.oid and t.tgdeferrable and t.tginitdeferred and t.tgtype & 8 = 8
        and t.tgfoid = 'billing._release_deleted_hold'::regproc)
    order by 1`,
  );
  expect(silent.map(({ name }) => name)).toEqual(others);
});
