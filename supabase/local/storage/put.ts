// Uploads: allowed first, then received, then the file put in place, then the row committed.

import { mimeTypeAllowed, readUpload, type Upload } from "./body.ts";
import type { StorageContext } from "./context.ts";
import { accessDenied, invalidMimeType, noSuchBucket, noSuchKey } from "./errors.ts";
import type { StoredFile } from "./files.ts";
import type { Transaction } from "./session.ts";

/** Who uploads: a caller under row security, or the holder of a signed address. */
export type Uploader = {
  run<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  ownerId: string | undefined;
};

export type PutMode = "create" | "upsert" | "update";

type Bucket = {
  id: string;
  public: boolean;
  file_size_limit: string | null;
  allowed_mime_types: string[] | null;
};

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export async function findBucket({ session }: StorageContext, id: string): Promise<Bucket> {
  const columns = "id, public, file_size_limit, allowed_mime_types";
  const bucket = await session.asOwner(async (tx) => {
    return (await tx.query<Bucket>(`select ${columns} from storage.buckets where id = $1`, [id])).rows[0];
  });
  if (!bucket) throw noSuchBucket();
  return bucket;
}

type Row = { version: string; metadata: object; userMetadata: object | null };

/** Writes the row as the uploader; the statement itself is what row security judges. */
async function writeRow(
  tx: Transaction,
  mode: PutMode,
  bucket: string,
  key: string,
  owner: string | undefined,
  row: Row,
) {
  const ownerUuid = owner && uuid.test(owner) ? owner : null;
  const values = [bucket, key, ownerUuid, owner ?? null, row.version, row.metadata, row.userMetadata];
  const insert = `
    insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
    values ($1, $2, $3, $4, $5, $6, $7)`;
  const set =
    "owner = $3, owner_id = $4, version = $5, metadata = $6, user_metadata = $7, updated_at = now()";
  if (mode === "create") await tx.query(insert, values);
  if (mode === "upsert")
    await tx.query(`${insert} on conflict (bucket_id, name) do update set ${set}`, values);
  if (mode === "update") {
    const updated = await tx.query(
      `update storage.objects set ${set} where bucket_id = $1 and name = $2`,
      values,
    );
    if (updated.rowCount === 0) {
      const seen = await tx.query("select from storage.objects where bucket_id = $1 and name = $2", [
        bucket,
        key,
      ]);
      throw seen.rowCount === 0 ? noSuchKey() : accessDenied();
    }
  }
}

const objectMetadata = (file: StoredFile, upload: Upload) => ({
  eTag: file.etag,
  size: file.size,
  mimetype: upload.contentType,
  cacheControl: upload.cacheControl,
  lastModified: new Date().toISOString(),
  contentLength: file.size,
  httpStatusCode: 200,
});

type Put = { bucket: string; key: string; mode: PutMode; uploader: Uploader; request: Request };

export async function putObject(context: StorageContext, put: Put): Promise<{ id: string; path: string }> {
  const { files } = context;
  const { key, mode, uploader, request } = put;
  const bucket = await findBucket(context, put.bucket);
  const write = (tx: Transaction, row: Row) => writeRow(tx, mode, bucket.id, key, uploader.ownerId, row);
  // A caller who may not write is told before the file is received.
  const trial = { version: "rehearsal", metadata: {}, userMetadata: null };
  await uploader.run((tx) => tx.rehearse(() => write(tx, trial)));

  const limit = Math.min(context.sizeLimit, Number(bucket.file_size_limit ?? Number.POSITIVE_INFINITY));
  const upload = await readUpload(request, limit);
  if (!mimeTypeAllowed(upload.contentType, bucket.allowed_mime_types))
    throw invalidMimeType(upload.contentType);
  const file = await files.write(upload.stream, limit);
  try {
    const metadata = objectMetadata(file, upload);
    const done = await uploader.run(async (tx) => {
      const find = () =>
        tx.query<{ id: string; version: string }>(
          "select id, version from storage.objects where bucket_id = $1 and name = $2 for update",
          [bucket.id, key],
        );
      const before = await tx.withOwnRights(find);
      await write(tx, { version: file.version, metadata, userMetadata: upload.userMetadata });
      const after = await tx.withOwnRights(find);
      return { id: after.rows[0]?.id ?? "", replaced: before.rows.map((row) => row.version) };
    });
    await files.remove(done.replaced);
    return { id: done.id, path: `${bucket.id}/${key}` };
  } catch (error) {
    await files.remove([file.version]);
    throw error;
  }
}
