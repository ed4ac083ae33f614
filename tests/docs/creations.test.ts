import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createStudio, price } from "../studio/studio.ts";

const page = await readFile(join(import.meta.dirname, "../../docs/creations.md"), "utf8");
const statements = [...page.matchAll(/^```sql\n(.*?)^```$/gms)].map(([, sql]) => sql!);
const db = await createStudio();

test("the page's statements do what it says, in their order, as the service", async () => {
  const [enable, prefer, failures, catalog, reprice, balance] = statements;
  expect(statements).toHaveLength(6);
  await db.service.query(enable!);
  const ann = await db.brand();
  const first = await db.request(ann, { quality: "fast" });
  expect(first.provider).toBe("fal");
  await db.service.query(prefer!);
  expect((await db.request(ann, { quality: "fast" })).provider).toBe("replicate");

  await db.claim();
  const checkpoint = { provider: "fal", runs: [{ provider: "fal", request_id: "r1", outputs: 1 }] };
  await db.service.rpc("ops.checkpoint_job", { worker: "w", id: first.job_id, checkpoint, progress: 20 });
  const error = "provider_failed: It broke.";
  await db.jobs.complete("w", [{ id: first.job_id, outcome: "failed", error, retry: false }]);
  expect(await db.service.query(failures!)).toEqual([
    { provider: "fal", error_code: "provider_failed", attempts: 1 },
  ]);
  const next = await db.creation(first.id);
  await db.claim();
  await db.service.rpc("ops.checkpoint_job", {
    worker: "w",
    id: next.job_id,
    checkpoint: {
      provider: "replicate",
      runs: [
        {
          provider: "replicate",
          request_id: "r2",
          outputs: 1,
          result: { ok: true, pictures: [{ url: "u" }] },
        },
      ],
    },
    progress: 20,
  });
  await db.finish([next]);
  expect(await db.service.query(balance!)).toEqual([
    { creation_type: "tryon", provider: "fal", runs: 1, cost_micro: 0, charged_micro: null },
    { creation_type: "tryon", provider: "replicate", runs: 1, cost_micro: 2500, charged_micro: price },
  ]);

  expect(await db.service.query(catalog!)).toEqual([]);
  await db.service.query(reprice!);
  const dear = await db.request(ann, { quality: "ultra", num_outputs: 2 });
  expect((await db.charge(dear)).amount_micro).toBe(3 * price);
});
