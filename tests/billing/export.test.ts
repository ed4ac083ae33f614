// The downloads as the edge function gives them, with the database's own functions and rights behind it.
import { beforeAll, expect, test } from "vitest";
import { createStripe } from "../../functions/_shared/stripe.ts";
import { createApp } from "../../functions/billing/app.ts";
import type { Backend } from "../../functions/billing/backend.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { functionsDatabase, keptLog } from "../functions/harness.ts";
import type { TestDatabase } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import { authorize, billingDatabase, grant, newWorkspace, record, refund } from "./money.ts";

let db: TestDatabase;
let app: ReturnType<typeof createApp>;
let asked: string[] = [];
const { log, lines: logged } = keptLog();
let broken = false;

beforeAll(async () => {
  db = await billingDatabase();
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
  await db.query("alter table billing.ledger_transactions alter column created_at set default private.now()");
  /** PostgREST's part: the function runs with the rights of the bearer, who is named by id here. */
  const rpc = async (authorization: string, name: string, args: Record<string, unknown>) => {
    asked.push(name);
    if (broken && asked.filter((each) => each === name).length > 1) throw new Error("the database is gone");
    const rows = await db.user(authorization.replace("Bearer ", "")).rpc(`billing.${name}`, args);
    return JSON.parse(JSON.stringify(name === "statement" ? rows[0] : rows));
  };
  const backend = { rpc } as unknown as Backend;
  const stripe = createStripe("sk_test_x", "https://stripe.test");
  app = createApp({ backend, db: functionsDatabase(db), stripe, log });
});

const get = (path: string, userId: string | null, query: Row) => {
  const url = `/billing/${path}?${new URLSearchParams(query)}`;
  return Promise.resolve(app.request(url, userId ? { headers: { authorization: `Bearer ${userId}` } } : {}));
};
const january = { from: "2027-01-01", to: "2027-01-31" };

async function eventful() {
  await db.setClock("2027-01-10T12:00:00Z");
  const made = await newWorkspace(db);
  await grant(db.service, made.workspaceId, 1000);
  const charge = await record(db.service, made.workspaceId, 3, {
    meter: "hundred",
    metadata: { user_id: made.userId, source_platform: "=cmd|' /C calc'!A0", source_id: 'a "b", c' },
  });
  await refund(db.service, charge.usage_event_id, "+1, sorry", 10);
  await db.setClock("2027-01-10T12:00:01Z");
  await authorize(db.service, made.workspaceId, 50);
  asked = [];
  return { ...made, charge };
}

test("a statement goes from the opening to the closing balance", async () => {
  const { userId, workspaceId, charge } = await eventful();
  const response = await get("statement.csv", userId, { workspace_id: workspaceId, ...january });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/csv; charset=utf-8; header=present");
  expect(response.headers.get("content-disposition")).toBe(
    'attachment; filename="statement-2027-01-01-2027-01-31.csv"',
  );
  const [header, ...rows] = (await response.text()).split("\r\n");
  expect(header).toBe(
    "transaction_id,created_at,event_at,kind,meter,quantity,reason,user_id,usage_event_id,payment_id," +
      "available_change_micro,held_change_micro,available_micro,held_micro",
  );
  const at = "2027-01-10T12:00:00.000Z";
  expect(rows.map((row) => row.replace(/^\d+/, "n"))).toEqual([
    ",2027-01-01T00:00:00.000Z,,opening_balance,,,,,,,,,0,0",
    `n,${at},${at},purchase,,,,,,,1000,0,1000,0`,
    `n,${at},${at},authorize,hundred,3,,${userId},${charge.usage_event_id},,-300,300,700,300`,
    `n,${at},${at},capture,hundred,3,,${userId},${charge.usage_event_id},,0,-300,700,0`,
    `n,${at},${at},refund,hundred,3,"'+1, sorry",${userId},${charge.usage_event_id},,10,0,710,0`,
    expect.stringMatching(/^n,.*,authorize,unit,50,,,.*,,-50,50,660,50$/),
    ",2027-02-01T00:00:00.000Z,,closing_balance,,,,,,,,,660,50",
    "",
  ]);
});

test("a list of charges tells what became of each, and hands no formula to a spreadsheet", async () => {
  const { userId, workspaceId } = await eventful();
  const response = await get("usage.csv", userId, { workspace_id: workspaceId, ...january });
  const [header, first, second, end] = (await response.text()).split("\r\n");
  expect(header!.split(",")).toHaveLength(16);
  expect(first).toContain(`,captured,hundred,3,300,300,10,290,${userId},"'=cmd|' /C calc'!A0","a ""b"", c",`);
  expect(first).toContain(',"\'+1, sorry"');
  expect(second).toContain(",held,unit,50,50,0,0,0,,,,,");
  expect(end).toBe("");
});

test("longer ones are read page by page, and none is missed or told twice", async () => {
  const { userId, workspaceId } = await eventful();
  await db.query(
    "select billing.grant_credits($1, 1, 'prepaid', 'many-' || n) from generate_series(1, 1300) n",
    [workspaceId],
  );
  await db.query("select billing.record_usage($1, 'unit', 1, 'many-' || n) from generate_series(1, 1200) n", [
    workspaceId,
  ]);
  asked = [];
  const statement = await (
    await get("statement.csv", userId, { workspace_id: workspaceId, ...january })
  ).text();
  const ids = statement.split("\r\n").flatMap((row) => /^\d+/.exec(row)?.[0] ?? []);
  expect(new Set(ids).size).toBe(5 + 1300 + 2 * 1200);
  expect(ids).toHaveLength(3705);
  expect(asked).toEqual(["statement", ...Array(4).fill("statement_lines")]);
  const usage = await (await get("usage.csv", userId, { workspace_id: workspaceId, ...january })).text();
  const charges = usage.split("\r\n").slice(1, -1);
  expect(new Set(charges).size).toBe(1202);
  expect(charges).toHaveLength(1202);

  broken = true;
  asked = [];
  const cut = await get("statement.csv", userId, { workspace_id: workspaceId, ...january });
  expect(cut.status).toBe(200);
  await expect(cut.text()).rejects.toThrow("the database is gone");
  broken = false;
  expect(logged.at(-1)).toMatchObject({ level: "error", message: "statement cut off" });
});

test("a stranger, a visitor and a question that makes no sense get an error and no file", async () => {
  const { workspaceId, userId } = await eventful();
  const stranger = await db.createUser();
  const refusal = async (user: string | null, query: Row) => {
    const response = await get("statement.csv", user, query);
    return [response.status, errorEnvelope.parse(await response.json()).error.code];
  };
  const query = { workspace_id: workspaceId, ...january };
  expect(await refusal(null, query)).toEqual([401, "not_signed_in"]);
  expect(await refusal(userId, { ...query, from: "yesterday" })).toEqual([400, "invalid_argument"]);
  expect(await refusal(userId, { ...query, colour: "red" })).toEqual([400, "invalid_argument"]);
  // the error as PostgREST gives it has no class of its own
  const answer = await get("usage.csv", stranger.id, query);
  expect([answer.status, errorEnvelope.parse(await answer.json()).error.code]).toEqual([
    404,
    "unknown_workspace",
  ]);
  const backwards = await get("statement.csv", userId, { ...query, from: "2027-02-01" });
  expect(await backwards.json()).toMatchObject({
    error: { message: "from: must not lie after to.", details: { argument: "from" } },
  });
  expect(await refusal(userId, { ...query, from: "2020-01-01" })).toEqual([400, "invalid_argument"]);
  expect(await refusal(userId, { ...query, timezone: "Nowhere/Town" })).toEqual([400, "invalid_timezone"]);
});
