import type { Creation } from "../../_shared/sql/creations.ts";
import { downloadPicture } from "../download.ts";
import { type JobContext, LeaseLost } from "../job.ts";
import type { Storage } from "../storage.ts";

/**
 * Copies a provider's pictures into the bucket studio-results, one after the other (memory is small), at paths
 * that are the same in every attempt. Returns the paths. Errors: provider_unavailable, provider_rejected,
 * storage_unavailable.
 */
export async function storePictures(
  deps: { storage: Storage; fetch?: typeof fetch },
  creation: Creation,
  { pictures, below }: { pictures: { url: string }[]; below: readonly URL[] },
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
    );
    if (index === 0 && !(await context.checkpoint({ progress: 90, stage: "storing" }))) throw new LeaseLost();
    context.signal.throwIfAborted();
    const path = `${creation.workspace_id}/${creation.id}/${index + 1}.${extension}`;
    await deps.storage.upload("studio-results", path, bytes, contentType);
    paths.push(path);
  }
  return paths;
}
