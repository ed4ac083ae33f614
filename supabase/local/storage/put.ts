// Uploads: allowed first, then received, then the file put in place, then the row committed.

import { mimeTypeAllowed, readUpload, type Upload } from "./body.ts";
import type { StorageContext } from "./context.ts";
import { invalidMimeType } from "./errors.ts";
import type { StoredFile } from "./files.ts";
import {
  commitWrite,
  findBucket,
  type Place,
  rehearseWrite,
  sizeLimitOf,
  type WriteMode,
  type Writer,
} from "./rows.ts";

const objectMetadata = (file: StoredFile, upload: Upload) => ({
  eTag: file.etag,
  size: file.size,
  mimetype: upload.contentType,
  cacheControl: upload.cacheControl,
  lastModified: new Date().toISOString(),
  contentLength: file.size,
  httpStatusCode: 200,
});

type Put = { place: Place; mode: WriteMode; writer: Writer; request: Request };

export async function putObject(context: StorageContext, { place, mode, writer, request }: Put) {
  const bucket = await findBucket(context, place.bucket);
  await rehearseWrite(writer, mode, place);
  const limit = sizeLimitOf(context, bucket);
  const upload = await readUpload(request, limit);
  if (!mimeTypeAllowed(upload.contentType, bucket.allowed_mime_types)) {
    throw invalidMimeType(upload.contentType);
  }
  const file = await context.files.write(upload.stream, limit);
  const metadata = objectMetadata(file, upload);
  const row = { version: file.version, metadata, userMetadata: upload.userMetadata };
  return commitWrite(context, writer, mode, place, row);
}
