import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ann, ben, counts, db } from "./requests-stage.ts";
import { price } from "./studio.ts";

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
