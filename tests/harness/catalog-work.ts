// A run over a catalog: one parent that adds a child for each item in pieces, sleeps, and says how far it is.
import { z } from "zod";
import { completed, type Handlers, LeaseLost, waiting } from "../../functions/worker/job.ts";

const run = z.object({ items: z.number().int().positive() });
const started = z.object({ added: z.number().int().default(0) });
const item = z.object({ item: z.number().int() });
const product = z.object({ id: z.number(), title: z.string(), description: z.string() });

/** Children that one call adds. */
const piece = 2_000;

export function catalogHandlers(standinUrl: string): Handlers {
  return {
    "harness.catalog": async (job, { db, checkpoint }) => {
      const { items } = run.parse(job.payload);
      let { added } = started.parse(job.checkpoint);
      for (; added < items; added = Math.min(items, added + piece)) {
        const numbers = Array.from({ length: Math.min(piece, items - added) }, (_, n) => added + n + 1);
        // keyed: an attempt that died after the call and before its checkpoint adds nothing twice
        await db.rows({ name: "add_items", text: addItems, repeatable: true }, [
          numbers.map((number) => JSON.stringify({ item: number })),
          numbers.map((number) => `catalog:${job.id}:${number}`),
          job.id,
        ]);
        const state = { checkpoint: { added: numbers.at(-1) }, progress: 1, stage: "adding items" };
        if (!(await checkpoint(state))) throw new LeaseLost();
      }
      const { pending } = await db.row<{ pending: number }>({ name: "pending", text: pendingItems }, [
        job.id,
      ]);
      if (pending === 0) return completed({ items, failed: job.failed_children });
      const progress = 1 + Math.floor((98 * (items - pending)) / items);
      if (!(await checkpoint({ progress, stage: `${items - pending} of ${items} items` })))
        throw new LeaseLost();
      return waiting({ poll_in: 1 });
    },
    "harness.item": async (job, { db, signal }) => {
      const { item: number } = item.parse(job.payload);
      const response = await fetch(`${standinUrl}/products/${number}`, { signal });
      const { title, description } = product.parse(await response.json());
      await db.rows({ name: "store_item", text: storeItem, repeatable: true }, [
        number,
        title,
        description.length,
      ]);
      return completed({ number });
    },
  };
}

const addItems =
  "select count(*) from ops.enqueue_jobs('harness.item', $1::jsonb[], keys => $2::text[], parent_id => $3)";
const pendingItems = "select pending_children as pending from ops.jobs where id = $1";
const storeItem = `insert into harness.items (item, title, letters) values ($1, $2, $3)
  on conflict (item) do update set times = harness.items.times + 1`;
