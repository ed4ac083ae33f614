// Quotas from many connections at once: never more than the limit, never twice for a key, never lost.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";
import { untilWaiting } from "../ops/queue.ts";
import { changePlan, consume, entitlement, makePlan, release, subscribe } from "./entitled.ts";
import { freshKey, noon } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase({ poolSize: 20 });
  await db.setClock(noon);
  await makePlan(db, "small", { videos: 25, youtube_channels: 3 });
});

async function tenant() {
  const user = await db.createUser();
  await subscribe(db, user.workspaceId, "small");
  return user.workspaceId;
}

/** Refused with quota_exceeded: null; any other error fails the test. */
async function attempt<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    expect((error as Error).message).toMatch(/^quota_exceeded/);
    return null;
  }
}

const used = async (workspaceId: string, feature = "videos") =>
  (await entitlement(db.service, workspaceId, feature)).used_value;

test("sixty calls at once use 25 of 25", async () => {
  const workspaceId = await tenant();
  const calls = await Promise.all(
    Array.from({ length: 60 }, () => attempt(consume(db.service, workspaceId, "videos", 1, freshKey()))),
  );
  expect(calls.filter((call) => call !== null)).toHaveLength(25);
  expect(new Set(calls.map((call) => call?.used_value).filter(Boolean)).size).toBe(25);
  expect(await used(workspaceId)).toBe(25);
  const [sum] = await db.query("select sum(amount) as sum from billing.quota_uses where workspace_id = $1", [
    workspaceId,
  ]);
  expect(sum).toEqual({ sum: 25 });
});

test("forty calls with one key at once are one use", async () => {
  const workspaceId = await tenant();
  const calls = await Promise.all(
    Array.from({ length: 40 }, () => consume(db.service, workspaceId, "videos", 3, "same")),
  );
  expect(calls.filter(({ created }) => created)).toHaveLength(1);
  expect(await used(workspaceId)).toBe(3);
});

test("one key for two features at once is one use; the other is told", async () => {
  for (let round = 0; round < 5; round++) {
    const workspaceId = await tenant();
    const calls = await Promise.allSettled(
      Array.from({ length: 10 }, (_, n) =>
        consume(db.service, workspaceId, n % 2 ? "videos" : "youtube_channels", 1, "shared"),
      ),
    );
    const done = calls.flatMap((call) => (call.status === "fulfilled" ? [call.value] : []));
    expect(done.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(done.map(({ feature }) => feature)).size).toBe(1);
    for (const call of calls)
      if (call.status === "rejected") expect(String(call.reason)).toMatch(/key_reused/);
    expect((await used(workspaceId))! + (await used(workspaceId, "youtube_channels"))!).toBe(1);
  }
});

test("one use released by twenty at once comes back once", async () => {
  const workspaceId = await tenant();
  await consume(db.service, workspaceId, "videos", 5, "kept");
  await consume(db.service, workspaceId, "videos", 5, "gone");
  const calls = await Promise.all(Array.from({ length: 20 }, () => release(db.service, workspaceId, "gone")));
  expect(calls.filter(({ created }) => created)).toHaveLength(1);
  expect(await used(workspaceId)).toBe(5);
});

test("first uses at once meet in one period, though the plan changes between them", async () => {
  await makePlan(db, "turned", { videos: { limit: 5, period: "week" } });
  const { workspaceId } = await db.createUser();
  await subscribe(db, workspaceId, "turned");
  const [first, second] = await Promise.all([db.connect("service"), db.connect("service")]);
  await first.begin();
  await consume(first, workspaceId, "videos", 4, "first");
  await changePlan(db.service, "amplify", "turned", { features: { videos: { limit: 6, period: "month" } } });
  const waiting = attempt(consume(second, workspaceId, "videos", 3, "second"));
  await untilWaiting(db, second.pid);
  await first.commit();
  expect(await waiting).toBeNull();
  expect(await used(workspaceId)).toBe(4);
  expect(await consume(second, workspaceId, "videos", 2, "third")).toMatchObject({ used_value: 6 });
  await Promise.all([first.close(), second.close()]);
});

test("uses and releases in any order and at once keep the count that their keys give", async () => {
  const step = fc.record({
    take: fc.boolean(),
    key: fc.integer({ min: 0, max: 7 }),
    feature: fc.constantFrom("videos", "youtube_channels"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      const workspaceId = await tenant();
      await Promise.all(
        steps.map(async ({ take, key, feature }) => {
          const name = `${feature}-${key}`;
          if (take) return attempt(consume(db.service, workspaceId, feature, 1, name));
          try {
            return await release(db.service, workspaceId, name);
          } catch (error) {
            expect(String(error)).toMatch(/unknown_quota_use/);
            return null;
          }
        }),
      );
      const open = await db.query(
        `select q.feature, q.used_value, coalesce(sum(u.amount) filter (where u.released_at is null), 0) as open
          from billing.quotas q left join billing.quota_uses u on u.quota_id = q.id
          where q.workspace_id = $1 group by q.id`,
        [workspaceId],
      );
      for (const quota of open) {
        expect(quota.used_value).toBe(quota.open);
        expect(quota.used_value).toBeLessThanOrEqual(quota.feature === "videos" ? 25 : 3);
      }
    }),
    histories(15),
  );
});
