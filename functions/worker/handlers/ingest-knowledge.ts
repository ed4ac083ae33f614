import { z } from "zod";
import type { Database } from "../../_shared/db.ts";
import { namedError } from "../../_shared/errors.ts";
import type { SafeFetch } from "../../_shared/safe-fetch.ts";
import {
  type Finished,
  findIngestion,
  finishItem,
  type Ingestion,
  type Item,
  listProducts,
  nextItem,
  nextProducts,
  requestEmbedding,
  revisitKnown,
} from "../../_shared/sql/knowledge.ts";
import { completed, type Handler, type JobContext, JobError, type Outcome, waiting } from "../job.ts";
import { cutIntoChunks, sha256 } from "../knowledge/chunks.ts";
import { fetchPage, pageAddress, type Robots, readRobots } from "../knowledge/crawl.ts";
import { decode, extractDocument } from "../knowledge/documents.ts";
import { extractHtml } from "../knowledge/html.ts";
import { productExtract } from "../knowledge/products.ts";
import type { Extract } from "../knowledge/text.ts";
import type { Storage } from "../storage.ts";

const payload = z.object({ ingestion_id: z.uuid() });

export interface IngestDeps {
  safeFetch: SafeFetch;
  storage: Pick<Storage, "signedUrl">;
  fetch?: typeof fetch;
  /** Least pause between two pages of a site, in milliseconds; a second when not given. */
  pauseMs?: number | undefined;
}

/**
 * How long one attempt begins new pages, so that it ends well within the time that a handler has for certain; the job
 * then goes on with what is next.
 */
const longestMs = 12_000;
const documentBytes = 20 * 1024 * 1024;
const productPage = 50;

/** again_in: there is more, to be gone on with after so many seconds. */
type Reading = "done" | "ended" | { again_in: number };
type Step = (ingestion: Ingestion, context: JobContext, stopAt: number) => Promise<Reading>;

/**
 * ai.ingest: reads a source item by item, each written and ticked off in one transaction, then has what is new embedded
 * by jobs of its own and waits for them. A worker that dies loses the page it was at.
 */
export function ingestKnowledge(deps: IngestDeps, longest = longestMs): Handler {
  const steps: Record<Ingestion["job_type"], Step> = {
    website: (...step) => readSite(deps, ...step),
    document: (ingestion, context) => readFile(deps, ingestion, context),
    products: readProducts,
  };
  return async (job, context) => {
    const { ingestion_id } = payload.parse(job.payload);
    const ingestion = await findIngestion(context.db, ingestion_id);
    if (!ingestion) throw new JobError("unknown_ingestion", "The source is gone.", { retry: false });
    if (ingestion.status !== "pending" && ingestion.status !== "running") {
      return completed({ status: ingestion.status });
    }
    if (job.checkpoint.embedding) return embedded(context.db, ingestion.id, job.failed_children);
    if (!(await context.checkpoint({ progress: percentOf(ingestion), stage: "reading" }))) {
      return completed({ status: "ended" });
    }
    const state = await steps[ingestion.job_type](ingestion, context, context.now() + longest);
    if (state === "ended") return completed({ status: "ended" });
    if (typeof state === "object") return waiting({ poll_in: state.again_in });
    if (!(await context.checkpoint({ progress: 90, stage: "embedding" })))
      return completed({ status: "ended" });
    return embedRest(context.db, ingestion.id);
  };
}

/** One that stood for others with its text may have been deleted before its turn: they are embedded in its place. */
function embedded(db: Database, ingestionId: string, failed: number): Promise<Outcome> {
  if (failed === 0) return embedRest(db, ingestionId);
  throw new JobError("embedding_failed", `Of the texts, ${failed} batches could not be embedded.`, {
    retry: false,
  });
}

/** Without credits the texts are there and found by their words; nothing is gained by trying again. */
async function embedRest(db: Database, ingestionId: string): Promise<Outcome> {
  try {
    const batches = await requestEmbedding(db, ingestionId);
    return batches === 0 ? completed({ batches }) : waiting({ checkpoint: { embedding: true, batches } });
  } catch (error) {
    const named = namedError(error);
    if (named?.status !== 402 && named?.code !== "task_budget_exceeded") throw error;
    throw new JobError(named.code, named.message, { retry: false, cause: error });
  }
}

const percentOf = ({ items_processed, items_total }: Ingestion) =>
  Math.min(89, Math.floor((items_processed / Math.max(1, items_total)) * 89));

async function readSite(
  deps: IngestDeps,
  ingestion: Ingestion,
  context: JobContext,
  stopAt: number,
): Promise<Reading> {
  const { db, signal, now } = context;
  const site = ingestion.config.url;
  if (!site) throw new JobError("invalid_source", "The source has no address.", { retry: false });
  const web = { fetch: deps.safeFetch, signal };
  const robots = await readRobots(site, web, deps.pauseMs);
  for (let pages = 0; ; pages++) {
    const item = await nextItem(db, ingestion.id);
    if (!item) {
      if ((await revisitKnown(db, ingestion.id)) === 0) return "done";
      continue;
    }
    if (pages > 0) {
      if (now() + robots.pauseMs >= stopAt) return { again_in: Math.ceil(robots.pauseMs / 1000) };
      await pause(robots.pauseMs, signal);
    }
    const done = await readPage(item, ingestion, robots, web).catch((error: unknown) =>
      failedPage(error, item),
    );
    if (!(await finishItem(db, ingestion.id, item.location, done))) return "ended";
    refuseStart(item, done);
    const fresh = await findIngestion(db, ingestion.id);
    if (!fresh || !(await context.checkpoint({ progress: percentOf(fresh), stage: "reading" })))
      return "ended";
  }
}

/** A site whose first page cannot be read, and leads nowhere, is not read at all; its people are told why. */
function refuseStart({ depth }: Item, done: Finished): void {
  if (depth > 0) return;
  if (done.status === "gone") throw new JobError("gone", "There is no such page.", { retry: false });
  if (done.status !== "skipped" || (done.links ?? []).length > 0) return;
  const [code = "skipped", message = "The page cannot be read."] = done.error.split(/: (.*)/s);
  throw new JobError(code, message, { retry: false });
}

/** One page that fails is noted; the first one is the site itself, and decides. */
function failedPage(error: unknown, item: Item): Finished {
  if (!(error instanceof JobError) || item.depth === 0 || error.code === "host_busy") throw error;
  return { status: "failed", error: `${error.code}: ${error.message}` };
}

async function readPage(
  { location, depth, known_hash }: Item,
  { config }: Ingestion,
  robots: Robots,
  web: Parameters<typeof fetchPage>[2],
): Promise<Finished> {
  if (!robots.allows(location)) {
    return { status: "skipped", error: "disallowed: robots.txt forbids the page." };
  }
  const page = await fetchPage(location, robots, web);
  if (page.state === "gone") return { status: "gone" };
  if (page.state === "skipped") return { status: "skipped", error: page.reason };
  const html = /html/.test(page.contentType)
    ? extractHtml(decode(page.bytes, page.contentType), page.url)
    : null;
  const links =
    html && depth < (config.max_depth ?? 0)
      ? html.links
          .map((link) => pageAddress(link, page.url))
          .filter((link): link is string => link !== null && link !== location)
          .map((link) => ({ location: link, depth: depth + 1 }))
      : [];
  if (page.noindex || html?.noindex) {
    return { status: "skipped", error: "noindex: The page asks not to be kept.", links };
  }
  const canonical = html?.canonical && pageAddress(html.canonical, page.url);
  if (canonical && canonical !== location && canonical !== page.url) {
    const other = { location: canonical, depth };
    return {
      status: "skipped",
      error: "duplicate: The page has another address of its own.",
      links: [other, ...links],
    };
  }
  const extract = html ?? (await extractDocument(page.bytes, page.contentType, page.url));
  return { ...(await documentOf(extract, { url: page.url, version: null, known_hash })), links };
}

async function readFile(
  { storage, fetch: fetcher = fetch }: IngestDeps,
  ingestion: Ingestion,
  { db, signal }: JobContext,
): Promise<"done" | "ended"> {
  const item = await nextItem(db, ingestion.id);
  if (!item) return "done";
  const url = await storage.signedUrl("knowledge-documents", item.location, 600).catch((error: unknown) => {
    if (!(error instanceof JobError) || error.code !== "unknown_image") throw error;
    throw new JobError("unknown_file", "The file has been deleted.", { retry: false });
  });
  const response = await fetcher(url, { signal });
  if (!response.ok)
    throw new JobError("storage_unavailable", `The file cannot be read (${response.status}).`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length > documentBytes) {
    throw new JobError("file_too_large", "The file has more than 20 MiB.", { retry: false });
  }
  const type = response.headers.get("content-type") ?? "";
  const extract = await extractDocument(bytes, type, item.location);
  if (extract.blocks.length === 0) {
    throw new JobError("empty_document", "The file has no text that can be read.", { retry: false });
  }
  const title = extract.title ?? item.location.replace(/^.*\//, "");
  const done = await documentOf(
    { ...extract, title },
    { url: null, version: null, known_hash: item.known_hash },
  );
  return (await finishItem(db, ingestion.id, item.location, done)) ? "done" : "ended";
}

const readProducts: Step = async (ingestion, context, stopAt) => {
  const { db, now } = context;
  await listProducts(db, ingestion.id);
  while (now() < stopAt) {
    const products = await nextProducts(db, ingestion.id, productPage);
    if (products.length === 0) return "done";
    for (const product of products) {
      const { location, known_hash, version, url, tags } = product;
      const extract = productExtract(product);
      const done: Finished = extract
        ? await documentOf(extract, { url, version, known_hash }, tags ?? [])
        : { status: "gone" };
      if (!(await finishItem(db, ingestion.id, location, done))) return "ended";
    }
    const fresh = await findIngestion(db, ingestion.id);
    if (!fresh || !(await context.checkpoint({ progress: percentOf(fresh), stage: "reading" })))
      return "ended";
  }
  return { again_in: 0 };
};

type Kept = Exclude<Finished, { status: "gone" }>;

/** The document with its chunks, or that it is as it was. */
async function documentOf(
  extract: Extract,
  { url, version, known_hash }: { url: string | null; version: string | null; known_hash: string | null },
  tags: string[] = [],
): Promise<Kept> {
  const content_hash = await sha256(JSON.stringify([extract.title, extract.blocks, tags]));
  if (content_hash === known_hash) return { status: "unchanged", document: { version } };
  const chunks = await cutIntoChunks(extract, tags);
  if (chunks.length === 0) return { status: "skipped", error: "empty: There is no text that can be read." };
  return { status: "read", document: { title: extract.title, url, version, content_hash }, chunks };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
