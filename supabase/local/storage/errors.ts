// The storage API's errors. As on the platform the answer's status is 400 (or 500), and the status that says what
// is wrong is the body's statusCode, which storage-js shows as error.statusCode.

import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import pg from "pg";
import type { z } from "zod";

export class StorageError extends Error {
  statusCode: number;
  code: string;
  error: string;
  constructor(statusCode: number, code: string, message: string, error = code) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
    this.error = error;
  }
}

export const noSuchBucket = () =>
  new StorageError(404, "NoSuchBucket", "Bucket not found", "Bucket not found");
export const noSuchKey = () => new StorageError(404, "NoSuchKey", "Object not found", "not_found");
export const invalidKey = (key: string) => new StorageError(400, "InvalidKey", `Invalid key: ${key}`);
export const invalidBucketName = () =>
  new StorageError(400, "InvalidBucketName", "Bucket name invalid", "Invalid Input");
export const invalidRequest = (message: string) => new StorageError(400, "InvalidRequest", message);
export const notSupported = (what: string) =>
  new StorageError(400, "NotSupported", `${what} is not part of the local stack.`);
export const alreadyExists = () =>
  new StorageError(409, "KeyAlreadyExists", "The resource already exists", "Duplicate");
export const tooLarge = () =>
  new StorageError(
    413,
    "EntityTooLarge",
    "The object exceeded the maximum allowed size",
    "Payload too large",
  );
export const invalidMimeType = (type: string) =>
  new StorageError(415, "InvalidMimeType", `mime type ${type} is not supported`, "invalid_mime_type");
export const accessDenied = (message = "new row violates row-level security policy") =>
  new StorageError(403, "AccessDenied", message, "Unauthorized");
export const invalidToken = (message: string) => new StorageError(400, "InvalidJWT", message);
export const bucketNotEmpty = () =>
  new StorageError(409, "ResourceNotEmpty", "The bucket you tried to delete is not empty");

export function parse<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidRequest(
    parsed.error.issues.map((i) => `${i.path.join(".") || "body"}: ${i.message}`).join("; "),
  );
}

/** What the database refused, said as the storage API says it. */
export function fromDatabase(error: pg.DatabaseError): StorageError | undefined {
  switch (error.code) {
    case "42501":
      return accessDenied(error.message.startsWith("new row") ? undefined : error.message);
    case "23505":
      return alreadyExists();
    case "23503":
      return new StorageError(404, "InvalidRequest", "The related resource does not exist");
    case "57014":
      return new StorageError(544, "DatabaseTimeout", "The connection to the database timed out");
    default:
      return undefined;
  }
}

/** The answer for what went wrong, or nothing when it is no error of the storage API. */
export function answer(c: Context, thrown: Error): Response | undefined {
  const error = thrown instanceof pg.DatabaseError ? fromDatabase(thrown) : thrown;
  if (!(error instanceof StorageError)) return undefined;
  const status: ContentfulStatusCode = error.statusCode >= 500 ? 500 : 400;
  const { code, message } = error;
  return c.json({ statusCode: String(error.statusCode), error: error.error, message, code }, status);
}
