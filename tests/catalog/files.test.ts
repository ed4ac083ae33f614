import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { liveCatalog } from "./catalog.ts";

const { tables } = await liveCatalog();
const db = await createTestDatabase({ from: "plain" });
const registered = await db.query<{ column: string }>(
  `select relation || '.' || column_name as column from ops.file_columns order by 1`,
);
const excused: Record<string, string> = JSON.parse(
  await readFile(new URL("path-columns.json", import.meta.url), "utf8"),
);
const known = registered.map(({ column }) => column);
/** Words of columns that could hold the path of an object, or a list of such. */
const likely =
  /path|file|image|photo|picture|thumbnail|avatar|logo|banner|attachment|media|document|video|audio|pdf|glb|screenshot|asset|object|bucket|storage/;
const columns = tables.flatMap((table) =>
  table.columns
    .filter(({ type }) => /^(text|jsonb|character varying)/.test(type))
    .map(({ name }) => ({ name, column: `${fullName(table)}.${name}` })),
);

test("every column that could hold the path of a file is registered, or excused with a reason", () => {
  const unknown = columns.filter(
    ({ name, column }) => likely.test(name) && !known.includes(column) && !(column in excused),
  );
  expect(unknown.map(({ column }) => column)).toEqual([]);
});

test("every column whose comment speaks of a bucket is registered", () => {
  const spoken = tables.flatMap((table) =>
    table.columns
      .filter(({ comment }) => /\bbuckets? (studio|vr|commerce|knowledge|billing)-/.test(comment ?? ""))
      .map(({ name }) => `${fullName(table)}.${name}`),
  );
  expect(spoken.filter((column) => !known.includes(column))).toEqual([]);
});

test("no excuse is for a column that is registered, or not there", () => {
  const there = new Set(columns.map(({ column }) => column));
  expect(Object.keys(excused).filter((column) => known.includes(column) || !there.has(column))).toEqual([]);
  expect(Object.values(excused).filter((reason) => reason.length < 10)).toEqual([]);
});

test("every bucket of ours is swept, and every table with files is of workspaces and tells when its rows go", async () => {
  const buckets = await db.query(
    "select b.id from storage.buckets b where not exists (select from ops.file_buckets f where f.bucket = b.id)",
  );
  expect(buckets).toEqual([]);
  const odd = await db.query(
    `select c.relation, c.column_name from ops.file_columns c
      where not exists (select from pg_trigger t where t.tgrelid = c.relation::regclass and t.tgname = 'files_of_deleted')
        or not exists (select from pg_trigger t where t.tgrelid = c.relation::regclass
          and t.tgname = 'files_of_changed_' || c.column_name)
        or not exists (select from pg_attribute a where a.attrelid = c.relation::regclass
          and a.attname = 'workspace_id')`,
  );
  expect(odd).toEqual([]);
});
