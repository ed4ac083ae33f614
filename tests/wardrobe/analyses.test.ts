import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { visionOf } from "../../functions/_shared/ai/vision.ts";
import { analyzeGarment } from "../../functions/worker/handlers/analyze-garment.ts";
import { garmentMetadata, garmentSchema } from "../../functions/worker/pictures/garment-metadata.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { createGeminiStandIn } from "../../supabase/local/standins/gemini/app.ts";
import { functionsDatabase } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { queueTables } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";
import { createStage, picture, pictures } from "./stage.ts";

const price = 102;
const db = await createTestDatabase();
const control = new Control("answer");
const gemini = createGeminiStandIn({ data: { key: "key" }, control });
const vision = visionOf(
  { GEMINI_API_URL: "http://gemini.test", GEMINI_API_KEY: "key", GEMINI_VISION_MODEL: "gemini-3.8-flash" },
  async (input, init) => gemini.request(String(input), init),
);
const stage = createStage(db, functionsDatabase(db), (parts) => ({
  "studio.analyze_garment": analyzeGarment({ ...parts, pictures, shopFiles: [], vision }),
}));
let ann: TestUser;
await db.query("update ops.sweeps set next_run_at = 'infinity'");

beforeEach(async () => {
  await db.setClock(null);
  await db.query(
    `truncate ${queueTables}, ops.job_keys, ops.workers, studio.picture_queue, ops.circuit_breakers cascade`,
  );
  control.reset();
  ann = await db.createUser();
  await credit(ann, 100 * price);
});

const credit = (user: TestUser, amount_micro: number) =>
  db.service.rpc("billing.grant_credits", {
    workspace_id: user.workspaceId,
    amount_micro,
    kind: "promotion",
    key: "start",
  });
const sample = async (name: string) =>
  new Uint8Array(await readFile(join(import.meta.dirname, "../../samples", name)));
async function garmentOf(bytes: Uint8Array): Promise<string> {
  const id = await stage.addGarment(ann, await stage.upload(ann.workspaceId, bytes));
  await stage.work();
  return id;
}
const analyze = (garment_id: string, user = ann) =>
  db.user(user.id).call("studio.analyze_garment", { garment_id });
const analysis = async (id: string) =>
  (await db.query("select * from studio.garment_analyses where id = $1", [id]))[0]!;
const balance = () => db.service.call("billing.balance", { workspace_id: ann.workspaceId });
/** Works until the queue is empty, whatever has to wait. */
async function workOn(rounds = 5) {
  for (let round = 0; round < rounds; round++) {
    await stage.work();
    await db.advanceClock("30 seconds");
    await db.query("update ops.live_jobs set run_at = private.now() - interval '1 second'");
    await db.call("ops.tick", {});
  }
}

describe("an analysis", () => {
  test("describes the garment, and is held when asked and charged once when done", async () => {
    const id = await garmentOf(await sample("garment-tee.png"));
    const asked = await analyze(id);
    expect(asked).toMatchObject({ garment_id: id, status: "pending", created_by: ann.id });
    expect(await balance()).toMatchObject({ held_micro: price, available_micro: 99 * price });
    await stage.work();
    const done = await analysis(asked.id);
    expect(done).toMatchObject({
      status: "completed",
      cost_micro: price,
      analyzer_version: "gemini-3.8-flash",
    });
    const { leffa_metadata: metadata } = await stage.garment(id);
    expect(metadata).toEqual(done.result);
    expect(metadata).toMatchObject({
      leffa_category: "upper_body",
      sleeve_type: "short",
      analyzed_at: expect.any(String),
      analyzer_version: "gemini-3.8-flash",
    });
    expect(garmentMetadata.safeParse(metadata).success).toBe(true);
    expect(await balance()).toMatchObject({ held_micro: 0, available_micro: 99 * price });
    expect(await db.query("select * from billing.verify_ledger()")).toEqual([]);
  });

  test("sends the picture small, as JPEG, with the schema of the answer", async () => {
    await analyze(await garmentOf(await picture(3000, 2000)));
    await stage.work();
    const [{ body, path }] = control.requests as unknown as [
      { path: string; body: { contents: never; generationConfig: object } },
    ];
    expect(path).toBe("/v1beta/models/gemini-3.8-flash:generateContent");
    expect(body.contents).toMatchObject([
      { role: "user", parts: [{ inlineData: { mimeType: "image/jpeg" } }, {}] },
    ]);
    expect(body.generationConfig).toEqual({
      temperature: 0,
      responseMimeType: "application/json",
      responseSchema: garmentSchema,
    });
  });

  test("that is asked for while one is under way is the same, at the same moment too", async () => {
    const id = await garmentOf(await picture());
    const all = await Promise.all([1, 2, 3, 4, 5].map(() => analyze(id)));
    expect(new Set(all.map((each) => each.id)).size).toBe(1);
    expect(await balance()).toMatchObject({ held_micro: price });
    await stage.work();
    expect((await analyze(id)).id).not.toBe(all[0]!.id);
  });

  test("of several garments is for all or none", async () => {
    const [one, two] = [await garmentOf(await picture()), await garmentOf(await picture(300, 500))];
    const rejected = await garmentOf(new Uint8Array([1]));
    const bulk = (garment_ids: string[]) => db.user(ann.id).rpc("studio.analyze_garments", { garment_ids });
    await expectError(bulk([one, rejected]), "image_rejected", "PT422");
    expect(await balance()).toMatchObject({ held_micro: 0 });
    expect(await bulk([two, one, two])).toHaveLength(2);
    expect(await balance()).toMatchObject({ held_micro: 2 * price });
    await expectError(bulk([]), "invalid_argument");
    await expectError(bulk(Array.from({ length: 101 }, () => one)), "invalid_argument");
    await stage.work();
    expect(
      await db.query("select status from studio.garment_analyses where workspace_id = $1", [ann.workspaceId]),
    ).toEqual([{ status: "completed" }, { status: "completed" }]);
  });

  test("is asked for by members with credits, of garments whose picture is there", async () => {
    const id = await garmentOf(await picture());
    const viewer = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [ann.workspaceId, viewer.id],
    );
    await expectError(analyze(id, viewer), "role_too_low", "PT403");
    await expectError(analyze(id, await db.createUser()), "unknown_garment", "PT404");
    await expectError(db.anon.rpc("studio.analyze_garment", { garment_id: id }), "42501");
    await db.query(
      "update studio.wardrobe_garments set source_url = 'https://x', image_status = 'pending', image_checked_at = null where id = $1",
      [id],
    );
    await expectError(analyze(id), "image_pending", "PT409");

    ann = await db.createUser();
    const poor = await garmentOf(await picture());
    await expectError(analyze(poor), "insufficient_credits", "PT402");
    expect(
      await db.query("select from studio.garment_analyses where workspace_id = $1", [ann.workspaceId]),
    ).toEqual([]);
  });

  test("is read by its workspace, and written by nobody", async () => {
    const { id } = await analyze(await garmentOf(await picture()));
    const read = (user: TestUser) =>
      db.user(user.id).query("select id from studio.garment_analyses where id = $1", [id]);
    expect(await read(ann)).toEqual([{ id }]);
    expect(await read(await db.createUser())).toEqual([]);
    await expectError(db.user(ann.id).query("update studio.garment_analyses set status = 'failed'"), "42501");
    await expectError(db.user(ann.id).query("delete from studio.garment_analyses"), "42501");
    await expectError(db.user(ann.id).rpc("studio.analysis_of", { analysis_id: id }), "42501");
  });
});

describe("a model in trouble", () => {
  test("that asks to wait is asked again, and charged once", async () => {
    control.add({ fail: "submit", http_status: 429, retry_after: 2, times: 2 });
    const { id } = await analyze(await garmentOf(await picture()));
    await workOn(4);
    expect(await analysis(id)).toMatchObject({ status: "completed", cost_micro: price });
    expect(control.requests.map(({ status }) => status)).toEqual([429, 429, 200]);
  });

  test.each<[string, object]>([
    ["breaks off", { finish: "MAX_TOKENS" }],
    ["says no JSON", { text: "A fine shirt." }],
    ["says something else", { text: '{"leffa_category": "hat"}' }],
    ["fails", { fail: "submit", http_status: 503 }],
    ["loses its answer", { fail: "answer", http_status: 500 }],
  ])("that %s is asked again", async (_name, rule) => {
    control.add({ ...rule, times: 1 });
    const { id } = await analyze(await garmentOf(await picture()));
    await workOn(2);
    expect(await analysis(id)).toMatchObject({ status: "completed" });
    expect(control.requests).toHaveLength(2);
  });

  test.each<[string, object]>([
    ["refuses the picture", { block: "PROHIBITED_CONTENT" }],
    ["will not answer", { finish: "SAFETY" }],
    ["does not take the request", { fail: "submit", http_status: 400 }],
  ])("that %s is not asked again, and nothing is charged", async (_name, rule) => {
    control.add(rule);
    const { id } = await analyze(await garmentOf(await picture()));
    await workOn(3);
    expect(await analysis(id)).toMatchObject({
      status: "failed",
      error_code: "provider_rejected",
      cost_micro: null,
    });
    expect(control.requests).toHaveLength(1);
    expect(await balance()).toMatchObject({ held_micro: 0, available_micro: 100 * price });
  });

  test("for good fails the analysis and gives the charge back; a replay holds it again", async () => {
    control.add({ fail: "submit", http_status: 503 });
    const garment = await garmentOf(await picture());
    const { id, job_id } = await analyze(garment);
    await workOn(6);
    expect(await analysis(id)).toMatchObject({ status: "failed", error_code: "provider_unavailable" });
    expect(await balance()).toMatchObject({ held_micro: 0, available_micro: 100 * price });
    control.reset();
    await db.query("truncate ops.circuit_breakers cascade");
    await db.service.rpc("ops.replay_job", { id: job_id });
    expect(await balance()).toMatchObject({ held_micro: price });
    await workOn(2);
    expect(await analysis(id)).toMatchObject({ status: "completed", cost_micro: price });
    expect(await balance()).toMatchObject({ held_micro: 0, available_micro: 99 * price });
    expect(await db.query("select * from billing.verify_ledger()")).toEqual([]);
  });
});

test("what becomes of an analysis whose garment goes or whose picture changes", async () => {
  const gone = await garmentOf(await picture());
  const { id } = await analyze(gone);
  await db.user(ann.id).query("delete from studio.wardrobe_garments where id = $1", [gone]);
  await workOn(2);
  expect(await analysis(id)).toMatchObject({
    status: "failed",
    error_code: "unknown_garment",
    garment_id: null,
  });

  const changed = await garmentOf(await picture(400, 400));
  const second = await analyze(changed);
  await db.user(ann.id).rpc("studio.recheck_garment", { garment_id: changed });
  await workOn(2);
  expect(await analysis(second.id)).toMatchObject({ status: "completed" });
  expect(await stage.garment(changed)).toMatchObject({ leffa_metadata: null });
  expect(await balance()).toMatchObject({ held_micro: 0, available_micro: 99 * price });
});

test.each([
  ["no category", {}],
  ["another category", { leffa_category: "shoes" }],
  ["a confidence of more than all", { leffa_category: "dresses", category_confidence: 1.2 }],
  ["another sleeve", { leffa_category: "dresses", sleeve_type: "puffed" }],
  ["another pose", { leffa_category: "dresses", recommended_pose: "lying" }],
  ["a list instead of an object", ["dresses"]],
])("editors cannot write metadata with %s", async (_name, metadata) => {
  const id = await garmentOf(await picture());
  const write = (value: unknown) =>
    db
      .user(ann.id)
      .query("update studio.wardrobe_garments set leffa_metadata = $1 where id = $2 returning id", [
        JSON.stringify(value),
        id,
      ]);
  await expectError(write(metadata), "23514");
  expect(await write({ leffa_category: "dresses", sleeve_type: null, fit: "relaxed" })).toHaveLength(1);
});
