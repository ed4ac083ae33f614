// What the tests of the assistant work with: the function before a stand-in of the model, and a person with credits and knowledge.

import { randomUUID } from "node:crypto";
import { beforeEach, expect } from "vitest";
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
import { queueTables } from "../helpers/jobs.ts";

export const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();
export const control = new Control("answer");
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
export const token = (id: string) => `Bearer x.${btoa(JSON.stringify({ sub: id }))}.y`;
export const app = createApp({ db, backend, model, embedder, log });
export let ada: { id: string; workspaceId: string };
export let session: { id: string };
export let sourceId: string;
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

export const as = (id = ada.id) => testDb.user(id);
export const start = (more: Record<string, unknown> = {}) =>
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

export const post = (content: string, { key, stream = false, who = ada.id, to = session.id }: Ask = {}) =>
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

export const answered = async (content: string, more: Ask = {}) => {
  const response = await post(content, more);
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as TurnAnswer;
};

export const wallet = async () =>
  (
    await testDb.query(
      "select prepaid_micro::int, held_micro::int from billing.wallets where workspace_id = $1",
      [ada.workspaceId],
    )
  )[0]!;
export const faults = () => testDb.query("select * from billing.verify_ledger()");
const handlers = knowledgeHandlers({
  safeFetch: () => Promise.reject(new Error("no web")),
  storage: { signedUrl: () => Promise.reject(new Error("no storage")) },
  embedder,
  textModel: model,
});
export const work = () =>
  workOff(testDb, () => workOnce({ db, handlers, log }), { seconds: 10, kinds: "ai.%" });
