import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { type Brand, createStudio, type Studio, tryon } from "../studio/studio.ts";

// What a client with bad intentions reaches: the functions of the unexposed schemas that its role may execute,
// each tried on a victim's rows. A new function fails the first test until it has its attack here.

let db: Studio;
let victim: Brand;
let thief: TestUser;
const ids: Record<string, string> = {};
beforeAll(async () => {
  db = await createStudio();
  [victim, thief] = await Promise.all([db.brand(), db.createUser()]);
  const owner = db.user(victim.id);
  const workspace_id = victim.workspaceId;
  ids.creation = (await db.request(victim)).id;
  ids.invitation = (
    await owner.call("identity.invite_member", { workspace_id, email: "a@b.example", role: "member" })
  ).id;
  ids.apiKey = (await owner.call("identity.create_api_key", { workspace_id, name: "k" })).id;
  ids.payment = (await owner.call("billing.start_top_up", { workspace_id, package: "starter" })).id;
  const [account] = await db.query(
    "insert into integrations.connected_accounts (workspace_id, provider, external_account_id) values ($1, 'shopify', 'x') returning id",
    [workspace_id],
  );
  ids.account = account!.id;
  const of = async (sql: string) => (await db.query(`${sql} returning id`, [workspace_id]))[0]!.id;
  ids.budget = (
    await owner.call("billing.set_budget", { workspace_id, limit_micro: 1000, period: "month" })
  ).id;
  ids.import = await of("insert into commerce.product_import_batches (workspace_id) values ($1)");
  ids.sync = await of(
    `insert into commerce.shopify_syncs (workspace_id, connected_account_id, kind)
      select $1, a.id, 'full' from integrations.connected_accounts a where a.workspace_id = $1`,
  );
  const url = "https://hooks.example.com/";
  ids.endpoint = (await owner.call("integrations.create_webhook_endpoint", { workspace_id, url })).id;
});

const executable = async (role: string): Promise<string[]> =>
  (
    await db.query(
      `select p.oid::regproc::text as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('private', 'ops') and has_function_privilege($1, p.oid, 'execute') order by 1`,
      [role],
    )
  ).map(({ name }) => name);

/** Change nothing, and tell the caller about nobody but the caller. */
const harmless = [
  "private.affiliate_ids",
  "private.content_hash",
  "private.fail",
  "private.fellow_ids",
  "private.has_role",
  "private.is_service",
  "private.is_workspace_path",
  "private.now",
  "private.refuse_use",
  "private.require_role",
  "private.role_rank",
  "private.try_uuid",
  "private.workspace_ids",
];

/** Make something of the caller's own. */
const own = [
  "private.apply_as_affiliate",
  "private.attribute_signup",
  "private.claim_referral",
  "private.create_workspace",
  "private.follow",
  "private.record_click",
  "private.update_affiliate",
];

type Attack = [name: string, args: () => Record<string, unknown>, error: string];
const there = () => ({ workspace_id: victim.workspaceId });
const request = {
  input_path: null,
  prompt: null,
  quality: "fast",
  category: "upper_body",
  num_outputs: 1,
  settings: {},
};
const endpoint = { event_types: null, description: null, ordered: false };
const attacks: Attack[] = [
  ["private.accept_invitation", () => ({ token: ids.invitation }), "unknown_invitation"],
  ["private.cancel_creation", () => ({ creation_id: ids.creation }), "unknown_creation"],
  [
    "private.change_member_role",
    () => ({ ...there(), user_id: thief.id, role: "owner" }),
    "unknown_workspace",
  ],
  [
    "private.create_api_key",
    () => ({ ...there(), name: "k", permissions: [], expires_at: null }),
    "unknown_workspace",
  ],
  [
    "private.create_webhook_endpoint",
    () => ({ ...there(), ...endpoint, url: "https://thief.example.com/" }),
    "unknown_workspace",
  ],
  ["private.delete_webhook_endpoint", () => ({ id: ids.endpoint }), "unknown_endpoint"],
  ["private.delete_workspace", there, "unknown_workspace"],
  ["private.disconnect_account", () => ({ id: ids.account }), "unknown_account"],
  ["private.invite_member", () => ({ ...there(), email: thief.email, role: "owner" }), "unknown_workspace"],
  ["private.remove_member", () => ({ ...there(), user_id: victim.id }), "unknown_workspace"],
  [
    "private.replay_webhook_events",
    () => ({ id: ids.endpoint, from_at: "2020-01-01", until_at: null, delivered: true }),
    "unknown_endpoint",
  ],
  [
    "private.request_creation",
    () => ({ ...request, ...tryon(victim), project_id: null, key: null }),
    "unknown_workspace",
  ],
  ["private.revoke_api_key", () => ({ id: ids.apiKey }), "unknown_api_key"],
  ["private.revoke_invitation", () => ({ id: ids.invitation }), "unknown_invitation"],
  ["private.rotate_webhook_secret", () => ({ id: ids.endpoint, at_once: true }), "unknown_endpoint"],
  ["private.send_test_event", () => ({ id: ids.endpoint }), "unknown_endpoint"],
  ["private.set_low_balance_threshold", () => ({ ...there(), amount_micro: 1 }), "unknown_workspace"],
  ["private.payment_handle", () => ({ payment_id: ids.payment }), "unknown_payment"],
  [
    "private.request_payment_refund",
    () => ({ payment_id: ids.payment, amount_minor: 1, reason: "mine", key: "k" }),
    "unknown_payment",
  ],
  ["private.request_reload", () => ({ ...there(), required_micro: 1 }), "unknown_workspace"],
  [
    "private.set_auto_reload",
    () => ({
      ...there(),
      enabled: true,
      threshold_minor: 500,
      amount_minor: 1500,
      monthly_cap_minor: null,
      payment_method_id: null,
    }),
    "unknown_workspace",
  ],
  [
    "private.set_billing_details",
    () => ({ ...there(), name: "thief", email: null, address: null, tax_id: null }),
    "unknown_workspace",
  ],
  ["private.analyze_brand", () => ({ account_id: ids.account }), "unknown_account"],
  [
    "private.begin_import",
    () => ({
      ...there(),
      path: `${victim.workspaceId}/a.csv`,
      file_name: "a.csv",
      source: "csv",
      column_mapping: {},
      auto_import: true,
    }),
    "unknown_workspace",
  ],
  ["private.billing_customer", there, "unknown_workspace"],
  ["private.cancel_import", () => ({ batch_id: ids.import }), "unknown_import"],
  ["private.cancel_shopify_sync", () => ({ sync_id: ids.sync }), "unknown_sync"],
  [
    "private.cancel_subscription",
    () => ({ ...there(), app: "selify", at_once: true, reason: null, flow: null }),
    "unknown_workspace",
  ],
  [
    "private.change_subscription",
    () => ({ ...there(), app: "selify", plan_price_id: victim.workspaceId }),
    "unknown_workspace",
  ],
  [
    "private.configure_payouts",
    () => ({ ...there(), schedule: "manual", schedule_day: null, minimum_minor: 1 }),
    "unknown_workspace",
  ],
  ["private.confirm_import", () => ({ batch_id: ids.import }), "unknown_import"],
  ["private.entitlement", () => ({ ...there(), feature: "generations" }), "unknown_workspace"],
  ["private.entitlements", there, "unknown_workspace"],
  ["private.redeem_voucher", () => ({ ...there(), code: "FREE", app: null, key: "k" }), "unknown_workspace"],
  ["private.remove_budget", () => ({ budget_id: ids.budget }), "unknown_budget"],
  ["private.request_payout", () => ({ ...there(), amount_minor: 1, key: "k" }), "unknown_workspace"],
  ["private.request_shopify_sync", () => ({ account_id: ids.account, kind: "full" }), "unknown_account"],
  ["private.resume_subscription", () => ({ ...there(), app: "selify" }), "unknown_workspace"],
  [
    "private.search_products",
    () => ({ ...there(), query: "x", tags: [], only_in_stock: false, most: 10, skip: 0 }),
    "unknown_workspace",
  ],
  [
    "private.set_budget",
    () => ({
      ...there(),
      limit_micro: 1,
      period: "month",
      user_id: null,
      stops: true,
      alert_shares: [],
      timezone: null,
    }),
    "unknown_workspace",
  ],
  ["private.start_free_plan", () => ({ ...there(), plan_id: victim.workspaceId }), "unknown_workspace"],
  [
    "private.start_oauth",
    () => ({ ...there(), provider: "instagram", external_account_id: null, return_to: null }),
    "unknown_workspace",
  ],
  [
    "private.start_payout_account",
    () => ({ ...there(), country: "DE", currency: "EUR" }),
    "unknown_workspace",
  ],
  [
    "private.start_subscription",
    () => ({ ...there(), plan_price_id: victim.workspaceId, key: null }),
    "unknown_workspace",
  ],
  [
    "private.start_plan_order",
    () => ({ ...there(), plan_price_id: victim.workspaceId, key: null, currency: "INR" }),
    "unknown_workspace",
  ],
  [
    "private.start_top_up",
    () => ({ ...there(), package: "starter", key: "k", provider: "stripe", currency: null }),
    "unknown_workspace",
  ],
  [
    "private.update_webhook_endpoint",
    () => ({ id: ids.endpoint, ...endpoint, url: "https://thief.example.com/", enabled: true }),
    "unknown_endpoint",
  ],
];

test("clients execute these functions of the unexposed schemas and no others", async () => {
  expect(await executable("authenticated")).toEqual(
    [...harmless, ...own, ...attacks.map(([name]) => name)].sort(),
  );
  expect(await executable("anon")).toEqual([
    "private.fail",
    "private.is_service",
    "private.now",
    "private.record_click",
    "private.try_uuid",
  ]);
});

test("clients may not even name what is in ops", async () => {
  for (const session of [db.anon, db.user(thief.id)]) {
    for (const table of [
      "jobs",
      "job_kinds",
      "job_keys",
      "workers",
      "sweeps",
      "webhook_events",
      "webhook_providers",
      "webhook_signing_secrets",
    ]) {
      await expectError(session.query(`select from ops.${table}`), "42501");
    }
    await expectError(session.query("select ops.tick()"), "42501");
  }
});

describe("a thief's call on a victim's rows", () => {
  test.each(attacks)("of %s fails", async (name, args, error) => {
    await expectError(db.user(thief.id).rpc(name, args()), error, "PT404");
  });

  test.each(attacks)("of %s fails without a session", async (name, args) => {
    await expectError(db.anon.rpc(name, args()), "42501");
  });

  test("of the helpers tells nothing about the victim", async () => {
    const session = db.user(thief.id);
    const { workspace_id } = there();
    expect(await session.call("private.has_role", { workspace_id, minimum_role: "viewer" })).toBe(false);
    expect(await session.call("private.workspace_ids", { minimum_role: "viewer" })).toEqual([
      thief.workspaceId,
    ]);
    expect(await session.call("private.fellow_ids")).toEqual([thief.id]);
    await expectError(
      session.rpc("private.require_role", { workspace_id, minimum_role: "viewer" }),
      "unknown_workspace",
    );
    expect(await session.call("private.is_service")).toBe(false);
  });
});

describe("the service is not imitated", () => {
  test.each([
    ["claims that say service_role", '{"role": "service_role"}'],
    ["claims without a person", "{}"],
    ["claims that are empty", ""],
  ])("by %s", async (_name, claims) => {
    const connection = await db.connect({ user: thief.id });
    await connection.query("select set_config('request.jwt.claims', $1, false)", [claims]);
    expect(await connection.call("private.is_service")).toBe(false);
    await expectError(
      connection.rpc("studio.cancel_creation", { creation_id: ids.creation }),
      "unknown_creation",
    );
    await expectError(connection.rpc("studio.request_creation", tryon(victim)), "not_signed_in");
    await connection.close();
  });
});
