import type { Embedder } from "../../_shared/ai/embeddings.ts";
import type { TextModel } from "../../_shared/ai/gemini.ts";
import type { Handlers } from "../job.ts";
import { analyzeBrand } from "./analyze-brand.ts";
import { embedKnowledge } from "./embed-knowledge.ts";
import { type IngestDeps, ingestKnowledge } from "./ingest-knowledge.ts";
import { runTask } from "./run-task.ts";

export interface KnowledgeDeps extends IngestDeps {
  /** Without it no provider of embeddings is set up. */
  embedder?: Embedder | null | undefined;
  /** Without it no provider of texts is set up. */
  textModel?: TextModel | null | undefined;
}

/** Every kind of work on knowledge, and what the assistant has done by itself. */
export function knowledgeHandlers(deps: KnowledgeDeps): Handlers {
  const { embedder = null, textModel = null } = deps;
  return {
    "ai.ingest": ingestKnowledge(deps),
    "ai.embed": embedKnowledge(embedder),
    "ai.analyze_brand": analyzeBrand(textModel, embedder),
    "ai.task": runTask,
  };
}
