import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { importCsv } from "../../functions/worker/handlers/csv-import.ts";
import { JobError } from "../../functions/worker/job.ts";
import { functionsDatabase, keptLog, workOnce } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();

const files = new Map<string, Uint8Array<ArrayBuffer>>();
let attempts = 0;
const storage = {
  signedUrl: async (_: string, path: string) => {
    attempts++;
    if (!files.has(path)) throw new JobError("unknown_image", "gone", { retry: false });
    return `https://storage.test/${path}`;
  },
};
/** Serves the files as storage does: whole or from a byte on, in pieces that end anywhere. */
const fetcher: typeof fetch = async (input, init) => {
  const bytes = files.get(String(input).replace("https://storage.test/", ""))!;
  const range = /bytes=(\d+)-(\d*)/.exec(new Headers(init?.headers).get("range") ?? "");
  const from = Number(range?.[1] ?? 0);
  if (range && from >= bytes.length) return new Response(null, { status: 416 });
  const part = bytes.slice(from, range?.[2] ? Number(range[2]) + 1 : undefined);
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      for (let at = 0; at < part.length; at += 7919) controller.enqueue(part.slice(at, at + 7919));
      controller.close();
    },
  });
  const headers = { "content-length": String(part.length) };
  return new Response(body, { status: range ? 206 : 200, headers });
};

let ada: { id: string; workspaceId: string };
beforeEach(async () => {
  ada = await testDb.createUser();
});
const adaCalls = (name: string, args: Record<string, unknown>) => testDb.user(ada.id).call(name, args);

function upload(text: string | Uint8Array<ArrayBuffer>): string {
  const path = `${ada.workspaceId}/${randomUUID()}.csv`;
  files.set(path, typeof text === "string" ? new TextEncoder().encode(text) : text);
  return path;
}
const begin = (path: string, more: object = {}) =>
  adaCalls("commerce.begin_import", { workspace_id: ada.workspaceId, path, ...more });
const batch = async (id: string) =>
  (await testDb.user(ada.id).query("select * from commerce.product_import_batches where id = $1", [id]))[0]!;

/** Works until nothing is left; says in how many attempts. */
async function work(limits = { pageRows: 500, attemptRows: 15_000, mostRows: 100_000 }): Promise<number> {
  const handlers = { "commerce.csv_import": importCsv({ storage, fetch: fetcher }, limits) };
  attempts = 0;
  for (;;) {
    await workOnce({ db, handlers, log });
    await testDb.query("select ops.tick()");
    const [left] = await testDb.query("select 1 from ops.jobs where finished_at is null limit 1");
    if (!left) return attempts;
  }
}

const products = (columns = "external_id, title, price_cents, images, tags, import_row_number as row") =>
  testDb
    .user(ada.id)
    .query(`select ${columns} from commerce.imported_products where workspace_id = $1 order by external_id`, [
      ada.workspaceId,
    ]);

describe("a file", () => {
  test("is checked first, and imported when confirmed", async () => {
    const path = upload(
      "Handle,Title,Body (HTML),Variant Price,Image Src,Tags,Brand\r\n" +
        'tee,"Tee, white","<p>Soft\nand warm</p>","1,299.90",https://a.test/1.png https://a.test/2.png,"summer, new",Acme\r\n' +
        "hat,Hat,,19,,,\r\n",
    );
    const { id } = await begin(path, { file_name: "spring.csv" });
    await work();
    expect(await batch(id)).toMatchObject({
      status: "validated",
      total_rows: 2,
      valid_rows: 2,
      invalid_rows: 0,
      columns: { title: ["Title"], external_id: ["Handle"], price: ["Variant Price"] },
      preview: [{ row: 1, external_id: "tee", title: "Tee, white", price_cents: 129990 }, { row: 2 }],
    });
    expect(await products()).toEqual([]);
    await adaCalls("commerce.confirm_import", { batch_id: id });
    await work();
    expect(await batch(id)).toMatchObject({ status: "completed", imported_count: 2, progress: 100 });
    expect(await products()).toEqual([
      { external_id: "hat", title: "Hat", price_cents: 1900, images: [], tags: [], row: 2 },
      {
        external_id: "tee",
        title: "Tee, white",
        price_cents: 129990,
        images: ["https://a.test/1.png", "https://a.test/2.png"],
        tags: ["summer", "new"],
        row: 1,
      },
    ]);
    await expectError(adaCalls("commerce.confirm_import", { batch_id: id }), "import_not_ready", "PT409");
  });

  test("has its errors told by row and column; only its valid rows are imported", async () => {
    const path = upload(
      `id;name;price;image;currency\n1;Good;"19,90";;eur\n2;;5;;\n;No id;5;;\n4;Bad price;cheap;;\n` +
        `5;Bad picture;1;ftp://x/y;DOLLAR\n6;${"x".repeat(501)};1;;\n7;Too much;1;;EUR;more\n`,
    );
    const { id } = await begin(path, { auto_import: true });
    await work();
    const done = await batch(id);
    expect(done).toMatchObject({ status: "completed", total_rows: 7, valid_rows: 1, invalid_rows: 6 });
    const told = done.validation_errors.map((error: Record<string, unknown>) => [
      error.row,
      error.column,
      error.code,
    ]);
    expect(told).toEqual([
      [2, "name", "missing"],
      [3, "id", "missing"],
      [4, "price", "not_a_price"],
      [5, "currency", "not_a_currency"],
      [5, "image", "not_an_address"],
      [6, "name", "too_long"],
      [7, "row", "too_many_columns"],
    ]);
    expect(await products("external_id, price_cents, currency")).toEqual([
      { external_id: "1", price_cents: 1990, currency: "EUR" },
    ]);
    expect(
      await testDb
        .user(ada.id)
        .query("select value from commerce.product_import_errors where batch_id = $1 and row_number = 4", [
          id,
        ]),
    ).toEqual([{ value: "cheap" }]);
  });

  test("with signs that no text may hold, or an error's value cut within one, is told of like any other", async () => {
    const path = upload(
      `id;title\0;price;image;variants\n1;A\0B;5;;\n2;Shirt;cheap\0;;\n` +
        `3;${"x".repeat(199)}${"😀".repeat(200)};5;;\n4;Shirt;5;ftp://x/${"y".repeat(191)}😀;\n` +
        `5;Shirt;5;http://x/a\0b.jpg;\n6;Shirt;5;;"[{""size"": ""\\u0000""}]"\n7;Shirt 😀;5;;"[{""a"": ""\\\\u0000""}]"\n`,
    );
    const { id } = await begin(path, { auto_import: true });
    await work();
    const done = await batch(id);
    expect(done).toMatchObject({ status: "completed", valid_rows: 1, invalid_rows: 6 });
    expect(done.validation_errors.map((error: Record<string, unknown>) => error.code)).toEqual([
      "not_utf8",
      "not_utf8",
      "too_long",
      "not_an_address",
      "not_an_address",
      "not_a_list",
    ]);
    expect(await products("title")).toEqual([{ title: "Shirt 😀" }]);
  });

  test("with other names is mapped by its owner", async () => {
    const path = upload("Artikel,Bezeichnung\n1,Hemd\n");
    const { id } = await begin(path, {
      column_mapping: { external_id: "Artikel", title: "Bezeichnung" },
      auto_import: true,
    });
    await work();
    expect(await batch(id)).toMatchObject({ status: "completed" });
    expect(await products("external_id, title")).toEqual([{ external_id: "1", title: "Hemd" }]);
  });

  test.each([
    ["no title", "id,price\n1,2\n", {}, "missing_columns"],
    ["a mapping to nothing", "id,title\n1,x\n", { column_mapping: { title: "nowhere" } }, "unknown_columns"],
    ["no rows", "id,title\n", {}, "empty_file"],
    ["nothing", "", {}, "empty_file"],
    ["an open quote", 'id,title\n1,"x\n2,y\n', {}, "invalid_file"],
    ["too many rows", `id,title\n${"1,x\n".repeat(11)}`, {}, "too_many_rows"],
  ])("with %s fails with the reason", async (_, text, more, code) => {
    const { id } = await begin(upload(text), more);
    await work({ pageRows: 5, attemptRows: 1000, mostRows: 10 });
    const { status, error_message } = await batch(id);
    expect([status, error_message.split(":")[0]]).toEqual(["failed", code]);
  });

  test("that has been deleted fails with the reason", async () => {
    const { id } = await begin(`${ada.workspaceId}/gone.csv`);
    await work();
    expect((await batch(id)).error_message).toMatch(/^unknown_file/);
  });

  test("read in pieces of any size ends the same, in as many attempts as it takes", async () => {
    const lines = Array.from({ length: 200 }, (_, i) => `${i},"Näme ""${i}""\r\nline",${i}.5,"a${i % 7}, ß"`);
    const text = `\uFEFFid,title,price,tags\r\n${lines.join("\r\n")}`;
    const { id } = await begin(upload(text), { auto_import: true });
    const made = await work({ pageRows: 7, attemptRows: 30, mostRows: 1000 });
    expect(made).toBeGreaterThan(10);
    expect(await batch(id)).toMatchObject({ status: "completed", total_rows: 200, imported_count: 200 });
    const stored = await products("external_id, title, price_cents, tags");
    expect(stored.find(({ external_id }) => external_id === "123")).toEqual({
      external_id: "123",
      title: 'Näme "123"\r\nline',
      price_cents: 12350,
      tags: ["a4", "ß"],
    });
  });

  test("of which the last of rows with one id counts, and a later file replaces it", async () => {
    const first = await begin(upload("id,title\n1,Old\n2,Two\n1,New\n"), { auto_import: true });
    await work({ pageRows: 1, attemptRows: 1000, mostRows: 1000 });
    expect(await batch(first.id)).toMatchObject({ valid_rows: 3, imported_count: 2 });
    expect(await products("external_id, title")).toEqual([
      { external_id: "1", title: "New" },
      { external_id: "2", title: "Two" },
    ]);
    await begin(upload("id,title\n2,Changed\n"), { auto_import: true });
    await work();
    expect(await products("external_id, title")).toEqual([
      { external_id: "1", title: "New" },
      { external_id: "2", title: "Changed" },
    ]);
  });

  test("of 50,000 rows is imported whole", async () => {
    const lines = Array.from(
      { length: 50_000 },
      (_, i) => `sku-${i},Product ${i},${i % 100}.90,https://a.test/${i}.png,"a, b"`,
    );
    const path = upload(`sku,title,price,image,tags\n${lines.join("\n")}\n`);
    const { id } = await begin(path, { auto_import: true });
    const began = performance.now();
    const made = await work();
    console.info(`50,000 rows: ${Math.round(performance.now() - began)} ms in ${made} attempts`);
    expect(await batch(id)).toMatchObject({
      status: "completed",
      total_rows: 50_000,
      imported_count: 50_000,
    });
  }, 120_000);
});

describe("rights", () => {
  test("members begin imports in their own folder, viewers and strangers none", async () => {
    const viewer = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [ada.workspaceId, viewer.id],
    );
    const stranger = await testDb.createUser();
    const request = { workspace_id: ada.workspaceId, path: upload("id,title\n1,x\n") };
    await expectError(testDb.user(viewer.id).call("commerce.begin_import", request), "role_too_low", "PT403");
    await expectError(
      testDb.user(stranger.id).call("commerce.begin_import", request),
      "unknown_workspace",
      "PT404",
    );
    const foreign = { workspace_id: stranger.workspaceId, path: request.path };
    await expectError(
      testDb.user(stranger.id).call("commerce.begin_import", foreign),
      "invalid_argument",
      "PT400",
    );
    const { id } = await begin(request.path);
    for (const step of ["confirm", "cancel"]) {
      await expectError(
        testDb.user(stranger.id).call(`commerce.${step}_import`, { batch_id: id }),
        "unknown_import",
        "PT404",
      );
    }
    expect((await adaCalls("commerce.cancel_import", { batch_id: id })).status).toBe("cancelled");
  });

  test("what is cancelled while it is read writes no further row", async () => {
    const { id } = await begin(upload("id,title\n1,x\n"));
    await work();
    await adaCalls("commerce.confirm_import", { batch_id: id });
    await adaCalls("commerce.cancel_import", { batch_id: id });
    await work();
    expect(await batch(id)).toMatchObject({ status: "cancelled", imported_count: 0 });
    expect(await products()).toEqual([]);
  });
});
