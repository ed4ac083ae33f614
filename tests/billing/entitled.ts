// What the tests of plans, entitlements, grants and quotas share.
import type { TestDatabase } from "../helpers/database.ts";
import type { Session } from "../helpers/session.ts";

export interface Entitlement {
  feature: string;
  kind: "switch" | "limit" | "text";
  allowed: boolean;
  unlimited: boolean;
  limit_value: number | null;
  limit_period: string | null;
  text_value: string | null;
  used_value: number | null;
  remaining: number | null;
  period_start: Date | null;
  period_end: Date | null;
  source: "plan" | "admin_grant" | "default";
  plan: string | null;
  valid_until: Date | null;
}
export interface QuotaUse {
  feature: string;
  amount: number;
  used_value: number;
  limit_value: number | null;
  remaining: number | null;
  period_end: Date | null;
  released_at: Date | null;
  created: boolean;
}
export interface PlanVersion {
  plan_id: string;
  version_number: number;
  fields_changed: string[];
  plan_snapshot: Record<string, unknown>;
  features_snapshot: Record<string, Record<string, unknown>>;
  prices_snapshot: Record<string, Record<string, unknown>>;
  changed_by: string | null;
  change_reason: string | null;
}

/** Makes or changes a plan as an operator does. */
export function changePlan(
  session: Session,
  app: string,
  slug: string,
  change: {
    plan?: Record<string, unknown>;
    features?: Record<string, unknown>;
    prices?: Record<string, unknown>[];
    change_reason?: string;
    changed_by?: string;
  },
): Promise<PlanVersion> {
  return session.call("billing.change_plan", { app, slug, change_reason: "test", ...change });
}

/** A new plan of Amplify (unless told otherwise) with these features. */
export async function makePlan(
  db: TestDatabase,
  slug: string,
  features: Record<string, unknown>,
  plan: Record<string, unknown> = {},
  app = "amplify",
): Promise<string> {
  const version = await changePlan(db.service, app, slug, { plan: { name: slug, ...plan }, features });
  return version.plan_id;
}

export async function subscribe(
  db: TestDatabase,
  workspaceId: string,
  slug: string,
  fields: Record<string, unknown> = {},
  app = "amplify",
): Promise<string> {
  const names = Object.keys(fields);
  const [row] = await db.service.query(
    `insert into billing.subscriptions
      (workspace_id, app, plan_id, allowance_anchor_at${names.map((name) => `, ${name}`).join("")})
    select $1, $2, p.id, private.now()${names.map((_, i) => `, $${i + 4}`).join("")}
    from billing.plans p where p.app = $2 and p.slug = $3 returning id`,
    [workspaceId, app, slug, ...Object.values(fields)],
  );
  return row!.id;
}

export function entitlement(session: Session, workspace_id: string, feature: string): Promise<Entitlement> {
  return session.call("billing.entitlement", { workspace_id, feature });
}

export function consume(
  session: Session,
  workspace_id: string,
  feature: string,
  amount: unknown,
  key: string,
): Promise<QuotaUse> {
  return session.call("billing.consume_quota", { workspace_id, feature, amount, key });
}

export function release(session: Session, workspace_id: string, key: string): Promise<QuotaUse> {
  return session.call("billing.release_quota", { workspace_id, key });
}

export function giveGrant(
  db: TestDatabase,
  workspace_id: string,
  granted_by: string,
  kind: string,
  key: string,
  options: Record<string, unknown> = {},
): Promise<{ admin_grant_id: string; created: boolean }> {
  return db.service.call("billing.create_admin_grant", {
    workspace_id,
    granted_by,
    kind,
    key,
    reason: "A test",
    ...options,
  });
}
