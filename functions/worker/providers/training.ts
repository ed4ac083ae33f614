// A trainer of weights is one file that implements this, and its entry in worker/index.ts.

import type { Submission } from "./provider.ts";

export interface TrainingRequest {
  /** An archive of pictures, readable for a day. */
  imagesUrl: string;
  triggerWord: string;
  steps: number;
}

export type TrainingState =
  | { state: "queued" }
  /** percent: as far as the trainer says. */
  | { state: "running"; percent: number | null }
  /** seconds: what it ran, where the trainer says. */
  | { state: "ended"; seconds: number | null };
export type TrainingResult = { ok: true; weightsUrl: string } | { ok: false; reason: string };

export interface Trainer {
  /** As in the wait key and in the path of its webhooks. */
  name: string;
  /** Below these its weights lie; from elsewhere none are fetched. */
  filesUrls: readonly URL[];
  /** Errors: provider_rejected, provider_unavailable. */
  submit(request: TrainingRequest, webhookUrl: string, signal: AbortSignal): Promise<Submission>;
  /** Errors: provider_rejected (the request is not known any more), provider_unavailable. */
  status(run: Submission, signal: AbortSignal): Promise<TrainingState>;
  /** Only of a run that has ended. Errors: provider_unavailable. */
  result(run: Submission, signal: AbortSignal): Promise<TrainingResult>;
  /** Asks it to stop; answers in the provider's words. Errors: provider_unavailable. */
  cancel(run: Submission, signal: AbortSignal): Promise<string>;
  /** The result that a webhook of this run brings; null when it has to be fetched. */
  parseCallback(body: unknown, run: Submission): TrainingResult | null;
}
