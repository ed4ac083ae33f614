import { z } from "zod";
import {
  closeProvider,
  findCreation,
  hasFallback,
  type PlannedCreation,
} from "../../_shared/sql/creations.ts";
import { findLora } from "../../_shared/sql/loras.ts";
import { imageTypes, videoTypes } from "../download.ts";
import {
  completed,
  type Handler,
  type Job,
  type JobContext,
  JobError,
  LeaseLost,
  type Outcome,
} from "../job.ts";
import { type CreationProvider, providerFailed, providerRejected } from "../providers/provider.ts";
import {
  areMissing,
  beginRuns,
  faultOf,
  lookAtRuns,
  picturesOf,
  planRuns,
  type RunSet,
  runSet,
  waitForRuns,
} from "../runs.ts";
import type { Storage } from "../storage.ts";
import { storePictures, storePoster } from "./store-pictures.ts";

export interface CreationDeps {
  storage: Storage;
  /** By name; which of them makes a creation, or a product's pictures, is in its row. */
  providers: Readonly<Record<string, CreationProvider>>;
  /** Public base of the functions, where providers send their webhooks. */
  functionsUrl: string;
  fetch?: typeof fetch;
}

const payload = z.object({ creation_id: z.uuid() });
const urlSeconds = 3600;

/**
 * studio.creation: submits a creation, waits for the provider without holding a worker, stores what it made. One job
 * is one attempt at one provider: when it dies by the provider's fault, the database has the next provider go on.
 * The runs are in the checkpoint, so that an attempt after a crash goes on with them. A webhook brings the result of
 * each; without one the provider is asked after 20, 40 and then every 60 seconds.
 */
export function makeCreation(deps: CreationDeps): Handler {
  return async (job, context) => {
    const { creation_id } = payload.parse(job.payload);
    const creation = await findCreation(context.db, creation_id);
    if (!creation) return completed({ deleted: true });
    const ended = endedAlready(creation);
    if (ended) return ended;

    const saved = runSet.safeParse(job.checkpoint);
    const provider = providerOf(deps, saved.success ? saved.data.provider : creation.provider);
    const planned = saved.success
      ? saved.data
      : planRuns(provider.name, creation.num_outputs, creation.max_outputs ?? undefined);
    if (areMissing(planned)) {
      if (planned.runs.length === 0 && !creation.provider_enabled) throw switchedOff(provider.name);
      return waitFor(await begin(deps, planned, { provider, creation, job }, context));
    }
    const save = (checkpoint: RunSet) => context.checkpoint({ checkpoint });
    const { set, percent, isOver } = await lookAtRuns(planned, { provider, save }, job, context.signal);
    if (!isOver) return waitOn(set, percent, context);
    const pictures = picturesOf(set);
    await saveProgress(context, set, pictures.length > 0 ? 80 : 75, "fetching the result");
    if (pictures.length === 0) throw failed(set);
    const { filesUrls: below, fileHeaders: headers } = provider;
    const types = creation.output_kind === "video" ? videoTypes : imageTypes;
    const paths = await storePictures(deps, creation, { pictures, below, headers, types }, context);
    return completed({
      result_paths: paths,
      ...(await storePoster(deps, creation, context)),
      provider_request_id: set.runs[0]?.request_id,
    });
  };
}

/** Since it was chosen: another one may go on. What it runs already is waited for. */
function switchedOff(name: string): JobError {
  return new JobError("unsupported_creation", `${name} makes nothing now.`, { retry: false });
}

function failed(set: RunSet): JobError {
  const { reason, fault } = faultOf(set);
  return (fault === "input" ? providerRejected : providerFailed)(reason);
}

/** The provider of a row. Errors: unknown_provider. */
export function providerOf({ providers }: CreationDeps, name: string | null): CreationProvider {
  const provider = name !== null && Object.hasOwn(providers, name) ? providers[name] : undefined;
  if (provider) return provider;
  throw new JobError("unknown_provider", `There is no provider "${name}".`, { retry: false });
}

/** The job of a creation that has ended ends the same way, and nothing is done twice. */
function endedAlready(creation: PlannedCreation): Outcome | null {
  if (creation.status === "completed") return completed({ result_paths: creation.result_paths });
  if (creation.status !== "failed" && creation.status !== "cancelled") return null;
  const { error_code: code, error_message: message } = creation;
  return {
    outcome: "failed",
    retry: false,
    error: message ?? `${code ?? "cancelled"}: The creation has ended.`,
  };
}

async function begin(
  deps: CreationDeps,
  planned: RunSet,
  { provider, creation, job }: { provider: CreationProvider; creation: PlannedCreation; job: Job },
  context: JobContext,
): Promise<RunSet> {
  // whose work it is, for whoever looks at attempts that fail before there is a run
  if (planned.runs.length === 0) await saveProgress(context, planned, 5, "preparing");
  const request = {
    creation,
    model: creation.provider_model,
    ...(await pictureUrls(deps.storage, creation)),
    ...(await loraOf(deps.storage, creation, context)),
  };
  let begun = planned.runs.length;
  const save = (checkpoint: RunSet) => {
    begun = checkpoint.runs.length;
    return context.checkpoint({ checkpoint, progress: 20, stage: "queued at the provider" });
  };
  const { functionsUrl } = deps;
  return beginRuns(planned, { provider, request, functionsUrl, save }, job, context).catch(
    (error: unknown) => {
      // runs that have begun are not given up for those that have not
      if (begun > 0) throw error;
      return giveWay(error, provider, creation, context);
    },
  );
}

/** A provider that takes no submissions now is not waited for while another one can go on at once. */
async function giveWay(
  error: unknown,
  { name }: CreationProvider,
  { id }: PlannedCreation,
  { db }: JobContext,
): Promise<never> {
  if (!(error instanceof JobError) || !error.retry || !(await hasFallback(db, id))) throw error;
  const { code, message, provider, retryIn, cause } = error;
  if (provider === "busy") await closeProvider(db, name, retryIn ?? 30, `${code}: ${message}`);
  throw new JobError(code, message, {
    retry: false,
    cause,
    ...(provider === "failed" && { provider }),
  });
}

/** A persona's picture is made with what was learnt of it, and not without. */
async function loraOf(storage: Storage, { id, creation_type }: PlannedCreation, { db }: JobContext) {
  if (creation_type !== "persona_image") return {};
  const lora = await findLora(db, id);
  if (!lora) throw new JobError("persona_not_trained", "The persona's training is gone.", { retry: false });
  return { lora: { url: await storage.signedUrl("studio-loras", lora.path, urlSeconds), scale: lora.scale } };
}

async function pictureUrls(
  storage: Storage,
  { model_storage_path: person, garment_path: garment }: PlannedCreation,
) {
  const sign = (path: string | null) => (path ? storage.signedUrl("studio-uploads", path, urlSeconds) : null);
  const [personUrl, garmentUrl] = await Promise.all([sign(person), sign(garment)]);
  return { personUrl, garmentUrl };
}

async function waitOn(set: RunSet, percent: number | null, context: JobContext): Promise<Outcome> {
  // a run that tells how far it is goes from 20 to 75; any other stands at 50
  if (percent === null) await saveProgress(context, set, 20, "queued at the provider");
  else await saveProgress(context, set, 20 + Math.round(percent * 0.55), stageOf(set));
  return waitFor(set);
}

function stageOf({ runs }: RunSet): string {
  const ended = runs.filter(({ result }) => result).length;
  return ended === 0 ? "in progress at the provider" : `${ended} of ${runs.length} came from the provider`;
}

const waitFor = (set: RunSet): Outcome => waitForRuns(set, set);

async function saveProgress(
  context: JobContext,
  checkpoint: RunSet,
  progress: number,
  stage: string,
): Promise<void> {
  if (!(await context.checkpoint({ checkpoint, progress, stage }))) throw new LeaseLost();
}
