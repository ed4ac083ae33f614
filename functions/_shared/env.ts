// The environment of the functions: read and checked once, in one place. No secret has a default.

import { z } from "zod";
import { addressBase } from "./addresses.ts";
import { oauthClients } from "./oauth-clients.ts";

const text = z.string().min(1);
const url = z.url({ protocol: /^https?$/ }).transform((value) => value.replace(/\/+$/, ""));
const seconds = z.coerce.number().positive();

const list = text
  .transform((value) =>
    value
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== ""),
  )
  .refine((items) => items.length > 0);

const bases = list
  .transform((items) => items.map(addressBase))
  .refine((items): items is URL[] => items.every((item) => item !== null));
const basesOf = (...texts: string[]) => texts.map((text) => new URL(text));

/** JSON {key id: base64 of 32 bytes}. Ids begin with a letter, because JSON keeps the order of no others. */
const encryptionKeys = text.transform((value, context) => {
  const parsed = z.record(z.string().regex(/^[a-z][\w-]{0,99}$/i), z.base64()).safeParse(parseJson(value));
  const keys = Object.entries(parsed.data ?? {}).map(([id, key]) => [id, bytesOf(key)] as const);
  if (keys.length > 0 && keys.every(([, bytes]) => bytes.length === 32)) return Object.fromEntries(keys);
  context.addIssue({ code: "custom", message: "not keys of 32 bytes" });
  return z.NEVER;
});

/** Every variable; docs/reference/environment.md is made from this. */
export const variables = {
  /** The project's address. */
  SUPABASE_URL: url,
  /** Connection string of the database; the functions take the role of the service. */
  SUPABASE_DB_URL: text,
  /** The key that clients bring. */
  SUPABASE_PUBLISHABLE_KEY: text,
  /** The key of the service, which starts the worker. */
  SUPABASE_SECRET_KEY: text,
  /** Every secret key that is valid now, the one to use first; several during a rotation. */
  SUPABASE_SECRET_KEYS: z.array(text).min(1),
  /** Public base of the functions: `<SUPABASE_URL>/functions/v1`. */
  FUNCTIONS_URL: url,
  /** Stripe's API. */
  STRIPE_API_URL: url.default("https://api.stripe.com"),
  /** Stripe's secret key. */
  STRIPE_SECRET_KEY: text,
  /** Comma separated; several may be live while an endpoint's secret is rolled. */
  STRIPE_WEBHOOK_SECRETS: list,
  /** Senders of webhooks without these are not there; each list is comma separated, several during a rotation. */
  RAZORPAY_WEBHOOK_SECRETS: list.optional(),
  /** Razorpay's API. */
  RAZORPAY_API_URL: url.default("https://api.razorpay.com"),
  /** Without these two nothing can be paid through Razorpay. */
  RAZORPAY_KEY_ID: text.optional(),
  /** The secret of that key. */
  RAZORPAY_KEY_SECRET: text.optional(),
  /** Answers {"rates": {"INR": 83.2, ...}} for the dollar; without it only prices in a package's own currency. */
  CURRENCY_RATES_URL: url.optional(),
  /** Who stands at the head of invoices. */
  INVOICE_ISSUER: text.optional(),
  /** Client secrets of the app. */
  SHOPIFY_WEBHOOK_SECRETS: list.optional(),
  /** Address of a shop, with {shop} for its domain. */
  SHOPIFY_SHOP_URL: text.refine((value) => value.includes("{shop}")).default("https://{shop}"),
  /** Our app at Shopify; without it, no shop can be connected. */
  SHOPIFY_CLIENT_ID: text.optional(),
  /** The secret of that app. */
  SHOPIFY_CLIENT_SECRET: text.optional(),
  /** Where shops keep the pictures of their products; from nowhere else is one copied. */
  SHOPIFY_FILES_URLS: bases.default(basesOf("https://cdn.shopify.com")),
  /** Page for merchants who install our app and have no account yet. */
  SHOPIFY_INSTALL_URL: url.optional(),
  /** JSON {provider: {client_id, client_secret, ...}}: where else accounts can be connected. */
  OAUTH_CLIENTS: text
    .transform((value) => parseJson(value))
    .pipe(oauthClients)
    .default({}),
  /** App secrets that sign Meta's webhooks: Instagram, Messenger, WhatsApp. */
  META_APP_SECRETS: list.optional(),
  /** What Meta is told to show when it asks whether the webhook address is ours. */
  META_VERIFY_TOKEN: text.optional(),
  /** Signing secrets of Replicate's webhooks. */
  REPLICATE_WEBHOOK_SECRETS: list.optional(),
  /** Signing secrets of Resend's webhooks. */
  RESEND_WEBHOOK_SECRETS: list.optional(),
  /** In place of Amazon's own hosts, which are known by region. */
  AMAZON_API_URL: url.optional(),
  /** Resend, for mail of our own: without the key and the sender, such mail waits. */
  RESEND_API_URL: url.default("https://api.resend.com"),
  /** The key of Resend. */
  RESEND_API_KEY: text.optional(),
  /** `Name <address>` of a domain that Resend knows. */
  MAIL_FROM: text.optional(),
  /** Local stack only: mail servers may have private addresses, any port and no encryption. */
  MAIL_ALLOW_LOCAL: z.stringbool().default(false),
  /** Keys of secrets that the database keeps; the first encrypts, all decrypt. */
  ENCRYPTION_KEYS: encryptionKeys.optional(),
  /** fal's queue. */
  FAL_QUEUE_URL: url.default("https://queue.fal.run"),
  /** The public keys by which fal signs its webhooks. */
  FAL_JWKS_URL: url.default("https://rest.fal.ai/.well-known/jwks.json"),
  /** The key of fal. */
  FAL_KEY: text,
  /** Where fal keeps results; a picture is fetched from nowhere else. Source: https://docs.fal.ai, "fal CDN". */
  FAL_FILES_URLS: bases.default(
    basesOf("https://fal.media", "https://*.fal.media", "https://storage.googleapis.com/falserverless"),
  ),
  /** Our accounts at fal. It signs the webhooks of all its customers with one key; these are ours. */
  FAL_USER_IDS: list.optional(),
  /** Gemini's API. */
  GEMINI_API_URL: url.default("https://generativelanguage.googleapis.com"),
  /** Without it nothing that needs a model of Gemini's can be asked for. */
  GEMINI_API_KEY: text.optional(),
  /** The model that the assistant speaks by. */
  GEMINI_TEXT_MODEL: text.default("gemini-3.1-flash-lite"),
  /** The model that looks at pictures. */
  GEMINI_VISION_MODEL: text.default("gemini-3.8-flash"),
  /** Embeddings come from an API that speaks OpenAI's where these two are set, else from Gemini. */
  EMBEDDINGS_API_URL: url.optional(),
  /** The key of that API. */
  EMBEDDINGS_API_KEY: text.optional(),
  /** The model that embeddings are made by; texts of two models are not compared. */
  EMBEDDING_MODEL: text.default("gemini-embedding-001"),
  /** Least pause between two pages of a website that is read, in seconds. */
  CRAWL_PAUSE_SECONDS: seconds.default(1),
  /** Replicate's API. */
  REPLICATE_API_URL: url.default("https://api.replicate.com"),
  /** Without it nothing is made at Replicate, and its row of studio.providers must stay disabled. */
  REPLICATE_API_TOKEN: text.optional(),
  /** Where Replicate keeps results. Source: https://replicate.com/docs/topics/predictions/output-files. */
  REPLICATE_FILES_URLS: bases.default(
    basesOf(
      "https://replicate.delivery",
      "https://*.replicate.delivery",
      "https://api.replicate.com/v1/files",
    ),
  ),
  /** Origins of the client apps; when set, a checkout returns to no other. */
  APP_ORIGINS: z
    .pipe(list, z.array(z.url({ protocol: /^https?$/ }).transform((item) => new URL(item).origin)))
    .optional(),
  /** Local stack only: outbound webhooks may go to private addresses and over plain http. */
  WEBHOOKS_ALLOW_LOCAL: z.stringbool().default(false),
  /** How long a claimed job may go without a sign of its worker. */
  WORKER_LEASE_SECONDS: seconds.default(60),
  /** How long one invocation claims jobs; the platform ends it at 150 seconds. */
  WORKER_BUDGET_SECONDS: seconds.max(120).default(100),
} satisfies Record<string, z.ZodType>;

type Variables = typeof variables;

/** What the worker needs: everything that a job of any kind may use. */
export const workerVariables = [
  "SUPABASE_URL",
  "SUPABASE_DB_URL",
  "SUPABASE_SECRET_KEY",
  "SUPABASE_SECRET_KEYS",
  "FUNCTIONS_URL",
  "STRIPE_API_URL",
  "STRIPE_SECRET_KEY",
  "RAZORPAY_API_URL",
  "RAZORPAY_KEY_ID",
  "RAZORPAY_KEY_SECRET",
  "INVOICE_ISSUER",
  "FAL_QUEUE_URL",
  "FAL_KEY",
  "FAL_FILES_URLS",
  "REPLICATE_API_URL",
  "REPLICATE_API_TOKEN",
  "REPLICATE_FILES_URLS",
  "ENCRYPTION_KEYS",
  "SHOPIFY_SHOP_URL",
  "SHOPIFY_CLIENT_ID",
  "SHOPIFY_CLIENT_SECRET",
  "SHOPIFY_FILES_URLS",
  "OAUTH_CLIENTS",
  "WEBHOOKS_ALLOW_LOCAL",
  "GEMINI_API_URL",
  "GEMINI_API_KEY",
  "GEMINI_TEXT_MODEL",
  "GEMINI_VISION_MODEL",
  "EMBEDDINGS_API_URL",
  "EMBEDDINGS_API_KEY",
  "EMBEDDING_MODEL",
  "CRAWL_PAUSE_SECONDS",
  "AMAZON_API_URL",
  "RESEND_API_URL",
  "RESEND_API_KEY",
  "MAIL_FROM",
  "MAIL_ALLOW_LOCAL",
  "WORKER_LEASE_SECONDS",
  "WORKER_BUDGET_SECONDS",
] as const satisfies (keyof Variables)[];

export type Env<K extends keyof Variables> = { [P in K]: z.output<Variables[P]> };
type Source = Record<string, string | undefined>;

/**
 * Reads the named variables. The platform's own names (SUPABASE_SERVICE_ROLE_KEY, SUPABASE_ANON_KEY and the
 * JSON lists SUPABASE_SECRET_KEYS, SUPABASE_PUBLISHABLE_KEYS) are accepted for the keys.
 * Throws one error that names everything missing or wrong, without values.
 */
export function readEnv<K extends keyof Variables>(
  names: readonly K[],
  source: Source = platformEnv(),
): Env<K> {
  const given = withPlatformNames(source);
  const env: Record<string, unknown> = {};
  const faults: string[] = [];
  for (const name of names) {
    const parsed = variables[name].safeParse(given[name]);
    if (parsed.success) env[name] = parsed.data;
    else faults.push(given[name] === undefined ? `${name} is missing` : `${name} is not valid`);
  }
  if (faults.length > 0) throw new Error(`The environment is incomplete: ${faults.join(", ")}.`);
  return env as Env<K>;
}

function platformEnv(): Source {
  const { Deno } = globalThis as unknown as { Deno: { env: { toObject(): Source } } };
  return Deno.env.toObject();
}

/** An empty variable counts as missing; each key takes the first name that is set. */
function withPlatformNames(source: Source): Record<string, unknown> {
  const set = Object.fromEntries(Object.entries(source).filter(([, value]) => value?.trim()));
  const secrets = [
    set.SUPABASE_SECRET_KEY,
    ...keysOf(set.SUPABASE_SECRET_KEYS),
    set.SUPABASE_SERVICE_ROLE_KEY,
  ];
  const secretKeys = [...new Set(secrets.filter((key) => key !== undefined))];
  const publishable = keysOf(set.SUPABASE_PUBLISHABLE_KEYS);
  return {
    ...set,
    SUPABASE_SECRET_KEY: secretKeys[0],
    SUPABASE_SECRET_KEYS: secretKeys.length > 0 ? secretKeys : undefined,
    SUPABASE_PUBLISHABLE_KEY: set.SUPABASE_PUBLISHABLE_KEY ?? publishable[0] ?? set.SUPABASE_ANON_KEY,
    FUNCTIONS_URL:
      set.FUNCTIONS_URL ?? (set.SUPABASE_URL && `${set.SUPABASE_URL.replace(/\/+$/, "")}/functions/v1`),
  };
}

/** The keys of a JSON object {name: key}, the one named default first. */
function keysOf(json: string | undefined): string[] {
  if (!json) return [];
  const parsed = z.record(z.string(), z.string()).safeParse(parseJson(json));
  if (!parsed.success) return [];
  const { default: first, ...others } = parsed.data;
  return [...(first ? [first] : []), ...Object.values(others)];
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
