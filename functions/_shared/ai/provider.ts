// What goes wrong at a provider of models, in one form for worker and edge functions.

export type AiTrouble = "busy" | "unavailable" | "rejected";

export class AiError extends Error {
  override readonly name = "AiError";
  /** busy: asks to wait; unavailable: in trouble, may be tried again; rejected: the same again fails again. */
  readonly trouble: AiTrouble;
  /** Seconds to wait, where the provider said so. */
  readonly retryAfter: number | undefined;

  constructor(trouble: AiTrouble, message: string, more: { retryAfter?: number; cause?: unknown } = {}) {
    super(message, { cause: more.cause });
    this.trouble = trouble;
    this.retryAfter = more.retryAfter;
  }
}

/** Sends JSON; gives the answer when it is 2xx. Errors: AiError, the signal's reason. */
export async function postJson(
  fetcher: typeof fetch,
  url: string,
  headers: Record<string, string>,
  body: unknown,
  signal: AbortSignal,
): Promise<Response> {
  let response: Response;
  try {
    response = await fetcher(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    signal.throwIfAborted();
    throw new AiError("unavailable", "The model's provider could not be reached.", { cause: error });
  }
  if (response.ok) return response;
  throw refusalOf(response.status, await response.text(), response.headers.get("retry-after"));
}

/** Source: google.rpc.Code by HTTP status; RetryInfo says how long to wait where Retry-After does not. */
function refusalOf(status: number, text: string, retryAfter: string | null): AiError {
  const seconds = Number(retryAfter ?? /"retryDelay":\s*"(\d+(?:\.\d+)?)s"/.exec(text)?.[1] ?? Number.NaN);
  const more = {
    ...(Number.isFinite(seconds) && { retryAfter: Math.ceil(seconds) }),
    cause: new Error(`${status}: ${text.slice(0, 500)}`),
  };
  if (status === 429) return new AiError("busy", "The model's provider asks to wait.", more);
  if (status >= 500 || status === 408) {
    return new AiError("unavailable", `The model's provider answered ${status}.`, more);
  }
  return new AiError("rejected", `The model's provider refused the request (${status}).`, more);
}
