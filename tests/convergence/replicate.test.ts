import fc from "fast-check";
import { expect, test } from "vitest";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { replicateWebhooks } from "../../functions/webhooks/providers/replicate.ts";
import { signedHeaders } from "../../supabase/local/standins/replicate/start.ts";
import { functionsDatabase, keptLog } from "../functions/harness.ts";
import { createStudio, enableReplicate } from "../functions/studio.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { histories, secondsFor } from "../helpers/properties.ts";

// A creation's end depends on what Replicate made of it and on whether it was cancelled in time, and on nothing else: not
// on the order of webhooks, polls and crashes, not on repetitions, not on what is lost or told too early.

const price = 2298;
const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
await enableReplicate(testDb, { alone: true });
const secret = `whsec_${Buffer.alloc(24, 1).toString("base64")}`;
const otherSecret = `whsec_${Buffer.alloc(24, 2).toString("base64")}`;
const made = (id: string) => ({ id, status: "succeeded", output: "https://files.fal.test/out/1.png" });
const broke = (id: string) => ({ id, status: "failed", output: null, error: "CUDA out of memory" });

interface Run {
  outcome: "succeeded" | "failed";
  /** The webhook overtakes the answer of the submit. */
  early: boolean;
}
type Step =
  | { do: "webhook" | "finish" | "cancel"; run: number }
  | { do: "work" | "poll" | "crash" | "stray" | "forged" | "progress" };
interface Story {
  runs: Run[];
  steps: Step[];
}

/** Plays a story, lets the sweeps heal what was lost, and gives how everything ended. */
async function play({ runs, steps }: Story) {
  await testDb.query(`truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events cascade`);
  await testDb.setClock("2030-01-01T00:00:00Z");
  const ids = runs.map((_, n) => `run-${n}`);
  const studio = await createStudio(testDb, db, ids);
  const webhooks = await inbox();
  const finished = new Set<string>();
  const cancelled = new Set<number>();

  const endOf = (id: string) => (runs[Number(id.slice(4))]?.outcome === "failed" ? broke(id) : made(id));
  let sent = 0;
  const send = async (id: string, { forged = false, ended = true } = {}) => {
    // Before its end a prediction is told of only to whoever asked: it changes nothing.
    const body = JSON.stringify(ended ? endOf(id) : { id, status: "processing", output: null, logs: "50%" });
    const headers = signedHeaders(forged ? otherSecret : secret, `msg_${sent++}`, body);
    expect((await webhooks(body, headers)).status).toBe(forged ? 401 : 200);
  };
  const finish = (id: string) => finished.add(id);
  let submitted = 0;
  const runOf = new Map<string, string>();
  studio.replicate.create = async (body) => {
    const id = ids[submitted++]!;
    runOf.set(String((body.input as { seed: number }).seed), id);
    if (runs[Number(id.slice(4))]!.early) {
      finish(id);
      await send(id);
    }
    return Response.json({ id, status: "starting" }, { status: 201 });
  };
  studio.replicate.get = (id) =>
    Response.json(finished.has(id) ? endOf(id) : { id, status: "processing", logs: " 30%|", output: null });
  studio.replicate.cancel = (id) => Response.json(finished.has(id) ? endOf(id) : { id, status: "canceled" });

  const creations: string[] = [];
  for (const n of runs.keys()) creations.push(await studio.request({ settings: { seed: n } }));
  /** The run that fal began for a creation, if any: a worker takes the creations in any order. */
  const runFor = (n: number) => runOf.get(String(n));

  const acts = {
    work: () => studio.work(),
    poll: async () => {
      await testDb.advanceClock("61 seconds");
      await studio.work();
    },
    // A worker claims what is ready, dies, and its lease runs out.
    crash: async () => {
      await testDb.service.rpc("ops.claim_jobs", { worker: `dies-${crypto.randomUUID()}` });
      await testDb.advanceClock("61 seconds");
    },
    stray: () => send("run-of-nobody"),
    forged: () => send("run-0", { forged: true }),
    progress: () => send("run-0", { ended: false }),
    finish: async (n: number) => {
      const id = runFor(n);
      if (id) finish(id);
    },
    webhook: async (n: number) => {
      const id = runFor(n);
      if (!id) return;
      finish(id);
      await send(id);
    },
    cancel: async (n: number) => {
      const { status } = await studio.creation(creations[n]!);
      const ask = testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: creations[n] });
      const done = await ask.catch((error: Error) => {
        expect(error.message).toMatch(/^creation_ended: /);
        return null;
      });
      if (done) cancelled.add(n);
      else expect(["completed", "failed"]).toContain(status);
    },
  };
  for (const step of steps) await ("run" in step ? acts[step.do](step.run) : acts[step.do]());

  // Nothing more comes of itself: what is left is found by asking.
  await studio.work();
  for (const id of ids) finish(id);
  for (let n = 0; n < 6; n++) await acts.poll();
  await testDb.advanceClock("25 hours");
  await testDb.service.call("ops.close_unmatched_webhooks");

  const ends = await Promise.all(creations.map((id) => studio.creation(id)));
  const outcomes = ends.map((_, n) => runs[Number(runFor(n)?.slice(4) ?? n)]!.outcome);
  return { studio, ends, outcomes, cancelled, submitted };
}

async function inbox() {
  const { log } = keptLog();
  const app = createApp({ inbox: createInbox(db), providers: [replicateWebhooks([secret])], log });
  return (body: string, headers: Record<string, string>) =>
    Promise.resolve(app.request("/webhooks/replicate", { method: "POST", body, headers }));
}

async function expectConverged(story: Story): Promise<void> {
  const { studio, ends, outcomes, cancelled, submitted } = await play(story);
  const expected = outcomes.map((outcome, n) =>
    cancelled.has(n)
      ? { status: "cancelled", cost_micro: null, error_code: null, pictures: 0 }
      : outcome === "succeeded"
        ? { status: "completed", cost_micro: price, error_code: null, pictures: 1 }
        : { status: "failed", cost_micro: null, error_code: "provider_failed", pictures: 0 },
  );
  expect(
    ends.map(({ status, cost_micro, error_code, result_paths }) => {
      return { status, cost_micro, error_code, pictures: result_paths.length };
    }),
  ).toEqual(expected);
  const paid = expected.filter(({ status }) => status === "completed").length * price;
  const { workspaceId, user } = studio;
  const balance = await testDb.service.call("billing.balance", { workspace_id: workspaceId });
  expect(balance).toMatchObject({ available_micro: 100_000 - paid, held_micro: 0 });
  // A run is begun once for a creation, however often its worker dies.
  expect(submitted).toBeLessThanOrEqual(story.runs.length);
  const told = await testDb.query("select title from messaging.notifications where user_id = $1", [user.id]);
  expect(told).toHaveLength(story.runs.length - cancelled.size);
  // What ran was paid for once, whatever became of it.
  const [costs] = await testDb.query(
    "select count(*)::int as n from billing.provider_costs where workspace_id = $1",
    [workspaceId],
  );
  const [ran] = await testDb.query(
    "select count(*)::int as n from studio.creation_attempts where workspace_id = $1 and provider_request_id is not null",
    [workspaceId],
  );
  expect(costs).toEqual(ran);
  expect(await testDb.query("select from ops.webhook_events where status = 'pending'")).toEqual([]);
  expect(await testDb.query("select from ops.jobs where finished_at is null")).toEqual([]);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}

const run = fc.record<Run>({
  outcome: fc.constantFrom("succeeded" as const, "succeeded" as const, "failed" as const),
  early: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});
/** What may come between: of each run its webhook up to three times, one in ten lost; crashes never use up a job. */
const story = fc.array(run, { minLength: 1, maxLength: 3 }).chain((runs) => {
  const each = fc.tuple(
    ...runs.map((_, n) =>
      fc
        .record({
          webhooks: fc
            .tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 3 }))
            .map(([lost, times]) => (lost === 0 ? 0 : times)),
          finish: fc.boolean(),
          cancel: fc.integer({ min: 0, max: 4 }).map((x) => x === 0),
        })
        .map(({ webhooks, finish, cancel }): Step[] => [
          ...Array.from({ length: webhooks }, (): Step => ({ do: "webhook", run: n })),
          ...(finish ? [{ do: "finish", run: n } as const] : []),
          ...(cancel ? [{ do: "cancel", run: n } as const] : []),
        ]),
    ),
  );
  const others = fc.tuple(
    fc.array(fc.constantFrom<Step>({ do: "work" }, { do: "poll" }), { minLength: 1, maxLength: 4 }),
    fc.array(fc.constant<Step>({ do: "crash" }), { maxLength: 2 }),
    fc.array(fc.constantFrom<Step>({ do: "stray" }, { do: "forged" }, { do: "progress" }), { maxLength: 2 }),
  );
  return fc.tuple(each, others).chain(([own, more]) => {
    const all = [...own.flat(), ...more.flat()];
    return fc
      .shuffledSubarray(all, { minLength: all.length, maxLength: all.length })
      .map((steps): Story => ({ runs, steps: [{ do: "work" }, ...steps] }));
  });
});

test("every order of webhooks, polls, crashes and cancels ends the same, with repetitions and losses", {
  timeout: secondsFor(180),
}, async () => {
  await fc.assert(fc.asyncProperty(story, expectConverged), histories(25, { seconds: 60 }));
});

// All orders of what may happen to one run.
const events: Step[] = [
  { do: "webhook", run: 0 },
  { do: "webhook", run: 0 },
  { do: "poll" },
  { do: "crash" },
];
const orders = permutations(events);
test.each([
  ["that succeeds", "succeeded"],
  ["that fails", "failed"],
] as const)(
  "all orders of two webhooks, a poll and a crash end the same for a run %s",
  async (_, outcome) => {
    for (const steps of orders) {
      await expectConverged({ runs: [{ outcome, early: false }], steps: [{ do: "work" }, ...steps] });
    }
  },
  180_000,
);

function permutations(steps: readonly Step[]): Step[][] {
  if (steps.length === 0) return [[]];
  const all = steps.flatMap((step, n) =>
    permutations([...steps.slice(0, n), ...steps.slice(n + 1)]).map((rest) => [step, ...rest]),
  );
  return [...new Map(all.map((order) => [JSON.stringify(order), order])).values()];
}
