// Fetching what a provider made.

import { providerRejected, providerUnavailable } from "./providers/provider.ts";

export interface Picture {
  bytes: Uint8Array<ArrayBuffer>;
  contentType: string;
  extension: string;
}

// What the bucket studio-results takes.
const extensions: Record<string, string> = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
const maxBytes = 50 * 1024 * 1024;
const timeoutMs = 60_000;

/** Downloads a picture of at most 50 MiB. Errors: provider_unavailable, provider_rejected (no picture, too large). */
export async function downloadPicture(
  fetcher: typeof fetch,
  url: string,
  signal: AbortSignal,
): Promise<Picture> {
  try {
    const response = await fetcher(url, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw providerUnavailable(`The result could not be fetched (${response.status}).`);
    }
    const contentType = response.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
    const extension = extensions[contentType];
    if (!extension) {
      await response.body.cancel();
      throw providerRejected(`The result is of the type ${contentType || "unknown"}, not a picture.`);
    }
    return { bytes: await readLimited(response.body), contentType, extension };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Error && error.name === "JobError") throw error;
    throw providerUnavailable("The result could not be fetched.", { cause: error });
  }
}

/** The length that was announced is not trusted: what arrives is counted. */
async function readLimited(body: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    // Leaving the loop cancels the stream.
    if (length > maxBytes) throw providerRejected("The result has more than 50 MiB.");
    chunks.push(chunk);
  }
  if (length === 0) throw providerUnavailable("The result is empty.");
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
