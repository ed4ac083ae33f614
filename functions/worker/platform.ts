import type { Log } from "../_shared/log.ts";

/**
 * Asks for a fresh worker invocation, without waiting for its end. What fails here is made good by ops.tick(),
 * which wakes a worker as long as work is ready.
 */
export function handOnTo(
  url: string,
  secretKey: string,
  log: Log,
  background?: (work: Promise<unknown>) => void,
) {
  return () => {
    const asked = fetch(url, { method: "POST", headers: { apikey: secretKey } })
      .then((response) => response.body?.cancel())
      .catch((error: unknown) => log.warn("no fresh worker could be asked for", { error }));
    background?.(asked);
  };
}
