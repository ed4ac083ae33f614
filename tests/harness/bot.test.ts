import { expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import { runBot } from "./bot.ts";

const comments = Number(process.env.HARNESS_COMMENTS ?? 200);
const s = useStack();

test("of all comments, told twice, late and out of order, every figure is right to the unit", {
  timeout: 600_000 + comments * 1_000,
}, async () => {
  const seen = await runBot(s, comments);
  if (process.env.HARNESS_COMMENTS) console.log(JSON.stringify(seen, null, 2));
  expect(seen.expected.comment_received).toBeGreaterThanOrEqual(comments);
  expect(seen.expected.private_reply_sent).toBe(seen.expected.keyword_matched);
  expect(seen.mostReplies).toBe(1);
  expect(seen.recorded).toEqual(seen.expected);
  for (const figures of Object.values(seen.reported)) expect(figures).toEqual(seen.expected);
  expect(seen.faults).toEqual({ figures: 0, ledger: 0, dead: 0 });
  expect(seen.told.delivered).toBeGreaterThan(seen.told.webhooks * 1.5);
  expect(seen.told.throttled).toBeGreaterThan(0);
  expect(seen.told.hours).toBeGreaterThan(0);
});
