import { type JsonWebKey, randomBytes } from "node:crypto";
import type { Control, Rule } from "../control.ts";
import type { Delivery, PendingWebhook } from "../delivery.ts";
import { newKey } from "./keys.ts";
import type { Detail, ModelName } from "./models.ts";

/** Width and height of pictures only. */
export type ResultFile = {
  name: string;
  content_type: string;
  size: number;
  width?: number;
  height?: number;
};

/** How a run ended: pictures, or an error with the status that the result call answers. */
export type Ending =
  | { ok: true; files: ResultFile[]; seconds: number }
  | { ok: false; status: number; detail: Detail[] | string; seconds: number };

export type FalRequest = {
  id: string;
  gateway_id: string;
  model: ModelName;
  input: Record<string, unknown>;
  webhook: string | null;
  state: "IN_QUEUE" | "IN_PROGRESS" | "COMPLETED";
  submitted_at: number;
  cancel_asked: boolean;
  logs: { message: string; level: string; source: string; timestamp: string }[];
  rule: Rule;
  ending: Ending | null;
};

export type FalData = {
  key: string;
  userId: string;
  signingKey: JsonWebKey & { kid: string };
  requests: Record<string, FalRequest>;
  pending: PendingWebhook[];
};

export function emptyFalData(): FalData {
  return {
    key: `${randomBytes(16).toString("hex")}:${randomBytes(16).toString("hex")}`,
    userId: `user_${randomBytes(8).toString("hex")}`,
    signingKey: newKey(),
    requests: {},
    pending: [],
  };
}

/** What every route works with. */
export type Deps = {
  data: FalData;
  changed(): void;
  control: Control;
  delivery: Delivery;
  /** Where result pictures are kept. */
  filesDir: string;
  baseUrl(): string;
  /** Where a URL that a function wrote is reached from here. */
  reachable(url: string): string;
};
