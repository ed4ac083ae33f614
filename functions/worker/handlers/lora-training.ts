import { z } from "zod";
import { findTraining, type Training } from "../../_shared/sql/loras.ts";
import { type ArchivedFile, zipOf } from "../archive.ts";
import { fetchBelow } from "../download.ts";
import type { Files } from "../files.ts";
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
import { providerRejected, providerUnavailable, submission } from "../providers/provider.ts";
import type { Trainer, TrainingResult, TrainingState } from "../providers/training.ts";
import type { FileRemover, Storage } from "../storage.ts";

export interface TrainingDeps {
  storage: Pick<Storage, "signedUrl"> & FileRemover;
  files: Files;
  trainer: Trainer;
  /** Public base of the functions, where providers send their webhooks. */
  functionsUrl: string;
  fetch?: typeof fetch;
}

const payload = z.object({ training_id: z.uuid() });
const bucket = "studio-loras";
const daySeconds = 86_400;
/** The webhook tells of the end; asking in between is for the progress, and for webhooks that are lost. */
const askEvery = 20;
const mostBytes = 512 * 1024 * 1024;

const folder = ({ workspace_id, id }: Training) => `${workspace_id}/${id}`;

/**
 * studio.lora_training: packs the pictures, has the weights trained without holding a worker, stores them. The run is
 * in the checkpoint, so that an attempt after a crash goes on with it.
 */
export function trainLora(deps: TrainingDeps): Handler {
  return async (job, context) => {
    const { training_id } = payload.parse(job.payload);
    const training = await findTraining(context.db, training_id);
    if (!training) return completed({ deleted: true });
    if (training.status === "completed") return completed({ lora_path: training.lora_path });
    if (training.status === "failed" || training.status === "cancelled") {
      const error = training.error_message ?? "cancelled: The training has ended.";
      return { outcome: "failed", retry: false, error };
    }
    const run = submission.safeParse(job.checkpoint);
    if (!run.success) return submit(deps, training, context);

    const state = await deps.trainer.status(run.data, context.signal);
    const result = await resultOf(deps.trainer, job, state, context.signal);
    if (!result) return goOn(state, job, context);
    if (!result.ok) throw providerRejected(result.reason);
    await saveProgress(context, 80, "fetching the weights");
    const path = `${folder(training)}/lora.safetensors`;
    const size = await copyWeights(deps, result.weightsUrl, path, context.signal);
    await deps.storage.remove(bucket, [`${folder(training)}/images.zip`]);
    const seconds = state.state === "ended" ? state.seconds : null;
    const images = training.images.length;
    return completed({
      lora_path: path,
      size,
      images,
      ...(seconds !== null && { training_seconds: seconds }),
    });
  };
}

/** The result from the webhook, or asked from the provider; null while there is none. */
async function resultOf(
  trainer: Trainer,
  job: Job,
  state: TrainingState,
  signal: AbortSignal,
): Promise<TrainingResult | null> {
  const run = submission.parse(job.checkpoint);
  const told = job.callback === null ? null : trainer.parseCallback(job.callback, run);
  if (told) return told;
  return state.state === "ended" ? trainer.result(run, signal) : null;
}

async function submit(deps: TrainingDeps, training: Training, context: JobContext): Promise<Outcome> {
  const { trainer, files, storage, functionsUrl } = deps;
  const named = { checkpoint: { provider: trainer.name }, progress: 5, stage: "packing the pictures" };
  if (!(await context.checkpoint(named))) throw new LeaseLost();
  const archive = `${folder(training)}/images.zip`;
  await files.write(bucket, archive, zipOf(pictures(deps, training, context.signal)), "application/zip");
  const imagesUrl = await storage.signedUrl(bucket, archive, daySeconds);
  const { trigger_word: triggerWord, steps } = training;
  const run = await trainer.submit(
    { imagesUrl, triggerWord, steps },
    `${functionsUrl}/webhooks/${trainer.name}`,
    context.signal,
  );
  if (!(await context.checkpoint({ checkpoint: run, progress: 15, stage: "queued at the provider" }))) {
    // Cancelled while it was submitted: nobody else knows of the run, so it is stopped here.
    await trainer.cancel(run, AbortSignal.timeout(10_000)).catch((error: unknown) => {
      context.log.warn("a cancelled run could not be stopped", { request_id: run.request_id, error });
    });
    throw new LeaseLost();
  }
  return waitFor(run);
}

const extensions: Record<string, string> = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };

/** The pictures one after the other, numbered; their bytes pass through. */
async function* pictures(
  { storage, fetch: fetcher = fetch }: TrainingDeps,
  training: Training,
  signal: AbortSignal,
): AsyncGenerator<ArchivedFile> {
  for (const [index, image] of training.images.entries()) {
    const response = await fetcher(await storage.signedUrl(image.bucket, image.path, 3600), { signal });
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw new JobError("storage_unavailable", "The pictures cannot be read at the moment.", {
        cause: response.status,
      });
    }
    const type = response.headers.get("content-type")?.split(";")[0]?.trim() ?? "";
    const extension = extensions[type] ?? image.path.split(".").at(-1);
    yield { name: `${String(index + 1).padStart(2, "0")}.${extension}`, body: response.body };
  }
}

/** Copies the weights into our storage as they come, because providers keep them for days only. Returns the bytes. */
async function copyWeights(
  { files, trainer, fetch: fetcher = fetch }: TrainingDeps,
  url: string,
  path: string,
  signal: AbortSignal,
): Promise<number> {
  let size = 0;
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      size += chunk.byteLength;
      if (size > mostBytes) controller.error(providerRejected("The weights have more than 512 MiB."));
      else controller.enqueue(chunk);
    },
  });
  const response = await fetchBelow(fetcher, url, trainer.filesUrls, signal, undefined);
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw providerUnavailable(`The weights could not be fetched (${response.status}).`);
  }
  await files.write(bucket, path, response.body.pipeThrough(count), "application/octet-stream");
  if (size === 0) throw providerUnavailable("The weights are empty.");
  return size;
}

async function goOn(state: TrainingState, job: Job, context: JobContext): Promise<Outcome> {
  if (state.state === "running") {
    // The provider's part is shown between 20 and 75.
    await saveProgress(context, 20 + Math.round((state.percent ?? 0) * 0.55), "training at the provider");
  } else {
    await saveProgress(context, 15, "queued at the provider");
  }
  return waitFor(submission.parse(job.checkpoint));
}

function waitFor(run: z.infer<typeof submission>): Outcome {
  return waiting({ wait_key: `${run.provider}:${run.request_id}`, poll_in: askEvery, checkpoint: run });
}

async function saveProgress(context: JobContext, progress: number, stage: string): Promise<void> {
  if (!(await context.checkpoint({ progress, stage }))) throw new LeaseLost();
}
