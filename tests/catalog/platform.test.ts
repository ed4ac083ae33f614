import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { btree_gin } from "@electric-sql/pglite/contrib/btree_gin";
import { pgcrypto } from "@electric-sql/pglite/contrib/pgcrypto";
import { vector } from "@electric-sql/pglite-pgvector";
import { describe, expect, test } from "vitest";
import { readCatalog } from "../../scripts/catalog/read.ts";
import { platformSql } from "../../supabase/local/bootstrap.ts";
import { applyMigrations as pushMigrations } from "../../supabase/local/migrations.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { applyMigrations, migrationFiles, migrationsFolder } from "../helpers/template.ts";

describe("the official CLI", () => {
  test("pushes every migration to an empty project, and then has nothing left to push", async () => {
    const db = await createTestDatabase({ from: "platform" });
    const count = (await migrationFiles()).length;
    expect(await pushMigrations(db.ownerUrl)).toBe(count);
    expect(await pushMigrations(db.ownerUrl)).toBe(0);
    const history = await db.query(
      "select version from supabase_migrations.schema_migrations order by version",
    );
    expect(history).toHaveLength(count);
  });
});

describe("a project whose default privileges give clients everything", () => {
  test("ends with the same rights: the migrations take away what they do not mean", async () => {
    const generous = await createTestDatabase({ from: "platform" });
    const roles = "anon, authenticated, service_role";
    await generous.query(`
      alter default privileges for role postgres grant all on tables to ${roles};
      alter default privileges for role postgres grant all on functions to ${roles};
      alter default privileges for role postgres in schema public grant all on sequences to ${roles};
    `);
    await applyMigrations(generous.ownerUrl);
    const plain = await createTestDatabase({ from: "plain" });
    expect(rightsIn(await readCatalog(generous.query))).toEqual(rightsIn(await readCatalog(plain.query)));
  });
});

describe("PGlite with pgvector", () => {
  test("takes all migrations, twice from zero, to the same catalog", { timeout: 240_000 }, async () => {
    const first = await migratedPglite();
    const second = await migratedPglite();
    expect(await catalogOf(first)).toEqual(await catalogOf(second));
    await second.close();

    const { rows } = await first.query(
      "select format_type(typbasetype, typtypmod) as base from pg_type where oid = 'ai.embedding'::regtype",
    );
    expect(rows).toEqual([{ base: "extensions.vector(1536)" }]);
    await first.close();
  });

  test("measures the cosine distance, and takes the signs, as the server without pgvector does", async () => {
    const lite = await migratedPglite();
    const db = await createTestDatabase();
    const numbers = Array.from({ length: 1536 }, (_, i) => Math.sin(i));
    const others = Array.from({ length: 1536 }, (_, i) => Math.cos(i * 0.7));
    numbers[7] = 0;
    const vectors = await lite.query<{ distance: number; signs: string }>(
      `select ai.cosine_distance($1::text::ai.embedding, $2::text::ai.embedding) as distance,
        private.embedding_signs($1::text::ai.embedding)::text as signs`,
      [JSON.stringify(numbers), JSON.stringify(others)],
    );
    const [arrays] = await db.query(
      `select ai.cosine_distance($1::real[]::ai.embedding, $2::real[]::ai.embedding) as distance,
        private.embedding_signs($1::real[]::ai.embedding)::text as signs`,
      [numbers, others],
    );
    expect(vectors.rows[0]?.distance).toBeCloseTo(arrays?.distance, 5);
    expect(arrays?.signs).toBe(numbers.map((number) => (number > 0 ? "1" : "0")).join(""));
    expect(vectors.rows[0]?.signs).toBe(arrays?.signs);
    await lite.close();
  });
});

async function migratedPglite(): Promise<PGlite> {
  const lite = await PGlite.create({ extensions: { vector, pgcrypto, btree_gin } });
  await lite.exec(await platformSql());
  for (const file of await migrationFiles()) {
    const sql = await readFile(join(migrationsFolder, file), "utf8");
    await lite
      .transaction((transaction) => transaction.exec(sql))
      .catch((error: unknown) => {
        throw new Error(`${file} does not apply on PGlite: ${error}`, { cause: error });
      });
  }
  return lite;
}

async function catalogOf(lite: PGlite) {
  return readCatalog(async (sql, params) => (await lite.query<Record<string, unknown>>(sql, params)).rows);
}

function rightsIn(schemas: Awaited<ReturnType<typeof readCatalog>>) {
  return schemas.flatMap((schema) => [
    ...schema.relations.map(({ name, grants }) => ({ name: `${schema.name}.${name}`, grants })),
    ...schema.routines.map(({ name, identity, grants }) => ({
      name: `${schema.name}.${name}(${identity})`,
      grants,
    })),
  ]);
}
