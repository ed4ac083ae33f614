// The bytes of objects. A file is named by the version of its object, a random id made here; what callers name
// their objects never reaches the file system. A file without a row is harmless, a row without a file never
// comes to be: the file is in place, and on disk, before the row is committed.

import { createHash, randomUUID } from "node:crypto";
import { createReadStream, mkdirSync, rmSync } from "node:fs";
import { copyFile, mkdir, open, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { noSuchKey, tooLarge } from "./errors.ts";

export type StoredFile = { version: string; size: number; etag: string };

const versionShape = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export class FileStore {
  #folder: string;
  #incoming: string;

  constructor(folder: string) {
    this.#folder = folder;
    this.#incoming = path.join(folder, "incoming");
    // What an earlier crash left half written.
    rmSync(this.#incoming, { recursive: true, force: true });
    mkdirSync(this.#incoming, { recursive: true, mode: 0o700 });
  }

  #path(version: string): string {
    // The version comes out of a table; whatever wrote it there, it does not choose a path.
    if (!versionShape.test(version)) throw noSuchKey();
    return path.join(this.#folder, version.slice(0, 2), version);
  }

  async #place(temporary: string, version: string): Promise<void> {
    const target = this.#path(version);
    await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
    await rename(temporary, target);
  }

  /** Takes in a stream; more than `limit` bytes is an error and leaves nothing. */
  async write(body: ReadableStream<Uint8Array>, limit: number): Promise<StoredFile> {
    const version = randomUUID();
    const temporary = path.join(this.#incoming, version);
    const hash = createHash("md5");
    let size = 0;
    const handle = await open(temporary, "wx", 0o600);
    try {
      for await (const chunk of body) {
        size += chunk.byteLength;
        if (size > limit) throw tooLarge();
        hash.update(chunk);
        await handle.writeFile(chunk);
      }
      await handle.sync();
      await handle.close();
      await this.#place(temporary, version);
      return { version, size, etag: `"${hash.digest("hex")}"` };
    } catch (error) {
      await handle.close();
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async copy(from: string): Promise<string> {
    const version = randomUUID();
    const temporary = path.join(this.#incoming, version);
    await copyFile(this.#path(from), temporary);
    const handle = await open(temporary, "r+");
    await handle.sync().finally(() => handle.close());
    await this.#place(temporary, version);
    return version;
  }

  async size(version: string): Promise<number> {
    return (await stat(this.#path(version))).size;
  }

  read(version: string, range?: { start: number; end: number }): ReadableStream<Uint8Array> {
    return Readable.toWeb(
      createReadStream(this.#path(version), range),
    ) as unknown as ReadableStream<Uint8Array>;
  }

  async remove(versions: (string | null)[]): Promise<void> {
    const known = versions.filter(
      (version): version is string => version !== null && versionShape.test(version),
    );
    await Promise.all(known.map((version) => rm(this.#path(version), { force: true })));
  }
}
