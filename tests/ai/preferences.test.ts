import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, as, db, viewer } from "./rules-stage.ts";

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
