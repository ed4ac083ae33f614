// What the tests of entitlements work with: an app with plans, and workspaces that subscribe to them.

import { beforeAll, beforeEach } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { entitlement, makePlan, subscribe } from "./entitled.ts";
import { noon } from "./money.ts";

export let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
  await db.setClock(noon);
  await makePlan(db, "small", { videos: 10, white_label: false, quiz_access: true, support_level: "email" });
  await makePlan(db, "large", { videos: "unlimited", white_label: true, support_level: "phone" });
  await makePlan(db, "weekly", { videos: { limit: 4, period: "week" }, social_posts: 3 });
  await makePlan(db, "yearly", { videos: { limit: 500, period: "year" } });
  await makePlan(db, "closed", { videos: false });
});

beforeEach(() => db.setClock(noon));

export const ask = (workspaceId: string, feature: string) => entitlement(db.service, workspaceId, feature);
export const change = (workspaceId: string, sql: string) =>
  db.service.query(`update billing.subscriptions set ${sql} where workspace_id = $1 and app = 'amplify'`, [
    workspaceId,
  ]);

export async function on(
  slug: string,
  fields: Record<string, unknown> = {},
  app = "amplify",
): Promise<string> {
  const { workspaceId } = await db.createUser();
  await subscribe(db, workspaceId, slug, fields, app);
  return workspaceId;
}
