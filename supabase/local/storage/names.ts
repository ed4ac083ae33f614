// Names of buckets and objects. They are only ever data: no name becomes part of a path on disk.

import { invalidBucketName, invalidKey } from "./errors.ts";

// What the hosted platform takes: the characters that are safe in an S3 key.
const keyCharacters = /^[\w/!\-.*'() &$@=;:+,?]+$/;
const bucketCharacters = /^[\w!\-.*'() &$@=;:+,?]+$/;

export function checkKey(key: string): string {
  const folders = key.split("/");
  const odd = folders.some((name) => name === "" || name === "." || name === "..");
  if (odd || Buffer.byteLength(key) > 1024 || !keyCharacters.test(key)) throw invalidKey(key);
  return key;
}

export function checkBucketName(name: string): string {
  const trimmed = name.trim() === name && name !== "." && name !== "..";
  if (!trimmed || name.length > 100 || !bucketCharacters.test(name)) throw invalidBucketName();
  return name;
}

/** The bucket and key that follow a prefix in the request's path, each part decoded once. */
export function locate(request: Request, prefix: string): { bucket: string; key: string } {
  const { pathname } = new URL(request.url);
  const rest = pathname.slice(pathname.indexOf(prefix) + prefix.length);
  let decoded: string;
  try {
    decoded = decodeURIComponent(rest);
  } catch {
    throw invalidKey(rest);
  }
  const slash = decoded.indexOf("/");
  if (slash <= 0) throw invalidKey(decoded);
  return { bucket: decoded.slice(0, slash), key: checkKey(decoded.slice(slash + 1)) };
}
