import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, inject } from "vitest";
import { makeRpcCompiler } from "./rpc.ts";
import {
  assume,
  type Claims,
  type Connection,
  makeSession,
  type Session,
  transactionRunner,
} from "./session.ts";
import { copyTemplate, type Template } from "./template.ts";
import { makeUserFactory, type NewUser, type TestUser } from "./users.ts";
import { types } from "./values.ts";

export type Actor = "superuser" | "anon" | "service" | { user: string };

/** A database of its own for one test file; its own methods run as the superuser. */
export interface TestDatabase extends Session {
  /** Superuser's connection string. */
  url: string;
  /** Connection string of the role that owns what the migrations make; no superuser, as on the platform. */
  ownerUrl: string;
  anon: Session;
  service: Session;
  user(userId: string): Session;
  connect(actor: Actor): Promise<Connection>;
  createUser(options?: NewUser): Promise<TestUser>;
  /** Stops private.now() at the time given; null lets it run with the real time again. */
  setClock(at: string | Date | null): Promise<void>;
  /** Moves private.now() on by an interval such as '15 minutes', whether it stands or runs. */
  advanceClock(interval: string): Promise<void>;
  /** Closes and drops the database; happens by itself at the end of the test file. */
  drop(): Promise<void>;
}

export interface TestDatabaseOptions {
  /** What is in it: the migrations and the test clock (unless told otherwise), or less. */
  from?: Template;
  /** Connections for each of the two pools (superuser and API roles). */
  poolSize?: number;
}

export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await copyTemplate(inject("clusterUrl"), options.from ?? "test", name);

  const url = databaseUrl(name);
  const apiUrl = databaseUrl(name, "authenticator");
  const max = options.poolSize ?? 10;
  const superPool = makePool(url, max);
  const apiPool = makePool(apiUrl, max);
  const open = new Set<Connection>();
  const rpc = makeRpcCompiler(superPool);
  const superuser = makeSession((sql, params) => superPool.query(sql, params), rpc);
  const session = (claims: Claims) => makeSession(transactionRunner(apiPool, claims), rpc);

  async function connect(actor: Actor): Promise<Connection> {
    const client = new pg.Client({ connectionString: actor === "superuser" ? url : apiUrl, types });
    // A server that a test ends on purpose is told by the next query; the event alone must not end the run.
    client.on("error", () => {});
    await client.connect();
    if (actor !== "superuser") await assume(client, await claimsOf(actor), false);
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    const connection: Connection = {
      ...makeSession((sql, params) => client.query(sql, params), rpc),
      pid: rows[0]!.pid,
      begin: async (isolation = "read committed") => {
        await client.query(`begin isolation level ${isolation}`);
      },
      commit: async () => {
        await client.query("commit");
      },
      rollback: async () => {
        await client.query("rollback");
      },
      close: async () => {
        open.delete(connection);
        await client.end();
      },
    };
    open.add(connection);
    return connection;
  }

  async function claimsOf(actor: Exclude<Actor, "superuser">): Promise<Claims> {
    if (actor === "anon") return { role: "anon" };
    if (actor === "service") return { role: "service_role" };
    return claimsOfUser(actor.user, superuser);
  }

  let dropped = false;
  async function drop(): Promise<void> {
    if (dropped) return;
    dropped = true;
    await Promise.all([...open].map((connection) => connection.close()));
    await Promise.all([superPool.end(), apiPool.end()]);
    await onCluster(`drop database ${name} with (force)`);
  }
  afterAll(drop);

  return {
    ...superuser,
    url,
    ownerUrl: databaseUrl(name, "postgres"),
    anon: session({ role: "anon" }),
    service: session({ role: "service_role" }),
    user: (userId) => userSession(userId, superuser, session),
    connect,
    createUser: makeUserFactory(superPool),
    setClock: async (at) => {
      await superuser.query("update private.test_clock set at = $1, shift = '0'", [at]);
    },
    advanceClock: async (interval) => {
      await superuser.query(
        `update private.test_clock set
          at = at + $1::interval,
          shift = case when at is null then shift + $1::interval else shift end`,
        [interval],
      );
    },
    drop,
  };
}

/** Claims as the platform's auth server signs them for a user. */
async function claimsOfUser(userId: string, superuser: Session): Promise<Claims> {
  const [user] = await superuser.query(
    "select email, raw_app_meta_data, raw_user_meta_data from auth.users where id = $1",
    [userId],
  );
  return {
    role: "authenticated",
    aud: "authenticated",
    sub: userId,
    email: user?.email,
    app_metadata: user?.raw_app_meta_data ?? {},
    user_metadata: user?.raw_user_meta_data ?? {},
    aal: "aal1",
    session_id: randomUUID(),
    is_anonymous: false,
  };
}

/** Looks the user up at the first statement, so that `db.user(id)` itself needs no await. */
function userSession(userId: string, superuser: Session, session: (claims: Claims) => Session): Session {
  let signedIn: Promise<Session> | undefined;
  const ready = () => {
    signedIn ??= claimsOfUser(userId, superuser).then(session);
    return signedIn;
  };
  return {
    query: async (sql, params) => (await ready()).query(sql, params),
    rpc: async (name, args) => (await ready()).rpc(name, args),
    call: async (name, args) => (await ready()).call(name, args),
  };
}

function makePool(connectionString: string, max: number): pg.Pool {
  const pool = new pg.Pool({ connectionString, max, types });
  // An idle connection that the server ends (a test ends backends, too) is replaced at the next query.
  pool.on("error", () => {});
  return pool;
}

/** The superuser's address of a database, or another role's. */
function databaseUrl(name: string, role?: string): string {
  const url = new URL(inject("clusterUrl"));
  url.pathname = `/${name}`;
  if (role) url.username = role;
  return url.href;
}

async function onCluster(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: inject("clusterUrl") });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
