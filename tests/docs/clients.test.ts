// The page for builders of clients is one program: its examples run in order, as they stand there, against the local
// stack. After each of them what it found is checked.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { readError } from "../../types/errors.ts";
import { useStack } from "../e2e/stack.ts";

const root = join(import.meta.dirname, "../..");
const page = await readFile(join(root, "docs/clients.md"), "utf8");
// biome-ignore lint/suspicious/noExplicitAny: the values of the page's program.
type Values = Record<string, any>;

const s = useStack({ functions: ["webhooks", "worker"] });
const price = 2298;
const seen: unknown[][] = [];
const friendEmail = `${crypto.randomUUID()}@example.org`;

const blocks = (language: string) =>
  [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, l]) => l === language).map(([, , code]) => code!);

function declared(code: string): string[] {
  const names = [...code.matchAll(/^const (\w+)/gm)].map(([, name]) => name!);
  for (const [, list] of code.matchAll(/^const [{[]([^}\]]*)[}\]] =/gm)) {
    names.push(...list!.split(",").map((part) => part.split(":").at(-1)!.trim()));
  }
  return names;
}

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
  const program = blocks("ts");
  expect(program).toHaveLength(checks.length);
  const names: string[] = [];
  const source = program.map((code, index) => {
    const mine = declared(code);
    expect(mine, code).toContain(checks[index]![0]);
    for (const name of mine) expect(names, "names are declared once").not.toContain(name);
    names.push(...mine);
    return `${code.replace(/^import .*$/m, "")}\nawait after(${index}, { ${names.join(", ")} });`;
  });
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
    after: (index: number, values: Values) => checks[index]![1](values),
  };
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  await new AsyncFunction(...Object.keys(given), source.join("\n"))(...Object.values(given));
  expect(await s.faults()).toEqual([]);
});
