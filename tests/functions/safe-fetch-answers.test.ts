import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSafeFetch } from "../../functions/_shared/safe-fetch.ts";

// Answers that no server of HTTP gives by mistake. Each is an answer or an error, and none keeps its request for ever.

let server: Server;
let said = "";
beforeAll(async () => {
  server = createServer((socket) => {
    socket.on("error", () => {}).once("data", () => socket.end(said));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => {
  server.close();
});

function send(answer: string) {
  said = answer;
  return createSafeFetch({ allowLocal: true })(
    `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    {
      method: "POST",
      headers: {},
      body: "{}",
      signal: AbortSignal.timeout(10_000),
      mostBytes: 100,
    },
  );
}

test.each([
  ["another protocol", "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "BROKEN_ANSWER"],
  ["a status of 0", "HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n", "BROKEN_ANSWER"],
  ["a status below 100", "HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n", "BROKEN_ANSWER"],
  ["only that an answer will come", "HTTP/1.1 103 X\r\nlink: x\r\n\r\n", "ECONNRESET"],
  ["nothing", "", "ECONNRESET"],
  ["no HTTP", "SSH-2.0-x\r\n\r\n", "HPE_INVALID_CONSTANT"],
  ["two lengths", "HTTP/1.1 200 X\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", /^HPE_/],
])("%s is an error", async (_, answer, code) => {
  await expect(send(answer)).rejects.toMatchObject({
    code: typeof code === "string" ? code : expect.stringMatching(code),
  });
});

test.each([
  ["that goes on first", "HTTP/1.1 100 X\r\n\r\nHTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nok", 200, "ok"],
  ["with a status of its own", "HTTP/1.1 999 X\r\ncontent-length: 2\r\n\r\nok", 999, "ok"],
  ["of the old kind", "HTTP/1.0 200\r\n\r\nok", 200, "ok"],
  ["that breaks off", "HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nok", 200, "ok"],
])("an answer %s is one", async (_, answer, status, body) => {
  expect(await send(answer)).toMatchObject({ status, body });
});
