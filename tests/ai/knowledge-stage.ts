// What the tests of knowledge work with: a site, uploaded files, and a person with credits, anew for each test.

import { randomUUID } from "node:crypto";
import { beforeEach } from "vitest";
import { createEmbedder } from "../../functions/_shared/ai/embeddings.ts";
import type { SafeFetch } from "../../functions/_shared/safe-fetch.ts";
import { AddressRefused } from "../../functions/_shared/safe-fetch.ts";
import { knowledgeHandlers } from "../../functions/worker/handlers/knowledge.ts";
import { JobError } from "../../functions/worker/job.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";
import { functionsDatabase, keptLog, workOff, workOnce } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const { log } = keptLog();
export const control = new Control("answer");
const gemini = createGeminiStandIn({ data: { key: "key" }, control });
const ask: typeof fetch = async (input, init) =>
  gemini.request(String(input).replace("http://gemini.test", ""), init);
type Site = Record<string, { body?: string; status?: number; headers?: Record<string, string> } | string>;
export let site: Site;
export let asked: string[];
export const safeFetch: SafeFetch = async (url) => {
  asked.push(url);
  if (url.includes("//10."))
    throw new AddressRefused("The host leads to an address that is not of the public internet.");
  const found = site[url.replace("https://shop.test", "")] ?? { status: 404 };
  const page = typeof found === "string" ? { body: found } : found;
  const body = page.body ?? "";
  return {
    status: page.status ?? 200,
    headers: { "content-type": "text/html; charset=utf-8", ...page.headers },
    body,
    bytes: new TextEncoder().encode(body),
  };
};
export const files = new Map<string, { type: string; bytes: Uint8Array<ArrayBuffer> }>();
export const deps = {
  safeFetch,
  pauseMs: 0,
  embedder: createEmbedder(
    { geminiUrl: "http://gemini.test", geminiKey: "key", model: "gemini-embedding-001" },
    ask,
  ),
  storage: {
    signedUrl: async (_: string, path: string) => {
      if (!files.has(path)) throw new JobError("unknown_image", "gone", { retry: false });
      return `http://storage.test/${path}`;
    },
  },
  fetch: (async (url: string) => {
    const file = files.get(String(url).replace("http://storage.test/", ""))!;
    return new Response(file.bytes, { headers: { "content-type": file.type } });
  }) as typeof fetch,
};
export let ada: { id: string; workspaceId: string };
export const asAda = () => testDb.user(ada.id);
beforeEach(async () => {
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers cascade`);
  await testDb.setClock(null);
  control.reset();
  asked = [];
  ada = await testDb.createUser();
  await credit(100_000);
  site = {
    "/robots.txt": { body: "User-agent: *\nDisallow: /private", headers: { "content-type": "text/plain" } },
    "/": page(
      "Atelier",
      "<p>We make linen dresses in Porto.</p><a href='/returns'>Returns</a><a href='/private/x'>x</a>",
    ),
    "/returns": page(
      "Returns",
      `<h2>How long</h2><p>You may return a dress within thirty days of its arrival.</p>
       <h2>Cost</h2><p>Shipping back is free within Europe.</p><a href="/care?utm_source=x#wash">care</a>`,
    ),
    "/care": page("Care", "<p>Wash linen at forty degrees and never tumble it.</p><a href='/deep'>deep</a>"),
    "/deep": page("Deep", "<p>Too deep to be read.</p>"),
  };
});

export const page = (title: string, body: string) =>
  `<html><head><title>${title}</title></head><body><nav><a href="/returns">Menu words</a></nav><main><h1>${title}</h1>${body}</main><footer>Footer words</footer></body></html>`;

const credit = (amount_micro: number) =>
  testDb.service.call("billing.grant_credits", {
    workspace_id: ada.workspaceId,
    amount_micro,
    kind: "prepaid",
    key: randomUUID(),
  });
export const work = () => workOff(testDb, () => workOnce({ db, handlers: knowledgeHandlers(deps), log }));
export const add = (more: Record<string, unknown> = {}) =>
  asAda().call("ai.add_knowledge_source", {
    workspace_id: ada.workspaceId,
    source_type: "website",
    url: "https://shop.test/",
    ...more,
  });

export const ingestion = async (source: { id: string }) =>
  (
    await asAda().query(
      "select * from ai.knowledge_ingestion_jobs where source_id = $1 order by created_at desc limit 1",
      [source.id],
    )
  )[0]!;

const embed = async (text: string) =>
  (await deps.embedder!.embed([{ text }], "query", AbortSignal.timeout(5000)))[0]!;

export const vectorSearch = async (text: string, more: Record<string, unknown> = {}, who = asAda()) =>
  who.rpc("ai.search_knowledge", {
    workspace_id: ada.workspaceId,
    query_embedding: await embed(text),
    ...more,
  });
