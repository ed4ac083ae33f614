import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { amazonHost } from "../../functions/_shared/amazon.ts";
import { configuredOAuth } from "../../functions/oauth/providers/index.ts";
import { startAmazon } from "../../supabase/local/standins/amazon/start.ts";
import { grant, marketplace, sellerOf } from "../../supabase/local/standins/amazon/state.ts";
import { expectError } from "../helpers/errors.ts";
import { account, ada, batches, connect, request, testDb, work } from "./amazon-stage.ts";

describe("an import", () => {
  test("is asked for by members, once at a time", async () => {
    await connect();
    const [first, second] = await Promise.all([request(), request("full")]);
    expect((first as { id: string }).id).toBe((second as { id: string }).id);
    expect(await batches()).toHaveLength(1);
    const stranger = await testDb.createUser();
    await expectError(request("full", stranger), "unknown_account", "PT404");
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [ada.workspaceId, stranger.id],
    );
    await expectError(request("full", stranger), "role_too_low");
    await expectError(request("half"), "invalid_argument");
    await expectError(testDb.anon.call("commerce.request_amazon_import", { account_id: account }), "42501");
  });

  test("is cancelled like that of a file", async () => {
    await connect();
    const [batch] = await batches();
    await testDb.user(ada.id).call("commerce.cancel_import", { batch_id: batch?.id });
    await work();
    expect((await batches())[0]).toMatchObject({ status: "cancelled" });
  });

  test("that was never finished begins anew by itself six hours after the seller connected, of all", async () => {
    await connect();
    const [batch] = await batches();
    await testDb.user(ada.id).call("commerce.cancel_import", { batch_id: batch?.id });
    await testDb.call("private.import_due_amazon");
    expect(await batches()).toHaveLength(1);
    await testDb.advanceClock("7 hours");
    await testDb.call("private.import_due_amazon");
    const [, next] = await batches();
    expect(
      await testDb.query("select payload ->> 'since' as since from ops.jobs where id = $1", [next!.job_id]),
    ).toEqual([{ since: null }]);
    await testDb.setClock(null);
  });

  test("of changes begins by itself six hours later", async () => {
    await connect();
    await work();
    await testDb.call("private.import_due_amazon");
    expect(await batches()).toHaveLength(1);
    await testDb.advanceClock("7 hours");
    await testDb.call("private.import_due_amazon");
    await testDb.call("private.import_due_amazon");
    expect((await batches()).filter(({ status }) => status === "importing")).toHaveLength(1);
    await testDb.setClock(null);
  });
});

test("a region has its own host", () => {
  expect(amazonHost("eu-west-1")).toBe("https://sellingpartnerapi-eu.amazon.com");
  expect(() => amazonHost("mars")).toThrow();
});

test("who sells where is read when a seller is connected; one who sells nowhere is refused", async () => {
  const started = startAmazon({ path: join(mkdtempSync(join(tmpdir(), "amazon-")), "amazon.json") });
  const clients = JSON.parse(started.env("https://amazon.test").OAUTH_CLIENTS!);
  const provider = configuredOAuth(clients, undefined, async (input, init) => {
    const url = new URL(String(input));
    return started.app.request(`${url.pathname}${url.search}`, init);
  }).get("amazon")!;
  const query = new URLSearchParams({ selling_partner_id: "A1" });
  const { access_token } = grant(started.data, sellerOf(started.data, "A1").id);
  const tokens = { accessToken: access_token, scopes: [] };
  expect(await provider.identify(tokens, { account: null, query })).toMatchObject({
    external_account_id: "A1",
    display_name: "Store A1",
    marketplace_id: marketplace,
    region: "us-east-1",
    selling_status: "active",
    provider_data: { marketplaces: [{ id: marketplace, countryCode: "US" }] },
  });
  started.data.sellers.A1!.marketplaces = [];
  await expect(provider.identify(tokens, { account: null, query })).rejects.toThrow("no marketplace");
  await started.close();
});
