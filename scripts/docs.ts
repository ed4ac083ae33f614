// npm run docs: the reference in docs/reference/ from the live catalog, and docs/legacy-map.json from its parts.

import pg from "pg";
import { readCatalog } from "./catalog/read.ts";
import { exposedSchemas } from "./catalog/schemas.ts";
import { environmentPage } from "./docs/environment.ts";
import { assembleLegacyMap } from "./docs/legacy-map.ts";
import { type ErrorCode, errorsPage, indexPage } from "./docs/overview.ts";
import { schemaPage } from "./docs/schema-page.ts";
import { type Files, writeOrCheck } from "./generated.ts";
import { withScratchDatabase } from "./scratch.ts";

export const docsFolder = "docs/reference";

export async function generateDocs(databaseUrl: string): Promise<Files> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const all = await readCatalog(async (sql, params) => (await client.query(sql, params)).rows);
    const schemas = all.filter(({ relations, routines }) => relations.length + routines.length > 0);
    const errors = await client.query<ErrorCode>(
      "select name, sqlstate, hint from private.error_codes order by name",
    );
    const files: Files = new Map();
    files.set(`${docsFolder}/README.md`, indexPage(schemas, exposedSchemas));
    files.set(`${docsFolder}/errors.md`, errorsPage(errors.rows));
    files.set(`${docsFolder}/environment.md`, await environmentPage());
    for (const schema of schemas) {
      files.set(`${docsFolder}/${schema.name}.md`, schemaPage(schema, exposedSchemas.includes(schema.name)));
    }
    files.set("docs/legacy-map.json", `${JSON.stringify(await assembleLegacyMap(), null, 2)}\n`);
    return files;
  } finally {
    await client.end();
  }
}

if (import.meta.main) {
  await writeOrCheck("docs", await withScratchDatabase(generateDocs), [docsFolder]);
}
