import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { member, sell, stage, testDb } from "./catalog-data-stage.ts";

describe("brand settings", () => {
  test("are read off the catalog and kept as people set them", async () => {
    await sell({
      title: "Linen dress",
      product_type: "Dresses",
      tags: ["summer"],
      body_html: `<p>${"soft ".repeat(20)}</p>`,
    });
    await sell({ title: "Wool coat", product_type: "Coats", tags: ["summer", "winter"] });
    const editor = testDb.user((await member("editor")).id);
    const brand = await editor.call("commerce.analyze_brand", { account_id: stage.accountId });
    expect(brand).toMatchObject({
      products_analyzed: 2,
      common_tags: ["summer", "winter"],
      price_ranges: { Dresses: { min: 1990, median: 1990, max: 1990 } },
      analysis_insights: { products: 2, active: 2, without_description: 1, types: { Coats: 1, Dresses: 1 } },
    });
    expect([...brand.sample_titles].sort()).toEqual(["Linen dress", "Wool coat"]);
    await editor.query("update commerce.brand_settings set brand_voice = 'luxury' where id = $1", [brand.id]);
    const again = await editor.call("commerce.analyze_brand", { account_id: stage.accountId });
    expect([again.id, again.brand_voice]).toEqual([brand.id, "luxury"]);
  });

  test("are for editors, of accounts of the same workspace", async () => {
    const viewer = testDb.user((await member("viewer")).id);
    await expectError(
      viewer.call("commerce.analyze_brand", { account_id: stage.accountId }),
      "role_too_low",
      "PT403",
    );
    const stranger = await testDb.createUser();
    await expectError(
      testDb
        .user(stranger.id)
        .query("insert into commerce.brand_settings (workspace_id, connected_account_id) values ($1, $2)", [
          stranger.workspaceId,
          stage.accountId,
        ]),
      "42501",
    );
  });
});
