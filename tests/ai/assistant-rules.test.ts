import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const db = await createTestDatabase();

interface Person {
  id: string;
  workspaceId: string;
}
let ada: Person;
let viewer: Person;
beforeEach(async () => {
  await db.setClock("2026-11-20T12:00:00Z");
  ada = await db.createUser();
  viewer = await db.createUser();
  await join(viewer, "viewer");
});
const join = (person: Person, role: string) =>
  db.query("insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)", [
    ada.workspaceId,
    person.id,
    role,
  ]);
const credit = (amount_micro: number, workspace_id = ada.workspaceId) =>
  db.service.call("billing.grant_credits", {
    workspace_id,
    amount_micro,
    kind: "prepaid",
    key: randomUUID(),
  });
const wallet = async () =>
  (
    await db.query(
      "select prepaid_micro::int, held_micro::int from billing.wallets where workspace_id = $1",
      [ada.workspaceId],
    )
  )[0];
const faults = () => db.query("select * from billing.verify_ledger()");
const as = (person: Person) => db.user(person.id);

describe("a turn", () => {
  const start = () => as(ada).call("ai.start_session", { workspace_id: ada.workspaceId });
  const begin = (session: { id: string }, content = "What is linen?", more = {}) =>
    as(ada).call("ai.begin_turn", { session_id: session.id, content, ...more });
  const finish = (turn: { id: string }, more: Record<string, unknown> = {}) =>
    db.service.call("ai.finish_turn", {
      turn_id: turn.id,
      status: "completed",
      messages: [
        {
          role: "tool",
          tool_name: "search_knowledge",
          tool_input: { query: "linen" },
          tool_output: { chunks: [] },
        },
        { role: "assistant", content: "A fabric.", latency_ms: 12 },
      ],
      input_tokens: 1000,
      output_tokens: 100,
      model: "m",
      ...more,
    });

  test("holds the most it may cost, and takes what its tokens cost", async () => {
    await credit(10_000);
    const session = await start();
    const turn = await begin(session);
    expect(await wallet()).toEqual({ prepaid_micro: 6400, held_micro: 3600 });
    const done = await finish(turn);
    // 1,000 tokens read and 100 written, eight times: 1.8 thousand units at 60.
    expect(done).toMatchObject({
      status: "completed",
      cost_micro: 108,
      input_tokens: 1000,
      output_tokens: 100,
    });
    expect(await wallet()).toEqual({ prepaid_micro: 9892, held_micro: 0 });
    expect(await finish(turn, { input_tokens: 9 })).toMatchObject({ cost_micro: 108 });
    const messages = await as(viewer).query(
      "select role, content, tokens_used, cost_micro::int from ai.conversation_messages where session_id = $1 order by position",
      [session.id],
    );
    expect(messages).toEqual([
      { role: "user", content: "What is linen?", tokens_used: null, cost_micro: 0 },
      { role: "tool", content: "", tokens_used: null, cost_micro: 0 },
      { role: "assistant", content: "A fabric.", tokens_used: 1100, cost_micro: 108 },
    ]);
    expect(
      (await as(ada).query("select * from ai.conversation_sessions where id = $1", [session.id]))[0],
    ).toMatchObject({
      title: "What is linen?",
      message_count: 3,
      tool_calls_count: 1,
      cost_micro: 108,
      is_active: true,
    });
    expect(await faults()).toEqual([]);
  });

  test("never costs more than was held", async () => {
    await credit(10_000);
    const turn = await begin(await start());
    expect(await finish(turn, { input_tokens: 1_000_000 })).toMatchObject({ cost_micro: 3600 });
  });

  test("that fails, or that nobody finishes, gives its hold back", async () => {
    await credit(10_000);
    const session = await start();
    const failed = await finish(await begin(session), { status: "failed", error_message: "x: Broken." });
    expect(failed).toMatchObject({ status: "failed", error_message: "x: Broken.", cost_micro: 0 });
    const lost = await begin(session, "Again?");
    expect(await db.call("ai.close_stale_turns", {})).toBe(0);
    await db.advanceClock("6 minutes");
    expect(await db.call("ai.close_stale_turns", {})).toBe(1);
    expect(
      (await as(ada).query("select status from ai.conversation_turns where id = $1", [lost.id]))[0],
    ).toEqual({
      status: "failed",
    });
    expect(await wallet()).toEqual({ prepaid_micro: 10_000, held_micro: 0 });
    expect(await faults()).toEqual([]);
  });

  test("whose conversation is deleted gives its hold back", async () => {
    await credit(10_000);
    const session = await start();
    const turn = await begin(session);
    await as(ada).query("delete from ai.conversation_sessions where id = $1", [session.id]);
    expect(await wallet()).toEqual({ prepaid_micro: 10_000, held_micro: 0 });
    await expectError(finish(turn), "unknown_turn", "PT404");
    expect(await faults()).toEqual([]);
  });

  test("is one at a time, and one for a key", async () => {
    await credit(20_000);
    const session = await start();
    const turn = await begin(session, "What?", { key: "k" });
    expect((await begin(session, "What?", { key: "k" })).id).toBe(turn.id);
    await expectError(begin(session, "Else?", { key: "k" }), "key_reused", "PT409");
    await expectError(begin(session, "More?"), "turn_running", "PT409");
    await finish(turn);
    const both = await Promise.allSettled([begin(session, "A?"), begin(session, "B?")]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await wallet()).toMatchObject({ held_micro: 3600 });
  });

  test("is refused without credits, to viewers and strangers, and after the end", async () => {
    const session = await start();
    await expectError(begin(session), "insufficient_credits", "PT402");
    expect(
      await as(ada).query("select 1 from ai.conversation_messages where session_id = $1", [session.id]),
    ).toEqual([]);
    const args = { session_id: session.id, content: "Hi" };
    await expectError(as(viewer).call("ai.begin_turn", args), "role_too_low", "PT403");
    const stranger = await db.createUser();
    await expectError(as(stranger).call("ai.begin_turn", args), "unknown_session", "PT404");
    await as(ada).call("ai.end_session", { session_id: session.id, conversion_value_cents: 1990 });
    await expectError(begin(session), "session_ended", "PT409");
    await expectError(
      as(ada).rpc("ai.finish_turn", {
        turn_id: randomUUID(),
        status: "failed",
        messages: [],
        input_tokens: 0,
        output_tokens: 0,
        model: "",
      }),
      "42501",
    );
  });

  test("tells the model who it speaks for, who asks and what was said", async () => {
    await credit(20_000);
    const session = await as(ada).call("ai.start_session", {
      workspace_id: ada.workspaceId,
      channel: "web",
      anonymous_id: "visitor-1",
    });
    await as(ada).call("ai.note_preference", {
      workspace_id: ada.workspaceId,
      anonymous_id: "visitor-1",
      category: "style",
      preference_key: "colour",
      preference_value: "red",
      confidence: 0.8,
    });
    await finish(await begin(session, "First?"));
    const turn = await begin(session, "Second?");
    expect(await db.service.call("ai.turn_context", { turn_id: turn.id })).toMatchObject({
      question: "Second?",
      preferences: { "style.colour": "red" },
      history: [
        { role: "user", content: "First?" },
        { role: "assistant", content: "A fabric." },
      ],
      limit_units: 60,
    });
    const short = await db.service.call("ai.turn_context", { turn_id: turn.id, most_characters: 10 });
    expect(short.history).toEqual([{ role: "assistant", content: "A fabric." }]);
  });

  test("can be cancelled by members", async () => {
    await credit(20_000);
    const turn = await begin(await start());
    await expectError(as(viewer).call("ai.cancel_turn", { turn_id: turn.id }), "role_too_low", "PT403");
    expect(await as(ada).call("ai.cancel_turn", { turn_id: turn.id })).toMatchObject({
      status: "running",
      cancel_requested_at: expect.any(Date),
    });
    expect(await finish(turn, { status: "cancelled", output_tokens: 0 })).toMatchObject({
      status: "cancelled",
      cost_micro: 60,
    });
  });
});

describe("a preference", () => {
  const customer = randomUUID();
  const note = (value: string, confidence: number, more: Record<string, unknown> = {}) =>
    as(ada).call("ai.note_preference", {
      workspace_id: ada.workspaceId,
      customer_id: customer,
      category: "style",
      preference_key: "colour",
      preference_value: value,
      confidence,
      ...more,
    });
  const profile = (more: Record<string, unknown> = {}) =>
    as(viewer).rpc("ai.customer_profile", { workspace_id: ada.workspaceId, customer_id: customer, ...more });

  test("grows surer when it is seen again, and yields to what is surer", async () => {
    await note("red", 0.5);
    expect(await note("red", 0.5)).toMatchObject({ preference_value: "red", confidence: 0.75 });
    expect(await note("blue", 0.3)).toMatchObject({ preference_value: "red", confidence: 0.64 });
    expect(await note("green", 0.8)).toMatchObject({ preference_value: "green", confidence: 0.54 });
    for (let i = 0; i < 5; i++) await note("green", 0.9);
    expect(await note("green", 0.9)).toMatchObject({ confidence: 0.99 });
    expect(
      await as(ada).query("select 1 from ai.customer_preferences where customer_id = $1", [customer]),
    ).toHaveLength(1);
  });

  test("fades by half in 90 days, and is forgotten when hardly anything is left", async () => {
    await note("red", 0.8);
    await db.advanceClock("90 days");
    expect(await profile()).toMatchObject([{ preference_value: "red", confidence: 0.4 }]);
    expect(await profile({ minimum_confidence: 0.5 })).toEqual([]);
    expect(await db.call("ai.forget_faded_preferences", {})).toBe(0);
    await db.advanceClock("300 days");
    expect(await db.call("ai.forget_faded_preferences", {})).toBeGreaterThan(0);
    expect(await profile()).toEqual([]);
  });

  test("of a visitor becomes the customer's, with the conversations", async () => {
    const visitor = { customer_id: null, anonymous_id: "v-1" };
    await note("red", 0.5);
    await note("red", 0.5, visitor);
    await note("M", 0.7, { ...visitor, preference_key: "size" });
    const session = await as(ada).call("ai.start_session", {
      workspace_id: ada.workspaceId,
      channel: "web",
      anonymous_id: "v-1",
    });
    const args = { workspace_id: ada.workspaceId, anonymous_id: "v-1", customer_id: customer };
    expect(await as(ada).call("ai.identify_customer", args)).toBe(2);
    expect((await profile()).map(({ preference_key, confidence }) => [preference_key, confidence])).toEqual([
      ["colour", 0.75],
      ["size", 0.7],
    ]);
    expect(
      (await as(ada).query("select * from ai.conversation_sessions where id = $1", [session.id]))[0],
    ).toMatchObject({
      customer_id: customer,
      anonymous_id: null,
    });
    expect(await as(ada).call("ai.identify_customer", args)).toBe(0);
  });

  test("noted twice at once is noted once and surer", async () => {
    await Promise.all([note("red", 0.5), note("red", 0.5), note("red", 0.5)]);
    expect(await profile()).toMatchObject([{ confidence: 0.88 }]);
  });

  test("is refused from viewers and in wrong words", async () => {
    await expectError(
      as(viewer).call("ai.note_preference", {
        workspace_id: ada.workspaceId,
        customer_id: customer,
        category: "style",
        preference_key: "colour",
        preference_value: "red",
      }),
      "role_too_low",
      "PT403",
    );
    await expectError(note("red", 1.5), "invalid_argument", "PT400");
    await expectError(note("red", 0.5, { anonymous_id: "x" }), "invalid_argument", "PT400");
  });
});

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
