// Reading objects of storage into memory.

import { JobError } from "../job.ts";
import type { Storage } from "../storage.ts";

const urlSeconds = 300;
const timeoutMs = 60_000;

/**
 * The bytes of an object; of one that is longer than `most`, only so many and one more, which tells. Errors:
 * unknown_image, storage_unavailable.
 */
export async function readObject(
  { storage, fetch: fetcher = fetch }: { storage: Pick<Storage, "signedUrl">; fetch?: typeof fetch },
  { bucket, path, most }: { bucket: string; path: string; most: number },
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const url = await storage.signedUrl(bucket, path, urlSeconds);
  try {
    const response = await fetcher(url, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    if (response.status === 404 || response.status === 400) {
      await response.body?.cancel();
      throw new JobError("unknown_image", `There is no picture "${path}".`, { retry: false });
    }
    if (!response.ok || !response.body) throw new Error(`Storage answered ${response.status}.`);
    return await readUpTo(response.body, most + 1);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof JobError) throw error;
    throw new JobError("storage_unavailable", "The picture cannot be read at the moment.", { cause: error });
  }
}

async function readUpTo(body: ReadableStream<Uint8Array>, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    const part = chunk.subarray(0, most - length);
    chunks.push(part);
    length += part.length;
    // Leaving the loop cancels the stream.
    if (length >= most) break;
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
