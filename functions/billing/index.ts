import { createDatabase } from "../_shared/db.ts";
import { readEnv } from "../_shared/env.ts";
import { createLog } from "../_shared/log.ts";
import { currencyRates } from "../_shared/rates.ts";
import { razorpayOf } from "../_shared/razorpay.ts";
import { createStripe } from "../_shared/stripe.ts";
import { createApp } from "./app.ts";
import { createBackend } from "./backend.ts";

const supabase = ["SUPABASE_URL", "SUPABASE_DB_URL", "SUPABASE_PUBLISHABLE_KEY"] as const;
const paying = ["RAZORPAY_API_URL", "RAZORPAY_KEY_ID", "RAZORPAY_KEY_SECRET", "CURRENCY_RATES_URL"] as const;
const env = readEnv([...supabase, "STRIPE_API_URL", "STRIPE_SECRET_KEY", "APP_ORIGINS", ...paying]);
const log = createLog({ function: "billing" });
const db = createDatabase({
  url: env.SUPABASE_DB_URL,
  name: "billing",
  most: 3,
  onLost: (error) => log.warn("a database connection was lost", { error }),
});
const backend = createBackend(env.SUPABASE_URL, env.SUPABASE_PUBLISHABLE_KEY);
const stripe = createStripe(env.STRIPE_SECRET_KEY, env.STRIPE_API_URL);
const rates = currencyRates(db, env.CURRENCY_RATES_URL, log);

Deno.serve(
  createApp({ backend, db, stripe, razorpay: razorpayOf(env), rates, log, appOrigins: env.APP_ORIGINS })
    .fetch,
);
