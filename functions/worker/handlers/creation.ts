import { z } from "zod";
import { type Creation, findCreation } from "../../_shared/sql/creations.ts";
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
  providerRejected,
  type RunResult,
  type RunState,
  type Submission,
  submission,
} from "../providers/provider.ts";
import type { Storage } from "../storage.ts";
import { storePictures } from "./store-pictures.ts";

export interface CreationDeps {
  storage: Storage;
  /** Who makes new creations; runs that began elsewhere go on where they are. */
  provider: CreationProvider;
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
 * studio.creation: submits a creation, waits for the provider without holding a worker, stores the pictures.
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
    if (!run.success) return submit(deps, creation, context);
    const provider = Object.hasOwn(deps.providers, run.data.provider)
      ? deps.providers[run.data.provider]
      : undefined;
    if (!provider) throw new JobError("unknown_provider", `There is no provider "${run.data.provider}".`);
    const result = await resultOf(provider, job, run.data, context.signal);
    if ("state" in result) return waitOn(result, run.data, context);
    if (!result.ok) throw providerRejected(result.reason);
    await saveProgress(context, 80, "fetching the result");
    const paths = await storePictures(
      deps,
      creation,
      { pictures: result.pictures, below: provider.filesUrls },
      context,
    );
    return completed({ result_paths: paths, provider_request_id: run.data.request_id });
  };
}

/** The job of a creation that has ended ends the same way, and nothing is done twice. */
function endedAlready(creation: Creation): Outcome | null {
  if (creation.status === "completed") return completed({ result_paths: creation.result_paths });
  if (creation.status !== "failed" && creation.status !== "cancelled") return null;
  const { error_code: code, error_message: message } = creation;
  return {
    outcome: "failed",
    retry: false,
    error: message ?? `${code ?? "cancelled"}: The creation has ended.`,
  };
}

async function submit(deps: CreationDeps, creation: Creation, context: JobContext): Promise<Outcome> {
  const { provider, functionsUrl } = deps;
  // whose work it is, for whoever looks at attempts that fail before there is a run
  const named = { checkpoint: { provider: provider.name }, progress: 5, stage: "preparing" };
  if (!(await context.checkpoint(named))) throw new LeaseLost();
  const request = { creation, ...(await pictureUrls(deps.storage, creation)) };
  const run = await provider.submit(request, `${functionsUrl}/webhooks/${provider.name}`, context.signal);
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

async function pictureUrls(
  storage: Storage,
  { model_storage_path: person, garment_path: garment }: Creation,
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
  if (state.state === "running") await saveProgress(context, 50, "in progress at the provider");
  else await saveProgress(context, 20, "queued at the provider");
  return waitFor({ ...run, polls: run.polls + 1 });
}

function waitFor(run: SavedRun): Outcome {
  const poll_in = 20 * Math.min(run.polls + 1, 3);
  return waiting({ wait_key: `${run.provider}:${run.request_id}`, poll_in, checkpoint: run });
}

async function saveProgress(context: JobContext, progress: number, stage: string): Promise<void> {
  if (!(await context.checkpoint({ progress, stage }))) throw new LeaseLost();
}
