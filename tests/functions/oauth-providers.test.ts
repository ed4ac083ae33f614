import { expect, test } from "vitest";
import { findAccount, openSecret } from "../../functions/_shared/sql/accounts.ts";
import { oauthStarted } from "../../types/contracts-oauth.ts";
import { ada, amazonAnswers, back, claimed, codeIn, codeOf, db, post, testDb, vault } from "./oauth-stage.ts";

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
