import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { parseInput } from "../../functions/_shared/app.ts";
import { createDatabase } from "../../functions/_shared/db.ts";
import { readEnv } from "../../functions/_shared/env.ts";
import { type ApiError, envelope, namedError, publicError } from "../../functions/_shared/errors.ts";
import { createLog } from "../../functions/_shared/log.ts";
import { isOneOf } from "../../functions/_shared/secret.ts";
import { orderRequest } from "../../types/contracts-payments.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb, 2);

describe("the environment", () => {
  const keys = [
    "SUPABASE_URL",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SECRET_KEYS",
    "FUNCTIONS_URL",
    "SUPABASE_PUBLISHABLE_KEY",
  ] as const;

  test("names everything that is missing or wrong at once, and no value", () => {
    const source = { SUPABASE_URL: "not an address", STRIPE_WEBHOOK_SECRETS: " , ", FAL_KEY: " " };
    expect(() =>
      readEnv(["SUPABASE_URL", "SUPABASE_DB_URL", "STRIPE_WEBHOOK_SECRETS", "FAL_KEY"], source),
    ).toThrow(
      "The environment is incomplete: SUPABASE_URL is not valid, SUPABASE_DB_URL is missing, " +
        "STRIPE_WEBHOOK_SECRETS is not valid, FAL_KEY is missing.",
    );
  });

  test("takes the platform's older names and its JSON lists", () => {
    const old = {
      SUPABASE_URL: "https://x.supabase.co/",
      SUPABASE_SERVICE_ROLE_KEY: "jwt-s",
      SUPABASE_ANON_KEY: "jwt-a",
    };
    expect(readEnv(keys, old)).toEqual({
      SUPABASE_URL: "https://x.supabase.co",
      SUPABASE_SECRET_KEY: "jwt-s",
      SUPABASE_SECRET_KEYS: ["jwt-s"],
      SUPABASE_PUBLISHABLE_KEY: "jwt-a",
      FUNCTIONS_URL: "https://x.supabase.co/functions/v1",
    });
    const lists = {
      SUPABASE_SECRET_KEYS: '{"next":"s2","default":"s1"}',
      SUPABASE_PUBLISHABLE_KEYS: '{"default":"p1"}',
    };
    expect(readEnv(keys, { ...old, ...lists })).toMatchObject({
      SUPABASE_SECRET_KEY: "s1",
      SUPABASE_SECRET_KEYS: ["s1", "s2", "jwt-s"],
      SUPABASE_PUBLISHABLE_KEY: "p1",
    });
  });

  test("has defaults for addresses and times, none for secrets", () => {
    expect(readEnv(["STRIPE_API_URL", "FAL_QUEUE_URL", "FAL_JWKS_URL", "WORKER_LEASE_SECONDS"], {})).toEqual({
      STRIPE_API_URL: "https://api.stripe.com",
      FAL_QUEUE_URL: "https://queue.fal.run",
      FAL_JWKS_URL: "https://rest.fal.ai/.well-known/jwks.json",
      WORKER_LEASE_SECONDS: 60,
    });
    expect(
      readEnv(["STRIPE_WEBHOOK_SECRETS"], { STRIPE_WEBHOOK_SECRETS: "a, b," }).STRIPE_WEBHOOK_SECRETS,
    ).toEqual(["a", "b"]);
  });
});

describe("the log", () => {
  test("writes one line of JSON, with errors told and secrets masked", () => {
    const written: [string, string][] = [];
    const log = createLog({ function: "f" }, (level, line) => written.push([level, line])).with({
      worker: "w",
    });
    const cause = new Error("postgres://postgres:hunter2@db:5432/x refused");
    log.error("broke", { error: new Error("key sk_live_abc123 and whsec_abc=", { cause }), n: 1 });
    const [[level, line] = ["", ""]] = written;
    expect([level, line.includes("\n")]).toEqual(["error", false]);
    const entry = JSON.parse(line);
    expect(entry).toMatchObject({ level: "error", message: "broke", function: "f", worker: "w", n: 1 });
    expect(entry.error.message).toBe("key *** and ***=".replace("***=", "***"));
    expect(entry.error.cause.message).toBe("postgres://postgres:***@db:5432/x refused");
  });

  const uuid = "123e4567-e89b-12d3-a456-426614174000";
  const long = "0123456789abcdef0123456789abcdef";
  test.each([
    [
      "https://graph.test/me?fields=id&access_token=IGxy&client_secret=abc",
      "fields=id&access_token=***&client_secret=***",
    ],
    [
      "error sending request for url (https://x.test/y?fb_exchange_token=abc): refused",
      "fb_exchange_token=***): refused",
    ],
    ["https://x.test/cb?state=s&code=a%2Fb", "state=s&code=***"],
    ["https://x.test/f?X-Amz-Expires=9&X-Amz-Signature=ab12", "X-Amz-Expires=9&X-Amz-Signature=***"],
    ["authorization: Bearer abcdefgh.ijk", "authorization: Bearer ***"],
    [`Key ${uuid}:${long}`, "Key ***"],
    [`r8_${long}`, "***"],
    ["re_A1b2C3d4_abcdefghijk", "***"],
    [`AIza${long}`, "***"],
    [`EAAG${long}`, "***"],
    ["Atza|IQEBLjAs", "***"],
  ])("masks what is secret in %s", (text, masked) => {
    let line = "";
    createLog({}, (_, written) => {
      line = written;
    }).error("broke", { error: new Error("fetch failed", { cause: new Error(text) }) });
    expect(JSON.parse(line).error.cause.message.endsWith(masked)).toBe(true);
  });

  test("leaves ids, words and addresses as they are", () => {
    let line = "";
    const fields = {
      id: uuid,
      url: "https://x.test/a?page=2&sort=key",
      text: "Key order-17 is taken. code: 40P01",
    };
    createLog(fields, (_, written) => {
      line = written;
    }).info("fine");
    expect(JSON.parse(line)).toMatchObject(fields);
  });
});

describe("errors", () => {
  test("of ours reach the caller, whether from node-postgres or PostgREST", async () => {
    const ours = { name: "key_reused", message: "Key k is taken.", facts: { key: "k" } };
    const raised = await db
      .rows({ name: "fail", text: "select private.fail($1, $2, $3)" }, [ours.name, ours.message, ours.facts])
      .catch((error: unknown) => error);
    expect(envelope(publicError(raised))).toEqual({
      error: {
        code: "key_reused",
        message: "Key k is taken.",
        details: { key: "k" },
        hint: expect.stringContaining("new key"),
      },
    });
    expect(publicError(raised).status).toBe(409);
    const rest = {
      code: "PT402",
      message: "insufficient_credits: Too little.",
      details: '{"missing":1}',
      hint: null,
    };
    expect(namedError(rest)).toMatchObject({
      status: 402,
      code: "insufficient_credits",
      details: { missing: 1 },
    });
  });

  test("of others do not", () => {
    for (const error of [new Error("secret"), { code: "23505", message: "duplicate_key: x" }, "text", null]) {
      expect(publicError(error)).toMatchObject({ status: 500, code: "internal_error" });
    }
  });

  test("name what is wrong with the nearest of several forms", () => {
    const workspace_id = randomUUID();
    const issues = (sent: object) => {
      try {
        return parseInput(orderRequest, { workspace_id, ...sent });
      } catch (error) {
        return (error as ApiError).details;
      }
    };
    expect(issues({ package: "starter" })).toMatchObject({ package: "starter", currency: "INR" });
    expect(issues({})).toMatchObject({ argument: "package", issues: [{ message: "is required" }] });
    expect(issues({ plan_price_id: "x" })).toMatchObject({ argument: "plan_price_id" });
  });
});

describe("the database", () => {
  test("tries again after a deadlock", async () => {
    await testDb.query(
      "create table public.pair (id int primary key, n int); insert into public.pair values (1, 0), (2, 0)",
    );
    await testDb.query("grant select, update on public.pair to service_role");
    await testDb.query(`create function public.touch_both(a int, b int) returns int language plpgsql as $$
      begin
        update public.pair set n = n + 1 where id = a;
        perform pg_sleep(0.2);
        update public.pair set n = n + 1 where id = b;
        return 1;
      end $$`);
    const both = (a: number, b: number) =>
      db.rows({ name: "both", text: "select public.touch_both($1, $2)" }, [a, b]);
    await Promise.all([both(1, 2), both(2, 1)]);
    expect(await testDb.query("select n from public.pair")).toEqual([{ n: 2 }, { n: 2 }]);
  });

  test("goes on after its connections were ended, with repeatable statements", async () => {
    const own = { name: "sleeper", text: "select pg_sleep(0.3), 7 as seven", repeatable: true };
    const running = db.row<{ seven: number }>(own);
    await expect
      .poll(() =>
        testDb.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where query like '%7 as seven%' and application_name = 'backlot-test'",
        ),
      )
      .toHaveLength(1);
    expect((await running).seven).toBe(7);
  });

  test("does not repeat what may not be repeated", async () => {
    const once = { name: "once", text: "select pg_sleep(0.3), 8 as eight" };
    const running = db.row(once).catch((error: Error) => error.message);
    await expect
      .poll(() =>
        testDb.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where query like '%8 as eight%' and application_name = 'backlot-test'",
        ),
      )
      .toHaveLength(1);
    expect(await running).toMatch(/terminat/);
  });

  test("refuses a login that may not be the service", async () => {
    const url = new URL(testDb.url);
    url.username = "supabase_auth_admin";
    const other = createDatabase({ url: url.href, name: "other" });
    await expect(other.rows({ name: "one", text: "select 1" })).rejects.toThrow(/role/);
    await other.end();
  });

  test("bigint arrives as a number while that is exact", async () => {
    const rows = await db.rows({
      name: "big",
      text: "select 5::bigint as small, 9007199254740993::bigint as huge",
    });
    expect(rows).toEqual([{ small: 5, huge: "9007199254740993" }]);
  });
});

test("a secret matches only itself", async () => {
  expect(await isOneOf("b", ["a", "b"])).toBe(true);
  for (const wrong of ["", "c", "bb"]) expect(await isOneOf(wrong, ["a", "b"])).toBe(false);
  expect(await isOneOf("", [])).toBe(false);
});
