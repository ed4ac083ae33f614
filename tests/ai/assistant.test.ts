import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { createEmbedder } from "../../functions/_shared/ai/embeddings.ts";
import { createTextModel } from "../../functions/_shared/ai/gemini.ts";
import { createApp } from "../../functions/assistant/app.ts";
import type { Backend } from "../../functions/assistant/backend.ts";
import { knowledgeHandlers } from "../../functions/worker/handlers/knowledge.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";
import type { TurnAnswer } from "../../types/contracts-assistant.ts";
import { functionsDatabase, keptLog, workOff, workOnce } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();
const control = new Control("answer");
const gemini = createGeminiStandIn({ data: { key: "key" }, control });
const ask: typeof fetch = async (input, init) =>
  gemini.request(String(input).replace("http://gemini.test", ""), init);
const embedder = createEmbedder(
  { geminiUrl: "http://gemini.test", geminiKey: "key", model: "gemini-embedding-001" },
  ask,
);
const model = createTextModel({ url: "http://gemini.test", key: "key", model: "gemini-3.1-flash-lite" }, ask);

/** PostgREST's part: the function runs with the rights of the bearer, whose token here is `x.<claims>.y`. */
const backend: Backend = {
  rpc: async <Result>(authorization: string, schema: string, name: string, args: Record<string, unknown>) => {
    const { sub } = JSON.parse(atob(authorization.split(".")[1]!));
    const rows = await testDb.user(sub).rpc(`${schema}.${name}`, args);
    return (/^search_|_metrics$/.test(name) ? rows : rows[0]) as Result;
  },
};
const token = (id: string) => `Bearer x.${btoa(JSON.stringify({ sub: id }))}.y`;
const app = createApp({ db, backend, model, embedder, log });

let ada: { id: string; workspaceId: string };
let session: { id: string };
let sourceId: string;
beforeEach(async () => {
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers cascade`);
  await testDb.setClock(null);
  control.reset();
  ada = await testDb.createUser();
  await credit(100_000);
  session = await start();
  sourceId = await know([
    ["Returns", "You may return a dress within thirty days. We pay for shipping."],
    ["Care", "Wash linen at forty degrees. Never tumble it."],
  ]);
});

const as = (id = ada.id) => testDb.user(id);
const start = (more: Record<string, unknown> = {}) =>
  as().call("ai.start_session", { workspace_id: ada.workspaceId, ...more });
const credit = (amount_micro: number) =>
  testDb.service.call("billing.grant_credits", {
    workspace_id: ada.workspaceId,
    amount_micro,
    kind: "prepaid",
    key: randomUUID(),
  });
/** Knowledge as the worker leaves it, embedded. */
async function know(texts: [string, string][]): Promise<string> {
  const [source] = await testDb.query(
    `insert into ai.knowledge_sources (workspace_id, source_type, title, url) values ($1, 'website', 's', 'https://s.test/')
     returning id`,
    [ada.workspaceId],
  );
  for (const [title, content] of texts) {
    const [vector] = await embedder!.embed([{ title, text: content }], "document", AbortSignal.timeout(5000));
    await testDb.query(
      `with d as (insert into ai.knowledge_documents (workspace_id, source_id, location, title, content_hash, last_verified_at)
         values ($1, $2, $3, $3, repeat('0', 64), now()) returning id)
       insert into ai.knowledge_chunks (workspace_id, source_id, source_doc_id, source_type, source_title, source_url, content,
         content_hash, embedding, embedding_model, embedding_updated_at, chunk_index, total_chunks, token_estimate,
         quality_score, last_verified_at)
       select $1, $2, d.id, 'website', $3, 'https://s.test/' || $3, $4, $5, $6::real[], 'm', now(), 0, 1, 20, 0.9, now() from d`,
      [ada.workspaceId, source!.id, title, content, Buffer.from(title.padEnd(32)).toString("hex"), vector],
    );
  }
  return source!.id as string;
}
const post = (content: string, { key, stream = false, who = ada.id, to = session.id }: Ask = {}) =>
  Promise.resolve(
    app.request(`/assistant/sessions/${to}/turns`, {
      method: "POST",
      body: JSON.stringify({ content, ...(key && { key }) }),
      headers: { authorization: token(who), ...(stream && { accept: "text/event-stream" }) },
    }),
  );
interface Ask {
  key?: string;
  stream?: boolean;
  who?: string;
  to?: string;
}
const answered = async (content: string, more: Ask = {}) => {
  const response = await post(content, more);
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as TurnAnswer;
};
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
const wallet = async () =>
  (
    await testDb.query(
      "select prepaid_micro::int, held_micro::int from billing.wallets where workspace_id = $1",
      [ada.workspaceId],
    )
  )[0]!;
const faults = () => testDb.query("select * from billing.verify_ledger()");

const handlers = knowledgeHandlers({
  safeFetch: () => Promise.reject(new Error("no web")),
  storage: { signedUrl: () => Promise.reject(new Error("no storage")) },
  embedder,
  textModel: model,
});
const work = () => workOff(testDb, () => workOnce({ db, handlers, log }), { seconds: 10, kinds: "ai.%" });

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
    expect((await messages()).map(({ role, tool_name }) => tool_name ?? role)).toEqual([
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

describe("a search", () => {
  const search = (body: Record<string, unknown>, who = ada.id) =>
    Promise.resolve(
      app.request("/assistant/search", {
        method: "POST",
        body: JSON.stringify({ workspace_id: ada.workspaceId, ...body }),
        headers: { authorization: token(who) },
      }),
    );

  test("is by meaning for members, who pay for it, and by words for viewers", async () => {
    const { hits } = await (await search({ query: "washing at degrees" })).json();
    expect(hits[0]).toMatchObject({ source_title: "Care", similarity: expect.any(Number) });
    const before = await wallet();
    expect(before.prepaid_micro).toBe(99_999);
    expect(before.held_micro).toBe(0);
    const vera = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [ada.workspaceId, vera.id],
    );
    const worded = await (await search({ query: "linen" }, vera.id)).json();
    expect(worded.hits[0]).toMatchObject({ source_title: "Care", similarity: null });
    expect(await wallet()).toEqual(before);
    const eve = await testDb.createUser();
    expect((await search({ query: "linen" }, eve.id)).status).toBe(404);
  });

  test("goes on by words while the provider of embeddings is in trouble, for nothing", async () => {
    control.add({ fail: "submit", http_status: 503 });
    const { hits } = await (await search({ query: "linen" })).json();
    expect(hits[0]).toMatchObject({ source_title: "Care", similarity: null });
    expect(await wallet()).toEqual({ prepaid_micro: 100_000, held_micro: 0 });
  });
});

describe("a brand's voice", () => {
  test("is read off its texts, charged, and told to the model", async () => {
    expect(await as().call("ai.analyze_brand", { workspace_id: ada.workspaceId })).toMatchObject({
      analysis_status: "pending",
      avg_quality_score: 90,
    });
    expect((await wallet()).held_micro).toBe(900);
    await work();
    const [brand] = await as().query("select * from ai.brand_intelligence where workspace_id = $1", [
      ada.workspaceId,
    ]);
    expect(brand).toMatchObject({
      analysis_status: "ready",
      voice_attributes: { formality: "neutral", tone: ["calm", "warm"] },
    });
    expect(brand!.voice_embedding).toHaveLength(1536);
    expect(brand!.cost_micro).toBeGreaterThan(0);
    expect(await wallet()).toEqual({ prepaid_micro: 100_000 - brand!.cost_micro, held_micro: 0 });
    await answered("Is linen washed?");
    const request = control.requests.filter(({ path }) => path.endsWith(":streamGenerateContent")).at(-1)!;
    expect(JSON.stringify(request.body)).toContain("brand's voice");
    expect(await faults()).toEqual([]);
  });

  test("without texts says so, and charges nothing", async () => {
    await testDb.query("delete from ai.knowledge_sources where id = $1", [sourceId]);
    await as().call("ai.analyze_brand", { workspace_id: ada.workspaceId });
    await work();
    const [brand] = await as().query("select * from ai.brand_intelligence where workspace_id = $1", [
      ada.workspaceId,
    ]);
    expect(brand).toMatchObject({
      analysis_status: "failed",
      analysis_error: expect.stringContaining("no_samples"),
    });
    expect(await wallet()).toEqual({ prepaid_micro: 100_000, held_micro: 0 });
  });
});

describe("a task", () => {
  const propose = (more: Record<string, unknown> = {}, who = ada.id) =>
    as(who).call("ai.propose_task", {
      workspace_id: ada.workspaceId,
      task_type: "analyze_brand",
      title: "Read our voice",
      ...more,
    });
  const task = async (id: string) =>
    (await as().query("select * from ai.autonomous_tasks where id = $1", [id]))[0]!;
  const limits = (auto_approve_micro: number, monthly_budget_micro: number | null = null) =>
    as().call("ai.set_task_limits", {
      workspace_id: ada.workspaceId,
      auto_approve_micro,
      monthly_budget_micro,
    });

  test("waits for an admin, who is told, unless the limits allow it", async () => {
    const member = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [ada.workspaceId, member.id],
    );
    const proposed = await propose({}, member.id);
    expect(proposed).toMatchObject({ status: "proposed", estimated_cost_micro: 900, approval: null });
    expect(
      await as().query(
        "select title from messaging.notifications where user_id = $1 and title like '%approval%'",
        [ada.id],
      ),
    ).toHaveLength(1);
    await expectError(
      as(member.id).call("ai.approve_task", { task_id: proposed.id }),
      "role_too_low",
      "PT403",
    );
    const approved = await as().call("ai.approve_task", { task_id: proposed.id });
    expect(approved).toMatchObject({ status: "approved", approval: "person", decided_by: ada.id });
    await expectError(as().call("ai.approve_task", { task_id: proposed.id }), "task_not_open", "PT409");
    await work();
    const done = await task(proposed.id);
    expect(done).toMatchObject({ status: "completed", items_succeeded: 1, result: { status: "ready" } });
    expect(done.cost_micro).toBeGreaterThan(0);
    expect(await wallet()).toMatchObject({ held_micro: 0 });

    await limits(900);
    expect(await propose()).toMatchObject({ status: "approved", approval: "automatic", decided_by: null });
  });

  test("never goes beyond the month's budget, whoever approves", async () => {
    await limits(1000, 1500);
    const [one, two] = await Promise.all([propose({ key: "a" }), propose({ key: "b" })]);
    expect([one.status, two.status].sort()).toEqual(["approved", "proposed"]);
    const open = one.status === "proposed" ? one : two;
    const error = await expectError(
      as().call("ai.approve_task", { task_id: open.id }),
      "task_budget_exceeded",
      "PT409",
    );
    expect(error.facts).toMatchObject({ left_micro: 600 });
    await limits(1000, 2000);
    expect(await as().call("ai.approve_task", { task_id: open.id })).toMatchObject({ status: "approved" });
  });

  test("asked for twice by one key is one, and can be rejected or cancelled", async () => {
    const first = await propose({ key: "k" });
    expect((await propose({ key: "k" })).id).toBe(first.id);
    await expectError(
      propose({ key: "k", task_type: "refresh_knowledge", config: { source_id: sourceId } }),
      "key_reused",
      "PT409",
    );
    expect(await as().call("ai.reject_task", { task_id: first.id, note: "not now" })).toMatchObject({
      status: "rejected",
      decision_note: "not now",
    });
    const later = await propose({ scheduled_at: "2030-01-01T00:00:00Z" });
    await as().call("ai.approve_task", { task_id: later.id });
    expect(await as().call("ai.cancel_task", { task_id: later.id })).toMatchObject({ status: "cancelled" });
    await expectError(as().call("ai.cancel_task", { task_id: first.id }), "task_not_open", "PT409");
    const eve = await testDb.createUser();
    await expectError(as(eve.id).call("ai.cancel_task", { task_id: later.id }), "unknown_task", "PT404");
  });

  test("of creations asks for them within what was approved, and says which could not be", async () => {
    const item = { creation_type: "tryon", garment_id: randomUUID(), input_path: `${ada.workspaceId}/x.jpg` };
    const proposed = await propose({ task_type: "creations", config: { items: [item, item] } });
    await as().call("ai.approve_task", { task_id: proposed.id });
    await work();
    expect(await task(proposed.id)).toMatchObject({
      status: "failed",
      items_failed: 2,
      error_message: expect.stringContaining("unknown_garment"),
      error_details: [{ item: 0 }, { item: 1 }],
    });
    await expectError(
      propose({ task_type: "creations", config: { items: [] } }),
      "invalid_argument",
      "PT400",
    );
    await expectError(propose({ task_type: "else" }), "invalid_argument", "PT400");
  });
});
