import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Session } from "../helpers/session.ts";
import type { TestUser } from "../helpers/users.ts";
import { type Brand, createStudio, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
let ben: Brand;
const people = {} as Record<"viewer" | "member" | "editor", TestUser>;
beforeAll(async () => {
  db = await createStudio();
  [ann, ben] = await Promise.all([db.brand(), db.brand()]);
  for (const role of ["viewer", "member", "editor"] as const)
    people[role] = await db.join(ann.workspaceId, role);
});

const as = (role: keyof typeof people): Session => db.user(people[role].id);
const path = (workspace: string) => `${workspace}/${randomUUID()}.png`;

/** What each table of the library needs to be inserted, and a column that editors may change. */
const tables: Record<string, { row(workspace: string): Record<string, unknown>; change: string }> = {
  wardrobe_collections: { row: () => ({ name: randomUUID() }), change: "description" },
  wardrobe_garments: {
    row: (workspace) => ({ storage_path: path(workspace), filename: "a.png" }),
    change: "name",
  },
  models: { row: (workspace) => ({ storage_path: path(workspace) }), change: "name" },
  projects: { row: () => ({ name: "Autumn" }), change: "description" },
};

function insert(session: Session, table: string, values: Record<string, unknown>) {
  const names = Object.keys(values);
  return session.query(
    `insert into studio.${table} (${names}) values (${names.map((_, n) => `$${n + 1}`)}) returning id`,
    Object.values(values),
  );
}
const add = async (table: string, workspace = ann.workspaceId): Promise<string> =>
  (await insert(db, table, { workspace_id: workspace, ...tables[table]!.row(workspace) }))[0]!.id;

describe.each(Object.entries(tables))("studio.%s", (table, { row, change }) => {
  const mine = (workspace = ann.workspaceId) => ({ workspace_id: workspace, ...row(workspace) });

  test("viewers read, members add, editors change and delete", async () => {
    const id = await add(table);
    const update = `update studio.${table} set ${change} = 'new' where id = $1 returning id`;
    const remove = `delete from studio.${table} where id = $1 returning id`;
    expect(await as("viewer").query(`select id from studio.${table} where id = $1`, [id])).toEqual([{ id }]);
    await expectError(insert(as("viewer"), table, mine()), "42501");
    expect(await insert(as("member"), table, mine())).toHaveLength(1);
    for (const role of ["viewer", "member"] as const) {
      expect(await as(role).query(update, [id])).toEqual([]);
      expect(await as(role).query(remove, [id])).toEqual([]);
    }
    expect(await as("editor").query(update, [id])).toEqual([{ id }]);
    expect(await as("editor").query(remove, [id])).toEqual([{ id }]);
  });

  test("strangers and visitors get nothing", async () => {
    const id = await add(table);
    const stranger = db.user(ben.id);
    expect(
      await stranger.query(`select id from studio.${table} where workspace_id = $1`, [ann.workspaceId]),
    ).toEqual([]);
    await expectError(insert(stranger, table, mine()), "42501");
    expect(
      await stranger.query(`update studio.${table} set ${change} = 'x' where id = $1 returning id`, [id]),
    ).toEqual([]);
    expect(await stranger.query(`delete from studio.${table} where id = $1 returning id`, [id])).toEqual([]);
    await expectError(db.anon.query(`select from studio.${table}`), "42501");
    await expectError(insert(db.anon, table, mine()), "42501");
  });

  test("nobody gives a row to another workspace or writes what the service keeps", async () => {
    const id = await add(table);
    const columns = await db.query<{ name: string }>(
      `select column_name as name from information_schema.columns
      where table_schema = 'studio' and table_name = $1 and column_name = any ($2)`,
      [
        table,
        [
          "workspace_id",
          "id",
          "created_at",
          "updated_at",
          "created_by",
          "usage_count",
          "last_used_at",
          "total_creations",
          "total_cost_micro",
          "storage_path",
          "file_size",
          "mime_type",
          "linked_source",
          "shopify_product_id",
        ],
      ],
    );
    expect(columns.length).toBeGreaterThan(3);
    for (const { name } of columns) {
      const call = db.user(ann.id).query(`update studio.${table} set ${name} = ${name} where id = $1`, [id]);
      await expectError(call, "42501");
    }
  });
});

describe("counters and authors", () => {
  test.each([
    ["wardrobe_garments", "usage_count", 5],
    ["wardrobe_garments", "last_used_at", "2026-01-01"],
    ["wardrobe_garments", "created_by", randomUUID()],
    ["wardrobe_garments", "shopify_product_id", randomUUID()],
    ["models", "usage_count", 5],
    ["projects", "total_cost_micro", 5],
    ["projects", "total_creations", 5],
    ["wardrobe_collections", "created_by", randomUUID()],
  ])("cannot be given with a new row: %s.%s", async (table, column, value) => {
    const values = { workspace_id: ann.workspaceId, ...tables[table]!.row(ann.workspaceId), [column]: value };
    await expectError(insert(db.user(ann.id), table, values), "42501");
  });

  test("a garment knows who added it", async () => {
    const [{ id }] = (await insert(as("member"), "wardrobe_garments", {
      workspace_id: ann.workspaceId,
      ...tables.wardrobe_garments!.row(ann.workspaceId),
    })) as [{ id: string }];
    const [garment] = await db.query("select created_by from studio.wardrobe_garments where id = $1", [id]);
    expect(garment).toEqual({ created_by: people.member.id });
  });
});

describe("a picture's path", () => {
  test.each([
    ["another workspace's", () => path(ben.workspaceId)],
    ["none at all", () => "a.png"],
    ["one that climbs out", () => `${ann.workspaceId}/../${ben.workspaceId}/a.png`],
    ["one that climbs out at its end", () => `${ann.workspaceId}/a/..`],
    ["one that stays where it is", () => `${ann.workspaceId}/./a.png`],
    ["one with an empty folder", () => `${ann.workspaceId}//a.png`],
    ["a folder", () => `${ann.workspaceId}/a/`],
    ["the workspace's folder itself", () => `${ann.workspaceId}/`],
    ["one that only begins alike", () => `${ann.workspaceId}x/a.png`],
    ["one in capitals", () => `${ann.workspaceId.toUpperCase()}/a.png`],
    ["an absolute one", () => `/${ann.workspaceId}/a.png`],
    ["one that is too long", () => `${ann.workspaceId}/${"a".repeat(1000)}`],
  ])("is refused for garments and models: %s", async (_name, make) => {
    for (const table of ["wardrobe_garments", "models"]) {
      const values = {
        workspace_id: ann.workspaceId,
        ...tables[table]!.row(ann.workspaceId),
        storage_path: make(),
      };
      await expectError(insert(as("editor"), table, values), "23514");
    }
  });

  test.each(["a b.png", "..a.png", "a..png", "...", "später/ü.webp", "%2e%2e/x"])(
    "may be %j",
    async (rest) => {
      const values = {
        workspace_id: ann.workspaceId,
        filename: "x",
        storage_path: `${ann.workspaceId}/${rest}`,
      };
      expect(await insert(as("member"), "wardrobe_garments", values)).toHaveLength(1);
    },
  );

  test("belongs to one garment", async () => {
    const values = { workspace_id: ann.workspaceId, ...tables.wardrobe_garments!.row(ann.workspaceId) };
    await insert(as("member"), "wardrobe_garments", values);
    await expectError(insert(as("member"), "wardrobe_garments", values), "23505");
  });
});

describe("collections and projects of others", () => {
  test("take no garment: a garment's collection is its workspace's", async () => {
    const foreign = await add("wardrobe_collections", ben.workspaceId);
    const garment = await add("wardrobe_garments");
    const values = { workspace_id: ann.workspaceId, ...tables.wardrobe_garments!.row(ann.workspaceId) };
    await expectError(
      insert(db.user(ann.id), "wardrobe_garments", { ...values, collection_id: foreign }),
      "23503",
    );
    const move = "update studio.wardrobe_garments set collection_id = $1 where id = $2";
    await expectError(db.user(ann.id).query(move, [foreign, garment]), "23503");
  });

  test("a deleted collection leaves its garments to the default one", async () => {
    const [collection, garment] = [await add("wardrobe_collections"), await add("wardrobe_garments")];
    await db
      .user(ann.id)
      .query("update studio.wardrobe_garments set collection_id = $1 where id = $2", [collection, garment]);
    await as("editor").query("delete from studio.wardrobe_collections where id = $1", [collection]);
    const [left] = await db.query(
      `select g.workspace_id, c.is_default from studio.wardrobe_garments g
      join studio.wardrobe_collections c on c.id = g.collection_id where g.id = $1`,
      [garment],
    );
    expect(left).toEqual({ workspace_id: ann.workspaceId, is_default: true });
  });
});

describe("studio.creations", () => {
  test("are read by members of the workspace and by nobody else", async () => {
    const { id } = await db.request(ann);
    expect(await as("viewer").query("select id from studio.creations where id = $1", [id])).toEqual([{ id }]);
    expect(await db.user(ben.id).query("select id from studio.creations where id = $1", [id])).toEqual([]);
    await expectError(db.anon.query("select from studio.creations"), "42501");
  });

  test("are written by their functions: a client sets no status, cost, result or owner", async () => {
    const { id } = await db.request(ann);
    const columns = await db.query<{ name: string }>(
      `select column_name as name from information_schema.columns
      where table_schema = 'studio' and table_name = 'creations' and column_name <> 'project_id'`,
    );
    for (const { name } of columns) {
      const call = db.user(ann.id).query(`update studio.creations set ${name} = ${name} where id = $1`, [id]);
      await expectError(call, "42501");
    }
    await expectError(insert(db.user(ann.id), "creations", { workspace_id: ann.workspaceId }), "42501");
    await expectError(insert(db.service, "creations", { workspace_id: ann.workspaceId }), "42501");
  });

  test("move between projects of their workspace, by editors", async () => {
    const { id } = await db.request(ann);
    const [own, foreign] = [await add("projects"), await add("projects", ben.workspaceId)];
    const move = "update studio.creations set project_id = $1 where id = $2 returning id";
    expect(await as("member").query(move, [own, id])).toEqual([]);
    expect(await as("editor").query(move, [own, id])).toEqual([{ id }]);
    expect(await as("editor").query(move, [null, id])).toEqual([{ id }]);
    await expectError(as("editor").query(move, [foreign, id]), "42501");
  });

  test("are deleted by editors once they have ended, not before", async () => {
    const [open, ended] = [await db.request(ann), await db.request(ann)];
    await db.finish([ended]);
    const remove = "delete from studio.creations where id = any ($1) returning id";
    expect(await as("member").query(remove, [[open.id, ended.id]])).toEqual([]);
    expect(await as("editor").query(remove, [[open.id, ended.id]])).toEqual([{ id: ended.id }]);
  });

  test("with an end that does not add up cannot be stored by anybody", async () => {
    const { id } = await db.request(ann);
    for (const change of [
      "status = 'completed', completed_at = now()",
      "status = 'failed', completed_at = now()",
      "status = 'cancelled'",
      "completed_at = now()",
      "error_message = 'x'",
      "result_paths = '{a}', cost_micro = 1",
    ]) {
      await expectError(db.query(`update studio.creations set ${change} where id = $1`, [id]), "23514");
    }
  });
});
