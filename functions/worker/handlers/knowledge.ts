import type { Embedder } from "../../_shared/ai/embeddings.ts";
import type { Handlers } from "../job.ts";
import { embedKnowledge } from "./embed-knowledge.ts";
import { type IngestDeps, ingestKnowledge } from "./ingest-knowledge.ts";

export interface KnowledgeDeps extends IngestDeps {
  /** Without it no provider of embeddings is set up. */
  embedder?: Embedder | null | undefined;
}

/** Every kind of work on knowledge. */
export function knowledgeHandlers(deps: KnowledgeDeps): Handlers {
  return { "ai.ingest": ingestKnowledge(deps), "ai.embed": embedKnowledge(deps.embedder ?? null) };
}
