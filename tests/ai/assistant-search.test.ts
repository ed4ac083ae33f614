import { describe, expect, test } from "vitest";
import { ada, app, control, testDb, token, wallet } from "./assistant-stage.ts";

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
