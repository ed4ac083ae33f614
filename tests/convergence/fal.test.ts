import fc from "fast-check";
import { expect, test } from "vitest";
import { createApp } from "../../functions/webhooks/app.ts";
import { createInbox } from "../../functions/webhooks/inbox.ts";
import { falWebhooks } from "../../functions/webhooks/providers/fal.ts";
import { createKeySet } from "../../functions/webhooks/providers/jwks.ts";
import { fakeFetch, falSigner, functionsDatabase, keptLog } from "../functions/harness.ts";
import { createStudio, madePictures } from "../functions/studio.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { histories, secondsFor } from "../helpers/properties.ts";

// A creation's end depends on what fal made of it and on whether it was cancelled in time, and on nothing else: not on
// the order of webhooks, polls and crashes, not on repetitions, not on what is lost.

const price = 2298;
const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const signer = falSigner();

interface Run {
  outcome: "OK" | "ERROR";
  /** The webhook overtakes the answer of the submit. */
  early: boolean;
}
type Step =
  | { do: "webhook" | "finish" | "cancel"; run: number }
  | { do: "work" | "poll" | "crash" | "stray" | "forged" };
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

  const send = async (id: string, forged = false) => {
    const { outcome } = runs[Number(id.slice(4))] ?? { outcome: "OK" };
    const payload = outcome === "OK" ? madePictures() : { detail: "Content policy" };
    const body = JSON.stringify({ request_id: id, gateway_request_id: "g", status: outcome, payload });
    const answer = await webhooks(body, (forged ? falSigner("forged") : signer).headers(body));
    expect(answer.status).toBe(forged ? 401 : 200);
  };
  const finish = (id: string) => finished.add(id);
  let submitted = 0;
  const runOf = new Map<string, string>();
  studio.fal.submit = async (input) => {
    const id = ids[submitted++]!;
    runOf.set(String(input.seed), id);
    if (runs[Number(id.slice(4))]!.early) {
      finish(id);
      await send(id);
    }
    return Response.json({ request_id: id });
  };
  studio.fal.status = (id) =>
    finished.has(id)
      ? Response.json({ status: "COMPLETED" })
      : Response.json({ status: "IN_PROGRESS", logs: [] }, { status: 202 });
  studio.fal.result = (id) =>
    runs[Number(id.slice(4))]!.outcome === "OK"
      ? Response.json(madePictures())
      : Response.json({ detail: "Content policy" }, { status: 422 });
  studio.fal.cancel = (id) => {
    const status = finished.has(id) ? "ALREADY_COMPLETED" : "CANCELLATION_REQUESTED";
    return Response.json({ status }, { status: 202 });
  };

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
    forged: () => send("run-0", true),
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
  const { fetch } = fakeFetch({ "GET /jwks": () => Response.json(signer.jwks) });
  const { log } = keptLog();
  const keys = createKeySet({ url: "https://fal.test/jwks", fetch });
  const app = createApp({ inbox: createInbox(db), providers: [falWebhooks(keys)], log });
  return (body: string, headers: Record<string, string>) =>
    Promise.resolve(app.request("/webhooks/fal", { method: "POST", body, headers }));
}

async function expectConverged(story: Story): Promise<void> {
  const { studio, ends, outcomes, cancelled, submitted } = await play(story);
  const expected = outcomes.map((outcome, n) =>
    cancelled.has(n)
      ? { status: "cancelled", cost_micro: null, error_code: null, pictures: 0 }
      : outcome === "OK"
        ? { status: "completed", cost_micro: price, error_code: null, pictures: 1 }
        : { status: "failed", cost_micro: null, error_code: "provider_rejected", pictures: 0 },
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
  expect(await testDb.query("select from ops.webhook_events where status = 'pending'")).toEqual([]);
  expect(await testDb.query("select from ops.jobs where finished_at is null")).toEqual([]);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}

const run = fc.record<Run>({
  outcome: fc.constantFrom("OK" as const, "OK" as const, "ERROR" as const),
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
    fc.array(fc.constantFrom<Step>({ do: "stray" }, { do: "forged" }), { maxLength: 1 }),
  );
  return fc.tuple(each, others).chain(([own, more]) => {
    const all = [...own.flat(), ...more.flat()];
    return fc
      .shuffledSubarray(all, { minLength: all.length, maxLength: all.length })
      .map((steps): Story => ({ runs, steps: [{ do: "work" }, ...steps] }));
  });
});

test("every order of webhooks, polls, crashes and cancels ends the same, with repetitions and losses", {
  timeout: secondsFor(120),
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
  ["that succeeds", "OK"],
  ["that fails", "ERROR"],
] as const)(
  "all orders of two webhooks, a poll and a crash end the same for a run %s",
  async (_, outcome) => {
    for (const steps of orders) {
      await expectConverged({ runs: [{ outcome, early: false }], steps: [{ do: "work" }, ...steps] });
    }
  },
  60_000,
);

function permutations(steps: readonly Step[]): Step[][] {
  if (steps.length === 0) return [[]];
  const all = steps.flatMap((step, n) =>
    permutations([...steps.slice(0, n), ...steps.slice(n + 1)]).map((rest) => [step, ...rest]),
  );
  return [...new Map(all.map((order) => [JSON.stringify(order), order])).values()];
}
