// Files that are too large to hold in memory.

import type { SupabaseClient } from "@supabase/supabase-js";
import { JobError } from "./job.ts";

export interface Files {
  /** Writes what the stream brings, over a file that is there. Error: storage_unavailable. */
  write(bucket: string, path: string, body: ReadableStream<Uint8Array>, contentType: string): Promise<void>;
}

/** Through supabase-js with the secret key, which passes all policies. */
export function supabaseFiles(client: Pick<SupabaseClient, "storage">): Files {
  return {
    write: async (bucket, path, body, contentType) => {
      const options = { contentType, upsert: true, duplex: "half" };
      const { error } = await client.storage.from(bucket).upload(path, body, options);
      if (error) {
        throw new JobError("storage_unavailable", "A file cannot be stored at the moment.", { cause: error });
      }
    },
  };
}
