import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const db = await createTestDatabase();

test("a conversation that a channel knows is one while it lasts, and another begins when it has ended", async () => {
  const ada = await db.createUser();
  const as = db.user(ada.id);
  const start = (more: object = {}) =>
    as.call("ai.start_session", {
      workspace_id: ada.workspaceId,
      channel: "instagram",
      platform_session_id: "thread-1",
      ...more,
    });
  const ids = (await Promise.all([start(), start(), start()])).map(({ id }) => id);
  expect(new Set(ids).size).toBe(1);
  expect((await start({ channel: "whatsapp" })).id).not.toBe(ids[0]);

  await as.call("ai.end_session", { session_id: ids[0], conversion_value_cents: 4900 });
  await expectError(as.call("ai.begin_turn", { session_id: ids[0], content: "Hello?" }), "session_ended");
  const next = await start();
  expect(next).toMatchObject({ is_active: true, conversion_value_cents: 0 });
  expect(next.id).not.toBe(ids[0]);
  expect((await start()).id).toBe(next.id);
});
