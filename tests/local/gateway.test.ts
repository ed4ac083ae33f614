// The gateway on a stack of its own: REST, functions, clockwork, crashes.

import { randomBytes } from "node:crypto";
import type { SupabaseClient } from "@supabase/supabase-js";
import { describe, expect, test, vi } from "vitest";
import { db, get, log, nobody, reconnect, service, signUp, stack } from "./gateway-stack.ts";

describe("REST", () => {
  test("runs under the role of the key or the token, never as a superuser", async () => {
    const { client, id } = await signUp("roles@example.com");
    const ask = async (who: SupabaseClient) => (await who.rpc("who", { detail: { a: 1 } })).data;
    expect(await ask(nobody)).toMatchObject({
      id: null,
      role: "anon",
      current: "anon",
      session: "authenticator",
    });
    expect(await ask(service)).toMatchObject({ id: null, role: "service_role", current: "service_role" });
    expect(await ask(client)).toEqual({
      id,
      role: "authenticated",
      email: "roles@example.com",
      current: "authenticated",
      session: "authenticator",
      kind: "object",
      a: "1",
    });
  });

  test("obeys grants and row security, and hands out no grants of its own", async () => {
    const [anna, bert] = [await signUp("anna@example.com"), await signUp("bert@example.com")];
    const { data } = await anna.client
      .from("notes")
      .insert({ body: { list: [1, { two: 2 }], text: "[no json" } })
      .select();
    expect(data?.[0]).toMatchObject({ owner: anna.id, body: { list: [1, { two: 2 }], text: "[no json" } });
    expect((await bert.client.from("notes").select()).data).toEqual([]);
    expect((await service.from("notes").select("id")).data).toHaveLength(1);
    expect((await nobody.from("notes").select()).error?.code).toBe("42501");
    expect((await anna.client.from("notes").delete().gt("id", 0)).error?.code).toBe("42501");
    const planted = await bert.client.from("notes").insert({ owner: anna.id, body: {} });
    expect(planted.error?.code).toBe("42501");
    const grants = await db.query("select relacl::text from pg_class where oid = 'public.notes'::regclass");
    expect(grants.rows[0].relacl).not.toContain("anon=");
  });

  test("passes named errors on with their status, details and hint", async () => {
    const answer = await nobody.rpc("fail");
    expect(answer.status).toBe(402);
    expect(answer.error).toMatchObject({
      code: "PT402",
      message: "no_credit: Not enough credit.",
      details: '{"missing":5}',
      hint: "Top up.",
    });
  });

  test("says which check a row fails, as PostgREST does", async () => {
    const { client } = await signUp("checked@example.com");
    const answer = await client.from("notes").insert({ body: randomBytes(20_000).toString("hex") });
    expect(answer.status).toBe(400);
    expect(answer.error).toMatchObject({
      code: "23514",
      message: 'new row for relation "notes" violates check constraint "notes_body_small"',
    });
  });

  test("sees a function made a moment ago", async () => {
    await db.query("create function public.later() returns integer language sql as 'select 7'");
    await vi.waitFor(async () => expect((await service.rpc("later")).data).toBe(7), 5000);
  });
});

describe("functions", () => {
  const call = async (path: string, headers: Record<string, string> = {}) => {
    const response = await get(`/functions/v1${path}`, headers);
    return { status: response.status, body: await response.json() };
  };

  test("see their own name in the path, the raw body, and only their own variables", async () => {
    const response = await fetch(`${stack.functionsUrl}/open/stripe?x=1`, {
      method: "POST",
      headers: { "stripe-signature": "t=1,v1=abc", "content-type": "application/json" },
      body: '{ "spaced":  1 }',
    });
    const seen = await response.json();
    expect(seen).toMatchObject({
      method: "POST",
      path: "/open/stripe?x=1",
      body: '{ "spaced":  1 }',
      canRead: false,
    });
    expect(seen.headers["stripe-signature"]).toBe("t=1,v1=abc");
    expect(seen.env).toEqual(
      expect.arrayContaining(["SUPABASE_URL", "SUPABASE_SECRET_KEY", "ENCRYPTION_KEYS", "EXTRA"]),
    );
    expect(seen.env).not.toContain("npm_package_name");
  });

  test("with verify_jwt want a user's token or the secret key", async () => {
    const { token } = await signUp("caller@example.com");
    const { publishableKey: apikey, secretKey } = stack;
    expect((await call("/closed")).status).toBe(401);
    expect((await call("/closed", { apikey, authorization: `Bearer ${apikey}` })).status).toBe(401);
    expect((await call("/closed", { apikey, authorization: "Bearer a.b.c" })).status).toBe(401);
    expect((await call("/closed", { apikey, authorization: `Bearer ${token}` })).status).toBe(200);
    expect((await call("/closed", { apikey: secretKey })).status).toBe(200);
    expect((await call("/closed", { authorization: `Bearer ${secretKey}` })).status).toBe(200);
    expect((await call("/open")).status).toBe(200);
    const preflight = await fetch(`${stack.functionsUrl}/closed`, { method: "OPTIONS" });
    expect(preflight.status).toBe(200);
    expect((await service.functions.invoke("closed", { body: { a: 1 } })).data.body).toBe('{"a":1}');
  });

  test("that do not exist are 404, and one without a file does not keep the others down", async () => {
    expect((await call("/unknown")).status).toBe(404);
    expect((await call("/absent")).status).toBe(404);
    expect(log.join("\n")).toContain("Function absent is left out");
  });

  test("come back after they end, and do not take each other along", async () => {
    const before = { open: stack.functions.pid("open"), closed: stack.functions.pid("closed") };
    expect((await call("/open/end")).status).toBe(502);
    const answers = () => vi.waitFor(async () => expect((await call("/open")).status).toBe(200), 5000);
    await answers();
    expect((await call("/open")).body.pid).toBe(stack.functions.pid("open"));
    expect(stack.functions.pid("open")).not.toBe(before.open);
    await stack.functions.kill("open");
    await answers();
    expect(stack.functions.pid("closed")).toBe(before.closed);
  });
});

describe("clockwork", () => {
  const starts = async (): Promise<{ started: number; key: string }> =>
    (await get("/functions/v1/worker")).json();

  test("the timer calls ops.tick()", async () => {
    await vi.waitFor(async () => {
      const ticks = await db.query("select count(*)::int as n from ops.ticks");
      expect(ticks.rows[0].n).toBeGreaterThan(1);
    }, 5000);
  });

  test("a notification starts the worker at once, many at once start it a few times", async () => {
    const before = (await starts()).started;
    await db.query("notify backlot_worker");
    await vi.waitFor(async () => expect((await starts()).started).toBe(before + 1), {
      timeout: 2000,
      interval: 20,
    });
    for (let n = 0; n < 50; n++) await db.query("select pg_notify('backlot_worker', $1)", [String(n)]);
    await vi.waitFor(async () => expect((await starts()).started).toBeGreaterThan(before + 1), 2000);
    expect((await starts()).started).toBeLessThan(before + 20);
  });
});

describe("a crash of PostgreSQL", () => {
  test("is over when it is back: rows kept, services and listener working again", async () => {
    const { client } = await signUp("survivor@example.com");
    await client.from("notes").insert({ body: { kept: true } });
    await db.end();
    const before = stack.postgresPid();
    await stack.restartPostgres(true);
    expect(stack.postgresPid()).not.toBe(before);
    await reconnect();
    await vi.waitFor(async () => {
      expect((await client.from("notes").select("body")).data).toEqual([{ body: { kept: true } }]);
    }, 5000);
    expect((await client.auth.getUser()).error).toBeNull();
    expect((await service.storage.listBuckets()).error).toBeNull();
    const started = async () => (await (await get("/functions/v1/worker")).json()).started as number;
    const count = await started();
    await vi.waitFor(async () => {
      await db.query("notify backlot_worker");
      expect(await started()).toBeGreaterThan(count);
    }, 5000);
  });
});
