import { z } from "zod";
import { AddressRefused, type SafeFetch, type SafeResponse } from "../../_shared/safe-fetch.ts";
import { acceptPhoto, findPhoto, type Photo, rejectPhoto } from "../../_shared/sql/social.ts";
import { completed, type Handler, JobError } from "../job.ts";
import { isAnimated, type PictureType, typeOf } from "../pictures/format.ts";
import { type Pictures, Unreadable } from "../pictures/magick.ts";
import type { Storage } from "../storage.ts";

export interface PhotoDeps {
  safeFetch: SafeFetch;
  storage: Pick<Storage, "upload">;
  pictures: Pick<Pictures, "size">;
}

const payload = z.object({ tryon_id: z.uuid() });

/** What the bucket studio-uploads takes. */
const mostBytes = 20 * 1024 * 1024;
/** Pixels of the shorter side, below which nobody can be dressed. */
const leastSide = 200;
const timeoutMs = 30_000;
const mostRedirects = 3;
const extensions: Record<PictureType, string> = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/webp": "webp",
};

/** A picture that is not worth another try, in a word for the funnel and a sentence for people. */
class BadPhoto extends Error {
  override readonly name = "BadPhoto";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * social.photo: fetches a photo that somebody sent to the bot, checks it, stores it in the workspace's folder and
 * requests the try-on. A bad one is told to the person.
 */
export function fetchPhoto(deps: PhotoDeps): Handler {
  return async (job, { db, signal }) => {
    const { tryon_id } = payload.parse(job.payload);
    const photo = await findPhoto(db, tryon_id);
    if (photo?.status !== "photo") return completed({ status: photo?.status ?? "gone" });
    try {
      const path = await store(deps, photo, signal);
      return completed({ status: await acceptPhoto(db, photo.id, path) });
    } catch (error) {
      if (!(error instanceof BadPhoto)) throw error;
      return completed({ status: await rejectPhoto(db, photo.id, error.reason, error.message) });
    }
  };
}

async function store(
  { safeFetch, storage, pictures }: PhotoDeps,
  photo: Photo,
  signal: AbortSignal,
): Promise<string> {
  const { bytes } = await download(safeFetch, photo.source_url, signal);
  if (bytes.length > mostBytes) throw new BadPhoto("too_large", "The picture has more than 20 MiB.");
  const type = typeOf(bytes);
  if (!type || isAnimated(bytes, type)) {
    throw new BadPhoto("not_an_image", "The file is no still PNG, JPEG or WebP picture.");
  }
  const { width, height } = await pictures.size(bytes, type).catch((error: unknown) => {
    if (error instanceof Unreadable) throw new BadPhoto("not_an_image", "The picture is damaged.");
    throw error;
  });
  if (Math.min(width, height) < leastSide) {
    throw new BadPhoto("too_small", `The picture has ${width} by ${height} pixels.`);
  }
  const path = `${photo.workspace_id}/instagram/${photo.conversation_id}/${photo.id}.${extensions[type]}`;
  await storage.upload("studio-uploads", path, bytes, type);
  return path;
}

/** Follows redirects by itself: each address is checked like the first. */
async function download(safeFetch: SafeFetch, url: string, signal: AbortSignal): Promise<SafeResponse> {
  let address = url;
  for (let redirects = 0; redirects <= mostRedirects; redirects++) {
    const answer = await safeFetch(address, {
      method: "GET",
      headers: { accept: "image/*" },
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      mostBytes: mostBytes + 1,
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      if (error instanceof AddressRefused) throw new BadPhoto("unreachable", error.message);
      throw new JobError("photo_unavailable", "The photo cannot be fetched.", { cause: error });
    });
    const { status, headers } = answer;
    if (status >= 200 && status < 300) return answer;
    const location = [headers.location].flat()[0];
    if (status >= 300 && status < 400 && location) {
      address = new URL(location, address).href;
    } else if (status === 429 || status >= 500) {
      throw new JobError("photo_unavailable", `The photo's address answered ${status}.`);
    } else {
      throw new BadPhoto("unreachable", `The photo's address answered ${status}.`);
    }
  }
  throw new BadPhoto("unreachable", "The photo's address leads on and on.");
}
