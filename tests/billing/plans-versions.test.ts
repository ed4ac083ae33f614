// Every change of a plan is a version: who, why, what, and the whole as it stood.
import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { changePlan, makePlan, type PlanVersion, subscribe } from "./entitled.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});

const versions = (planId: string) =>
  db.service.query<PlanVersion>(
    "select * from billing.plan_versions where plan_id = $1 order by version_number",
    [planId],
  );
const month = { currency: "USD", amount_minor: 1000, billing_period: "month" };
const year = { currency: "USD", amount_minor: 9600, billing_period: "year" };

describe("change_plan", () => {
  test("makes a plan with features and prices in one version, by somebody, for a reason", async () => {
    const { id } = await db.createUser();
    const version = await changePlan(db.service, "amplify", "made", {
      plan: { name: "Made", sort_order: 7, upgrade_rule: "none" },
      features: { videos: 10, white_label: true, storage_gb: "unlimited", support_level: "chat" },
      prices: [month, year],
      change_reason: "Autumn offer",
      changed_by: id,
    });
    expect(version).toMatchObject({
      version_number: 1,
      fields_changed: [],
      changed_by: id,
      change_reason: "Autumn offer",
      plan_snapshot: { slug: "made", name: "Made", sort_order: 7, upgrade_rule: "none" },
      features_snapshot: {
        videos: { enabled: true, limit_value: 10 },
        white_label: { enabled: true },
        storage_gb: { enabled: true, limit_value: null },
        support_level: { text_value: "chat" },
      },
    });
    expect(Object.values(version.prices_snapshot).map(({ amount_minor }) => amount_minor)).toHaveLength(2);
    expect(await versions(version.plan_id)).toHaveLength(1);
  });

  test("called twice is one version", async () => {
    const change = { plan: { name: "Twice" }, features: { videos: 3 }, prices: [month, year] };
    const first = await changePlan(db.service, "amplify", "twice", change);
    const second = await changePlan(db.service, "amplify", "twice", change);
    expect(second).toEqual(first);
    expect(await versions(first.plan_id)).toHaveLength(1);
  });

  test("names the paths that changed, and leaves what it does not name", async () => {
    const id = await makePlan(db, "paths", { videos: 3, quiz_access: true, support_level: "email" });
    const version = await changePlan(db.service, "amplify", "paths", {
      plan: { description: "Better" },
      features: { videos: 5, quiz_access: null, api_access: true },
    });
    expect(version.fields_changed).toEqual([
      "description",
      "features.api_access",
      "features.quiz_access",
      "features.videos.limit_value",
    ]);
    expect(Object.keys(version.features_snapshot).sort()).toEqual(["api_access", "support_level", "videos"]);
    expect(
      (await versions(id)).map(({ features_snapshot }) => features_snapshot.videos?.limit_value),
    ).toEqual([3, 5]);
  });

  test("by many at once keeps every version once, numbered without a gap", async () => {
    const id = await makePlan(db, "crowd", {});
    await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        changePlan(db.service, "amplify", "crowd", { plan: { sort_order: n + 1 } }),
      ),
    );
    const kept = await versions(id);
    expect(kept.map(({ version_number }) => version_number)).toEqual(kept.map((_, n) => n + 1));
    expect(kept).toHaveLength(11);
  });

  test("made at once by two is one plan", async () => {
    const made = await Promise.all([
      changePlan(db.service, "amplify", "race", { plan: { name: "Race" } }),
      changePlan(db.service, "amplify", "race", { plan: { name: "Race" } }),
    ]);
    expect(made[0]).toEqual(made[1]);
  });

  test("needs a reason, known fields, and a name for what is new", async () => {
    await expectError(
      changePlan(db.service, "amplify", "free", { change_reason: " " }),
      "invalid_argument",
      "PT400",
    );
    for (const field of ["slug", "id", "price", "created_at", "xmin"]) {
      const plan = { [field]: "x" };
      const error = await expectError(
        changePlan(db.service, "amplify", "free", { plan }),
        "invalid_argument",
      );
      expect(error.facts).toMatchObject({ field });
    }
    await expectError(changePlan(db.service, "amplify", "nobody", {}), "unknown_plan", "PT404");
    await expectError(
      changePlan(db.service, "amplify", "free", { prices: [{ ...month, savings_minor: 3 }] }),
      "invalid_argument",
    );
  });

  test("refuses a stated allowance that the plan does not bring", async () => {
    const error = await expectError(
      changePlan(db.service, "selify", "free", { features: { weekly_credits: 20_000 } }),
      "allowance_mismatch",
      "PT409",
    );
    expect(error.facts).toMatchObject({
      limit_value: 20_000,
      allowance_micro: 60_000,
      allowance_unit_micro: 6,
    });
    const version = await changePlan(db.service, "selify", "free", {
      plan: { allowance_micro: 120_000 },
      features: { weekly_credits: 20_000 },
    });
    expect(version.fields_changed).toEqual(["allowance_micro", "features.weekly_credits.limit_value"]);
    await expectError(
      db.service.query("update billing.plans set allowance_micro = 1 where app = 'selify' and slug = 'free'"),
      "allowance_mismatch",
    );
  });
});

describe("rows changed directly", () => {
  test("make one version a transaction, and none when nothing differs", async () => {
    const id = await makePlan(db, "direct", { videos: 1 });
    const connection = await db.connect("service");
    await connection.begin();
    await connection.query("update billing.plans set name = 'Other' where id = $1", [id]);
    await connection.query("update billing.plan_features set limit_value = 2 where plan_id = $1", [id]);
    await connection.query(
      "insert into billing.plan_features (plan_id, feature) values ($1, 'quiz_access')",
      [id],
    );
    await connection.commit();
    await connection.query("update billing.plans set name = 'Other' where id = $1", [id]);
    const kept = await versions(id);
    expect(kept.map(({ fields_changed }) => fields_changed)).toEqual([
      [],
      ["features.quiz_access", "features.videos.limit_value", "name"],
    ]);
    expect(kept[1]).toMatchObject({ changed_by: null, change_reason: null });
    await connection.close();
  });

  test("leave no version when they are rolled back", async () => {
    const id = await makePlan(db, "undone", {});
    const connection = await db.connect("service");
    await connection.begin();
    await connection.query("update billing.plans set name = 'Other' where id = $1", [id]);
    await connection.rollback();
    await connection.close();
    expect(await versions(id)).toHaveLength(1);
  });

  test("never reach a version", async () => {
    await expectError(db.query("update billing.plan_versions set change_reason = 'x'"), "immutable_row");
    await expectError(db.query("delete from billing.plan_versions"), "immutable_row");
    await expectError(db.query("truncate billing.plan_versions"), "immutable_row");
    await expectError(db.service.query("delete from billing.plan_versions"), "42501");
  });
});

describe("prices", () => {
  const prices = (planId: string) =>
    db.query("select * from billing.plan_prices where plan_id = $1 order by created_at, amount_minor", [
      planId,
    ]);

  test("of another amount are new ones; the old stays with those who pay it", async () => {
    const { id, workspaceId } = await db.createUser();
    const stranger = await db.createUser();
    const { plan_id } = await changePlan(db.service, "amplify", "dearer", {
      plan: { name: "Dearer" },
      prices: [{ ...month, provider_price_id: "price_old" }],
    });
    const [old] = await prices(plan_id);
    await subscribe(db, workspaceId, "dearer", { plan_price_id: old!.id });
    await changePlan(db.service, "amplify", "dearer", { prices: [{ ...month, amount_minor: 1200 }] });
    const [archived, current] = await prices(plan_id);
    expect(archived).toMatchObject({ id: old!.id, amount_minor: 1000, is_active: false });
    expect(archived!.archived_at).toBeInstanceOf(Date);
    expect(current).toMatchObject({ amount_minor: 1200, is_active: true, archived_at: null });
    const seen = "select amount_minor from billing.plan_prices where plan_id = $1 order by amount_minor";
    expect(await db.user(id).query(seen, [plan_id])).toEqual([
      { amount_minor: 1000 },
      { amount_minor: 1200 },
    ]);
    expect(await db.user(stranger.id).query(seen, [plan_id])).toEqual([{ amount_minor: 1200 }]);
    expect(await db.anon.query(seen, [plan_id])).toEqual([{ amount_minor: 1200 }]);
  });

  test("that somebody pays keep their terms; their looks and a missing provider's id may change", async () => {
    const { workspaceId } = await db.createUser();
    const { plan_id } = await changePlan(db.service, "amplify", "paid", {
      plan: { name: "Paid" },
      prices: [month],
    });
    const [price] = await prices(plan_id);
    await subscribe(db, workspaceId, "paid", { plan_price_id: price!.id });
    for (const change of [
      "amount_minor = 1",
      "currency = 'EUR'",
      "billing_period = 'year'",
      "billing_interval = 2",
    ]) {
      await expectError(
        db.service.query(`update billing.plan_prices set ${change} where id = $1`, [price!.id]),
        "price_in_use",
        "PT409",
      );
    }
    await changePlan(db.service, "amplify", "paid", {
      prices: [{ ...month, display_price: "10 $", provider_price_id: "price_paid" }],
    });
    expect(await prices(plan_id)).toMatchObject([
      { id: price!.id, display_price: "10 $", provider_price_id: "price_paid", is_active: true },
    ]);
    await expectError(
      db.service.query("update billing.plan_prices set provider_price_id = 'price_x' where id = $1", [
        price!.id,
      ]),
      "price_in_use",
    );
  });

  test("have one default a currency, which a new one takes over", async () => {
    const { plan_id } = await changePlan(db.service, "amplify", "default", {
      plan: { name: "Default" },
      prices: [
        { ...month, is_default: true },
        year,
        { ...month, currency: "INR", amount_minor: 79_900, is_default: true },
      ],
    });
    await changePlan(db.service, "amplify", "default", { prices: [{ ...year, is_default: true }] });
    const defaults = (await prices(plan_id)).filter(({ is_default }) => is_default);
    expect(defaults.map(({ currency, billing_period }) => [currency, billing_period]).sort()).toEqual([
      ["INR", "month"],
      ["USD", "year"],
    ]);
  });

  test("end by is_active false, and figures follow the monthly price", async () => {
    const { plan_id } = await changePlan(db.service, "amplify", "figures", {
      plan: { name: "Figures" },
      prices: [month, year, { ...month, amount_minor: 2750, billing_interval: 3 }],
    });
    const figures = async () =>
      Object.fromEntries(
        (await prices(plan_id))
          .filter(({ archived_at }) => archived_at === null)
          .map((price) => [
            `${price.billing_interval} ${price.billing_period}`,
            [price.monthly_equivalent_minor, price.original_monthly_total_minor, price.savings_minor],
          ]),
      );
    expect(await figures()).toEqual({
      "1 month": [null, null, null],
      "3 month": [917, 3000, 250],
      "1 year": [800, 12_000, 2400],
    });
    await changePlan(db.service, "amplify", "figures", { prices: [{ ...month, amount_minor: 700 }] });
    expect(await figures()).toMatchObject({ "1 year": [800, 8400, 0], "3 month": [917, 2100, 0] });
    await changePlan(db.service, "amplify", "figures", {
      prices: [{ currency: "USD", billing_period: "month", is_active: false }],
    });
    expect(Object.keys(await figures()).sort()).toEqual(["1 year", "3 month"]);
  });
});

test("a change of a plan makes nobody wait who subscribes to it", async () => {
  const id = await makePlan(db, "busy", { videos: 1 });
  const { workspaceId } = await db.createUser();
  const operator = await db.connect("service");
  await operator.begin();
  await operator.call("billing.change_plan", {
    app: "amplify",
    slug: "busy",
    change_reason: "slow",
    features: { videos: 2 },
  });
  const buyer = await db.connect("service");
  await buyer.query("set lock_timeout = '2s'");
  await buyer.query(
    "insert into billing.subscriptions (workspace_id, app, plan_id) values ($1, 'amplify', $2)",
    [workspaceId, id],
  );
  await operator.commit();
  await operator.close();
  await buyer.close();
  expect(await versions(id)).toHaveLength(2);
});
