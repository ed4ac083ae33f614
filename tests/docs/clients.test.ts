// The page for builders of clients is one program: its examples run in order, as they stand there, against the local
// stack. After each of them what it found is checked.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { readError } from "../../types/errors.ts";
import { useStack } from "../e2e/stack.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const root = join(import.meta.dirname, "../..");
const page = await readFile(join(root, "docs/clients.md"), "utf8");

const s = useStack({ functions: ["webhooks", "worker"] });
const price = 2298;
const seen: unknown[][] = [];
const friendEmail = `${crypto.randomUUID()}@example.org`;

/** What is to be seen or done after each block, by a name that the block declares. */
const checks: [string, (values: Values) => unknown][] = [
  [
    "home",
    async ({ home, account }) => {
      expect(account.session).not.toBeNull();
      expect(home).toMatchObject({ name: "Ada", type: "person" });
      // two creations' worth and a little
      await s.service
        .schema("billing")
        .rpc("grant_credits", {
          workspace_id: home.id,
          amount_micro: 2 * price + 1,
          kind: "prepaid",
          key: "start",
        })
        .throwOnError();
    },
  ],
  [
    "invitation",
    ({ team, link }) => {
      expect(team).toMatchObject({ name: "Ada's shop", type: "team" });
      expect(link).toMatch(/#[0-9a-f]{64}$/);
    },
  ],
  [
    "members",
    ({ members }) =>
      expect(members).toMatchObject([
        { role: "owner", person: { display_name: "Ada" } },
        { role: "editor", person: { display_name: "Ben" } },
      ]),
  ],
  [
    "shownOnce",
    async ({ shownOnce, team }) => {
      const found = await s.service
        .schema("identity")
        .rpc("authenticate_api_key", { key: shownOnce })
        .throwOnError();
      expect(found.data).toMatchObject({ workspace_id: team.id, permissions: ["read"] });
    },
  ],
  [
    "garment",
    ({ garment, personRefused, garmentRefused }) => {
      expect([personRefused, garmentRefused]).toEqual([null, null]);
      expect(garment).toMatchObject({ name: "Shirt" });
    },
  ],
  [
    "creation",
    ({ creation, repeated }) => {
      expect(creation).toMatchObject({ status: "pending", created_by: expect.any(String) });
      expect(repeated.id).toBe(creation.id);
    },
  ],
  [
    "made",
    async ({ made, pictures }) => {
      expect(made).toMatchObject({ status: "completed", progress: 100, cost_micro: price });
      const picture = await fetch(pictures[0].signedUrl);
      expect(picture.headers.get("content-type")).toBe("image/png");
      await picture.arrayBuffer();
      expect(seen[0]).toEqual([expect.any(Number), seen[0]![1]]);
    },
  ],
  [
    "channel",
    async ({ channel, client }) => {
      expect(channel.bindings.postgres_changes).toMatchObject([
        { filter: { schema: "studio", table: "creations" } },
      ]);
      await client.removeAllChannels();
    },
  ],
  [
    "cancelled",
    ({ cancelled, second }) => expect(cancelled).toMatchObject({ id: second.id, status: "cancelled" }),
  ],
  [
    "refusal",
    ({ refusal, advice }) => {
      expect(refusal).toMatchObject({ code: "insufficient_credits", status: 402 });
      expect(advice).toMatch(/^[\d]+ micro-units are missing\.$/);
    },
  ],
  [
    "first",
    ({ first, next, count, creation, second }) => {
      expect(first).toMatchObject([
        { id: second.id, status: "cancelled", garment: { name: "Shirt" }, project: null },
      ]);
      expect(next).toMatchObject([{ id: creation.id, status: "completed" }]);
      expect(count).toBe(2);
    },
  ],
  ["balance", ({ left, balance }) => expect([left, balance.held_micro]).toEqual([price + 1, 0])],
  [
    "unread",
    ({ unread, read }) => {
      expect(unread).toMatchObject([{ type: "success", title: "Your picture is ready" }]);
      expect(read).toBe(1);
    },
  ],
];

test("the page's examples run from top to bottom and show what it says", async () => {
  const program = blocks(page, "ts");
  expect(program).toHaveLength(checks.length);
  for (const [index, { names }] of program.entries()) expect(names).toContain(checks[index]![0]);
  const friend = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  const data = { full_name: "Ben" };
  await friend.auth.signUp({ email: friendEmail, password: "a long password", options: { data } });
  const given: Values = {
    createClient,
    readError,
    friend,
    friendEmail,
    API_URL: s.stack.apiUrl,
    PUBLISHABLE_KEY: s.stack.publishableKey,
    APP_URL: "https://app.example.com",
    email: `${crypto.randomUUID()}@example.com`,
    password: "a long password",
    person: await readFile(join(root, "samples/person-ada.jpg")),
    shirt: await readFile(join(root, "samples/garment-tee.png")),
    showProgress: (...what: unknown[]) => seen.push(what),
  };
  await runBlocks(program, given, (index, values) => checks[index]![1](values));
  expect(await s.faults()).toEqual([]);
});
