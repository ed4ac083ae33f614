// A maker of pictures is one file that implements this, and its entry in worker/index.ts.

import { z } from "zod";
import type { Creation } from "../../_shared/sql/creations.ts";
import { JobError } from "../job.ts";

/** What a creation is made from and by which model, with addresses the provider can read for an hour. */
export interface CreationRequest {
  creation: Creation;
  /** Names this run for ever, for a provider that takes such keys; fal and Replicate have none. */
  key: string;
  /** As the provider names it: a row of studio.provider_models. Without it, what the provider takes for the type. */
  model?: string;
  personUrl: string | null;
  garmentUrl: string | null;
  /** Trained weights that it is to be made with, and how strongly. */
  lora?: { url: string; scale: number };
}

/** A request that runs at a provider; what the job's checkpoint keeps of it. */
export const submission = z.object({
  provider: z.string(),
  request_id: z.string().min(1),
  model: z.string(),
  status_url: z.string().nullish(),
  response_url: z.string().nullish(),
  cancel_url: z.string().nullish(),
  submitted_at: z.string(),
});
export type Submission = z.infer<typeof submission>;

export type RunState =
  | { state: "queued"; position?: number }
  /** percent: as the model's own log says. */
  | { state: "running"; percent?: number }
  | { state: "ended" };
export const runResult = z.discriminatedUnion("ok", [
  /** Pictures, or a video. */
  z.object({ ok: z.literal(true), pictures: z.array(z.object({ url: z.string() })) }),
  /** input: what was asked for cannot be made; provider: it broke, and may well be made elsewhere. */
  z.object({ ok: z.literal(false), reason: z.string(), fault: z.enum(["input", "provider"]) }),
]);
export type RunResult = z.infer<typeof runResult>;
export type RunFailure = Extract<RunResult, { ok: false }>;

export interface CreationProvider {
  /** As in the wait key and in the path of its webhooks. */
  name: string;
  /** Below these its results lie; from elsewhere none is fetched. */
  filesUrls: readonly URL[];
  /** Headers that reading a result takes, only for addresses of the provider itself. */
  fileHeaders?(url: URL): Record<string, string>;
  /** Errors: provider_rejected, provider_unavailable, invalid_settings, unsupported_creation. */
  submit(request: CreationRequest, webhookUrl: string, signal: AbortSignal): Promise<Submission>;
  /** Errors: provider_rejected (the request is not known any more), provider_unavailable. */
  status(run: Submission, signal: AbortSignal): Promise<RunState>;
  /** Only of a run that has ended. Errors: provider_unavailable. */
  result(run: Submission, signal: AbortSignal): Promise<RunResult>;
  /** Asks it to stop; answers in the provider's words. Errors: provider_unavailable. */
  cancel(run: Submission, signal: AbortSignal): Promise<string>;
  /** The result that a webhook of this run brings; null when it has to be fetched. */
  parseCallback(body: unknown, run: Submission): RunResult | null;
}

const longestReason = 300;

/** The provider will not do this, now or later. */
export function providerRejected(reason: string, cause?: unknown): JobError {
  return new JobError("provider_rejected", shorten(reason), { retry: false, cause });
}

/** A run broke at the provider, which says nothing of what was asked for. */
export function providerFailed(reason: string): JobError {
  return new JobError("provider_failed", shorten(reason), { retry: false, provider: "failed" });
}

/** The provider cannot do this at the moment: it is in trouble, or (busy) it asks all of us to wait. */
export function providerUnavailable(
  reason: string,
  more: { retryIn?: number; busy?: boolean; cause?: unknown } = {},
): JobError {
  const { busy = false, ...rest } = more;
  return new JobError("provider_unavailable", shorten(reason), {
    ...rest,
    provider: busy ? "busy" : "failed",
  });
}

function shorten(reason: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they cannot be stored and say nothing.
  const text = reason.replace(/[\u0000-\u001f\s]+/g, " ").trim() || "no reason given";
  return text.length > longestReason ? `${text.slice(0, longestReason - 1)}…` : text;
}
