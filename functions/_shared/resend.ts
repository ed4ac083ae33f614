// Resend's API for sending. Source: resend-openapi, resend.yaml: POST /emails with an Idempotency-Key.

import { z } from "zod";

export interface ResendMail {
  to: string;
  subject: string;
  text: string;
  /** ASCII letters, digits, `_` and `-`; webhooks bring them back. */
  tags: Record<string, string>;
  /** The same key sends once. */
  key: string;
}

export interface Resend {
  /** The id of the mail. Errors: ResendError. */
  send(mail: ResendMail): Promise<string>;
}

/** Resend said no, or nothing: `status` 0. */
export class ResendError extends Error {
  override readonly name = "ResendError";
  readonly status: number;
  /** Resend's name of the fault, such as validation_error. */
  readonly fault: string;
  /** Seconds to wait, where it says so. */
  readonly retryAfter: number | undefined;

  constructor(status: number, fault: string, retryAfter?: number, cause?: unknown) {
    super(status === 0 ? "Resend cannot be reached." : `Resend answered with status ${status}: ${fault}.`, {
      cause,
    });
    this.status = status;
    this.fault = fault;
    this.retryAfter = retryAfter;
  }

  /** Trying again cannot help. */
  get final(): boolean {
    return this.status >= 400 && this.status < 500 && ![408, 409, 429].includes(this.status);
  }
}

const timeoutMs = 15_000;
const sent = z.looseObject({ id: z.string().min(1) });
const refused = z.looseObject({ name: z.string() });

export interface ResendConfig {
  RESEND_API_URL: string;
  RESEND_API_KEY?: string | undefined;
  MAIL_FROM?: string | undefined;
}

/** Undefined when no key or no sender is configured. */
export function resendOf(config: ResendConfig, fetcher: typeof fetch = fetch): Resend | undefined {
  const { RESEND_API_URL: url, RESEND_API_KEY: key, MAIL_FROM: from } = config;
  if (!key || !from) return undefined;
  return {
    send: async (mail) => {
      const { to, subject, text } = mail;
      const tags = Object.entries(mail.tags).map(([name, value]) => ({ name, value }));
      let response: Response;
      let answer: unknown;
      try {
        response = await fetcher(`${url}/emails`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${key}`,
            "content-type": "application/json",
            "idempotency-key": mail.key,
          },
          body: JSON.stringify({ from, to: [to], subject, text, tags }),
          signal: AbortSignal.timeout(timeoutMs),
        });
        answer = await response.json().catch(() => null);
      } catch (error) {
        throw new ResendError(0, "unreachable", undefined, error);
      }
      if (!response.ok) {
        const wait = Number(response.headers.get("retry-after"));
        throw new ResendError(
          response.status,
          refused.safeParse(answer).data?.name ?? "unknown",
          Number.isFinite(wait) && wait > 0 ? wait : undefined,
        );
      }
      const parsed = sent.safeParse(answer);
      if (!parsed.success) throw new ResendError(response.status, "unknown answer");
      return parsed.data.id;
    },
  };
}
