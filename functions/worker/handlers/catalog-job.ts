import { z } from "zod";
import { advanceCatalogJob, pendingChildren } from "../../_shared/sql/catalog.ts";
import { completed, type Handler, LeaseLost, waiting } from "../job.ts";

const payload = z.object({ catalog_job_id: z.uuid(), round: z.number().int() });

/**
 * commerce.catalog_job: coordinates a catalog job. Each look is one transaction that begins chunks and takes the
 * counts; between two looks it waits without a worker. It ends when there is nothing more to coordinate.
 */
export const coordinateCatalogJob: Handler = async (job, { db, checkpoint }) => {
  const { catalog_job_id, round } = payload.parse(job.payload);
  const look = await advanceCatalogJob(db, catalog_job_id, round);
  if (!look.is_live) return completed({ status: look.status });
  const { progress, stage } = look;
  if (!(await checkpoint({ progress, ...(stage !== null && { stage }) }))) throw new LeaseLost();
  return waiting({ poll_in: look.poll_seconds });
};

/** commerce.catalog_chunk: ends when the last of its products has; its end is charged in SQL. */
export const awaitCatalogChunk: Handler = async (job, { db }) =>
  (await pendingChildren(db, job.id)) > 0 ? waiting({}) : completed();
