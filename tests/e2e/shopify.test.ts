import type { SupabaseClient } from "@supabase/supabase-js";
import { describe, expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const s = useStack();
const domain = "atelier.myshopify.com";

const standIn = async (path: string, body?: unknown) => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.shopify}/_shops/${domain}${path}`, init)).json();
};
const act = (...actions: unknown[][]) => standIn("", actions);
/** Follows one redirect, as a browser would. */
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;
type Row = Record<string, never> & { [name: string]: unknown };
type Person = Awaited<ReturnType<typeof s.person>>;
const commerce = (person: Person) => (person.client as unknown as SupabaseClient).schema("commerce" as never);
const rows = async (person: Person, table: string, columns = "*") =>
  must(await commerce(person).from(table).select(columns).is("deleted_at", null)) as unknown as Row[];

describe("a merchant", () => {
  test("connects a shop; its catalog comes, follows what happens there, and survives lost webhooks", async () => {
    const person = await s.person(0);
    const [{ id: dress }] = await act(
      [
        "createProduct",
        { title: "Linen dress", tags: ["summer"], variants: [{ options: ["S"] }, { options: ["M"] }] },
      ],
      ["createProduct", { title: "Wool coat" }],
    );
    const store = await act(["addLocation", "Store"]).then(([id]) => id as string);
    const shop = await standIn("");
    const items = shop.products[dress].variants.map(({ inventory_item_id }: Row) => inventory_item_id);
    await act(
      ["setStock", items[0], store, 4],
      ["setStock", items[1], store, 6],
      ["createCollection", "Summer", [dress]],
    );

    const started = must(
      await person.client.functions.invoke("oauth/shopify/start", {
        body: { workspace_id: person.workspaceId, account: domain, return_to: "http://127.0.0.1:3000/shops" },
      }),
    );
    const target = new URL(await hop(await hop(started.url)));
    expect(target.searchParams.get("error")).toBeNull();
    const account = must(
      await (person.client as unknown as SupabaseClient)
        .schema("integrations")
        .rpc("claim_connection", { code: target.searchParams.get("connection") }),
    ) as { id: string };
    const accountId = account.id;

    const synced = await eventually("the first sync", async () => {
      const [sync] = must(await commerce(person).from("shopify_syncs").select("*")) as unknown as Row[];
      return sync?.completed_at ? sync : undefined;
    });
    expect(synced).toMatchObject({ kind: "full", status: "completed", progress: 100 });
    expect(
      (await rows(person, "shopify_products", "title, total_inventory, variants_count, collection_ids")).sort(
        (a, b) => (String(a.title) < String(b.title) ? -1 : 1),
      ),
    ).toMatchObject([
      { title: "Linen dress", total_inventory: 10, variants_count: 2, collection_ids: [expect.any(String)] },
      { title: "Wool coat", total_inventory: 0, variants_count: 1, collection_ids: [] },
    ]);

    // Subscribed by then, the shop tells of everything itself.
    await eventually("the webhooks", async () => Object.keys((await standIn("")).subscriptions).length >= 14);
    await act(["updateProduct", dress, { title: "Silk dress" }], ["setStock", items[0], store, 1]);
    await eventually("the change", async () => {
      const [product] = (await rows(person, "shopify_products")).filter(
        ({ title }) => title === "Silk dress",
      );
      return product?.total_inventory === 7 && product.lowest_stock_level === 1;
    });
    const found = must(
      await commerce(person).rpc("search_products", { workspace_id: person.workspaceId, query: "silk" }),
    );
    expect(found).toMatchObject([{ title: "Silk dress" }]);

    // What is lost is made good by a sync.
    await fetch(`${s.stack.standins.shopify}/_control`, {
      method: "POST",
      body: JSON.stringify({ lose_webhook: true }),
    });
    await act(["deleteProduct", dress], ["createProduct", { title: "Hat" }]);
    await fetch(`${s.stack.standins.shopify}/_control/reset`, { method: "POST" });
    await new Promise((resolve) => setTimeout(resolve, 2100));
    must(await commerce(person).rpc("request_shopify_sync", { account_id: accountId, kind: "full" }));
    await eventually("the shop as it is", async () => {
      const titles = (await rows(person, "shopify_products")).map(({ title }) => title).sort();
      return JSON.stringify(titles) === '["Hat","Wool coat"]';
    });

    await act(["uninstall"]);
    const left = await eventually("the end", async () => {
      const { data } = await person.client
        .schema("integrations")
        .from("connected_accounts")
        .select("*")
        .eq("id", accountId);
      return data?.[0]?.status === "disconnected" ? data[0] : undefined;
    });
    expect(left.disconnected_at).not.toBeNull();
    expect(
      await s.sql("select 1 from integrations.account_secrets where account_id = $1", [accountId]),
    ).toEqual([]);
  }, 120_000);

  test("imports a file of products, after seeing what is wrong with it", async () => {
    const person = await s.person(0);
    const path = `${person.workspaceId}/spring.csv`;
    const lines = Array.from(
      { length: 2000 },
      (_, i) => `p-${i},Product ${i},${i === 7 ? "cheap" : "19.90"}`,
    );
    const file = new Blob([`id,title,price\n${lines.join("\n")}\n`], { type: "text/csv" });
    must(
      await person.client.storage.from("commerce-imports").upload(path, file, { contentType: "text/csv" }),
    );
    const begun = must(
      await commerce(person).rpc("begin_import", { workspace_id: person.workspaceId, path }),
    ) as unknown as { id: string };
    const batch = (status: string) =>
      eventually(`the import ${status}`, async () => {
        const { data } = await commerce(person)
          .from("product_import_batches")
          .select("*")
          .eq("id", begun.id)
          .single();
        const row = data as Row | null;
        if (row?.status === "failed") throw new Error(String(row.error_message));
        return row?.status === status ? row : undefined;
      });
    expect(await batch("validated")).toMatchObject({
      total_rows: 2000,
      valid_rows: 1999,
      validation_errors: [{ row: 8, column: "price", code: "not_a_price" }],
    });
    must(await commerce(person).rpc("confirm_import", { batch_id: begun.id }));
    expect(await batch("completed")).toMatchObject({ imported_count: 1999 });
  }, 60_000);
});
