import { describe, expect, test } from "vitest";
import { createTestDatabase } from "./database.ts";
import { expectError } from "./errors.ts";

const db = await createTestDatabase();

describe("sessions", () => {
  test("each session runs under its role and claims", async () => {
    const who = "select current_user as role, auth.uid() as uid, auth.role() as claim";
    expect(await db.anon.query(who)).toEqual([{ role: "anon", uid: null, claim: "anon" }]);
    expect(await db.service.query(who)).toEqual([{ role: "service_role", uid: null, claim: "service_role" }]);
    const id = "00000000-0000-4000-8000-000000000001";
    expect(await db.user(id).query(who)).toEqual([
      { role: "authenticated", uid: id, claim: "authenticated" },
    ]);
  });

  test("a client session is never the service", async () => {
    expect(await db.anon.call("private.is_service")).toBe(false);
    expect(await db.user("00000000-0000-4000-8000-000000000001").call("private.is_service")).toBe(false);
    expect(await db.service.call("private.is_service")).toBe(true);
    expect(await db.call("private.is_service")).toBe(true);
  });

  test("values arrive as JavaScript has them", async () => {
    const [row] = await db.query(
      `select 5::bigint as count, 9007199254740993::bigint as huge, 1.5::numeric as rate, '{"a":[1]}'::jsonb as doc,
        timestamptz '2030-01-02T03:04:05Z' as at, date '2030-01-02' as day, array[1, 2]::bigint[] as counts`,
    );
    expect(row).toEqual({
      count: 5,
      huge: "9007199254740993",
      rate: 1.5,
      doc: { a: [1] },
      at: new Date("2030-01-02T03:04:05Z"),
      day: "2030-01-02",
      counts: [1, 2],
    });
  });

  test("functions are called by named arguments and JSON arrives as JSON", async () => {
    const hash = await db.service.call("private.content_hash", { content: { a: [1, "x"] } });
    expect(hash).toBeInstanceOf(Buffer);
    expect(await db.service.call("private.content_hash", { content: { a: [1, "x"] } })).toEqual(hash);
    expect(await db.service.call("private.content_hash", { content: [1] })).not.toEqual(hash);
    await expect(db.service.call("private.content_hash", { other: 1 })).rejects.toThrow(
      "No private.content_hash",
    );
  });
});

describe("errors", () => {
  test("a named error carries its sqlstate, hint and facts", async () => {
    const error = await expectError(
      db.rpc("private.fail", { name: "key_reused", message: "Key k is taken.", facts: { key: "k" } }),
      "key_reused",
      "PT409",
    );
    expect(error.facts).toEqual({ key: "k" });
    expect(error.hint).toContain("new key");
  });

  test("PostgreSQL's own errors go by their sqlstate", async () => {
    await expectError(db.anon.query("select * from private.error_codes"), "42501");
  });
});

describe("the clock", () => {
  test("stands, moves on and runs again", async () => {
    await db.setClock("2030-01-01T00:00:00Z");
    expect(await db.call("private.now")).toEqual(new Date("2030-01-01T00:00:00Z"));
    await db.advanceClock("90 minutes");
    expect(await db.anon.call("private.now")).toEqual(new Date("2030-01-01T01:30:00Z"));
    await db.setClock(null);
    await db.advanceClock("1 day");
    const [row] = await db.query("select extract(epoch from private.now() - now())::int as ahead");
    expect(row?.ahead).toBe(86_400);
    await db.setClock(null);
  });
});

describe("connections", () => {
  test("hold a role and a transaction of their own", async () => {
    const first = await db.connect("service");
    const second = await db.connect("superuser");
    await first.begin();
    await first.query("select pg_advisory_xact_lock(7)");
    const free = "select pg_try_advisory_xact_lock(7) as free";
    expect(await second.query(free)).toEqual([{ free: false }]);
    await first.rollback();
    expect(await second.query(free)).toEqual([{ free: true }]);
    expect(await first.query("select current_user as role")).toEqual([{ role: "service_role" }]);
  });
});
