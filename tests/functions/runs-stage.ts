// What the tests of creations of several runs work with: Replicate alone, whose runs give one picture each and are
// answered by hand.

import { beforeEach, expect } from "vitest";
import { costs, db, output, prediction, price, type Studio, tell, testDb } from "./providers-stage.ts";
import { createStudio, enableReplicate } from "./studio.ts";

const ids = ["run-0", "run-1", "run-2", "run-3", "run-4", "run-5"];
const model = "cuuupid/idm-vton:0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985";
export let studio: Studio;
export let begun: string[];
beforeEach(async () => {
  await enableReplicate(testDb, { alone: true });
  studio = await createStudio(testDb, db, ids);
  begun = [];
  studio.replicate.create = begin;
  studio.replicate.get = (id) => Response.json({ id, status: "processing", logs: "" });
});

export function begin(): Response {
  const id = `run-${begun.length}`;
  begun.push(id);
  return Response.json({ id, status: "starting" }, { status: 201 });
}

export const made = (id: string) =>
  tell(prediction({ id, output: output.replace("1.png", `${Number(id.slice(4)) + 1}.png`) }));
export const broke = (id: string, error = "CUDA out of memory") =>
  tell(prediction({ id, status: "failed", output: null, error }));
export const seedsAsked = () => studio.predictions.map(({ input }) => (input as { seed?: number }).seed);
export const stops = () => studio.calls.filter((call) => call.endsWith("/cancel"));
export const state = async (id: string) => {
  const [job] = await testDb.query(
    "select j.* from ops.jobs j join studio.creations c on c.job_id = j.id where c.id = $1",
    [id],
  );
  return job!;
};

/** So many pictures charged, so many runs paid for. */
export async function expectSettled(id: string, pictures: number, runs: number): Promise<void> {
  expect(await studio.creation(id)).toMatchObject({
    status: pictures > 0 ? "completed" : "failed",
    cost_micro: pictures > 0 ? pictures * price : null,
  });
  expect((await studio.creation(id)).result_paths).toHaveLength(pictures);
  const balance = await testDb.service.call("billing.balance", { workspace_id: studio.workspaceId });
  expect(balance).toMatchObject({ available_micro: 100_000 - pictures * price, held_micro: 0 });
  expect(await costs(studio)).toEqual(
    Array.from({ length: runs }, () => ({ provider: "replicate", model, cost_micro: 2500 })),
  );
  expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
}
