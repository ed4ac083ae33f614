import { beforeEach, describe, expect, test } from "vitest";
import { beginCatalog } from "../billing/held-work.ts";
import { idleHolds } from "../helpers/holds.ts";
import type { Connection, Row } from "../helpers/session.ts";
import { untilWaiting } from "../ops/queue.ts";
import { type Brand, createStudio, noon, price } from "../studio/studio.ts";
import { unsound } from "./catalog-stage.ts";

// Chunks of several shops that end in one transaction, and others that end them the other way round.

const products = 2;
const db = await createStudio();
let brands: Brand[];
let connections: Connection[];
beforeEach(async () => {
  await db.setClock(noon);
  connections = [];
  brands = (await Promise.all([1, 2].map(() => db.brand(1000 * price)))).sort((a, b) =>
    a.workspaceId < b.workspaceId ? -1 : 1,
  );
  return async () => {
    await Promise.all(connections.map((connection) => connection.close()));
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
    expect(await db.query(idleHolds)).toEqual([]);
    expect(await db.query(unsound)).toEqual([]);
  };
});

async function connect(actor: Parameters<typeof db.connect>[0] = "service"): Promise<Connection> {
  const connection = await db.connect(actor);
  connections.push(connection);
  return connection;
}

/** A chunk of a new shop of the brand's, whose products are made and which a worker has claimed to end. */
async function endingChunk(brand: Brand): Promise<Row> {
  const { id, chunk } = await beginCatalog(db, brand, products);
  const items = await db.query("select * from commerce.catalog_job_products where catalog_job_id = $1", [id]);
  await db.claim();
  await db.jobs.complete(
    "w",
    items.map((item) => ({
      id: item.job_id,
      output: { result_paths: [`${brand.workspaceId}/${item.id}.png`] },
    })),
  );
  return { ...chunk, shop: id };
}
const end = (worker: Connection, chunks: Row[]) =>
  worker.rpc("ops.complete_jobs", {
    worker: "w",
    results: chunks.map(({ job_id }) => ({ id: job_id, output: {} })),
  });
const chunkRows = (chunks: Row[]) =>
  db.query("select status, cost_micro from commerce.catalog_job_chunks where id = any ($1)", [
    chunks.map(({ id }) => id),
  ]);
const charged = { status: "completed", cost_micro: products * price };

describe("chunks of several shops", () => {
  test.each([
    ["first", true],
    ["last", false],
  ])("of two workspaces end by two workers, the one asked %s in the opposite order", async (_, reversed) => {
    const [low, high] = brands as [Brand, Brand];
    const mine = [await endingChunk(high), await endingChunk(low)];
    const others = [await endingChunk(low), await endingChunk(high)];
    const holder = await connect("superuser");
    await holder.begin();
    await holder.query("select from billing.wallets where workspace_id = $1 for update", [low.workspaceId]);
    const [one, two] = await Promise.all([connect(), connect()]);
    const first = end(one, reversed ? mine : others);
    await untilWaiting(db, one.pid);
    const second = end(two, reversed ? others : mine);
    await untilWaiting(db, two.pid);
    await holder.rollback();
    for (const ended of [await first, await second])
      expect(ended.map(({ result }) => result)).toEqual(["completed", "completed"]);
    expect(await chunkRows([...mine, ...others])).toEqual([charged, charged, charged, charged]);
  });

  test("of one workspace end in opposite order while the coordinators look and their owner stops them", async () => {
    const [ann] = brands as [Brand];
    const chunks: Row[] = [];
    for (let n = 0; n < 4; n++) chunks.push(await endingChunk(ann));
    const [one, two, looks, owner] = await Promise.all([
      connect(),
      connect(),
      connect(),
      connect({ user: ann.id }),
    ]);
    const shops = chunks.map(({ shop }) => shop as string);
    const ends = await Promise.allSettled([
      end(one, [chunks[0]!, chunks[2]!, chunks[1]!]),
      end(two, [chunks[3]!]),
      (async () => {
        for (const shop of shops.toReversed())
          await looks.rpc("commerce.advance_catalog_job", { catalog_job_id: shop, round: 1 });
      })(),
      (async () => {
        for (const shop of shops) await owner.call("commerce.pause_catalog_job", { catalog_job_id: shop });
      })(),
    ]);
    const refused = ends
      .filter((result) => result.status === "rejected")
      .map(({ reason }) => String(reason.message));
    expect(refused.filter((message) => !message.startsWith("catalog_job_ended: "))).toEqual([]);
    expect(await chunkRows(chunks)).toEqual([charged, charged, charged, charged]);
  });

  test("end while a crowd ends others of the same shops in any order: nobody deadlocks, each is charged once", async () => {
    for (let round = 0; round < 3; round++) {
      const chunks = await Promise.all(
        [0, 1, 0, 1, 0, 1].map((n) => n).map(async (n) => endingChunk(brands[n]!)),
      );
      const workers = await Promise.all([1, 2, 3].map(() => connect()));
      // the same chunks are ended by all, each in an order of its own: the first to come ends it
      const orders = [chunks, chunks.toReversed(), [...chunks.slice(3), ...chunks.slice(0, 3)]];
      const ended = await Promise.all(workers.map((worker, n) => end(worker, orders[n]!)));
      const results = ended.flat().map(({ result }) => result);
      expect(results.filter((result) => result === "completed")).toHaveLength(6);
      expect(results.filter((result) => result === "lost")).toHaveLength(12);
      expect(await chunkRows(chunks)).toEqual(chunks.map(() => charged));
    }
  });
});
