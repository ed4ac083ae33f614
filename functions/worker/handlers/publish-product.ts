import { z } from "zod";
import { findPublication, type Publication } from "../../_shared/sql/catalog.ts";
import { completed, type Handler, JobError, LeaseLost, waiting } from "../job.ts";
import { addPictures, readMedia, type ShopMedia } from "../shopify/media.ts";
import { type ShopDeps, withShop } from "../shopify/shop.ts";
import type { Storage } from "../storage.ts";

export interface PublishDeps extends ShopDeps {
  storage: Pick<Storage, "signedUrl">;
}

const payload = z.object({ item_id: z.uuid(), account_id: z.uuid() });
/** The media that the product had before anything was added. */
const saved = z.object({ known: z.array(z.string()) });

/** A shop may fetch late: it queues what it is told to fetch. */
const urlSeconds = 24 * 3600;
const pollSeconds = 5;

/**
 * commerce.publish_product: adds the pictures of a catalog product to the product in its shop, and waits until the shop
 * has them. What was there before is noted first, so that an attempt after a crash, or a job that is replayed, finds
 * what the last one added.
 */
export function publishProduct(deps: PublishDeps): Handler {
  return async (job, context) => {
    const { item_id, account_id } = payload.parse(job.payload);
    const item = await findPublication(context.db, item_id, job.id);
    if (item?.publish_status !== "pending") return completed({ gone: true });
    const { shopify_product_id: productId } = item;
    if (productId === null) throw productGone();
    return withShop(deps, context, account_id, async ({ client }) => {
      let media = await readMedia(client, productId);
      if (!media) throw productGone();
      const before = saved.safeParse(job.checkpoint);
      const known = before.success ? before.data.known : knownBefore(item, media);
      let ours = addedTo(known, item, media);
      const missing = missingFrom(ours, item);
      if (missing.length > 0) {
        if (!(await context.checkpoint({ checkpoint: { known }, progress: 20, stage: "adding" })))
          throw new LeaseLost();
        const refusals = await addPictures(client, productId, await sources(deps, missing));
        if (refusals.length > 0)
          throw new JobError("publish_refused", `The shop refused: ${refusals.join(" ")}`, { retry: false });
        media = await readMedia(client, productId);
        ours = addedTo(known, item, media ?? []);
      }
      const failed = ours.find(({ status }) => status === "FAILED");
      if (failed) {
        const why = failed.mediaErrors.map(({ message }) => message).join(" ") || "no reason given";
        throw new JobError("publish_failed", `The shop could not take a picture: ${why}`, { retry: false });
      }
      const ready =
        ours.length >= item.result_paths.length &&
        ours.every(({ status, image }) => status === "READY" && image);
      if (!ready) return waiting({ poll_in: pollSeconds, checkpoint: { known } });
      return completed({
        media_ids: ours.map(({ id }) => id),
        urls: ours.flatMap(({ image }) => (image ? [image.url] : [])),
      });
    });
  };
}

const altOf = ({ title }: Publication, index: number) => `${title.slice(0, 480)}, picture ${index + 1}`;

function addedTo(known: string[], item: Publication, media: ShopMedia[]): ShopMedia[] {
  const alts = new Set(item.result_paths.map((_, index) => altOf(item, index)));
  return media.filter(({ id, alt }) => alt !== null && alts.has(alt) && !known.includes(id));
}

/** What a shop could not take before is tried again. */
function knownBefore({ media_ids_before: before }: Publication, media: ShopMedia[]): string[] {
  const known = media.filter(({ status }) => before === null || status === "FAILED").map(({ id }) => id);
  return [...(before ?? []), ...known];
}

function missingFrom(ours: ShopMedia[], item: Publication): { path: string; alt: string }[] {
  return item.result_paths
    .map((path, index) => ({ path, alt: altOf(item, index) }))
    .filter(({ alt }) => ours.every((one) => one.alt !== alt));
}

async function sources({ storage }: PublishDeps, pictures: { path: string; alt: string }[]) {
  return Promise.all(
    pictures.map(async ({ path, alt }) => ({
      url: await storage.signedUrl("studio-results", path, urlSeconds),
      alt,
    })),
  );
}

function productGone(): JobError {
  return new JobError("unknown_product", "The shop has the product no longer.", { retry: false });
}
