import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/subscriptions.md"), "utf8");
const db = await createTestDatabase();

test("the page names the events that concern subscriptions, and no others", async () => {
  const handled = await db.query(
    `select event_type from billing.stripe_event_handlers
      where function_name in ('billing._apply_subscription_event', 'billing._apply_customer_deleted')`,
  );
  const named = page.match(/`(?:customer|subscription_schedule|invoice|checkout)\.[a-z_.]+`/g);
  expect(new Set(named?.map((name) => name.slice(1, -1)))).toEqual(
    new Set(handled.map(({ event_type }) => event_type)),
  );
});

test("its statements run", async () => {
  const statements = [...page.matchAll(/^```sql\n(.*?)^```$/gms)].map(([, sql]) => sql!.replace(/;\s*$/, ""));
  expect(statements).toHaveLength(2);
  const [plan] = await db.query(
    "insert into billing.plans (app, slug, name) values ('selify', 'doc-old', 'Old'), ('selify', 'doc-new', 'New') returning id",
  );
  const [price] = await db.query(
    `insert into billing.plan_prices (plan_id, currency, amount_minor, billing_period)
      select id, 'USD', 100, 'month' from billing.plans where slug = 'doc-new' returning id`,
  );
  expect(await db.service.query(statements[0]!)).toEqual([]);
  expect(await db.service.query(statements[1]!, [plan!.id, price!.id])).toEqual([]);
});
