// Receivers that fail, ask to wait, mislead or are gone.

import type { ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import { createSafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { secondsToWait } from "../../functions/worker/handlers/deliver-webhook.ts";
import {
  answerWith,
  base,
  deliveries,
  emit,
  endpoint,
  type Received,
  received,
  testDb,
  verify,
  work,
} from "./deliver-webhook-stage.ts";

/** Answers byte by byte, past what a server of HTTP would let one say. */
const says = (status: string, headers: string) => (response: ServerResponse) => {
  response.socket!.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n`);
};

describe("a delivery", () => {
  test("that fails is sent again by the schedule: same id, new timestamp and signature", async () => {
    const { secret } = await endpoint();
    answerWith((response) => response.writeHead(500).end("o\0ops"));
    await emit();
    await work();
    expect(await deliveries()).toMatchObject([
      {
        state: "pending",
        attempts: 1,
        response_status: 500,
        response_body: "o\uFFFDops",
        error: "status: Answered 500.",
      },
    ]);
    expect(await work()).toMatchObject({ claimed: 0 });
    await testDb.advanceClock("7 seconds");
    await new Promise((resolve) => setTimeout(resolve, 1_001 - (Date.now() % 1_000)));
    answerWith((response) => response.writeHead(204).end());
    await work();
    const [first, second] = received as [Received, Received];
    verify(secret, second);
    expect(second.headers["webhook-id"]).toBe(first.headers["webhook-id"]);
    expect(second.headers["webhook-timestamp"]).not.toBe(first.headers["webhook-timestamp"]);
    expect(second.headers["webhook-signature"]).not.toBe(first.headers["webhook-signature"]);
    expect(second.body).toBe(first.body);
    expect(await deliveries()).toMatchObject([{ state: "delivered", attempts: 2, error: null }]);
  });

  test("waits as long as Retry-After asks, when that is longer", async () => {
    await endpoint();
    answerWith((response) => response.writeHead(429, { "retry-after": "600" }).end());
    await emit();
    await work();
    await testDb.advanceClock("9 minutes");
    expect(await work()).toMatchObject({ claimed: 0 });
    await testDb.advanceClock("2 minutes");
    expect(await work()).toMatchObject({ claimed: 1 });
  });

  test.each([
    [
      "redirects",
      (r: ServerResponse) => r.writeHead(302, { location: `${base}/secret` }).end(),
      "redirected",
    ],
    ["does not answer in time", () => {}, "timed_out"],
    ["hangs up", (r: ServerResponse) => r.destroy(), "unreachable"],
    ["asks for another protocol", says("101 Switching", "connection: upgrade\r\nupgrade: x"), "unreachable"],
    ["says a status that there is not", says("000 Nothing", "content-length: 0"), "unreachable"],
    ["says that an answer will come", says("103 Early", "link: x"), "unreachable"],
  ])("to a receiver that %s is a failure", async (_, answering, code) => {
    await endpoint();
    answerWith(answering);
    await emit();
    await work({ timeout: 150 });
    expect(received.map(({ path }) => path)).toEqual(["/hook"]);
    const [delivery] = await deliveries();
    expect(delivery).toMatchObject({ state: "pending", attempts: 1 });
    expect(delivery!.error).toMatch(new RegExp(`^${code}: `));
  });

  test("keeps the beginning of an endless answer only", async () => {
    await endpoint();
    answerWith((response) => {
      const more = () => {
        while (!response.destroyed && response.write("x".repeat(65_536)));
      };
      response.on("drain", more);
      more();
    });
    await emit();
    await work();
    expect(await deliveries()).toMatchObject([{ state: "delivered", response_body: "x".repeat(1024) }]);
  });

  test("to an address inside is refused, and the receiver never called", async () => {
    await endpoint();
    await emit();
    await work({ send: createSafeFetch() });
    expect(received).toEqual([]);
    expect((await deliveries())[0]!.error).toMatch(/^address_refused: /);
  });

  test("is sent to nobody any more after a 410", async () => {
    const { id } = await endpoint();
    answerWith((response) => response.writeHead(410).end());
    await emit();
    await emit();
    await work();
    await testDb.advanceClock("1 day");
    await work();
    const [state] = await testDb.query(
      "select status, disabled_reason from integrations.webhook_endpoints where id = $1",
      [id],
    );
    expect(state).toEqual({ status: "disabled", disabled_reason: "gone" });
    expect((await deliveries()).map((delivery) => delivery.state)).toEqual(["cancelled", "cancelled"]);
    expect(received.length).toBeLessThanOrEqual(2);
  });
});

test.each([
  ["seconds", "120", 120],
  ["a date", "Sat, 21 Nov 2026 12:01:00 GMT", 60],
  ["a date that is over", "Sat, 21 Nov 2026 11:00:00 GMT", null],
  ["nothing", undefined, null],
  ["nonsense", "soon", null],
  ["zero", "0", null],
  ["less than nothing", "-5", null],
])("Retry-After in %s", (_, header, seconds) => {
  expect(secondsToWait(header, Date.parse("2026-11-21T12:00:00Z"))).toBe(seconds);
});
