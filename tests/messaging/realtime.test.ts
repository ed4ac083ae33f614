import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

const db = await createTestDatabase();

test("what realtime tells of is what clients wait for, and all of it is under row level security", async () => {
  const published = await db.query(
    `select p.schemaname || '.' || p.tablename as name, c.relrowsecurity as guarded,
      has_table_privilege('authenticated', c.oid, 'select')
        or has_any_column_privilege('authenticated', c.oid, 'select') as readable,
      has_table_privilege('anon', c.oid, 'select') as open
    from pg_publication_tables p
    join pg_class c on c.oid = format('%I.%I', p.schemaname, p.tablename)::regclass
    where p.pubname = 'supabase_realtime' order by 1`,
  );
  expect(published.map(({ name }) => name)).toEqual([
    "billing.payments",
    "billing.subscriptions",
    "commerce.product_import_batches",
    "commerce.shopify_syncs",
    "messaging.notifications",
    "studio.creations",
  ]);
  for (const table of published) expect(table).toMatchObject({ guarded: true, readable: true, open: false });
});
