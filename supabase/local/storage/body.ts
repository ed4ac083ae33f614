// What storage-js sends as an upload: the bytes themselves, or a form whose file field has an empty name.

import { z } from "zod";
import { invalidRequest, tooLarge } from "./errors.ts";

export type Upload = {
  stream: ReadableStream<Uint8Array>;
  contentType: string;
  cacheControl: string;
  userMetadata: Record<string, unknown> | null;
};

const metadataSchema = z.record(z.string(), z.unknown());
// A form's fields and boundaries come on top of its file.
const formOverhead = 64 * 1024;

function readMetadata(text: string): Record<string, unknown> {
  try {
    return metadataSchema.parse(JSON.parse(text));
  } catch {
    throw invalidRequest("metadata must be a JSON object.");
  }
}

function cacheControl(value: string | null): string {
  if (!value) return "no-cache";
  return /^\d+$/.test(value) ? `max-age=${value}` : value;
}

/** The stream fails once too much has come. */
function capped(body: ReadableStream<Uint8Array>, limit: number) {
  let size = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      size += chunk.byteLength;
      if (size > limit) controller.error(tooLarge());
      else controller.enqueue(chunk);
    },
  });
  return { stream: body.pipeThrough(counter), exceeded: () => size > limit };
}

async function readForm(request: Request, body: ReadableStream<Uint8Array>, limit: number): Promise<Upload> {
  const headers = { "content-type": request.headers.get("content-type") ?? "" };
  const counted = capped(body, limit + formOverhead);
  const form = await new Response(counted.stream, { headers }).formData().catch(() => {
    // The form's reader hides the reason behind an error of its own.
    throw counted.exceeded() ? tooLarge() : invalidRequest("The form cannot be read.");
  });
  const file = [...form.values()].find((value) => typeof value !== "string");
  if (!file) throw invalidRequest("The form has no file.");
  const metadata = form.get("metadata");
  const cache = form.get("cacheControl");
  return {
    stream: file.stream() as ReadableStream<Uint8Array>,
    contentType: file.type || "application/octet-stream",
    cacheControl: cacheControl(typeof cache === "string" ? cache : null),
    userMetadata: typeof metadata === "string" ? readMetadata(metadata) : null,
  };
}

const noBytes = () => new Blob([]).stream() as ReadableStream<Uint8Array>;

export async function readUpload(request: Request, limit: number): Promise<Upload> {
  const type = request.headers.get("content-type") ?? "";
  const isForm = type.startsWith("multipart/form-data");
  // Said before a byte is read, when the caller tells how much there will be.
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > limit + (isForm ? formOverhead : 0)) throw tooLarge();
  const body = (request.body as ReadableStream<Uint8Array> | null) ?? noBytes();
  if (isForm) return readForm(request, body, limit);
  const metadata = request.headers.get("x-metadata");
  return {
    stream: body,
    contentType: type || "application/octet-stream",
    cacheControl: cacheControl(request.headers.get("cache-control")),
    userMetadata: metadata ? readMetadata(Buffer.from(metadata, "base64").toString("utf8")) : null,
  };
}

export function mimeTypeAllowed(contentType: string, allowed: string[] | null): boolean {
  if (!allowed || allowed.length === 0) return true;
  const type = contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  return allowed.some((pattern) => {
    const wanted = pattern.trim().toLowerCase();
    return (
      wanted === "*/*" || wanted === type || (wanted.endsWith("/*") && type.startsWith(wanted.slice(0, -1)))
    );
  });
}
