// docs/legacy/<domain>.json, put together: where every table and column of the five apps went.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { root } from "../generated.ts";

const column = z.union([
  /** Kept, as schema.table.column. */
  z.string(),
  z.strictObject({
    moved: z.string(),
    reason: z.string().min(3),
    /** The target comes with a domain that is not built yet. */
    later: z.literal(true).optional(),
  }),
  z.strictObject({ dropped: z.string().min(3) }),
]);
const entry = z.strictObject({
  relations: z.array(z.string()).optional(),
  dropped: z.string().min(3).optional(),
  columns: z.record(z.string(), column).optional(),
});
const part = z.record(z.string(), entry);

export type LegacyColumn = z.infer<typeof column>;
export type LegacyMap = z.infer<typeof part>;

export const partsFolder = join(root, "docs/legacy");

/** Keys are app.table as the apps' documents name them. */
export async function assembleLegacyMap(): Promise<LegacyMap> {
  const map: LegacyMap = {};
  for (const file of (await readdir(partsFolder)).filter((name) => name.endsWith(".json")).sort()) {
    const parsed = part.safeParse(JSON.parse(await readFile(join(partsFolder, file), "utf8")));
    if (!parsed.success) throw new Error(`docs/legacy/${file}:\n${z.prettifyError(parsed.error)}`);
    for (const [table, value] of Object.entries(parsed.data)) {
      map[table] = table in map ? merge(map[table]!, value, `${file}: ${table}`) : value;
    }
  }
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => a.localeCompare(b)));
}

/** Two domains may share a table of an app, each with columns of its own. */
function merge(one: LegacyMap[string], other: LegacyMap[string], where: string): LegacyMap[string] {
  const twice = Object.keys(other.columns ?? {}).filter((name) => name in (one.columns ?? {}));
  if (twice.length > 0) throw new Error(`docs/legacy/${where}: another part has ${twice.join(", ")}, too.`);
  return {
    ...one,
    ...other,
    relations: [...new Set([...(one.relations ?? []), ...(other.relations ?? [])])],
    columns: { ...one.columns, ...other.columns },
  };
}
