// What the worker does with storage.

import type { SupabaseClient } from "@supabase/supabase-js";
import type { FilePlace } from "../_shared/sql/files.ts";
import { isMissingObject } from "../_shared/storage-errors.ts";
import { JobError } from "./job.ts";

export interface Storage {
  /** An address that reads the object for so many seconds. Errors: unknown_image, storage_unavailable. */
  signedUrl(bucket: string, path: string, seconds: number): Promise<string>;
  /** Writes the object, over one that is there. Errors: storage_unavailable. */
  upload(bucket: string, path: string, bytes: Uint8Array<ArrayBuffer>, contentType: string): Promise<void>;
}

export interface FileRemover {
  /** Deletes objects; those that are gone are fine. Errors: storage_unavailable. */
  remove(bucket: string, paths: string[]): Promise<void>;
}

/** A call deletes so many at once. */
const removedAtOnce = 100;

/** Deletes objects of any buckets; those that are gone are fine. Errors: storage_unavailable. */
export async function removeObjects(storage: FileRemover, objects: readonly FilePlace[]): Promise<void> {
  for (const [bucket, group] of Map.groupBy(objects, (object) => object.bucket)) {
    for (let at = 0; at < group.length; at += removedAtOnce) {
      const paths = group.slice(at, at + removedAtOnce).map(({ path }) => path);
      await storage.remove(bucket, paths);
    }
  }
}

/** Storage through supabase-js with the secret key, which passes all policies. */
export function supabaseStorage(client: Pick<SupabaseClient, "storage">): Storage & FileRemover {
  return {
    signedUrl: async (bucket, path, seconds) => {
      const { data, error } = await client.storage.from(bucket).createSignedUrl(path, seconds);
      if (data) return data.signedUrl;
      if (isMissingObject(error)) {
        throw new JobError("unknown_image", `There is no picture "${path}" any more, or not yet.`, {
          retry: false,
          cause: error,
        });
      }
      throw new JobError("storage_unavailable", "The pictures cannot be read at the moment.", {
        cause: error,
      });
    },
    upload: async (bucket, path, bytes, contentType) => {
      const { error } = await client.storage.from(bucket).upload(path, bytes, { contentType, upsert: true });
      if (error)
        throw new JobError("storage_unavailable", "The result cannot be stored at the moment.", {
          cause: error,
        });
    },
    remove: async (bucket, paths) => {
      const { error } = await client.storage.from(bucket).remove(paths);
      if (error)
        throw new JobError("storage_unavailable", "The files cannot be deleted at the moment.", {
          cause: error,
        });
    },
  };
}
