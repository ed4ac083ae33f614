import { z } from "zod";
import { findSync, finishSync, noteSync } from "../../_shared/sql/shops.ts";
import { completed, type Handler, JobError, waiting } from "../job.ts";
import { type ShopDeps, withShop } from "../shopify/shop.ts";
import { beginSync, type Progress, percentOf, stepSync } from "../shopify/sync.ts";

const payload = z.object({ sync_id: z.uuid() });

/** How long one attempt reads before it lets others work; the job then goes on from its checkpoint. */
const longestMs = 60_000;

/**
 * shopify.sync: reads the catalog of a shop page by page. Each page is applied, noted on the sync's row and
 * checkpointed before the next is asked for; a page that is read twice changes nothing.
 */
export function syncShop(deps: ShopDeps, longest = longestMs): Handler {
  return async (job, context) => {
    const { db, now } = context;
    const { sync_id } = payload.parse(job.payload);
    const sync = await findSync(db, sync_id);
    if (!sync) throw new JobError("unknown_sync", "The sync is gone.", { retry: false });
    if (sync.status !== "pending" && sync.status !== "running") return completed({ status: sync.status });
    const stopAt = now() + longest;
    return withShop(deps, context, sync.connected_account_id, async (shop) => {
      const work = { ...shop, db };
      const since = sync.since_at instanceof Date ? sync.since_at : null;
      let progress: Progress | null = isProgress(job.checkpoint)
        ? job.checkpoint
        : await beginSync(work, since);
      for (let steps = 0; progress; steps++) {
        const { stage, counts, seen } = progress;
        const percent = percentOf(progress);
        const live = await noteSync(db, sync.id, { stage, counts, progress: percent, seen: new Date(seen) });
        const held = await context.checkpoint({ checkpoint: progress, progress: percent, stage });
        if (!live || !held) return completed({ status: "ended" });
        if (steps > 0 && now() >= stopAt) return waiting({ poll_in: 0, checkpoint: progress });
        progress = await stepSync(work, progress);
      }
      await finishSync(db, sync.id);
      return completed({ status: "completed" });
    });
  };
}

function isProgress(checkpoint: unknown): checkpoint is Progress {
  return (
    typeof checkpoint === "object" && checkpoint !== null && "stage" in checkpoint && "seen" in checkpoint
  );
}
