import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";

const db = await createTestDatabase();
let ada: { id: string; workspaceId: string };
let account: string;

async function connect(): Promise<string> {
  const [row] = await db.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
      values ($1, 'instagram', gen_random_uuid()::text) returning id`,
    [ada.workspaceId],
  );
  return row!.id;
}
beforeEach(async () => {
  await db.service.call("social.count_interactions");
  await db.setClock("2030-03-10T12:00:00Z");
  ada = await db.createUser();
  account = await connect();
});

const record = (kind: string, key: string, more: Record<string, unknown> = {}) =>
  db.service.call<boolean>("social.record_interaction", {
    workspace_id: ada.workspaceId,
    account_id: account,
    kind,
    dedupe_key: key,
    ...more,
  });
const report = (more: Record<string, unknown> = {}) =>
  db.user(ada.id).rpc("social.metrics_report", { account_id: account, ...more });
const count = () => db.service.call<number>("social.count_interactions");
const faults = () => db.service.rpc("social.verify_counts", { account });
const post = (n: number) => `00000000-0000-4000-8000-00000000000${n}`;

describe("a step of the funnel", () => {
  test("is kept and counted once, however often it is told, at once or after another", async () => {
    expect(await record("comment_received", "comment:1")).toBe(true);
    expect(await record("comment_received", "comment:1")).toBe(false);
    const told = await Promise.all(Array.from({ length: 8 }, () => record("keyword_matched", "keyword:1")));
    expect(told.filter(Boolean)).toHaveLength(1);
    await count();
    expect(await record("comment_received", "comment:1")).toBe(false);
    expect(await report()).toMatchObject([{ comment_received: 1, keyword_matched: 1, result_sent: 0 }]);
  });

  test("of an account of another workspace is refused, and so is an unknown kind", async () => {
    const eve = await db.createUser();
    await expectError(record("comment_received", "c", { workspace_id: eve.workspaceId }), "unknown_account");
    await expectError(record("comment_liked", "c"), "23514");
  });

  test("never changes", async () => {
    await record("comment_received", "comment:1");
    await expectError(db.query("update social.bot_interactions set kind = 'opted_out'"), "immutable_row");
    await expectError(db.service.query("delete from social.bot_interactions"), "42501");
  });

  test("is seen by members alone, and told by the service alone", async () => {
    await record("comment_received", "comment:1");
    const eve = await db.createUser();
    for (const table of [
      "bot_interactions",
      "uncounted_interactions",
      "interaction_counts",
      "current_counts",
    ]) {
      expect(await db.user(eve.id).query(`select * from social.${table}`)).toEqual([]);
      await expectError(db.anon.query(`select * from social.${table}`), "42501");
    }
    expect(await db.user(ada.id).query("select kind from social.bot_interactions")).toHaveLength(1);
    await expectError(
      db.user(eve.id).rpc("social.metrics_report", { account_id: account }),
      "unknown_account",
    );
    await expectError(db.user(eve.id).rpc("social.funnel", { account_id: account }), "unknown_account");
    await expectError(
      db.user(ada.id).rpc("social.record_interaction", {
        workspace_id: ada.workspaceId,
        account_id: account,
        kind: "opted_out",
        dedupe_key: "k",
      }),
      "42501",
    );
  });
});

describe("figures", () => {
  test("are the same before and after the sweep, and counted once by two sweeps at once", async () => {
    for (let n = 0; n < 5; n++) await record("comment_received", `c:${n}`, { post_id: post(n % 2) });
    await record("private_reply_sent", "p:1", { details: { response_time_ms: 400 } });
    await record("private_reply_sent", "p:2", { details: { response_time_ms: 201 } });
    await record("tryon_completed", "t:1", { details: { generation_time_ms: 9000, cost_micro: 2298 } });
    const before = await report({ group_by: ["hour", "post"] });
    const whole = await report({ group_by: [] });
    const sweeps = await Promise.all([count(), count(), count()]);
    expect(sweeps.reduce((sum, n) => sum + n, 0)).toBe(8);
    expect(await report({ group_by: ["hour", "post"] })).toEqual(before);
    expect(await report({ group_by: [] })).toEqual(whole);
    expect(whole).toMatchObject([
      { comment_received: 5, avg_response_ms: 301, avg_generation_ms: 9000, cost_micro: 2298 },
    ]);
    expect(before.map(({ by_post_id, comment_received }) => [by_post_id, comment_received])).toEqual([
      [post(0), 3],
      [post(1), 2],
      [null, 0],
    ]);
    expect(await faults()).toEqual([]);
  });

  test("belong to the days of a time zone, also one that is three quarters of an hour off", async () => {
    await db.setClock("2030-03-10T18:10:00Z"); // 23:55 in Kathmandu
    await record("comment_received", "c:1");
    await db.setClock("2030-03-10T18:20:00Z"); // 00:05 of the day after
    await record("comment_received", "c:2");
    for (const folded of [false, true]) {
      if (folded) await count();
      const days = await report({ timezone: "Asia/Kathmandu" });
      expect(days.map(({ day, comment_received }) => [day, comment_received])).toEqual([
        ["2030-03-10", 1],
        ["2030-03-11", 1],
      ]);
      expect(await report({ timezone: "UTC" })).toMatchObject([{ day: "2030-03-10", comment_received: 2 }]);
      const hours = await report({ timezone: "Asia/Kathmandu", group_by: ["hour"] });
      expect(hours.map(({ starts_at }) => starts_at.toISOString())).toEqual([
        "2030-03-10T17:15:00.000Z",
        "2030-03-10T18:15:00.000Z",
      ]);
    }
    await expectError(report({ timezone: "Mars/Olympus" }), "invalid_timezone");
    await expectError(report({ group_by: ["week"] }), "invalid_argument");
    await expectError(report({ from_day: "2030-03-02", to_day: "2030-03-01" }), "invalid_argument");
  });

  test("of days, hours, posts and the account are the same numbers as the steps, whatever happens", async () => {
    const kinds = [
      "comment_received",
      "keyword_matched",
      "private_reply_sent",
      "photo_received",
      "result_sent",
    ];
    const step = fc.record({
      kind: fc.constantFrom(...kinds),
      key: fc.integer({ min: 0, max: 40 }),
      post: fc.option(fc.integer({ min: 1, max: 3 }), { nil: null }),
      minute: fc.integer({ min: 0, max: 4000 }),
      sweep: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
        account = await connect();
        const model = new Map<string, { kind: string; post: string | null; day: string }>();
        for (const one of steps) {
          const at = new Date(Date.parse("2030-03-08T00:00:00Z") + one.minute * 60_000);
          await db.setClock(at.toISOString());
          const key = `${one.kind}:${one.key}`;
          const postId = one.post === null ? null : post(one.post);
          const isNew = await record(one.kind, key, { post_id: postId });
          expect(isNew).toBe(!model.has(key));
          const local = new Date(at.getTime() + 345 * 60_000).toISOString().slice(0, 10);
          if (isNew) model.set(key, { kind: one.kind, post: postId, day: local });
          if (one.sweep) await count();
        }
        await db.setClock("2030-03-12T00:00:00Z");
        const all = [...model.values()];
        const sum = (rows: Record<string, number>[], kind: string) =>
          rows.reduce((total, row) => total + row[kind]!, 0);
        for (const group_by of [[], ["day"], ["hour"], ["post"], ["day", "post"], ["hour", "post"]]) {
          const rows = await report({ group_by, timezone: "Asia/Kathmandu" });
          for (const kind of kinds) {
            expect(sum(rows, kind)).toBe(all.filter((one) => one.kind === kind).length);
          }
        }
        for (const row of await report({ group_by: ["day", "post"], timezone: "Asia/Kathmandu" })) {
          const here = all.filter(({ day, post }) => day === row.day && post === row.by_post_id);
          for (const kind of kinds) expect(row[kind]).toBe(here.filter((one) => one.kind === kind).length);
        }
        expect(await faults()).toEqual([]);
      }),
      histories(12),
    );
  });

  test("that are wrong are found at night, told as critical, and made anew", async () => {
    await record("comment_received", "c:1", { post_id: post(1) });
    await count();
    await record("comment_received", "c:2", { post_id: post(1) });
    await db.query(
      "update social.interaction_counts set interactions = 7 where account_id = $1 and grain = 'day'",
      [account],
    );
    expect(await faults()).toHaveLength(2);
    expect(await db.service.call("social.prove_counts")).toBe(2);
    expect(await faults()).toEqual([]);
    expect(await report()).toMatchObject([{ comment_received: 2 }]);
    const [entry] = await db.query(
      "select risk_level from ops.audit_log where action = 'social.figures.fault'",
    );
    expect(entry).toEqual({ risk_level: "critical" });
    expect(await db.service.call("social.prove_counts")).toBe(0);
  });
});

test("the funnel gives each step as a part of the one before and of the first", async () => {
  for (let n = 0; n < 8; n++) await record("comment_received", `c:${n}`, { post_id: post(1) });
  for (let n = 0; n < 4; n++) await record("keyword_matched", `k:${n}`, { post_id: post(1) });
  await record("private_reply_sent", "p", { post_id: post(1) });
  await record("comment_received", "elsewhere");
  const steps = await db.user(ada.id).rpc("social.funnel", { account_id: account, post_id: post(1) });
  expect(steps.slice(0, 4)).toEqual([
    { step: 1, kind: "comment_received", interactions: 8, from_previous: null, from_first: 1 },
    { step: 2, kind: "keyword_matched", interactions: 4, from_previous: 0.5, from_first: 0.5 },
    { step: 3, kind: "private_reply_sent", interactions: 1, from_previous: 0.25, from_first: 0.125 },
    { step: 4, kind: "conversation_started", interactions: 0, from_previous: 0, from_first: 0 },
  ]);
  expect(steps).toHaveLength(9);
  expect(steps[4]).toMatchObject({ kind: "photo_received", from_previous: null });
  const [first] = await db.user(ada.id).rpc("social.funnel", { account_id: account });
  expect(first).toMatchObject({ interactions: 9 });
});
