import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, as, db, viewer } from "./rules-stage.ts";

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
