import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const noon = "2026-11-21T12:00:00Z";
let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});
beforeEach(() => db.setClock(noon));

describe("idempotency keys", () => {
  interface Claim {
    idempotency_key_id: number;
    claimed: boolean;
    attempt: number;
    response_status: number | null;
    response_body: unknown;
  }
  const claim = (key: string, content: unknown = { package: "small" }, scope = "billing.top_up") =>
    db.service.call<Claim>("ops.claim_idempotency_key", { scope, key, content });
  const settle = ({ idempotency_key_id, attempt }: Claim, response_status: number, response_body?: unknown) =>
    db.service.call<boolean>("ops.settle_idempotency_key", {
      idempotency_key_id,
      attempt,
      response_status,
      response_body,
    });

  test("a repeated request gets the first answer, a year later too", async () => {
    const key = randomUUID();
    const first = await claim(key);
    expect(first).toMatchObject({ claimed: true, attempt: 1 });
    expect(await settle(first, 201, { url: "https://pay" })).toBe(true);
    await db.advanceClock("1 year");
    expect(await claim(key)).toMatchObject({
      claimed: false,
      response_status: 201,
      response_body: { url: "https://pay" },
    });
  });

  test("a key for other content is refused, the same key of another scope is not", async () => {
    const key = randomUUID();
    await claim(key);
    await expectError(claim(key, { package: "large" }), "key_reused", "PT409");
    expect(await claim(key, { package: "large" }, "billing.other")).toMatchObject({ claimed: true });
  });

  test("of 10 requests at once one is let through and the others are told to wait", async () => {
    const key = randomUUID();
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => claim(key)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const { facts } = await expectError(claim(key), "request_in_progress", "PT409");
    expect(facts.key).toBe(key);
  });

  test("a holder that crashed loses its key to the next and changes nothing afterwards", async () => {
    const key = randomUUID();
    const lost = await claim(key);
    await db.advanceClock("60 seconds");
    const second = await claim(key);
    expect(second).toMatchObject({ claimed: true, attempt: 2 });
    expect(await settle(lost, 200, { from: "lost" })).toBe(false);
    expect(await settle(second, 200, { from: "second" })).toBe(true);
    expect(await settle(second, 200, { from: "again" })).toBe(false);
    expect((await claim(key)).response_body).toEqual({ from: "second" });
  });

  test("a failure of ours is not kept as the answer", async () => {
    const key = randomUUID();
    expect(await settle(await claim(key), 500)).toBe(true);
    expect(await claim(key)).toMatchObject({ claimed: true, attempt: 2 });
  });

  test("workspaces use the same key without meeting each other", async () => {
    const key = randomUUID();
    const owners = [await db.createUser(), await db.createUser()];
    for (const { workspaceId } of owners) {
      const answer = await db.service.call<Claim>("ops.claim_idempotency_key", {
        scope: "billing.top_up",
        key,
        content: { owner: workspaceId },
        workspace_id: workspaceId,
      });
      expect(answer.claimed).toBe(true);
    }
  });
});

describe("circuit breakers", () => {
  const enter = (name: string) => db.service.call<boolean>("ops.enter_circuit", { name });
  const record = (name: string, succeeded: boolean) =>
    db.service.call<string>("ops.record_circuit_call", { name, succeeded, error: succeeded ? null : "503" });
  const rows = (name: string) => db.query("select * from ops.circuit_breakers where name = $1", [name]);

  async function opened(): Promise<string> {
    const name = randomUUID();
    for (let i = 0; i < 5; i++) await record(name, false);
    return name;
  }

  test("opens after failures in a row and not before", async () => {
    const name = randomUUID();
    for (let i = 0; i < 4; i++) expect(await record(name, false)).toBe("closed");
    expect(await enter(name)).toBe(true);
    expect(await record(name, true)).toBe("closed");
    for (let i = 0; i < 4; i++) expect(await record(name, false)).toBe("closed");
    expect(await record(name, false)).toBe("open");
    expect(await enter(name)).toBe(false);
  });

  test("success while all is well writes nothing", async () => {
    const name = randomUUID();
    expect(await enter(name)).toBe(true);
    expect(await record(name, true)).toBe("closed");
    expect(await rows(name)).toEqual([]);
  });

  test("after the cool-down one caller of many may try", async () => {
    const name = await opened();
    await db.advanceClock("30 seconds");
    const entered = await Promise.all(Array.from({ length: 10 }, () => enter(name)));
    expect(entered.filter(Boolean)).toHaveLength(1);
    expect(await record(name, true)).toBe("closed");
    expect(await enter(name)).toBe(true);
    expect(await rows(name)).toMatchObject([
      { state: "closed", failures: 0, opened_at: null, probe_at: null },
    ]);
  });

  test("a failed try opens it again from then on", async () => {
    const name = await opened();
    await db.advanceClock("30 seconds");
    expect(await enter(name)).toBe(true);
    await db.advanceClock("10 seconds");
    expect(await record(name, false)).toBe("open");
    await db.advanceClock("20 seconds");
    expect(await enter(name)).toBe(false);
    await db.advanceClock("10 seconds");
    expect(await enter(name)).toBe(true);
  });

  test("a try whose caller crashed does not keep it shut for ever", async () => {
    const name = await opened();
    await db.advanceClock("30 seconds");
    expect(await enter(name)).toBe(true);
    expect(await enter(name)).toBe(false);
    await db.advanceClock("30 seconds");
    expect(await enter(name)).toBe(true);
  });

  test("a late success of an earlier call does not close it", async () => {
    const name = await opened();
    expect(await record(name, true)).toBe("open");
    expect(await enter(name)).toBe(false);
  });

  test("10 failures at once are all counted", async () => {
    const name = randomUUID();
    await Promise.all(Array.from({ length: 10 }, () => record(name, false)));
    expect(await rows(name)).toMatchObject([{ state: "open", failures: 10, last_error: "503" }]);
  });
});
