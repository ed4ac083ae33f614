// What the tryon function does with storage.

import type { SupabaseClient } from "@supabase/supabase-js";
import { ApiError } from "../_shared/errors.ts";
import { isMissingObject } from "../_shared/storage-errors.ts";

export interface Pictures {
  /** Stores a visitor's photo. Error: storage_unavailable. */
  store(path: string, bytes: ArrayBuffer, contentType: string): Promise<void>;
  /** Addresses of garments' pictures for an hour, null where one is gone. Error: storage_unavailable. */
  garmentUrls(paths: string[]): Promise<(string | null)[]>;
  /** Address of a result for ten minutes, null when it is gone. Error: storage_unavailable. */
  resultUrl(path: string): Promise<string | null>;
  /** The lasting address of what everybody may see. */
  assetUrl(path: string): string;
}

function unavailable(cause: unknown): ApiError {
  return new ApiError(503, "storage_unavailable", "Pictures cannot be stored or shown at the moment.", {
    cause,
  });
}

/** Through supabase-js with the secret key, which passes all policies. */
export function supabasePictures(client: Pick<SupabaseClient, "storage">): Pictures {
  const uploads = client.storage.from("studio-uploads");
  return {
    store: async (path, bytes, contentType) => {
      const { error } = await uploads.upload(path, bytes, { contentType, upsert: true });
      if (error) throw unavailable(error);
    },
    garmentUrls: async (paths) => {
      if (paths.length === 0) return [];
      const { data, error } = await uploads.createSignedUrls(paths, 3600);
      if (error) throw unavailable(error);
      return data.map(({ signedUrl }) => signedUrl || null);
    },
    resultUrl: async (path) => {
      const { data, error } = await client.storage.from("studio-results").createSignedUrl(path, 600);
      if (data) return data.signedUrl;
      if (isMissingObject(error)) return null;
      throw unavailable(error);
    },
    assetUrl: (path) => client.storage.from("vr-assets").getPublicUrl(path).data.publicUrl,
  };
}
