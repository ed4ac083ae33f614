// Reads the live catalog into plain objects; the reference docs and the catalog tests stand on it.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { platformSchemas } from "./schemas.ts";
import type { Relation, Routine, Schema } from "./types.ts";

export type Query = (sql: string, params: unknown[]) => Promise<Record<string, unknown>[]>;

export async function readCatalog(query: Query): Promise<Schema[]> {
  const read = async <T>(file: string, names: string[]) =>
    (await query(await readFile(join(import.meta.dirname, file), "utf8"), [names])) as T[];
  const schemas = await read<Omit<Schema, "relations" | "routines">>("schemas.sql", platformSchemas);
  const names = schemas.map((schema) => schema.name);
  const [relations, routines] = await Promise.all([
    read<Relation>("relations.sql", names),
    read<Routine>("routines.sql", names),
  ]);
  return schemas.map((schema) => ({
    ...schema,
    relations: relations.filter((relation) => relation.schema === schema.name),
    routines: routines.filter((routine) => routine.schema === schema.name),
  }));
}

/** studio.creations */
export function fullName(object: { schema: string; name: string }): string {
  return `${object.schema}.${object.name}`;
}

/** studio.cancel_creation(uuid): overloads differ in their types. */
export function signature(routine: Routine): string {
  return `${fullName(routine)}(${routine.identity})`;
}
