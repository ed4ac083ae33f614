// Makes a row for any table from the catalog alone, belonging to a given workspace and person.

import { randomUUID } from "node:crypto";
import { fullName } from "../../scripts/catalog/read.ts";
import type { Column, Relation } from "../../scripts/catalog/types.ts";

export type Values = Record<string, unknown>;

/** Whose row it is to be, and what rows of other tables it may point at. */
export interface Owner {
  workspaceId: string;
  userId: string;
  rows: Map<string, Values>;
}

/** Values that a policy looks at and that no default gives. */
const overrides: Record<string, (owner: Owner) => Values> = {
  // names its account without a foreign key
  "billing.ledger_entries": ({ rows }) => ({ account_id: rows.get("billing.ledger_accounts")?.id }),
  "identity.workspace_members": () => ({ role: "viewer" }),
  "integrations.webhook_subscriptions": ({ rows }) => ({
    connected_account_id: rows.get("integrations.connected_accounts")?.id,
  }),
  "storage.objects": ({ workspaceId, userId }) => ({
    bucket_id: "studio-uploads",
    name: `${workspaceId}/${randomUUID()}.png`,
    owner: userId,
    owner_id: userId,
  }),
};

const users = ["auth.users", "identity.profiles"];

export function makeRow(table: Relation, owner: Owner): Values {
  const row: Values = {};
  for (const column of table.columns) {
    if (column.generated === "always" || column.generated === "stored") continue;
    const value = valueFor(table, column, owner);
    if (value !== undefined) row[column.name] = value;
  }
  return { ...row, ...overrides[fullName(table)]?.(owner) };
}

function valueFor(table: Relation, column: Column, owner: Owner): unknown {
  if (column.name === "workspace_id") return owner.workspaceId;
  if (column.name === "user_id") return owner.userId;
  const target = referenceOf(table, column.name);
  if (target && users.includes(target.table)) return owner.userId;
  if (column.nullable || column.default !== null) return undefined;
  if (target?.table === "identity.workspaces") return owner.workspaceId;
  const parent = target && owner.rows.get(target.table)?.[target.column];
  return parent ?? plainValue(column);
}

/** What the column's foreign key points at; of several, the one with the fewest columns. */
function referenceOf(table: Relation, column: string): { table: string; column: string } | undefined {
  const [key] = table.constraints
    .filter(({ references, columns }) => references && columns.includes(column))
    .toSorted((a, b) => a.columns.length - b.columns.length);
  if (!key?.references) return undefined;
  return {
    table: key.references.table,
    column: key.references.columns[key.columns.indexOf(column)] ?? "id",
  };
}

function plainValue({ name, type }: Column): unknown {
  if (type.endsWith("[]")) return "{}";
  if (type === "uuid") return randomUUID();
  if (type === "boolean") return true;
  if (type === "bytea") return Buffer.from(randomUUID());
  if (type.startsWith("json")) return "{}";
  if (type.startsWith("timestamp") || type === "date") return "2030-01-01T00:00:00Z";
  if (type === "interval") return "1 minute";
  if (type === "inet" || type === "cidr") return "127.0.0.1";
  if (/^(smallint|integer|bigint|numeric|real|double)/.test(type)) return 1;
  if (/^(text|character|citext)/.test(type)) return `${name} ${randomUUID().slice(0, 8)}`;
  throw new Error(`tests/catalog/rows.ts knows no value for ${name} ${type}.`);
}

/** Parents before children, as far as there is an order. */
export function inOrderOfReferences(tables: Relation[]): Relation[] {
  const byName = new Map(tables.map((table) => [fullName(table), table]));
  const ordered = new Set<Relation>();
  const visit = (table: Relation, path: Relation[]) => {
    if (ordered.has(table) || path.includes(table)) return;
    for (const { references } of table.constraints) {
      const parent = references && byName.get(references.table);
      if (parent) visit(parent, [...path, table]);
    }
    ordered.add(table);
  };
  for (const table of tables) visit(table, []);
  return [...ordered];
}
