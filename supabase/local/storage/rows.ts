// Rows of storage.objects. The statement that writes one is what row security judges, and its commit is what makes
// the file behind it the object's content.

import pg from "pg";
import { mimeTypeAllowed } from "./body.ts";
import type { StorageContext } from "./context.ts";
import { accessDenied, invalidMimeType, noSuchBucket, noSuchKey, StorageError, tooLarge } from "./errors.ts";
import type { Transaction } from "./session.ts";

/** Who writes: a caller under row security, or the holder of a signed address. */
export type Writer = {
  run<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  ownerId: string | undefined;
};

export type WriteMode = "create" | "upsert" | "update";
export type Place = { bucket: string; key: string };
export type Row = { version: string; metadata: object; userMetadata: object | null };

export type Bucket = {
  id: string;
  public: boolean;
  file_size_limit: string | null;
  allowed_mime_types: string[] | null;
};

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A bucket's settings, which are no secret to who may not list it. */
export async function findBucket({ session }: StorageContext, id: string): Promise<Bucket> {
  const columns = "id, public, file_size_limit, allowed_mime_types";
  const bucket = await session.asOwner(async (tx) => {
    return (await tx.query<Bucket>(`select ${columns} from storage.buckets where id = $1`, [id])).rows[0];
  });
  if (!bucket) throw noSuchBucket();
  return bucket;
}

export const sizeLimitOf = (context: StorageContext, bucket: Bucket) =>
  Math.min(context.sizeLimit, Number(bucket.file_size_limit ?? Number.POSITIVE_INFINITY));

/** What comes from another bucket has to fit this one too. */
export function checkFits(context: StorageContext, bucket: Bucket, size: number, contentType: string) {
  if (size > sizeLimitOf(context, bucket)) throw tooLarge();
  if (!mimeTypeAllowed(contentType, bucket.allowed_mime_types)) throw invalidMimeType(contentType);
}

async function writeRow(tx: Transaction, mode: WriteMode, place: Place, owner: string | undefined, row: Row) {
  const { bucket, key } = place;
  const ownerUuid = owner && uuid.test(owner) ? owner : null;
  const values = [bucket, key, ownerUuid, owner ?? null, row.version, row.metadata, row.userMetadata];
  const insert = `
    insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
    values ($1, $2, $3, $4, $5, $6, $7)`;
  const set =
    "owner = $3, owner_id = $4, version = $5, metadata = $6, user_metadata = $7, updated_at = now()";
  if (mode === "create") return void (await tx.query(insert, values));
  if (mode === "upsert") {
    return void (await tx.query(`${insert} on conflict (bucket_id, name) do update set ${set}`, values));
  }
  const updated = await tx.query(
    `update storage.objects set ${set} where bucket_id = $1 and name = $2`,
    values,
  );
  if (updated.rowCount !== 0) return;
  const visible = "select from storage.objects where bucket_id = $1 and name = $2";
  throw (await tx.query(visible, [bucket, key])).rowCount === 0 ? noSuchKey() : accessDenied();
}

/** Whether the writer may write there: tells one who may not before a file is received. */
export async function rehearseWrite(writer: Writer, mode: WriteMode, place: Place): Promise<void> {
  const row = { version: "rehearsal", metadata: {}, userMetadata: null };
  await writer.run((tx) => tx.rehearse(() => writeRow(tx, mode, place, writer.ownerId, row)));
}

/** False when the connection was lost, so that nobody knows whether the commit went through. */
const surelyNotCommitted = (error: unknown) =>
  error instanceof StorageError ||
  (error instanceof pg.DatabaseError && !/^(08|57P)/.test(error.code ?? "08"));

/** Makes the file that is in place the object's content, and removes the one it replaces. */
export async function commitWrite(
  { files }: StorageContext,
  writer: Writer,
  mode: WriteMode,
  place: Place,
  row: Row,
) {
  try {
    const done = await writer.run(async (tx) => {
      const find = () =>
        tx.query<{ id: string; version: string }>(
          "select id, version from storage.objects where bucket_id = $1 and name = $2 for update",
          [place.bucket, place.key],
        );
      const before = await tx.withOwnRights(find);
      await writeRow(tx, mode, place, writer.ownerId, row);
      const after = await tx.withOwnRights(find);
      return { id: after.rows[0]?.id ?? "", replaced: before.rows.map((found) => found.version) };
    });
    await files.remove(done.replaced);
    return { id: done.id, path: `${place.bucket}/${place.key}` };
  } catch (error) {
    if (surelyNotCommitted(error)) await files.remove([row.version]);
    throw error;
  }
}
