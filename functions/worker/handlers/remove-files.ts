import { z } from "zod";
import { completed, type Handler } from "../job.ts";
import type { FileRemover } from "../storage.ts";

const payload = z.object({ files: z.array(z.object({ bucket: z.string(), path: z.string() })) });

/** studio.remove_files: deletes files that nobody may keep. Repeating it does no harm. */
export function removeFiles({ storage }: { storage: FileRemover }): Handler {
  return async (job) => {
    const { files } = payload.parse(job.payload);
    for (const [bucket, group] of Object.entries(Object.groupBy(files, (file) => file.bucket))) {
      await storage.remove(
        bucket,
        group!.map(({ path }) => path),
      );
    }
    return completed({ removed: files.length });
  };
}
