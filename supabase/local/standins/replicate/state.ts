import { randomBytes } from "node:crypto";
import type { Control, Rule } from "../control.ts";
import type { Delivery, PendingWebhook } from "../delivery.ts";

export type Status = "starting" | "processing" | "succeeded" | "failed" | "canceled";
export type Event = "start" | "output" | "logs" | "completed";
export type ResultFile = { name: string; content_type: string };

export type Prediction = {
  id: string;
  /** `owner/name`, without a version. */
  model: string;
  version: string;
  input: Record<string, unknown>;
  webhook: string | null;
  events: Event[];
  status: Status;
  files: ResultFile[];
  error: string | null;
  logs: string;
  created_at: number;
  started_at: number | null;
  completed_at: number | null;
  cancel_asked: boolean;
  rule: Rule;
};

export type ReplicateData = {
  token: string;
  /** whsec_ and base64; one for the account. */
  signingSecret: string;
  predictions: Record<string, Prediction>;
  pending: PendingWebhook[];
};

export function emptyReplicateData(): ReplicateData {
  return {
    token: `r8_${randomBytes(20).toString("base64url").replace(/[-_]/g, "x").slice(0, 37)}`,
    signingSecret: `whsec_${randomBytes(24).toString("base64")}`,
    predictions: {},
    pending: [],
  };
}

/** What every route works with. */
export type Deps = {
  data: ReplicateData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  filesDir: string;
  baseUrl(): string;
  /** Where a URL that a function wrote is reached from here. */
  reachable(url: string): string;
};

/** What is said of a prediction: in answers, and in webhooks. */
export function shown(deps: Deps, prediction: Prediction): Record<string, unknown> {
  const { id, model, version, input, status, logs, error, files } = prediction;
  const removed = isRemoved(prediction);
  const urls = files.map(({ name }) => `${deps.baseUrl()}/files/${id}/${name}`);
  const made = files.length > 0 && !removed;
  const seconds = (from: number | null) =>
    prediction.completed_at !== null && from !== null ? (prediction.completed_at - from) / 1000 : undefined;
  return {
    id,
    model,
    version,
    input: removed ? {} : input,
    logs: removed ? "" : logs,
    output: made ? (givesList(model) ? urls : urls[0]) : null,
    data_removed: removed,
    error,
    source: "api",
    status,
    created_at: time(prediction.created_at),
    started_at: time(prediction.started_at),
    completed_at: time(prediction.completed_at),
    urls: {
      cancel: `${deps.baseUrl()}/v1/predictions/${id}/cancel`,
      get: `${deps.baseUrl()}/v1/predictions/${id}`,
      web: `https://replicate.com/p/${id}`,
    },
    metrics: { predict_time: seconds(prediction.started_at), total_time: seconds(prediction.created_at) },
  };
}

const keptMs = 3_600_000;

/** Inputs, outputs and files of predictions made through the API go an hour after they end. */
export function isRemoved({ completed_at, rule }: Prediction): boolean {
  return completed_at !== null && Date.now() >= completed_at + (rule.expire_ms ?? keptMs);
}

const lists = new Set(["black-forest-labs/flux-schnell", "black-forest-labs/flux-dev"]);

/** Some models answer with a list even of one file. */
export function givesList(model: string): boolean {
  return lists.has(model);
}

function time(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
