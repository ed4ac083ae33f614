import { beforeEach, describe, expect, test } from "vitest";
import { addressBase, isBelow } from "../../functions/_shared/addresses.ts";
import { readEnv } from "../../functions/_shared/env.ts";
import { falWebhooks } from "../../functions/webhooks/providers/fal.ts";
import { createKeySet } from "../../functions/webhooks/providers/jwks.ts";
import { downloadPicture } from "../../functions/worker/download.ts";
import { topUpRequest } from "../../types/contracts.ts";
import { fakeFetch, falSigner, functionsDatabase } from "../functions/harness.ts";
import { createStudio, png } from "../functions/studio.ts";
import { createTestDatabase } from "../helpers/database.ts";

// Where answers and webhooks of others could lead us, and where we lead people.

const bases = readEnv(["FAL_FILES_URLS"], {}).FAL_FILES_URLS;
const signal = new AbortController().signal;

describe("the addresses that results are fetched from", () => {
  test.each([
    "https://fal.media/files/a.png",
    "https://v3.fal.media/files/rabbit/a.png",
    "https://v3b.fal.media/files/b/a.png",
    "https://storage.googleapis.com/falserverless/model/a.png",
  ])("are fal's: %s", (url) => {
    expect(isBelow(new URL(url), bases)).toBe(true);
  });

  test.each([
    "http://v3.fal.media/files/a.png",
    "https://v3.fal.media:8443/a.png",
    "https://evilfal.media/a.png",
    "https://fal.media.evil.example/a.png",
    "https://fal.media@evil.example/a.png",
    "https://user@fal.media/a.png",
    "https://v3.fal.media.:443/a.png",
    "https://storage.googleapis.com/somebody-else/a.png",
    "https://storage.googleapis.com/falserverless-evil/a.png",
    "https://storage.googleapis.com/falserverless/../somebody-else/a.png",
    "https://storage.googleapis.com/falserverless/%2e%2e/somebody-else/a.png",
    "http://127.0.0.1:54321/rest/v1/",
    "http://localhost/a.png",
    "http://[::1]/a.png",
    "http://0x7f000001/a.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/a.png",
    "https://metadata.google.internal/a.png",
    "file:///etc/passwd",
    "data:image/png;base64,aaaa",
    "blob:https://fal.media/a",
  ])("are no others: %s", async (url) => {
    expect(isBelow(new URL(url), bases)).toBe(false);
    const { fetch, calls } = fakeFetch({});
    const picture = downloadPicture(fetch, url, bases, signal);
    await expect(picture).rejects.toMatchObject({ code: "provider_rejected", retry: false });
    expect(calls).toEqual([]);
  });

  test.each(["not an address", "ftp://fal.media", "https://user@fal.media", "https://fal.media/?a=b", ""])(
    "are not configured as %j",
    (text) => {
      expect(addressBase(text)).toBeNull();
      if (text)
        expect(() => readEnv(["FAL_FILES_URLS"], { FAL_FILES_URLS: text })).toThrow("FAL_FILES_URLS is not");
    },
  );

  const redirect = (location: string) => () => new Response(null, { status: 302, headers: { location } });
  const picture = () => new Response(png, { headers: { "content-type": "image/png" } });

  test("may redirect among themselves, and to no other", async () => {
    const { fetch, calls } = fakeFetch({
      "GET /old.png": redirect("/new.png"),
      "GET /new.png": redirect("https://v3.fal.media/files/a.png"),
      "GET /files/a.png": picture,
      "GET /out.png": redirect("http://169.254.169.254/latest"),
      "GET /round.png": redirect("/round.png"),
    });
    const get = (url: string) => downloadPicture(fetch, url, bases, signal);
    expect((await get("https://fal.media/old.png")).bytes).toEqual(png);
    calls.length = 0;
    await expect(get("https://fal.media/out.png")).rejects.toMatchObject({ code: "provider_rejected" });
    expect(calls).toEqual(["GET /out.png"]);
    await expect(get("https://fal.media/round.png")).rejects.toMatchObject({ code: "provider_unavailable" });
    expect(calls).toHaveLength(5);
  });
});

describe("a callback for our request that somebody else wrote", () => {
  test("fetches nothing from where it points to, stores nothing and charges nothing", async () => {
    const testDb = await createTestDatabase();
    const studio = await createStudio(testDb, functionsDatabase(testDb));
    const id = await studio.request();
    await studio.work();
    await studio.callback("OK", { images: [{ url: "http://169.254.169.254/out/1.png" }] });
    await studio.work();
    expect(await studio.creation(id)).toMatchObject({
      status: "failed",
      error_code: "provider_rejected",
      error_message: expect.not.stringContaining("169.254"),
    });
    expect(studio.calls.filter((call) => call.includes("/out/"))).toEqual([]);
    expect(studio.stored.size).toBe(0);
    expect(await studio.held()).toBe(0);
    // The operator sees where it pointed to.
    expect(JSON.stringify(studio.lines)).toContain("http://169.254.169.254");
  });

  const now = Date.UTC(2030, 0, 1);
  const signer = falSigner();
  const body = JSON.stringify({ request_id: "r1", status: "OK", payload: {} });
  const { fetch } = fakeFetch({ "GET /jwks": () => Response.json(signer.jwks) });
  const judge = (userIds?: string[]) =>
    falWebhooks(createKeySet({ url: "https://keys.test/jwks", fetch, now: () => now }), userIds).verify(
      new Headers(signer.headers(body, { at: now })),
      new TextEncoder().encode(body),
      now,
    );

  test("is refused although fal has signed it, when it belongs to another customer of fal", async () => {
    await expect(judge(["ours", "ours-too"])).rejects.toMatchObject({ status: 401, code: "unknown_sender" });
    expect((await judge(["ours", "user-1"])).events).toMatchObject([{ eventId: "r1" }]);
    expect((await judge()).events).toHaveLength(1);
  });
});

describe("where a checkout returns to", () => {
  const request = {
    workspace_id: crypto.randomUUID(),
    package: "starter",
    success_url: "https://app.test/ok?session={CHECKOUT_SESSION_ID}",
    cancel_url: "http://localhost:3000/no",
  };
  let parse: (url: string) => boolean;
  beforeEach(() => {
    parse = (url) => topUpRequest.safeParse({ ...request, success_url: url }).success;
  });

  test.each([request.success_url, request.cancel_url, "http://127.0.0.1:5173/", "https://app.test"])(
    "is a page: %s",
    (url) => {
      expect(parse(url)).toBe(true);
    },
  );

  test.each([
    "http://app.test/ok",
    "http://127.0.0.1.evil.example/",
    "https://app.test@evil.example/",
    "https://user:password@app.test/",
    "https://app.test/\r\nSet-Cookie: a=b",
    "https://app.test/\u0000",
    "https://app.test\\@evil.example",
    "//app.test/",
    "javascript:alert(1)",
    "data:text/html,a",
  ])("is not %j", (url) => {
    expect(parse(url)).toBe(false);
  });

  test("is one of our apps, where these are configured", async () => {
    const { APP_ORIGINS } = readEnv(["APP_ORIGINS"], {
      APP_ORIGINS: "https://app.test/, http://localhost:3000",
    });
    expect(APP_ORIGINS).toEqual(["https://app.test", "http://localhost:3000"]);
    expect(() => readEnv(["APP_ORIGINS"], { APP_ORIGINS: "app.test" })).toThrow("APP_ORIGINS is not valid");
    const { createApp } = await import("../../functions/billing/app.ts");
    const never = () => Promise.reject(new Error("asked although refused"));
    const app = createApp({
      backend: { packages: never, startTopUp: never, rpc: never },
      db: {} as never,
      stripe: {} as never,
      log: { info() {}, warn() {}, error() {}, with: () => ({}) as never },
      appOrigins: APP_ORIGINS,
    });
    for (const [argument, url] of [
      ["success_url", "https://evil.example/"],
      ["cancel_url", "https://app.test.evil.example/"],
    ] as const) {
      const response = await app.request("/billing/top-up", {
        method: "POST",
        headers: { authorization: "Bearer t" },
        body: JSON.stringify({ ...request, [argument]: url }),
      });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({
        error: { code: "invalid_argument", details: { issues: [{ argument }] } },
      });
    }
  });
});
