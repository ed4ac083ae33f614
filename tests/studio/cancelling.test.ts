import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, inconsistent, noon, price, resultPaths, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  await db.query("delete from ops.webhook_events");
  ann = await db.brand();
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

const cancel = (creation: Row, by: { id: string } = ann) =>
  db.user(by.id).call("studio.cancel_creation", { creation_id: creation.id });
const checkpoint = (creation: Row, content: object) =>
  db.service.rpc("ops.checkpoint_job", { worker: "w", id: creation.job_id, checkpoint: content });
const stops = () =>
  db.query(
    "select payload ->> 'request_id' as request from ops.jobs where kind = 'studio.cancel_at_provider'",
  );

describe("a creation is cancelled and its charge released", () => {
  const states: [string, (creation: Row) => Promise<unknown>, number][] = [
    ["before a worker saw it", async () => {}, 0],
    ["while a worker has it, before it asked the provider", () => db.claim(), 0],
    [
      "while a worker has it, after it asked the provider",
      async (creation) => {
        await db.claim();
        await checkpoint(creation, { provider: "fal", runs: [{ provider: "fal", request_id: "r1" }] });
      },
      1,
    ],
    [
      "while it waits for the provider",
      async (creation) => {
        await db.claim();
        await checkpoint(creation, { provider: "fal", runs: [{ provider: "fal", request_id: "r1" }] });
        await db.jobs.complete("w", [
          { id: creation.job_id, outcome: "waiting", wait_key: "fal:r1", poll_in: 60 },
        ]);
      },
      1,
    ],
    [
      "between two attempts",
      async (creation) => {
        await db.claim();
        await db.jobs.fail("w", creation.job_id, "again", "5 minutes");
      },
      0,
    ],
  ];

  test.each(states)("%s", async (_name, prepare, told) => {
    const had = await db.balance(ann.workspaceId);
    const creation = await db.request(ann, { num_outputs: 2 });
    await prepare(creation);
    expect(await cancel(creation)).toMatchObject({
      id: creation.id,
      status: "cancelled",
      completed_at: new Date(noon),
    });
    expect(await db.balance(ann.workspaceId)).toEqual(had);
    expect(await stops()).toHaveLength(told);
    expect(await db.query(inconsistent)).toEqual([]);
    expect(await db.finish([creation])).toEqual({ [creation.job_id]: "lost" });
    expect(await cancel(creation)).toMatchObject({ status: "cancelled" });
    expect(await db.balance(ann.workspaceId)).toEqual(had);
    expect(await db.query("select from messaging.notifications where user_id = $1", [ann.id])).toEqual([]);
  });

  test("and a late callback changes nothing", async () => {
    const creation = await db.request(ann);
    await states[3]![1](creation);
    await cancel(creation);
    const before = [await db.creation(creation.id), await db.jobs.job(creation.job_id)];
    const answer = { provider: "fal", event_id: "r1", event_type: "result", payload: { status: "OK" } };
    expect(await db.service.call("ops.receive_webhook", answer)).toMatchObject({ created: true });
    await db.advanceClock("1 hour");
    await db.service.rpc("ops.tick");
    expect([await db.creation(creation.id), await db.jobs.job(creation.job_id)]).toEqual(before);
  });

  test("but not once it has ended", async () => {
    const [completed, failed] = [await db.request(ann), await db.request(ann)];
    await db.finish([completed]);
    await db.jobs.complete("w", [{ id: failed.job_id, outcome: "failed", retry: false }]);
    for (const [creation, status] of [
      [completed, "completed"],
      [failed, "failed"],
    ] as const) {
      const { facts } = await expectError(cancel(creation), "creation_ended", "PT409");
      expect(facts).toEqual({ status });
    }
    expect(await db.query(inconsistent)).toEqual([]);
  });
});

describe("who may cancel", () => {
  test.each([
    ["viewer", "role_too_low"],
    ["member", "role_too_low"],
    ["editor", null],
    ["admin", null],
  ])("another's creation, a %s: %s", async (role, error) => {
    const user = await db.join(ann.workspaceId, role);
    const creation = await db.request(ann);
    if (error) await expectError(cancel(creation, user), error, "PT403");
    else expect((await cancel(creation, user)).status).toBe("cancelled");
  });

  test("their own: a member, but no longer once a viewer", async () => {
    const user = await db.join(ann.workspaceId, "member");
    const more = {
      workspace_id: ann.workspaceId,
      creation_type: "tryon",
      garment_id: ann.garmentId,
      model_id: ann.modelId,
    };
    const first = await db.user(user.id).call("studio.request_creation", more);
    const second = await db.user(user.id).call("studio.request_creation", more);
    expect((await cancel(first, user)).status).toBe("cancelled");
    await db.query(
      "update identity.workspace_members set role = 'viewer' where user_id = $1 and workspace_id = $2",
      [user.id, ann.workspaceId],
    );
    await expectError(cancel(second, user), "role_too_low", "PT403");
  });

  test("a stranger is told that there is no such creation, and so is everybody of one that is none", async () => {
    const [creation, stranger] = [await db.request(ann), await db.createUser()];
    await expectError(cancel(creation, stranger), "unknown_creation", "PT404");
    await expectError(cancel({ id: randomUUID() }), "unknown_creation", "PT404");
    await expectError(
      db.service.rpc("studio.cancel_creation", { creation_id: randomUUID() }),
      "unknown_creation",
    );
  });

  test("the service may", async () => {
    const creation = await db.request(ann);
    expect(await db.service.call("studio.cancel_creation", { creation_id: creation.id })).toMatchObject({
      status: "cancelled",
    });
  });
});

describe("cancelling and completing at once", () => {
  test("ends as completed and charged or cancelled and released, never both", async () => {
    const [user, worker] = await Promise.all([db.connect({ user: ann.id }), db.connect("service")]);
    const ends: Record<string, number> = { completed: 0, cancelled: 0 };
    for (let round = 0; round < 40; round++) {
      const creation = await db.request(ann);
      await db.claim();
      const results = [{ id: creation.job_id, output: { result_paths: resultPaths(creation) } }];
      const complete = () => worker.rpc("ops.complete_jobs", { worker: "w", results });
      const stop = () => user.rpc("studio.cancel_creation", { creation_id: creation.id });
      const calls = round % 2 === 0 ? [stop(), complete()] : [complete(), stop()];
      const settled = await Promise.allSettled(calls);
      const { status } = await db.creation(creation.id);
      ends[status]!++;
      const refusals = settled
        .filter((call) => call.status === "rejected")
        .map((call) => String(call.reason));
      expect(refusals).toEqual(status === "completed" ? [expect.stringContaining("creation_ended")] : []);
    }
    expect(ends.completed! + ends.cancelled!).toBe(40);
    expect(await db.query(inconsistent)).toEqual([]);
    const [sum] = await db.query(
      "select coalesce(sum(captured_micro), 0)::bigint as charged from billing.usage_events where workspace_id = $1",
      [ann.workspaceId],
    );
    expect(sum!.charged).toBe(ends.completed! * price);
    await Promise.all([user.close(), worker.close()]);
  });

  test("and at once by many ends it once", async () => {
    const creation = await db.request(ann);
    const answers = await Promise.all(Array.from({ length: 8 }, () => cancel(creation)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(["cancelled"]));
    expect(
      await db.query("select count(*) from billing.ledger_transactions where usage_event_id = $1", [
        creation.usage_event_id,
      ]),
    ).toEqual([{ count: 2 }]);
  });
});
