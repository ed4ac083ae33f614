import { beforeAll, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { type Brand, createStudio, type Studio } from "../studio/studio.ts";
import { openShop, type Shop, visits } from "../studio/vr.ts";
import { connect, type Scene } from "./attacks/attack.ts";
import { fingerprint } from "./attacks/fingerprint.ts";
import { prepare } from "./attacks/index.ts";

// A thief with a workspace of their own, who asks for things there with another's ids.

let db: Studio;
let scene: Scene;
let thief: Brand;
let own: Record<string, string>;
let before: string;
beforeAll(async () => {
  db = await createStudio();
  thief = await db.brand(10_000_000);
  scene = { db, victim: await db.brand(10_000_000), thief, ids: {} };
  await prepare(scene);
  const mine: Scene = { ...scene, victim: thief, ids: {} };
  await prepare(mine);
  own = mine.ids;
  before = await fingerprint(scene, { alone: false });
});
const call = (name: string, args: Record<string, unknown>) => db.user(thief.id).call(name, args);
const write = (sql: string, params: unknown[] = []) => db.user(thief.id).query(sql, params);

describe("in a workspace of one's own, another's", () => {
  test("garment, model, picture and project make no creation", async () => {
    const { victim, ids } = scene;
    const request = { workspace_id: thief.workspaceId, creation_type: "tryon", garment_id: thief.garmentId };
    for (const [more, error] of [
      [{ garment_id: victim.garmentId, model_id: thief.modelId }, "unknown_garment"],
      [{ model_id: victim.modelId }, "unknown_model"],
      [{ model_id: thief.modelId, project_id: ids.project }, "unknown_project"],
      [{ input_path: victim.personPath }, "unknown_image"],
      [{ input_path: `${thief.workspaceId}/../${victim.personPath}` }, "unknown_image"],
    ] as const) {
      await expectError(call("studio.request_creation", { ...request, ...more }), error, "PT404");
    }
  });

  test("models, persona, collection and import make no catalog job", async () => {
    const { ids, victim } = scene;
    const job = {
      account_id: await connect({ ...scene, victim: thief }, "shopify"),
      model_ids: [thief.modelId],
    };
    for (const [more, error] of [
      [{ model_ids: [thief.modelId, victim.modelId] }, "unknown_model"],
      [{ model_ids: [], persona_id: ids.persona }, "unknown_persona"],
      [{ collection_id: ids.shopCollection }, "unknown_shop_collection"],
      [{ account_id: null, import_batch_id: ids.import }, "unknown_import"],
    ] as const) {
      for (const name of ["start_catalog_job", "estimate_catalog_job"]) {
        await expectError(call(`commerce.${name}`, { ...job, ...more }), error, "PT404");
      }
    }
    const estimate = await call("commerce.estimate_catalog_job", { ...job, product_ids: [ids.product] });
    expect(estimate).toMatchObject({ products: 0 });
  });

  test("garment hangs in no shop, post or collection", async () => {
    const { ids, victim } = scene;
    const shop = await openShop(db, thief);
    const hang = `insert into studio.vr_garments (workspace_id, shop_id, garment_id, name, garment_type, model_glb_path)
      values ($1, $2, $3, 'x', 'shirt', $4)`;
    const glb = `${thief.workspaceId}/x.glb`;
    await expectError(write(hang, [thief.workspaceId, shop.id, victim.garmentId, glb]), "42501");
    await expectError(write(hang, [thief.workspaceId, ids.vrShop, thief.garmentId, glb]), "23503");
    await expectError(
      write("update studio.vr_garments set garment_id = $1 where id = $2", [
        victim.garmentId,
        shop.garmentId,
      ]),
      "42501",
    );
    const bind = { post_id: own.post, garment_id: victim.garmentId };
    await expectError(call("social.bind_garment", bind), "unknown_garment", "PT404");
    await expectError(
      write("update studio.wardrobe_garments set collection_id = $1 where id = $2", [
        ids.collection,
        thief.garmentId,
      ]),
      "23503",
    );
    await expectError(write("update studio.creations set project_id = $1", [ids.project]), "42501");
  });

  test("shop's collection, product and account are linked to nothing", async () => {
    const { ids } = scene;
    const link = { shopify_collection_id: own.shopCollection, collection_id: ids.collection };
    await expectError(call("studio.link_shopify_collection", link), "unknown_collection", "PT404");
    await expectError(
      write("update commerce.shopify_collections set wardrobe_collection_id = $1 where id = $2", [
        ids.collection,
        own.shopCollection,
      ]),
      "23503",
    );
    await expectError(
      write("update social.posts set shopify_product_id = $1 where id = $2", [ids.product, own.post]),
      "invalid_bot_settings",
    );
    await expectError(
      write("insert into commerce.brand_settings (workspace_id, connected_account_id) values ($1, $2)", [
        thief.workspaceId,
        ids.shop,
      ]),
      "42501",
    );
  });

  test("file is no knowledge, training picture, message or import", async () => {
    const { victim } = scene;
    const path = await db.upload(victim.workspaceId, {
      bucket: "knowledge-documents",
      mimetype: "text/plain",
    });
    const document = { workspace_id: thief.workspaceId, source_type: "document", path };
    await expectError(call("ai.add_knowledge_source", document), "invalid_argument", "PT400");
    const pictures = await Promise.all([1, 2, 3].map(() => db.upload(thief.workspaceId)));
    const training = { persona_id: own.persona, image_paths: [...pictures, victim.personPath], key: "t" };
    await expectError(call("studio.train_persona", training), "unknown_image", "PT404");
    const message = { conversation_id: own.conversation, media_path: victim.personPath };
    await expectError(call("social.send_message", message), "unknown_image", "PT404");
    const file = { workspace_id: thief.workspaceId, path: `${victim.workspaceId}/a.csv` };
    await expectError(call("commerce.begin_import", file), "invalid_argument", "PT400");
  });

  test("conversation is not behind a task, and another's jobs are not below one's own", async () => {
    const { ids } = scene;
    const task = await call("ai.propose_task", {
      workspace_id: thief.workspaceId,
      task_type: "analyze_brand",
      title: "x",
      session_id: ids.session,
    });
    expect(task.session_id).toBeNull();
    const [job] = await db.query("select job_id from studio.creations where id = $1", [ids.creation]);
    const running = { workspace_id: thief.workspaceId, parent_id: job!.job_id };
    expect(await db.user(thief.id).rpc("messaging.running_jobs", running)).toEqual([]);
  });

  test("mail is answered from no account, and nobody of theirs shares one", async () => {
    const { ids, victim } = scene;
    const settings = { email: "t@example.com", imap_host: "i.example.com", smtp_host: "s.example.com" };
    const account = await call("messaging.save_email_account", { workspace_id: thief.workspaceId, settings });
    const share = { account_id: account.id, user_id: victim.id, role: "member" };
    await expectError(call("messaging.set_email_account_role", share), "invalid_argument", "PT400");
    await db.query("update messaging.email_accounts set status = 'active' where id = $1", [account.id]);
    const mail = { account_id: account.id, to_addresses: ["a@b.example"], subject: "x", text_body: "x" };
    await expectError(
      call("messaging.send_email", { ...mail, reply_to_message: ids.mail }),
      "unknown_mail",
      "PT404",
    );
  });
});

test("a shop's token opens nothing of another shop, not even of the same brand", async () => {
  const [mine, theirs]: [Shop, Shop] = [await openShop(db, thief), await openShop(db, thief)];
  const visit = visits(db);
  const [photo, other] = [await visit.photo(mine), await visit.photo(theirs)];
  await expectError(visit.tryon(mine, other), "unknown_photo", "PT404");
  const garment = { garment_id: theirs.garmentId };
  await expectError(visit.tryon(mine, photo, garment), "unknown_vr_garment", "PT404");
  const tryon = await visit.tryon(theirs, other);
  await expectError(visit.read(mine, tryon), "unknown_vr_tryon", "PT404");
  await expectError(visit.withdraw(mine, other), "unknown_photo", "PT404");
});

test("all of this leaves the victim's rows as they were", async () => {
  expect(await fingerprint(scene, { alone: false })).toBe(before);
});
