// What the tests of Amazon work with: a seller at the stand-in, and the worker that reads its listings.

import { randomUUID } from "node:crypto";
import { beforeEach } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { connectAccount } from "../../functions/_shared/sql/oauth.ts";
import { sealTokens } from "../../functions/oauth/tokens.ts";
import { importAmazon } from "../../functions/worker/handlers/amazon-import.ts";
import { createAmazonStandIn } from "../../supabase/local/standins/amazon/app.ts";
import { emptyAmazonData, grant, marketplace, sellerOf } from "../../supabase/local/standins/amazon/state.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createTestDatabase } from "../helpers/database.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const vault = createVault({ k1: new Uint8Array(32).fill(3) });
const { log } = keptLog();
export const data = emptyAmazonData();
export const control = new Control("answer");
/** Of the stand-in's usage plans; a pause moves it on. */
export let now = Date.now();
const standIn = createAmazonStandIn({ data, changed: () => {}, control, now: () => now });
export const asked: URL[] = [];
/** Hears of each call before it is answered. */
export const hears: { call?: ((url: URL) => void) | undefined } = {};
const fetcher: typeof fetch = async (input, init) => {
  const url = new URL(String(input));
  asked.push(url);
  hears.call?.(url);
  return standIn.request(`${url.pathname}${url.search}`, init);
};
export const pauses: number[] = [];
const handlers = {
  "commerce.amazon_import": importAmazon({
    vault,
    amazonUrl: "https://spapi.test",
    fetch: fetcher,
    amazonPause: async (ms) => {
      pauses.push(ms);
      now += ms;
    },
  }),
};

export async function work(): Promise<void> {
  now += 10_000;
  await workOnce({ db, handlers, log });
}

/** Lets what waits go on, as time would. */
export async function goOn(): Promise<void> {
  now += 60_000;
  await testDb.query("update ops.live_jobs set run_at = now() where state in ('waiting', 'scheduled')");
  await testDb.call("ops.tick");
  await work();
}
export let ada: TestUser;
export let seller: ReturnType<typeof sellerOf>;
export let account: string;
beforeEach(async () => {
  control.reset();
  data.forbidden = [];
  asked.length = 0;
  hears.call = undefined;
  pauses.length = 0;
  now += 3_600_000;
  ada = await testDb.createUser();
  seller = sellerOf(data, `A${randomUUID().slice(0, 12).toUpperCase()}`);
});

export async function connect(): Promise<string> {
  const granted = grant(data, seller.id);
  data.tokens[granted.access_token]!.until = Number.POSITIVE_INFINITY;
  const key = { workspace_id: ada.workspaceId, provider: "amazon", external_account_id: seller.id };
  const secrets = await sealTokens(vault, key, { accessToken: granted.access_token, scopes: [] }, Date.now());
  const row = { ...key, marketplace_id: marketplace, region: "us-east-1", display_name: seller.storeName };
  const { id } = await connectAccount(db, { workspaceId: ada.workspaceId, userId: ada.id }, row, secrets);
  account = id;
  return id;
}

export const batches = () =>
  testDb.query(
    "select * from commerce.product_import_batches where workspace_id = $1 order by created_at, id",
    [ada.workspaceId],
  );

export const request = (kind = "changes", user = ada) =>
  testDb.user(user.id).call("commerce.request_amazon_import", { account_id: account, kind });
