import { fullName, readCatalog, readRelations } from "../../scripts/catalog/read.ts";
import type { Relation, Routine, Schema } from "../../scripts/catalog/types.ts";
import { createTestDatabase } from "../helpers/database.ts";

export interface Catalog {
  schemas: Schema[];
  tables: Relation[];
  views: Relation[];
  routines: Routine[];
  /** The platform's storage.objects and buckets: their policies are ours. */
  storage: Relation[];
  /** A relation of ours by schema.name. */
  relation(name: string): Relation | undefined;
  errorCodes: string[];
}

/** The catalog that the migrations alone make. */
export async function liveCatalog(): Promise<Catalog> {
  const db = await createTestDatabase({ from: "plain" });
  const schemas = await readCatalog(db.query);
  const storage = await readRelations(db.query, ["storage"]);
  const errors = await db.query<{ name: string }>("select name from private.error_codes order by name");
  await db.drop();
  const relations = schemas.flatMap((schema) => schema.relations);
  const byName = new Map(relations.map((relation) => [fullName(relation), relation]));
  return {
    schemas,
    tables: relations.filter(({ kind }) => kind === "table" || kind === "partitioned table"),
    views: relations.filter(({ kind }) => kind === "view" || kind === "materialized view"),
    routines: schemas.flatMap((schema) => schema.routines),
    storage: storage.filter(({ name }) => name === "objects" || name === "buckets"),
    relation: (name) => byName.get(name),
    errorCodes: errors.map(({ name }) => name),
  };
}
