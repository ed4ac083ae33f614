import { beforeAll, describe, expect, test } from "vitest";
import { must, type Person, useStack } from "../e2e/stack.ts";
import {
  type Attacker,
  attackerOf,
  expectNothing,
  forgedTokens,
  json,
  profile,
  secretsOf,
} from "./clients.ts";

// A stranger with an account of their own, at every other door of the API.

const logged: string[] = [];
const s = useStack({ log: (line) => logged.push(line) });
let victim: Person;
let thief: Attacker;
let secrets: string[];
beforeAll(async () => {
  victim = await s.person();
  thief = await attackerOf(s, await s.person());
  secrets = await secretsOf(s, victim);
});

describe("tokens", () => {
  const doors = [
    "/rest/v1/wallets?select=workspace_id",
    "/storage/v1/object/list/studio-uploads",
    "/auth/v1/user",
    "/auth/v1/admin/users",
    "/functions/v1/billing/packages",
    "/functions/v1/worker",
  ];

  test("that are forged open no door, whether shown as token, as key or in the address", async () => {
    for (const [name, token] of forgedTokens(thief.token, s.stack.publishableKey, victim.userId)) {
      for (const door of doors) {
        const init = door.includes("/list/")
          ? json({ prefix: "" }, "billing")
          : { headers: profile("billing") };
        const marks = door.includes("?") ? "&" : "?";
        const answers = [
          await thief.send(door, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
          await thief.send(door, { ...init, headers: { ...init.headers, apikey: token } }),
          await thief.send(`${door}${marks}apikey=${token}`, {
            ...init,
            headers: { ...init.headers, authorization: `Bearer ${token}`, apikey: "" },
          }),
        ];
        for (const answer of answers) {
          expect(answer.status, `${name} at ${door}: ${answer.text}`).toBeGreaterThanOrEqual(400);
          expectNothing(answer, secrets, `${name} at ${door}`);
        }
      }
    }
  });

  test("of a user are no key, and the secret key gives nobody's token more rights", async () => {
    const wallets = "/rest/v1/wallets?select=workspace_id";
    const headers = profile("billing");
    const asKey = await thief.send(wallets, { headers: { ...headers, apikey: thief.token } });
    expect(asKey.status).toBe(401);
    const withKey = await thief.send(wallets, { headers: { ...headers, apikey: s.stack.secretKey } });
    expect(JSON.parse(withKey.text)).toEqual([{ workspace_id: thief.workspaceId }]);
    const asBearer = { ...headers, authorization: `Bearer ${s.stack.secretKey}` };
    expect((await thief.send(wallets, { headers: asBearer })).status).toBe(401);
  });

  test("name the role and rights that the project gave, whatever was asked for at sign-up or later", async () => {
    const wanted = {
      role: "service_role",
      app_metadata: { staff: true },
      is_super_admin: true,
      id: victim.userId,
    };
    const email = `${crypto.randomUUID()}@example.com`;
    const body = { email, password: "a long password", ...wanted, data: wanted };
    const answer = await thief.send("/auth/v1/signup", json(body, "public"));
    expect(answer.status, answer.text).toBe(200);
    const changed = await thief.send("/auth/v1/user", {
      ...json({ ...wanted, data: wanted }, "public"),
      method: "PUT",
    });
    expect(changed.status, changed.text).toBe(200);
    const rows = await s.sql(
      "select role, raw_app_meta_data, is_super_admin from auth.users where email = $1 or id = $2",
      [email, thief.userId],
    );
    expect(rows).toHaveLength(2);
    for (const row of rows) {
      expect(row).toMatchObject({ role: "authenticated", raw_app_meta_data: { provider: "email" } });
      expect(row.is_super_admin).not.toBe(true);
      expect(row.raw_app_meta_data).not.toHaveProperty("staff");
    }
  });

  test.each([
    "//admin/users",
    "/ADMIN/users",
    "/%61dmin/users",
    "/invite",
    "/_system/config",
    "/../../_system/config",
  ])("there is nothing more behind /auth/v1%s", async (path) => {
    const answer = await thief.send(`/auth/v1${path}`);
    expect([403, 404]).toContain(answer.status);
    expect(answer.headers.get("content-type")).toContain("json");
  });
});

describe("functions", () => {
  test("the worker hears the secret key alone", async () => {
    const attempts: Record<string, string>[] = [
      {},
      { authorization: "" },
      { apikey: thief.token },
      { apikey: `${s.stack.secretKey}x` },
    ];
    for (const headers of attempts) {
      for (const path of ["", "/health", "/metrics", "/../worker/health"]) {
        const answer = await thief.send(`/functions/v1/worker${path}`, {
          method: path ? "GET" : "POST",
          headers,
        });
        expect([answer.status, JSON.parse(answer.text).error.code]).toEqual([401, "not_allowed"]);
      }
    }
  });

  test("a top-up is for a workspace of one's own, at its price", async () => {
    const pages = { success_url: "https://app.test/ok", cancel_url: "https://app.test/no" };
    const order = { package: "starter", ...pages };
    const topUp = async (body: object, headers: Record<string, string> = {}) => {
      const answer = await thief.send("/functions/v1/billing/top-up", json(body, "billing", headers));
      return [answer.status, answer.text] as const;
    };
    expect((await topUp({ ...order, workspace_id: victim.workspaceId }))[0]).toBe(404);
    const cheaper = { ...order, workspace_id: thief.workspaceId, amount_minor: 1, credits_micro: 1e9 };
    expect((await topUp(cheaper))[0]).toBe(400);
    const service = { apikey: s.stack.secretKey, authorization: "" };
    expect((await topUp({ ...order, workspace_id: victim.workspaceId }, service))[0]).toBe(401);
    expect(await s.sql("select from billing.payments where workspace_id = $1", [victim.workspaceId])).toEqual(
      [],
    );
  });

  test("a webhook that nobody signed is not stored", async () => {
    const event = { id: "evt_1", type: "checkout.session.completed", request_id: "r", status: "OK" };
    for (const sender of ["stripe", "fal"]) {
      const attempts: Record<string, string>[] = [
        {},
        { "stripe-signature": `t=${Math.floor(Date.now() / 1000)},v1=${"0".repeat(64)}` },
        {
          "x-fal-webhook-request-id": "r",
          "x-fal-webhook-user-id": "u",
          "x-fal-webhook-timestamp": String(Math.floor(Date.now() / 1000)),
          "x-fal-webhook-signature": "0".repeat(128),
        },
      ];
      for (const headers of attempts) {
        const answer = await thief.send(`/functions/v1/webhooks/${sender}`, json(event, "public", headers));
        expect([400, 401]).toContain(answer.status);
      }
    }
    expect(await s.sql("select from ops.webhook_events where event_id in ('evt_1', 'r')")).toEqual([]);
  });

  test("answer pages of any origin without letting them use a person's cookies", async () => {
    for (const path of ["/rest/v1/meters", "/functions/v1/billing/packages", "/storage/v1/bucket"]) {
      const { headers } = await thief.send(path, { headers: { origin: "https://evil.example" } });
      expect(headers.get("access-control-allow-origin")).toBe("*");
      expect(headers.get("access-control-allow-credentials")).toBeNull();
    }
  });
});

describe("storage", () => {
  test("keeps every picture of others where it is, whatever the path looks like", async () => {
    const [theirs, mine] = [victim.workspaceId, thief.workspaceId];
    for (const path of [
      `${theirs}/x.png`,
      `${mine}/..%2f${theirs}/x.png`,
      `${mine}%2f..%2f${theirs}%2fx.png`,
      `${mine}/%252e%252e/${theirs}/x.png`,
      `${theirs.toUpperCase()}/x.png`,
      `/${theirs}/x.png`,
      `${theirs}%20/x.png`,
      `${theirs}`,
      `{${theirs}}/x.png`,
    ]) {
      const answer = await thief.send(`/storage/v1/object/studio-uploads/${path}`, {
        method: "POST",
        body: "x",
        headers: { "content-type": "image/png", "x-upsert": "true" },
      });
      expect(answer.status, path).toBe(400);
    }
    const bucket = thief.client.storage.from("studio-uploads");
    const stolen = await Promise.all([
      bucket.download(victim.personPath),
      bucket.createSignedUrl(victim.personPath, 60),
      bucket.copy(victim.personPath, `${mine}/stolen.jpg`),
      bucket.move(victim.personPath, `${mine}/stolen.jpg`),
      bucket.copy(thief.personPath, `${theirs}/planted.jpg`),
      bucket.move(thief.personPath, `${theirs}/planted.jpg`),
      bucket.copy(thief.personPath, `${mine}/r.jpg`, { destinationBucket: "studio-results" }),
      bucket.createSignedUploadUrl(`${theirs}/planted.jpg`),
    ]);
    for (const { data, error } of stolen) expect([data, error?.name]).toEqual([null, "StorageApiError"]);
    expect((await bucket.remove([victim.personPath])).data).toEqual([]);
    expect((await bucket.list(theirs)).data).toEqual([]);
    expect((await victim.client.storage.from("studio-uploads").list(theirs)).data).toHaveLength(2);
  });

  test("opens one object by a signed address, and only in the way it was signed for", async () => {
    const bucket = thief.client.storage.from("studio-uploads");
    const { signedUrl } = must(await bucket.createSignedUrl(thief.personPath, 60));
    const { token: uploadToken } = must(await bucket.createSignedUploadUrl(`${thief.workspaceId}/new.png`));
    const token = new URL(signedUrl).searchParams.get("token");
    const put = { method: "PUT", body: "x", headers: { "content-type": "image/png" } };
    for (const [path, init] of [
      [`sign/studio-uploads/${victim.personPath}?token=${token}`, {}],
      [`upload/sign/studio-uploads/${thief.personPath}?token=${token}`, put],
      [`upload/sign/studio-uploads/${victim.personPath}?token=${uploadToken}`, put],
      [`sign/studio-uploads/${thief.personPath}?token=${uploadToken}`, {}],
      [`sign/studio-uploads/${victim.personPath}?token=${thief.token}`, {}],
      [`studio-uploads/${victim.personPath}`, { headers: { authorization: `Bearer ${token}` } }],
      [`public/studio-uploads/${victim.personPath}`, {}],
    ] as const) {
      expect((await thief.send(`/storage/v1/object/${path}`, init)).status, path).toBe(400);
    }
  });
});

describe("money", () => {
  test("a thief who watches the results and cancels at the last moment pays or gets nothing", async () => {
    const { id } = await s.request(thief, { num_outputs: 3 });
    const results = thief.client.storage.from("studio-results");
    let pictures = 0;
    while (pictures === 0) pictures = (await results.list(`${thief.workspaceId}/${id}`)).data?.length ?? 0;
    const { error } = await thief.client.schema("studio").rpc("cancel_creation", { creation_id: id });
    expect(error?.message).toMatch(/^creation_ended: /);
    expect(await s.ended(thief, id)).toMatchObject({ status: "completed", cost_micro: 3 * 2298 });
    expect(await s.faults()).toEqual([]);
  });
});

test("after all of this the logs hold no key, token, password or signature", async () => {
  expect(logged.length).toBeGreaterThan(0);
  const text = logged.join("\n");
  for (const secret of [s.stack.secretKey, thief.token, "a long password", ...secrets.slice(1)]) {
    expect(text).not.toContain(secret);
  }
  expect(text).not.toMatch(/eyJ[\w-]+\.[\w-]+\.|whsec_\w|sk_test_\w|sb_secret_\w/);
});
