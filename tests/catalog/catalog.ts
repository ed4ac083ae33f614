import { fullName, readCatalog } from "../../scripts/catalog/read.ts";
import type { Relation, Routine, Schema } from "../../scripts/catalog/types.ts";
import { createTestDatabase } from "../helpers/database.ts";

export interface Catalog {
  schemas: Schema[];
  tables: Relation[];
  views: Relation[];
  routines: Routine[];
  /** A relation by schema.name. */
  relation(name: string): Relation | undefined;
}

/** The catalog that the migrations alone make. */
export async function liveCatalog(): Promise<Catalog> {
  const db = await createTestDatabase({ plain: true });
  const schemas = await readCatalog(db.query);
  const relations = schemas.flatMap((schema) => schema.relations);
  const byName = new Map(relations.map((relation) => [fullName(relation), relation]));
  return {
    schemas,
    tables: relations.filter(({ kind }) => kind === "table" || kind === "partitioned table"),
    views: relations.filter(({ kind }) => kind === "view" || kind === "materialized view"),
    routines: schemas.flatMap((schema) => schema.routines),
    relation: (name) => byName.get(name),
  };
}
