import { describe, expect, test } from "vitest";
import { findAccount, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { createApp } from "../../functions/oauth/app.ts";
import { signedQuery } from "../../supabase/local/standins/shopify/oauth.ts";
import { expectError } from "../helpers/errors.ts";
import {
  ada,
  audit,
  back,
  claimed,
  codeIn,
  codeOf,
  connect,
  data,
  db,
  deps,
  passTime,
  post,
  shop,
  start,
  testDb,
  vault,
  visit,
} from "./oauth-stage.ts";

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
    passTime(91_000);
    expect((await back(url.toString())).status).toBe(401);
    passTime(-91_000);
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
    const { id: bob, workspaceId } = await testDb.createUser();
    const code = await codeIn(await back(await visit(await start({ workspace_id: workspaceId }, bob))));
    await expectError(claimed(code, bob), "account_taken", "PT409");
    const [pending] = await testDb.query(
      "select claimed_at from integrations.pending_connections where workspace_id = $1",
      [workspaceId],
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
