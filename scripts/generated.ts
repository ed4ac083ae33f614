// Generated files: written, or (with --check) compared with what is committed.

import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

export const root = join(import.meta.dirname, "..");

/** Content by path from the root of the project. */
export type Files = Map<string, string>;

/** Writes the files and removes others from the folders that hold nothing else. */
export async function writeFiles(files: Files, ownFolders: string[] = []): Promise<void> {
  for (const stale of await othersIn(ownFolders, files)) await rm(join(root, stale));
  for (const [path, content] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

/** The paths whose content is not the generated one. */
export async function outdated(files: Files, ownFolders: string[] = []): Promise<string[]> {
  const stale = await othersIn(ownFolders, files);
  for (const [path, content] of files) {
    if ((await contentOf(path)) !== content) stale.push(path);
  }
  return stale.toSorted();
}

/** For a script: writes, or checks when the command line says --check; the exit code tells. */
export async function writeOrCheck(command: string, files: Files, ownFolders: string[] = []): Promise<void> {
  if (!process.argv.includes("--check")) {
    await writeFiles(files, ownFolders);
    console.log(`${files.size} files written.`);
    return;
  }
  const stale = await outdated(files, ownFolders);
  if (stale.length === 0) return;
  console.error(`Out of date (run npm run ${command}):\n${stale.map((path) => `  ${path}`).join("\n")}`);
  process.exitCode = 1;
}

async function othersIn(folders: string[], files: Files): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders) {
    const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(
      whenMissing([]),
    );
    for (const entry of entries.filter((e) => e.isFile())) {
      const path = relative(root, join(entry.parentPath, entry.name));
      if (!files.has(path)) found.push(path);
    }
  }
  return found;
}

async function contentOf(path: string): Promise<string | undefined> {
  return readFile(join(root, path), "utf8").catch(whenMissing(undefined));
}

function whenMissing<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === "ENOENT") return value;
    throw error;
  };
}
