import { createDatabase } from "../_shared/db.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { createApp } from "./app.ts";
import { falWebhooks } from "./providers/fal.ts";
import { createKeySet } from "./providers/jwks.ts";
import { stripeWebhooks } from "./providers/stripe.ts";

const env = readEnv(["SUPABASE_DB_URL", "STRIPE_WEBHOOK_SECRETS", "FAL_JWKS_URL"]);
const log = createLog({ function: "webhooks" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "webhooks",
  most: 10,
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const providers = [
  stripeWebhooks(env.STRIPE_WEBHOOK_SECRETS),
  falWebhooks(createKeySet({ url: env.FAL_JWKS_URL })),
];

Deno.serve(createApp({ db, providers, log }).fetch);
