import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fullName } from "../../scripts/catalog/read.ts";
import { exposedSchemas } from "../../scripts/catalog/schemas.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { liveCatalog } from "./catalog.ts";
import {
  type Access,
  accessTo,
  actors,
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
for (const table of tried) {
  matrix.set(fullName(table), await accessTo(connection, table, stage));
  for (const actor of ["stranger", "author", ...ranks] as const) {
    if (await canGiveAway(connection, table, actor, stage)) gifts.push(`${fullName(table)}: ${actor}`);
  }
}
await connection.rollback();
const cells = [...matrix].map(([name, access]) => ({ name, access }));

test("a stranger and a visitor read nothing of a tenant, and change nothing at all", () => {
  const seen = cells.flatMap(({ name, access }) =>
    (["anon", "stranger"] as const)
      .filter((actor) => access[actor] !== (name in open && access[actor] === "S---" ? "S---" : "----"))
      .map((actor) => `${name}: ${actor} ${access[actor]}`),
  );
  expect(seen).toEqual([]);
});

test("every table that is listed as public can be read by somebody outside", () => {
  const closed = Object.keys(open).filter((name) => matrix.get(name)?.stranger !== "S---");
  expect(closed).toEqual([]);
});

test("tables of schemas that are not exposed are closed to every client", () => {
  const reached = cells
    .filter(({ name }) => ![...exposedSchemas, "storage"].includes(name.split(".")[0] ?? ""))
    .filter(({ access }) => actors.some((actor) => actor !== "service" && access[actor] !== "----"))
    .map(({ name }) => name);
  expect(reached).toEqual([]);
});

test("a higher role may do whatever a lower one may", () => {
  const faults = cells.flatMap(({ name, access }) =>
    ranks.slice(1).flatMap((rank, i) => {
      const below = ranks[i]!;
      const lost = [...access[below]].filter((letter) => letter !== "-" && !access[rank].includes(letter));
      return lost.map((letter) => `${name}: ${below} has ${letter}, ${rank} has not`);
    }),
  );
  expect(faults).toEqual([]);
});

test("a viewer changes nothing of the workspace", () => {
  expect(cells.filter(({ access }) => /[IUD]/.test(access.viewer)).map(({ name }) => name)).toEqual([]);
});

test("nobody can give a row to another workspace or person", () => {
  expect(gifts).toEqual([]);
});

test("who may do what with whose rows is what was reviewed", async () => {
  const width = Math.max(...cells.map(({ name }) => name.length));
  const line = (name: string, words: string[]) =>
    [name.padEnd(width), ...words.map((word) => word.padEnd(8))].join("  ").trimEnd();
  const lines = cells
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
