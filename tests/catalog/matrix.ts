// Tries every verb on one row of every table as every actor.

import { fullName } from "../../scripts/catalog/read.ts";
import type { Relation } from "../../scripts/catalog/types.ts";
import type { TestDatabase } from "../helpers/database.ts";
import type { Claims, Connection } from "../helpers/session.ts";
import { makeRow, type Owner, type Values } from "./rows.ts";

export const ranks = ["viewer", "member", "editor", "admin", "owner"] as const;
/** "author" is a viewer whose own row it is; "stranger" is signed in and belongs elsewhere. */
export const actors = ["anon", "stranger", "author", ...ranks, "service"] as const;
export type Actor = (typeof actors)[number];
/** Which of select, insert, update, delete get through: "S---", "SIUD". */
export type Access = Record<Actor, string>;

export interface Stage {
  owner: Owner;
  strangersWorkspace: string;
  userIds: Record<Exclude<Actor, "anon" | "service">, string>;
}

/** A workspace with a member of each rank, an author, and a stranger with a workspace of their own. */
export async function setStage(db: TestDatabase): Promise<Stage> {
  const people = ["stranger", "author", ...ranks] as const;
  const users = await Promise.all(people.map((name) => db.createUser({ email: `${name}@example.com` })));
  const userIds = Object.fromEntries(people.map((name, i) => [name, users[i]!.id])) as Stage["userIds"];
  const { id: workspaceId } = await db
    .user(userIds.owner)
    .call("identity.create_workspace", { name: "Stage" });
  for (const name of ["author", "viewer", "member", "editor", "admin"] as const) {
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
      [workspaceId, userIds[name], name === "author" ? "viewer" : name],
    );
  }
  const rows = new Map<string, Values>([
    ["identity.workspaces", await one(db, "select * from identity.workspaces where id = $1", workspaceId)],
    ["identity.profiles", await one(db, "select * from identity.profiles where id = $1", userIds.author)],
  ]);
  return {
    owner: { workspaceId, userId: userIds.author, rows },
    strangersWorkspace: users[0]!.workspaceId,
    userIds,
  };
}

async function one(db: TestDatabase, sql: string, id: string): Promise<Values> {
  const [row] = await db.query(sql, [id]);
  if (!row) throw new Error(`No row: ${sql}`);
  return row;
}

/**
 * Opens the transaction in which everything is tried: no triggers, no foreign keys, no checks, so that
 * rights and policies alone decide. Nothing of it is committed.
 */
export async function openStage(connection: Connection, tables: Relation[]): Promise<void> {
  await connection.begin();
  await connection.query("set local session_replication_role = replica");
  for (const table of tables) {
    for (const { name } of table.constraints.filter(({ type }) => type === "check")) {
      await connection.query(`alter table ${fullName(table)} drop constraint "${name}"`);
    }
  }
}

/** Puts the author's row into the table and remembers it for tables that point at it. */
export async function placeRow(connection: Connection, table: Relation, stage: Stage): Promise<Values> {
  const name = fullName(table);
  const present = stage.owner.rows.get(name);
  if (present) return present;
  const row = makeRow(table, stage.owner);
  const own = ["workspace_id", "user_id"].filter((column) => column in row);
  if (own.length > 0) {
    const where = own.map((column, i) => `${column} = $${i + 1}`).join(" and ");
    await connection.query(
      `delete from ${name} where ${where}`,
      own.map((column) => row[column]),
    );
  }
  // a table of one row has it already
  const [made] = await insert(connection, name, row, "on conflict do nothing returning *");
  const stored = made ?? (await connection.query(`select * from ${name} limit 1`))[0];
  if (!stored) throw new Error(`${name} took no row.`);
  stage.owner.rows.set(name, stored);
  return stored;
}

export async function accessTo(connection: Connection, table: Relation, stage: Stage): Promise<Access> {
  const row = stage.owner.rows.get(fullName(table))!;
  const access = {} as Access;
  for (const actor of actors) {
    const attempt = (sql: string, params: unknown[]) =>
      tryAs(connection, claimsOf(actor, stage), sql, params);
    const selected = await attempt(...selectStatement(table, row));
    const self = actor === "anon" || actor === "service" ? stage.owner.userId : stage.userIds[actor];
    const own = makeRow(table, { ...stage.owner, userId: self });
    const inserted = await tryInsert(connection, table, actor, stage, own);
    const column = await updatableColumn(connection, table, actor);
    const updated = column !== undefined && (await attempt(...updateStatement(table, row, column)));
    const deleted = await attempt(...deleteStatement(table, row));
    access[actor] = [selected && "S", inserted && "I", updated && "U", deleted && "D"]
      .map((letter) => letter || "-")
      .join("");
  }
  return access;
}

/** Whether the actor can give the row to another workspace or person. */
export async function canGiveAway(
  connection: Connection,
  table: Relation,
  actor: Actor,
  stage: Stage,
): Promise<boolean> {
  const row = stage.owner.rows.get(fullName(table))!;
  const gifts: [string, string][] = [
    ["workspace_id", stage.strangersWorkspace],
    ["user_id", stage.userIds.stranger],
  ];
  for (const [column, value] of gifts.filter(([name]) => table.columns.some((c) => c.name === name))) {
    const [where, params] = whereKey(table, row, 2);
    const sql = `update ${fullName(table)} set ${column} = $1 ${where}`;
    if (await tryAs(connection, claimsOf(actor, stage), sql, [value, ...params])) return true;
  }
  return false;
}

export function claimsOf(actor: Actor, stage: Stage): Claims {
  if (actor === "anon") return { role: "anon" };
  if (actor === "service") return { role: "service_role" };
  return { role: "authenticated", sub: stage.userIds[actor], email: `${actor}@example.com` };
}

/** Whether the actor can insert a row that says it is another person's. */
export async function canForge(
  connection: Connection,
  table: Relation,
  actor: Actor,
  userId: string,
  stage: Stage,
): Promise<boolean> {
  const row = makeRow(table, { ...stage.owner, userId });
  const allowed = await columnsWith("insert", connection, table, actor);
  const forged = Object.keys(row).some((column) => row[column] === userId && allowed.has(column));
  return forged && tryInsert(connection, table, actor, stage, row);
}

async function tryInsert(
  connection: Connection,
  table: Relation,
  actor: Actor,
  stage: Stage,
  row: Values,
): Promise<boolean> {
  const allowed = await columnsWith("insert", connection, table, actor);
  const granted = Object.entries(row).filter(([column]) => allowed.has(column));
  if (granted.length === 0) return false;
  const columns = granted.map(([column]) => `"${column}"`).join(", ");
  const places = granted.map((_, i) => `$${i + 1}`).join(", ");
  const sql = `insert into ${fullName(table)} (${columns}) values (${places})`;
  const values = granted.map(([, value]) => value);
  return tryAs(connection, claimsOf(actor, stage), sql, values);
}

async function updatableColumn(
  connection: Connection,
  table: Relation,
  actor: Actor,
): Promise<string | undefined> {
  const allowed = await columnsWith("update", connection, table, actor);
  return table.columns.find(({ name, generated }) => allowed.has(name) && !generated)?.name;
}

async function columnsWith(
  right: string,
  connection: Connection,
  table: Relation,
  actor: Actor,
): Promise<Set<string>> {
  const role = actor === "anon" ? "anon" : actor === "service" ? "service_role" : "authenticated";
  const rows = await connection.query<{ name: string }>(
    "select name from unnest($1::text[]) name where has_column_privilege($2, $3, name, $4)",
    [table.columns.map(({ name }) => name), role, fullName(table), right],
  );
  return new Set(rows.map(({ name }) => name));
}

/** Runs the statement as the actor and takes it back; true when it reached a row, an insert when it was let in. */
async function tryAs(
  connection: Connection,
  claims: Claims,
  sql: string,
  params: unknown[],
): Promise<boolean> {
  await connection.query("savepoint attempt");
  try {
    await connection.query("select set_config('request.jwt.claims', $1, true)", [JSON.stringify(claims)]);
    await connection.query(`set local role ${claims.role}`);
    const rows = await connection.query(sql, params);
    return sql.startsWith("insert") || rows.length > 0;
  } catch (error) {
    const { code = "" } = error as { code?: string };
    if (code === "42501") return false;
    // Rights and policies are checked first: who meets a constraint has passed them.
    if (code.startsWith("23")) return true;
    throw new Error(`${sql}: ${error}`, { cause: error });
  } finally {
    await connection.query("rollback to attempt");
  }
}

function keyColumns(table: Relation): string[] {
  const key = table.constraints.find(({ type }) => type === "primary key");
  return key?.columns ?? table.columns.map(({ name }) => name);
}

function whereKey(table: Relation, row: Values, first = 1): [string, unknown[]] {
  const columns = keyColumns(table);
  const terms = columns.map((column, i) => `"${column}" = $${first + i}`);
  return [`where ${terms.join(" and ")} returning 1`, columns.map((column) => row[column])];
}

function selectStatement(table: Relation, row: Values): [string, unknown[]] {
  const [where, params] = whereKey(table, row);
  return [`select 1 from ${fullName(table)} ${where.replace(" returning 1", "")}`, params];
}

function updateStatement(table: Relation, row: Values, column: string): [string, unknown[]] {
  const [where, params] = whereKey(table, row);
  return [`update ${fullName(table)} set "${column}" = "${column}" ${where}`, params];
}

function deleteStatement(table: Relation, row: Values): [string, unknown[]] {
  const [where, params] = whereKey(table, row);
  return [`delete from ${fullName(table)} ${where}`, params];
}

async function insert(
  connection: Connection,
  name: string,
  row: Values,
  returning: string,
): Promise<Values[]> {
  const columns = Object.keys(row).map((column) => `"${column}"`);
  const places = columns.map((_, i) => `$${i + 1}`);
  const list =
    columns.length > 0 ? `(${columns.join(", ")}) values (${places.join(", ")})` : "default values";
  return connection.query(`insert into ${name} ${list} ${returning}`, Object.values(row));
}
