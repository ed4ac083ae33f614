import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  ann,
  breakStorage,
  filesOf,
  has,
  made,
  modelPath,
  removeFiles,
  store,
  studio,
} from "./files-stage.ts";

const remove = (table: string, id: string) =>
  studio.user(ann.id).query(`delete from ${table} where id = $1 returning id`, [id]);
const jobs = () =>
  studio.query("select state, payload from ops.jobs where kind like 'storage.%' order by id");

describe("files of a row that is deleted", () => {
  test("go with a creation: its results and its small copy", async () => {
    const creation = await made(ann);
    const other = await made(ann);
    await remove("studio.creations", creation.id);
    expect(await has("studio-results", creation.result_paths[0])).toBe(true);
    await removeFiles();
    expect(await has("studio-results", creation.result_paths[0])).toBe(false);
    expect(await has("studio-results", creation.thumbnail_path)).toBe(false);
    expect(await has("studio-results", other.result_paths[0])).toBe(true);
    expect(await jobs()).toMatchObject([{ state: "completed" }]);
  });

  test("are asked for in the same transaction: one that is undone deletes nothing", async () => {
    const creation = await made(ann);
    const connection = await studio.connect({ user: ann.id });
    await connection.begin();
    await connection.query("delete from studio.creations where id = $1", [creation.id]);
    await connection.rollback();
    await connection.close();
    expect(await jobs()).toEqual([]);
  });

  test("are asked for until storage has none of them", async () => {
    const creation = await made(ann);
    await remove("studio.creations", creation.id);
    breakStorage(3);
    await removeFiles(0);
    expect(await has("studio-results", creation.result_paths[0])).toBe(true);
    expect(await jobs()).toMatchObject([{ state: "scheduled" }]);
    await removeFiles(86_400);
    expect(await has("studio-results", creation.result_paths[0])).toBe(false);
  });

  test("go with garments, models and personas", async () => {
    const path = await modelPath(ann);
    const [model] = await studio.query(
      `update studio.models set thumbnail_path = $2 where id = $1 returning thumbnail_path`,
      [ann.modelId, `${ann.workspaceId}/thumbnails/models/${ann.modelId}.webp`],
    );
    await store("studio-results", [model!.thumbnail_path, `${ann.workspaceId}/x/face.png`]);
    const [persona] = await studio.query(
      `insert into studio.personas (workspace_id, name, face_prompt, face_paths) values ($1, 'Mia', 'a face', $2)
        returning id`,
      [ann.workspaceId, [`${ann.workspaceId}/x/face.png`]],
    );
    await remove("studio.models", ann.modelId);
    await remove("studio.personas", persona!.id);
    await remove("studio.wardrobe_garments", ann.garmentId);
    await removeFiles();
    expect(await has("studio-uploads", path)).toBe(false);
    expect(await filesOf(ann.workspaceId)).toEqual([`studio-uploads:${ann.personPath.slice(37)}`]);
  });

  test("stay when they were written anew since", async () => {
    const path = await modelPath(ann);
    await remove("studio.models", ann.modelId);
    await studio.query(
      "update storage.objects set updated_at = now() + interval '1 second' where name = $1",
      [path],
    );
    await removeFiles();
    expect(await has("studio-uploads", path)).toBe(true);
  });
});

describe("a file that several rows name", () => {
  test("stays for the persona whose face it is, and goes when she drops it", async () => {
    const creation = await made(ann, {
      creation_type: "text_to_image",
      garment_id: null,
      model_id: null,
      prompt: "x",
    });
    const [face] = creation.result_paths;
    const [persona] = await studio.query(
      `insert into studio.personas (workspace_id, name, face_prompt, face_paths) values ($1, 'Mia', 'a face', $2)
        returning id`,
      [ann.workspaceId, [face]],
    );
    await remove("studio.creations", creation.id);
    await removeFiles();
    expect(await has("studio-results", face)).toBe(true);
    expect(await has("studio-results", creation.thumbnail_path)).toBe(false);
    await studio.user(ann.id).call("studio.drop_persona_face", { persona_id: persona!.id, face_index: 0 });
    await removeFiles();
    expect(await has("studio-results", face)).toBe(false);
  });

  test("stays for the last creation made of an uploaded picture", async () => {
    const first = await made(ann, { input_path: ann.personPath });
    const second = await made(ann, { input_path: ann.personPath });
    await remove("studio.creations", first.id);
    await removeFiles();
    expect(await has("studio-uploads", ann.personPath)).toBe(true);
    await remove("studio.creations", second.id);
    await removeFiles();
    expect(await has("studio-uploads", ann.personPath)).toBe(false);
  });

  test("goes with its model though creations of it have ended, after one under way", async () => {
    const path = await modelPath(ann);
    await made(ann);
    const open = await studio.request(ann);
    await remove("studio.models", ann.modelId);
    await removeFiles();
    expect(await has("studio-uploads", path)).toBe(true);
    expect(await jobs()).toMatchObject([{ state: "waiting" }]);
    await studio.user(ann.id).call("studio.cancel_creation", { creation_id: open.id });
    await removeFiles(61);
    expect(await has("studio-uploads", path)).toBe(false);
  });

  test("goes when both rows go at once, and neither sees the other go", async () => {
    const path = await modelPath(ann);
    const [twin] = await studio.query(
      "insert into studio.models (workspace_id, storage_path) values ($1, $2) returning id",
      [ann.workspaceId, path],
    );
    const one = await studio.connect("service");
    const two = await studio.connect("service");
    await one.begin();
    await two.begin();
    await one.query("delete from studio.models where id = $1", [ann.modelId]);
    await two.query("delete from studio.models where id = $1", [twin!.id]);
    await one.commit();
    await two.commit();
    await Promise.all([one.close(), two.close()]);
    await removeFiles();
    expect(await has("studio-uploads", path)).toBe(false);
  });

  test("of another workspace is not deleted by who names it", async () => {
    const bea = await studio.brand();
    const path = await modelPath(bea);
    await studio.query("alter table studio.models disable trigger user");
    await studio.query("alter table studio.models drop constraint models_path_in_workspace");
    await studio.query("alter table studio.models enable trigger user");
    await studio.query("update studio.models set storage_path = $2 where id = $1", [ann.modelId, path]);
    await remove("studio.models", ann.modelId);
    await removeFiles();
    expect(await has("studio-uploads", path)).toBe(true);
  });
});

describe("a workspace", () => {
  test("that is closed leaves no files but those of its books", async () => {
    const team = await studio.user(ann.id).call("identity.create_workspace", { name: "Team" });
    await store("studio-uploads", [`${team.id}/a.png`, `${team.id}/visitors/b.png`]);
    await store("studio-loras", [`${team.id}/c/lora.safetensors`]);
    await store("billing-documents", [`${team.id}/1.pdf`]);
    const others = await filesOf(ann.workspaceId);
    await studio.user(ann.id).call("identity.delete_workspace", { workspace_id: team.id });
    await removeFiles();
    expect(await filesOf(team.id)).toEqual(["billing-documents:1.pdf"]);
    expect(await filesOf(ann.workspaceId)).toEqual(others);
  });

  test("of a person who leaves has no files left", async () => {
    await made(ann);
    await studio.query("delete from auth.users where id = $1", [ann.id]);
    breakStorage(1);
    await removeFiles(600);
    expect(await filesOf(ann.workspaceId)).toEqual([]);
  });

  test("with more files than one step takes is emptied", async () => {
    const team = await studio.user(ann.id).call("identity.create_workspace", { name: "Team" });
    await store(
      "studio-uploads",
      Array.from({ length: 1203 }, (_, n) => `${team.id}/${n}.png`),
    );
    await studio.query("delete from identity.workspaces where id = $1", [team.id]);
    await removeFiles();
    expect(await filesOf(team.id)).toEqual([]);
    expect((await jobs()).at(-1)).toMatchObject({ state: "completed" });
  });
});

describe("a file of nobody", () => {
  const sweep = () => studio.service.call("ops.sweep_files", {});

  test("goes after a day", async () => {
    await store("studio-uploads", [`${ann.workspaceId}/old.png`, "no-workspace/old.png"], "25 hours");
    await store("studio-uploads", [`${ann.workspaceId}/young.png`], "23 hours");
    await studio.query("update storage.objects set updated_at = now() - interval '1 year' where name = $1", [
      await modelPath(ann),
    ]);
    expect(await sweep()).toBe(2);
    await removeFiles();
    expect(await has("studio-uploads", "no-workspace/old.png")).toBe(false);
    expect(await has("studio-uploads", `${ann.workspaceId}/old.png`)).toBe(false);
    expect(await has("studio-uploads", `${ann.workspaceId}/young.png`)).toBe(true);
    expect(await has("studio-uploads", await modelPath(ann))).toBe(true);
  });

  test("stays when a row takes it before its job runs", async () => {
    const [path] = await store("studio-uploads", [`${ann.workspaceId}/late.png`], "2 days");
    expect(await sweep()).toBe(1);
    await studio.query("insert into studio.models (workspace_id, storage_path) values ($1, $2)", [
      ann.workspaceId,
      path,
    ]);
    await removeFiles();
    expect(await has("studio-uploads", path!)).toBe(true);
  });

  test("is found among thousands, a thousand at a time", async () => {
    const paths = Array.from({ length: 2500 }, (_, n) => `${ann.workspaceId}/s/${n}.png`);
    await store("studio-uploads", paths, "2 days");
    const found: number[] = [];
    for (let round = 0; round < 4; round++) found.push(await sweep());
    expect(found.reduce((sum, n) => sum + n)).toBe(2500);
    expect(found.filter((n) => n > 0)).toHaveLength(3);
    await removeFiles();
    expect((await filesOf(ann.workspaceId)).filter((file) => file.includes(":s/"))).toEqual([]);
  });

  test("of a bucket that is not ours stays", async () => {
    await studio.query(
      "insert into storage.buckets (id, name) values ('foreign', 'foreign') on conflict do nothing",
    );
    await store("foreign", [`${randomUUID()}/a.png`], "1 year");
    expect(await sweep()).toBe(0);
  });

  test("is looked for by the bucket's index", async () => {
    const connection = await studio.connect("service");
    await connection.begin();
    await connection.query("set local enable_seqscan = off");
    await connection.query("set local enable_sort = off");
    const plan = await connection.query(
      `explain (costs off) select s.name from storage.objects s
        where s.bucket_id = 'studio-uploads' and s.name > 'x' order by s.name limit 1000`,
    );
    await connection.rollback();
    await connection.close();
    const lines = plan.map((line) => line["QUERY PLAN"]).join("\n");
    expect(lines).toMatch(/Index.* using bucketid_objname/);
    expect(lines).not.toMatch(/Sort/);
  });
});
