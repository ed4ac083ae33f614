import { tmpdir } from "node:os";
import { join } from "node:path";
import { Hono } from "hono";
import { type Control, controlRoutes } from "../control.ts";
import type { Delivery } from "../delivery.ts";
import { ordered, recorder } from "../recorder.ts";
import { answerQuery } from "./graphql.ts";
import { mediaFiles, mediaMutations } from "./media.ts";
import { oauthRoutes, signedQuery } from "./oauth.ts";
import { Merchant, type ShopEvent } from "./shop.ts";
import { emptyShop, type Shop, type ShopifyData } from "./state.ts";

export type Deps = {
  data: ShopifyData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  /** Where pictures that are added to products are kept; the system's temporary folder when not given. */
  filesFolder?: string;
};

/**
 * Shops at /<shop domain>/...: OAuth, the GraphQL Admin API, webhooks to whoever subscribed. What merchants do is
 * told to /_shops, which asks for no key.
 */
export function createShopifyStandIn(deps: Deps): Hono {
  const { data, changed, control } = deps;
  const nextId = () => {
    data.lastId += 1;
    return String(data.lastId);
  };
  const shopOf = (domain: string): Shop => {
    data.shops[domain] ??= emptyShop(domain);
    return data.shops[domain];
  };
  const app = new Hono();
  app.onError((error, c) => {
    console.error("shopify stand-in:", error);
    return c.json({ errors: "Internal Server Error" }, 500);
  });
  app.route("/", controlRoutes(control));
  app.route("/", merchants(deps, shopOf, nextId));
  app.use(
    recorder(control, {
      failures: () => ["submit", "answer"],
      refuse: (c, rule) => ordered(c, rule, { errors: "The stand-in was told to fail." }),
      name: (c) => c.req.path.split("/").at(-1) ?? "",
      body: (text) => text,
    }),
  );
  app.route("/", oauthRoutes(data, shopOf, changed));
  app.use("/:shop/admin/*", async (c, next) => {
    const token = shopOf(c.req.param("shop")).tokens[c.req.header("x-shopify-access-token") ?? ""];
    if (token && (token.until === null || token.until >= Date.now())) return next();
    const errors = "[API] Invalid API key or access token (unrecognized login or wrong password)";
    return c.json({ errors }, 401);
  });
  const folder = deps.filesFolder ?? join(tmpdir(), `backlot-shopify-${process.pid}`);
  const announceFor = (shop: Shop, events: ShopEvent[]) => announce(deps, shop, events, nextId);
  app.route("/", mediaFiles(folder));
  app.post("/:shop/admin/api/:version/graphql.json", (c) => {
    const shop = shopOf(c.req.param("shop"));
    const media = { folder, control, changed, announce: announceFor };
    const more = mediaMutations(media, shop, nextId, new URL(c.req.url).origin);
    return answerQuery(c, shop, nextId, changed, more);
  });
  // The app takes itself out of the shop.
  app.delete("/:shop/admin/api_permissions/current.json", async (c) => {
    const shop = shopOf(c.req.param("shop"));
    const events = new Merchant(shop, nextId).uninstall();
    await announce(deps, shop, events, nextId);
    shop.subscriptions = {};
    changed();
    return c.json({});
  });
  return app;
}

/**
 * POST /_shops/<domain>: the methods of Merchant by name, in order: [["createProduct", {...}, 5], ...]; answers what
 * they returned. POST /_shops/<domain>/settings: changes the shop itself, such as its bucket. GET shows it.
 * GET /_shops/<domain>/launch?to=<App URL>: the signed address at which Shopify opens an app.
 */
function merchants(deps: Deps, shopOf: (domain: string) => Shop, nextId: () => string): Hono {
  const app = new Hono();
  app.get("/_shops/:shop", (c) => c.json(shopOf(c.req.param("shop"))));
  app.post("/_shops/:shop/settings", async (c) => {
    Object.assign(shopOf(c.req.param("shop")), await c.req.json());
    deps.changed();
    return c.json(shopOf(c.req.param("shop")));
  });
  app.get("/_shops/:shop/launch", (c) => {
    const shop = c.req.param("shop");
    const host = Buffer.from(`${shop}/admin`).toString("base64");
    const timestamp = String(Math.floor(Date.now() / 1000));
    const query = signedQuery({ shop, host, timestamp }, deps.data.clientSecret);
    return c.json({ url: `${c.req.query("to")}?${query}` });
  });
  app.post("/_shops/:shop", async (c) => {
    const shop = shopOf(c.req.param("shop"));
    const merchant = new Merchant(shop, nextId);
    const results: unknown[] = [];
    for (const [name, ...args] of (await c.req.json()) as [keyof Merchant, ...unknown[]][]) {
      const act = merchant[name] as (...args: unknown[]) => unknown;
      const result = act.apply(merchant, args);
      const events = (Array.isArray(result) ? result : (result as { events?: ShopEvent[] }).events) ?? [];
      results.push(Array.isArray(result) ? {} : result);
      await announce(deps, shop, events as ShopEvent[], nextId);
      if (name === "uninstall") shop.subscriptions = {};
    }
    deps.changed();
    return c.json(results);
  });
  return app;
}

/** Each subscription of an event's topic gets a webhook of its own. */
async function announce(
  { delivery }: Deps,
  shop: Shop,
  events: ShopEvent[],
  nextId: () => string,
): Promise<void> {
  const webhooks = events.flatMap(({ topic, payload, triggered_at }) =>
    Object.values(shop.subscriptions)
      .filter((subscription) => subscription.topic === topic)
      .map(({ uri }) => ({
        id: `${shop.domain} ${triggered_at} ${nextId()}`,
        type: topic,
        url: uri,
        body: JSON.stringify(payload),
      })),
  );
  if (webhooks.length > 0) await delivery.send(webhooks);
}
