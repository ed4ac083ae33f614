// The storage service: rows in storage.buckets and storage.objects, bytes in a folder.

import type { Hono } from "hono";
import { parseSize } from "../config.ts";
import type { Keys } from "../keys.ts";
import { FileStore } from "./files.ts";
import { type CallerVariables, storageRouter } from "./router.ts";
import { openSession } from "./session.ts";
import { Tokens } from "./tokens.ts";

type Options = { databaseUrl: string; folder: string; keys: Keys; sizeLimit: string };

export type Storage = { app: Hono<CallerVariables>; close(): Promise<void> };

export function startStorage({ databaseUrl, folder, keys, sizeLimit }: Options): Storage {
  const session = openSession(databaseUrl);
  const context = {
    session,
    files: new FileStore(folder),
    tokens: new Tokens(keys),
    sizeLimit: parseSize(sizeLimit),
  };
  return { app: storageRouter(context, keys), close: session.close };
}
