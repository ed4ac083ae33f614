import type { ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import type { Database } from "../../functions/_shared/db.ts";
import {
  answerWith,
  call,
  db,
  deliveries,
  emit,
  endpoint,
  type Received,
  received,
  testDb,
  verify,
  work,
} from "./deliver-webhook-stage.ts";

describe("a delivery", () => {
  test("is signed so that the official library verifies it, and ends with a 2xx", async () => {
    const { secret } = await endpoint();
    const id = await emit({ user_id: "ü", amount_micro: 12 });
    await work();
    expect(received).toHaveLength(1);
    const [hit] = received as [Received];
    expect(verify(secret, hit)).toMatchObject({
      type: "member.joined",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      data: { user_id: "ü", amount_micro: 12 },
    });
    expect(hit.headers).toMatchObject({
      "webhook-id": id,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(hit.body)),
    });
    const other = `whsec_${btoa("x".repeat(32))}`;
    expect(() => verify(other, hit)).toThrow();
    expect(await deliveries()).toMatchObject([
      {
        state: "delivered",
        attempts: 1,
        response_status: 200,
        response_body: "ok",
        error: null,
        job_id: null,
      },
    ]);
  });

  test("is signed by old and new secret for 24 hours after a rotation, then by the new one alone", async () => {
    const { id, secret: old } = await endpoint();
    const { secret } = await call("rotate_webhook_secret", { id });
    await emit();
    await work();
    expect(received[0]!.headers["webhook-signature"]).toMatch(/^v1,\S+ v1,\S+$/);
    verify(old, received[0]!);
    verify(secret, received[0]!);
    await testDb.advanceClock("25 hours");
    await emit();
    await work();
    verify(secret, received[1]!);
    expect(() => verify(old, received[1]!)).toThrow();
  });

  test("whose end could not be noted is made again with the same id", async () => {
    await endpoint();
    const id = await emit();
    const cut: Database = {
      ...db,
      row: (statement, values) =>
        statement.name === "record_webhook_attempt"
          ? Promise.reject(new Error("The worker was gone by then."))
          : db.row(statement, values),
    };
    await work({ database: cut });
    expect(await deliveries()).toMatchObject([{ state: "pending", attempts: 0 }]);
    await testDb.advanceClock("5 minutes");
    await work();
    expect(received).toHaveLength(2);
    expect(await deliveries()).toMatchObject([{ state: "delivered", attempts: 1 }]);
    expect(new Set(received.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([id]));
  });
});

test("five events are on their way to one endpoint at the same time, and no more", async () => {
  await endpoint();
  let most = 0;
  const open = new Set<ServerResponse>();
  answerWith((response) => {
    open.add(response);
    most = Math.max(most, open.size);
    // However slow the machine is, nobody is answered before five are there, and then a sixth has time to come.
    if (open.size !== 5) return;
    setTimeout(() => {
      for (const waiting of open) waiting.end();
      open.clear();
    }, 60);
  });
  for (let n = 0; n < 20; n++) await emit({ n });
  await work({ timeout: 15_000 });
  expect((await deliveries()).map(({ state, attempts }) => ({ state, attempts }))).toEqual(
    Array(20).fill({ state: "delivered", attempts: 1 }),
  );
  expect(most).toBe(5);
});

test("an ordered endpoint gets its events one by one, and the one that fails holds back the others", async () => {
  await endpoint({ ordered: true });
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.push(await emit({ n }));
  answerWith((response, { headers }) =>
    response.writeHead(headers["webhook-id"] === ids[2] ? 503 : 200).end(),
  );
  await work();
  const heard = () => received.map(({ headers }) => headers["webhook-id"]);
  expect(heard()).toEqual(ids.slice(0, 3));
  answerWith((response) => response.end());
  await testDb.advanceClock("7 seconds");
  await work();
  expect(heard()).toEqual([...ids.slice(0, 3), ...ids.slice(2)]);
});
