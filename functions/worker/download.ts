// Fetching what a provider made.

import { isBelow } from "../_shared/addresses.ts";
import { providerRejected, providerUnavailable } from "./providers/provider.ts";

export interface Picture {
  bytes: Uint8Array<ArrayBuffer>;
  contentType: string;
  extension: string;
}

/** Content types and the extensions they get. */
export type FileTypes = Readonly<Record<string, string>>;
// What the bucket studio-results takes.
export const imageTypes: FileTypes = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
export const videoTypes: FileTypes = { "video/mp4": "mp4", "video/webm": "webm" };

export interface DownloadOptions {
  /** Pictures when not given. */
  types?: FileTypes;
  /** Headers for an address, asked anew for each redirect. */
  headers?: ((url: URL) => Record<string, string>) | undefined;
}

const maxBytes = 50 * 1024 * 1024;
const timeoutMs = 60_000;
const mostRedirects = 3;

/**
 * Downloads a file of at most 50 MiB that lies below one of the bases, redirects included.
 * Errors: provider_unavailable, provider_rejected (elsewhere, of another type, too large).
 */
export async function downloadPicture(
  fetcher: typeof fetch,
  url: string,
  bases: readonly URL[],
  signal: AbortSignal,
  { types = imageTypes, headers }: DownloadOptions = {},
): Promise<Picture> {
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const response = await fetchBelow(fetcher, url, bases, limited, headers);
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw providerUnavailable(`The result could not be fetched (${response.status}).`);
    }
    const contentType = response.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
    const extension = Object.hasOwn(types, contentType) ? types[contentType] : undefined;
    if (!extension) {
      await response.body.cancel();
      const wanted = types === videoTypes ? "video" : "picture";
      throw providerRejected(`The result is of the type ${contentType || "unknown"}, not a ${wanted}.`);
    }
    return { bytes: await readLimited(response.body), contentType, extension };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Error && error.name === "JobError") throw error;
    throw providerUnavailable("The result could not be fetched.", { cause: error });
  }
}

/** The address comes out of an answer or a webhook: without a list it could be one of our own network. */
export async function fetchBelow(
  fetcher: typeof fetch,
  url: string,
  bases: readonly URL[],
  signal: AbortSignal,
  headers: DownloadOptions["headers"],
): Promise<Response> {
  let address = URL.parse(url);
  for (let redirects = 0; redirects <= mostRedirects; redirects++) {
    if (!address || !isBelow(address, bases)) {
      throw providerRejected("The result does not lie where the provider keeps results.", {
        address: address ? `${address.protocol}//${address.host}` : "no address",
      });
    }
    const response = await fetcher(address, {
      redirect: "manual",
      signal,
      ...(headers && { headers: headers(address) }),
    });
    const location = response.status >= 300 && response.status < 400 && response.headers.get("location");
    if (!location) return response;
    await response.body?.cancel();
    address = URL.parse(location, address.href);
  }
  throw providerUnavailable("The result's address leads on and on.");
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
