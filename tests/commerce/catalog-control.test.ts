import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, halfway, open, sound, testDb } from "./catalog-control-stage.ts";
import { createCatalog, price } from "./catalog-stage.ts";

describe("a paused job", () => {
  test("finishes what the provider works on, holds nothing, and goes on from there", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    expect(await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "pausing",
    });
    await s.step();
    expect(open(s)).toHaveLength(4);
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "paused")).toMatchObject({ items_succeeded: 4, actual_cost_micro: 8 * price });
    expect(await s.balance()).toMatchObject({ available_micro: 92 * price, held_micro: 0 });
    const runs = s.runs.size;
    // a day and more: longer than a hold lasts
    await testDb.advanceClock("3 days");
    await s.step();
    expect(s.runs.size).toBe(runs);
    await sound();

    s.will.hold = false;
    expect(await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "processing",
      round: 2,
    });
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 20, pictures_made: 40 });
    expect(s.runs.size).toBe(20);
    await sound();
  });

  test("that is resumed at once goes on as if nothing had been", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id });
    expect(await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "processing",
      round: 1,
    });
    s.will.hold = false;
    for (const [run] of open(s)) await s.answer(run);
    expect(await s.until(id, "completed")).toMatchObject({ items_succeeded: 20 });
    await sound();
  });

  test("may be paused before it began, and cancelled while it is paused", async () => {
    const s = await createCatalog(testDb, db, 3, 100 * price);
    const { id } = await s.start();
    expect(await s.user.call("commerce.pause_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "paused",
    });
    await s.step();
    expect((await s.job(id)).total_products).toBe(0);
    await s.user.call("commerce.resume_catalog_job", { catalog_job_id: id });
    await s.until(id, "completed");
    const second = await s.start({ delta_only: false });
    await s.user.call("commerce.pause_catalog_job", { catalog_job_id: second.id });
    await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: second.id });
    expect(await s.until(second.id, "cancelled")).toMatchObject({ actual_cost_micro: 0 });
    await sound();
  });
});

describe("a cancelled job", () => {
  test("asks nothing more, stops what runs, and charges what is made", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    const [[first], [second]] = open(s) as [[string, unknown], [string, unknown]];
    await s.answer(first);
    await s.answer(second);
    await s.step();
    const runs = s.runs.size;
    expect(await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "cancelling",
    });
    expect(await s.until(id, "cancelled")).toMatchObject({
      items_succeeded: 2,
      items_cancelled: 18,
      actual_cost_micro: 4 * price,
      progress: 100,
    });
    expect(s.runs.size).toBe(runs);
    expect(open(s)).toEqual([]);
    expect([...s.runs.values()].filter(({ cancelled }) => cancelled)).toHaveLength(runs - 2);
    expect(await s.balance()).toMatchObject({ available_micro: 96 * price, held_micro: 0 });
    expect(await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id })).toMatchObject({
      status: "cancelled",
    });
    await sound();
  });

  test("lets pictures that are being stored be stored, and charges them", async () => {
    const s = await createCatalog(testDb, db, 20, 100 * price);
    const id = await halfway(s);
    const [item] = await testDb.query(
      `update ops.live_jobs l set progress = 80 from commerce.catalog_job_products i
      where i.catalog_job_id = $1 and l.id = i.job_id and l.checkpoint @? '$.look.runs[0]'
        and l.id = (select min(m.id) from ops.live_jobs m where m.kind = 'commerce.catalog_product')
      returning i.id, l.checkpoint #>> '{look,runs,0,request_id}' as run`,
      [id],
    );
    await s.user.call("commerce.cancel_catalog_job", { catalog_job_id: id });
    await s.answer(item!.run);
    expect(await s.until(id, "cancelled")).toMatchObject({
      items_succeeded: 1,
      actual_cost_micro: 2 * price,
    });
    await sound();
  });

  test("is over for good", async () => {
    const s = await createCatalog(testDb, db, 1, 100 * price);
    const { id } = await s.start();
    await s.until(id, "completed");
    for (const what of ["pause", "resume", "cancel"]) {
      await expectError(
        s.user.call(`commerce.${what}_catalog_job`, { catalog_job_id: id }),
        "catalog_job_ended",
        "PT409",
      );
    }
    await expectError(
      s.user.call("commerce.retry_catalog_job", { catalog_job_id: id }),
      "nothing_to_retry",
      "PT409",
    );
  });
});

describe("who may", () => {
  test("viewers see and ask for the price, editors direct, strangers find nothing", async () => {
    const s = await createCatalog(testDb, db, 2, 10 * price);
    const stranger = await testDb.createUser();
    const join = async (role: string) => {
      const user = await testDb.createUser();
      await testDb.query(
        "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
        [s.workspaceId, user.id, role],
      );
      return testDb.user(user.id);
    };
    const [viewer, member, editor] = [await join("viewer"), await join("member"), await join("editor")];
    expect(await viewer.call("commerce.estimate_catalog_job", s.settings)).toMatchObject({ products: 2 });
    await expectError(member.call("commerce.start_catalog_job", s.settings), "role_too_low", "PT403");
    const { id } = await editor.call("commerce.start_catalog_job", s.settings);
    await s.until(id, "completed");
    for (const table of ["catalog_jobs", "catalog_job_chunks", "catalog_job_products"]) {
      expect(
        await viewer.query(`select * from commerce.${table} where workspace_id = $1`, [s.workspaceId]),
      ).not.toEqual([]);
      expect(await testDb.user(stranger.id).query(`select * from commerce.${table}`)).toEqual([]);
      await expectError(testDb.anon.query(`select * from commerce.${table}`), "42501");
      await expectError(editor.query(`delete from commerce.${table}`), "42501");
    }
    const theirs = testDb.user(stranger.id);
    await expectError(theirs.call("commerce.estimate_catalog_job", s.settings), "unknown_account", "PT404");
    await expectError(theirs.call("commerce.start_catalog_job", s.settings), "unknown_account", "PT404");
    for (const what of ["pause", "resume", "cancel", "retry"]) {
      const call = `commerce.${what}_catalog_job`;
      await expectError(theirs.call(call, { catalog_job_id: id }), "unknown_catalog_job", "PT404");
      await expectError(viewer.call(call, { catalog_job_id: id }), "role_too_low", "PT403");
      await expectError(testDb.anon.call(call, { catalog_job_id: id }), "42501");
    }
    await expectError(editor.rpc("commerce.advance_catalog_job", { catalog_job_id: id, round: 1 }), "42501");
  });

  test("one job at a time works on a shop, and a key names one job", async () => {
    const s = await createCatalog(testDb, db, 2, 10 * price);
    const first = await s.start({ key: "spring" });
    expect(await s.start({ key: "spring" })).toMatchObject({ id: first.id });
    await expectError(s.start({ key: "spring", quality: "high" }), "key_reused", "PT409");
    const { facts } = await expectError(s.start(), "catalog_job_running", "PT409");
    expect(facts).toEqual({ catalog_job_id: first.id });
    await s.until(first.id, "completed");
    expect(await s.start({ key: "spring" })).toMatchObject({ id: first.id, status: "completed" });
    const both = await Promise.allSettled([s.start({ delta_only: false }), s.start({ delta_only: false })]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  });

  test("wrong wishes are refused by name", async () => {
    const s = await createCatalog(testDb, db, 1);
    const other = await createCatalog(testDb, db, 1);
    const refused = async (more: Record<string, unknown>, error: string, argument?: string) => {
      const { facts } = await expectError(s.start(more), error);
      if (argument) expect(facts).toEqual({ argument });
    };
    await refused({ account_id: null }, "invalid_argument", "account_id");
    await refused({ account_id: other.accountId }, "unknown_account");
    await refused({ model_ids: [other.modelId] }, "unknown_model");
    await refused({ model_ids: [] }, "invalid_argument", "model_ids");
    for (const tryon_count of [5, 2 ** 31 - 1, -(2 ** 31)])
      await refused({ tryon_count }, "invalid_argument", "tryon_count");
    await refused(
      { parallel_products_per_chunk: 2 ** 31 - 1 },
      "invalid_argument",
      "parallel_products_per_chunk",
    );
    await refused({ tryon_count: 0 }, "invalid_argument", "tryon_count");
    await refused({ quality: "best" }, "invalid_argument", "quality");
    await refused({ product_ids: [] }, "invalid_argument", "product_ids");
    await refused({ chunk_size: 501 }, "invalid_argument", "chunk_size");
    await refused({ chunk_size: 500, parallel_chunks: 3 }, "invalid_argument", "chunk_size");
    await refused({ parallel_chunks: 0 }, "invalid_argument", "parallel_chunks");
    await refused({ parallel_products_per_chunk: 21 }, "invalid_argument", "parallel_products_per_chunk");
    await refused({ priority_mode: "old" }, "invalid_argument", "priority_mode");
    await refused({ collection_id: other.accountId }, "unknown_shop_collection");
  });
});
