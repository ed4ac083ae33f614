import Stripe from "stripe";

/** Stripe's client at the given address; the fetch can be replaced by tests. */
export function createStripe(secretKey: string, apiUrl: string, fetcher: typeof fetch = fetch): Stripe {
  const { protocol, hostname, port } = new URL(apiUrl);
  return new Stripe(secretKey, {
    httpClient: Stripe.createFetchHttpClient(fetcher),
    protocol: protocol === "http:" ? "http" : "https",
    host: hostname,
    port: port || (protocol === "http:" ? 80 : 443),
    timeout: 20_000,
    maxNetworkRetries: 2,
    telemetry: false,
    appInfo: { name: "backlot" },
  });
}
