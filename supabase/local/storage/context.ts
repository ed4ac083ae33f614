import type { FileStore } from "./files.ts";
import type { Session } from "./session.ts";
import type { Tokens } from "./tokens.ts";

/** What every route of the storage API works with. */
export type StorageContext = {
  session: Session;
  files: FileStore;
  tokens: Tokens;
  /** Bytes; a bucket's own limit may be lower. */
  sizeLimit: number;
};
