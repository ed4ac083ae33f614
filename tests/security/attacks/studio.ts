import { tryon } from "../../studio/studio.ts";
import { openShop } from "../../studio/vr.ts";
import { type Attack, add, has, type Scene } from "./attack.ts";

export async function ownStudio(scene: Scene): Promise<void> {
  const { db, victim, ids } = scene;
  ids.creation = (await db.request(victim)).id;
  const paths = await Promise.all([1, 2, 3, 4].map(() => db.upload(victim.workspaceId)));
  ids.persona = await add(
    scene,
    "insert into studio.personas (workspace_id, name, face_prompt, face_paths) values ($1, 'Mia', 'a face', $2)",
    [paths],
  );
  const training = { persona_id: ids.persona, image_paths: paths };
  ids.training = (await has(scene, "studio.train_persona", training)).id;
  const shop = await openShop(db, victim);
  ids.vrShop = shop.id;
  ids.vrToken = shop.tokenId;
  ids.project = await add(scene, "insert into studio.projects (workspace_id, name) values ($1, 'Spring')");
  ids.collection = await add(
    scene,
    "insert into studio.wardrobe_collections (workspace_id, name) values ($1, 'Summer')",
  );
}

const request = {
  input_path: null,
  prompt: null,
  quality: "fast",
  category: "upper_body",
  num_outputs: 1,
  settings: {},
  project_id: null,
  key: null,
};
const garment = ({ victim }: Scene) => ({ garment_id: victim.garmentId });
const persona = ({ ids }: Scene) => ({ persona_id: ids.persona });
const creation = ({ ids }: Scene) => ({ creation_id: ids.creation });
const collection = ({ ids }: Scene) => ({ collection_id: ids.collection });

export const studio: Attack[] = [
  ["private.request_creation", ({ victim }) => ({ ...request, ...tryon(victim) }), "unknown_workspace"],
  // in a workspace of one's own, with another's garment, person, picture or project
  [
    "private.request_creation",
    ({ victim, thief }) => ({ ...request, ...tryon(victim), workspace_id: thief.workspaceId }),
    "unknown_garment",
  ],
  ["private.cancel_creation", creation, "unknown_creation"],
  ["private.retry_creation", creation, "unknown_creation"],
  ["private.analyze_garment", garment, "unknown_garment"],
  ["private.recheck_garment", garment, "unknown_garment"],
  ["private.recheck_model", ({ victim }) => ({ model_id: victim.modelId }), "unknown_model"],
  ["private.choose_persona_face", (s) => ({ ...persona(s), face_index: 0 }), "unknown_persona"],
  ["private.drop_persona_face", (s) => ({ ...persona(s), face_index: 0 }), "unknown_persona"],
  [
    "private.generate_persona_faces",
    (s) => ({ ...persona(s), num_faces: 1, seed: null, key: null }),
    "unknown_persona",
  ],
  [
    "private.request_persona_image",
    (s) => ({
      ...persona(s),
      prompt: "x",
      num_outputs: 1,
      quality: "fast",
      version: null,
      lora_scale: 1,
      settings: {},
      project_id: null,
      key: null,
    }),
    "unknown_persona",
  ],
  ["private.set_default_persona", persona, "unknown_persona"],
  [
    "private.train_persona",
    (s) => ({ ...persona(s), image_paths: null, steps: 1000, key: null }),
    "unknown_persona",
  ],
  ["private.use_lora_version", (s) => ({ ...persona(s), version: 1 }), "unknown_persona"],
  ["private.cancel_lora_training", ({ ids }) => ({ training_id: ids.training }), "unknown_training"],
  [
    "private.create_vr_token",
    ({ ids }) => ({
      shop_id: ids.vrShop,
      name: "mine",
      rate_limit_per_minute: 60,
      rate_limit_per_hour: 600,
      rate_limit_per_day: 6000,
      expires_at: null,
      notes: null,
    }),
    "unknown_vr_shop",
  ],
  ["private.revoke_vr_token", ({ ids }) => ({ token_id: ids.vrToken }), "unknown_vr_token"],
  ["private.set_default_collection", collection, "unknown_collection"],
  ["private.sync_shopify_collection", collection, "unknown_collection"],
  ["private.unlink_shopify_collection", collection, "unknown_collection"],
];
