import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { type Brand, createStudio, noon, price, type Studio, tryon } from "./studio.ts";

let db: Studio;
let ann: Brand;
let ben: Brand;
beforeAll(async () => {
  db = await createStudio();
  [ann, ben] = await Promise.all([db.brand(), db.brand()]);
});
beforeEach(() => db.setClock(noon));

const counts = async () =>
  (
    await db.query(`select (select count(*) from studio.creations) as creations, (select count(*) from ops.jobs) as jobs,
      (select count(*) from ops.job_keys) as keys, (select count(*) from billing.usage_events) as charges,
      (select count(*) from billing.ledger_transactions) as transactions`)
  )[0]!;

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

describe("a request is refused and leaves nothing", () => {
  const path = (workspace: string, rest: string) => `${workspace}/${rest}`;
  const refused: [
    string,
    (() => Promise<Record<string, unknown>>) | Record<string, unknown>,
    string,
    string,
  ][] = [
    [
      "for a workspace of others",
      async () => ({ workspace_id: ben.workspaceId }),
      "unknown_workspace",
      "PT404",
    ],
    ["for no workspace that exists", { workspace_id: randomUUID() }, "unknown_workspace", "PT404"],
    ["for no workspace", { workspace_id: null }, "unknown_workspace", "PT404"],
    ["with a garment of others", async () => ({ garment_id: ben.garmentId }), "unknown_garment", "PT404"],
    ["with a model of others", async () => ({ model_id: ben.modelId }), "unknown_model", "PT404"],
    ["with a picture of others", async () => ({ input_path: ben.personPath }), "unknown_image", "PT404"],
    [
      "with a picture that is not there",
      async () => ({ input_path: path(ann.workspaceId, "x.png") }),
      "unknown_image",
      "PT404",
    ],
    [
      "with a picture that leads to others",
      async () => ({ input_path: path(ann.workspaceId, `../${ben.personPath}`) }),
      "unknown_image",
      "PT404",
    ],
    [
      "with a picture of another bucket",
      async () => ({ input_path: await db.upload(ann.workspaceId, { bucket: "studio-results" }) }),
      "unknown_image",
      "PT404",
    ],
    [
      "with a GIF",
      async () => ({ input_path: await db.upload(ann.workspaceId, { mimetype: "image/gif" }) }),
      "unsupported_image_type",
      "PT415",
    ],
    [
      "with a picture of no known type",
      async () => ({ input_path: await db.upload(ann.workspaceId, { mimetype: null }) }),
      "unsupported_image_type",
      "PT415",
    ],
    ["with an unknown type", { creation_type: "hologram" }, "invalid_argument", "PT400"],
    ["with no type", { creation_type: null }, "invalid_argument", "PT400"],
    [
      "with a type that is not available",
      async () => {
        await db.query("update studio.creation_types set is_available = false where creation_type = 'video'");
        return { creation_type: "video", prompt: "walk" };
      },
      "creation_type_unavailable",
      "PT422",
    ],
    [
      "that no model of an open provider can make",
      async () => {
        await db.query(
          "update studio.provider_models set is_enabled = false where creation_type = 'color_change' and quality = 'ultra'",
        );
        return { creation_type: "color_change", quality: "ultra", prompt: "red" };
      },
      "creation_type_unavailable",
      "PT422",
    ],
    [
      "with more outputs than the type has",
      { creation_type: "upscale", num_outputs: 2 },
      "invalid_argument",
      "PT400",
    ],
    ["with a seed that is no number", { settings: { seed: "lucky" } }, "invalid_argument", "PT400"],
    ["with a seed that is not whole", { settings: { seed: 1.5 } }, "invalid_argument", "PT400"],
    [
      "with a scale out of bounds",
      { creation_type: "upscale", settings: { scale: 9 } },
      "invalid_argument",
      "PT400",
    ],
    [
      "with a scale that the quality does not pay for",
      { creation_type: "upscale", quality: "fast", settings: { scale: 8 } },
      "invalid_argument",
      "PT400",
    ],
    [
      "with a length that is no choice",
      { creation_type: "video", prompt: "walk", settings: { duration: 7 } },
      "invalid_argument",
      "PT400",
    ],
    [
      "with a colour too long",
      { creation_type: "color_change", settings: { color: "r".repeat(61) } },
      "invalid_argument",
      "PT400",
    ],
    [
      "with neither prompt nor colour",
      { creation_type: "color_change", settings: { color: " " } },
      "invalid_argument",
      "PT400",
    ],
    ["with a type that needs a prompt and has none", { creation_type: "video" }, "invalid_argument", "PT400"],
    ["without a garment", { garment_id: null }, "invalid_argument", "PT400"],
    ["without a person", { model_id: null }, "invalid_argument", "PT400"],
    [
      "with two persons",
      async () => ({ input_path: ann.personPath, model_id: ann.modelId }),
      "invalid_argument",
      "PT400",
    ],
    ["with no pictures asked for", { num_outputs: 0 }, "invalid_argument", "PT400"],
    ["with fewer than none", { num_outputs: -3 }, "invalid_argument", "PT400"],
    ["with five pictures", { num_outputs: 5 }, "invalid_argument", "PT400"],
    ["with null pictures", { num_outputs: null }, "invalid_argument", "PT400"],
    ["with an unknown quality", { quality: "best" }, "invalid_argument", "PT400"],
    ["with an unknown category", { category: "shoes" }, "invalid_argument", "PT400"],
    ["with settings that are no object", { settings: [1] }, "invalid_argument", "PT400"],
    ["with no settings", { settings: null }, "invalid_argument", "PT400"],
    ["with a prompt too long", { prompt: "p".repeat(4001) }, "invalid_argument", "PT400"],
    ["with a project that is not there", { project_id: randomUUID() }, "unknown_project", "PT404"],
    ["with an empty key", { key: "" }, "key_required", "PT400"],
    ["with a key too long", { key: "k".repeat(256) }, "key_required", "PT400"],
  ];

  test.each(refused)("%s", async (_name, change, error, sqlstate) => {
    const more = typeof change === "function" ? await change() : change;
    const before = await counts();
    const named = await expectError(db.request(ann, more), error, sqlstate);
    expect(named.hint).toBeTruthy();
    expect(await counts()).toEqual(before);
  });

  test("with a project of others", async () => {
    const [project] = await db.query(
      "insert into studio.projects (workspace_id, name) values ($1, 'p') returning id",
      [ben.workspaceId],
    );
    await expectError(db.request(ann, { project_id: project!.id }), "unknown_project");
  });

  test("with a garment whose picture is gone", async () => {
    const brand = await db.brand();
    await db.query("update storage.objects set name = name || '.moved' where name like $1", [
      `${brand.workspaceId}/%`,
    ]);
    await expectError(db.request(brand), "unknown_image");
  });

  test("without the credits, and says what is missing", async () => {
    const poor = await db.brand(price + 10);
    const { available_micro } = await db.balance(poor.workspaceId);
    const num_outputs = 4;
    const before = await counts();
    const { facts } = await expectError(db.request(poor, { num_outputs }), "insufficient_credits", "PT402");
    expect(facts).toEqual({
      required_micro: num_outputs * price,
      available_micro,
      missing_micro: num_outputs * price - available_micro,
    });
    expect(await counts()).toEqual(before);
    expect(await db.balance(poor.workspaceId)).toMatchObject({ available_micro, held_micro: 0 });
  });

  test("from a frozen wallet", async () => {
    const frozen = await db.brand();
    await db.query("update billing.wallets set status = 'frozen' where workspace_id = $1", [
      frozen.workspaceId,
    ]);
    await expectError(db.request(frozen), "wallet_frozen", "PT403");
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
