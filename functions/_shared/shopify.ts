// Shopify's Admin API, GraphQL. Calls are paid in points that come back with time; a call that is refused for want of
// points is made again when there are enough. Sources: https://shopify.dev/docs/api/usage/limits,
// https://shopify.dev/docs/api/admin-graphql.

import { z } from "zod";

export const shopifyApiVersion = "2026-10";

/** The shape of a shop's domain. Source: @shopify/shopify-api 15, lib/utils/shop-validator. */
export const shopDomain = /^[a-z0-9][a-z0-9_-]*\.(myshopify\.com|shopify\.com|myshopify\.io|shop\.dev)$/;

export interface ShopifyConfig {
  /** Address of a shop with `{shop}` for its domain: https://{shop}. */
  shopUrl: string;
  clientId: string;
  clientSecret: string;
}

interface ShopifyEnv {
  SHOPIFY_SHOP_URL: string;
  SHOPIFY_CLIENT_ID?: string | undefined;
  SHOPIFY_CLIENT_SECRET?: string | undefined;
}

/** Undefined where the environment names no app of ours at Shopify. */
export function shopifyConfig(env: ShopifyEnv): ShopifyConfig | undefined {
  const { SHOPIFY_SHOP_URL: shopUrl, SHOPIFY_CLIENT_ID: clientId, SHOPIFY_CLIENT_SECRET: clientSecret } = env;
  return clientId && clientSecret ? { shopUrl, clientId, clientSecret } : undefined;
}

export type ShopifyFault =
  | "unauthorized"
  | "unavailable"
  | "throttled"
  | "refused"
  | "shop_closed"
  | "unexpected_answer";

export class ShopifyError extends Error {
  override readonly name = "ShopifyError";
  readonly fault: ShopifyFault;
  /** Seconds after which to try again, where Shopify said. */
  readonly retryIn: number | undefined;

  constructor(fault: ShopifyFault, message: string, more: { retryIn?: number; cause?: unknown } = {}) {
    super(message, { cause: more.cause });
    this.fault = fault;
    this.retryIn = more.retryIn;
  }
}

export interface ShopifyAnswer<T> {
  data: T;
  /** When the shop answered, by its own clock, in whole seconds; the caller's clock where it did not say. */
  at: Date;
}

export interface ShopifyClient {
  /** Runs a query. Errors: ShopifyError; the signal's reason. */
  query<S extends z.ZodType>(
    query: string,
    variables: Record<string, unknown>,
    shape: S,
  ): Promise<ShopifyAnswer<z.output<S>>>;
}

export interface ClientOptions {
  shopUrl: string;
  shop: string;
  accessToken: string;
  signal?: AbortSignal;
  /** How long points may be waited for within a call; longer waits are the caller's. */
  longestWaitMs?: number;
  fetch?: typeof fetch;
  now?: () => number;
}

const timeoutMs = 30_000;
const tries = 4;

const envelope = z.looseObject({
  data: z.unknown().optional(),
  errors: z
    .union([
      z.string(),
      z.array(
        z.looseObject({
          message: z.string(),
          extensions: z.looseObject({ code: z.string().nullish() }).nullish(),
        }),
      ),
    ])
    .nullish(),
  extensions: z
    .looseObject({
      cost: z
        .looseObject({
          requestedQueryCost: z.number(),
          throttleStatus: z.looseObject({ currentlyAvailable: z.number(), restoreRate: z.number() }),
        })
        .nullish(),
    })
    .nullish(),
});
type Envelope = z.infer<typeof envelope>;

export function createShopifyClient(options: ClientOptions): ShopifyClient {
  const { shopUrl, shop, accessToken, longestWaitMs = 20_000, now = Date.now } = options;
  const url = `${shopUrl.replace("{shop}", shop)}/admin/api/${shopifyApiVersion}/graphql.json`;
  const fetcher = options.fetch ?? fetch;

  return {
    query: async (query, variables, shape) => {
      for (let attempt = 1; ; attempt++) {
        const { body, at } = await send(JSON.stringify({ query, variables }));
        const wait = throttledFor(body);
        if (wait === null) return { data: parse(body, shape), at };
        if (wait > longestWaitMs || attempt === tries) {
          throw new ShopifyError("throttled", "The shop's API limit is used up.", {
            retryIn: Math.ceil(wait / 1000),
          });
        }
        await sleep(wait, options.signal);
      }
    },
  };

  async function send(body: string): Promise<{ body: Envelope; at: Date }> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    const headers = { "content-type": "application/json", "x-shopify-access-token": accessToken };
    let response: Response;
    let text: string;
    try {
      response = await fetcher(url, { method: "POST", headers, body, signal });
      text = await response.text();
    } catch (error) {
      options.signal?.throwIfAborted();
      throw new ShopifyError("unavailable", "The shop cannot be reached.", { cause: error });
    }
    if (!response.ok) throw refusal(response);
    const parsed = envelope.safeParse(parseJson(text));
    if (!parsed.success)
      throw new ShopifyError("unexpected_answer", "The shop's answer is no GraphQL answer.");
    const date = Date.parse(response.headers.get("date") ?? "");
    return { body: parsed.data, at: new Date(Number.isNaN(date) ? Math.floor(now() / 1000) * 1000 : date) };
  }
}

/** How many milliseconds until there are points enough; null when the call was not refused for want of them. */
function throttledFor({ errors, extensions }: Envelope): number | null {
  if (!Array.isArray(errors) || !errors.some((error) => error.extensions?.code === "THROTTLED")) return null;
  const cost = extensions?.cost;
  if (!cost) return 2_000;
  const missing = cost.requestedQueryCost - cost.throttleStatus.currentlyAvailable;
  return Math.max(250, Math.ceil((missing / Math.max(1, cost.throttleStatus.restoreRate)) * 1000));
}

function parse<S extends z.ZodType>({ data, errors }: Envelope, shape: S): z.output<S> {
  if (errors && errors.length > 0) {
    const text = typeof errors === "string" ? errors : errors.map(({ message }) => message).join(" ");
    throw new ShopifyError("refused", `The shop refused the query: ${text}`);
  }
  const parsed = shape.safeParse(data);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path }) => path.join(".")).join(", ");
  throw new ShopifyError("unexpected_answer", `The shop's answer is not of the shape we know: ${fields}.`);
}

function refusal(response: Response): ShopifyError {
  const retryAfter = Number(response.headers.get("retry-after"));
  const retryIn = Number.isFinite(retryAfter) && retryAfter > 0 ? Math.ceil(retryAfter) : undefined;
  const { status } = response;
  if (status === 401 || status === 403)
    return new ShopifyError("unauthorized", "The shop does not take our token.");
  // 402 frozen, 404 gone, 423 locked. Source: https://shopify.dev/docs/api/usage/response-codes.
  if (status === 402 || status === 404 || status === 423) {
    return new ShopifyError("shop_closed", "The shop is closed.");
  }
  const more = retryIn === undefined ? {} : { retryIn };
  if (status === 429)
    return new ShopifyError("throttled", "The shop takes no more calls at the moment.", more);
  return new ShopifyError("unavailable", `The shop answered with status ${status}.`, more);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
