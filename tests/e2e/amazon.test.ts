import type { SupabaseClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const s = useStack();
type Row = { [name: string]: unknown };

const standIn = async (body: unknown) =>
  (
    await fetch(`${s.stack.standins.amazon}/_sellers/A1LOCALSELLER`, {
      method: "POST",
      body: JSON.stringify(body),
    })
  ).json();
/** Follows one redirect, as a browser would. */
const hop = async (url: string) => (await fetch(url, { redirect: "manual" })).headers.get("location")!;

test("a seller connects Amazon, and the listings become products that follow what changes there", async () => {
  const person = await s.person(0);
  const commerce = (person.client as unknown as SupabaseClient).schema("commerce");
  const integrations = (person.client as unknown as SupabaseClient).schema("integrations");
  const listings = Array.from({ length: 45 }, (_, n) => ({
    sku: `TEE-${n}`,
    title: `Tee ${n}`,
    price: "19.90",
    channel: n % 2 === 0 ? "amazon" : "merchant",
    quantity: n,
  }));
  await standIn({ storeName: "Atelier", listings });

  const started = must(
    await person.client.functions.invoke("oauth/amazon/start", {
      body: { workspace_id: person.workspaceId, return_to: "http://127.0.0.1:3000/shops" },
    }),
  );
  const target = new URL(await hop(await hop(started.url)));
  expect(target.searchParams.get("error")).toBeNull();
  const account = must(
    await integrations.rpc("claim_connection", { code: target.searchParams.get("connection") }),
  ) as Row;
  expect(account).toMatchObject({ display_name: "Atelier", selling_status: "active", status: "active" });

  const imported = (count: number) =>
    eventually(`${count} imports`, async () => {
      const batches = must(
        await commerce.from("product_import_batches").select("*").eq("connected_account_id", account.id),
      ) as Row[];
      const failed = batches.find(({ status }) => status === "failed");
      if (failed) throw new Error(String(failed.error_message));
      return batches.filter(({ status }) => status === "completed").length === count;
    });
  await imported(1);
  const products = async () =>
    must(
      await commerce
        .from("imported_products")
        .select("title, price_cents, vendor, images, fulfilled_by, inventory_quantity")
        .order("external_id"),
    ) as Row[];
  expect(await products()).toHaveLength(45);
  expect((await products())[0]).toMatchObject({ price_cents: 1990, vendor: "Atelier" });

  const stock = async () => (await products()).reduce((sum, row) => sum + Number(row.inventory_quantity), 0);
  expect(await stock()).toBe((44 * 45) / 2);

  await standIn({
    listings: [{ sku: "TEE-0", title: "Silk tee", price: "49.90" }],
    stock: { "TEE-2": 1002, "TEE-3": 1003 },
  });
  must(await commerce.rpc("request_amazon_import", { account_id: account.id }));
  await imported(2);
  expect((await products())[0]).toMatchObject({ title: "Silk tee", price_cents: 4990 });
  expect(await stock()).toBe((44 * 45) / 2 + 2000);

  const trail = must(
    await integrations
      .from("oauth_audit_log")
      .select("event_type")
      .eq("provider", "amazon")
      .order("created_at"),
  ) as Row[];
  expect(trail.map(({ event_type }) => event_type)).toEqual([
    "oauth_initiated",
    "oauth_callback_success",
    "account_connected",
  ]);
  must(await person.client.functions.invoke("oauth/disconnect", { body: { account_id: account.id } }));
  expect(
    await s.sql("select 1 from integrations.account_secrets where account_id = $1", [account.id]),
  ).toEqual([]);
}, 90_000);
