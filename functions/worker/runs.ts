// What one provider is asked for one thing: a run, or several where a run gives fewer outputs than are wanted. All of it
// is plain data that a checkpoint keeps, so that an attempt after a crash goes on with the runs that there are. SQL
// reads it: private.run_made, private.run_units.

import { z } from "zod";
import {
  isLastAttempt,
  type Job,
  type JobContext,
  JobError,
  LeaseLost,
  type Outcome,
  waiting,
} from "./job.ts";
import {
  type CreationProvider,
  type CreationRequest,
  type RunFailure,
  type RunState,
  runResult,
  submission,
} from "./providers/provider.ts";

export const run = submission.extend({
  /** The type of creation that it makes. */
  kind: z.string(),
  /** How many were asked of it. */
  outputs: z.number().int().positive(),
  /** Once it has ended. */
  result: runResult.nullish(),
});
export type Run = z.infer<typeof run>;

export const runSet = z.object({
  provider: z.string(),
  /** Outputs of each run that there is to be, in their order. */
  plan: z.array(z.number().int().positive()),
  runs: z.array(run),
  /** How many have been begun, those included that are not among the runs any more. */
  begun: z.number().int().default(0),
  /** Why those that are missing are not begun any more. */
  stopped: z.object({ reason: z.string(), fault: z.enum(["input", "provider"]) }).nullish(),
  /** How often their states have been asked. */
  polls: z.number().int().default(0),
});
export type RunSet = z.infer<typeof runSet>;

/** As few runs as give so many outputs. */
export function planRuns(provider: string, outputs: number, most = outputs): RunSet {
  const plan = Array.from({ length: Math.ceil(outputs / most) }, (_, n) =>
    Math.min(most, outputs - n * most),
  );
  return { provider, plan, runs: [], begun: 0, polls: 0 };
}

/** Are there runs that have not been begun and shall be? */
export const areMissing = ({ plan, runs, stopped }: RunSet) => runs.length < plan.length && !stopped;
const openRuns = ({ runs }: RunSet) => runs.filter(({ result }) => !result);
/** Have all been begun, and all ended? */
const haveEnded = (set: RunSet) => !areMissing(set) && openRuns(set).length === 0;

export interface Asked {
  provider: CreationProvider;
  request: Omit<CreationRequest, "key">;
  functionsUrl: string;
  /** Keeps the runs; false: the worker no longer holds the job. */
  save(set: RunSet): Promise<boolean>;
}

/**
 * Begins the runs that are missing, each kept before the next one is asked for. What was begun is not lost to one that
 * is refused: the others are waited for, once no attempt is left that could ask again.
 * Errors: those of the provider's submit, LeaseLost.
 */
export async function beginRuns(
  planned: RunSet,
  asked: Asked,
  job: Job,
  context: JobContext,
): Promise<RunSet> {
  let set = planned;
  while (areMissing(set)) {
    const { provider, functionsUrl, request } = asked;
    const one = requestOf(request, set);
    const { num_outputs: outputs, creation_type: kind } = one.creation;
    try {
      const begun = await provider.submit(one, `${functionsUrl}/webhooks/${provider.name}`, context.signal);
      set = { ...set, runs: [...set.runs, { ...begun, kind, outputs }], begun: set.begun + 1 };
    } catch (error) {
      const stopped = set.runs.length > 0 && isLast(job, error) ? failureOf(error) : null;
      if (!stopped) throw error;
      context.log.warn("fewer runs than were planned", { begun: set.runs.length, error });
      set = { ...set, stopped };
    }
    if (await asked.save(set)) continue;
    const last = set.runs.at(-1);
    // Cancelled while it was submitted: nobody else knows of this run, so it is stopped here.
    if (last && !set.stopped) await stopRun(provider, last, context);
    throw new LeaseLost();
  }
  return set;
}

async function stopRun(provider: CreationProvider, run: Run, { log }: JobContext): Promise<void> {
  await provider.cancel(run, AbortSignal.timeout(10_000)).catch((error: unknown) => {
    log.warn("a cancelled run could not be stopped", { request_id: run.request_id, error });
  });
}

/** Of several runs each has a seed of its own: some models take the same one whenever none is given. */
function requestOf(request: Asked["request"], { plan, runs, begun }: RunSet): CreationRequest {
  const { creation } = request;
  const num_outputs = plan[runs.length] ?? creation.num_outputs;
  const given = { ...request, key: `${creation.id}:${begun}` };
  if (plan.length === 1 && begun === 0) return { ...given, creation: { ...creation, num_outputs } };
  const first = Number(creation.settings?.seed ?? Number.parseInt(creation.id.slice(0, 8), 16));
  const settings = { ...creation.settings, seed: (first + begun) % 2 ** 32 };
  return { ...given, creation: { ...creation, num_outputs, settings } };
}

function isLast(job: Job, error: unknown): boolean {
  if (!(error instanceof JobError) || error.provider === "busy") return false;
  return !error.retry || isLastAttempt(job);
}

function failureOf(error: unknown): RunFailure | null {
  if (!(error instanceof JobError)) return null;
  const fault = ["provider_rejected", "invalid_settings"].includes(error.code) ? "input" : "provider";
  return { ok: false, reason: error.message, fault };
}

export interface Looked {
  set: RunSet;
  /** How far they are together, 0 to 100; null while none is known to have left the provider's queue. */
  percent: number | null;
  /** All have ended, or there is nothing more to be had of them. */
  isOver: boolean;
}

/**
 * The runs, all of them begun, with what is known of them now: from the webhook that woke the job, else each open one is
 * asked. Of a provider that does not say what became of some, what came of the others is kept, and is enough once no
 * attempt is left that could ask again. Errors: provider_unavailable, LeaseLost.
 */
export async function lookAtRuns(
  set: RunSet,
  { provider, save }: Pick<Asked, "provider" | "save">,
  job: Job,
  signal: AbortSignal,
): Promise<Looked> {
  if (openRuns(set).length === 0) return { set, percent: 100, isOver: true };
  const told = tell(set, provider, job);
  if (told) return { set: told, percent: percentOf(told, []), isOver: haveEnded(told) };
  const looks = await Promise.allSettled(
    set.runs.map(async (one): Promise<Look> => (one.result ? { run: one } : lookAt(one, provider, signal))),
  );
  const runs = looks.map((look, n) => (look.status === "fulfilled" ? look.value.run : (set.runs[n] as Run)));
  const asked = { ...set, runs, polls: set.polls + 1 };
  const failed = looks.find((look) => look.status === "rejected");
  if (failed) {
    signal.throwIfAborted();
    const isEnough = isLast(job, failed.reason) && picturesOf(asked).length > 0;
    if (isEnough) return { set: asked, percent: 100, isOver: true };
    const learnt = openRuns(asked).length < openRuns(set).length;
    if (learnt && !(await save(asked))) throw new LeaseLost();
    throw failed.reason;
  }
  const states = looks.flatMap((look) =>
    look.status === "fulfilled" && look.value.state ? [look.value.state] : [],
  );
  return { set: asked, percent: percentOf(asked, states), isOver: haveEnded(asked) };
}

function tell(set: RunSet, provider: CreationProvider, { callback }: Job): RunSet | null {
  if (callback === null) return null;
  for (const [n, one] of set.runs.entries()) {
    const result = one.result ? null : provider.parseCallback(callback, one);
    if (result) return { ...set, runs: set.runs.with(n, { ...one, result }) };
  }
  return null;
}

interface Look {
  run: Run;
  /** While it has not ended. */
  state?: RunState;
}

async function lookAt(run: Run, provider: CreationProvider, signal: AbortSignal): Promise<Look> {
  try {
    const state = await provider.status(run, signal);
    return state.state === "ended"
      ? { run: { ...run, result: await provider.result(run, signal) } }
      : { run, state };
  } catch (error) {
    // one that its provider does not know any more has failed, and the others have not
    const result = error instanceof JobError && !error.retry ? failureOf(error) : null;
    if (!result) throw error;
    return { run: { ...run, result } };
  }
}

function percentOf({ runs }: RunSet, states: RunState[]): number | null {
  const ended = runs.filter(({ result }) => result).length;
  if (ended === 0 && states.every(({ state }) => state === "queued")) return null;
  const going = states.map((state) =>
    state.state === "running" ? (state.percent ?? 55) : state.state === "ended" ? 100 : 0,
  );
  return (100 * ended + going.reduce((sum, percent) => sum + percent, 0)) / runs.length;
}

/** Waits for the webhook of the first run that has not ended; those of the others are found when their turn comes. */
export function waitForRuns(set: RunSet, checkpoint: object): Outcome {
  const [next] = openRuns(set);
  if (!next) throw new Error("There is no run to wait for.");
  const poll_in = 20 * Math.min(set.polls + 1, 3);
  return waiting({ wait_key: `${next.provider}:${next.request_id}`, poll_in, checkpoint });
}

/** What has come of them, as far as it was asked for. */
export function picturesOf({ runs }: RunSet): { url: string }[] {
  return runs.flatMap(({ result, outputs }) => (result?.ok ? result.pictures.slice(0, outputs) : []));
}

/** Why nothing came of them: a fault of the input before one of the provider. */
export function faultOf({ runs, stopped }: RunSet): Omit<RunFailure, "ok"> {
  const failures = [
    ...runs.flatMap(({ result }) => (result && !result.ok ? [result] : [])),
    ...(stopped ? [stopped] : []),
  ];
  const first = failures.find(({ fault }) => fault === "input") ?? failures[0];
  return first ?? { reason: "The run gave no file.", fault: "provider" };
}
