import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { SupabaseClient } from "@supabase/supabase-js";
import { afterAll, expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const s = useStack();
const domain = "maison.myshopify.com";
/** What one picture costs, in micro-units. */
const price = 2298;

// Where the shop's pictures lie.
const garment = await readFile(join(import.meta.dirname, "../../samples/garment-tee.png"));
const cdn = createServer((_, response) =>
  response.writeHead(200, { "content-type": "image/png" }).end(garment),
);
await new Promise<void>((resolve) => cdn.listen(0, "127.0.0.1", resolve));
afterAll(() => cdn.close());
const cdnUrl = `http://127.0.0.1:${(cdn.address() as AddressInfo).port}`;

const standIn = async (path: string, body?: unknown) => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.shopify}/_shops/${domain}${path}`, init)).json();
};
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;
type Person = Awaited<ReturnType<typeof s.person>>;
type Row = Record<string, unknown> & { id: string; status: string };
const schema = (person: Person, name: string) =>
  (person.client as unknown as SupabaseClient).schema(name as never);
const commerce = (person: Person) => schema(person, "commerce");
const image = (n: number, url = cdnUrl) => [
  { id: String(n), src: `${url}/${n}.png`, alt: null, width: 600, height: 800 },
];

async function connect(person: Person): Promise<string> {
  const body = {
    workspace_id: person.workspaceId,
    account: domain,
    return_to: "http://127.0.0.1:3000/shops",
  };
  const started = must(await person.client.functions.invoke("oauth/shopify/start", { body }));
  const code = new URL(await hop(await hop(started.url))).searchParams.get("connection");
  const account = must(await schema(person, "integrations").rpc("claim_connection", { code }));
  return (account as unknown as Row).id;
}

test("a merchant has pictures made for a shop's catalog, sees it progress, mends what failed, and finds them in the shop", {
  timeout: 180_000,
}, async () => {
  await s.order("fal", { plain: true });
  const person = await s.person(100 * price);
  const titles = ["Tee", "Jeans", "Dress", "Coat", "Shirt", "Hat"];
  await standIn(
    "",
    titles.map((title, n) => [
      "createProduct",
      { title, images: image(n + 1, title === "Coat" ? "ftp://cdn.example" : cdnUrl) },
    ]),
  );
  const accountId = await connect(person);
  await eventually("the products", async () => {
    const { data } = await commerce(person).from("shopify_products").select("id, title");
    return data?.length === titles.length;
  });
  const model = must(
    await schema(person, "studio")
      .from("models")
      .insert({ workspace_id: person.workspaceId, storage_path: person.personPath, name: "Ada" })
      .select("id")
      .single(),
  ) as unknown as { id: string };

  const settings = { account_id: accountId, model_ids: [model.id], tryon_count: 1, studio_pictures: true };
  const estimate = must(await commerce(person).rpc("estimate_catalog_job", settings)) as unknown as Row;
  expect(estimate).toMatchObject({ products: 6, pictures: 12, amount_micro: 12 * price, affordable: true });

  const started = must(
    await commerce(person).rpc("start_catalog_job", {
      ...settings,
      auto_publish: true,
      chunk_size: 2,
      parallel_chunks: 2,
      key: "spring",
    }),
  ) as unknown as Row;
  const seen = new Set<number>();
  const ended = (statuses: string[]) =>
    eventually(
      `the catalog job ${statuses}`,
      async () => {
        const { data } = await commerce(person)
          .from("catalog_jobs")
          .select("*")
          .eq("id", started.id)
          .single();
        const row = data as unknown as Row & { progress: number };
        expect(row.items_processed).toBe(Number(row.items_succeeded) + Number(row.items_failed));
        seen.add(row.progress);
        return statuses.includes(row.status) ? row : undefined;
      },
      90,
    );
  expect(await ended(["completed", "failed"])).toMatchObject({
    status: "completed",
    total_products: 6,
    items_succeeded: 5,
    items_failed: 1,
    items_published: 5,
    pictures_made: 10,
    actual_cost_micro: 10 * price,
  });
  expect(seen.size).toBeGreaterThan(1);

  const page = must(
    await commerce(person)
      .from("catalog_job_products")
      .select("title, error_code, error_message", { count: "exact" })
      .eq("catalog_job_id", started.id)
      .eq("status", "failed")
      .order("position")
      .range(0, 49),
  ) as unknown as Row[];
  expect(page).toMatchObject([{ title: "Coat", error_code: "provider_rejected" }]);
  expect(await s.balance(person)).toMatchObject({ available_micro: 90 * price, held_micro: 0 });

  // The merchant mends the picture in the shop; only the coat is made again.
  const shop = await standIn("");
  const coat = Object.values(shop.products as Record<string, Row>).find(({ title }) => title === "Coat")!;
  await standIn("", [["updateProduct", coat.id, { images: image(4) }]]);
  must(await commerce(person).rpc("request_shopify_sync", { account_id: accountId, kind: "full" }));
  await eventually("the coat's picture", async () => {
    const { data } = await commerce(person)
      .from("shopify_products")
      .select("featured_image_url")
      .eq("title", "Coat");
    return data?.[0]?.featured_image_url === `${cdnUrl}/4.png`;
  });
  must(await commerce(person).rpc("retry_catalog_job", { catalog_job_id: started.id }));
  expect(await ended(["completed", "failed"])).toMatchObject({ items_succeeded: 6, items_published: 6 });

  const after = await standIn("");
  for (const { title, images } of Object.values(
    after.products as Record<string, { title: string; images: { alt: string }[] }>,
  )) {
    expect(images.map(({ alt }) => alt)).toEqual([null, 1, 2].map((n) => n && `${title}, picture ${n}`));
  }
  const [item] = must(
    await commerce(person)
      .from("catalog_job_products")
      .select("result_paths")
      .eq("catalog_job_id", started.id)
      .limit(1),
  ) as unknown as { result_paths: string[] }[];
  const { signedUrl } = must(
    await person.client.storage.from("studio-results").createSignedUrl(item!.result_paths[0]!, 60),
  );
  expect((await fetch(signedUrl)).headers.get("content-type")).toBe("image/png");
  expect(await s.balance(person)).toMatchObject({ available_micro: 88 * price, held_micro: 0 });
  expect(await s.faults()).toEqual([]);
});
