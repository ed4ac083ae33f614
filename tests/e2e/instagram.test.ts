import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { describe, expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const s = useStack();

type Person = Awaited<ReturnType<typeof s.person>>;
// biome-ignore lint/suspicious/noExplicitAny: rows and answers of the stand-in
type Row = Record<string, any>;
const social = (person: Person) => (person.client as unknown as SupabaseClient).schema("social" as never);
const rows = async (person: Person, table: string): Promise<Row[]> =>
  must(await social(person).from(table).select("*").order("created_at")) as unknown as Row[];
const call = async (person: Person, name: string, args: Row): Promise<Row> =>
  must(await social(person).rpc(name as never, args as never)) as unknown as Row;

const meta = async (path: string, body?: unknown) => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.meta}${path}`, init)).json() as Promise<Row>;
};
/** Follows one redirect, as a browser would. */
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;

/** A brand with an Instagram account that has posts, connected through Instagram's login. */
async function brand(credits?: number, posts = 1) {
  const person = await s.person(credits);
  const account = await meta("/_accounts", { username: `atelier.${crypto.randomUUID().slice(0, 8)}` });
  const act = (...actions: unknown[][]): Promise<Row> => meta(`/_accounts/${account.id}`, actions);
  const media = await act(...Array.from({ length: posts }, (_, i) => ["post", { caption: `Look ${i}` }]));
  const started = must(
    await person.client.functions.invoke("oauth/instagram/start", {
      body: { workspace_id: person.workspaceId, return_to: "http://127.0.0.1:3000/instagram" },
    }),
  );
  const target = new URL(await hop((await hop(started.url)).replace(/#_$/, "")));
  expect(target.searchParams.get("error")).toBeNull();
  const integrations = (person.client as unknown as SupabaseClient).schema("integrations" as never);
  const connected = must(
    await integrations.rpc(
      "claim_connection" as never,
      { code: target.searchParams.get("connection") } as never,
    ),
  ) as unknown as Row;
  const synced = await eventually("the posts", async () => {
    const found = await rows(person, "posts");
    return found.length === posts ? found : undefined;
  });
  await eventually("the subscription", async () => {
    const { subscribedFields } = await meta(`/_accounts/${account.id}`);
    return subscribedFields.includes("comments");
  });
  return { person, account, act, media, accountId: connected.id as string, posts: synced };
}
type Brand = Awaited<ReturnType<typeof brand>>;

/** What the account and somebody have said, as Instagram has it. */
async function thread({ account }: Brand, username: string): Promise<Row[]> {
  const { threads } = await meta(`/_accounts/${account.id}`);
  const found = Object.values(threads as Row).find((one) => one.username === username);
  return found?.messages ?? [];
}
const said = (of: Brand, username: string, count: number) =>
  eventually(`${count} messages with ${username}`, async () => {
    const messages = await thread(of, username);
    return messages.length >= count ? messages : undefined;
  });
async function photo(name = "person-ada.jpg"): Promise<string> {
  const body = await readFile(join(import.meta.dirname, "../../samples", name));
  const init = { method: "PUT", body, headers: { "content-type": "image/jpeg" } };
  const answer = await fetch(`${s.stack.standins.meta}/_photos/${crypto.randomUUID()}.jpg`, init);
  return ((await answer.json()) as { url: string }).url;
}
const order = (rule: Row) => meta("/_control", rule);

describe("a brand on Instagram", () => {
  test("has a comment answered, a photo tried on and the picture sent, each once whatever is repeated or lost", async () => {
    const of = await brand(undefined, 3);
    const { person, act, posts, accountId } = of;
    const post = posts.find(({ caption }) => caption === "Look 1")!;
    await call(person, "bind_garment", {
      post_id: post.id,
      garment_id: person.garmentId,
      trigger_keywords: ["wear it"],
      garment_name: "the tee",
    });
    must(
      await social(person)
        .from("bot_settings")
        .update({ promo_code: "SUMMER10" } as never)
        .eq("account_id", accountId)
        .select(),
    );
    expect(
      await call(person, "test_keyword", { post_id: post.id, comment_text: "I want to WEAR it!" }),
    ).toMatchObject([{ trigger_word: "wear it", answers: true, reason: null }]);

    // Everything is told twice; of one send Meta's answer is lost.
    await order({ duplicate: 1 });
    await order({ fail: "answer", times: 1 });
    const [comment] = (await act(
      ["comment", "ada", post.platform_post_id, "I would love to wear it", { advertised: true }],
      ["comment", "bob", post.platform_post_id, "Nice colour"],
    )) as Row[];
    const [reply] = await said(of, "ada", 1);
    expect(reply).toMatchObject({ comment_id: comment!.id, text: expect.stringContaining("the tee") });

    await act(["say", "ada", "yes please"]);
    expect((await said(of, "ada", 3)).at(-1)!.text).toContain("photo");
    await act(["say", "ada", null, [{ type: "image", url: await photo() }]]);
    const messages = await said(of, "ada", 8);
    expect(messages.slice(4).map(({ text, attachments }) => [text, attachments[0]?.content_type])).toEqual([
      [expect.stringContaining("minute"), undefined],
      [undefined, expect.stringMatching(/^image\//)],
      [expect.stringContaining("the tee"), undefined],
      [expect.stringContaining("SUMMER10"), undefined],
    ]);

    const [conversation] = await eventually("the inbox", async () => {
      const found = await rows(person, "conversations");
      return found[0]?.stage === "completed" && found[0].message_count === 8 ? found : undefined;
    });
    expect(conversation).toMatchObject({ platform_username: "ada", unread_count: 2, category: "general" });
    const page = await call(person, "list_messages", { conversation_id: conversation!.id });
    const stored = await eventually("all to be sent", async () => {
      const all = await rows(person, "messages");
      return all.every(({ status }) => ["sent", "received"].includes(status)) ? all : undefined;
    });
    expect(page.length).toBe(8);
    expect(stored.map(({ platform_message_id }) => platform_message_id).sort()).toEqual(
      messages.map(({ id }) => id).sort(),
    );
    const [creation] = must(
      await person.client
        .schema("studio")
        .from("creations")
        .select("*")
        .eq("workspace_id", person.workspaceId),
    );
    expect(creation).toMatchObject({ status: "completed", created_by: null });
    expect((await s.balance(person)).available_micro).toBe(100_000 - creation!.cost_micro!);

    const result = messages[5]!;
    await act(["react", "ada", result.id, "😍"], ["see", "ada", messages.at(-1)!.id]);
    await eventually("the reaction", async () =>
      (await rows(person, "messages")).some(
        ({ reactions, read_at }) => reactions[0]?.emoji === "😍" && read_at !== null,
      ),
    );
    const steps = await s.sql<{ kind: string; n: number }>(
      `select kind, count(*)::int n from social.bot_interactions where workspace_id = $1 group by kind`,
      [person.workspaceId],
    );
    expect(Object.fromEntries(steps.map(({ kind, n }) => [kind, n]))).toEqual({
      comment_received: 2,
      keyword_matched: 1,
      private_reply_sent: 1,
      conversation_started: 1,
      message_received: 2,
      message_sent: 6,
      photo_requested: 1,
      photo_received: 1,
      tryon_requested: 1,
      tryon_completed: 1,
      result_sent: 1,
      promo_sent: 1,
      result_reaction: 1,
    });
    await meta("/_control/reset", {});
  }, 150_000);

  test("is talked for by its people: the bot is silent, the window and the limits hold, a bad photo is told", async () => {
    const of = await brand(0);
    const { person, act, posts, accountId } = of;
    await call(person, "bind_garment", { post_id: posts[0]!.id, garment_id: person.garmentId });
    await act(["comment", "eve", posts[0]!.platform_post_id, "tryon"]);
    await said(of, "eve", 1);
    await act(["say", "eve", null, [{ type: "image", url: `${s.stack.standins.meta}/_control` }]]);
    expect((await said(of, "eve", 3)).at(-1)!.text).toContain("picture");
    await act(["say", "eve", null, [{ type: "image", url: await photo() }]]);
    // No credits: the person is told, and so are the brand's people.
    expect((await said(of, "eve", 5)).at(-1)!.text).toContain("team");
    const [conversation] = await rows(person, "conversations");
    const notices = must(await person.client.schema("messaging").from("notifications").select("title"));
    expect(notices.map(({ title }) => title)).toContain("The bot could not make a try-on");

    const key = "hello-1";
    const ask = { conversation_id: conversation!.id, message_text: "Hi Eve, this is Ada of the team.", key };
    const first = await call(person, "send_message", ask);
    expect(await call(person, "send_message", ask)).toMatchObject({ id: first.id, source: "member" });
    expect((await said(of, "eve", 6)).at(-1)!.text).toBe(ask.message_text);
    await act(["say", "eve", "tryon"]);
    await eventually(
      "the message",
      async () => (await rows(person, "conversations"))[0]!.message_count === 7,
    );
    await call(person, "mark_read", { conversation_id: conversation!.id });
    const unread = await call(person, "list_conversations", {
      workspace_id: person.workspaceId,
      unread_only: true,
    });
    expect(unread).toEqual([]);
    const inbound = (await rows(person, "messages")).find(({ message_text }) => message_text === "tryon")!;
    await call(person, "react", { message_id: inbound.id, emoji: "❤️" });
    await eventually("the heart", async () => {
      const messages = await thread(of, "eve");
      return Object.keys(messages.at(-1)!.reactions).length === 1;
    });
    expect(await thread(of, "eve")).toHaveLength(7);

    // Handed back, the bot talks again, as many messages an hour as it may.
    await call(person, "hand_back", { conversation_id: conversation!.id });
    const { sent_last_hour } = (await call(person, "send_allowance", { account_id: accountId }))[0];
    expect(sent_last_hour).toBe(4);
    must(
      await social(person)
        .from("send_limits")
        .update({ hourly_limit: 4 } as never)
        .eq("account_id", accountId)
        .select(),
    );
    await act(["say", "eve", "tryon"]);
    await eventually("the wait", async () => {
      const [allowance] = (await call(person, "send_allowance", { account_id: accountId })) as Row[];
      return allowance!.waiting === 1 && allowance!.reset_at !== null;
    });
    await s.sql(
      "update social.messages set sent_at = sent_at - interval '2 hours' where direction = 'outbound'",
    );
    await s.sql("select ops.close_limit_key('key:instagram:' || $1, 0)", [accountId]);
    await s.sql("update ops.limit_keys set closed_until = null, opens_at = now()");
    await s.hurry();
    expect((await said(of, "eve", 9)).at(-1)!.text).toContain("photo");

    await s.sql(
      `update social.conversations set last_inbound_at = last_inbound_at - interval '25 hours',
        window_ends_at = window_ends_at - interval '25 hours' where id = $1`,
      [conversation!.id],
    );
    const { error } = await social(person).rpc(
      "send_message" as never,
      { conversation_id: conversation!.id, message_text: "Are you there?" } as never,
    );
    expect(error).toMatchObject({ message: expect.stringContaining("outside_message_window") });
  }, 150_000);
});
