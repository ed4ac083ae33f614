// Requests and answers of the function `assistant`, shared with clients.

import { z } from "zod";

export const turnRequest = z.strictObject({
  content: z.string().trim().min(1).max(8000),
  /** Names the question for ever within its conversation: asked twice, answered and charged once. */
  key: z.string().min(1).max(255).optional(),
});
export type TurnRequest = z.infer<typeof turnRequest>;

export const searchRequest = z.strictObject({
  workspace_id: z.uuid(),
  query: z.string().trim().min(1).max(2000),
  most: z.number().int().min(1).max(50).default(8),
  source_types: z
    .array(z.enum(["website", "document", "products"]))
    .min(1)
    .optional(),
});
export type SearchRequest = z.input<typeof searchRequest>;

export interface KnowledgeHit {
  chunk_id: string;
  source_type: string;
  source_url: string | null;
  source_title: string | null;
  heading: string | null;
  content: string;
  /** Cosine of the chunk to the question; null: found by its words alone. */
  similarity: number | null;
  score: number;
}
export interface SearchAnswer {
  hits: KnowledgeHit[];
}

/** A chunk that the answer names as `[mark]`. */
export interface Citation {
  mark: string;
  chunk_id: string;
  title: string | null;
  url: string | null;
}

/** Events of the answer's stream: `event:` is the type, `data:` the rest as JSON. */
export type TurnEvent =
  | { type: "turn"; turn_id: string }
  | { type: "text"; text: string }
  | { type: "tool"; name: string; input: unknown }
  | { type: "tool_result"; name: string; output: unknown }
  | ({ type: "done" } & TurnAnswer)
  | { type: "error"; code: string; message: string; status: number };

export interface TurnAnswer {
  turn_id: string;
  status: "completed" | "cancelled";
  content: string;
  citations: Citation[];
  input_tokens: number;
  output_tokens: number;
  cost_micro: number;
}
