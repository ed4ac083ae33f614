import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { createQueueDatabase, type Enqueue, noon, type QueueDatabase } from "./queue.ts";

let db: QueueDatabase;
let ann: TestUser;
let ben: TestUser;
beforeAll(async () => {
  db = await createQueueDatabase();
  [ann, ben] = await Promise.all([db.createUser(), db.createUser()]);
});
beforeEach(() => db.setClock(noon));

const enqueue = (job: Enqueue & Record<string, unknown>) =>
  db.service.call("ops.enqueue_job", { kind: "test.plain", payload: {}, ...job });

describe("a key", () => {
  test("makes one job for ever, also after it has ended and moved away", async () => {
    const key = randomUUID();
    const first = await enqueue({ key, payload: { n: 1 } });
    expect(first.created).toBe(true);
    await db.service.rpc("ops.cancel_job", { id: first.job_id });
    await db.query("delete from ops.live_jobs where id = $1", [first.job_id]);
    await db.advanceClock("5 years");
    expect(await enqueue({ key, payload: { n: 1 } })).toEqual({ job_id: first.job_id, created: false });
  });

  test.each<Enqueue>([
    { payload: { n: 2 } },
    { kind: "test.spied" },
    { queue: "other" },
    { priority: 1 },
    { max_attempts: 4 },
    { run_at: noon },
  ])("with other content is refused: %j", async (change) => {
    const key = randomUUID();
    const { job_id } = await enqueue({ key, payload: { n: 1 } });
    const { facts } = await expectError(
      enqueue({ key, payload: { n: 1 }, ...change }),
      "key_reused",
      "PT409",
    );
    expect(facts).toEqual({ key, job_id });
  });

  test("makes one job when twenty callers use it at once", async () => {
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 20 }, () => enqueue({ key })));
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(answers.map(({ job_id }) => job_id)).size).toBe(1);
    const [{ count }] = (await db.query("select count(*) from ops.jobs where id = $1", [
      answers[0].job_id,
    ])) as [{ count: number }];
    expect(count).toBe(1);
  });

  test("is free again when the transaction that used it first is undone", async () => {
    const key = randomUUID();
    const connection = await db.connect("service");
    await connection.begin();
    await connection.rpc("ops.enqueue_job", { kind: "test.plain", payload: {}, key });
    const other = enqueue({ key });
    await connection.rollback();
    expect((await other).created).toBe(true);
    await connection.close();
  });

  test("belongs to its workspace", async () => {
    const key = randomUUID();
    const answers = await Promise.all(
      [ann.workspaceId, ben.workspaceId, null].map((workspace_id) => enqueue({ key, workspace_id })),
    );
    expect(answers.map(({ created }) => created)).toEqual([true, true, true]);
  });

  test("of a child belongs to its parent's workspace, so two tenants' children may have the same", async () => {
    const key = randomUUID();
    const parents = await Promise.all(
      [ann, ben].map(({ workspaceId }) => db.jobs.enqueue({ workspace_id: workspaceId })),
    );
    const children = await Promise.all(parents.map((parent_id) => enqueue({ key, parent_id })));
    expect(children.map(({ created }) => created)).toEqual([true, true]);
    expect((await db.jobs.job(children[0].job_id)).workspace_id).toBe(ann.workspaceId);
  });

  test("means the same moment in every time zone, and the default queue by name or without", async () => {
    const key = randomUUID();
    const connection = await db.connect("service");
    const run_at = "2027-01-01T00:00:00Z";
    const first = await connection.call("ops.enqueue_job", {
      kind: "test.plain",
      payload: {},
      key,
      run_at,
      queue: null,
    });
    await connection.query("set timezone = 'Asia/Tokyo'");
    const again = { kind: "test.plain", payload: {}, key, run_at, queue: "default" };
    expect(await connection.call("ops.enqueue_job", again)).toEqual({ job_id: first.job_id, created: false });
    await connection.close();
  });
});

describe("enqueueing refuses", () => {
  test.each([
    [{ payload: [] }, "invalid_argument"],
    [{ payload: null }, "invalid_argument"],
    [{ max_attempts: 0 }, "invalid_argument"],
    [{ max_attempts: 101 }, "invalid_argument"],
    [{ max_attempts: null }, "invalid_argument"],
    [{ priority: 32_768 }, "invalid_argument"],
    [{ priority: null }, "invalid_argument"],
    [{ key: "" }, "invalid_argument"],
    [{ key: "k".repeat(256) }, "invalid_argument"],
    [{ kind: "test.unknown" }, "unknown_job_kind"],
    [{ kind: null }, "unknown_job_kind"],
    [{ workspace_id: randomUUID() }, "unknown_workspace"],
    [{ parent_id: 999_999 }, "unknown_job"],
  ])("%j", async (change, error) => {
    const before = await db.query("select count(*) from ops.jobs");
    await expectError(enqueue(change as never), error);
    expect(await db.query("select count(*) from ops.jobs")).toEqual(before);
  });

  test("every client", async () => {
    const job = { kind: "test.plain", payload: {} };
    await expectError(db.anon.rpc("ops.enqueue_job", job), "42501");
    await expectError(db.user(ann.id).rpc("ops.enqueue_job", job), "42501");
  });
});
