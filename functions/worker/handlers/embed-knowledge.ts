import { z } from "zod";
import type { Embedder } from "../../_shared/ai/embeddings.ts";
import { AiError } from "../../_shared/ai/provider.ts";
import { chunksToEmbed, storeEmbeddings } from "../../_shared/sql/knowledge.ts";
import { completed, type Handler, JobError } from "../job.ts";

const payload = z.object({ batch_id: z.uuid() });

/** ai.embed: the vectors of a batch of chunks, by one call. Vectors that were stored before a crash are not asked for again. */
export function embedKnowledge(embedder: Embedder | null): Handler {
  return async (job, { db, signal }) => {
    const { batch_id } = payload.parse(job.payload);
    const chunks = await chunksToEmbed(db, batch_id);
    if (chunks.length === 0) return completed({ embedded: 0 });
    if (!embedder) {
      throw new JobError("embeddings_not_set_up", "No provider of embeddings is set up.", { retry: false });
    }
    const texts = chunks.map(({ title, content }) => ({ title, text: content }));
    const vectors = await embedder.embed(texts, "document", signal).catch((error: unknown) => {
      throw jobErrorOf(error);
    });
    const embeddings = chunks.map(({ id }, i) => ({ id, values: vectors[i] as number[] }));
    await storeEmbeddings(db, batch_id, embedder.model, embeddings);
    return completed({ embedded: chunks.length });
  };
}

/** What a provider's trouble means for a job. */
export function jobErrorOf(error: unknown): unknown {
  if (!(error instanceof AiError)) return error;
  const { trouble, message, retryAfter } = error;
  if (trouble === "rejected")
    return new JobError("provider_rejected", message, { retry: false, cause: error });
  return new JobError("provider_unavailable", message, {
    provider: trouble === "busy" ? "busy" : "failed",
    ...(retryAfter !== undefined && { retryIn: retryAfter }),
    cause: error,
  });
}
