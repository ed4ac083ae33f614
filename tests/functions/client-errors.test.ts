// types/errors.ts, as clients read what supabase-js gives them.

import { describe, expect, test } from "vitest";
import { BacklotError, readError } from "../../types/errors.ts";

describe("errors", () => {
  test("of tables and functions have one shape", async () => {
    const fromRest = await readError({
      code: "PT404",
      message: "unknown_job: None.",
      details: '{"id":1}',
      hint: "Look.",
    });
    expect(fromRest).toBeInstanceOf(BacklotError);
    expect(fromRest).toMatchObject({
      code: "unknown_job",
      status: 404,
      message: "None.",
      details: { id: 1 },
      hint: "Look.",
    });
    const answer = Response.json({ error: { code: "key_reused", message: "Taken." } }, { status: 409 });
    const fromFunction = await readError(Object.assign(new Error("non-2xx"), { context: answer }));
    expect(fromFunction).toMatchObject({ code: "key_reused", status: 409, message: "Taken." });
    const broken = Object.assign(new Error("non-2xx"), { context: new Response("oops", { status: 502 }) });
    expect(await readError(broken)).toMatchObject({ code: "unknown_error", status: 502 });
    expect(await readError(new Error("fetch failed"))).toMatchObject({
      code: "unknown_error",
      message: "fetch failed",
    });
    const aborted = new DOMException("The operation was aborted.", "AbortError");
    expect(await readError(aborted)).toMatchObject({ code: "unknown_error", cause: aborted });
  });

  test.each([
    ["a table", { code: "23505", message: "duplicate key value" }, { code: "23505", status: undefined }],
    ["a table's words with a colon", { code: "22000", message: "a: b" }, { code: "22000", message: "a: b" }],
    [
      "Auth",
      { code: "invalid_credentials", status: 400, message: "No." },
      { code: "invalid_credentials", status: 400 },
    ],
    [
      "Storage",
      { code: "KeyAlreadyExists", status: 400, statusCode: "409", message: "There." },
      { code: "KeyAlreadyExists", status: 409 },
    ],
  ])("keep the platform's own code where they have no name: of %s", async (_, error, seen) => {
    expect(await readError(error)).toMatchObject(seen);
  });

  test("of functions keep the gateway's code, and the id of the request", async () => {
    const headers = { "x-request-id": "r-1" };
    const refused = Response.json({ code: "NOT_FOUND", message: "None." }, { status: 404, headers });
    const error = Object.assign(new Error("non-2xx"), { context: refused });
    expect(await readError(error)).toMatchObject({
      code: "NOT_FOUND",
      message: "None.",
      status: 404,
      requestId: "r-1",
      cause: error,
    });
  });
});
