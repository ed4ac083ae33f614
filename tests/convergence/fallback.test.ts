import fc from "fast-check";
import { expect, test } from "vitest";
import { functionsDatabase } from "../functions/harness.ts";
import { createStudio, enableReplicate } from "../functions/studio.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { queueTables } from "../helpers/jobs.ts";
import { histories, secondsFor } from "../helpers/properties.ts";

// Two providers that fail in every way, in any order of what may happen: what somebody can make is made, a creation is
// charged once or not at all, for the pictures that came, and each run that a provider took is paid for once. fal makes
// all pictures of a creation in one run, Replicate one a run.

const price = 2298;
const credits = 100_000;
const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
await enableReplicate(testDb);

/** What a provider does with a creation: at the submission, or in the run that it took. */
const manners = ["makes", "halves", "refuses", "breaks", "isDown", "isBusy", "rejects", "sleeps"] as const;
type Manner = (typeof manners)[number];
type Provider = "fal" | "replicate";
interface Wish {
  outputs: number;
  fal: Manner;
  replicate: Manner;
}
type Step =
  | { do: "cancel" | "tell"; wish: number; provider: Provider }
  | { do: "work" | "poll" | "crash" | "sweep" };
interface Story {
  wishes: Wish[];
  steps: Step[];
}

const rejected = { detail: [{ loc: ["body", "seed"], msg: "no" }] };
const output = "https://files.fal.test/out/1.png";
/** Who halves makes every other picture. */
const made = ({ outputs }: Wish, manner: Manner) => (manner === "halves" ? Math.ceil(outputs / 2) : outputs);
const creates = (manner: Manner) => manner === "makes" || manner === "halves";
/** The seeds of a creation's runs, and the runs' names by them. */
const seedOf = (wish: number, run = 0) => wish * 10 + run;
const runsOf = ({ outputs }: Wish, wish: number) =>
  Array.from({ length: outputs }, (_, run) => `run-${seedOf(wish, run)}`);

async function play({ wishes, steps }: Story) {
  await testDb.query(
    `truncate ${queueTables}, ops.job_keys, ops.workers, ops.webhook_events, ops.circuit_breakers, ops.limit_keys cascade`,
  );
  await testDb.setClock("2030-01-01T00:00:00Z");
  const ids = wishes.flatMap(runsOf);
  const studio = await createStudio(testDb, db, ids);
  const wishOf = (id: string) => wishes[Math.floor(Number(id.slice(4)) / 10)]!;
  const images = (id: string) => ({
    images: Array.from({ length: made(wishOf(id), wishOf(id).fal) }, () => ({ url: output })),
  });
  const started = { fal: new Map<string, number>(), replicate: new Map<string, number>() };
  const submit = (provider: Provider, seed: unknown, accept: (id: string) => Response) => {
    const id = `run-${seed}`;
    const manner = wishOf(id)[provider];
    if (manner === "isDown") return new Response("{}", { status: 503 });
    if (manner === "isBusy") return new Response("{}", { status: 429, headers: { "retry-after": "20" } });
    if (manner === "rejects") return Response.json(rejected, { status: 422 });
    started[provider].set(id, (started[provider].get(id) ?? 0) + 1);
    return accept(id);
  };
  const predictionOf = (id: string) => {
    const manner = wishOf(id).replicate;
    const isOdd = Number(id.slice(4)) % 2 === 1;
    if (manner === "makes" || (manner === "halves" && !isOdd)) return { id, status: "succeeded", output };
    const error = manner === "refuses" ? "NSFW content detected" : "CUDA out of memory";
    return { id, status: "failed", output: null, error };
  };
  studio.fal.submit = ({ seed }) => submit("fal", seed, (id) => Response.json({ request_id: id }));
  studio.fal.status = (id) =>
    wishOf(id).fal === "sleeps"
      ? Response.json({ status: "IN_PROGRESS" }, { status: 202 })
      : Response.json({ status: "COMPLETED" });
  studio.fal.result = (id) => {
    const manner = wishOf(id).fal;
    if (creates(manner)) return Response.json(images(id));
    return Response.json({ detail: manner }, { status: manner === "refuses" ? 422 : 500 });
  };
  studio.replicate.create = ({ input }) =>
    submit("replicate", (input as { seed: number }).seed, (id) =>
      Response.json({ id, status: "starting" }, { status: 201 }),
    );
  studio.replicate.get = (id) =>
    Response.json(
      wishOf(id).replicate === "sleeps" ? { id, status: "processing", logs: "" } : predictionOf(id),
    );

  const creations: string[] = [];
  for (const [n, { outputs: num_outputs }] of wishes.entries()) {
    creations.push(await studio.request({ num_outputs, settings: { seed: seedOf(n) } }));
  }
  const cancelled = new Set<number>();
  const tell = async (provider: Provider, id: string) => {
    const manner = wishOf(id)[provider];
    if (manner === "sleeps" || !started[provider].has(id)) return;
    const ok = creates(manner);
    const status = manner === "refuses" ? 422 : 500;
    const payload =
      provider === "replicate"
        ? predictionOf(id)
        : ok
          ? { request_id: id, status: "OK", payload: images(id) }
          : {
              request_id: id,
              status: "ERROR",
              error: `Invalid status code: ${status}`,
              payload: { detail: manner },
            };
    await testDb.service.call("ops.receive_webhook", { provider, event_id: id, event_type: "end", payload });
  };
  const acts = {
    work: () => studio.work(),
    poll: async () => {
      await testDb.advanceClock("61 seconds");
      await studio.work();
    },
    crash: async () => {
      await testDb.service.rpc("ops.claim_jobs", { worker: `dies-${crypto.randomUUID()}` });
      await testDb.advanceClock("61 seconds");
    },
    sweep: async () => {
      await testDb.service.call("studio.reroute_creations", {});
    },
    tell: async (n: number, provider: Provider) => {
      for (const id of runsOf(wishes[n]!, n).toReversed()) await tell(provider, id);
    },
    cancel: async (n: number) => {
      const ask = testDb.user(studio.user.id).call("studio.cancel_creation", { creation_id: creations[n] });
      const done = await ask.catch((error: Error) => {
        expect(error.message).toMatch(/^creation_ended: /);
        return null;
      });
      if (done) cancelled.add(n);
    },
  };
  for (const step of steps)
    await ("wish" in step ? acts[step.do](step.wish, step.provider) : acts[step.do]());
  // What sleeps runs out of time, at each provider once.
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 5; n++) {
      await acts.sweep();
      await acts.poll();
    }
    await testDb.advanceClock("31 minutes");
    await testDb.service.rpc("ops.tick");
  }
  await studio.work();
  return { studio, creations, cancelled, started };
}

async function expectRight(story: Story): Promise<void> {
  const { studio, creations, cancelled, started } = await play(story);
  let paid = 0;
  for (const [n, id] of creations.entries()) {
    const wish = story.wishes[n]!;
    const creation = await studio.creation(id);
    const attempts = await testDb.query(
      "select provider, status, error_code, runs from studio.creation_attempts where creation_id = $1 order by id",
      [id],
    );
    const ran = attempts.flatMap(({ provider, runs }) => Array<string>(runs).fill(provider));
    for (const provider of ["fal", "replicate"] as const) {
      const times = runsOf(wish, n).map((run) => started[provider].get(run) ?? 0);
      expect(Math.max(...times)).toBeLessThanOrEqual(1);
      expect(ran.filter((at) => at === provider)).toHaveLength(times.reduce((sum, runs) => sum + runs, 0));
    }
    const [charge] = await testDb.query(
      "select status, captured_micro from billing.usage_events where source_id = $1",
      [id],
    );
    if (cancelled.has(n)) expect(creation.status).toBe("cancelled");
    else if (creation.status === "completed") {
      expect(attempts.at(-1)).toMatchObject({ status: "succeeded", provider: creation.provider });
      expect(creates(wish[creation.provider as Provider])).toBe(true);
      expect(creation.result_paths).toHaveLength(made(wish, wish[creation.provider as Provider]));
    } else {
      expect(creation.status).toBe("failed");
      // The input's fault ends it; else nobody is left who has not been tried.
      if (creation.error_code !== "provider_rejected") {
        const tried = attempts.filter(({ status }) => status === "failed").map(({ provider }) => provider);
        expect(new Set(tried)).toEqual(new Set(["fal", "replicate"]));
      }
      // What somebody can make is made.
      const doubts = [wish.fal, wish.replicate].some(
        (manner) => manner === "rejects" || manner === "refuses",
      );
      if (!doubts) expect([wish.fal, wish.replicate].filter(creates)).toEqual([]);
    }
    const completed = creation.status === "completed";
    const owed = completed ? made(wish, wish[creation.provider as Provider]) * price : 0;
    expect(charge).toEqual({ status: completed ? "captured" : "released", captured_micro: owed });
    expect(creation.cost_micro).toBe(completed ? owed : null);
    paid += owed;
    expect(attempts.filter(({ status }) => status === "planned" || status === "running")).toEqual([]);
    const costs = await testDb.query(
      "select provider from billing.provider_costs where usage_event_id = $1 order by id",
      [creation.usage_event_id],
    );
    expect(costs.map(({ provider }) => provider).sort()).toEqual(ran.sort());
  }
  const { workspaceId, user } = studio;
  const balance = await testDb.service.call("billing.balance", { workspace_id: workspaceId });
  expect(balance).toMatchObject({ available_micro: credits - paid, held_micro: 0 });
  const told = await testDb.query("select from messaging.notifications where user_id = $1", [user.id]);
  expect(told).toHaveLength(creations.length - cancelled.size);
  expect(await testDb.query("select kind, state from ops.jobs where finished_at is null")).toEqual([]);
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}

const manner = fc.constantFrom<Manner>(...manners, "makes", "makes");
const story = fc
  .array(fc.record<Wish>({ outputs: fc.constantFrom(1, 1, 2, 3), fal: manner, replicate: manner }), {
    minLength: 1,
    maxLength: 3,
  })
  .chain((wishes) => {
    const wish = fc.nat({ max: wishes.length - 1 });
    const provider = fc.constantFrom<Provider>("fal", "replicate");
    const own = fc
      .tuple(
        fc.constantFrom("tell" as const, "tell" as const, "tell" as const, "cancel" as const),
        wish,
        provider,
      )
      .map(([act, n, by]): Step => ({ do: act, wish: n, provider: by }));
    const other = fc.constantFrom<Step>({ do: "work" }, { do: "work" }, { do: "poll" }, { do: "sweep" });
    const steps = fc.array(fc.oneof(own, other), { maxLength: 12 });
    const crashes = fc.array(fc.constant<Step>({ do: "crash" }), { maxLength: 1 });
    return fc
      .tuple(steps, crashes)
      .map(([all, last]): Story => ({ wishes, steps: [...all, ...last, { do: "work" }] }));
  });

test("whatever both providers do, what can be made is made, and charged once", {
  timeout: secondsFor(240),
}, async () => {
  await fc.assert(fc.asyncProperty(story, expectRight), histories(25, { seconds: 150 }));
});

// Each pair of manners, with nothing else happening.
test.each(manners)("a first provider that %s, with each second one", { timeout: 120_000 }, async (fal) => {
  const wishes = manners.map((replicate, n) => ({ outputs: 1 + (n % 3), fal, replicate }));
  await expectRight({ wishes, steps: [{ do: "work" }] });
});
