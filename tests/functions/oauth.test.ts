import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { findAccount, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { createApp } from "../../functions/oauth/app.ts";
import { configuredOAuth } from "../../functions/oauth/providers/index.ts";
import { refreshToken } from "../../functions/worker/handlers/refresh-token.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createShopifyStandIn } from "../../supabase/local/standins/shopify/app.ts";
import { signedQuery } from "../../supabase/local/standins/shopify/oauth.ts";
import { emptyShopifyData } from "../../supabase/local/standins/shopify/state.ts";
import { oauthAccount, oauthGranted, oauthStarted } from "../../types/contracts-oauth.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const vault = createVault({ k1: new Uint8Array(32).fill(1) });
const { log } = keptLog();

const data = emptyShopifyData();
const control = new Control("answer");
const delivery = new Delivery({ control, pending: data.pending, changed: () => {}, sign: () => ({}) });
const shopify = createShopifyStandIn({ data, changed: () => {}, control, delivery });
/** Every call to Shopify ends at the stand-in; Amazon answers by itself. */
const amazonAnswers: Response[] = [];
const fetcher: typeof fetch = async (input, init) => {
  const url = String(input);
  if (url.startsWith("https://lwa.test/") || url.startsWith("https://sellingpartnerapi-na.amazon.com/")) {
    return amazonAnswers.shift()!;
  }
  return shopify.request(url.replace("http://shopify.test", ""), init);
};
const config = {
  shopUrl: "http://shopify.test/{shop}",
  clientId: data.clientId,
  clientSecret: data.clientSecret,
};
const providers = configuredOAuth(
  {
    amazon: {
      client_id: "amzn1.client",
      client_secret: "s",
      application_id: "amzn1.sp.solution.1",
      urls: { tokenUrl: "https://lwa.test/token" },
    },
    google_drive: { client_id: "google", client_secret: "s" },
  },
  config,
  fetcher,
);
let now = Date.now();
const deps: Parameters<typeof createApp>[0] = {
  db,
  vault,
  log,
  providers,
  secret: "a secret",
  functionsUrl: "https://api.test/functions/v1",
  appOrigins: ["https://app.test"],
  installUrl: "https://app.test/welcome",
  now: () => now,
  // As PostgREST would: in the caller's name.
  backend: {
    startOAuth: (authorization, request) =>
      testDb.user(authorization!).call("integrations.start_oauth", request),
    disconnect: (authorization, id, _sender) =>
      testDb.user(authorization!).call("integrations.disconnect_account", { id }),
  },
};
const app = createApp(deps);

let shop: string;
let ada: { id: string; workspaceId: string };
beforeEach(async () => {
  now = Date.now();
  shop = `shop-${randomUUID().slice(0, 8)}.myshopify.com`;
  ada = await testDb.createUser();
});

const post = (path: string, body: object, user = ada.id) =>
  app.request(`/oauth/${path}`, {
    method: "POST",
    headers: { authorization: user },
    body: JSON.stringify(body),
  });
async function start(more: object = {}, user = ada.id): Promise<string> {
  const answer = await post("shopify/start", { workspace_id: ada.workspaceId, account: shop, ...more }, user);
  return oauthStarted.parse(await answer.json()).url;
}
/** Plays the browser: opens an address at Shopify, and gives where it is sent. */
async function visit(url: string): Promise<string> {
  const answer = await fetcher(url);
  return answer.headers.get("location")!;
}
const back = (url: string, cookie?: string) =>
  app.request(url.replace("https://api.test/functions/v1", ""), {
    headers: {
      "x-forwarded-for": "203.0.113.9, 10.0.0.1",
      "user-agent": "test",
      ...(cookie !== undefined && { cookie }),
    },
  });
const audit = () =>
  testDb.query(
    `select event_type, success, host(ip_address) as ip, error_message from integrations.oauth_audit_log
      where workspace_id = $1 order by created_at, event_type`,
    [ada.workspaceId],
  );
const codeOf = async (answer: Response) => ((await answer.json()) as { error: { code: string } }).error.code;

const claimed = (code: string, user = ada.id): Promise<{ id: string; status: string }> =>
  testDb.user(user).call("integrations.claim_connection", { code });
const codeIn = async (answer: Response) => oauthGranted.parse(await answer.json()).connection;

async function connect(): Promise<string> {
  return (await claimed(await codeIn(await back(await visit(await start()))))).id;
}

describe("a shop", () => {
  test("is connected with sealed tokens, its first sync and its webhooks", async () => {
    const callback = await visit(await start({ return_to: "https://app.test/shops?tab=1" }));
    const answer = await back(callback);
    const target = new URL(answer.headers.get("location")!);
    expect([answer.status, target.origin, target.searchParams.get("tab")]).toEqual([
      302,
      "https://app.test",
      "1",
    ]);
    expect(target.searchParams.get("provider")).toBe("shopify");
    const { id } = await claimed(target.searchParams.get("connection")!);
    const account = (await findAccount(db, id))!;
    expect(account).toMatchObject({
      workspace_id: ada.workspaceId,
      provider: "shopify",
      external_account_id: shop,
      status: "active",
      provider_data: { currency: "USD" },
    });
    const token = await openSecret(db, vault, account, "access_token");
    expect(Object.keys(data.shops[shop]!.tokens)).toEqual([token]);
    const stored = await testDb.query("select * from integrations.account_secrets where account_id = $1", [
      id,
    ]);
    expect(stored.map(({ kind }) => kind).sort()).toEqual(["access_token", "refresh_token"]);
    expect(JSON.stringify(stored)).not.toContain(token);
    expect(
      await testDb.query("select kind from ops.jobs where workspace_id = $1 order by kind", [
        ada.workspaceId,
      ]),
    ).toEqual([{ kind: "shopify.sync" }, { kind: "shopify.verify_webhooks" }]);
    expect(await audit()).toEqual([
      { event_type: "oauth_initiated", success: true, ip: null, error_message: null },
      { event_type: "oauth_callback_success", success: true, ip: "203.0.113.9", error_message: null },
      { event_type: "account_connected", success: true, ip: null, error_message: null },
    ]);
  });

  test("is connected by nobody but the person who began, however far another has come", async () => {
    const bob = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin')",
      [ada.workspaceId, bob.id],
    );
    const code = await codeIn(await back(await visit(await start())));
    const accounts = "select id from integrations.connected_accounts where external_account_id = $1";
    expect(await testDb.query(accounts, [shop])).toEqual([]);
    const [kept] = await testDb.query(
      "select * from integrations.pending_connections where external_account_id = $1",
      [shop],
    );
    for (const token of Object.keys(data.shops[shop]!.tokens)) {
      expect(JSON.stringify(kept)).not.toContain(token);
    }
    await expectError(claimed(code, bob.id), "unknown_connection", "PT404");
    await expectError(claimed(`${code}x`), "unknown_connection");
    await expectError(testDb.anon.call("integrations.claim_connection", { code }), "42501");
    expect(await testDb.query(accounts, [shop])).toEqual([]);

    const both = await Promise.all([claimed(code), claimed(code)]);
    expect(both[0].id).toBe(both[1].id);
    expect(await testDb.query(accounts, [shop])).toHaveLength(1);
    expect(
      await testDb.query(
        "select secrets, account_id from integrations.pending_connections where external_account_id = $1",
        [shop],
      ),
    ).toEqual([{ secrets: null, account_id: both[0].id }]);
  });

  test("is claimed within ten minutes, by one who is still an admin; then its tokens are forgotten", async () => {
    const member = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin')",
      [ada.workspaceId, member.id],
    );
    const code = await codeIn(await back(await visit(await start({}, member.id))));
    await testDb.query(
      "update identity.workspace_members set role = 'editor' where user_id = $1 and workspace_id = $2",
      [member.id, ada.workspaceId],
    );
    await expectError(claimed(code, member.id), "role_too_low");

    const late = await codeIn(await back(await visit(await start())));
    await testDb.query(
      "update integrations.pending_connections set expires_at = now() - interval '1 second' where workspace_id = $1",
      [ada.workspaceId],
    );
    await expectError(claimed(late), "unknown_connection");
    await testDb.call("private.expire_connections");
    expect(
      await testDb.query("select 1 from integrations.pending_connections where workspace_id = $1", [
        ada.workspaceId,
      ]),
    ).toEqual([]);
  });

  test("is connected by a state once, within ten minutes, of an admin", async () => {
    const callback = await visit(await start());
    const answers = await Promise.all([back(callback), back(callback)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400]);

    const late = await visit(await start());
    await testDb.query("update integrations.oauth_states set expires_at = now() where used_at is null");
    expect(await codeOf(await back(late))).toBe("oauth_state_invalid");

    const member = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin')",
      [ada.workspaceId, member.id],
    );
    const begun = await visit(await start({}, member.id));
    await testDb.query(
      "update identity.workspace_members set role = 'editor' where user_id = $1 and workspace_id = $2",
      [member.id, ada.workspaceId],
    );
    expect(await codeOf(await back(begun))).toBe("oauth_state_invalid");
  });

  test("begins for an admin alone", async () => {
    const stranger = await testDb.createUser();
    const editor = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [ada.workspaceId, editor.id],
    );
    const request = { workspace_id: ada.workspaceId, account: shop };
    expect(await codeOf(await post("shopify/start", request, stranger.id))).toBe("unknown_workspace");
    expect(await codeOf(await post("shopify/start", request, editor.id))).toBe("role_too_low");
  });

  test.each([
    ["a changed parameter", (url: URL) => url.searchParams.set("code", "other")],
    ["another shop", (url: URL) => url.searchParams.set("shop", "evil.myshopify.com")],
    ["no signature", (url: URL) => url.searchParams.delete("hmac")],
  ])("refuses a callback with %s", async (_, change) => {
    const url = new URL(await visit(await start()));
    change(url);
    expect((await back(url.toString())).status).toBe(401);
  });

  test("refuses a callback that is old, or of a shop that was not asked for, however well signed", async () => {
    const url = new URL(await visit(await start()));
    now += 91_000;
    expect((await back(url.toString())).status).toBe(401);
    now -= 91_000;
    const { hmac: _, ...parameters } = Object.fromEntries(url.searchParams);
    const other = signedQuery(
      { ...(parameters as Record<string, string>), shop: "other.myshopify.com" },
      data.clientSecret,
    );
    expect(await codeOf(await back(`/oauth/shopify/callback?${other}`))).toBe("oauth_state_invalid");
  });

  test.each(["example.com", "shop.myshopify.com.evil.com", "shop.myshopify.com/x", "-x.myshopify.com", ""])(
    "is no shop: %s",
    async (account) => {
      expect((await post("shopify/start", { workspace_id: ada.workspaceId, account })).status).toBe(400);
    },
  );

  test("returns to no other origin than the apps'", async () => {
    const request = { workspace_id: ada.workspaceId, account: shop, return_to: "https://evil.test/" };
    expect(await codeOf(await post("shopify/start", request))).toBe("invalid_argument");
  });

  test("returns to no other origin either when its state was made without the function", async () => {
    const state = await testDb.user(ada.id).call("integrations.start_oauth", {
      workspace_id: ada.workspaceId,
      provider: "shopify",
      external_account_id: shop,
      return_to: "https://evil.test/",
    });
    const url = new URL(await start());
    url.searchParams.set("state", state);
    const answer = await back(await visit(url.toString()));
    expect([answer.status, answer.headers.get("location")]).toEqual([200, null]);
  });

  test.each([
    ["https://app.test/", 400],
    ["http://127.0.0.1:3000/shops", 200],
    ["http://localhost.evil.test/", 400],
  ])("returns to %s with %i when no origins are configured", async (return_to, status) => {
    const bare = createApp({ ...deps, appOrigins: undefined });
    const answer = await bare.request("/oauth/shopify/start", {
      method: "POST",
      headers: { authorization: ada.id },
      body: JSON.stringify({ workspace_id: ada.workspaceId, account: shop, return_to }),
    });
    expect(answer.status).toBe(status);
  });

  test("tells the page when the merchant or the provider refuses", async () => {
    const begun = new URL(await visit(await start({ return_to: "https://app.test/" })));
    data.codes = {};
    const answer = await back(begun.toString());
    expect(answer.headers.get("location")).toBe("https://app.test/?error=provider_refused&provider=shopify");
    expect((await audit()).at(-1)).toMatchObject({ event_type: "oauth_callback_failed", success: false });
  });

  test("that another workspace has connected is taken", async () => {
    await connect();
    ada = await testDb.createUser();
    const code = await codeIn(await back(await visit(await start())));
    await expectError(claimed(code), "account_taken", "PT409");
    const [pending] = await testDb.query(
      "select claimed_at from integrations.pending_connections where workspace_id = $1",
      [ada.workspaceId],
    );
    expect(pending).toEqual({ claimed_at: null });
  });

  test("is the same account when it is connected again, and ends at Shopify when it is disconnected", async () => {
    const id = await connect();
    const answer = await post("disconnect", { account_id: id });
    expect(await answer.json()).toMatchObject({ status: "disconnected" });
    expect(data.shops[shop]!.tokens).toEqual({});
    expect(await openSecret(db, vault, (await findAccount(db, id))!, "access_token")).toBeNull();
    expect(await connect()).toBe(id);
    expect((await findAccount(db, id))!.status).toBe("active");
    const stranger = await testDb.createUser();
    expect((await post("disconnect", { account_id: id }, stranger.id)).status).toBe(404);
    expect(Object.keys(data.shops[shop]!.tokens)).toHaveLength(1);
  });
});

describe("an installation that begins at Shopify", () => {
  async function launch(): Promise<{ callback: string; cookie: string }> {
    const query = signedQuery({ shop, timestamp: String(Math.floor(now / 1000)) }, data.clientSecret);
    const answer = await back(`/oauth/shopify/install?${query}`);
    const set = answer.headers.get("set-cookie")!;
    expect(set).toMatch(/; Path=\/; HttpOnly; Secure; SameSite=Lax$/);
    return { callback: await visit(answer.headers.get("location")!), cookie: set.split(";")[0]! };
  }
  async function install(): Promise<URL> {
    const { callback, cookie } = await launch();
    return new URL((await back(callback, cookie)).headers.get("location")!);
  }
  const claim = (installation: string, user = ada) =>
    post("shopify/claim", { workspace_id: user.workspaceId, installation }, user.id);

  test("waits for somebody to claim it, and is theirs once", async () => {
    const page = await install();
    expect(page.origin + page.pathname).toBe("https://app.test/welcome");
    const installation = page.searchParams.get("installation")!;
    const bob = await testDb.createUser();
    const answers = await Promise.all([claim(installation), claim(installation, bob)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 404]);
    const won = answers.find(({ status }) => status === 200)!;
    const account = (await findAccount(db, oauthAccount.parse(await won.json()).account_id))!;
    const token = await openSecret(db, vault, account, "access_token");
    expect(Object.keys(data.shops[shop]!.tokens)).toEqual([token]);
    expect(
      await testDb.query(
        "select status, ciphertext, claim_hash from integrations.pending_installations where external_account_id = $1",
        [shop],
      ),
    ).toEqual([{ status: "claimed", ciphertext: null, claim_hash: null }]);
  });

  test("ends in the browser in which it began, and in no other", async () => {
    for (const other of [undefined, "oauth_install=another"]) {
      const { callback, cookie } = await launch();
      expect(await codeOf(await back(callback, other))).toBe("oauth_state_invalid");
      expect((await back(callback, cookie)).status).toBe(400);
    }
    expect(
      await testDb.query("select 1 from integrations.pending_installations where external_account_id = $1", [
        shop,
      ]),
    ).toEqual([]);
  });

  test("waits seven days, and then its token is forgotten", async () => {
    const installation = (await install()).searchParams.get("installation")!;
    await testDb.query(
      "update integrations.pending_installations set expires_at = now() - interval '1 second'",
    );
    expect(await codeOf(await claim(installation))).toBe("unknown_installation");
    await testDb.call("private.expire_installations");
    expect(
      await testDb.query(
        "select status, ciphertext from integrations.pending_installations where external_account_id = $1",
        [shop],
      ),
    ).toEqual([{ status: "expired", ciphertext: null }]);
  });

  test("of a shop that is connected already goes on there with the new token", async () => {
    const id = await connect();
    const page = await install();
    expect(page.searchParams.get("installation")).toBeNull();
    const token = await openSecret(db, vault, (await findAccount(db, id))!, "access_token");
    expect(Object.keys(data.shops[shop]!.tokens).at(-1)).toBe(token);
  });

  test("is refused unless Shopify signed it", async () => {
    const answer = await back(
      `/oauth/shopify/install?shop=${shop}&timestamp=${Math.floor(now / 1000)}&hmac=00`,
    );
    expect(answer.status).toBe(401);
  });
});

describe("a token that ends", () => {
  const handlers = { "integrations.refresh_token": refreshToken({ vault, oauth: providers }) };
  async function work(): Promise<void> {
    await testDb.query("delete from ops.live_jobs where kind <> 'integrations.refresh_token'");
    await workOnce({ db, handlers, log });
  }

  test("is renewed once before it does, with the refresh token that changes at each use", async () => {
    const id = await connect();
    await testDb.query(
      "update integrations.connected_accounts set token_expires_at = now() + interval '5 minutes' where id = $1",
      [id],
    );
    const before = (await findAccount(db, id))!;
    const old = await openSecret(db, vault, before, "refresh_token");
    await testDb.call("private.refresh_due_tokens");
    await testDb.call("private.refresh_due_tokens");
    expect(
      await testDb.query(
        "select count(*)::int as jobs from ops.jobs where kind = 'integrations.refresh_token'",
      ),
    ).toEqual([{ jobs: 1 }]);
    await work();
    const after = (await findAccount(db, id))!;
    expect(after.token_expires_at!.getTime()).toBeGreaterThan(Date.now() + 50 * 60_000);
    const fresh = await openSecret(db, vault, after, "refresh_token");
    expect(fresh).not.toBe(old);
    expect(Object.keys(data.shops[shop]!.refreshTokens)).toEqual([fresh]);
    expect((await audit()).at(-1)).toMatchObject({ event_type: "token_refreshed" });
  });

  test("and cannot be renewed expires the account, where its people see it", async () => {
    const id = await connect();
    data.shops[shop]!.refreshTokens = {};
    await testDb.query("update integrations.connected_accounts set token_expires_at = now() where id = $1", [
      id,
    ]);
    await testDb.call("private.refresh_due_tokens");
    await work();
    expect((await findAccount(db, id))!.status).toBe("expired");
    expect((await audit()).slice(-2)).toMatchObject([
      { event_type: "account_expired", success: false },
      { event_type: "token_refresh_failed", success: false },
    ]);
    await testDb.call("private.refresh_due_tokens");
    expect(
      await testDb.query(
        "select count(*)::int as jobs from ops.jobs where payload ->> 'account_id' = $1 and state = 'queued'",
        [id],
      ),
    ).toEqual([{ jobs: 0 }]);
  });
});

test("an Amazon seller is connected by a code of another name", async () => {
  const begun = await post("amazon/start", { workspace_id: ada.workspaceId });
  const url = new URL(oauthStarted.parse(await begun.json()).url);
  expect(url.searchParams.get("application_id")).toBe("amzn1.sp.solution.1");
  const marketplace = { id: "ATVPDKIKX0DER", name: "Amazon.com", countryCode: "US" };
  const participation = { isParticipating: true, hasSuspendedListings: false };
  amazonAnswers.push(
    Response.json({ access_token: "Atza|1", refresh_token: "Atzr|1", expires_in: 3600 }),
    Response.json({ payload: [{ marketplace, participation, storeName: "Atelier" }] }),
  );
  const query = new URLSearchParams({
    state: url.searchParams.get("state")!,
    spapi_oauth_code: "c",
    selling_partner_id: "A1SELLER",
  });
  const answer = await back(`/oauth/amazon/callback?${query}`);
  const account = (await findAccount(db, (await claimed(await codeIn(answer))).id))!;
  expect(account).toMatchObject({ provider: "amazon", external_account_id: "A1SELLER", status: "active" });
  expect(
    await testDb.query(
      `select a.display_name, a.marketplace_id, a.selling_status, b.status as import
        from integrations.connected_accounts a
        join commerce.product_import_batches b on b.connected_account_id = a.id where a.id = $1`,
      [account.id],
    ),
  ).toEqual([
    {
      display_name: "Atelier",
      marketplace_id: marketplace.id,
      selling_status: "active",
      import: "importing",
    },
  ]);
  expect(await openSecret(db, vault, account, "refresh_token")).toBe("Atzr|1");
});

test("a standard provider is asked with PKCE and for a refresh token", async () => {
  const begun = await post("google_drive/start", { workspace_id: ada.workspaceId });
  const { searchParams } = new URL(oauthStarted.parse(await begun.json()).url);
  expect(Object.fromEntries(searchParams)).toMatchObject({
    client_id: "google",
    response_type: "code",
    access_type: "offline",
    code_challenge_method: "S256",
    redirect_uri: "https://api.test/functions/v1/oauth/google_drive/callback",
  });
  expect(searchParams.get("code_challenge")).toHaveLength(43);
});

test("a provider that nobody configured is unknown", async () => {
  expect(await codeOf(await post("dropbox/start", { workspace_id: ada.workspaceId }))).toBe(
    "unknown_provider",
  );
});
