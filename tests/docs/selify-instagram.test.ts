import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually, must, useStack } from "../e2e/stack.ts";
import type { Values } from "./blocks.ts";
import { hangTee, hop, runPage, signUp, type Visitor } from "./selify.ts";

const s = useStack();
const samples = join(import.meta.dirname, "../../samples");
const meta = async (path: string, body?: unknown): Promise<Values> => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.meta}${path}`, init)).json();
};

/** An Instagram account with a post, connected, and a garment in the wardrobe. */
async function connect(person: Visitor) {
  const { client, garmentId } = await hangTee(s, person);
  const workspace_id = person.workspaceId;
  const account = await meta("/_accounts", { username: "atelier" });
  const act = (...actions: unknown[][]) => meta(`/_accounts/${account.id}`, actions);
  await act(["post", { caption: "Summer", like_count: 20 }]);
  const body = { workspace_id, return_to: "http://127.0.0.1:3000/connections" };
  const started = must(await client.functions.invoke("oauth/instagram/start", { body }));
  const code = new URL(await hop(await hop(started.url))).searchParams.get("connection");
  must(await client.schema("integrations").rpc("claim_connection", { code }));
  await eventually("the post", async () => {
    const { data } = await client.schema("social").from("posts").select("id");
    return data!.length > 0;
  });
  await eventually("the subscription", async () =>
    (await meta(`/_accounts/${account.id}`)).subscribedFields.includes("comments"),
  );
  return { act, garmentId, account };
}

test("Instagram's screens work as their page says", async () => {
  const person = await signUp(s, 100_000);
  const { act, garmentId, account } = await connect(person);
  const said = async () => {
    const { threads } = await meta(`/_accounts/${account.id}`);
    return (Object.values(threads as Values)[0]?.messages ?? []) as Values[];
  };
  await runPage(
    s,
    "instagram.md",
    person,
    {
      posts: ({ overview, posts, reading }) => {
        expect(overview).toMatchObject([{ username: "atelier", token_valid: true }]);
        expect(reading.account_id).toBe(overview[0].account_id);
        expect(posts).toMatchObject([{ caption: "Summer", like_count: 20 }]);
      },
      binding: ({ binding, trial }) => {
        expect(binding).toMatchObject({ garment_name: "the tee", is_active: true });
        expect(trial).toMatchObject({ trigger_word: "wear it", answers: true });
      },
      settings: async ({ defaults, settings, limits, posts, social }) => {
        expect(defaults.length).toBeGreaterThan(5);
        expect(settings).toMatchObject({ promo_code: "SUMMER10", daily_tryons_per_person: 3 });
        expect(limits.hourly_limit).toBe(150);
        const { data } = await social.from("posts").select("platform_post_id").eq("id", posts[0].id).single();
        await act(["comment", "ida", data.platform_post_id, "tryon"]);
        await eventually("the reply", async () => (await said()).length >= 1);
        const body = await readFile(join(samples, "person-ada.jpg"));
        const headers = { "content-type": "image/jpeg" };
        const url = `${s.stack.standins.meta}/_photos/ida.jpg`;
        await fetch(url, { method: "PUT", body, headers });
        await act(["say", "ida", null, [{ type: "image", url }]]);
        await eventually("the picture and the code", async () =>
          (await said()).some(({ text }) => text?.includes("SUMMER10")),
        );
        await eventually("the inbox", async () => {
          const { data: rows } = await social.from("conversations").select("stage");
          return rows[0]?.stage === "completed";
        });
      },
      seen: ({ open, messages, earlier, seen }) => {
        expect(open).toMatchObject({ platform_username: "ida", unread_count: 1 });
        expect(messages.length).toBeGreaterThan(4);
        expect(earlier).toEqual([]);
        expect(seen.unread_count).toBe(0);
      },
      handed: async ({ sent, hearted, handed }) => {
        expect(sent).toMatchObject({ status: "sent", source: "member" });
        expect(hearted.direction).toBe("inbound");
        expect(handed.taken_over_at).toBeNull();
      },
      funnel: ({ bars, days, best, history }) => {
        expect(bars[0]).toMatchObject({ interactions: 1 });
        expect(days).toMatchObject([{ comment_received: 1, tryon_completed: 1 }]);
        expect(best).toMatchObject([{ caption: "Summer", tryon_completed: 1 }]);
        expect(history).toMatchObject([{ tryon_completed: 1 }]);
      },
      sales: ({ sales, perDay, perPost, perProduct }) =>
        expect([sales, perDay, perPost, perProduct]).toEqual([[], [], [], []]),
    },
    { garmentId },
  );
}, 180_000);
