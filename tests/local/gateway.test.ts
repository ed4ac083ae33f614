// The gateway on a stack of its own: keys, tokens, REST, auth, functions, clockwork, crashes.

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { SignJWT } from "jose";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Stack, startStack } from "../../supabase/local/stack.ts";

let stack: Stack;
let db: pg.Client;
let service: SupabaseClient;
let nobody: SupabaseClient;
let log: string[];

const options = { auth: { persistSession: false, autoRefreshToken: false } };
const password = "a long password";

beforeAll(async () => {
  log = [];
  stack = await startStack({
    ephemeral: true,
    migrate: false,
    standIns: false,
    functions: {
      open: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/echo.js" },
      closed: { enabled: true, verify_jwt: true, entrypoint: "../tests/local/functions/echo.js" },
      worker: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/counter.js" },
      absent: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/absent.js" },
    },
    env: { EXTRA: "1" },
    log: (line) => log.push(line),
  });
  db = new pg.Client({ connectionString: stack.dbUrl });
  await db.connect();
  await db.query(`
    create schema ops;
    create table ops.ticks (at timestamptz not null default clock_timestamp());
    create function ops.tick() returns void language sql as 'insert into ops.ticks default values';
    create table public.notes (
      id bigint generated always as identity primary key,
      owner uuid not null default auth.uid() references auth.users (id) on delete cascade,
      body jsonb not null
    );
    alter table public.notes enable row level security;
    create policy "Own notes" on public.notes to authenticated
      using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
    grant select, insert on public.notes to authenticated;
    grant all on public.notes to service_role;
    create function public.who(detail jsonb default '{}') returns jsonb language sql stable as $$
      select jsonb_build_object('id', auth.uid(), 'role', auth.role(), 'email', auth.email(),
        'current', current_user, 'session', session_user, 'kind', jsonb_typeof(detail), 'a', detail ->> 'a')
    $$;
    create function public.claims() returns jsonb language sql stable as 'select auth.jwt()';
    create function public.fail() returns void language plpgsql as $$
    begin
      raise exception using errcode = 'PT402', message = 'no_credit: Not enough credit.',
        detail = '{"missing":5}', hint = 'Top up.';
    end $$;
    grant execute on all functions in schema public to anon, authenticated, service_role;
  `);
  service = createClient(stack.apiUrl, stack.secretKey, options);
  nobody = createClient(stack.apiUrl, stack.publishableKey, options);
  // The catalog is read anew after a change of the schema.
  await vi.waitFor(async () => expect((await nobody.rpc("fail")).error?.code).toBe("PT402"), 5000);
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

async function signUp(email: string) {
  const client = createClient(stack.apiUrl, stack.publishableKey, options);
  const { data, error } = await client.auth.signUp({
    email,
    password,
    options: { data: { full_name: "A B" } },
  });
  if (error || !data.session) throw error ?? new Error("no session");
  return { client, id: data.session.user.id, token: data.session.access_token };
}

const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(`${stack.apiUrl}${path}`, { headers });

describe("keys and tokens", () => {
  test("without a key, with an unknown one and with a broken token the answer is 401", async () => {
    const apikey = stack.publishableKey;
    const cases: [Record<string, string>, string][] = [
      [{}, "No API key found in request"],
      [{ apikey: "sb_publishable_unknown" }, "Invalid API key"],
      [{ apikey: "not.a.key" }, "Invalid API key"],
      [{ apikey, authorization: "Bearer nonsense" }, "Invalid JWT"],
      [{ apikey, authorization: "Bearer a.b.c" }, "Invalid JWT"],
    ];
    for (const [headers, message] of cases) {
      const response = await get("/rest/v1/notes", headers);
      expect(response.status).toBe(401);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      expect(await response.json()).toMatchObject({ message });
    }
  });

  test("a token somebody else signed, whatever role it names, is refused", async () => {
    const key = new TextEncoder().encode("another secret, long enough to sign with");
    for (const role of ["authenticated", "service_role", "postgres"]) {
      const forged = await new SignJWT({ role, sub: crypto.randomUUID() })
        .setProtectedHeader({ alg: "HS256" })
        .setExpirationTime("1h")
        .sign(key);
      const bearer = { apikey: stack.publishableKey, authorization: `Bearer ${forged}` };
      expect((await get("/rest/v1/notes", bearer)).status).toBe(401);
      expect((await get("/rest/v1/notes", { apikey: forged })).status).toBe(401);
      expect((await get("/auth/v1/admin/users", bearer)).status).toBe(401);
    }
  });

  test("browsers are told what they may send", async () => {
    const response = await fetch(`${stack.apiUrl}/rest/v1/notes`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "apikey,authorization,x-client-info",
      },
    });
    expect(response.status).toBe(204);
    expect(response.headers.get("access-control-allow-headers")).toContain("apikey");
  });

  test("an unknown address is 404", async () => {
    expect((await get("/nowhere")).status).toBe(404);
    expect(await (await get("/health")).json()).toEqual({ status: "ok" });
  });
});

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

  test("sees a function made a moment ago", async () => {
    await db.query("create function public.later() returns integer language sql as 'select 7'");
    await vi.waitFor(async () => expect((await service.rpc("later")).data).toBe(7), 5000);
  });
});

describe("auth", () => {
  test("signs up confirmed, signs in, refreshes, signs out", async () => {
    const { client, id } = await signUp("person@example.com");
    const row = await db.query(
      "select raw_user_meta_data ->> 'full_name' as name, email_confirmed_at from auth.users where id = $1",
      [id],
    );
    expect(row.rows[0]).toEqual({ name: "A B", email_confirmed_at: expect.any(Date) });
    expect((await client.auth.refreshSession()).error).toBeNull();
    expect((await client.auth.signOut()).error).toBeNull();
    expect(
      (await client.auth.signInWithPassword({ email: "person@example.com", password })).error,
    ).toBeNull();
    const wrong = await client.auth.signInWithPassword({ email: "person@example.com", password: "guess" });
    expect(wrong.error?.code).toBe("invalid_credentials");
    expect((await nobody.auth.signUp({ email: "person@example.com", password })).error?.code).toBe(
      "user_already_exists",
    );
    expect((await nobody.auth.signUp({ email: "weak@example.com", password: "short" })).error?.code).toBe(
      "weak_password",
    );
  });

  test("lets the service make, read, change, list and delete users", async () => {
    const { admin } = service.auth;
    const made = await admin.createUser({
      email: "Made@example.com",
      password,
      email_confirm: true,
      user_metadata: { colour: "blue", size: 1 },
      app_metadata: { staff: true },
    });
    expect(made.error).toBeNull();
    const user = made.data.user;
    expect(user).toMatchObject({
      email: "made@example.com",
      app_metadata: { provider: "email", staff: true },
    });
    const id = user?.id ?? "";
    expect((await admin.createUser({ email: "made@example.com" })).error?.code).toBe("email_exists");
    expect((await nobody.auth.signInWithPassword({ email: "made@example.com", password })).error).toBeNull();
    const changed = await admin.updateUserById(id, {
      password: "another long one",
      user_metadata: { size: null },
    });
    expect(changed.data.user?.user_metadata).toEqual({ colour: "blue", email_verified: true });
    const again = { email: "made@example.com", password: "another long one" };
    expect((await nobody.auth.signInWithPassword(again)).error).toBeNull();
    const listed = await admin.listUsers({ page: 1, perPage: 2 });
    expect(listed.data.users).toHaveLength(2);
    expect(listed.data).toMatchObject({ nextPage: 2, total: expect.any(Number) });
    expect((await admin.getUserById(id)).data.user?.identities?.[0]?.provider).toBe("email");
    expect((await admin.deleteUser(id)).error).toBeNull();
    expect((await admin.getUserById(id)).error?.code).toBe("user_not_found");
    expect((await admin.createUser({ email: "no address" })).error?.code).toBe("validation_failed");
  });

  test("gives tokens that say what the service and the person have said, anew with each refresh", async () => {
    const { client, id } = await signUp("claims@example.com");
    const claims = async () => (await client.rpc("claims")).data;
    expect(await claims()).toMatchObject({
      sub: id,
      role: "authenticated",
      app_metadata: { provider: "email", providers: ["email"] },
      user_metadata: { full_name: "A B" },
      is_anonymous: false,
      aal: "aal1",
    });
    // What people say of themselves is not what the service says of them.
    await client.auth.updateUser({ data: { staff: true } });
    await client.auth.refreshSession();
    expect(await claims()).toMatchObject({ user_metadata: { staff: true } });
    expect((await claims()).app_metadata).not.toHaveProperty("staff");
    await service.auth.admin.updateUserById(id, { app_metadata: { staff: true } });
    expect((await claims()).app_metadata).not.toHaveProperty("staff");
    const { data } = await client.auth.refreshSession();
    expect(data.user?.id).toBe(id);
    expect((await claims()).app_metadata).toMatchObject({ staff: true });
    expect((await client.auth.getUser()).data.user?.app_metadata).toMatchObject({ staff: true });
    const again = createClient(stack.apiUrl, stack.publishableKey, options);
    expect((await again.auth.signInWithPassword({ email: "claims@example.com", password })).error).toBeNull();
    expect((await again.rpc("claims")).data.app_metadata).toMatchObject({ staff: true });
  });

  test("lets nobody else", async () => {
    const { client } = await signUp("curious@example.com");
    for (const who of [nobody, client]) {
      expect((await who.auth.admin.listUsers()).error?.code).toBe("not_admin");
      expect((await who.auth.admin.createUser({ email: "x@example.com" })).error?.code).toBe("not_admin");
    }
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
    db = new pg.Client({ connectionString: stack.dbUrl });
    await db.connect();
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
