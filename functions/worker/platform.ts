// What only the hosted runtime has: work after an answer, files of libraries, another invocation.

import type { Log } from "../_shared/log.ts";

type Background = ((work: Promise<unknown>) => void) | undefined;

const { EdgeRuntime } = globalThis as { EdgeRuntime?: { waitUntil(work: Promise<unknown>): void } };

/** Keeps the invocation alive after its answer; undefined where the runtime cannot. */
export const background: Background = EdgeRuntime && ((work) => EdgeRuntime.waitUntil(work));

/** The library's WebAssembly, which lies beside its code. Source: Supabase, Edge Functions, image manipulation. */
export function readMagick(): Promise<Uint8Array> {
  const { Deno } = globalThis as unknown as { Deno: { readFile(path: URL): Promise<Uint8Array> } };
  return Deno.readFile(new URL("x86/magick.wasm", import.meta.resolve("@imagemagick/magick-wasm")));
}

/**
 * Asks for a fresh worker invocation, without waiting for its end. What fails here is made good by ops.tick(),
 * which wakes a worker as long as work is ready.
 */
export function handOnTo(url: string, secretKey: string, log: Log): () => void {
  return () => {
    const asked = fetch(url, { method: "POST", headers: { apikey: secretKey } })
      .then((response) => response.body?.cancel())
      .catch((error: unknown) => log.warn("no fresh worker could be asked for", { error }));
    background?.(asked);
  };
}
