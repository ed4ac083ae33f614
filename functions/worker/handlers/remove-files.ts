import { z } from "zod";
import { completed, type Handler } from "../job.ts";
import { type FileRemover, removeObjects } from "../storage.ts";

const payload = z.object({ files: z.array(z.object({ bucket: z.string(), path: z.string() })) });

/** studio.remove_files: deletes files that nobody may keep. Repeating it does no harm. */
export function removeFiles({ storage }: { storage: FileRemover }): Handler {
  return async (job) => {
    const { files } = payload.parse(job.payload);
    await removeObjects(storage, files);
    return completed({ removed: files.length });
  };
}
