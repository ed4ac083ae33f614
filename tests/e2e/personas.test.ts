import { setTimeout as sleep } from "node:timers/promises";
import type { SupabaseClient } from "@supabase/supabase-js";
import sharp from "sharp";
import { beforeEach, describe, expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
beforeEach(() => s.calm());

type Row = Record<string, never> & { [name: string]: unknown };
const studio = (person: Person) => (person.client as unknown as SupabaseClient).schema("studio");
const one = async (person: Person, table: string, id: unknown) =>
  must(await studio(person).from(table).select("*").eq("id", id).single()) as Row;
const ended = (person: Person, creation: Row) => s.ended(person, String(creation.id), 60);

describe("a persona", () => {
  test("gets faces, is trained from them, and pictures are made with what was learnt", async () => {
    const person = await s.person(1_000_000);
    const mia = must(
      await studio(person)
        .from("personas")
        .insert({
          workspace_id: person.workspaceId,
          name: "Mia",
          face_prompt: "a woman with freckles",
          lora_trigger_word: "mia",
        })
        .select("*")
        .single(),
    ) as Row;
    const faces = must(
      await studio(person).rpc("generate_persona_faces", { persona_id: mia.id, num_faces: 4 }),
    ) as Row;
    expect((await ended(person, faces)).status).toBe("completed");
    must(await studio(person).rpc("choose_persona_face", { persona_id: mia.id, face_index: 2 }));
    must(await studio(person).rpc("set_default_persona", { persona_id: mia.id }));
    expect(await one(person, "personas", mia.id)).toMatchObject({
      selected_face_index: 2,
      is_default: true,
      face_paths: { length: 4 },
    });

    // One that fails first costs nothing.
    await s.order("fal", { fail: "run", http_status: 422, times: 1 });
    const train = async () =>
      must(await studio(person).rpc("train_persona", { persona_id: mia.id, steps: 500 })) as Row;
    const finished = ({ id }: Row) =>
      eventually(
        "the training's end",
        async () => {
          const row = await one(person, "lora_trainings", id);
          return row.completed_at ? row : undefined;
        },
        60,
      );
    const before = await s.balance(person);
    expect(await finished(await train())).toMatchObject({ status: "failed", cost_micro: null });
    expect(await s.balance(person)).toEqual(before);

    expect(await finished(await train())).toMatchObject({
      status: "completed",
      version: 1,
      image_count: 4,
      processed_images: 4,
      cost_micro: 150_000,
    });
    expect(await s.balance(person)).toMatchObject({
      held_micro: 0,
      available_micro: before.available_micro - 150_000,
    });
    expect(await one(person, "personas", mia.id)).toMatchObject({ lora_status: "ready", lora_version: 1 });

    const image = must(
      await studio(person).rpc("request_persona_image", { persona_id: mia.id, prompt: "in the rain" }),
    ) as Row;
    const made = await ended(person, image);
    expect(made).toMatchObject({ status: "completed", prompt: "mia, in the rain" });
    const { signedUrl } = must(
      await person.client.storage.from("studio-results").createSignedUrl(made.result_paths[0]!, 60),
    );
    const picture = await sharp(Buffer.from(await (await fetch(signedUrl)).arrayBuffer())).metadata();
    expect(picture.width).toBe(1024);
    expect(await s.faults()).toEqual([]);
  }, 120_000);
});

describe("a VR shop", () => {
  test("lets a visitor try on without an account, pays for it, and forgets the photo", async () => {
    const person = await s.person();
    const shop = must(
      await studio(person)
        .from("vr_shops")
        .insert({
          workspace_id: person.workspaceId,
          name: `Atelier ${crypto.randomUUID()}`,
          allowed_origins: ["https://atelier.example"],
        })
        .select("*")
        .single(),
    ) as Row;
    const model = `${person.workspaceId}/tee.glb`;
    must(
      await person.client.storage
        .from("vr-assets")
        .upload(model, new Blob(["glTF"]), { contentType: "model/gltf-binary" }),
    );
    const hung = must(
      await studio(person)
        .from("vr_garments")
        .insert({
          workspace_id: person.workspaceId,
          shop_id: shop.id,
          garment_id: person.garmentId,
          name: "Tee",
          garment_type: "t-shirt",
          model_glb_path: model,
        })
        .select("id")
        .single(),
    ) as Row;
    const { token } = must(await studio(person).rpc("create_vr_token", { shop_id: shop.id })) as Row;

    const visit = (path: string, init: RequestInit = {}) =>
      fetch(`${s.stack.apiUrl}/functions/v1/tryon${path}`, {
        ...init,
        headers: { "x-shop-token": String(token), origin: "https://atelier.example", ...init.headers },
      });
    const front = await (await visit("/shop")).json();
    expect(front.garments).toMatchObject([{ id: hung.id, name: "Tee" }]);
    expect(await (await fetch(front.garments[0].model_glb_url)).text()).toBe("glTF");
    expect((await fetch(front.garments[0].thumbnail_url)).status).toBe(200);

    const { data: photo } = await person.client.storage.from("studio-uploads").download(person.personPath);
    const sent = await visit("/photos", {
      method: "POST",
      body: photo!,
      headers: { "content-type": "image/jpeg" },
    });
    expect(sent.status).toBe(201);
    const { photo_id } = await sent.json();
    const asked = await visit("/tryons", {
      method: "POST",
      body: JSON.stringify({ photo_id, garment_id: hung.id, key: "first" }),
    });
    expect(asked.status).toBe(202);
    const { id } = await asked.json();
    const tryon = await eventually("the try-on", async () => {
      const answer = await visit(`/tryons/${id}`);
      expect(answer.status).toBe(200);
      const read = await answer.json();
      if (read.status === "completed") return read;
      // A shop's token has 30 requests a minute: slow enough that the limit is not reached before the wait ends.
      await sleep(2000);
      return undefined;
    });
    const picture = await fetch(tryon.result_url);
    expect((await sharp(Buffer.from(await picture.arrayBuffer())).metadata()).width).toBeGreaterThan(300);
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000 - 2298, held_micro: 0 });
    expect(await one(person, "vr_tryons", id)).toMatchObject({ status: "completed", cost_micro: 2298 });
    const [usage] = must(await studio(person).from("vr_token_usage").select("*")) as Row[];
    expect(usage).toMatchObject({ tryons: 1, successful: 1, failed: 0, cost_micro: 2298 });

    const elsewhere = await visit("/shop", { headers: { origin: "https://evil.example" } });
    expect(elsewhere.status).toBe(403);
    expect((await visit(`/photos/${photo_id}`, { method: "DELETE" })).status).toBe(204);
    await s.sql("update ops.sweeps set next_run_at = now() where function_name = 'studio.sweep_vr_files'");
    await eventually(
      "the end of photo and picture",
      async () => (await one(person, "vr_tryons", id)).removed_at,
    );
    expect(await s.sql("select from storage.objects where name like '%/visitors/%'")).toEqual([]);
    expect((await fetch(tryon.result_url)).status).toBeGreaterThanOrEqual(400);
    expect((await visit(`/tryons/${id}`)).status).toBe(404);
    must(await studio(person).rpc("revoke_vr_token", { token_id: usage!.token_id }));
    expect((await visit("/shop")).status).toBe(401);
    expect(await s.faults()).toEqual([]);
  }, 120_000);
});
