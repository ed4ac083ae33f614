// An inbox with one conversation: Ada has said hello.

import { beforeEach } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);

export let s: Stage;
export let id: string;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
  await s.happens((p) => p.say("ada", "hello"));
  id = (await s.conversation()).id;
});

export const member = async (role: string) => {
  const user = await testDb.createUser();
  await testDb.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
    [s.workspaceId, user.id, role],
  );
  return testDb.user(user.id);
};
export const send = (more: Record<string, unknown> = {}) =>
  s.as.call("social.send_message", { conversation_id: id, message_text: "Hi!", ...more });
