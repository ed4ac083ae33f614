import { type CatalogProduct, findCatalogProduct, productModels } from "../../_shared/sql/catalog.ts";
import {
  creationOf,
  type Look,
  nextLook,
  payload,
  type State,
  state,
  withoutBroken,
} from "../catalog/looks.ts";
import {
  completed,
  type Handler,
  isLastAttempt,
  type Job,
  type JobContext,
  JobError,
  LeaseLost,
  type Outcome,
} from "../job.ts";
import { type CreationProvider, providerRejected } from "../providers/provider.ts";
import {
  areMissing,
  beginRuns,
  faultOf,
  lookAtRuns,
  picturesOf,
  planRuns,
  type RunSet,
  waitForRuns,
} from "../runs.ts";
import type { Storage } from "../storage.ts";
import { type CreationDeps, providerOf } from "./creation.ts";
import { storePictures } from "./store-pictures.ts";

/** How long an address of a model's picture is good, and for how long this instance gives it out again. */
const urlSeconds = 6 * 3600;
const urlReuseMs = 3600_000;

/**
 * commerce.catalog_product: makes the pictures of one product, at the provider that its row names. One kind after the
 * other is asked of it; when all have come they are stored. The garment's picture is read by the provider from where
 * the shop has it. A job that dies by its provider's fault is followed by one at the next, which goes on with what is
 * made already.
 */
export function makeCatalogProduct(deps: CreationDeps): Handler {
  const urls = new ModelUrls(deps.storage);
  return async (job, context) => {
    const { item_id, made } = payload.parse(job.payload);
    const product = await findCatalogProduct(context.db, item_id);
    if (product?.status !== "processing" || product.job_id !== job.id) return completed({ gone: true });
    const saved = state.safeParse(job.checkpoint);
    let progress: State = saved.success ? saved.data : { made, past: [] };
    const provider = providerOf(deps, product.provider);
    let { look } = progress;
    if (look && !areMissing(look)) {
      const asked = look;
      const kept = (set: RunSet): State => ({ ...progress, look: { ...asked, ...set } });
      const save = (set: RunSet) => context.checkpoint({ checkpoint: kept(set) });
      const { set, isOver } = await lookAtRuns(asked, { provider, save }, job, context.signal);
      if (!isOver) return waitFor(kept(set));
      progress = await settle(progress, { ...asked, ...set }, job, context);
      // what came is known, and paid for, whatever becomes of the next kind
      const isMore = nextLook(product, progress) !== undefined;
      if (isMore && !(await context.checkpoint({ checkpoint: progress }))) throw new LeaseLost();
      look = null;
    }
    look ??= await planLook(product, progress, context);
    if (!look) return store(deps, product, progress, context);
    // Spending stops with the transaction that stops the catalog job: what it found at work, and broke since, is not
    // asked for again.
    const isSpending = progress.made.length > 0 || look.runs.length > 0;
    if (product.job_status !== "processing" && !isSpending) return completed({ given_back: true });
    return begin(deps, urls, { product, provider, progress, look, job }, context);
  };
}

/** The next kind, as its provider makes it; null when all are made. Error: unsupported_creation. */
async function planLook(product: CatalogProduct, progress: State, { db }: JobContext): Promise<Look | null> {
  const next = nextLook(product, progress);
  if (!next || product.provider === null) return null;
  const models = await productModels(db, product.id);
  const found = models.find(({ creation_type }) => creation_type === next.kind);
  if (!found) throw notMade(product.provider, next.kind);
  return {
    ...planRuns(product.provider, next.outputs, found.max_outputs),
    kind: next.kind,
    model: found.model,
  };
}

/** Switched off since it was chosen: another one may go on. */
function notMade(provider: string, kind: string): JobError {
  return new JobError("unsupported_creation", `${provider} does not make "${kind}" now.`, { retry: false });
}

/**
 * What came of a kind whose runs have all ended. Runs that broke are asked for again while attempts are left; what
 * came is enough then, and without anything the product fails here.
 */
async function settle(progress: State, look: Look, job: Job, context: JobContext): Promise<State> {
  const { reason, fault } = faultOf(look);
  const pictures = picturesOf(look);
  const broke = look.runs.some(({ result }) => result && !result.ok);
  if (fault === "provider" && (pictures.length === 0 || (broke && !isLastAttempt(job)))) {
    const kept = withoutBroken(look);
    const again: State = { ...progress, look: kept.look, past: [...progress.past, ...kept.broken] };
    if (!(await context.checkpoint({ checkpoint: again, progress: 10, stage: "again" })))
      throw new LeaseLost();
    throw new JobError("provider_failed", reason.slice(0, 300), { provider: "failed" });
  }
  if (pictures.length === 0) throw providerRejected(reason);
  const made = { kind: look.kind, urls: pictures.map(({ url }) => url) };
  return { made: [...progress.made, made], past: [...progress.past, ...look.runs] };
}

async function begin(
  { functionsUrl }: CreationDeps,
  urls: ModelUrls,
  {
    product,
    provider,
    progress,
    look,
    job,
  }: {
    product: CatalogProduct;
    provider: CreationProvider;
    progress: State;
    look: Look;
    job: Job;
  },
  context: JobContext,
): Promise<Outcome> {
  const { kind } = look;
  const personUrl =
    kind === "tryon" && product.model_bucket && product.model_path
      ? await urls.of(product.model_bucket, product.model_path, context.now())
      : product.image_url;
  const request = {
    creation: creationOf(product, kind, look.plan.length),
    ...(look.model !== undefined && { model: look.model }),
    personUrl,
    garmentUrl: kind === "tryon" ? product.image_url : null,
  };
  const kept = (set: RunSet): State => ({ ...progress, look: { ...look, ...set } });
  const begun = { progress: 20 + 30 * progress.made.length, stage: kind };
  const save = (set: RunSet) => context.checkpoint({ checkpoint: kept(set), ...begun });
  return waitFor(kept(await beginRuns(look, { provider, request, functionsUrl, save }, job, context)));
}

function waitFor(progress: State): Outcome {
  if (!progress.look) throw new Error("There is nothing to wait for.");
  return waitForRuns(progress.look, progress);
}

async function store(
  deps: CreationDeps,
  product: CatalogProduct,
  progress: State,
  context: JobContext,
): Promise<Outcome> {
  // From 80 on a cancellation lets it end, and its pictures are paid for.
  const stored = { checkpoint: progress, progress: 80, stage: "storing" };
  if (!(await context.checkpoint(stored))) throw new LeaseLost();
  const pictures = progress.made.flatMap(({ urls }) => urls.map((url) => ({ url })));
  const providers = Object.values(deps.providers);
  const below = providers.flatMap(({ filesUrls }) => filesUrls);
  const headers = (url: URL) =>
    Object.assign({}, ...providers.map((provider) => provider.fileHeaders?.(url)));
  const whole = creationOf(product, "tryon", product.pictures);
  const result_paths = await storePictures(deps, whole, { pictures, below, headers }, context);
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
