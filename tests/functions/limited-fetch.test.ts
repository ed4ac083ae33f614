import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { withTimeLimit } from "../../functions/_shared/limited-fetch.ts";

let server: Server;
let url: string;

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === "/whole") response.end("all of it");
    // The beginning of an answer, and nothing more.
    else if (request.url === "/half") response.write("a part");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const limited = withTimeLimit(fetch, 200);

test("an answer in time is passed on", async () => {
  expect(await (await limited(`${url}/whole`)).text()).toBe("all of it");
});

test("an answer that does not come is an error", async () => {
  await expect(limited(`${url}/never`)).rejects.toThrow(/timeout/);
});

test("one that stops half-way is an error", async () => {
  const answer = await limited(`${url}/half`);
  await expect(answer.text()).rejects.toThrow(/timeout/);
});

test("whoever gives a signal is heard before that", async () => {
  const given = AbortSignal.abort(new Error("cancelled"));
  await expect(limited(`${url}/never`, { signal: given })).rejects.toThrow("cancelled");
});
