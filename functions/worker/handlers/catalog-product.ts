import { z } from "zod";
import { type CatalogProduct, findCatalogProduct } from "../../_shared/sql/catalog.ts";
import { creationOf, type LookKind, nextLook, type State, state } from "../catalog/looks.ts";
import {
  completed,
  type Handler,
  type Job,
  type JobContext,
  JobError,
  LeaseLost,
  type Outcome,
  waiting,
} from "../job.ts";
import { providerRejected, type RunResult } from "../providers/provider.ts";
import type { Storage } from "../storage.ts";
import type { CreationDeps } from "./creation.ts";
import { storePictures } from "./store-pictures.ts";

const payload = z.object({ item_id: z.uuid() });

/** How long an address of a model's picture is good, and for how long this instance gives it out again. */
const urlSeconds = 6 * 3600;
const urlReuseMs = 3600_000;

/**
 * commerce.catalog_product: makes the pictures of one product. One kind after the other is asked of the provider; when
 * all have come they are stored, so that a product has all its pictures or none. The garment's picture is read by the
 * provider from where the shop has it.
 */
export function makeCatalogProduct(deps: CreationDeps): Handler {
  const urls = new ModelUrls(deps.storage);
  return async (job, context) => {
    const { item_id } = payload.parse(job.payload);
    const product = await findCatalogProduct(context.db, item_id);
    if (product?.status !== "processing" || product.job_id !== job.id) return completed({ gone: true });
    let progress = state.parse(job.checkpoint ?? {});
    if (progress.run) {
      const result = await resultOf(deps, job, progress.run, context);
      if (result === null)
        return waitFor({ ...progress, run: { ...progress.run, polls: progress.run.polls + 1 } });
      if (!result.ok) throw await refusal(result, progress, context);
      const made = { kind: progress.run.kind, urls: result.pictures.map(({ url }) => url) };
      progress = { made: [...progress.made, made], run: null };
    }
    const next = nextLook(product, progress);
    if (next) return submit(deps, urls, product, progress, next, context);
    return store(deps, product, progress, context);
  };
}

/** What cannot be made fails the product; a run that broke is forgotten, and another one is asked for. */
async function refusal(
  { reason, fault }: Extract<RunResult, { ok: false }>,
  { made }: State,
  context: JobContext,
): Promise<Error> {
  if (fault === "input") return providerRejected(reason);
  if (!(await context.checkpoint({ checkpoint: { made }, progress: 10, stage: "again" })))
    return new LeaseLost();
  return new JobError("provider_failed", reason.slice(0, 300), { provider: "failed" });
}

async function submit(
  deps: CreationDeps,
  urls: ModelUrls,
  product: CatalogProduct,
  { made }: State,
  { kind, outputs }: { kind: LookKind; outputs: number },
  context: JobContext,
): Promise<Outcome> {
  // Spending stops with the transaction that stops the catalog job; this job hears of its own end a moment later.
  if (product.job_status !== "processing" && made.length === 0) return waiting({ poll_in: 2 });
  const { provider, functionsUrl } = deps;
  const personUrl =
    kind === "tryon" && product.model_bucket && product.model_path
      ? await urls.of(product.model_bucket, product.model_path, context.now())
      : product.image_url;
  const request = {
    creation: creationOf(product, kind, outputs),
    personUrl,
    garmentUrl: kind === "tryon" ? product.image_url : null,
  };
  const run = await provider.submit(request, `${functionsUrl}/webhooks/${provider.name}`, context.signal);
  const progress: State = { made, run: { ...run, kind, polls: 0 } };
  if (!(await context.checkpoint({ checkpoint: progress, progress: 20 + 30 * made.length, stage: kind }))) {
    // Cancelled while it was submitted: nobody else knows of the run, so it is stopped here.
    await provider.cancel(run, AbortSignal.timeout(10_000)).catch((error: unknown) => {
      context.log.warn("a cancelled run could not be stopped", { request_id: run.request_id, error });
    });
    throw new LeaseLost();
  }
  return waitFor(progress);
}

/** The result from the webhook, or asked from the provider; null while there is none. */
async function resultOf(
  { providers }: CreationDeps,
  job: Job,
  run: NonNullable<State["run"]>,
  { signal }: JobContext,
): Promise<RunResult | null> {
  const provider = Object.hasOwn(providers, run.provider) ? providers[run.provider] : undefined;
  if (!provider) throw new JobError("unknown_provider", `There is no provider "${run.provider}".`);
  const told = job.callback === null ? null : provider.parseCallback(job.callback, run);
  if (told) return told;
  const now = await provider.status(run, signal);
  return now.state === "ended" ? provider.result(run, signal) : null;
}

function waitFor(progress: State): Outcome {
  const { run } = progress;
  if (!run) throw new Error("There is no run to wait for.");
  const poll_in = 20 * Math.min(run.polls + 1, 3);
  return waiting({ wait_key: `${run.provider}:${run.request_id}`, poll_in, checkpoint: progress });
}

async function store(
  deps: CreationDeps,
  product: CatalogProduct,
  { made }: State,
  context: JobContext,
): Promise<Outcome> {
  // From 80 on a cancellation lets it end, and its pictures are paid for.
  const stored = { checkpoint: { made }, progress: 80, stage: "storing" };
  if (!(await context.checkpoint(stored))) throw new LeaseLost();
  const pictures = made.flatMap(({ urls }) => urls.map((url) => ({ url })));
  const below = Object.values(deps.providers).flatMap(({ filesUrls }) => filesUrls);
  const whole = creationOf(product, "tryon", product.pictures);
  const result_paths = await storePictures(deps, whole, { pictures, below }, context);
  return completed({ result_paths });
}

/** Signed addresses of models' pictures: thousands of products share a few. */
class ModelUrls {
  #storage: Pick<Storage, "signedUrl">;
  #known = new Map<string, { url: Promise<string>; until: number }>();

  constructor(storage: Pick<Storage, "signedUrl">) {
    this.#storage = storage;
  }

  of(bucket: string, path: string, now: number): Promise<string> {
    const place = `${bucket}/${path}`;
    const known = this.#known.get(place);
    if (known && known.until > now) return known.url;
    const url = this.#storage.signedUrl(bucket, path, urlSeconds);
    this.#known.set(place, { url, until: now + urlReuseMs });
    url.catch(() => this.#known.delete(place));
    return url;
  }
}
