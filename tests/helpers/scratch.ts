import { statfsSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keepAtDeath, removeAtDeath } from "../../supabase/local/processes.ts";

const memory = "/dev/shm";
const wanted = 4 * 2 ** 30;

/** Making and dropping databases is making and deleting thousands of small files, which costs a disk's file system
 * a third of the run's processor time. Containers with a small /dev/shm, and other systems, use the disk. */
function fastest(): string {
  if (process.platform !== "linux" || process.env.TMPDIR || process.availableMemory() < 2 * wanted)
    return tmpdir();
  try {
    const { bavail, bsize } = statfsSync(memory);
    return bavail * bsize >= wanted ? memory : tmpdir();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return tmpdir();
    throw error;
  }
}

/** Gives all that the run writes to the system's temporary folder a folder of its own, which goes when the run ends,
 * whichever way it ends. */
export async function useScratch(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(fastest(), "backlot-run-"));
  removeAtDeath(folder);
  // Root's folder, but servers run as another user when root starts them.
  await chmod(folder, 0o755);
  const before = process.env.TMPDIR;
  process.env.TMPDIR = folder;
  return async () => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    keepAtDeath(folder);
  };
}
