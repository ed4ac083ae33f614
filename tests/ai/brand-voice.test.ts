import { describe, expect, test } from "vitest";
import { ada, answered, as, control, faults, sourceId, testDb, wallet, work } from "./assistant-stage.ts";

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
