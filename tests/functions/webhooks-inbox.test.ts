import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import type { ReceivedEvent, WebhookToStore } from "../../functions/_shared/sql/inbox.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { functionsDatabase } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb, 20);
let statements: number[] = [];
let gate = Promise.resolve();
/** The same database; it notes how many events each statement holds, and waits where a test says so. */
const watched: Database = {
  ...db,
  rows: async (statement, values) => {
    const [events] = values as [string];
    statements.push(events.split('"provider"').length - 1);
    await gate;
    return await db.rows(statement, values);
  },
};

beforeAll(() =>
  testDb.query("insert into ops.webhook_providers (provider, job_kind) values ('painter', null)"),
);
beforeEach(async () => {
  statements = [];
  gate = Promise.resolve();
  await testDb.query(`truncate ops.webhook_events, ${queueTables}, ops.job_keys cascade`);
});

const event = (eventId: string | null, more: Partial<WebhookToStore> = {}): WebhookToStore => ({
  provider: "stripe",
  eventId,
  eventType: "paid",
  payload: JSON.stringify({ eventId }),
  headers: { "user-agent": "test" },
  ...more,
});
const created = (stored: ReceivedEvent[]) => stored.map((one) => one.created);
const storedIds = async () =>
  (await testDb.query("select event_id from ops.webhook_events order by event_id")).map((e) => e.event_id);

/** Closes the gate until the function that is given back is called. */
function hold(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  gate = promise;
  return resolve;
}

describe("requests that arrive together", () => {
  test("share the statement that follows the one on its way, and each gets its own answer", async () => {
    const inbox = createInbox(watched, { lanes: 1 });
    const open = hold();
    const all = Array.from({ length: 10 }, (_, n) => inbox.store([event(`e${n}`)]));
    open();
    const answers = await Promise.all(all);
    expect(statements).toEqual([1, 9]);
    expect(answers.flatMap(created)).toEqual(Array(10).fill(true));
    const rows = await testDb.query(
      "select e.id, e.event_id, e.payload, e.correlation_id = j.correlation_id as one, (j.payload ->> 'webhook_event_id')::bigint = e.id as own from ops.webhook_events e join ops.jobs j on j.id = e.job_id order by e.event_id",
    );
    expect(rows).toEqual(
      answers.map(([answer], n) => ({
        id: answer!.webhook_event_id,
        event_id: `e${n}`,
        payload: { eventId: `e${n}` },
        one: true,
        own: true,
      })),
    );
    expect(await testDb.query("select count(distinct correlation_id) from ops.webhook_events")).toEqual([
      { count: 10 },
    ]);
  });

  test("and repeat one another are stored once: one is new, the others know its id", async () => {
    const inbox = createInbox(watched, { lanes: 1 });
    const open = hold();
    const first = inbox.store([event("first")]);
    const same = Array.from({ length: 5 }, () => inbox.store([event("same")]));
    const unnamed = Array.from({ length: 3 }, () => inbox.store([event(null, { payload: '{"a": 1}' })]));
    open();
    await first;
    for (const group of [same, unnamed]) {
      const stored = (await Promise.all(group)).flat();
      expect(created(stored)).toEqual([true, ...Array(group.length - 1).fill(false)]);
      expect(new Set(stored.map(({ webhook_event_id }) => webhook_event_id)).size).toBe(1);
    }
    expect(statements).toEqual([1, 8]);
    expect(await testDb.query("select count(*) from ops.jobs")).toEqual([{ count: 3 }]);
  });

  test("of several instances repeat one another, in every order, without a deadlock", async () => {
    const ids = Array.from({ length: 40 }, (_, n) => `shared${n}`);
    const inboxes = Array.from({ length: 6 }, () => createInbox(db, { lanes: 2 }));
    const answers = await Promise.all(
      inboxes.flatMap((inbox, turn) =>
        ids.map((_, n) =>
          inbox.store([event(ids[(turn % 2 ? ids.length - 1 - n : n + turn) % ids.length]!)]),
        ),
      ),
    );
    expect(answers.flatMap(created).filter(Boolean)).toHaveLength(ids.length);
    expect(await storedIds()).toEqual(ids.toSorted());
    expect(await testDb.query("select count(*) from ops.jobs")).toEqual([{ count: ids.length }]);
  });

  test("are stored in as many statements as their number and size ask for", async () => {
    const inbox = createInbox(watched, { lanes: 1, mostEvents: 4, mostCharacters: 1000 });
    const open = hold();
    const payload = JSON.stringify({ text: "x".repeat(700) });
    const all = [
      ...Array.from({ length: 6 }, (_, n) => inbox.store([event(`small${n}`)])),
      inbox.store([event("large1", { payload })]),
      inbox.store([event("large2", { payload })]),
      inbox.store(Array.from({ length: 7 }, (_, n) => event(`many${n}`))),
    ];
    open();
    await Promise.all(all);
    expect(statements).toEqual([1, 4, 2, 1, 7]);
    expect(await storedIds()).toHaveLength(15);
  });
});

describe("a delivery that cannot be stored", () => {
  test.each([
    ["a NUL character", { payload: '{"a": "\\u0000"}' }, "22P05"],
    ["half a surrogate pair", { payload: '{"a": "\\ud800"}' }, "22P02"],
    ["a sender that nobody knows", { provider: "nobody" }, "PT404"],
    [
      "an id that no index holds",
      { eventId: Array.from({ length: 9000 }, () => Math.random()).join() },
      "54000",
    ],
  ])("with %s fails alone", async (_, fault, code) => {
    const inbox = createInbox(watched, { lanes: 1 });
    const open = hold();
    const all = [
      inbox.store([event("before")]),
      inbox.store([event("neighbour1")]),
      inbox.store([event("bad1"), event("bad2", fault)]),
      inbox.store([event("neighbour2")]),
    ];
    open();
    const ends = await Promise.allSettled(all);
    expect(ends.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    expect((ends[2] as PromiseRejectedResult).reason.code).toBe(code);
    expect(await storedIds()).toEqual(["before", "neighbour1", "neighbour2"]);
    expect(await testDb.query("select count(*) from ops.jobs")).toEqual([{ count: 3 }]);
  });

  test("because the server is in trouble is not tried again one by one", async () => {
    for (const code of ["ECONNREFUSED", "57014", "53100", "40P01", "XX000"]) {
      const gone = Object.assign(new Error("trouble"), { code });
      let asked = 0;
      const failing = {
        ...db,
        rows: () => {
          asked++;
          return Promise.reject(gone);
        },
      };
      const inbox = createInbox(failing, { lanes: 1 });
      const ends = await Promise.allSettled(
        Array.from({ length: 5 }, (_, n) => inbox.store([event(`e${n}`)])),
      );
      expect(ends).toEqual(Array(5).fill({ status: "rejected", reason: gone }));
      expect(asked).toBe(2);
    }
  });
});

test("one statement that hangs does not hold up what comes by the other lanes", async () => {
  const inbox = createInbox(watched, { lanes: 2 });
  const open = hold();
  const slow = inbox.store([event("slow")]);
  gate = Promise.resolve();
  await inbox.store([event("quick1")]);
  await inbox.store([event("quick2")]);
  expect(await storedIds()).toEqual(["quick1", "quick2"]);
  open();
  expect(created(await slow)).toEqual([true]);
});

test("events of senders whose events answer jobs share a statement with those that get jobs", async () => {
  const inbox = createInbox(watched, { lanes: 1 });
  const open = hold();
  const all = [
    inbox.store([event("a")]),
    inbox.store([event("b", { provider: "painter" })]),
    inbox.store([event("c")]),
  ];
  open();
  await Promise.all(all);
  expect(
    await testDb.query(
      "select event_id, provider, status, job_id is not null as job from ops.webhook_events order by 1",
    ),
  ).toEqual([
    { event_id: "a", provider: "stripe", status: "pending", job: true },
    { event_id: "b", provider: "painter", status: "pending", job: false },
    { event_id: "c", provider: "stripe", status: "pending", job: true },
  ]);
});

test("two deliveries that answer jobs never share a statement", async () => {
  const inbox = createInbox(watched, { lanes: 1 });
  const open = hold();
  const answering = (id: string) => inbox.store([event(id, { provider: "painter" })], { answersJobs: true });
  const all = [
    inbox.store([event("first")]),
    answering("a"),
    inbox.store([event("b")]),
    answering("c"),
    answering("d"),
    inbox.store([event("e")]),
  ];
  open();
  await Promise.all(all);
  expect(statements).toEqual([1, 2, 1, 2]);
  expect(await storedIds()).toEqual(["a", "b", "c", "d", "e", "first"]);
});
