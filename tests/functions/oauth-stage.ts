// What the tests of OAuth work with: the function, Shopify and Amazon without a network, and a browser.

import { randomUUID } from "node:crypto";
import { beforeEach } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { createApp } from "../../functions/oauth/app.ts";
import { configuredOAuth } from "../../functions/oauth/providers/index.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createShopifyStandIn } from "../../supabase/local/standins/shopify/app.ts";
import { emptyShopifyData } from "../../supabase/local/standins/shopify/state.ts";
import { oauthGranted, oauthStarted } from "../../types/contracts-oauth.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const vault = createVault({ k1: new Uint8Array(32).fill(1) });
export const { log } = keptLog();
export const data = emptyShopifyData();
const control = new Control("answer");
const delivery = new Delivery({ control, pending: data.pending, changed: () => {}, sign: () => ({}) });
const shopify = createShopifyStandIn({ data, changed: () => {}, control, delivery });
/** Every call to Shopify ends at the stand-in; Amazon answers by itself. */
export const amazonAnswers: Response[] = [];

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

export const providers = configuredOAuth(
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
export let now = Date.now();
export const passTime = (ms: number) => {
  now += ms;
};
export const deps: Parameters<typeof createApp>[0] = {
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
export let shop: string;
export let ada: { id: string; workspaceId: string };
beforeEach(async () => {
  now = Date.now();
  shop = `shop-${randomUUID().slice(0, 8)}.myshopify.com`;
  ada = await testDb.createUser();
});

export const post = (path: string, body: object, user = ada.id) =>
  app.request(`/oauth/${path}`, {
    method: "POST",
    headers: { authorization: user },
    body: JSON.stringify(body),
  });

export async function start(more: object = {}, user = ada.id): Promise<string> {
  const answer = await post("shopify/start", { workspace_id: ada.workspaceId, account: shop, ...more }, user);
  return oauthStarted.parse(await answer.json()).url;
}

/** Plays the browser: opens an address at Shopify, and gives where it is sent. */
export async function visit(url: string): Promise<string> {
  const answer = await fetcher(url);
  return answer.headers.get("location")!;
}

export const back = (url: string, cookie?: string) =>
  app.request(url.replace("https://api.test/functions/v1", ""), {
    headers: {
      "x-forwarded-for": "203.0.113.9, 10.0.0.1",
      "user-agent": "test",
      ...(cookie !== undefined && { cookie }),
    },
  });

export const audit = () =>
  testDb.query(
    `select event_type, success, host(ip_address) as ip, error_message from integrations.oauth_audit_log
      where workspace_id = $1 order by created_at, event_type`,
    [ada.workspaceId],
  );
export const codeOf = async (answer: Response) =>
  ((await answer.json()) as { error: { code: string } }).error.code;
export const claimed = (code: string, user = ada.id): Promise<{ id: string; status: string }> =>
  testDb.user(user).call("integrations.claim_connection", { code });
export const codeIn = async (answer: Response) => oauthGranted.parse(await answer.json()).connection;
export async function connect(): Promise<string> {
  return (await claimed(await codeIn(await back(await visit(await start()))))).id;
}
