import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, as, db, type Person, viewer } from "./rules-stage.ts";

describe("a portfolio", () => {
  const brand = async (owner: Person, name: string, type = "brand") =>
    (await as(owner).call("identity.create_workspace", { name, type })) as { id: string };
  const product = async (workspaceId: string, title: string, tags: string[], lowest = 50) => {
    const [account] = await db.query(
      `insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
       values ($1, 'shopify', $2) returning id`,
      [workspaceId, `${randomUUID()}.myshopify.com`],
    );
    await db.query(
      `insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title, tags,
         shopify_updated_at, observed_at, has_variants_in_stock, lowest_stock_level)
       values ($1, $2, $3, $3, $4, now(), now(), true, $5)`,
      [workspaceId, account!.id, title, tags, lowest],
    );
    return account!.id as string;
  };
  const order = (workspaceId: string, accountId: string, cents: number, currency: string, daysAgo: number) =>
    db.query(
      `insert into commerce.orders (workspace_id, connected_account_id, shopify_order_id, currency, total_cents,
         ordered_at, paid_at, shopify_updated_at, observed_at)
       values ($1, $2, $3, $4, $5, $6, $6, now(), now())`,
      [
        workspaceId,
        accountId,
        randomUUID(),
        currency,
        cents,
        new Date(Date.parse("2026-11-20T12:00:00Z") - daysAgo * 864e5),
      ],
    );

  test("of a holding adds its brands up, each currency by itself, and says what follows", async () => {
    const holding = await brand(ada, "Holding", "holding");
    const linen = await brand(ada, "Linen House");
    const wool = await brand(ada, "Wool House");
    for (const { id } of [linen, wool]) {
      await as(ada).call("ai.join_holding", { workspace_id: id, holding_id: holding.id });
    }
    const linenShop = await product(linen.id, "Dress", ["summer", "linen"]);
    const woolShop = await product(wool.id, "Coat", ["winter", "linen"], 2);
    await order(linen.id, linenShop, 5000, "EUR", 3);
    await order(linen.id, linenShop, 9000, "EUR", 40);
    await order(wool.id, woolShop, 1000, "USD", 3);
    const customer = randomUUID();
    for (const [id, value] of [
      [linen.id, "winter"],
      [wool.id, "winter"],
    ]) {
      await as(ada).call("ai.note_preference", {
        workspace_id: id,
        customer_id: id === linen.id ? randomUUID() : customer,
        category: "style",
        preference_key: "taste",
        preference_value: value,
        confidence: 0.9,
      });
    }
    const seen = await as(ada).call("ai.analyze_portfolio", { workspace_id: holding.id });
    expect(seen).toMatchObject({
      total_skus: 2,
      total_revenue_30d: { EUR: 5000, USD: 1000 },
      top_performing_brand: linen.id,
      brand_cannibalization_risk: 0.3333,
      shared_customer_segments: [],
      cross_sell_opportunities: [{ from: linen.id, to: wool.id, style: "winter", customers: 1 }],
      portfolio_trends: { revenue_before: { EUR: 9000 } },
    });
    expect(
      seen.recommended_actions.map((a: { action: string; name: string }) => `${a.action}: ${a.name}`),
    ).toEqual([
      "restock: Wool House",
      "look_into_sales: Linen House",
      "add_knowledge: Linen House",
      "add_knowledge: Wool House",
      "create_pictures: Linen House",
      "create_pictures: Wool House",
    ]);
    expect(
      await as(ada).query("select id from ai.cross_brand_analytics where workspace_id = $1", [holding.id]),
    ).toHaveLength(1);
    const figures = await as(ada).rpc("ai.portfolio", {});
    expect(figures.map(({ name }) => name)).toEqual(expect.arrayContaining(["Linen House", "Wool House"]));
  });

  test("refuses strangers, members and what is no holding", async () => {
    const holding = await brand(ada, "Holding", "holding");
    const eve = await db.createUser();
    const mine = await brand(eve, "Eve's");
    await expectError(
      as(eve).call("ai.analyze_portfolio", { workspace_id: holding.id }),
      "unknown_workspace",
      "PT404",
    );
    await expectError(
      as(eve).rpc("ai.portfolio", { workspace_ids: [ada.workspaceId] }),
      "unknown_workspace",
      "PT404",
    );
    await expectError(
      as(viewer).rpc("ai.portfolio", { workspace_ids: [ada.workspaceId] }),
      "unknown_workspace",
      "PT404",
    );
    await expectError(
      as(ada).call("ai.analyze_portfolio", { workspace_id: ada.workspaceId }),
      "no_holding",
      "PT422",
    );
    await expectError(
      as(eve).call("ai.join_holding", { workspace_id: mine.id, holding_id: holding.id }),
      "unknown_workspace",
      "PT404",
    );
    expect((await as(eve).rpc("ai.portfolio", { workspace_ids: [mine.id] })).map(({ name }) => name)).toEqual(
      ["Eve's"],
    );
  });
});
