import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import type { Values } from "./blocks.ts";
import { hop, runPage, sample, signUp } from "./selify.ts";

const s = useStack();
const tee = await readFile(join(import.meta.dirname, "../../samples/garment-tee.png"));
/** What a picture costs, in micro-units. */
const price = 2298;

const domain = "maison.myshopify.com";
const standIn = async (path: string, init: RequestInit = {}) =>
  (await fetch(`${s.stack.standins.shopify}/_shops/${domain}${path}`, init)).json();
const shop = (...actions: unknown[][]): Promise<Values[]> =>
  standIn("", { method: "POST", body: JSON.stringify(actions) });
const images = (src: string) => [{ id: "101", src, alt: null, width: 600, height: 650 }];

test("connections, catalogue, imports and catalogue jobs work as their page says", async () => {
  const person = await signUp(s, 100 * price);
  await s.order("fal", { plain: true });
  const { src } = await standIn("/files/101.png", { method: "PUT", body: tee });
  const [dress, hat] = await shop(
    ["createProduct", { title: "Linen dress", images: images(src) }],
    ["createProduct", { title: "Hat", images: images("ftp://cdn.example/hat.png") }],
  );
  await shop(["createCollection", "Summer", [dress!.id]]);
  const location = {
    search: "",
    url: "",
    assign: (url: string) => {
      location.url = url;
    },
  };
  await runPage(
    s,
    "commerce.md",
    person,
    {
      begun: async () => {
        location.search = new URL(await hop(await hop(location.url))).search;
      },
      account: ({ account, accounts }) => {
        expect(account).toMatchObject({ provider: "shopify", status: "active" });
        expect(accounts).toMatchObject([{ id: account.id, status: "active" }]);
      },
      synced: ({ synced }) => expect(synced).toMatchObject({ kind: "full", status: "completed" }),
      product: ({ products, product, scarce }) => {
        expect(products).toMatchObject([{ title: "Linen dress" }]);
        expect(product.variants).toHaveLength(1);
        expect(scarce.length).toBeGreaterThan(0);
      },
      hungGarment: ({ hungGarment, linked, shopCollections }) => {
        expect(hungGarment).toMatchObject({ name: "Linen dress", image_status: "accepted" });
        expect(shopCollections).toMatchObject([{ title: "Summer", product_count: 1 }]);
        expect(linked).toMatchObject({ name: "Summer", auto_sync_enabled: true });
      },
      checkedBatch: ({ checkedBatch, faulty }) => {
        expect(checkedBatch).toMatchObject({ status: "validated", total_rows: 3, valid_rows: 2 });
        expect(faulty).toMatchObject([{ row_number: 2, column_name: "price" }]);
      },
      imported: ({ imported, importedProducts }) => {
        expect(imported).toMatchObject({ status: "completed", imported_count: 2 });
        expect(importedProducts.map(({ title }: Values) => title).sort()).toEqual(["Belt", "Scarf"]);
      },
      brand: async ({ brand, client, wearerPath, wearerFile }) => {
        expect(brand).toMatchObject({ brand_voice: "warm", products_analyzed: 2 });
        const { error } = await client.storage.from("studio-uploads").upload(wearerPath, wearerFile);
        expect(error).toBeNull();
      },
      started: ({ forecast, offer, started }) => {
        expect(forecast).toMatchObject({
          products: 2,
          pictures: 4,
          amount_micro: 4 * price,
          affordable: true,
        });
        expect(offer).toContain("2 products");
        expect(started.status).toBe("pending");
      },
      job: async ({ job, results, account, commerce, follow }) => {
        expect(job).toMatchObject({
          total_products: 2,
          items_succeeded: 1,
          items_failed: 1,
          items_published: 1,
        });
        expect(results).toHaveLength(2);
        await shop(["updateProduct", hat!.id, { images: images(src) }]);
        const args = { account_id: account.id, kind: "full" };
        const { data: sync } = await commerce.rpc("request_shopify_sync", args).throwOnError();
        await follow(commerce, "shopify_syncs", sync.id);
      },
      jobs: ({ retried, mended, jobs }) => {
        expect(mended).toMatchObject({ id: retried.id, items_succeeded: 2, items_published: 2 });
        expect(jobs).toMatchObject([{ id: retried.id, actual_cost_micro: 4 * price }]);
      },
    },
    {
      location,
      csvFile: new Blob(["id,Artikel,price\n1,Scarf,19.90\n2,Shoe,cheap\n3,Belt,29.00\n"], {
        type: "text/csv",
      }),
      wearerPath: `${person.workspaceId}/ada.jpg`,
      wearerFile: await sample("person-ada.jpg", "image/jpeg"),
    },
  );
}, 180_000);
