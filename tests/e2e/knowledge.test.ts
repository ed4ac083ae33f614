import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { SupabaseClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TurnAnswer } from "../../types/contracts-assistant.ts";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack({ env: { CRAWL_PAUSE_SECONDS: "0.05" } });

// biome-ignore lint/suspicious/noExplicitAny: rows are looked at by their names.
type Row = Record<string, any>;
const ai = (person: Person) => (person.client as unknown as SupabaseClient).schema("ai" as never);
const rpc = async (person: Person, name: string, args: Row) =>
  must(await ai(person).rpc(name, args)) as unknown as Row;
const one = async (person: Person, table: string, id: string) =>
  must(await ai(person).from(table).select("*").eq("id", id).single()) as unknown as Row;

const page = (title: string, body: string) =>
  `<html><head><title>${title}</title></head><body><nav>Menu</nav><main><h1>${title}</h1>${body}</main></body></html>`;
const pages: Record<string, string> = {
  "/": page(
    "Atelier Lino",
    `<p>We sew linen dresses in Porto.</p><a href="/returns">x</a><a href="/hidden">y</a>`,
  ),
  "/returns": page("Returns", "<p>You may return a dress within thirty days of its arrival.</p>"),
  "/hidden": page("Hidden", "<p>Nobody shall read this.</p>"),
};
let site: Server;
let address: string;
const visits: { path: string; agent: string }[] = [];
beforeAll(async () => {
  site = createServer((request, response) => {
    const path = request.url ?? "/";
    visits.push({ path, agent: String(request.headers["user-agent"]) });
    if (path === "/robots.txt") response.end("User-agent: *\nDisallow: /hidden\n");
    else if (pages[path]) response.setHeader("content-type", "text/html").end(pages[path]);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  address = `http://127.0.0.1:${(site.address() as AddressInfo).port}/`;
});
afterAll(() => new Promise((resolve) => site.close(resolve)));

describe("a brand", () => {
  test("lets its website and a document be read, searches them, and has its questions answered from them", async () => {
    const person = await s.person(200_000);
    const website = await rpc(person, "add_knowledge_source", {
      workspace_id: person.workspaceId,
      source_type: "website",
      url: address,
    });
    const path = `${person.workspaceId}/care.md`;
    const file = new Blob(["# Care\n\n## Linen\n\nWash linen at forty degrees and never tumble it.\n"], {
      type: "text/markdown",
    });
    must(
      await person.client.storage
        .from("knowledge-documents")
        .upload(path, file, { contentType: "text/markdown" }),
    );
    const document = await rpc(person, "add_knowledge_source", {
      workspace_id: person.workspaceId,
      source_type: "document",
      path,
    });
    for (const { id } of [website, document]) {
      await eventually("the source", async () => {
        const source = await one(person, "knowledge_sources", id);
        if (source.status === "failed") throw new Error(source.error_message);
        return source.status === "ready";
      });
    }
    expect(visits.map(({ path }) => path)).toEqual(["/robots.txt", "/", "/returns"]);
    expect(visits.every(({ agent }) => agent === "BacklotBot/1")).toBe(true);

    const { data: found } = await person.client.functions.invoke("assistant/search", {
      body: { workspace_id: person.workspaceId, query: "How is linen washed?" },
    });
    expect(found.hits[0]).toMatchObject({ source_title: "Care", heading: "Care > Linen" });
    expect(found.hits[0].similarity).toBeGreaterThan(0.2);

    // As JSON, when it is done.
    const session = await rpc(person, "start_session", { workspace_id: person.workspaceId });
    const answer = must(
      await person.client.functions.invoke<TurnAnswer>(`assistant/sessions/${session.id}/turns`, {
        body: { content: "Until when may I return a dress?", key: "q1" },
      }),
    );
    expect(answer.content).toMatch(/within thirty days of its arrival\. \[k\d\]/);
    expect(answer.citations).toMatchObject([{ title: "Returns", url: `${address}returns` }]);

    // As it is written: supabase-js hands over the response of an event stream.
    const streamed = await person.client.functions.invoke(`assistant/sessions/${session.id}/turns`, {
      headers: { accept: "text/event-stream" },
      body: { content: "At how many degrees should linen be washed, please look up" },
    });
    const text = await (must(streamed) as Response).text();
    expect(text.match(/^event: \w+/gm)).toEqual(
      expect.arrayContaining(["event: turn", "event: text", "event: done"]),
    );
    expect(JSON.parse(/event: done\ndata: (.*)/.exec(text)![1]!)).toMatchObject({ status: "completed" });

    const messages = must(
      await ai(person)
        .from("conversation_messages")
        .select("role")
        .eq("session_id", session.id)
        .order("position"),
    ) as unknown as Row[];
    expect(messages.filter(({ role }) => role !== "tool").map(({ role }) => role)).toEqual([
      "user",
      "assistant",
      "user",
      "assistant",
    ]);
    const { cost_micro } = await one(person, "conversation_sessions", session.id);
    const ingested = must(
      await ai(person).from("knowledge_ingestion_jobs").select("cost_micro"),
    ) as unknown as Row[];
    const spent = ingested.reduce((sum, row) => sum + row.cost_micro, cost_micro + 1);
    expect(await s.balance(person)).toMatchObject({ held_micro: 0, available_micro: 200_000 - spent });
    expect(await s.faults()).toEqual([]);
  }, 120_000);

  test("has the assistant make a picture, once an admin agrees", async () => {
    const person = await s.person();
    const session = await rpc(person, "start_session", { workspace_id: person.workspaceId });
    must(
      await person.client.functions.invoke(`assistant/sessions/${session.id}/turns`, {
        body: { content: `Please create a picture of ${person.garmentId} on ${person.personPath}` },
      }),
    );
    const [task] = must(await ai(person).from("autonomous_tasks").select("*")) as unknown as Row[];
    expect(task).toMatchObject({ status: "proposed", task_type: "creations", estimated_cost_micro: 2298 });
    await rpc(person, "approve_task", { task_id: task!.id });
    const done = await eventually("the task", async () => {
      const row = await one(person, "autonomous_tasks", task!.id);
      return row.completed_at ? row : undefined;
    });
    expect(done).toMatchObject({
      status: "completed",
      items_succeeded: 1,
      cost_micro: 2298,
      error_message: null,
    });
    const creation = await s.ended(person, done.result.creations[0].creation_id);
    expect(creation).toMatchObject({ status: "completed", workspace_id: person.workspaceId });
    expect(await s.faults()).toEqual([]);
  }, 120_000);

  test("shows nothing of it to anybody else", async () => {
    const [person, stranger] = [await s.person(1000), await s.person(1000)];
    const session = await rpc(person, "start_session", { workspace_id: person.workspaceId });
    for (const table of [
      "conversation_sessions",
      "knowledge_sources",
      "knowledge_chunks",
      "autonomous_tasks",
    ]) {
      expect(must(await ai(stranger).from(table).select("id"))).toEqual([]);
    }
    const refused = await stranger.client.functions.invoke(`assistant/sessions/${session.id}/turns`, {
      body: { content: "Hello?" },
    });
    expect(refused.error.context.status).toBe(404);
    const searched = await stranger.client.functions.invoke("assistant/search", {
      body: { workspace_id: person.workspaceId, query: "linen" },
    });
    expect(searched.error.context.status).toBe(404);
  }, 60_000);
});
