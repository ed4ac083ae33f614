import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
const samples = join(import.meta.dirname, "../../samples");
const domain = "atelier.myshopify.com";
type Row = Record<string, never> & { id: string; [name: string]: unknown };

const sample = async (name: string) => new Uint8Array(await readFile(join(samples, name)));
/** Relations that the generated types may not know yet. */
const room = (person: Person, name: string) =>
  (person.client as unknown as SupabaseClient).schema(name as never) as unknown as SupabaseClient;
const studio = (person: Person) => room(person, "studio");

async function upload(person: Person, name: string, bytes: Uint8Array, contentType: string): Promise<Row> {
  const path = `${person.workspaceId}/${name}`;
  must(await person.client.storage.from("studio-uploads").upload(path, bytes, { contentType }));
  return must(
    await studio(person)
      .from("wardrobe_garments")
      .insert({ workspace_id: person.workspaceId, storage_path: path, filename: name })
      .select("*")
      .single(),
  ) as Row;
}

const row = async (person: Person, table: string, id: string) =>
  must(await studio(person).from(table).select("*").eq("id", id).single()) as Row;

const checked = (person: Person, table: string, id: string) =>
  eventually(`the look at ${table} ${id}`, async () => {
    const found = await row(person, table, id);
    return found.image_status !== "pending" ? found : undefined;
  });

test("a brand fills its wardrobe: uploads are checked and described, used and counted", async () => {
  const person = await s.person();
  const [main] = must(
    await studio(person).from("wardrobe_collections").select("id, name").eq("is_default", true),
  ) as unknown as Row[];
  const dress = await upload(person, "dress.png", await sample("garment-dress.png"), "image/png");
  const fake = await upload(person, "fake.png", new TextEncoder().encode("no picture"), "image/png");
  expect(dress).toMatchObject({ collection_id: main!.id, image_status: "pending" });

  const accepted = await checked(person, "wardrobe_garments", dress.id);
  expect(accepted).toMatchObject({
    image_status: "accepted",
    mime_type: "image/png",
    has_transparency: true,
    width: expect.any(Number),
  });
  expect(await checked(person, "wardrobe_garments", fake.id)).toMatchObject({
    image_status: "rejected",
    image_errors: [{ code: "image_type", message: "The file is not a PNG, JPEG or WebP picture." }],
  });
  const { data: thumbnail } = await person.client.storage
    .from("studio-results")
    .download(String(accepted.thumbnail_path));
  expect(thumbnail?.type).toBe("image/webp");
  expect(thumbnail?.size).toBeGreaterThan(500);

  const analysis = must(await studio(person).rpc("analyze_garment", { garment_id: dress.id })) as Row;
  await eventually("the analysis", async () => {
    const found = await row(person, "garment_analyses", analysis.id);
    if (found.status === "failed") throw new Error(String(found.error_message));
    return found.status === "completed";
  });
  const described = await row(person, "wardrobe_garments", dress.id);
  expect(described.leffa_metadata).toMatchObject({
    leffa_category: "dresses",
    recommended_body_visible: "full",
  });
  expect((await s.balance(person)).held_micro).toBe(0);

  const model = must(
    await studio(person)
      .from("models")
      .insert({ workspace_id: person.workspaceId, name: "Ada", storage_path: person.personPath })
      .select("*")
      .single(),
  ) as Row;
  expect(await checked(person, "models", model.id)).toMatchObject({
    image_status: "accepted",
    mime_type: "image/jpeg",
  });
  const project = must(
    await studio(person)
      .from("projects")
      .insert({ workspace_id: person.workspaceId, name: "Summer" })
      .select("*")
      .single(),
  ) as Row;
  const creation = must(
    await studio(person).rpc("request_creation", {
      workspace_id: person.workspaceId,
      creation_type: "tryon",
      garment_id: dress.id,
      model_id: model.id,
      category: "dresses",
      project_id: project.id,
    }),
  ) as Row;
  const ended = await s.ended(person, creation.id);
  expect(ended.status).toBe("completed");
  await eventually("the small copy", async () =>
    String((await row(person, "creations", creation.id)).thumbnail_path).endsWith("/thumbnail.webp"),
  );
  expect(await row(person, "wardrobe_garments", dress.id)).toMatchObject({ usage_count: 1 });
  expect(await row(person, "models", model.id)).toMatchObject({ usage_count: 1 });
  expect(await row(person, "projects", project.id)).toMatchObject({
    total_creations: 1,
    total_cost_micro: ended.cost_micro,
  });
  const refused = await studio(person).rpc("request_creation", {
    workspace_id: person.workspaceId,
    creation_type: "tryon",
    garment_id: fake.id,
    model_id: model.id,
  });
  expect(refused.error?.message).toMatch(/^image_rejected: /);
  expect(await s.faults()).toEqual([]);
}, 120_000);

test("a collection of the wardrobe follows a collection of the shop", async () => {
  const person = await s.person(0);
  const shop = async (path: string, init: RequestInit = {}) =>
    (await fetch(`${s.stack.standins.shopify}/_shops/${domain}${path}`, init)).json();
  const act = (...actions: unknown[][]) => shop("", { method: "POST", body: JSON.stringify(actions) });
  const { src } = await shop("/files/101.png", { method: "PUT", body: await sample("garment-tee.png") });
  const images = [{ id: "101", src, alt: null, width: 600, height: 650 }];
  const [{ id: tee }, { id: plain }] = await act(
    ["createProduct", { title: "Tee", images }],
    ["createProduct", { title: "Plain tee", images }],
  );
  await act(["createCollection", "Summer", [tee]]);
  const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;
  const started = must(
    await person.client.functions.invoke("oauth/shopify/start", {
      body: { workspace_id: person.workspaceId, account: domain, return_to: "http://127.0.0.1:3000/shops" },
    }),
  );
  const target = new URL(await hop(await hop(started.url)));
  const code = target.searchParams.get("connection");
  const account = must(await room(person, "integrations").rpc("claim_connection", { code })) as Row;

  const summer = await eventually("the shop's collection", async () => {
    const { data } = await room(person, "commerce")
      .from("shopify_collections")
      .select("*")
      .eq("title", "Summer");
    return (data as Row[] | null)?.find(({ product_count }) => product_count === (1 as unknown));
  });
  const collection = must(
    await studio(person).rpc("link_shopify_collection", { shopify_collection_id: summer.id }),
  ) as Row;
  const garments = async () =>
    must(
      await studio(person)
        .from("wardrobe_garments")
        .select("*")
        .eq("collection_id", collection.id)
        .order("name"),
    ) as unknown as Row[];
  const [garment] = await eventually("the garment", async () => {
    const found = await garments();
    return found[0]?.image_status === ("accepted" as unknown) ? found : undefined;
  });
  expect(garment).toMatchObject({
    name: "Tee",
    is_synced: true,
    width: 600,
    height: 650,
    linked_source: "shopify_sync",
  });
  const { data: picture } = await person.client.storage
    .from("studio-uploads")
    .download(String(garment!.storage_path));
  expect(picture?.size).toBe((await sample("garment-tee.png")).length);

  // Members of collections are read by the sync; names come by webhook.
  const id = (await shop("")).collections;
  const [shopCollection] = Object.values(id) as Row[];
  await act(
    ["updateCollection", shopCollection!.id, { products: [tee, plain] }],
    ["updateProduct", tee, { title: "Hero tee" }],
  );
  await new Promise((resolve) => setTimeout(resolve, 2100));
  must(await room(person, "commerce").rpc("request_shopify_sync", { account_id: account.id, kind: "full" }));
  await eventually("what the shop shows", async () => {
    const names = (await garments()).map(({ name }) => name);
    return JSON.stringify(names) === '["Hero tee","Plain tee"]';
  });
}, 120_000);
