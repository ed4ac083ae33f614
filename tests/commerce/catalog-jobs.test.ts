import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, sound, testDb } from "./catalog-control-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

describe("an estimate", () => {
  test("says how many products, pictures and credits, and changes nothing", async () => {
    const s = await createCatalog(testDb, db, 12, 30 * price);
    const estimate = await s.user.call("commerce.estimate_catalog_job", s.settings);
    expect(estimate).toEqual({
      products: 12,
      products_new: 12,
      products_updated: 0,
      products_skipped: 0,
      products_without_image: 0,
      pictures: 24,
      product_amount_micro: 2 * price,
      amount_micro: 24 * price,
      amount_credits: 24 * 383,
      available_micro: 30 * price,
      affordable: true,
      estimated_seconds: 10,
    });
    expect(
      await testDb.query("select * from commerce.catalog_jobs where workspace_id = $1", [s.workspaceId]),
    ).toEqual([]);
  });

  test("is of the products that the filter lets through", async () => {
    const s = await createCatalog(testDb, db, 6);
    const products = await testDb.query(
      "select id from commerce.shopify_products where connected_account_id = $1 order by title",
      [s.accountId],
    );
    const ids = products.map(({ id }) => id);
    await testDb.query("update commerce.shopify_products set tags = '{summer}' where id = any ($1)", [
      ids.slice(0, 2),
    ]);
    await testDb.query("update commerce.shopify_products set images = '[]' where id = $1", [ids[1]]);
    await testDb.query("update commerce.shopify_products set status = 'archived' where id = $1", [ids[5]]);
    const [collection] = await testDb.query(
      `insert into commerce.shopify_collections (workspace_id, connected_account_id, shopify_collection_id, title,
        shopify_updated_at, observed_at) values ($1, $2, '1', 'Best', '2029-06-01', '2029-06-01') returning id`,
      [s.workspaceId, s.accountId],
    );
    await testDb.query(
      `insert into commerce.shopify_collection_products (collection_id, shopify_product_id, workspace_id,
        connected_account_id, observed_at)
      select $1, p.shopify_product_id, p.workspace_id, p.connected_account_id, '2029-06-01'
      from commerce.shopify_products p where p.id = any ($2)`,
      [collection!.id, ids.slice(0, 3)],
    );
    const count = async (filter: Record<string, unknown>) => {
      const { products, products_without_image } = await s.user.call("commerce.estimate_catalog_job", {
        ...s.settings,
        ...filter,
      });
      return [products, products_without_image];
    };
    expect(await count({})).toEqual([4, 1]);
    expect(await count({ tag: "summer" })).toEqual([1, 1]);
    expect(await count({ tag: "winter" })).toEqual([0, 0]);
    expect(await count({ collection_id: collection!.id })).toEqual([2, 1]);
    expect(await count({ product_ids: ids.slice(3) })).toEqual([3, 0]);
    expect(await count({ collection_id: collection!.id, product_ids: ids.slice(2) })).toEqual([1, 0]);
  });
});

describe("a catalog job", () => {
  test("makes all pictures, charges each chunk for what it made, and its counts add up", async () => {
    const s = await createCatalog(testDb, db, 25, 100 * price);
    const started = await s.start({ chunk_size: 4, parallel_chunks: 2, studio_pictures: true });
    expect(started).toMatchObject({ status: "pending", total_products: 0, units_per_product: 3 });
    const ended = await s.until(started.id, "completed");
    expect(ended).toMatchObject({
      total_products: 25,
      products_new: 25,
      items_succeeded: 25,
      items_failed: 0,
      pictures_made: 75,
      total_chunks: 7,
      chunks_completed: 7,
      estimated_cost_micro: 75 * price,
      actual_cost_micro: 75 * price,
      progress: 100,
    });
    expect(await s.balance()).toMatchObject({ available_micro: 25 * price, held_micro: 0 });
    const [item] = await s.items(started.id);
    expect(item).toMatchObject({ title: "Product 25", status: "succeeded", category: "upper_body" });
    expect(item!.result_paths).toEqual([1, 2, 3].map((n) => `${s.workspaceId}/${item!.id}/${n}.png`));
    expect([...s.runs.values()].map(({ input }) => input)).toContainEqual({
      kind: "tryon",
      outputs: 2,
      personUrl: `https://storage.test/studio-uploads/${s.workspaceId}/anna.png?token=t`,
      garmentUrl: "https://cdn.test/25.jpg",
      category: "upper_body",
      quality: "balanced",
    });
    expect(s.runs.size).toBe(50);
    const costs = await testDb.query(
      `select c.model, sum(c.quantity) as quantity, sum(c.cost_micro) as cost_micro from billing.provider_costs c
      join commerce.catalog_job_chunks k on k.usage_event_id = c.usage_event_id
      where k.catalog_job_id = $1 group by 1 order by 1`,
      [started.id],
    );
    expect(costs).toEqual([
      { model: "fal-ai/birefnet/v2", quantity: 25, cost_micro: 25 * 100 },
      { model: "fal-ai/fashn/tryon/v1.6", quantity: 50, cost_micro: 50 * 7500 },
    ]);
    const told = await testDb.query("select title from messaging.notifications where user_id = $1", [
      s.ada.id,
    ]);
    expect(told).toEqual([{ title: "Your catalog has its pictures" }]);
    await sound();
  });

  test("never has more at work than was asked for, of chunks and of products in a chunk", async () => {
    const s = await createCatalog(testDb, db, 30, 100 * price);
    s.will.hold = true;
    const { id } = await s.start({ chunk_size: 5, parallel_chunks: 3, parallel_products_per_chunk: 2 });
    for (let n = 0; n < 4; n++) await s.step();
    expect([...s.runs.values()].filter(({ ended }) => !ended)).toHaveLength(6);
    expect(await s.balance()).toMatchObject({ held_micro: 15 * 2 * price });
    for (const [run, { ended }] of s.runs) if (!ended) await s.answer(run);
    await s.step();
    expect([...s.runs.values()].filter(({ ended }) => !ended)).toHaveLength(6);
    s.will.hold = false;
    for (const [run, { ended }] of s.runs) if (!ended) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 30 });
    await sound();
  });

  test("does new products first, then changed ones, the newest first, and leaves out what is unchanged", async () => {
    const s = await createCatalog(testDb, db, 4, 100 * price);
    await s.until((await s.start()).id, "completed");
    await s.addProducts(5, 6);
    await testDb.query(
      "update commerce.shopify_products set title = title || ' new' where connected_account_id = $1 and shopify_product_id in ('2', '4')",
      [s.accountId],
    );
    expect(await s.user.call("commerce.estimate_catalog_job", s.settings)).toMatchObject({
      products: 4,
      products_new: 2,
      products_updated: 2,
      products_skipped: 2,
    });
    const { id } = await s.start();
    expect(await s.until(id, "completed")).toMatchObject({
      total_products: 4,
      products_new: 2,
      products_updated: 2,
      products_skipped: 2,
    });
    expect((await s.items(id)).map(({ title }) => title)).toEqual([
      "Product 6",
      "Product 5",
      "Product 4 new",
      "Product 2 new",
    ]);
    const other = { ...s.settings, quality: "high" };
    expect(await s.user.call("commerce.estimate_catalog_job", other)).toMatchObject({ products: 6 });
    const all = { ...s.settings, delta_only: false };
    expect(await s.user.call("commerce.estimate_catalog_job", all)).toMatchObject({
      products: 6,
      products_new: 0,
    });
    const nothing = await s.until((await s.start()).id, "completed");
    expect(nothing).toMatchObject({
      total_products: 0,
      products_skipped: 6,
      actual_cost_micro: 0,
      progress: 100,
    });
    await sound();
  });

  test("tries garments on a persona: its chosen face, or the newest picture of it", async () => {
    const s = await createCatalog(testDb, db, 2, 100 * price);
    const [persona] = await testDb.query(
      "insert into studio.personas (workspace_id, name, face_prompt) values ($1, 'Mia', 'freckles') returning id",
      [s.workspaceId],
    );
    const on = { model_ids: [], persona_id: persona!.id, tryon_count: 1 };
    await expectError(s.start(on), "persona_without_picture", "PT409");
    await expectError(s.start({ ...on, persona_id: s.modelId }), "unknown_persona", "PT404");
    await expectError(s.start({ ...on, model_ids: [s.modelId] }), "invalid_argument");
    await testDb.query("update studio.personas set face_paths = $2, selected_face_index = 1 where id = $1", [
      persona!.id,
      [`${s.workspaceId}/a/1.png`, `${s.workspaceId}/a/2.png`],
    ]);
    const { id } = await s.start(on);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 2, persona_id: persona!.id });
    expect([...s.runs.values()].map(({ input }) => input.personUrl)).toEqual(
      Array(2).fill(`https://storage.test/studio-results/${s.workspaceId}/a/2.png?token=t`),
    );
    // another face is another picture
    expect(await s.user.call("commerce.estimate_catalog_job", { ...s.settings, ...on })).toMatchObject({
      products: 0,
    });
    await testDb.query("update studio.personas set selected_face_index = 0 where id = $1", [persona!.id]);
    expect(await s.user.call("commerce.estimate_catalog_job", { ...s.settings, ...on })).toMatchObject({
      products: 2,
    });
    await sound();
  });

  test("takes the products of an import", async () => {
    const s = await createCatalog(testDb, db, 0, 100 * price);
    const [batch] = await testDb.query(
      "insert into commerce.product_import_batches (workspace_id) values ($1) returning id",
      [s.workspaceId],
    );
    await testDb.query(
      `insert into commerce.imported_products (workspace_id, external_id, title, images, import_batch_id)
      select $1, n, 'Dress ' || n, jsonb_build_array('https://cdn.test/i' || n || '.jpg'), $2 from generate_series(1, 3) n`,
      [s.workspaceId, batch!.id],
    );
    const { id } = await s.start({ account_id: null, import_batch_id: batch!.id });
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 3 });
    expect((await s.items(id))[0]).toMatchObject({ category: "dresses", product_id: null });
    expect(
      await testDb.query("select catalog_job_id from commerce.product_import_batches where id = $1", [
        batch!.id,
      ]),
    ).toEqual([{ catalog_job_id: id }]);
    await sound();
  });
});
