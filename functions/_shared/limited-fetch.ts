/** How long our own services may take for an answer, its body included. */
const mostMs = 30_000;

/**
 * fetch with an end: an answer that does not come (a connection that broke in silence) is an error after `timeoutMs`,
 * and not a job or a request that hangs for as long as its function lives. A signal that is given counts as well.
 */
export function withTimeLimit(fetcher: typeof fetch, timeoutMs = mostMs): typeof fetch {
  return (input, init) => {
    const time = AbortSignal.timeout(timeoutMs);
    const given = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    return fetcher(input, { ...init, signal: given ? AbortSignal.any([given, time]) : time });
  };
}

/** For supabase-js, which waits without end. */
export const limitedFetch = withTimeLimit((input, init) => fetch(input, init));
