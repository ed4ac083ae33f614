import { z } from "zod";
import { eraseStep, noteFilesErased } from "../../_shared/sql/data-requests.ts";
import { completed, type Handler, JobError, LeaseLost, waiting } from "../job.ts";
import { type FileRemover, removeObjects } from "../storage.ts";

const payload = z.object({ request_id: z.uuid() });
const waitSeconds = 15;

/**
 * integrations.erase_person: step by step, until nothing is left of the person. Rows go before their files, whose names
 * the request keeps until storage has deleted them, so that a crash loses none.
 */
export function erasePerson({ storage }: { storage: FileRemover }): Handler {
  return async (job, { db, signal, checkpoint }) => {
    const { request_id } = payload.parse(job.payload);
    for (;;) {
      signal.throwIfAborted();
      const step = await eraseStep(db, request_id);
      if (step.state === "completed") return completed();
      if (step.state === "waiting") return waiting({ poll_in: waitSeconds });
      if (step.state === "files") {
        await removeObjects(storage, step.files);
        if ((await noteFilesErased(db, request_id, step.files)) > 0) {
          throw new JobError("storage_unavailable", "Some files are still there.");
        }
      }
      if (!(await checkpoint({ stage: "erasing" }))) throw new LeaseLost();
    }
  };
}
