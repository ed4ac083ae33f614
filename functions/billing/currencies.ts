import { isIP } from "node:net";
import { type Context, Hono } from "hono";
import {
  type CurrencyAnswer,
  currencyAnswer,
  type PricesAnswer,
  pricesAnswer,
  pricesQuery,
} from "../../types/contracts-payments.ts";
import { parseBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import type { Rates } from "../_shared/rates.ts";
import { countryOf } from "../_shared/sql/money.ts";
import type { Backend } from "./backend.ts";
import { authorizationOf } from "./requests.ts";

/**
 * GET /currency: in which currency the caller pays, by choice or by the country of the request. GET
 * /prices?currency=INR: the packages' prices in it. Errors: those of the SQL functions behind them, invalid_argument
 * (400).
 */
export function currencyRoutes({
  backend,
  db,
  rates,
}: {
  backend: Backend;
  db: Database;
  rates?: Rates | undefined;
}): Hono {
  const app = new Hono();
  app.get("/currency", async (c) => {
    const country = await countryOfRequest(db, c);
    const found = await backend.rpc<object | object[]>(authorizationOf(c), "preferred_currency", {
      ...(country && { country }),
    });
    const [row] = [found].flat();
    return c.json(currencyAnswer.parse({ ...row, country }) satisfies CurrencyAnswer);
  });
  app.get("/prices", async (c) => {
    const { currency } = parseBody(pricesQuery, JSON.stringify(c.req.query()));
    await rates?.("USD", currency);
    const prices = await backend.rpc<unknown>(authorizationOf(c), "credit_package_prices", { currency });
    return c.json(pricesAnswer.parse({ prices }) satisfies PricesAnswer);
  });
  return app;
}

/** By the header of the network in front of us, else by what is cached of the address. */
async function countryOfRequest(db: Database, c: Context): Promise<string | null> {
  const header = c.req.header("cf-ipcountry")?.toUpperCase();
  // XX: unknown, T1: Tor. Source: Cloudflare, IP geolocation.
  if (header && /^[A-Z]{2}$/.test(header) && header !== "XX") return header;
  const ip = c.req.header("x-forwarded-for")?.split(",")[0]?.trim() ?? "";
  return isIP(ip) ? countryOf(db, ip) : null;
}
