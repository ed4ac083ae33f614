import type { Creation, PlannedCreation } from "../../_shared/sql/creations.ts";
import { type DownloadOptions, downloadPicture } from "../download.ts";
import { type JobContext, JobError, LeaseLost } from "../job.ts";
import type { Storage } from "../storage.ts";

interface Deps {
  storage: Storage;
  fetch?: typeof fetch;
}

/** What a provider made, where such things of its lie, and how they are read. */
export interface Made extends DownloadOptions {
  pictures: { url: string }[];
  below: readonly URL[];
}

/**
 * Copies a provider's pictures (or videos, by their types) into the bucket studio-results, one after the other (memory
 * is small), at paths that are the same in every attempt. Returns the paths. Errors: provider_unavailable,
 * provider_rejected, storage_unavailable.
 */
export async function storePictures(
  deps: Deps,
  creation: Creation,
  { pictures, below, ...options }: Made,
  context: JobContext,
): Promise<string[]> {
  const paths: string[] = [];
  // More than was asked for is not charged and not kept.
  for (const [index, { url }] of pictures.slice(0, creation.num_outputs).entries()) {
    const { bytes, contentType, extension } = await downloadPicture(
      deps.fetch ?? fetch,
      url,
      below,
      context.signal,
      options,
    );
    if (index === 0 && !(await context.checkpoint({ progress: 90, stage: "storing" }))) throw new LeaseLost();
    context.signal.throwIfAborted();
    const path = `${creation.workspace_id}/${creation.id}/${index + 1}.${extension}`;
    await deps.storage.upload("studio-results", path, bytes, contentType);
    paths.push(path);
  }
  return paths;
}

/** A video's thumbnail is the picture that it starts from, beside it, if that is still there. Pictures are their own. */
export async function storePoster(
  { storage, fetch: fetcher = fetch }: Deps,
  { output_kind, model_storage_path: source, workspace_id, id }: PlannedCreation,
  { signal, log }: JobContext,
): Promise<{ thumbnail_path?: string }> {
  if (output_kind !== "video" || !source) return {};
  try {
    const url = await storage.signedUrl("studio-uploads", source, 300);
    const poster = await downloadPicture(fetcher, url, [new URL(new URL(url).origin)], signal);
    const path = `${workspace_id}/${id}/poster.${poster.extension}`;
    await storage.upload("studio-results", path, poster.bytes, poster.contentType);
    return { thumbnail_path: path };
  } catch (error) {
    if (!(error instanceof JobError) || error.retry) throw error;
    log.warn("a video has no poster", { creation_id: id, error });
    return {};
  }
}
