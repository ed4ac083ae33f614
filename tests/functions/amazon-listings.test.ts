import { describe, expect, test } from "vitest";
import { list, marketplace, restock } from "../../supabase/local/standins/amazon/state.ts";
import { expectError } from "../helpers/errors.ts";
import {
  account,
  ada,
  asked,
  batches,
  connect,
  control,
  data,
  goOn,
  hears,
  pauses,
  request,
  seller,
  testDb,
  work,
} from "./amazon-stage.ts";

const products = () =>
  testDb.query(
    "select * from commerce.imported_products where workspace_id = $1 and source = 'amazon' order by external_id",
    [ada.workspaceId],
  );
const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();

describe("a seller's listings", () => {
  test("become products when the seller is connected, with what the catalog knows", async () => {
    list(data, seller, {
      sku: "TEE-1",
      title: "Linen tee",
      price: "19.90",
      listPrice: 25,
      attributes: {
        brand: ["Atelier"],
        bullet_point: ["Soft", "Light"],
        color: ["White"],
        material: ["Linen"],
        fit_type: ["Regular"],
      },
    });
    list(data, seller, { sku: "BARE", price: null });
    await connect();
    await work();
    const [bare, tee] = await products();
    expect(tee).toMatchObject({
      external_id: "TEE-1",
      sku: "TEE-1",
      title: "Linen tee",
      description: "Soft\nLight",
      price_cents: 1990,
      compare_at_price_cents: 2500,
      currency: "USD",
      product_type: "SHIRT",
      vendor: seller.storeName,
      tags: ["Shirts"],
      garment_color: "White",
      garment_material: "Linen",
      garment_fit: "Regular",
    });
    expect(tee?.images).toEqual([
      expect.stringMatching(/B0\d+\.jpg$/),
      expect.stringMatching(/B0\d+-2\.jpg$/),
    ]);
    expect(bare).toMatchObject({ price_cents: null, title: "Item BARE" });
    expect(await batches()).toMatchObject([
      {
        source: "amazon",
        status: "completed",
        progress: 100,
        imported_count: 2,
        valid_rows: 2,
        source_file_name: seller.storeName,
      },
    ]);
    const [calls] = asked;
    expect(Object.fromEntries(calls!.searchParams)).toMatchObject({
      marketplaceIds: marketplace,
      sortBy: "lastUpdatedDate",
      sortOrder: "ASC",
      pageSize: "20",
    });
  });

  test("are read page by page, beyond the thousand of one search, within the usage plan", async () => {
    for (let n = 0; n < 1045; n++)
      list(data, seller, { sku: `S-${String(n).padStart(4, "0")}`, updatedAt: at(n) });
    await connect();
    await work();
    for (let turn = 0; turn < 5 && (await batches())[0]?.status === "importing"; turn++) await goOn();
    expect((await batches())[0]).toMatchObject({ status: "completed", imported_count: 1045 });
    expect(await products()).toHaveLength(1045);
    expect(control.counts().throttled).toBeUndefined();
    const again = asked.filter((url) => url.searchParams.get("lastUpdatedAfter") === at(999));
    expect(again.length).toBeGreaterThanOrEqual(1);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(1000);
  });

  test("are read on from where Amazon asked us to slow down, and no attempt has failed", async () => {
    for (let n = 0; n < 50; n++) list(data, seller, { sku: `S-${n}`, updatedAt: at(n) });
    await connect();
    control.add({ fail: "status", http_status: 429, times: 1 });
    await work();
    expect((await batches())[0]).toMatchObject({ status: "importing" });
    expect(
      await testDb.query(
        "select state, failed_attempts from ops.jobs where kind = 'commerce.amazon_import' and workspace_id = $1",
        [ada.workspaceId],
      ),
    ).toEqual([{ state: "waiting", failed_attempts: 0 }]);
    await goOn();
    expect((await batches())[0]).toMatchObject({ status: "completed", imported_count: 50 });
  });

  test("are read again after Amazon was out of order", async () => {
    list(data, seller, { sku: "A" });
    await connect();
    control.add({ fail: "status", http_status: 503, times: 1 });
    await work();
    expect((await batches())[0]).toMatchObject({ status: "importing" });
    await goOn();
    expect((await batches())[0]).toMatchObject({ status: "completed" });
  });

  test("that have no name are told by row, and the others are imported", async () => {
    list(data, seller, { sku: "A", title: "", updatedAt: at(1) });
    list(data, seller, { sku: "B", updatedAt: at(2) });
    await connect();
    await work();
    expect((await batches())[0]).toMatchObject({
      total_rows: 2,
      valid_rows: 1,
      invalid_rows: 1,
      imported_count: 1,
    });
    expect(
      await testDb.query(
        "select row_number, column_name, code, value from commerce.product_import_errors where workspace_id = $1",
        [ada.workspaceId],
      ),
    ).toEqual([{ row_number: 1, column_name: "itemName", code: "missing", value: "A" }]);
  });

  test("whose names are too long are cut, and never within a character", async () => {
    list(data, seller, { sku: "A", title: `${"x".repeat(499)}😀`, updatedAt: at(1) });
    await connect();
    await work();
    expect((await batches())[0]).toMatchObject({ status: "completed", imported_count: 1 });
  });

  test("that changed are read alone the next time; of a full import, what is gone is archived", async () => {
    const long = new Date(Date.now() - 86_400_000).toISOString();
    for (const sku of ["A", "B", "C"]) list(data, seller, { sku, updatedAt: long });
    await connect();
    await work();
    list(data, seller, { sku: "B", title: "Renamed" });
    seller.listings = seller.listings.filter(({ sku }) => sku !== "C");
    asked.length = 0;
    await request();
    await work();
    expect(asked[0]!.searchParams.get("lastUpdatedAfter")).toMatch(/^\d{4}-\d\d-\d\dT/);
    expect((await batches())[1]).toMatchObject({ status: "completed", imported_count: 1 });
    expect((await products()).map(({ title, status }) => [title, status])).toEqual([
      ["Item A", "pending"],
      ["Renamed", "pending"],
      ["Item C", "pending"],
    ]);
    await request("full");
    await work();
    expect((await products()).map(({ status }) => status)).toEqual(["pending", "pending", "archived"]);
    list(data, seller, { sku: "C" });
    await request();
    await work();
    expect((await products()).map(({ status }) => status)).toEqual(["pending", "pending", "pending"]);
  });

  test("come without pictures of the catalog where our app may not read it", async () => {
    list(data, seller, { sku: "A", attributes: { brand: ["Atelier"] } });
    data.forbidden = ["searchCatalogItems"];
    await connect();
    await work();
    expect(await products()).toMatchObject([
      { vendor: "Atelier", images: [expect.stringContaining("/I/B0")] },
    ]);
    expect((await batches())[0]).toMatchObject({ status: "completed" });
  });

  test("bring what is in stock, the merchant's and Amazon's, and follow it", async () => {
    const long = new Date(Date.now() - 86_400_000).toISOString();
    const old = { updatedAt: long, stockedAt: long };
    list(data, seller, { sku: "OWN", quantity: 7, ...old });
    list(data, seller, { sku: "FBA", channel: "amazon", quantity: 30, ...old });
    list(data, seller, { sku: "FBA,2", channel: "amazon", quantity: 4, ...old });
    list(data, seller, { sku: "GONE", channel: null, ...old });
    const stock = async () =>
      (await products()).map(({ external_id, fulfilled_by, inventory_quantity }) => [
        external_id,
        fulfilled_by,
        inventory_quantity,
      ]);
    await connect();
    await work();
    expect(await stock()).toEqual([
      ["FBA", "amazon", 30],
      ["FBA,2", "amazon", null],
      ["GONE", null, null],
      ["OWN", "merchant", 7],
    ]);
    restock(seller, { FBA: 12, "FBA,2": 9, OWN: 0 });
    await request();
    await work();
    expect(await stock()).toEqual([
      ["FBA", "amazon", 12],
      ["FBA,2", "amazon", 9],
      ["GONE", null, null],
      ["OWN", "merchant", 0],
    ]);
    expect((await batches())[1]).toMatchObject({ status: "completed", imported_count: 1 });
  });

  test("bring changes of stock page by page, from the start when Amazon asked us to slow down", async () => {
    for (let n = 0; n < 120; n++) list(data, seller, { sku: `S-${n}`, channel: "amazon" });
    await connect();
    await work();
    restock(seller, Object.fromEntries(Array.from({ length: 120 }, (_, n) => [`S-${n}`, n])));
    for (const listing of seller.listings) listing.updatedAt = "2026-01-01T00:00:00Z";
    await request();
    asked.length = 0;
    hears.call = ({ searchParams }) => {
      if (!searchParams.has("nextToken")) return;
      control.add({ fail: "status", http_status: 429, times: 1 });
      hears.call = undefined;
    };
    await work();
    expect((await batches())[1]).toMatchObject({ status: "importing" });
    await goOn();
    expect((await batches())[1]).toMatchObject({ status: "completed" });
    expect(
      asked
        .filter(({ pathname }) => pathname.startsWith("/fba"))
        .map((url) => url.searchParams.has("nextToken")),
    ).toEqual([false, true, false, true, true]);
    const quantities = (await products()).map(({ inventory_quantity }) => inventory_quantity as number);
    expect(quantities.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_, n) => n));
  });

  test("come without Amazon's stock where our app may not read it", async () => {
    list(data, seller, { sku: "FBA", channel: "amazon" });
    list(data, seller, { sku: "OWN" });
    data.forbidden = ["getInventorySummaries"];
    await connect();
    await work();
    expect(await products()).toMatchObject([{ inventory_quantity: null }, { inventory_quantity: 5 }]);
    await request();
    await work();
    expect((await batches()).map(({ status }) => status)).toEqual(["completed", "completed"]);
  });

  test("that our app may not read at all fail the import and show on the account", async () => {
    data.forbidden = ["searchListingsItems"];
    await connect();
    await work();
    expect((await batches())[0]).toMatchObject({
      status: "failed",
      error_message: expect.stringMatching(/^access_restricted: /),
    });
    expect(
      await testDb.query("select status from integrations.connected_accounts where id = $1", [account]),
    ).toEqual([{ status: "error" }]);
    await expectError(request(), "account_not_active", "PT409");
  });

  test("wait for a new token when the old one has ended", async () => {
    list(data, seller, { sku: "A" });
    await connect();
    for (const token of Object.values(data.tokens)) if (token.seller === seller.id) token.until = 0;
    await testDb.query("update integrations.connected_accounts set token_expires_at = now() where id = $1", [
      account,
    ]);
    await work();
    expect((await batches())[0]).toMatchObject({ status: "importing" });
    for (const token of Object.values(data.tokens)) token.until = Number.POSITIVE_INFINITY;
    await goOn();
    expect((await batches())[0]).toMatchObject({ status: "completed" });
  });
});
