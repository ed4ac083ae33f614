import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/billing/app.ts";
import { type Backend, createBackend } from "../../functions/billing/backend.ts";
import { errorEnvelope, packagesAnswer, topUpAnswer } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { fakeFetch, functionsDatabase, keptLog } from "./harness.ts";
import { fakeStripe } from "./stripe-fake.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const buyer = await testDb.createUser();
const stranger = await testDb.createUser();

beforeEach(async () => {
  await testDb.query("update billing.wallets set provider_customer_id = null");
});

/** PostgREST's part: the function runs with the rights of the bearer, who is named by id here. */
const backend: Backend = {
  packages: () => Promise.reject(new Error("not used here")),
  startTopUp: (authorization, request) =>
    testDb.user(authorization.replace("Bearer ", "")).call("billing.start_top_up", request),
  rpc: () => Promise.reject(new Error("not used here")),
};

function setUp() {
  const fake = fakeStripe();
  const { log, lines } = keptLog();
  const app = createApp({ backend, db, stripe: fake.stripe, log });
  const request = {
    workspace_id: buyer.workspaceId,
    package: "starter",
    success_url: "https://app.test/ok?session={CHECKOUT_SESSION_ID}",
    cancel_url: "http://localhost:3000/",
  };
  const post = (body: unknown, user: string | null = buyer.id) =>
    Promise.resolve(
      app.request("/billing/top-up", {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "content-type": "application/json", ...(user && { authorization: `Bearer ${user}` }) },
      }),
    );
  const topUp = async (more: Record<string, unknown> = {}) => {
    const response = await post({ ...request, ...more });
    expect(response.status).toBe(200);
    return topUpAnswer.parse(await response.json());
  };
  const refusal = async (response: Response) => {
    const { error } = errorEnvelope.parse(await response.json());
    return { status: response.status, ...error };
  };
  return { ...fake, app, lines, request, post, topUp, refusal };
}

describe("a top-up", () => {
  test("makes a pending payment and a checkout session that name each other", async () => {
    const { topUp, requests, sessions } = setUp();
    const answer = await topUp();
    const { id, url } = sessions[0]!;
    expect(answer).toMatchObject({
      status: "pending",
      session_id: id,
      checkout_url: url,
    });
    const [payment] = await testDb.query("select * from billing.payments where id = $1", [answer.payment_id]);
    expect(payment).toMatchObject({
      status: "pending",
      amount_minor: 500,
      provider_session_id: id,
      user_id: buyer.id,
    });
    const [created] = requests;
    expect(created?.key).toBe(`top-up:${answer.payment_id}`);
    expect(Object.fromEntries(created!.params)).toEqual({
      mode: "payment",
      "line_items[0][quantity]": "1",
      "line_items[0][price_data][currency]": "usd",
      "line_items[0][price_data][unit_amount]": "500",
      "line_items[0][price_data][product_data][name]": "Starter",
      "line_items[0][price_data][product_data][description]": "About 215 generations",
      success_url: "https://app.test/ok?session={CHECKOUT_SESSION_ID}",
      cancel_url: "http://localhost:3000/",
      client_reference_id: answer.payment_id,
      "metadata[payment_id]": answer.payment_id,
      "metadata[workspace_id]": buyer.workspaceId,
      "payment_intent_data[metadata][payment_id]": answer.payment_id,
      "payment_intent_data[metadata][workspace_id]": buyer.workspaceId,
      customer_creation: "always",
    });
  });

  test("repeated with its key answers the same session, also at the same moment", async () => {
    const { topUp, sessions } = setUp();
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 4 }, () => topUp({ key })));
    answers.push(await topUp({ key }));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(sessions).toHaveLength(1);
  });

  test("that was interrupted before the session was noted finds it again", async () => {
    const { topUp, state, post, request, refusal, sessions, lines } = setUp();
    const key = randomUUID();
    state.down = true;
    expect(await refusal(await post({ ...request, key }))).toMatchObject({
      status: 502,
      code: "payment_provider_unavailable",
    });
    expect(lines.at(-1)).toMatchObject({ message: "request failed", level: "error" });
    state.down = false;
    const first = await topUp({ key });
    await testDb.query("update billing.payments set provider_session_id = null where id = $1", [
      first.payment_id,
    ]);
    expect(await topUp({ key })).toEqual(first);
    expect(sessions).toHaveLength(1);
  });

  test("with a known customer is his", async () => {
    await testDb.query("update billing.wallets set provider_customer_id = 'cus_7' where workspace_id = $1", [
      buyer.workspaceId,
    ]);
    const { topUp, requests } = setUp();
    await topUp();
    expect(requests[0]?.params.get("customer")).toBe("cus_7");
    expect(requests[0]?.params.has("customer_creation")).toBe(false);
  });

  test("that has been paid has no page any more", async () => {
    const { topUp, sessions, pay } = setUp();
    const key = randomUUID();
    await topUp({ key });
    pay(sessions[0]!);
    await testDb.service.call("billing.settle_checkout", { session: sessions[0] });
    expect(await topUp({ key })).toMatchObject({ status: "succeeded", checkout_url: null });
  });
});

describe("a request for a top-up that cannot be met", () => {
  test("a key with other addresses or another package is a conflict", async () => {
    const { topUp, post, request, refusal } = setUp();
    const key = randomUUID();
    const { payment_id } = await topUp({ key });
    expect(await refusal(await post({ ...request, key, package: "creator" }))).toMatchObject({
      status: 409,
      code: "key_reused",
    });
    await testDb.query("update billing.payments set provider_session_id = null where id = $1", [payment_id]);
    const other = { ...request, key, cancel_url: "https://other.test/" };
    expect(await refusal(await post(other))).toMatchObject({ status: 409, code: "key_reused" });
  });

  test("the database's refusals arrive with status, code, details and hint", async () => {
    const { post, request, refusal } = setUp();
    expect(await refusal(await post({ ...request, package: "yacht" }))).toMatchObject({
      status: 404,
      code: "unknown_package",
      message: 'There is no active credit package "yacht".',
      details: { package: "yacht" },
      hint: expect.stringContaining("credit_packages"),
    });
    expect(await refusal(await post(request, stranger.id))).toMatchObject({
      status: 404,
      code: "unknown_workspace",
    });
  });

  test.each([
    ["workspace_id", "x"],
    ["package", ""],
    ["success_url", "javascript:alert(1)"],
    ["cancel_url", "/relative"],
    ["key", ""],
    ["key", "a\0b"],
    ["package", undefined],
    ["amount", 5],
  ])("a wrong %s is named", async (argument, value) => {
    const { post, request, refusal, requests } = setUp();
    const answer = await refusal(await post({ ...request, [argument]: value }));
    expect(answer).toMatchObject({ status: 400, code: "invalid_argument", details: { argument } });
    expect(answer.message).toMatch(new RegExp(`^${argument}: `));
    expect(answer.hint).toBeTruthy();
    expect(requests).toEqual([]);
  });

  test("what is missing is said in words, wherever it is missing", async () => {
    const { post, request, refusal } = setUp();
    const answer = await refusal(await post({ ...request, workspace_id: undefined, amount: "a\0b" }));
    expect(answer.message).toBe("amount: must not contain the character U+0000.");
    const { details } = await refusal(await post({ ...request, workspace_id: undefined, amount: 5 }));
    expect(details).toEqual({
      argument: "workspace_id",
      issues: [
        { argument: "workspace_id", message: "is required" },
        { argument: "amount", message: "is not an argument" },
      ],
    });
    expect(await refusal(await post([]))).toMatchObject({ details: { argument: "body" } });
  });

  test("no JSON, no token, too much", async () => {
    const { post, request, refusal } = setUp();
    expect(await refusal(await post("{"))).toMatchObject({ status: 400, code: "invalid_json" });
    expect(await refusal(await post(request, null))).toMatchObject({ status: 401, code: "not_signed_in" });
    const huge = { ...request, key: "k".repeat(20_000) };
    expect(await refusal(await post(huge))).toMatchObject({ status: 413, code: "payload_too_large" });
  });

  test("browsers may ask from anywhere", async () => {
    const { app } = setUp();
    const headers = { origin: "https://app.test", "access-control-request-method": "POST" };
    const response = await app.request("/billing/top-up", { method: "OPTIONS", headers });
    expect(response.status).toBe(204);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-allow-headers")).toContain("authorization");
    const answered = await app.request("/billing/nothing", { headers: { origin: "https://app.test" } });
    expect(answered.headers.get("access-control-expose-headers")).toBe("x-request-id");
    expect(answered.headers.get("x-request-id")).toBeTruthy();
    expect(await answered.json()).toMatchObject({
      error: { code: "unknown_route", hint: expect.stringContaining("path") },
    });
  });
});

describe("through PostgREST", () => {
  const rows = [
    {
      slug: "starter",
      app: null,
      name: "S",
      description: null,
      credits_micro: 5,
      price_minor: 5,
      currency: "USD",
      valid_days: null,
    },
  ];
  const appOf = (handlers: Parameters<typeof fakeFetch>[0]) => {
    const { fetch } = fakeFetch(handlers);
    const { log } = keptLog();
    return createApp({
      backend: createBackend("https://api.test", "sb_publishable_x", fetch),
      db,
      stripe: fakeStripe().stripe,
      log,
    });
  };
  const headers = { authorization: "Bearer token" };

  test("packages are read in the caller's name, in order", async () => {
    let asked: Request | undefined;
    const app = appOf({
      "GET /rest/v1/credit_packages": (request) => {
        asked = request;
        return Response.json(rows);
      },
    });
    const response = await app.request("/billing/packages", { headers });
    expect(packagesAnswer.parse(await response.json())).toEqual({ packages: rows });
    expect(asked?.headers.get("authorization")).toBe("Bearer token");
    expect(asked?.headers.get("apikey")).toBe("sb_publishable_x");
    expect(asked?.headers.get("accept-profile")).toBe("billing");
    expect(new URL(asked!.url).searchParams.get("order")).toBe("sort_order.asc,slug.asc");
  });

  test.each([
    [
      {
        code: "PT403",
        message: "role_too_low: You are a viewer here.",
        details: '{"role":"viewer"}',
        hint: "Ask.",
      },
      403,
      "role_too_low",
    ],
    [{ code: "PGRST301", message: "JWT expired", details: null, hint: null }, 401, "not_signed_in"],
    [
      { code: "42501", message: "permission denied for function start_top_up", details: null, hint: null },
      401,
      "not_signed_in",
    ],
    [{ code: "XX000", message: "secret internals", details: null, hint: null }, 500, "internal_error"],
  ])("an error %j becomes %d %s", async (error, status, code) => {
    const app = appOf({ "POST /rest/v1/rpc/start_top_up": () => Response.json(error, { status: 400 }) });
    const body = JSON.stringify({
      workspace_id: buyer.workspaceId,
      package: "starter",
      success_url: "https://a.test",
      cancel_url: "https://a.test",
    });
    const response = await app.request("/billing/top-up", { method: "POST", body, headers });
    const text = await response.text();
    expect([response.status, errorEnvelope.parse(JSON.parse(text)).error.code]).toEqual([status, code]);
    expect(text).not.toContain("internals");
  });
});
