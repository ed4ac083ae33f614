import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const s = useStack();

// biome-ignore lint/suspicious/noExplicitAny: rows and answers of the stand-in
type Row = Record<string, any>;
const meta = async (path: string, body: unknown) =>
  (
    await fetch(`${s.stack.standins.meta}${path}`, { method: "POST", body: JSON.stringify(body) })
  ).json() as Promise<Row>;
/** What Meta does when a person withdraws our access, or wants their data deleted. */
const callback = (kind: string, user_id: string, more: Row = {}) =>
  meta("/_callbacks", { kind, user_id, ...more });
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;
const sampled = async (name: string): Promise<string> => {
  const body = await readFile(join(import.meta.dirname, "../../samples", name));
  const init = { method: "PUT", body, headers: { "content-type": "image/jpeg" } };
  return ((await (await fetch(`${s.stack.standins.meta}/_photos/${name}`, init)).json()) as { url: string })
    .url;
};

test("who sent the bot a photo is deleted with it, and a brand that withdraws our access is disconnected", async () => {
  const person = await s.person();
  const schema = (name: string) => (person.client as unknown as SupabaseClient).schema(name as never);
  const account = await meta("/_accounts", { username: "atelier" });
  const act = (...actions: unknown[][]) => meta(`/_accounts/${account.id}`, actions);
  await act(["post", { caption: "Look" }]);
  const started = must(
    await person.client.functions.invoke("oauth/instagram/start", {
      body: { workspace_id: person.workspaceId, return_to: "http://127.0.0.1:3000/instagram" },
    }),
  );
  const target = new URL(await hop((await hop(started.url)).replace(/#_$/, "")));
  const connected = must(
    await schema("integrations").rpc(
      "claim_connection" as never,
      { code: target.searchParams.get("connection") } as never,
    ),
  ) as unknown as Row;
  expect(connected.provider_data.app_scoped_id).toMatch(/^24/);
  const post = await eventually("the post", async () => {
    const { data } = await schema("social").from("posts").select("id, platform_post_id");
    return (data as Row[] | null)?.[0];
  });
  await eventually("the subscription", async () => {
    const answer = await fetch(`${s.stack.standins.meta}/_accounts/${account.id}`);
    return ((await answer.json()) as Row).subscribedFields.includes("comments");
  });
  must(
    await schema("social").rpc(
      "bind_garment" as never,
      { post_id: post.id, garment_id: person.garmentId } as never,
    ),
  );
  await act(["comment", "ada", post.platform_post_id, "tryon"]);
  const sent = (count: number) =>
    eventually(`${count} messages`, async () => {
      const { data } = await schema("social").from("messages").select("status");
      return (data ?? []).filter(({ status }: Row) => status === "sent").length >= count;
    });
  await sent(1);
  await act(["say", "ada", "yes"]);
  await sent(2);
  await act(["say", "ada", null, [{ type: "image", url: await sampled("person-ada.jpg") }]]);
  await sent(5);
  const [tryon] = must(await schema("social").from("tryons").select("*")) as unknown as Row[];
  const [conversation] = must(await schema("social").from("conversations").select("*")) as unknown as Row[];
  const [creation] = must(await person.client.schema("studio").from("creations").select("*"));
  const files = async () => {
    const found = await Promise.all([
      person.client.storage.from("studio-uploads").download(tryon!.photo_path),
      ...creation!.result_paths.map((path) => person.client.storage.from("studio-results").download(path)),
    ]);
    return found.map(({ error }) => error === null);
  };
  expect(await files()).toEqual([true, true]);

  // Another app's request, and one of last week, are refused.
  const ada = conversation!.platform_user_id;
  expect((await callback("data-deletion", ada, { secret: "another app's" })).status).toBe(401);
  expect((await callback("data-deletion", ada, { issued_at: 1_700_000_000 })).status).toBe(401);
  const asked = await callback("data-deletion", ada);
  expect(asked.status).toBe(200);
  const { url, confirmation_code } = asked.body;
  expect(url).toBe(`${s.stack.functionsUrl}/webhooks/meta/data-deletion/${confirmation_code}`);
  const again = await callback("data-deletion", ada, { signed_request: asked.signed_request });
  expect(again.body).toEqual(asked.body);
  await eventually("the deletion", async () => {
    const answer = await fetch(url, { headers: { accept: "application/json" } });
    return ((await answer.json()) as Row).status === "completed";
  });
  expect(await (await fetch(url)).text()).toMatch(/^Your data has been deleted/);
  expect(await files()).toEqual([false, false]);
  for (const table of ["conversations", "messages", "comments", "tryons"]) {
    expect(must(await schema("social").from(table).select("id"))).toEqual([]);
  }
  expect(must(await person.client.schema("studio").from("creations").select("id"))).toEqual([]);
  expect(await s.faults()).toEqual([]);

  const ended = await callback("deauthorize", connected.provider_data.app_scoped_id);
  expect([ended.status, ended.body]).toEqual([200, { received: true }]);
  const [left] = must(
    await person.client.schema("integrations").from("connected_accounts").select("status, disconnected_at"),
  );
  expect(left).toMatchObject({ status: "disconnected", disconnected_at: expect.any(String) });
  expect(
    await s.sql("select from integrations.account_secrets where account_id = $1", [connected.id]),
  ).toEqual([]);
}, 120_000);
