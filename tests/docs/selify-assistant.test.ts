import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import type { Values } from "./blocks.ts";
import { runPage, signUp } from "./selify.ts";

const s = useStack({ env: { CRAWL_PAUSE_SECONDS: "0.05" } });
const pages: Record<string, string> = {
  "/": `<title>Atelier</title><main><h1>Atelier</h1><p>We sew linen dresses in Porto.</p><a href="/returns">x</a></main>`,
  "/returns": `<title>Returns</title><main><h1>Returns</h1><p>You may return a dress within thirty days of its arrival.</p></main>`,
};
const site = createServer((request, response) => {
  const page = pages[request.url ?? "/"];
  if (page) response.setHeader("content-type", "text/html").end(`<html>${page}</html>`);
  else response.writeHead(404).end();
});
await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
afterAll(() => site.close());

test("knowledge, assistant, tasks and figures work as their page says", async () => {
  const person = await signUp(s, 200_000);
  await runPage(
    s,
    "assistant.md",
    person,
    {
      care: ({ website, care }) =>
        expect([website.source_type, care.source_type]).toEqual(["website", "document"]),
      sources: ({ sources, readings, documents }) => {
        expect(sources.map(({ status }: Values) => status)).toEqual(["ready", "ready"]);
        expect(readings).toHaveLength(2);
        expect(documents.map(({ title }: Values) => title)).toEqual(["Atelier", "Returns"]);
      },
      hits: ({ hits }) => expect(hits[0]).toMatchObject({ source_title: "Care", heading: "Care > Linen" }),
      reply: ({ reply, footnotes }) => {
        expect(reply.content).toMatch(/within thirty days of its arrival/);
        expect(footnotes).toEqual([expect.stringMatching(/^\[k\d\] Returns http.*\/returns$/)]);
      },
      written: ({ written }) => {
        expect(written.text).toContain("forty degrees");
        expect(written.tools.length).toBeGreaterThan(0);
        expect(written.done).toMatchObject({ status: "completed", content: written.text });
      },
      transcript: ({ sessions, transcript, over, session }) => {
        expect(sessions).toMatchObject([{ id: session.id, title: "Returns" }]);
        expect(transcript.map(({ role }: Values) => role)).toEqual([
          "user",
          "assistant",
          "user",
          "assistant",
        ]);
        expect(over.is_active).toBe(false);
      },
      task: ({ rules, proposed, approved, task }) => {
        expect(rules.monthly_budget_micro).toBe(5_000_000);
        expect(proposed.status).toBe("proposed");
        expect(approved.status).not.toBe("proposed");
        expect(task).toMatchObject({ status: "completed", error_message: null });
      },
      voice: ({ voice }) => expect(voice).toMatchObject({ analysis_status: "ready", analysis_error: null }),
      profile: ({ profile }) =>
        expect(profile).toMatchObject([{ preference_key: "fit", preference_value: "loose" }]),
      figures: ({ figures, brands }) => {
        expect(figures.conversations).toBe(1);
        expect(brands).toMatchObject([{ workspace_id: person.workspaceId }]);
      },
    },
    {
      siteUrl: `http://127.0.0.1:${(site.address() as AddressInfo).port}/`,
      careFile: new Blob(["# Care\n\n## Linen\n\nWash linen at forty degrees and never tumble it.\n"], {
        type: "text/markdown",
      }),
    },
  );
}, 180_000);
