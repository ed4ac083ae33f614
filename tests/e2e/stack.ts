import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach } from "vitest";
import { openPool } from "../../supabase/local/pool.ts";
import { type Stack, type StackOptions, startStack } from "../../supabase/local/stack.ts";
import type { Database } from "../../types/database.ts";
import { Diary } from "./diary.ts";

export type Client = SupabaseClient<Database>;
export type Creation = Database["studio"]["Tables"]["creations"]["Row"];

const samples = join(import.meta.dirname, "../../samples");

/** The data of an answer of supabase-js, or its error thrown. */
export function must<T>(answer: { data: T; error: unknown }): NonNullable<T> {
  if (answer.error) throw answer.error;
  return answer.data as NonNullable<T>;
}

/** Looks every 50 ms until there is something to see. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | null | false>,
  seconds = 40,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== null && seen !== false) return seen;
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s.`);
    await sleep(50);
  }
}

export interface Person {
  client: Client;
  userId: string;
  workspaceId: string;
  personPath: string;
  garmentId: string;
}

export interface TestStack {
  stack: Stack;
  service: Client;
  /** The superuser-like owner of the database, for looking behind the API and for making time pass. */
  sql<T extends pg.QueryResultRow>(text: string, params?: unknown[]): Promise<T[]>;
  /** Signs up, uploads a person and a garment, and has so many micro-units. */
  person(credits?: number): Promise<Person>;
  request(person: Person, more?: Record<string, unknown>): Promise<Creation>;
  /** The creation once it has ended. */
  ended(person: Person, creationId: string, seconds?: number): Promise<Creation>;
  /** Tells a stand-in how to misbehave. */
  order(service: "stripe" | "fal", rule: Record<string, unknown>): Promise<void>;
  calm(): Promise<void>;
  /** Lets everything that waits for a time be due now. */
  hurry(): Promise<void>;
  balance(person: Person): Promise<{ available_micro: number; held_micro: number; prepaid_micro: number }>;
  /** The faults of the ledger; none when it is sound. */
  faults(): Promise<unknown[]>;
}

/** One ephemeral stack for a test file. */
export function useStack(options: StackOptions = {}): TestStack {
  const test = {} as TestStack;
  const diary = new Diary();
  let pool: pg.Pool;

  beforeAll(async () => {
    test.stack = await startStack({ ephemeral: true, functionsOnDemand: true, log: diary.log, ...options });
    test.service = makeClient(test.stack.secretKey);
    pool = openPool({ connectionString: test.stack.dbUrl, max: 4 });
  });
  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => diary.write(pool));
  });
  afterAll(async () => {
    await pool?.end();
    await test.stack?.stop();
  });

  const makeClient = (key: string): Client =>
    createClient<Database>(test.stack.apiUrl, key, {
      auth: { persistSession: false, autoRefreshToken: false },
    });

  test.sql = async (text, params) => (await pool.query(text, params)).rows;

  test.person = async (credits = 100_000) => {
    const client = makeClient(test.stack.publishableKey);
    const email = `${crypto.randomUUID()}@example.com`;
    const { user } = must(await client.auth.signUp({ email, password: "a long password" }));
    const [workspace] = must(await client.schema("identity").from("workspaces").select("id"));
    const workspaceId = workspace!.id;
    if (credits > 0) {
      must(
        await test.service.schema("billing").rpc("grant_credits", {
          workspace_id: workspaceId,
          amount_micro: credits,
          kind: "prepaid",
          key: "start",
        }),
      );
    }
    const personPath = await upload(client, workspaceId, "person-ada.jpg", "image/jpeg");
    const garmentPath = await upload(client, workspaceId, "garment-tee.png", "image/png");
    const garment = must(
      await client
        .schema("studio")
        .from("wardrobe_garments")
        .insert({ workspace_id: workspaceId, storage_path: garmentPath, filename: basename(garmentPath) })
        .select("id")
        .single(),
    );
    return { client, userId: user!.id, workspaceId, personPath, garmentId: garment.id };
  };

  test.request = async (person, more = {}) =>
    must(
      await person.client.schema("studio").rpc("request_creation", {
        workspace_id: person.workspaceId,
        creation_type: "tryon",
        garment_id: person.garmentId,
        input_path: person.personPath,
        ...more,
      }),
    ) as Creation;

  test.ended = (person, creationId, seconds) =>
    eventually(
      `the end of creation ${creationId}`,
      async () => {
        const { data } = await person.client
          .schema("studio")
          .from("creations")
          .select("*")
          .eq("id", creationId)
          .single();
        return data?.completed_at ? data : undefined;
      },
      seconds,
    );

  test.order = async (service, rule) => {
    const answer = await fetch(`${test.stack.standins[service]}/_control`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(rule),
    });
    if (!answer.ok) throw new Error(`The stand-in of ${service} refused the order: ${await answer.text()}`);
  };
  test.calm = async () => {
    for (const service of ["stripe", "fal"] as const) {
      await fetch(`${test.stack.standins[service]}/_control/reset`, { method: "POST" });
    }
  };
  test.hurry = async () => {
    await test.sql(
      "update ops.live_jobs set run_at = now() where state in ('waiting', 'scheduled') and run_at > now()",
    );
  };

  test.balance = async (person) =>
    must(await person.client.schema("billing").rpc("balance", { workspace_id: person.workspaceId }).single());
  test.faults = () => test.sql("select * from billing.verify_ledger()");
  return test;
}

async function upload(
  client: Client,
  workspaceId: string,
  file: string,
  contentType: string,
): Promise<string> {
  const path = `${workspaceId}/${file}`;
  must(
    await client.storage
      .from("studio-uploads")
      .upload(path, await readFile(join(samples, file)), { contentType }),
  );
  return path;
}
