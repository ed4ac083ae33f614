import { type Context, Hono } from "hono";
import { type Control, controlRoutes, type Rule } from "../control.ts";
import type { Delivery } from "../delivery.ts";
import { recorder } from "../recorder.ts";
import { callbackRoutes } from "./callbacks.ts";
import { refuse } from "./errors.ts";
import { graphRoutes } from "./graph.ts";
import { insightRoutes } from "./insights.ts";
import { oauthRoutes } from "./oauth.ts";
import { People, type Told } from "./people.ts";
import type { Account, MetaData } from "./state.ts";

export type Deps = {
  data: MetaData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  webhookUrl: string;
  baseUrl(): string;
  /** The time of what is said and of its limits; the system's where it is not given. */
  now?: () => number;
};

/**
 * Instagram: business login, the Graph API, signed webhooks of what is subscribed. What people do is told to
 * /_accounts, which asks for no key.
 */
export function createMetaStandIn(deps: Deps): Hono {
  const { data, changed, control } = deps;
  const nextId = () => {
    data.lastId += 1;
    return `17841${data.lastId}`;
  };
  const tell = (account: Account, told: Told[]) => void announce(deps, account, told, nextId);
  const app = new Hono();
  app.onError((error, c) => {
    console.error("meta stand-in:", error);
    return refuse(c, { code: 1, message: "An unknown error has occurred.", status: 500 });
  });
  app.route("/", controlRoutes(control));
  app.route("/", photos(deps));
  app.route("/", accounts(deps, nextId));
  app.route("/", callbackRoutes(data, deps.webhookUrl));
  app.use(
    recorder(control, {
      refuse: told,
      name: (c) => c.req.path.split("/").at(-1) ?? "",
      body: (text) => text,
      query: (c) => withoutToken(c.req.query()),
    }),
  );
  app.route("/", oauthRoutes(data, changed));
  app.route("/", insightRoutes(data));
  app.route("/", graphRoutes({ data, changed, nextId, tell, now: deps.now ?? Date.now }));
  return app;
}

/** PUT /_photos/<name> keeps a picture (in memory), GET gives it: what people send is at such addresses. */
function photos({ baseUrl }: Deps): Hono {
  const app = new Hono();
  const kept = new Map<string, { type: string; bytes: Uint8Array<ArrayBuffer> }>();
  app.put("/_photos/:name", async (c) => {
    const type = c.req.header("content-type") ?? "image/jpeg";
    kept.set(c.req.param("name"), { type, bytes: new Uint8Array(await c.req.arrayBuffer()) });
    return c.json({ url: `${baseUrl()}/_photos/${c.req.param("name")}` });
  });
  app.get("/_photos/:name", (c) => {
    const photo = kept.get(c.req.param("name"));
    return photo ? c.body(photo.bytes, 200, { "content-type": photo.type }) : c.notFound();
  });
  return app;
}

/**
 * POST /_accounts {username, name?}: a professional account, whose people are logged in from then on. POST
 * /_accounts/<id>: the methods of People by name, in order: [["post", {...}], ["comment", "ada", "<media>", "tryon"]];
 * answers what they returned. POST /_accounts/<id>/settings changes it, GET shows it.
 */
function accounts({ data, changed, ...deps }: Deps, nextId: () => string): Hono {
  const app = new Hono();
  app.post("/_accounts", async (c) => {
    const { username, name = username } = (await c.req.json()) as { username: string; name?: string };
    const id = nextId();
    const parts = { media: [], comments: {}, threads: {}, subscribedFields: [], messagesPerHour: null };
    data.accounts[id] = { id, username, name, ...parts };
    data.loggedIn = id;
    changed();
    return c.json(data.accounts[id]);
  });
  app.get("/_accounts/:id", (c) => c.json(data.accounts[c.req.param("id")] ?? null));
  app.post("/_accounts/:id/settings", async (c) => {
    const account = Object.assign(data.accounts[c.req.param("id")]!, await c.req.json());
    changed();
    return c.json(account);
  });
  app.post("/_accounts/:id", async (c) => {
    const account = data.accounts[c.req.param("id")]!;
    const people = new People(account, nextId);
    const results: unknown[] = [];
    for (const [name, ...args] of (await c.req.json()) as [keyof People, ...unknown[]][]) {
      const act = people[name] as (...args: unknown[]) => unknown;
      results.push(act.apply(people, args) ?? null);
      await announce({ data, changed, ...deps }, account, people.take(), nextId);
    }
    changed();
    return c.json(results);
  });
  return app;
}

/** One delivery for each event, as Meta mostly does; what belongs to a field that is not subscribed is not told. */
async function announce(
  { delivery, webhookUrl }: Deps,
  account: Account,
  told: Told[],
  nextId: () => string,
): Promise<void> {
  const webhooks = told
    .filter(({ field }) => account.subscribedFields.includes(field))
    .map((event) => {
      const time = "change" in event ? Math.floor(Date.now() / 1000) : Date.now();
      const item =
        "change" in event
          ? { changes: [{ field: event.field, value: event.change }] }
          : { messaging: [event.messaging] };
      const body = JSON.stringify({ object: "instagram", entry: [{ id: account.id, time, ...item }] });
      return { id: nextId(), type: event.field, url: webhookUrl, body };
    });
  if (webhooks.length > 0) await delivery.send(webhooks);
}

function told(c: Context, rule: Rule): Response {
  const { http_status: status = 500, error_code: code = 2, error_subcode: subcode, retry_after } = rule;
  if (retry_after !== undefined) c.header("retry-after", String(retry_after));
  const message = "The stand-in was told to fail.";
  return refuse(c, { code, message, status, ...(subcode !== undefined && { subcode }) });
}

function withoutToken({ access_token: _, ...query }: Record<string, string>): Record<string, string> {
  return query;
}
