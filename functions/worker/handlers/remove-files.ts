import { z } from "zod";
import { countFiles, type FilePlace, filesOfWorkspace, planRemoval } from "../../_shared/sql/files.ts";
import {
  completed,
  type Handler,
  type Handlers,
  type JobContext,
  JobError,
  LeaseLost,
  waiting,
} from "../job.ts";
import { type FileRemover, removeObjects } from "../storage.ts";

interface Deps {
  storage: FileRemover;
}

const removal = z.object({
  files: z.array(z.looseObject({ bucket: z.string(), path: z.string() })),
  forced: z.boolean().default(false),
});
const emptying = z.object({ workspace_id: z.uuid() });
/** How long a file waits for the work that still needs it. */
const waitSeconds = 60;

export function fileHandlers(deps: Deps): Handlers {
  return {
    "storage.remove_files": removeFiles(deps),
    "storage.empty_workspace": emptyWorkspace(deps),
    "studio.remove_files": removeFiles(deps),
  };
}

/**
 * storage.remove_files, studio.remove_files: deletes files of rows that are gone, but not what other rows need. It ends
 * when storage has none of them.
 */
export function removeFiles({ storage }: Deps): Handler {
  return async (job, context) => {
    const { files, forced } = removal.parse(job.payload);
    const plan = await planRemoval(context.db, files, forced);
    const removed = plan.filter(({ waits }) => !waits);
    await removeSurely(storage, removed, context);
    if (removed.length < plan.length) return waiting({ poll_in: waitSeconds });
    return completed({ removed: removed.length });
  };
}

/** storage.empty_workspace: deletes what a workspace has left, 500 files at a time. */
export function emptyWorkspace({ storage }: Deps): Handler {
  return async (job, context) => {
    const { workspace_id } = emptying.parse(job.payload);
    for (let removed = 0; ; ) {
      context.signal.throwIfAborted();
      const files = await filesOfWorkspace(context.db, workspace_id);
      if (files.length === 0) return completed({ removed });
      await removeSurely(storage, files, context);
      removed += files.length;
      if (!(await context.checkpoint({ stage: `${removed} files deleted` }))) throw new LeaseLost();
    }
  };
}

async function removeSurely(storage: FileRemover, files: FilePlace[], { db }: JobContext): Promise<void> {
  await removeObjects(storage, files);
  if ((await countFiles(db, files)) > 0) {
    throw new JobError("storage_unavailable", "Some files are still there.");
  }
}
