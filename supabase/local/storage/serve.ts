// Answers with an object's bytes: whole or one range, with what caches need.

import type { Context } from "hono";
import type { StorageContext } from "./context.ts";
import { noSuchKey, notSupported } from "./errors.ts";
import type { Transaction } from "./session.ts";

export type ObjectRow = {
  id: string;
  name: string;
  bucket_id: string;
  version: string;
  metadata: {
    size?: number;
    mimetype?: string;
    cacheControl?: string;
    eTag?: string;
    lastModified?: string;
  } | null;
  user_metadata: Record<string, unknown> | null;
  created_at: Date;
  updated_at: Date;
};

const columns = "id, name, bucket_id, version, metadata, user_metadata, created_at, updated_at";

export async function findObject(tx: Transaction, bucket: string, key: string): Promise<ObjectRow> {
  const found = await tx.query<ObjectRow>(
    `select ${columns} from storage.objects where bucket_id = $1 and name = $2`,
    [bucket, key],
  );
  if (!found.rows[0]) throw noSuchKey();
  return found.rows[0];
}

type Range = { start: number; end: number };

/** One range of bytes; nothing when the whole is wanted, "unsatisfiable" when it lies outside. */
function parseRange(header: string | undefined, size: number): Range | "unsatisfiable" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return undefined;
  const last = size - 1;
  const range =
    match[1] === ""
      ? { start: Math.max(0, size - Number(match[2])), end: last }
      : { start: Number(match[1]), end: match[2] === "" ? last : Math.min(Number(match[2]), last) };
  return range.start > range.end || range.start > last ? "unsatisfiable" : range;
}

/** `?download` asks a browser to save the file, under another name when one is given. */
function disposition(c: Context, key: string): string | undefined {
  const wanted = c.req.query("download");
  if (wanted === undefined) return undefined;
  const name = wanted || key.split("/").at(-1) || "download";
  return `attachment; filename="${name.replace(/[^\x20-\x7e]|["\\]/g, "_")}"; filename*=UTF-8''${encodeURIComponent(name)}`;
}

export function refuseVersions(c: Context) {
  if (c.req.query("versionId") !== undefined) throw notSupported("Reading older versions of an object");
}

export async function serveObject(
  c: Context,
  { files }: StorageContext,
  object: ObjectRow,
): Promise<Response> {
  const { metadata } = object;
  const size = await files.size(object.version).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT" ? noSuchKey() : error;
  });
  const etag = metadata?.eTag ?? `"${object.version}"`;
  const headers = new Headers({
    "accept-ranges": "bytes",
    "cache-control": metadata?.cacheControl ?? "no-cache",
    etag,
    "last-modified": new Date(metadata?.lastModified ?? object.updated_at).toUTCString(),
  });
  if (
    c.req
      .header("if-none-match")
      ?.split(/\s*,\s*/)
      .includes(etag)
  )
    return new Response(null, { status: 304, headers });
  headers.set("content-type", metadata?.mimetype ?? "application/octet-stream");
  const saveAs = disposition(c, object.name);
  if (saveAs) headers.set("content-disposition", saveAs);
  const range = parseRange(c.req.header("range"), size);
  if (range === "unsatisfiable") {
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${size}` } });
  }
  if (range) headers.set("content-range", `bytes ${range.start}-${range.end}/${size}`);
  headers.set("content-length", String(range ? range.end - range.start + 1 : size));
  const status = range ? 206 : 200;
  if (c.req.method === "HEAD" || size === 0) return new Response(null, { status, headers });
  return new Response(files.read(object.version, range), { status, headers });
}

/** The description that info() of storage-js shows. */
export const describeObject = ({ metadata, ...object }: ObjectRow) => ({
  id: object.id,
  name: object.name,
  version: object.version,
  bucket_id: object.bucket_id,
  size: metadata?.size ?? null,
  content_type: metadata?.mimetype ?? null,
  cache_control: metadata?.cacheControl ?? null,
  etag: metadata?.eTag ?? null,
  metadata: object.user_metadata,
  last_modified: metadata?.lastModified ?? object.updated_at,
  created_at: object.created_at,
});
