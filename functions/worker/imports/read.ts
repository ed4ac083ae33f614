// Reads a file of comma-separated values as it comes, from any byte at which a record begins.

import { Readable } from "node:stream";
import { CsvError, parse } from "csv-parse";
import { JobError } from "../job.ts";

export interface CsvRecord {
  cells: string[];
  /** Where in the file the next record begins. */
  end: number;
}

export interface CsvFile {
  records: AsyncIterable<CsvRecord>;
  /** Bytes of the whole file. */
  size: number;
}

/** Records may be this long, in bytes; longer ones are a quote that was never closed. */
const longestRecord = 1024 * 1024;
const delimiters = [",", ";", "\t", "|"];

/** The separator that the line of names uses most; separators within quotes do not count. */
export function delimiterOf(firstLine: string): string {
  const bare = firstLine.replaceAll(/"(?:[^"]|"")*"/g, "");
  const counted = delimiters.map((delimiter) => ({ delimiter, count: bare.split(delimiter).length }));
  return counted.reduce((best, each) => (each.count > best.count ? each : best)).delimiter;
}

/** Errors: JobError unknown_file, storage_unavailable, invalid_file (while reading). */
export async function openCsv(
  url: string,
  from: { offset: number; delimiter: string },
  options: { fetch: typeof fetch; signal: AbortSignal },
): Promise<CsvFile> {
  const { offset, delimiter } = from;
  const headers = offset > 0 ? { range: `bytes=${offset}-` } : undefined;
  const response = await options
    .fetch(url, { signal: options.signal, ...(headers && { headers }) })
    .catch((error: unknown) => {
      options.signal.throwIfAborted();
      throw new JobError("storage_unavailable", "The file cannot be read at the moment.", { cause: error });
    });
  if (response.status === 416) return { records: none(), size: offset };
  if (response.status === 404 || response.status === 400) {
    throw new JobError("unknown_file", "The file has been deleted.", { retry: false });
  }
  if (!response.ok || !response.body || (offset > 0 && response.status !== 206)) {
    throw new JobError("storage_unavailable", "The file cannot be read at the moment.");
  }
  const rest = Number(response.headers.get("content-length") ?? 0);
  const parser = parse({
    delimiter,
    info: true,
    bom: offset === 0,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: longestRecord,
  });
  const source = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
  source.on("error", (error) => parser.destroy(error));
  source.pipe(parser);
  return { records: records(parser, offset, source), size: offset + rest };
}

async function* none(): AsyncIterable<CsvRecord> {}

async function* records(
  parser: ReturnType<typeof parse>,
  offset: number,
  source: Readable,
): AsyncIterable<CsvRecord> {
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[];
      info: { bytes: number };
    }>) {
      yield { cells: record, end: offset + info.bytes };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const line = "lines" in error && offset === 0 ? ` in line ${error.lines}` : "";
    throw new JobError("invalid_file", `The file is not a proper CSV file${line}: ${error.message}`, {
      retry: false,
    });
  } finally {
    source.destroy();
  }
}

/** The first line as text, for finding the delimiter; at most so many bytes are read. */
export async function firstLine(url: string, fetcher: typeof fetch, signal: AbortSignal): Promise<string> {
  const response = await fetcher(url, { signal, headers: { range: "bytes=0-65535" } });
  if (response.status === 416) return "";
  if (response.status === 404 || response.status === 400) {
    throw new JobError("unknown_file", "The file has been deleted.", { retry: false });
  }
  if (!response.ok) throw new JobError("storage_unavailable", "The file cannot be read at the moment.");
  const text = await response.text();
  return text.replace(/^\uFEFF/, "").split(/\r?\n|\r/, 1)[0] ?? "";
}
