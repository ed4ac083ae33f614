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
    "ai.autonomous_tasks",
    "ai.brand_intelligence",
    "ai.conversation_messages",
    "ai.conversation_turns",
    "ai.knowledge_ingestion_jobs",
    "ai.knowledge_sources",
    "billing.payments",
    "billing.subscriptions",
    "commerce.catalog_jobs",
    "commerce.product_import_batches",
    "commerce.shopify_syncs",
    "integrations.connected_accounts",
    "messaging.email_accounts",
    "messaging.email_messages",
    "messaging.notifications",
    "social.account_sync",
    "social.conversations",
    "social.messages",
    "social.order_attributions",
    "social.tryons",
    "studio.creations",
    "studio.garment_analyses",
    "studio.lora_trainings",
    "studio.models",
    "studio.personas",
    "studio.vr_tryons",
    "studio.wardrobe_collections",
    "studio.wardrobe_garments",
  ]);
  for (const table of published) expect(table).toMatchObject({ guarded: true, readable: true, open: false });
});
