import { z } from "zod";
import { findPicture, lookAgain, type PictureSubject } from "../../_shared/sql/pictures.ts";
import { downloadPicture } from "../download.ts";
import { completed, type Handler, type Handlers, type JobContext, JobError, LeaseLost } from "../job.ts";
import { checkPicture, thumbnailSide } from "../pictures/check.ts";
import { type PictureType, typeOf } from "../pictures/format.ts";
import { type Pictures, Unreadable } from "../pictures/magick.ts";
import { readObject } from "../pictures/read.ts";
import type { Storage } from "../storage.ts";

export interface PictureDeps {
  storage: Storage;
  pictures: Pictures;
  /** Where shops keep the pictures of their products; from elsewhere none is fetched. */
  shopFiles: readonly URL[];
  fetch?: typeof fetch;
}

const payload = z.object({
  kind: z.enum(["garment", "model", "creation"]),
  id: z.uuid(),
  version: z.number().int(),
});
const results = "studio-results";
/** What the bucket of results takes. */
const mostResultBytes = 50 * 1024 * 1024;
/** Larger results, in pixels, are shown as they are: a worker cannot hold them. */
const mostPixels = { "image/jpeg": 60e6, "image/png": 12e6, "image/webp": 12e6 };

export function pictureHandlers(deps: PictureDeps): Handlers {
  return {
    "studio.check_picture": checkOne(deps),
    "studio.thumbnail": shrinkOne(deps),
  };
}

/** studio.check_picture: what is not in storage yet is fetched; what it is and whether it will do is the output. */
function checkOne(deps: PictureDeps): Handler {
  return async (job, context) => {
    const asked = payload.parse(job.payload);
    const subject = await findPicture(context.db, asked);
    if (!subject?.rules) return completed({ gone: true });
    const bytes =
      subject.source_url === null
        ? await readObject(deps, { ...subject, most: subject.rules.max_bytes }, context.signal)
        : await fetchSource(deps, subject, subject.rules.max_bytes, context.signal);
    const { thumbnail, ...verdict } = await checkPicture(deps.pictures, bytes, subject.rules);
    if (thumbnail) await store(deps, context, results, subject.thumbnail_path, thumbnail, "image/webp");
    if (await isCurrent(context, asked)) {
      return completed({ ...verdict, ...(thumbnail && { thumbnail_path: subject.thumbnail_path }) });
    }
    // what a later look has written may lie under what this one wrote
    await lookAgain(context.db, asked);
    return completed({ gone: true });
  };
}

const isCurrent = async ({ db }: JobContext, asked: z.infer<typeof payload>) =>
  (await findPicture(db, asked)) !== null;

/** A product's picture, copied from the shop to where the garment's picture belongs, if it may lie there. */
async function fetchSource(
  deps: PictureDeps,
  { bucket, path, source_url }: PictureSubject,
  most: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { bytes } = await downloadPicture(deps.fetch ?? fetch, source_url ?? "", deps.shopFiles, signal);
  const type = typeOf(bytes);
  if (type && bytes.length <= most) await deps.storage.upload(bucket, path, bytes, type);
  return bytes;
}

/** studio.thumbnail: the small copy of a creation's first result. */
function shrinkOne(deps: PictureDeps): Handler {
  return async (job, context) => {
    const subject = await findPicture(context.db, payload.parse(job.payload));
    if (!subject) return completed({ gone: true });
    const bytes = await readObject(deps, { ...subject, most: mostResultBytes }, context.signal);
    const type = typeOf(bytes);
    if (!type) throw new JobError("image_type", "The result is no picture.", { retry: false });
    const thumbnail = await shrink(deps.pictures, bytes, type).catch((error: unknown) => {
      if (!(error instanceof Unreadable)) throw error;
      throw new JobError("image_unreadable", "The result cannot be read.", { retry: false, cause: error });
    });
    if (!thumbnail) return completed({ too_large: true });
    await store(deps, context, results, subject.thumbnail_path, thumbnail, "image/webp");
    return completed({ status: "accepted", thumbnail_path: subject.thumbnail_path });
  };
}

async function shrink(pictures: Pictures, bytes: Uint8Array, type: PictureType) {
  const { width, height } = await pictures.size(bytes, type);
  return width * height > mostPixels[type]
    ? null
    : (await pictures.look(bytes, type, thumbnailSide)).thumbnail;
}

async function store(
  { storage }: PictureDeps,
  context: JobContext,
  bucket: string,
  path: string,
  bytes: Uint8Array<ArrayBuffer>,
  type: string,
): Promise<void> {
  if (!(await context.checkpoint({ progress: 80, stage: "storing" }))) throw new LeaseLost();
  await storage.upload(bucket, path, bytes, type);
}
