import { JobError } from "../job.ts";
import { extractHtml } from "./html.ts";
import { type Extract, extractMarkdown, extractPlain, tidy } from "./text.ts";

const unreadable = (message: string, cause?: unknown) =>
  new JobError("unreadable_document", message, { retry: false, cause });

/** What a file holds, by its type. Errors: JobError unsupported_document, unreadable_document. */
export async function extractDocument(
  bytes: Uint8Array<ArrayBuffer>,
  contentType: string,
  name: string,
): Promise<Extract> {
  const type = contentType.split(";")[0]?.trim().toLowerCase() ?? "";
  const extension = /\.([a-z]+)$/i.exec(name)?.[1]?.toLowerCase();
  if (type === "application/pdf" || startsWith(bytes, "%PDF-")) return extractPdf(bytes);
  const text = decode(bytes, contentType);
  if (type === "text/html" || type === "application/xhtml+xml")
    return extractHtml(text, "https://document.invalid/");
  if (type === "text/markdown" || extension === "md" || extension === "markdown")
    return extractMarkdown(text);
  if (type === "text/plain" || type === "") return extractPlain(text);
  throw new JobError("unsupported_document", `Files of the type ${type} cannot be read.`, { retry: false });
}

/** The text by the charset that the type, a byte order mark or the page itself names; UTF-8 else. */
export function decode(bytes: Uint8Array, contentType: string): string {
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 2048));
  const named =
    /charset=["']?([\w-]+)/i.exec(contentType)?.[1] ?? /<meta[^>]+charset=["']?([\w-]+)/i.exec(head)?.[1];
  try {
    return new TextDecoder(named ?? "utf-8").decode(bytes);
  } catch {
    // A name that nobody knows.
    return new TextDecoder().decode(bytes);
  }
}

/** The pages of a PDF in order. Its lines are broken for the page, so that a page is one paragraph or a few. */
async function extractPdf(bytes: Uint8Array<ArrayBuffer>): Promise<Extract> {
  // Loaded when it is needed: a worker that reads no PDF does not pay for it.
  const { getDocumentProxy, extractText, getMeta } = await import("unpdf");
  try {
    const document = await getDocumentProxy(bytes.slice());
    const { text: pages } = await extractText(document, { mergePages: false });
    const { info } = await getMeta(document);
    const title = typeof info?.Title === "string" ? tidy(info.Title) : "";
    const blocks = pages.flatMap((page) =>
      page
        .split(/\n\s*\n/)
        .map((paragraph) => ({ headings: [], text: tidy(paragraph.replace(/(\p{L})-\n(\p{Ll})/gu, "$1$2")) }))
        .filter(({ text }) => text !== ""),
    );
    return { title: title || null, blocks };
  } catch (error) {
    if (error instanceof Error && error.name === "PasswordException") {
      throw unreadable("The PDF is protected by a password.", error);
    }
    throw unreadable("The PDF cannot be read.", error);
  }
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return new TextDecoder("latin1").decode(bytes.subarray(0, text.length)) === text;
}
