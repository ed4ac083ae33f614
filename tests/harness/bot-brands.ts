// The brands of a soak of the bot: their accounts at the stand-in of Instagram, connected, each with two posts.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { eventually, must, type Person, type TestStack } from "../e2e/stack.ts";

/** Accounts that work at a time. */
const lanes = 8;

// biome-ignore lint/suspicious/noExplicitAny: rows and answers of the stand-in
export type Row = Record<string, any>;
export interface Brand {
  person: Person;
  /** Instagram's id, and ours. */
  external: string;
  account: string;
  bound: string;
  other: string;
  comments: Row[];
  usernames: string[];
}

type Meta = (path: string, body?: unknown) => Promise<Row & Row[]>;

export function tools(s: TestStack) {
  const meta: Meta = async (path, body) => {
    const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const answer = await fetch(`${s.stack.standins.meta}${path}`, init);
    if (!answer.ok) throw new Error(`The stand-in of Meta: ${await answer.text()}`);
    return (await answer.json()) as Row & Row[];
  };
  const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;

  /** Connects an account with two posts, one of them with a garment; every tenth may send few messages an hour. */
  async function connect(person: Person, n: number): Promise<Brand> {
    const { id: external } = await meta("/_accounts", { username: `atelier.${n}` });
    const posts = await meta(`/_accounts/${external}`, [
      ["post", { caption: "Bound" }],
      ["post", { caption: "Other" }],
    ]);
    const body = { workspace_id: person.workspaceId, return_to: "http://127.0.0.1:3000/instagram" };
    const started = must(await person.client.functions.invoke("oauth/instagram/start", { body }));
    const target = new URL(await hop((await hop(started.url)).replace(/#_$/, "")));
    const schema = (name: string) => (person.client as unknown as SupabaseClient).schema(name as never);
    const code = target.searchParams.get("connection");
    const claimed = await schema("integrations").rpc("claim_connection" as never, { code } as never);
    const { id: account } = must(claimed) as Row;
    const read = async () =>
      must(await schema("social").from("posts").select("*").eq("connected_account_id", account));
    const stored = await eventually(
      "the posts",
      async () => {
        const found = (await read()) as unknown as Row[];
        return found.length === 2 ? found : undefined;
      },
      120,
    );
    await eventually(
      "the subscription",
      async () => (await meta(`/_accounts/${external}`)).subscribedFields.includes("comments"),
      120,
    );
    const bound = stored.find(({ caption }) => caption === "Bound")!;
    const binding = { post_id: bound.id, garment_id: person.garmentId };
    must(await schema("social").rpc("bind_garment" as never, binding as never));
    if (n % 10 === 0) {
      const limits = schema("social")
        .from("send_limits")
        .update({ hourly_limit: 30 } as never);
      must(await limits.eq("account_id", account).select());
    }
    // Instagram itself refuses beyond so many.
    if (n % 10 === 1) await meta(`/_accounts/${external}/settings`, { messagesPerHour: 30 });
    return {
      person,
      external,
      account,
      bound: posts[0]!.id,
      other: posts[1]!.id,
      comments: [],
      usernames: [],
    };
  }
  return { meta, connect };
}

export async function photo(s: TestStack): Promise<string> {
  const body = await readFile(join(import.meta.dirname, "../../samples/person-ada.jpg"));
  const path = `/_photos/${crypto.randomUUID()}.jpg`;
  const init = { method: "PUT", body, headers: { "content-type": "image/jpeg" } };
  await fetch(`${s.stack.standins.meta}${path}`, init);
  return `${s.stack.standins.meta}${path}`;
}

/** Works on all brands, some at a time. */
export async function spread(
  brands: Brand[],
  work: (brand: Brand, n: number) => Promise<void>,
): Promise<void> {
  const rest = brands.entries();
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      for (const [n, brand] of rest) await work(brand, n);
    }),
  );
}
