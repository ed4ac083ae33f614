import { beforeEach, describe, expect, test } from "vitest";
import { deletionStatus, receiveDataRequest } from "../../functions/_shared/sql/data-requests.ts";
import { createApp } from "../../functions/webhooks/app.ts";
import { signedRequest } from "../../supabase/local/standins/meta/callbacks.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const at = 1_900_000_000;
const secret = "instagram secret";
const app = createApp({
  inbox: { store: async () => [] },
  providers: [],
  dataRequests: {
    apps: { instagram: secret, facebook: "facebook secret" },
    functionsUrl: "https://api.example/functions/v1",
    receive: (...request) => receiveDataRequest(db, ...request),
    status: (code) => deletionStatus(db, code),
  },
  log: keptLog().log,
  now: () => at * 1000,
});

let owner: TestUser;
beforeEach(async () => {
  await testDb.query(clearJobs);
  await testDb.query("delete from integrations.data_requests");
  await testDb.query("delete from integrations.connected_accounts");
  await testDb.setClock(new Date(at * 1000).toISOString());
  owner = await testDb.createUser();
});

const payload = (more: object = {}) => ({
  algorithm: "HMAC-SHA256",
  issued_at: at,
  user_id: "24001",
  ...more,
});
const sign = (more?: object, key = secret) => signedRequest(key, payload(more));
const post = (path: string, signed_request?: string) =>
  app.request(`/webhooks/meta/${path}`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(signed_request === undefined ? {} : { signed_request }),
  });
async function refused(path: string, signed: string | undefined, status: number, code: string) {
  const answer = await post(path, signed);
  expect([answer.status, errorEnvelope.parse(await answer.json()).error.code]).toEqual([status, code]);
}
const requests = () => testDb.query("select * from integrations.data_requests order by created_at");
async function connect(more: Record<string, unknown> = {}, workspaceId = owner.workspaceId) {
  const row = {
    provider: "instagram",
    external_account_id: "17841001",
    username: "atelier",
    provider_data: JSON.stringify({ app_scoped_id: "24001" }),
    connected_at: new Date((at - 60) * 1000),
    ...more,
  };
  const [account] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, status, provider, external_account_id, username,
      provider_data, connected_at) values ($1, 'active', $2, $3, $4, $5, $6) returning id`,
    [workspaceId, ...Object.values(row)],
  );
  await testDb.query(
    `insert into integrations.account_secrets (account_id, kind, key_id, nonce, ciphertext)
      values ($1, 'access_token', 'k1', $2, $3)`,
    [account!.id, Buffer.alloc(12), Buffer.alloc(32)],
  );
  return account!.id as string;
}
const statusOf = async (id: string) =>
  (await testDb.query("select status from integrations.connected_accounts where id = $1", [id]))[0]?.status;

describe("a callback", () => {
  test("that is forged, signed by another app, or malformed is refused and leaves nothing", async () => {
    const id = await connect();
    for (const path of ["instagram/deauthorize", "instagram/data-deletion"]) {
      await refused(path, undefined, 400, "missing_signature");
      await refused(path, "nonsense", 400, "missing_signature");
      await refused(path, "a.b.c", 400, "missing_signature");
      await refused(path, sign({}, "facebook secret"), 401, "invalid_signature");
      await refused(
        path,
        `${sign().split(".")[0]}.${sign({ user_id: "2" }).split(".")[1]}`,
        401,
        "invalid_signature",
      );
      await refused(path, `.${sign().split(".")[1]}`, 400, "missing_signature");
      await refused(path, sign({ algorithm: "none" }), 400, "invalid_event");
      await refused(path, sign({ issued_at: undefined }), 400, "invalid_event");
      await refused(path, sign({ user_id: "" }), 400, "invalid_event");
    }
    await refused("facebook/deauthorize", sign(), 401, "invalid_signature");
    expect((await app.request("/webhooks/meta/threads/deauthorize", { method: "POST" })).status).toBe(404);
    expect(await requests()).toEqual([]);
    expect(await statusOf(id)).toBe("active");
  });

  test("that is stale, of the future or over is refused", async () => {
    await refused("instagram/deauthorize", sign({ issued_at: at - 3_601 }), 401, "stale_signature");
    await refused("instagram/deauthorize", sign({ issued_at: at + 301 }), 401, "stale_signature");
    await refused("instagram/data-deletion", sign({ expires: at - 1 }), 401, "stale_signature");
    expect((await post("instagram/data-deletion", sign({ expires: 0 }))).status).toBe(200);
  });

  test("is good for one kind of one app", async () => {
    const signed = sign();
    expect((await post("instagram/deauthorize", signed)).status).toBe(200);
    await refused("instagram/data-deletion", signed, 409, "data_request_replayed");
    // Padding is no part of what tells a request from another.
    await refused("instagram/data-deletion", signed.replace(".", "=."), 409, "data_request_replayed");
    expect(await requests()).toHaveLength(1);
  });
});

describe("deauthorize", () => {
  test("disconnects what the person had connected: tokens go, the row stays, admins are told", async () => {
    const id = await connect();
    const other = await connect({ external_account_id: "17841002", provider_data: "{}" });
    const facebook = await connect({
      provider: "facebook",
      external_account_id: "24001",
      provider_data: "{}",
    });
    expect(await (await post("instagram/deauthorize", sign())).json()).toEqual({ received: true });
    expect(await Promise.all([id, other, facebook].map(statusOf))).toEqual([
      "disconnected",
      "active",
      "active",
    ]);
    expect(await testDb.query("select account_id from integrations.account_secrets")).toHaveLength(2);
    const news = await testDb.query("select title from messaging.notifications where user_id = $1", [
      owner.id,
    ]);
    expect(news).toEqual([{ title: "@atelier is not connected any more" }]);
    expect(await requests()).toMatchObject([
      { kind: "deauthorize", status: "completed", external_user_id: null, erased: { accounts: 1 } },
    ]);
  });

  test("by an id that is sent as a number, however long, means the same person", async () => {
    const id = await connect({ provider_data: JSON.stringify({ app_scoped_id: "24178414000000017" }) });
    const text = JSON.stringify(payload({ user_id: "24178414000000017" })).replace(/"(24\d+)"/, "$1");
    const encoded = Buffer.from(text).toString("base64url");
    const { createHmac } = await import("node:crypto");
    const signature = createHmac("sha256", secret).update(encoded).digest("base64url");
    expect((await post("instagram/deauthorize", `${signature}.${encoded}`)).status).toBe(200);
    expect(await statusOf(id)).toBe("disconnected");
  });

  test("that comes again, or late, does not touch what was connected since", async () => {
    const id = await connect();
    const signed = sign({ issued_at: at - 30 });
    await post("instagram/deauthorize", signed);
    await testDb.query(
      "update integrations.connected_accounts set status = 'active', disconnected_at = null, connected_at = $2 where id = $1",
      [id, new Date(at * 1000)],
    );
    expect((await post("instagram/deauthorize", signed)).status).toBe(200);
    expect((await post("instagram/deauthorize", sign({ issued_at: at - 20 }))).status).toBe(200);
    expect(await statusOf(id)).toBe("active");
  });
});

describe("a deletion", () => {
  test("is answered with an address and a code, the same ones when it is told again", async () => {
    const first = await (await post("instagram/data-deletion", sign())).json();
    expect(first).toEqual({
      url: `https://api.example/functions/v1/webhooks/meta/data-deletion/${first.confirmation_code}`,
      confirmation_code: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(await (await post("instagram/data-deletion", sign())).json()).toEqual(first);
    const next = await (await post("instagram/data-deletion", sign({ issued_at: at - 1 }))).json();
    expect(next.confirmation_code).not.toBe(first.confirmation_code);
    expect(await testDb.query("select kind from ops.live_jobs")).toEqual([
      { kind: "integrations.erase_person" },
      { kind: "integrations.erase_person" },
    ]);
  });

  test("told many times at once is one", async () => {
    const signed = sign();
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => post("instagram/data-deletion", signed)),
    );
    const codes = await Promise.all(answers.map(async (answer) => (await answer.json()).confirmation_code));
    expect(new Set(codes).size).toBe(1);
    expect(await testDb.query("select from ops.live_jobs")).toHaveLength(1);
  });

  test("is followed by its code alone, which tells how far it is and nothing else", async () => {
    const { confirmation_code: code } = await (await post("instagram/data-deletion", sign())).json();
    const look = (of: string, accept = "*/*") =>
      app.request(`/webhooks/meta/data-deletion/${of}`, { headers: { accept } });
    const page = await look(code);
    expect(page.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(await page.text()).toBe("Your data is being deleted. This can take some days.");
    expect(await (await look(code, "application/json")).json()).toEqual({ status: "pending" });
    const [{ id }] = (await requests()) as [{ id: string }];
    expect(await testDb.service.call("integrations.erase_step", { request_id: id })).toEqual({
      state: "completed",
    });
    expect(await (await look(code, "application/json")).json()).toEqual({ status: "completed" });
    expect(await (await look(code)).text()).toContain("has been deleted");
    for (const wrong of ["0".repeat(32), id, code.toUpperCase(), `${code}0`]) {
      expect((await look(wrong)).status).toBe(404);
    }
    await post("instagram/deauthorize", sign({ issued_at: at - 2 }));
    const [deauthorized] = await testDb.query(
      "select confirmation_code from integrations.data_requests where kind = 'deauthorize'",
    );
    expect((await look(deauthorized!.confirmation_code)).status).toBe(404);
  });

  test("is begun again by a sweep when its job has ended before its work", async () => {
    await post("instagram/data-deletion", sign());
    const sweep = () => testDb.call("private.resume_erasures");
    expect(await sweep()).toBe(0);
    await testDb.query("select ops.cancel_job(id) from ops.live_jobs");
    expect(await sweep()).toBe(1);
    expect(await sweep()).toBe(0);
    await testDb.query("select ops.cancel_job(id) from ops.live_jobs");
    expect(await sweep()).toBe(1);
  });

  test("is nothing that people or visitors can see, begin or carry out", async () => {
    await post("instagram/data-deletion", sign());
    for (const who of [testDb.anon, testDb.user(owner.id)]) {
      await expectError(who.query("select * from integrations.data_requests"), "42501");
      await expectError(who.rpc("integrations.erase_step", { request_id: owner.id }), "42501");
      await expectError(
        who.rpc("integrations.note_files_erased", { request_id: owner.id, files: [] }),
        "42501",
      );
      await expectError(
        who.rpc("integrations.receive_data_request", {
          provider: "instagram",
          kind: "deletion",
          user_id: "1",
          request_hash: `\\x${"00".repeat(32)}`,
          issued_at: "2029-01-01",
        }),
        "42501",
      );
    }
  });
});
