import { createDatabase } from "../_shared/db.ts";
import { createVault } from "../_shared/encryption.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { deletionStatus, receiveDataRequest } from "../_shared/sql/data-requests.ts";
import { createApp } from "./app.ts";
import type { DataRequests } from "./data-requests.ts";
import { createInbox } from "./inbox.ts";
import { configuredProviders, providerVariables, subscribedProviders } from "./providers/index.ts";
import { createSubscriptions } from "./subscriptions.ts";

const env = readEnv([
  "SUPABASE_DB_URL",
  "FUNCTIONS_URL",
  "ENCRYPTION_KEYS",
  "OAUTH_CLIENTS",
  ...providerVariables,
]);
const log = createLog({ function: "webhooks" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "webhooks",
  most: 10,
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const providers = configuredProviders(env);
// Secrets of subscriptions are encrypted: without keys there are none.
const subscribed = env.ENCRYPTION_KEYS && {
  providers: subscribedProviders,
  subscriptions: createSubscriptions(db, createVault(env.ENCRYPTION_KEYS)),
};

const { instagram, facebook } = env.OAUTH_CLIENTS;
const dataRequests: DataRequests = {
  apps: {
    ...(instagram && { instagram: instagram.client_secret }),
    ...(facebook && { facebook: facebook.client_secret }),
  },
  functionsUrl: env.FUNCTIONS_URL,
  receive: (app, kind, request) => receiveDataRequest(db, app, kind, request),
  status: (code) => deletionStatus(db, code),
};

Deno.serve(createApp({ inbox: createInbox(db), providers, subscribed, dataRequests, log }).fetch);
