import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { exposedSchemas } from "../../scripts/catalog/schemas.ts";
import type { Relation } from "../../scripts/catalog/types.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { liveCatalog } from "./catalog.ts";
import {
  type Access,
  accessTo,
  actors,
  canForge,
  canGiveAway,
  openStage,
  placeRow,
  ranks,
  setStage,
} from "./matrix.ts";
import { inOrderOfReferences } from "./rows.ts";

// Tables whose rows are meant for everybody, each with the reason.
const open = JSON.parse(readFileSync(join(import.meta.dirname, "public-tables.json"), "utf8")) as Record<
  string,
  string
>;

const { tables, storage } = await liveCatalog();
const db = await createTestDatabase();
const stage = await setStage(db);
const connection = await db.connect("superuser");
const tried = inOrderOfReferences(tables.filter(({ isPartition }) => !isPartition));
await openStage(connection, tried);
tried.push(...storage.filter(({ name }) => name === "objects"));
for (const table of tried) await placeRow(connection, table, stage);

const matrix = new Map<string, Access>();
const gifts: string[] = [];
const forged: string[] = [];
for (const table of tried) {
  matrix.set(fullName(table), await accessTo(connection, table, stage));
  for (const actor of ["stranger", "author", ...ranks] as const) {
    if (await canGiveAway(connection, table, actor, stage)) gifts.push(`${fullName(table)}: ${actor}`);
    // The storage service writes its rows and says itself who uploads.
    const another = actor === "author" ? "owner" : "author";
    if (
      table.schema !== "storage" &&
      (await canForge(connection, table, actor, stage.userIds[another], stage))
    ) {
      forged.push(`${fullName(table)}: ${actor} in the name of ${another}`);
    }
  }
}

// A hole made on purpose, to see that the attempts would find one.
const secret = tried.find((table) => fullName(table) === "identity.personal_details")!;
await connection.query(
  "create policy hole on identity.personal_details for all to authenticated using (true)",
);
await connection.query("grant insert, delete on identity.personal_details to authenticated");
const withHole = await accessTo(connection, secret, stage);
await connection.rollback();

const cells = tried.map((table) => ({ table, access: matrix.get(fullName(table))! }));

/** Inserts a row of their own into a table that has no tenants: a follow, a device. */
function insertsOwn(table: Relation, access: string): boolean {
  return access === "-I--" && !table.columns.some(({ name }) => name === "workspace_id");
}

test("a policy that lets everybody in would be found", () => {
  expect(withHole.stranger).toBe("SIUD");
  expect(withHole.anon).toBe("----");
});

test("a visitor and a stranger read and change nothing of a tenant", () => {
  const seen = cells.flatMap(({ table, access }) =>
    (["anon", "stranger"] as const)
      .filter((actor) => access[actor] !== "----")
      .filter((actor) => !(fullName(table) in open && access[actor] === "S---"))
      .filter((actor) => !(actor === "stranger" && insertsOwn(table, access[actor])))
      .map((actor) => `${fullName(table)}: ${actor} ${access[actor]}`),
  );
  expect(seen).toEqual([]);
});

test("every table that is listed as public can be read by somebody outside", () => {
  const closed = Object.keys(open).filter((name) => matrix.get(name)?.stranger !== "S---");
  expect(closed).toEqual([]);
});

test("tables of schemas that are not exposed are closed to every client", () => {
  const reached = cells
    .filter(({ table }) => ![...exposedSchemas, "storage"].includes(table.schema))
    .filter(({ access }) => actors.some((actor) => actor !== "service" && access[actor] !== "----"));
  expect(reached.map(({ table }) => fullName(table))).toEqual([]);
});

test("a higher role may do whatever a lower one may", () => {
  const faults = cells.flatMap(({ table, access }) =>
    ranks.slice(1).flatMap((rank, i) => {
      const below = ranks[i]!;
      const lost = [...access[below]].filter((letter) => letter !== "-" && !access[rank].includes(letter));
      return lost.map((letter) => `${fullName(table)}: ${below} has ${letter}, ${rank} has not`);
    }),
  );
  expect(faults).toEqual([]);
});

test("a viewer changes nothing of the workspace", () => {
  const changed = cells.filter(
    ({ table, access }) => /[IUD]/.test(access.viewer) && !insertsOwn(table, access.viewer.replace("S", "-")),
  );
  expect(changed.map(({ table }) => fullName(table))).toEqual([]);
});

test("nobody can write a row in the name of another person", () => {
  expect(forged).toEqual([]);
});

test("nobody can give a row to another workspace or person", () => {
  expect(gifts).toEqual([]);
});

test("who may do what with whose rows is what was reviewed", async () => {
  const named = cells.map(({ table, access }) => ({ name: fullName(table), access }));
  const width = Math.max(...named.map(({ name }) => name.length));
  const line = (name: string, words: string[]) =>
    [name.padEnd(width), ...words.map((word) => word.padEnd(8))].join("  ").trimEnd();
  const lines = named
    .toSorted((a, b) => a.name.localeCompare(b.name))
    .map(({ name, access }) =>
      line(
        name,
        actors.map((actor) => access[actor]),
      ),
    );
  const legend = [
    "One row of each table belongs to a workspace and to an author (a viewer in it); who may select (S), insert (I),",
    "update (U) or delete (D) it? viewer to owner are other members, a stranger belongs to another workspace.",
    "",
  ];
  await expect(`${[...legend, line("", [...actors]), ...lines].join("\n")}\n`).toMatchFileSnapshot(
    "snapshots/access.txt",
  );
});
