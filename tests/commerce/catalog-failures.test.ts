import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, halfway, open, sound, testDb } from "./catalog-control-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

describe("products that fail", () => {
  test("cost nothing, say why, and are tried again alone, as the shop has them then", async () => {
    const s = await createCatalog(testDb, db, 10, 100 * price);
    await testDb.query(
      "update commerce.shopify_products set images = '[]' where connected_account_id = $1 and shopify_product_id = '3'",
      [s.accountId],
    );
    s.will.reject = new Set(["https://cdn.test/7.jpg", "https://cdn.test/8.jpg"]);
    const { id } = await s.start({ chunk_size: 3 });
    expect(await s.until(id, "completed")).toMatchObject({
      items_succeeded: 7,
      items_failed: 3,
      items_processed: 10,
      actual_cost_micro: 14 * price,
    });
    const failed = await s.user.query(
      `select title, error_code from commerce.catalog_job_products
      where catalog_job_id = $1 and status = 'failed' order by position`,
      [id],
    );
    expect(failed).toEqual([
      { title: "Product 8", error_code: "provider_rejected" },
      { title: "Product 7", error_code: "provider_rejected" },
      { title: "Product 3", error_code: "product_without_image" },
    ]);
    await sound();

    s.will.reject = new Set(["https://cdn.test/7.jpg"]);
    const runs = s.runs.size;
    const retried = await s.user.call("commerce.retry_catalog_job", { catalog_job_id: id });
    expect(retried).toMatchObject({
      status: "processing",
      items_failed: 1,
      retry_count: 1,
      completed_at: null,
    });
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 8, items_failed: 2 });
    expect(s.runs.size).toBe(runs + 1);
    expect(await s.balance()).toMatchObject({ available_micro: 84 * price, held_micro: 0 });
    await sound();
  });

  test("stop the job when there are too many", async () => {
    const s = await createCatalog(testDb, db, 40, 200 * price);
    s.will.reject = new Set(Array.from({ length: 40 }, (_, n) => `https://cdn.test/${n + 1}.jpg`));
    const { id } = await s.start({ chunk_size: 5, parallel_chunks: 1, max_failed_products: 7 });
    expect(await s.until(id, "failed")).toMatchObject({
      error_code: "too_many_failures",
      items_failed: 10,
      items_cancelled: 30,
      actual_cost_micro: 0,
    });
    expect(await s.balance()).toMatchObject({ available_micro: 200 * price, held_micro: 0 });
    await sound();
  });

  test("fail the job when there is nothing else", async () => {
    const s = await createCatalog(testDb, db, 2, 20 * price);
    s.will.reject = new Set(["https://cdn.test/1.jpg", "https://cdn.test/2.jpg"]);
    const { id } = await s.start();
    expect(await s.until(id, "failed")).toMatchObject({
      error_code: "all_products_failed",
      chunks_failed: 1,
    });
    await sound();
  });

  test("because a run broke are asked for again", async () => {
    const s = await createCatalog(testDb, db, 3, 20 * price);
    s.will.breaks = 2;
    const { id } = await s.start();
    for (let n = 0; n < 4; n++) {
      await s.step();
      await testDb.advanceClock("5 seconds");
    }
    expect(await s.until(id, "completed")).toMatchObject({
      items_succeeded: 3,
      actual_cost_micro: 6 * price,
    });
    expect(s.runs.size).toBe(5);
    await sound();
  });

  test("with fewer pictures than asked for are charged for those", async () => {
    const s = await createCatalog(testDb, db, 2, 20 * price);
    s.will.most = 1;
    const { id } = await s.start();
    expect(await s.until(id, "completed")).toMatchObject({ pictures_made: 2, actual_cost_micro: 2 * price });
    await sound();
  });
});

describe("without credits", () => {
  test("a job spends what there is, says that it waits, and goes on by itself after a top-up", async () => {
    const s = await createCatalog(testDb, db, 10, 7 * price);
    const { id } = await s.start({ chunk_size: 2, parallel_chunks: 3 });
    expect(await s.until(id, "waiting_for_credits")).toMatchObject({
      items_succeeded: 3,
      actual_cost_micro: 6 * price,
      error_code: "insufficient_credits",
      error_message: expect.stringContaining("This needs"),
    });
    expect(await s.balance()).toMatchObject({ available_micro: price, held_micro: 0 });
    expect(await testDb.call("commerce.resume_paid_catalog_jobs", {})).toBe(0);
    await sound();

    await s.grant(100 * price);
    expect(await testDb.call("commerce.resume_paid_catalog_jobs", {})).toBe(1);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 10, error_code: null });
    expect(
      await testDb.query("select title from messaging.notifications where user_id = $1 order by created_at", [
        s.ada.id,
      ]),
    ).toEqual([
      { title: "The pictures of your catalog wait for credits" },
      { title: "Your catalog has its pictures" },
    ]);
    await sound();
  });

  test("a job goes on by a call after a top-up, and waits again when it was too small", async () => {
    const s = await createCatalog(testDb, db, 4);
    const { id } = await s.start();
    expect(await s.until(id, "waiting_for_credits")).toMatchObject({ items_processed: 0 });
    await s.grant(2 * price);
    await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id });
    expect(await s.until(id, "waiting_for_credits")).toMatchObject({ items_succeeded: 1, round: 2 });
    await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id });
    expect(await s.until(id, "cancelled")).toMatchObject({ items_cancelled: 3, error_code: null });
    await sound();
  });

  test("a frozen wallet is waited for, too", async () => {
    const s = await createCatalog(testDb, db, 1, 10 * price);
    await testDb.query("update billing.wallets set status = 'frozen' where workspace_id = $1", [
      s.workspaceId,
    ]);
    const { id } = await s.start();
    expect(await s.until(id, "waiting_for_credits")).toMatchObject({ error_code: "wallet_frozen" });
    expect(await testDb.call("commerce.resume_paid_catalog_jobs", {})).toBe(0);
  });
});

describe("when machinery breaks", () => {
  test("a lost worker's products are taken up again, and a lost coordinator's chunks are not begun twice", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    await testDb.service.rpc("ops.claim_jobs", { worker: "dead", max: 50, lease: "1 second" });
    await testDb.advanceClock("5 seconds");
    await testDb.service.rpc("ops.tick");
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 20, total_chunks: 4 });
    expect(s.runs.size).toBe(20);
    await sound();
  });

  test("a hold that ran out before its chunk ended is charged anew", async () => {
    const s = await createCatalog(testDb, db, 2, 10 * price);
    s.will.hold = true;
    const { id } = await s.start();
    for (let n = 0; n < 3; n++) await s.step();
    await testDb.query("update billing.usage_events set hold_expires_at = now() where status = 'held'");
    await testDb.call("billing.release_expired_holds", {});
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({
      items_succeeded: 2,
      actual_cost_micro: 4 * price,
    });
    expect(await s.balance()).toMatchObject({ available_micro: 6 * price, held_micro: 0 });
    await sound();
  });

  test("a coordinator that an operator cancels takes its catalog job with it", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    await testDb.service.rpc("ops.cancel_job", { id: (await s.job(id)).job_id });
    expect(await s.job(id)).toMatchObject({ status: "cancelled", items_cancelled: 20, actual_cost_micro: 0 });
    await s.step();
    expect(open(s)).toEqual([]);
    expect(await s.balance()).toMatchObject({ available_micro: 100 * price, held_micro: 0 });
    await sound();
  });

  test("a chunk that an operator cancels gives its products up, and the others go on", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    const [chunk] = await testDb.query(
      "select job_id from commerce.catalog_job_chunks where catalog_job_id = $1 and number = 1",
      [id],
    );
    await testDb.service.rpc("ops.cancel_job", { id: chunk!.job_id });
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 15, items_cancelled: 5 });
    await sound();
  });

  test("products and chunks that are settled cannot be replayed behind the catalog job's back", async () => {
    const s = await createCatalog(testDb, db, 1, 10 * price);
    s.will.reject = new Set(["https://cdn.test/1.jpg"]);
    const { id } = await s.start();
    await s.until(id, "failed");
    const [dead] = await testDb.query("select id from ops.jobs where kind = 'commerce.catalog_product'");
    await expectError(testDb.service.rpc("ops.replay_job", { id: dead!.id }), "catalog_product_settled");
  });
});
