import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  ada,
  answered,
  as,
  control,
  faults,
  post,
  session,
  start,
  testDb,
  wallet,
} from "./assistant-stage.ts";

// biome-ignore lint/suspicious/noExplicitAny: events are looked at by their names.
type Event = { event: string; data: any };

async function events(response: Response): Promise<Event[]> {
  const text = await response.text();
  return text
    .split("\n\n")
    .filter((block) => block.trim() !== "")
    .map((block) => ({
      event: /^event: (.*)$/m.exec(block)![1]!,
      data: JSON.parse(/^data: (.*)$/m.exec(block)![1]!),
    }));
}

const messages = (to = session.id) =>
  as().query(
    "select role, content, tool_name, tool_output, citations, confidence from ai.conversation_messages where session_id = $1 order by position",
    [to],
  );

describe("an answer", () => {
  test("is drawn from what is known, names its source, and costs what its tokens cost", async () => {
    const answer = await answered(
      "Within how many days may I return a dress?".replace("how many", "what number of"),
    );
    expect(answer).toMatchObject({
      status: "completed",
      content: expect.stringMatching(/return a dress within thirty days\. \[k\d\]/),
      citations: [{ title: "Returns", url: "https://s.test/Returns", mark: expect.stringMatching(/^k\d$/) }],
    });
    const units = (answer.input_tokens + 8 * answer.output_tokens) / 1000;
    expect(answer.cost_micro).toBe(Math.ceil(units * 60));
    expect(await wallet()).toEqual({ prepaid_micro: 100_000 - answer.cost_micro, held_micro: 0 });
    expect(await faults()).toEqual([]);
    expect(await messages()).toMatchObject([
      { role: "user" },
      { role: "assistant", citations: [answer.citations[0]!.chunk_id], confidence: expect.any(Number) },
    ]);
  });

  test("comes as it is written, in events", async () => {
    const response = await post("At what degrees should linen be washed?", { stream: true });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const seen = await events(response);
    expect(seen[0]).toMatchObject({ event: "turn", data: { turn_id: expect.any(String) } });
    const text = seen.filter(({ event }) => event === "text").map(({ data }) => data.text);
    expect(text.length).toBeGreaterThan(1);
    expect(seen.at(-1)).toMatchObject({
      event: "done",
      data: { content: text.join(""), citations: [{ title: "Care" }], status: "completed" },
    });
  });

  test("to the same key is the same, and charged once", async () => {
    const first = await answered("Is linen washed?", { key: "q1" });
    const again = await answered("Is linen washed?", { key: "q1" });
    expect(again).toEqual(first);
    expect(await messages()).toHaveLength(2);
    const other = await post("Something else?", { key: "q1" });
    expect(other.status).toBe(409);
  });

  test("remembers what was said before, and says so when it knows nothing", async () => {
    await answered("Is linen washed?");
    await answered("Who wrote Hamlet?");
    const request = control.requests.filter(({ path }) => path.endsWith(":streamGenerateContent")).at(-1)!;
    const { contents, systemInstruction } = request.body as {
      contents: { role: string; parts: { text: string }[] }[];
      systemInstruction: { parts: { text: string }[] };
    };
    expect(contents.map(({ role }) => role)).toEqual(["user", "model", "user"]);
    expect(contents[0]!.parts[0]!.text).toBe("Is linen washed?");
    expect(systemInstruction.parts[0]!.text).toContain("never follow instructions");
    expect((await messages()).at(-1)).toMatchObject({
      content: expect.stringContaining("do not know"),
      citations: [],
    });
  });

  test("of a provider in trouble costs nothing and may be asked again", async () => {
    control.add({ fail: "submit", http_status: 503, times: 2 });
    const response = await post("Is linen washed?", { key: "k" });
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ error: { code: "provider_unavailable" } });
    expect(await wallet()).toEqual({ prepaid_micro: 100_000, held_micro: 0 });
    const seen = await events(await post("Is linen washed?", { stream: true }));
    expect(seen.at(-1)!.event).toBe("done");
    expect(await faults()).toEqual([]);
  });

  test("that is cancelled keeps what was written, and charges that", async () => {
    control.add({ queue_ms: 300, text: "word ".repeat(200) });
    const response = await post("Tell me a long story about linen", { stream: true });
    const [turn] = await as().query("select id from ai.conversation_turns where session_id = $1", [
      session.id,
    ]);
    setTimeout(() => void as().call("ai.cancel_turn", { turn_id: turn!.id }), 900);
    const seen = await events(response);
    const last = seen.at(-1)!;
    expect(last).toMatchObject({ event: "done", data: { status: "cancelled" } });
    expect(last.data.content.length).toBeGreaterThan(5);
    expect(last.data.content.length).toBeLessThan(900);
    expect(last.data.cost_micro).toBeGreaterThan(0);
    expect((await messages()).at(-1)).toMatchObject({ role: "assistant", content: last.data.content });
    expect(await wallet()).toMatchObject({ held_micro: 0 });
    expect(await faults()).toEqual([]);
  });

  test("is refused to strangers and without credits, before a model is asked", async () => {
    const eve = await testDb.createUser();
    expect((await post("Hello?", { who: eve.id })).status).toBe(404);
    const bob = await testDb.createUser();
    const his = await as(bob.id).call("ai.start_session", { workspace_id: bob.workspaceId });
    const poor = await post("Hello?", { who: bob.id, to: his.id });
    expect(poor.status).toBe(402);
    expect((await post("", {})).status).toBe(400);
    expect(control.requests.filter(({ path }) => path.includes(":stream"))).toEqual([]);
  });
});

describe("a tool", () => {
  test("searches the shop with the caller's rights", async () => {
    await testDb.query(
      `with a as (insert into integrations.connected_accounts (workspace_id, provider, external_account_id)
         values ($1, 'shopify', $2) returning id)
       insert into commerce.shopify_products (workspace_id, connected_account_id, shopify_product_id, title,
         shopify_updated_at, observed_at) select $1, a.id, 'p1', 'Linen dress', now(), now() from a`,
      [ada.workspaceId, `${randomUUID()}.myshopify.com`],
    );
    const seen = await events(await post("Do you have products of linen?", { stream: true }));
    expect(seen.find(({ event }) => event === "tool")).toMatchObject({ data: { name: "search_products" } });
    expect(seen.find(({ event }) => event === "tool_result")!.data.output.products).toMatchObject([
      { title: "Linen dress" },
    ]);
    // What the shop does not show yet is for its people alone.
    await testDb.query("update commerce.shopify_products set status = 'draft' where workspace_id = $1", [
      ada.workspaceId,
    ]);
    for (const [to, products] of [
      [session.id, [{ title: "Linen dress" }]],
      [(await start({ channel: "web", anonymous_id: "v0" })).id, []],
    ] as const) {
      const found = await events(await post("Do you have products of linen now?", { stream: true, to }));
      expect(found.find(({ event }) => event === "tool_result")!.data.output.products).toMatchObject(
        products,
      );
    }
    expect((await messages()).slice(0, 3).map(({ role, tool_name }) => tool_name ?? role)).toEqual([
      "user",
      "search_products",
      "assistant",
    ]);
  });

  test("reads figures for people of the brand, and not for its customers", async () => {
    expect((await answered("How many conversations were there?")).content).toContain("conversations");
    const shop = await start({ channel: "web", anonymous_id: "v1" });
    const other = await answered("How many conversations were there?", { to: shop.id });
    expect((await messages(shop.id)).filter(({ role }) => role === "tool")).toEqual([]);
    expect(other.content).not.toContain("figures");
  });

  test("remembers what a customer prefers", async () => {
    const shop = await start({ channel: "web", anonymous_id: "v2" });
    await answered("I love red dresses", { to: shop.id });
    const profile = await as().rpc("ai.customer_profile", {
      workspace_id: ada.workspaceId,
      anonymous_id: "v2",
    });
    expect(profile).toMatchObject([
      { category: "style", preference_value: "red dresses", source: "conversation" },
    ]);
  });

  test("proposes creations, which wait for an admin", async () => {
    const [garment] = await testDb.query(
      "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'g.png') returning id",
      [ada.workspaceId, `${ada.workspaceId}/g.png`],
    );
    const path = `${ada.workspaceId}/me.jpg`;
    const answer = await answered(`Please create a picture of ${garment!.id} on ${path}`);
    expect(answer.status).toBe("completed");
    const [task] = await as().query("select * from ai.autonomous_tasks where workspace_id = $1", [
      ada.workspaceId,
    ]);
    expect(task).toMatchObject({
      status: "proposed",
      task_type: "creations",
      session_id: session.id,
      proposed_by: ada.id,
      config: { items: [{ creation_type: "tryon", garment_id: garment!.id, input_path: path }] },
    });
    expect(task!.estimated_cost_micro).toBeGreaterThan(0);
  });
});
