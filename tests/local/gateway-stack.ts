// A stack with small functions, a clockwork and a table of notes, for the tests of the gateway. Imported by a test file,
// it starts before its tests and stops after them.

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, vi } from "vitest";
import { type Stack, startStack } from "../../supabase/local/stack.ts";

export let stack: Stack;
export let db: pg.Client;
export let service: SupabaseClient;
export let nobody: SupabaseClient;
export const log: string[] = [];

export const options = { auth: { persistSession: false, autoRefreshToken: false } };
export const password = "a long password";

beforeAll(async () => {
  stack = await startStack({
    ephemeral: true,
    migrate: false,
    standIns: false,
    functions: {
      open: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/echo.js" },
      closed: { enabled: true, verify_jwt: true, entrypoint: "../tests/local/functions/echo.js" },
      worker: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/counter.js" },
      absent: { enabled: true, verify_jwt: false, entrypoint: "../tests/local/functions/absent.js" },
    },
    env: { EXTRA: "1" },
    log: (line) => log.push(line),
  });
  await reconnect();
  await db.query(`
    create schema ops;
    create table ops.ticks (at timestamptz not null default clock_timestamp());
    create function ops.tick() returns void language sql as 'insert into ops.ticks default values';
    create table public.notes (
      id bigint generated always as identity primary key,
      owner uuid not null default auth.uid() references auth.users (id) on delete cascade,
      body jsonb not null,
      constraint notes_body_small check (pg_column_size(body) < 10000)
    );
    alter table public.notes enable row level security;
    create policy "Own notes" on public.notes to authenticated
      using (owner = (select auth.uid())) with check (owner = (select auth.uid()));
    grant select, insert on public.notes to authenticated;
    grant all on public.notes to service_role;
    create function public.who(detail jsonb default '{}') returns jsonb language sql stable as $$
      select jsonb_build_object('id', auth.uid(), 'role', auth.role(), 'email', auth.email(),
        'current', current_user, 'session', session_user, 'kind', jsonb_typeof(detail), 'a', detail ->> 'a')
    $$;
    create function public.claims() returns jsonb language sql stable as 'select auth.jwt()';
    create function public.fail() returns void language plpgsql as $$
    begin
      raise exception using errcode = 'PT402', message = 'no_credit: Not enough credit.',
        detail = '{"missing":5}', hint = 'Top up.';
    end $$;
    grant execute on all functions in schema public to anon, authenticated, service_role;
  `);
  service = createClient(stack.apiUrl, stack.secretKey, options);
  nobody = createClient(stack.apiUrl, stack.publishableKey, options);
  // The catalog is read anew after a change of the schema.
  await vi.waitFor(async () => expect((await nobody.rpc("fail")).error?.code).toBe("PT402"), 5000);
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

/** A new connection, as after a crash. */
export async function reconnect(): Promise<void> {
  db = new pg.Client({ connectionString: stack.dbUrl });
  await db.connect();
}

export async function signUp(email: string) {
  const client = createClient(stack.apiUrl, stack.publishableKey, options);
  const { data, error } = await client.auth.signUp({
    email,
    password,
    options: { data: { full_name: "A B" } },
  });
  if (error || !data.session) throw error ?? new Error("no session");
  return { client, id: data.session.user.id, token: data.session.access_token };
}

export const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(`${stack.apiUrl}${path}`, { headers });
