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
  waiting,
} from "../job.ts";
import {
  type CreationProvider,
  providerFailed,
  providerRejected,
  type RunResult,
  type RunState,
  type Submission,
  submission,
} from "../providers/provider.ts";
import type { Storage } from "../storage.ts";
import { storePictures, storePoster } from "./store-pictures.ts";

export interface CreationDeps {
  storage: Storage;
  /** Who makes what no row of a creation gives to another. */
  provider: CreationProvider;
  /** By name; which of them makes a creation is in its row. */
  providers: Readonly<Record<string, CreationProvider>>;
  /** Public base of the functions, where providers send their webhooks. */
  functionsUrl: string;
  fetch?: typeof fetch;
}

const payload = z.object({ creation_id: z.uuid() });
/** The run, once it has been submitted, and how often its state has been asked. */
const savedRun = submission.extend({ polls: z.number().int().default(0) });
type SavedRun = z.infer<typeof savedRun>;

const urlSeconds = 3600;

/**
 * studio.creation: submits a creation, waits for the provider without holding a worker, stores what it made. One job
 * is one attempt at one provider: when it dies by the provider's fault, the database has the next provider go on.
 * The state of the run is in the checkpoint, so that an attempt after a crash goes on with it. A webhook brings
 * the result; without one the provider is asked after 20, 40 and then every 60 seconds.
 */
export function makeCreation(deps: CreationDeps): Handler {
  return async (job, context) => {
    const { creation_id } = payload.parse(job.payload);
    const creation = await findCreation(context.db, creation_id);
    if (!creation) return completed({ deleted: true });
    const ended = endedAlready(creation);
    if (ended) return ended;

    const run = savedRun.safeParse(job.checkpoint);
    const provider = providerOf(deps, run.success ? run.data.provider : creation.provider);
    if (!run.success) return submit(deps, provider, creation, context);
    const result = await resultOf(provider, job, run.data, context.signal);
    if ("state" in result) return waitOn(result, run.data, context);
    if (!result.ok) throw (result.fault === "input" ? providerRejected : providerFailed)(result.reason);
    await saveProgress(context, 80, "fetching the result");
    const { filesUrls: below, fileHeaders: headers } = provider;
    const types = creation.output_kind === "video" ? videoTypes : imageTypes;
    const from = { pictures: result.pictures, below, headers, types };
    const paths = await storePictures(deps, creation, from, context);
    return completed({
      result_paths: paths,
      ...(await storePoster(deps, creation, context)),
      provider_request_id: run.data.request_id,
    });
  };
}

function providerOf(deps: CreationDeps, name: string): CreationProvider {
  const provider = Object.hasOwn(deps.providers, name) ? deps.providers[name] : undefined;
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

async function submit(
  deps: CreationDeps,
  provider: CreationProvider,
  creation: PlannedCreation,
  context: JobContext,
): Promise<Outcome> {
  // whose work it is, for whoever looks at attempts that fail before there is a run
  const named = { checkpoint: { provider: provider.name }, progress: 5, stage: "preparing" };
  if (!(await context.checkpoint(named))) throw new LeaseLost();
  const request = {
    creation,
    model: creation.provider_model,
    ...(await pictureUrls(deps.storage, creation)),
    ...(await loraOf(deps.storage, creation, context)),
  };
  const webhookUrl = `${deps.functionsUrl}/webhooks/${provider.name}`;
  const run = await provider
    .submit(request, webhookUrl, context.signal)
    .catch((error: unknown) => giveWay(error, provider, creation, context));
  const checkpoint: SavedRun = { ...run, polls: 0 };
  if (!(await context.checkpoint({ checkpoint, progress: 20, stage: "queued at the provider" }))) {
    // Cancelled while it was submitted: nobody else knows of the run, so it is stopped here.
    await provider.cancel(run, AbortSignal.timeout(10_000)).catch((error: unknown) => {
      context.log.warn("a cancelled run could not be stopped", { request_id: run.request_id, error });
    });
    throw new LeaseLost();
  }
  return waitFor(checkpoint);
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

/** The result from the webhook, or asked from the provider; or the state while there is none. */
async function resultOf(
  provider: CreationProvider,
  job: Job,
  run: Submission,
  signal: AbortSignal,
): Promise<RunResult | Exclude<RunState, { state: "ended" }>> {
  const told = job.callback === null ? null : provider.parseCallback(job.callback, run);
  if (told) return told;
  const state = await provider.status(run, signal);
  return state.state === "ended" ? provider.result(run, signal) : state;
}

async function waitOn(state: RunState, run: SavedRun, context: JobContext): Promise<Outcome> {
  if (state.state !== "running") await saveProgress(context, 20, "queued at the provider");
  else await saveProgress(context, runningAt(state.percent), "in progress at the provider");
  return waitFor({ ...run, polls: run.polls + 1 });
}

/** A run that tells how far it is goes from 20 to 75; any other stands at 50. */
function runningAt(percent: number | undefined): number {
  return percent === undefined ? 50 : 20 + Math.round(percent * 0.55);
}

function waitFor(run: SavedRun): Outcome {
  const poll_in = 20 * Math.min(run.polls + 1, 3);
  return waiting({ wait_key: `${run.provider}:${run.request_id}`, poll_in, checkpoint: run });
}

async function saveProgress(context: JobContext, progress: number, stage: string): Promise<void> {
  if (!(await context.checkpoint({ progress, stage }))) throw new LeaseLost();
}
