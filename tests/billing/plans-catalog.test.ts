// The plans of the five apps as the first release brings them, and who may read them.
import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { changePlan, makePlan, subscribe } from "./entitled.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});

const plansOf = (app: string) =>
  db.query(
    `select p.slug, p.name, p.allowance_micro, p.allowance_interval, p.is_visible,
      (select jsonb_object_agg(f.feature, f.limit_value) from billing.plan_features f where f.plan_id = p.id) as features
    from billing.plans p where p.app = $1 order by p.sort_order`,
    [app],
  );
const free = {
  slug: "free",
  name: "Free",
  allowance_micro: 0,
  allowance_interval: "month",
  is_visible: true,
};

describe("the seeded plans", () => {
  test("Selify: a free week of 10,000 credits is 60,000 micro-units, 0.60 USD", async () => {
    const [first, ...tiers] = await plansOf("selify");
    expect(first).toEqual({
      ...free,
      allowance_micro: 60_000,
      allowance_interval: "week",
      features: { weekly_credits: 10_000 },
    });
    expect(tiers.map(({ slug }) => slug)).toEqual(["starter", "pro", "enterprise"]);
  });

  test("Amplify: five tiers, the free one with a single video", async () => {
    const [first, ...tiers] = await plansOf("amplify");
    expect(first).toEqual({ ...free, features: { videos: 1 } });
    expect(tiers.map(({ slug }) => slug)).toEqual(["basic", "premium", "creator", "enterprise"]);
    const [video] = await db.query(
      "select limit_period from billing.plan_features f join billing.plans p on p.id = f.plan_id where p.app = 'amplify'",
    );
    expect(video).toEqual({ limit_period: "total" });
  });

  test("NeoStream and Liventix name no tiers: a free plan each", async () => {
    expect(await plansOf("neostream")).toEqual([{ ...free, features: null }]);
    expect(await plansOf("liventix")).toEqual([{ ...free, features: null }]);
  });

  test("Spike Land: four tiers without stated figures", async () => {
    const plans = await plansOf("spikeland");
    expect(plans.map(({ slug }) => slug)).toEqual(["free", "basic", "standard", "premium"]);
  });

  test("no price is invented, and what has none stated cannot be taken for nothing", async () => {
    expect(await db.query("select * from billing.plan_prices")).toEqual([]);
    const visible = await db.query("select app, slug from billing.plans where is_visible order by app");
    expect(visible.map(({ slug }) => slug)).toEqual(["free", "free", "free", "free", "free"]);
  });

  test("every one is version 1 of itself, with a reason", async () => {
    const versions = await db.query(
      "select version_number, change_reason, fields_changed from billing.plan_versions",
    );
    expect(versions).toHaveLength(15);
    for (const version of versions)
      expect(version).toEqual({ version_number: 1, change_reason: "First release", fields_changed: [] });
  });
});

describe("the features", () => {
  test("hold every switch and limit of Amplify's plans, with the columns' defaults", async () => {
    const features = await db.query(
      "select * from billing.features where app = 'amplify' or app is null order by slug",
    );
    const named = Object.fromEntries(features.map((feature) => [feature.slug, feature]));
    const switches = features.filter(({ kind, app }) => kind === "switch" && app === "amplify");
    expect(switches).toHaveLength(23);
    expect(switches.filter(({ default_enabled }) => default_enabled).map(({ slug }) => slug)).toEqual([
      "summary_access",
      "transcript_access",
    ]);
    expect(named.api_calls_per_minute).toMatchObject({ default_limit: 60, limit_period: null });
    expect(named.youtube_channels).toMatchObject({ default_limit: 1, limit_period: "total" });
    expect(named.team_members).toMatchObject({ default_limit: 1, limit_period: "total" });
    expect(named.support_level).toMatchObject({ kind: "text", default_text: "email" });
    for (const ratio of ["16_9", "9_16"])
      expect(named[`thumbnail_iterations_${ratio}`]).toMatchObject({
        default_limit: 1,
        limit_period: "total",
      });
  });

  test("are of the kind they were born with", async () => {
    await expectError(
      db.service.query("update billing.features set kind = 'text' where slug = 'api_access'"),
      "immutable_row",
    );
  });

  test("that no plan can name are refused: a typo, another app's, what the kind cannot hold", async () => {
    await makePlan(db, "strict", {}, { is_visible: false });
    const state = (features: unknown) =>
      changePlan(db.service, "amplify", "strict", { features: features as Record<string, unknown> });
    expect((await expectError(state({ vidoes: 10 }), "unknown_feature", "PT404")).facts).toEqual({
      feature: "vidoes",
    });
    await expectError(state({ weekly_credits: 10 }), "feature_mismatch", "PT400");
    await expectError(state({ white_label: 10 }), "invalid_argument", "PT400");
    await expectError(state({ videos: true }), "invalid_argument");
    await expectError(state({ videos: "many" }), "invalid_argument");
    await expectError(state({ api_calls_per_minute: { limit: 5, period: "month" } }), "feature_mismatch");
    await expectError(state({ videos: { limit: -1 } }), "23514");
    await expectError(
      db.service.query(
        `insert into billing.plan_features (plan_id, feature) select id, 'vidoes' from billing.plans where slug = 'strict'`,
      ),
      "unknown_feature",
    );
    await expectError(
      db.service.query(
        `insert into billing.plan_features (plan_id, feature, limit_value)
          select id, 'white_label', 1 from billing.plans where slug = 'strict'`,
      ),
      "feature_mismatch",
    );
  });
});

describe("a price page", () => {
  beforeAll(async () => {
    await changePlan(db.service, "amplify", "premium", {
      plan: { is_visible: true, is_featured: true },
      features: { videos: 50, white_label: true },
      prices: [
        {
          currency: "USD",
          amount_minor: 2900,
          billing_period: "month",
          is_default: true,
          trial_period_days: 7,
        },
        { currency: "USD", amount_minor: 27_840, billing_period: "year" },
      ],
    });
  });

  const page = (session: typeof db.anon) =>
    session.query(
      `select p.slug, p.is_featured, (select count(*) from billing.plan_prices r where r.plan_id = p.id) as prices,
        (select jsonb_object_agg(pf.feature, f.kind) from billing.plan_features pf
          join billing.features f on f.slug = pf.feature where pf.plan_id = p.id) as features
      from billing.plans p where p.app = 'amplify' order by p.sort_order`,
    );

  test("shows visitors what is on sale with its prices and features, and nothing else", async () => {
    const rows = await page(db.anon);
    expect(rows.map(({ slug }) => slug)).toEqual(["free", "premium"]);
    expect(rows[1]).toEqual({
      slug: "premium",
      is_featured: true,
      prices: 2,
      features: { videos: "limit", white_label: "switch" },
    });
    const { id } = await db.createUser();
    expect((await page(db.user(id))).map(({ slug }) => slug)).toEqual(["free", "premium"]);
  });

  test("shows savings against paying by the month", async () => {
    const [year] = await db.anon.query(
      `select amount_minor, monthly_equivalent_minor, original_monthly_total_minor, savings_minor
        from billing.plan_prices where billing_period = 'year'`,
    );
    expect(year).toEqual({
      amount_minor: 27_840,
      monthly_equivalent_minor: 2320,
      original_monthly_total_minor: 34_800,
      savings_minor: 6960,
    });
  });

  test("hides legacy, hidden, ended and deleted plans, but not from those who have them", async () => {
    const { id, workspaceId } = await db.createUser();
    const stranger = await db.createUser();
    for (const change of [
      { is_legacy: true },
      { is_visible: false },
      { is_active: false },
      { deleted_at: "2026-01-01T00:00:00Z" },
    ]) {
      await db.query("delete from billing.subscriptions where workspace_id = $1", [workspaceId]);
      const slug = `hidden-${Object.keys(change)[0]}`;
      await makePlan(db, slug, { videos: 5 });
      await subscribe(db, workspaceId, slug);
      await changePlan(db.service, "amplify", slug, { plan: change });
      const seen = "select slug from billing.plans where slug = $1";
      const features =
        "select feature from billing.plan_features f join billing.plans p on p.id = f.plan_id where p.slug = $1";
      expect(await db.anon.query(seen, [slug])).toEqual([]);
      expect(await db.anon.query(features, [slug])).toEqual([]);
      expect(await db.user(stranger.id).query(seen, [slug])).toEqual([]);
      expect(await db.user(id).query(seen, [slug])).toEqual([{ slug }]);
      expect(await db.user(id).query(features, [slug])).toEqual([{ feature: "videos" }]);
    }
  });

  test("is written by the service alone", async () => {
    const { id } = await db.createUser();
    for (const session of [db.anon, db.user(id)]) {
      await expectError(session.query("update billing.plans set name = 'x'"), "42501");
      await expectError(session.query("insert into billing.features (slug) values ('x')"), "42501");
      await expectError(session.query("delete from billing.plan_features"), "42501");
      await expectError(session.query("update billing.plan_prices set amount_minor = 0"), "42501");
      await expectError(session.query("select * from billing.plan_versions"), "42501");
      await expectError(changePlan(session, "amplify", "free", {}), "42501");
    }
  });
});

describe("what is not sold any more", () => {
  test("goes to nobody new, but a provider's sale of it is taken as it is", async () => {
    const { workspaceId } = await db.createUser();
    for (const change of [
      { is_legacy: true },
      { is_active: false },
      { deleted_at: "2026-01-01T00:00:00Z" },
    ]) {
      const slug = `gone-${Object.keys(change)[0]}`;
      await makePlan(db, slug, {}, change);
      await expectError(subscribe(db, workspaceId, slug), "plan_not_for_sale", "PT409");
    }
    const id = await subscribe(db, workspaceId, "free");
    await expectError(
      db.service.query(
        `update billing.subscriptions set plan_id = (select p.id from billing.plans p where p.slug = 'gone-is_legacy')
          where id = $1`,
        [id],
      ),
      "plan_not_for_sale",
    );
    const buyer = await db.createUser();
    await subscribe(db, buyer.workspaceId, "gone-is_legacy", {
      provider: "stripe",
      provider_subscription_id: "sub_late",
    });
  });
});
