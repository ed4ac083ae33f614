import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ann, ben, counts, db } from "./requests-stage.ts";
import { price, tryon } from "./studio.ts";

describe("a request", () => {
  test("holds the charge, enqueues the job and answers the creation", async () => {
    const [before, had] = [await counts(), await db.balance(ann.workspaceId)];
    const creation = await db.request(ann, { num_outputs: 2, quality: "high", settings: { seed: 7 } });
    expect(creation).toMatchObject({
      workspace_id: ann.workspaceId,
      created_by: ann.id,
      creation_type: "tryon",
      status: "pending",
      progress: 0,
      num_outputs: 2,
      quality: "high",
      settings: { seed: 7 },
      cost_micro: null,
      result_paths: [],
    });
    expect(creation.garment_path).toContain(`${ann.workspaceId}/`);
    expect(creation.model_storage_path).toContain(`${ann.workspaceId}/`);
    expect(await db.charge(creation)).toMatchObject({
      status: "held",
      amount_micro: 2 * price,
      user_id: ann.id,
      source_id: creation.id,
    });
    const balance = await db.balance(ann.workspaceId);
    expect(balance.held_micro - had.held_micro).toBe(2 * price);
    expect(had.available_micro - balance.available_micro).toBe(2 * price);
    expect(await db.jobs.job(creation.job_id)).toMatchObject({
      kind: "studio.creation",
      state: "queued",
      workspace_id: ann.workspaceId,
      payload: { creation_id: creation.id },
      deadline_at: new Date("2026-11-21T12:30:00Z"),
    });
    const after = await counts();
    expect([after.creations, after.jobs, after.charges, after.transactions]).toEqual(
      [before.creations, before.jobs, before.charges, before.transactions].map((count) => count + 1),
    );
  });

  test("leaves nothing when its transaction is undone", async () => {
    const before = await counts();
    const connection = await db.connect({ user: ann.id });
    await connection.begin();
    await connection.rpc("studio.request_creation", tryon(ann));
    await connection.rollback();
    await connection.close();
    expect(await counts()).toEqual(before);
  });

  test.each([1, 2, 3, 4])("for %i pictures holds the price of as many", async (num_outputs) => {
    const creation = await db.request(ann, { num_outputs });
    expect((await db.charge(creation)).amount_micro).toBe(num_outputs * price);
  });

  test("may name the person by the path of an upload", async () => {
    const creation = await db.request(ann, { input_path: ann.personPath });
    expect(creation).toMatchObject({ model_id: null, model_storage_path: ann.personPath });
  });

  test("of another type needs no garment", async () => {
    const more = { creation_type: "bg_remove", garment_id: undefined, input_path: ann.personPath };
    expect(await db.request(ann, more)).toMatchObject({ creation_type: "bg_remove", garment_id: null });
  });

  test("of the service has no person to tell", async () => {
    const creation = await db.service.call("studio.request_creation", tryon(ann));
    expect(creation.created_by).toBeNull();
    await db.finish([creation]);
    expect((await db.creation(creation.id)).status).toBe("completed");
  });
});

describe("who may request", () => {
  test.each([
    ["viewer", "role_too_low"],
    ["member", null],
    ["editor", null],
    ["admin", null],
  ])("a %s: %s", async (role, error) => {
    const user = await db.join(ann.workspaceId, role);
    const call = db.user(user.id).call("studio.request_creation", tryon(ann));
    if (error) await expectError(call, error, "PT403");
    else expect((await call).created_by).toBe(user.id);
  });

  test("not a stranger, not a visitor, not one who has left", async () => {
    await expectError(
      db.user(ben.id).rpc("studio.request_creation", tryon(ann)),
      "unknown_workspace",
      "PT404",
    );
    await expectError(db.anon.rpc("studio.request_creation", tryon(ann)), "42501");
    await expectError(db.anon.rpc("studio.cancel_creation", { creation_id: randomUUID() }), "42501");
    const left = await db.join(ann.workspaceId, "editor");
    await db.query("delete from identity.workspace_members where user_id = $1 and workspace_id = $2", [
      left.id,
      ann.workspaceId,
    ]);
    await expectError(db.user(left.id).rpc("studio.request_creation", tryon(ann)), "unknown_workspace");
  });
});

describe("a key", () => {
  test("makes one creation and one charge, however often and at once", async () => {
    const key = randomUUID();
    const before = await counts();
    const answers = await Promise.all(Array.from({ length: 10 }, () => db.request(ann, { key })));
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    const after = await counts();
    expect([
      after.creations - before.creations,
      after.jobs - before.jobs,
      after.charges - before.charges,
    ]).toEqual([1, 1, 1]);
    await db.finish([answers[0]!]);
    expect(await db.request(ann, { key })).toMatchObject({ id: answers[0]!.id, status: "completed" });
  });

  test("for another request is refused", async () => {
    const key = randomUUID();
    const { id } = await db.request(ann, { key });
    const { facts } = await expectError(db.request(ann, { key, num_outputs: 2 }), "key_reused", "PT409");
    expect(facts).toEqual({ key, creation_id: id });
  });

  test("still answers when the garment is gone and the credits are used up", async () => {
    const brand = await db.brand(price);
    const key = randomUUID();
    const { available_micro } = await db.balance(brand.workspaceId);
    const num_outputs = Math.min(4, Math.floor(available_micro / price));
    const { id } = await db.request(brand, { key, num_outputs });
    await db.user(brand.id).query("delete from studio.wardrobe_garments where id = $1", [brand.garmentId]);
    expect(await db.request(brand, { key, num_outputs })).toMatchObject({ id, garment_id: null });
  });

  test("belongs to its workspace", async () => {
    const key = randomUUID();
    const [first, second] = await Promise.all([db.request(ann, { key }), db.request(ben, { key })]);
    expect(first!.id).not.toBe(second!.id);
  });
});
