// A sender's public keys, fetched when needed and kept for a while.

/** A key set: imported Ed25519 keys. */
export interface KeySet {
  keys(): Promise<CryptoKey[]>;
  /** Fetches again, because a signature matched no key; null when that was done a moment ago. */
  refreshed(): Promise<CryptoKey[] | null>;
}

export interface KeySetOptions {
  url: string;
  fetch?: typeof fetch;
  now?: () => number;
  /** How long fetched keys are used. fal allows 24 hours. */
  maxAgeMs?: number;
  /** Forged requests cannot make us ask for the keys more often than this. */
  minPauseMs?: number;
}

type Jwk = { kty?: unknown; crv?: unknown; x?: unknown };

/** The Ed25519 keys of a JWKS document (RFC 7517, RFC 8037). A fetch that fails leaves the keys known so far. */
export function createKeySet(options: KeySetOptions): KeySet {
  const { url, now = Date.now, maxAgeMs = 12 * 3_600_000, minPauseMs = 30_000 } = options;
  const fetcher = options.fetch ?? fetch;
  let known: CryptoKey[] = [];
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let triedAt = Number.NEGATIVE_INFINITY;
  let running: Promise<void> | undefined;

  async function load(): Promise<void> {
    const response = await fetcher(url, { signal: AbortSignal.timeout(5_000) });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`The key set answered ${response.status}.`);
    }
    const { keys = [] } = (await response.json()) as { keys?: Jwk[] };
    const usable = keys.filter(
      ({ kty, crv, x }) => kty === "OKP" && crv === "Ed25519" && typeof x === "string",
    );
    known = await Promise.all(
      usable.map(({ x }) =>
        crypto.subtle.importKey("jwk", { kty: "OKP", crv: "Ed25519", x: x as string }, "Ed25519", false, [
          "verify",
        ]),
      ),
    );
    fetchedAt = now();
  }

  /** One fetch at a time, and no two within minPauseMs; false when it is too early. */
  async function refresh(): Promise<boolean> {
    if (!running) {
      if (now() - triedAt < minPauseMs) return false;
      triedAt = now();
      running = load().finally(() => {
        running = undefined;
      });
    }
    await running;
    return true;
  }

  return {
    keys: async () => {
      if (now() - fetchedAt > maxAgeMs) {
        const fetched = await refresh().catch((error: unknown) => {
          if (known.length === 0) throw error;
          return true;
        });
        if (!fetched && known.length === 0) throw new Error("The key set could not be fetched a moment ago.");
      }
      return known;
    },
    refreshed: async () => ((await refresh()) ? known : null),
  };
}
