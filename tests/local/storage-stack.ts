// A stack with three buckets and three callers, for the tests of storage. Imported by a test file, it starts
// before its tests and stops after them.

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect } from "vitest";
import { type Stack, startStack } from "../../supabase/local/stack.ts";

export let stack: Stack;
export let db: pg.Client;
export let service: SupabaseClient;
export let anna: SupabaseClient;
export let bert: SupabaseClient;
export let nobody: SupabaseClient;
export let annasId: string;

export const png = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.alloc(5000, 7)]);
export const options = { auth: { persistSession: false, autoRefreshToken: false } };

export async function signUp(email: string) {
  const client = createClient(stack.apiUrl, stack.publishableKey, options);
  const { data, error } = await client.auth.signUp({ email, password: "a long password" });
  if (error || !data.user) throw error ?? new Error("no user");
  return { client, id: data.user.id };
}

export const text = async (answer: { data: Blob | null; error: unknown }) => {
  expect(answer.error).toBeNull();
  return (answer.data as Blob).text();
};

beforeAll(async () => {
  stack = await startStack({
    ephemeral: true,
    migrate: false,
    standIns: false,
    functions: [],
    clockwork: false,
    log: () => undefined,
  });
  db = new pg.Client({ connectionString: stack.dbUrl });
  await db.connect();
  // Everybody has a folder named by the own id; a shared bucket is open to readers who are signed in.
  await db.query(`
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
      ('own', 'own', false, 20000, null), ('pictures', 'pictures', false, null, '{image/*}'),
      ('open', 'open', true, null, null);
    create policy "Own folder" on storage.objects to authenticated
      using (bucket_id in ('own', 'pictures', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text)
      with check (bucket_id in ('own', 'pictures', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text);
  `);
  service = createClient(stack.apiUrl, stack.secretKey, options);
  nobody = createClient(stack.apiUrl, stack.publishableKey, options);
  const first = await signUp("anna@example.com");
  anna = first.client;
  annasId = first.id;
  bert = (await signUp("bert@example.com")).client;
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

export const own = (client = anna) => client.storage.from("own");
