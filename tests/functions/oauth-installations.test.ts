import { describe, expect, test } from "vitest";
import { findAccount, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { signedQuery } from "../../supabase/local/standins/shopify/oauth.ts";
import { oauthAccount } from "../../types/contracts-oauth.ts";
import {
  ada,
  back,
  codeOf,
  connect,
  data,
  db,
  now,
  post,
  shop,
  testDb,
  vault,
  visit,
} from "./oauth-stage.ts";

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

  test("ends when the shop is connected otherwise, so that its older token comes over no newer one", async () => {
    const installation = (await install()).searchParams.get("installation")!;
    const id = await connect();
    const token = await openSecret(db, vault, (await findAccount(db, id))!, "access_token");
    expect(await codeOf(await claim(installation))).toBe("unknown_installation");
    expect(await openSecret(db, vault, (await findAccount(db, id))!, "access_token")).toBe(token);
    expect(
      await testDb.query(
        "select status, ciphertext, linked_workspace_id from integrations.pending_installations where external_account_id = $1",
        [shop],
      ),
    ).toEqual([{ status: "claimed", ciphertext: null, linked_workspace_id: ada.workspaceId }]);
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
