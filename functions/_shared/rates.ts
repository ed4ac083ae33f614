// Exchange rates, fetched when they are needed and kept for an hour.

import { z } from "zod";
import type { Database } from "./db.ts";
import type { Log } from "./log.ts";
import { hasRate, storeRates } from "./sql/money.ts";

const answer = z.looseObject({
  base_code: z.literal("USD").optional(),
  rates: z.record(z.string(), z.number().positive()),
});
const timeoutMs = 5_000;

export type Rates = (from: string, to: string) => Promise<void>;

/**
 * Sees to it that there is a fresh rate between two currencies. Without an address, or when it does not answer, the
 * database says that there is none (no_currency_rate).
 */
export function currencyRates(
  db: Database,
  url: string | undefined,
  log: Log,
  fetcher: typeof fetch = fetch,
): Rates {
  return async (from, to) => {
    if (!url || from === to || (await hasRate(db, from, to))) return;
    try {
      const response = await fetcher(url, { signal: AbortSignal.timeout(timeoutMs) });
      if (!response.ok) throw new Error(`The rates were answered with ${response.status}.`);
      await storeRates(db, "USD", answer.parse(await response.json()).rates);
    } catch (error) {
      log.warn("no rates could be fetched", { error });
    }
  };
}
