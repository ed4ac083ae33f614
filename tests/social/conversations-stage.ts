// A conversation with the bot, as far as a test wants it.

import { beforeEach } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
export let s: Stage;

export const photo = [{ type: "image", url: "https://lookaside.example/photo.jpg" }];
export const say = (text: string | null, attachments: { type: string; url?: string; post?: string }[] = []) =>
  s.happens((p) => p.say("ada", text, attachments));
/** A brand of its own, to which nobody has written yet. */
export async function open(credits?: number): Promise<void> {
  s = await createStage(testDb, db, credits);
}
/** Comment, private reply, answer: the bot waits for a photo. */
export async function begin(credits?: number): Promise<void> {
  await open(credits);
  await s.bind();
  await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
  await say("yes");
}
export const tryons = () =>
  testDb.query("select * from social.tryons where workspace_id = $1 order by created_at", [s.workspaceId]);
export const available = async () =>
  (await testDb.service.call("billing.balance", { workspace_id: s.workspaceId })).available_micro;

beforeEach(() => testDb.query(clearJobs));
