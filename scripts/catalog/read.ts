// Reads the live catalog into plain objects; the reference docs and the catalog tests stand on it.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { platformSchemas } from "./schemas.ts";
import type { Relation, Routine, Schema } from "./types.ts";

export type Query = (sql: string, params: unknown[]) => Promise<Record<string, unknown>[]>;

/** Everything in the schemas that are ours. */
export async function readCatalog(query: Query): Promise<Schema[]> {
  const schemas = await read<Omit<Schema, "relations" | "routines">>(query, "schemas.sql", platformSchemas);
  const names = schemas.map((schema) => schema.name);
  const [relations, routines] = await Promise.all([
    readRelations(query, names),
    read<Routine>(query, "routines.sql", names),
  ]);
  return schemas.map((schema) => ({
    ...schema,
    relations: relations.filter((relation) => relation.schema === schema.name),
    routines: routines.filter((routine) => routine.schema === schema.name),
  }));
}

export function readRelations(query: Query, schemas: string[]): Promise<Relation[]> {
  return read<Relation>(query, "relations.sql", schemas);
}

async function read<T>(query: Query, file: string, names: string[]): Promise<T[]> {
  return (await query(await readFile(join(import.meta.dirname, file), "utf8"), [names])) as T[];
}

/** studio.creations */
export function fullName(object: { schema: string; name: string }): string {
  return `${object.schema}.${object.name}`;
}

/** studio.cancel_creation(creation_id uuid): overloads differ in their arguments. */
export function signature(routine: Routine): string {
  return `${fullName(routine)}(${routine.identity})`;
}
