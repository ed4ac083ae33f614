// /rest/v1 and /auth/v1 by @supabase/lite, in this process, on the same roles the hosted services use.

import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { App, type HonoContext, type IntrospectResult, RelationNotFoundError } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import type { MiddlewareHandler } from "hono";
import type { Caller } from "./caller.ts";
import type { Config } from "./config.ts";
import type { Keys } from "./keys.ts";
import { asPostgrest, type DatabaseError } from "./rest-errors.ts";

type Urls = { admin: string; auth: string; authenticator: string };

export type Lite = {
  rest(request: Request, caller: Caller): Promise<Response>;
  auth(request: Request): Promise<Response>;
  /** Reads the catalog again: tables and functions may have changed. */
  reloadSchema(): Promise<void>;
  close(): Promise<void>;
};

// Some values reach the driver as JSON text already; encoding those again would store a string that holds JSON.
function encodeJson(value: unknown): string {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return JSON.stringify(value);
  try {
    JSON.parse(value);
    return value;
  } catch {
    // A plain text that happens to begin with a bracket.
    return JSON.stringify(value);
  }
}

const jsonType = (oid: number) => ({ to: oid, from: [oid], serialize: encodeJson, parse: JSON.parse });

function connect(url: string, connections: number) {
  const connection = createPostgresConnection({
    url,
    postgresOptions: {
      max: connections,
      onnotice: () => undefined,
      types: { json: jsonType(114), jsonb: jsonType(3802) },
    },
  });
  // Left alone, @supabase/lite grants every table of a schema with row security to anon and authenticated.
  // Grants are the migrations' business; this state says that the roles are ready.
  (connection as unknown as { rlsState: string }).rlsState = "active";
  return connection;
}

/** A connection that broke in the middle of a request would be waited for without end. */
const disconnect = (connection: ReturnType<typeof connect>) => connection.driver.end({ timeout: 1 });

/** The catalog as the superuser sees it, read once and kept: the login roles of the services see little of it. */
function sharedCatalog(adminUrl: string) {
  let catalog: Promise<IntrospectResult> | undefined;
  // On a connection of its own each time: one that the server's end left in the middle would never answer again.
  async function introspect(): Promise<IntrospectResult> {
    const admin = connect(adminUrl, 1);
    try {
      const seen = await inTime(admin.introspect());
      // @supabase/lite reports a failure (the server is restarting) as an empty catalog.
      if (seen.tables.length === 0) throw new Error("The catalog could not be read.");
      return seen;
    } finally {
      await disconnect(admin);
    }
  }
  return {
    read: () => (catalog ??= introspect()),
    async reload() {
      // Requests go on with what is known until the new state is there.
      const fresh = introspect();
      await fresh;
      catalog = fresh;
    },
  };
}

const introspectionMs = 20_000;

function inTime<T>(work: Promise<T>): Promise<T> {
  const late = sleep(introspectionMs, undefined, { ref: false }).then(() => {
    throw new Error("The catalog could not be read in time.");
  });
  return Promise.race([work, late]);
}

/** What the caller of /rest/v1 did wrong is in the answer; @supabase/lite also prints a stack for each. */
function keepQuiet() {
  const inRequest = new AsyncLocalStorage<{ error?: DatabaseError }>();
  const original = console.error;
  console.error = (...args: unknown[]) => {
    const [error] = args;
    const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
    const callersFault =
      error instanceof RelationNotFoundError || (code !== undefined && !/^(53|57|58|F0|XX)/.test(code));
    const asked = inRequest.getStore();
    if (asked && code !== undefined) asked.error = error as Error & DatabaseError;
    if (asked && callersFault) return;
    original(...args);
  };
  const answer = async (work: () => Response | Promise<Response>) => {
    const asked: { error?: DatabaseError } = {};
    const given = await inRequest.run(asked, work);
    return given.status === 500 && asked.error ? asPostgrest(given, asked.error) : given;
  };
  return { answer, restore: () => (console.error = original) };
}

/** A token is good until it expires, as for PostgREST: the session behind it is not looked up in the database. */
function trustVerifiedCaller(callers: WeakMap<Request, Caller>): MiddlewareHandler<HonoContext> {
  return async (c, next) => {
    const claims = callers.get(c.req.raw)?.claims;
    if (claims?.sub) {
      c.set("userId", claims.sub);
      c.set("sessionId", String(claims.session_id ?? "none"));
    }
    await next();
  };
}

export async function startLite(config: Config, keys: Keys, urls: Urls): Promise<Lite> {
  const catalog = sharedCatalog(urls.admin);
  const auth = {
    ...config.auth,
    enabled: true,
    jwt_secret: keys.jwtSecret,
    publishable_key: keys.publishableKey,
    secret_key: keys.secretKey,
    email: { ...config.auth.email, enable_signup: true },
  };
  const api = { enabled: true, schemas: config.api.schemas, max_rows: config.api.max_rows };
  const callers = new WeakMap<Request, Caller>();
  const start = async (url: string, connections: number) => {
    const connection = connect(url, connections);
    connection.introspect = () => catalog.read();
    const options = { server: { middlewares: [trustVerifiedCaller(callers)] } };
    const app = new App({ connection, auth, api, storage: { enabled: false }, options });
    await app.init();
    return { fetch: app.fetch, close: () => disconnect(connection) };
  };
  // As on the platform: PostgREST logs in as authenticator and becomes the caller's role, GoTrue owns its schema.
  const [rest, authentication] = await Promise.all([start(urls.authenticator, 10), start(urls.auth, 4)]);
  await catalog.read();
  const quiet = keepQuiet();
  return {
    rest(request, caller) {
      callers.set(request, caller);
      return quiet.answer(() => rest.fetch(request));
    },
    auth: (request) => authentication.fetch(request),
    reloadSchema: catalog.reload,
    async close() {
      quiet.restore();
      await Promise.all([rest.close(), authentication.close()]);
    },
  };
}
