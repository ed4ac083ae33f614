// The storage API through supabase-js, on a stack of its own: what clients do, and what row security refuses.

import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Stack, startStack } from "../../supabase/local/stack.ts";
import { Tokens } from "../../supabase/local/storage/tokens.ts";

let stack: Stack;
let db: pg.Client;
let service: SupabaseClient;
let anna: SupabaseClient;
let bert: SupabaseClient;
let nobody: SupabaseClient;
let annasId: string;

const png = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.alloc(5000, 7)]);
const options = { auth: { persistSession: false, autoRefreshToken: false } };

async function signUp(email: string) {
  const client = createClient(stack.apiUrl, stack.publishableKey, options);
  const { data, error } = await client.auth.signUp({ email, password: "a long password" });
  if (error || !data.user) throw error ?? new Error("no user");
  return { client, id: data.user.id };
}

const text = async (answer: { data: Blob | null; error: unknown }) => {
  expect(answer.error).toBeNull();
  return (answer.data as Blob).text();
};

beforeAll(async () => {
  stack = await startStack({
    ephemeral: true,
    migrate: false,
    standIns: false,
    functions: [],
    clockwork: false,
    log: () => undefined,
  });
  db = new pg.Client({ connectionString: stack.dbUrl });
  await db.connect();
  // Everybody has a folder named by the own id; a shared bucket is open to readers who are signed in.
  await db.query(`
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
      ('own', 'own', false, 20000, null), ('pictures', 'pictures', false, null, '{image/*}'),
      ('open', 'open', true, null, null);
    create policy "Own folder" on storage.objects to authenticated
      using (bucket_id in ('own', 'pictures', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text)
      with check (bucket_id in ('own', 'pictures', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text);
  `);
  service = createClient(stack.apiUrl, stack.secretKey, options);
  nobody = createClient(stack.apiUrl, stack.publishableKey, options);
  const first = await signUp("anna@example.com");
  anna = first.client;
  annasId = first.id;
  bert = (await signUp("bert@example.com")).client;
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

const own = (client = anna) => client.storage.from("own");

describe("uploads", () => {
  test("take a Blob, a File, a Buffer, a string and a stream, and give the same bytes back", async () => {
    const stream = () =>
      new ReadableStream<Uint8Array>({
        start(controller) {
          for (const part of ["one ", "two ", "three"]) controller.enqueue(new TextEncoder().encode(part));
          controller.close();
        },
      });
    const bodies: Record<string, [Parameters<ReturnType<typeof own>["upload"]>[1], string]> = {
      blob: [new Blob(["a blob"], { type: "text/plain" }), "a blob"],
      file: [new File(["a file"], "odd name.txt", { type: "text/plain" }), "a file"],
      buffer: [Buffer.from("a buffer"), "a buffer"],
      string: ["a string", "a string"],
      stream: [stream(), "one two three"],
    };
    for (const [name, [body, expected]] of Object.entries(bodies)) {
      const path = `${annasId}/kinds/${name}.txt`;
      const { data, error } = await own().upload(path, body, { contentType: "text/plain" });
      expect(error, name).toBeNull();
      expect(data).toMatchObject({
        path,
        fullPath: `own/${path}`,
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      });
      expect(await text(await own().download(path)), name).toBe(expected);
    }
  });

  test("keep content type, cache control, size and the caller's metadata", async () => {
    const path = `${annasId}/described.png`;
    const file = new File([png], "x.png", { type: "image/png" });
    await own().upload(path, file, { cacheControl: "60", metadata: { colour: "blue" } });
    const { data } = await own().info(path);
    expect(data).toMatchObject({
      size: png.length,
      contentType: "image/png",
      cacheControl: "max-age=60",
      metadata: { colour: "blue" },
    });
    expect((await own().exists(path)).data).toBe(true);
    expect((await own().exists(`${annasId}/nothing.png`)).data).toBe(false);
  });

  test("refuse a name that is taken unless told to replace it", async () => {
    const path = `${annasId}/twice.txt`;
    await own().upload(path, "first");
    const again = await own().upload(path, "second");
    expect(again.error).toMatchObject({ statusCode: "409", message: "The resource already exists" });
    expect(await text(await own().download(path))).toBe("first");
    const replaced = await own().upload(path, "third", { upsert: true });
    expect(replaced.error).toBeNull();
    expect(await text(await own().download(path))).toBe("third");
  });

  test("update replaces what is there and nothing that is not", async () => {
    const path = `${annasId}/updated.txt`;
    const { data: before } = await own().upload(path, "before");
    const { data: after, error } = await own().update(path, "after", { contentType: "text/plain" });
    expect(error).toBeNull();
    expect(after?.id).toBe(before?.id);
    expect(await text(await own().download(path))).toBe("after");
    const missing = await own().update(`${annasId}/missing.txt`, "x");
    expect(missing.error).toMatchObject({ statusCode: "404" });
  });

  test("stop at the bucket's size, however they are sent", async () => {
    const big = Buffer.alloc(20_001);
    const endless = new ReadableStream<Uint8Array>({ pull: (c) => c.enqueue(new Uint8Array(4096)) });
    for (const body of [big, new Blob([big]), new Blob([Buffer.alloc(200_000)]), endless]) {
      const { error } = await own().upload(`${annasId}/big.bin`, body);
      expect(error).toMatchObject({
        statusCode: "413",
        message: "The object exceeded the maximum allowed size",
      });
    }
    expect((await own().upload(`${annasId}/fits.bin`, Buffer.alloc(20_000))).error).toBeNull();
    expect((await own().exists(`${annasId}/big.bin`)).data).toBe(false);
  });

  test("stop at a type the bucket does not take", async () => {
    const pictures = anna.storage.from("pictures");
    const { error } = await pictures.upload(`${annasId}/a.txt`, "text", { contentType: "text/plain" });
    expect(error).toMatchObject({ statusCode: "415", message: "mime type text/plain is not supported" });
    expect((await pictures.upload(`${annasId}/a.png`, png, { contentType: "image/png" })).error).toBeNull();
  });

  test("of the same name at once leave one object", async () => {
    const path = `${annasId}/race.txt`;
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, n) => own().upload(path, `writer ${n}`, { upsert: n % 2 === 0 })),
    );
    expect(answers.some((answer) => answer.error === null)).toBe(true);
    expect(await text(await own().download(path))).toMatch(/^writer \d$/);
    const rows = await db.query("select from storage.objects where name = $1", [path]);
    expect(rows.rowCount).toBe(1);
  });
});

describe("row security", () => {
  test("keeps strangers from reading, writing, moving, copying, signing and removing", async () => {
    const path = `${annasId}/private.txt`;
    await own().upload(path, "mine");
    for (const client of [bert, nobody]) {
      const theirs = own(client);
      expect((await theirs.download(path)).error).toMatchObject({ statusCode: "404" });
      expect((await theirs.upload(`${annasId}/planted.txt`, "x")).error).toMatchObject({ statusCode: "403" });
      expect((await theirs.upload(path, "x", { upsert: true })).error).toMatchObject({ statusCode: "403" });
      expect((await theirs.update(path, "x")).error).toMatchObject({ statusCode: "404" });
      expect((await theirs.move(path, "elsewhere.txt")).error).toMatchObject({ statusCode: "404" });
      expect((await theirs.copy(path, "elsewhere.txt")).error).toMatchObject({ statusCode: "404" });
      expect((await theirs.createSignedUrl(path, 60)).error).toMatchObject({ statusCode: "404" });
      expect((await theirs.createSignedUploadUrl(`${annasId}/new.txt`)).error).toMatchObject({
        statusCode: "403",
      });
      expect((await theirs.remove([path])).data).toEqual([]);
      expect((await theirs.list(annasId)).data).toEqual([]);
      expect((await theirs.info(path)).error).toMatchObject({ statusCode: "404" });
    }
    expect(await text(await own().download(path))).toBe("mine");
  });

  test("keeps an owner from moving and copying into somebody else's folder", async () => {
    const path = `${annasId}/stays.txt`;
    await own().upload(path, "here");
    expect((await own().move(path, "00000000/gone.txt")).error).toMatchObject({ statusCode: "403" });
    expect((await own().copy(path, "00000000/gone.txt")).error).toMatchObject({ statusCode: "403" });
    expect(await text(await own().download(path))).toBe("here");
  });

  test("does not hold the service back", async () => {
    expect((await own(service).upload("anywhere/at/all.txt", "x")).error).toBeNull();
    expect(await text(await own(service).download("anywhere/at/all.txt"))).toBe("x");
  });

  test("lets nobody but the service make buckets, where no policy says otherwise", async () => {
    expect((await anna.storage.createBucket("annas")).error).toMatchObject({ statusCode: "403" });
    expect((await anna.storage.listBuckets()).data).toEqual([]);
  });
});

describe("names", () => {
  test.each(["../outside.txt", "a/../../outside.txt", "a/./b", "a//b", "back\\slash", "nul\0", "umläut"])(
    "%j is refused and touches nothing",
    async (name) => {
      const encoded = name.split("/").map(encodeURIComponent).join("%2F");
      const response = await fetch(`${stack.apiUrl}/storage/v1/object/own/${encoded}`, {
        method: "POST",
        headers: { apikey: stack.secretKey, "content-type": "text/plain" },
        body: "x",
      });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ statusCode: "400", code: "InvalidKey" });
    },
  );

  test("a version that is a path reads no file", async () => {
    await db.query(
      "insert into storage.objects (bucket_id, name, version) values ('own', 'trap', '../../keys.json')",
    );
    expect((await own(service).download("trap")).error).toMatchObject({ statusCode: "404" });
  });
});

describe("listing", () => {
  beforeAll(async () => {
    for (const name of ["b.txt", "a.txt", "Album/one.txt", "Album/two.txt", "zoo/deep/er.txt"]) {
      await own().upload(`${annasId}/listed/${name}`, name);
    }
  });

  test("shows one level, folders without an id", async () => {
    const { data } = await own().list(`${annasId}/listed`);
    expect(data?.map(({ name, id }) => [name, id !== null])).toEqual([
      ["Album", false],
      ["a.txt", true],
      ["b.txt", true],
      ["zoo", false],
    ]);
    expect(data?.[1]?.metadata).toMatchObject({ size: 5 });
  });

  test("searches, sorts and pages", async () => {
    const names = async (options: Parameters<ReturnType<typeof own>["list"]>[1]) =>
      (await own().list(`${annasId}/listed`, options)).data?.map((entry) => entry.name);
    expect(await names({ search: "al" })).toEqual(["Album"]);
    expect(await names({ sortBy: { column: "name", order: "desc" }, limit: 2 })).toEqual(["zoo", "b.txt"]);
    expect(await names({ limit: 2, offset: 2 })).toEqual(["b.txt", "zoo"]);
  });

  test("in its second version pages by a cursor, flat or by folder", async () => {
    const prefix = `${annasId}/listed/`;
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const { data } = await own().listV2({ prefix, limit: 2, ...(cursor ? { cursor } : {}) });
      seen.push(...(data?.objects ?? []).map((object) => object.name.slice(prefix.length)));
      cursor = data?.nextCursor;
      expect(data?.hasNext).toBe(cursor !== undefined);
    } while (cursor);
    expect(seen).toEqual(["Album/one.txt", "Album/two.txt", "a.txt", "b.txt", "zoo/deep/er.txt"]);
    const { data } = await own().listV2({ prefix, with_delimiter: true });
    expect(data?.folders.map((folder) => folder.name)).toEqual([`${prefix}Album/`, `${prefix}zoo/`]);
    expect(data?.objects.map((object) => object.name)).toEqual([`${prefix}a.txt`, `${prefix}b.txt`]);
  });
});

describe("moving, copying, removing", () => {
  test("move gives the same object another name", async () => {
    await own().upload(`${annasId}/from.txt`, "moved");
    expect((await own().move(`${annasId}/from.txt`, `${annasId}/to/there.txt`)).error).toBeNull();
    expect((await own().exists(`${annasId}/from.txt`)).data).toBe(false);
    expect(await text(await own().download(`${annasId}/to/there.txt`))).toBe("moved");
    await own().upload(`${annasId}/from.txt`, "another");
    const taken = await own().move(`${annasId}/from.txt`, `${annasId}/to/there.txt`);
    expect(taken.error).toMatchObject({ statusCode: "409" });
  });

  test("copy makes a second object that lives on when the first is removed", async () => {
    const [from, to] = [`${annasId}/original.txt`, `${annasId}/copies/copy.txt`];
    await own().upload(from, "kept", { metadata: { a: 1 } });
    const { data } = await own().copy(from, to, { destinationBucket: "open" });
    expect(data).toEqual({ path: `open/${to}` });
    await own().remove([from]);
    const copy = anna.storage.from("open");
    expect(await text(await copy.download(to))).toBe("kept");
    expect((await copy.info(to)).data?.metadata).toEqual({ a: 1 });
  });

  test("neither carries into another bucket what that one does not take", async () => {
    const path = `${annasId}/words.txt`;
    await own().upload(path, "words", { contentType: "text/plain" });
    const destinationBucket = "pictures";
    for (const carry of [
      own().move(path, path, { destinationBucket }),
      own().copy(path, path, { destinationBucket }),
    ]) {
      expect((await carry).error).toMatchObject({ statusCode: "415" });
    }
    expect(await text(await own().download(path))).toBe("words");
  });

  test("remove names what it removed, and only that", async () => {
    await own().upload(`${annasId}/rm/a.txt`, "a");
    await own().upload(`${annasId}/rm/b.txt`, "b");
    const { data } = await own().remove([`${annasId}/rm/a.txt`, `${annasId}/rm/none.txt`]);
    expect(data?.map((entry) => entry.name)).toEqual([`${annasId}/rm/a.txt`]);
    expect((await own().list(`${annasId}/rm`)).data?.map((entry) => entry.name)).toEqual(["b.txt"]);
  });

  test("plain SQL cannot remove a row and leave its file", async () => {
    await expect(db.query("delete from storage.objects")).rejects.toThrow(/Direct deletion/);
  });
});

describe("addresses", () => {
  test("a signed address opens one object until it expires", async () => {
    const path = `${annasId}/signed and spaced.txt`;
    await own().upload(path, "signed", { contentType: "text/plain" });
    const { data } = await own().createSignedUrl(path, 60, { download: "other name.txt" });
    const response = await fetch(data?.signedUrl ?? "");
    expect(await response.text()).toBe("signed");
    expect(response.headers.get("content-disposition")).toContain("attachment; filename=");
    const other = (data?.signedUrl ?? "").replace("spaced", "faced");
    expect((await fetch(other)).status).toBe(400);
  });

  test("an expired token and a forged one open nothing", async () => {
    const keys = (jwtSecret: string) => ({
      publishableKey: "",
      secretKey: "",
      jwtSecret,
      encryptionKeys: {},
    });
    const tokens = new Tokens(keys("a secret of this test"));
    const url = "own/a.txt";
    const late = await tokens.sign("download", { url }, -1);
    await expect(tokens.verify("download", late, url)).rejects.toThrow('"exp" claim timestamp check failed');
    const forged = await new Tokens(keys("another secret")).sign("download", { url }, 60);
    await expect(tokens.verify("download", forged, url)).rejects.toThrow("Invalid signature");
    await expect(tokens.verify("download", undefined, url)).rejects.toThrow("missing");
  });

  test("several are signed at once, with a word on those that are not there", async () => {
    const path = `${annasId}/many.txt`;
    await own().upload(path, "many");
    const { data } = await own().createSignedUrls([path, `${annasId}/none.txt`], 60);
    expect(await (await fetch(data?.[0]?.signedUrl ?? "")).text()).toBe("many");
    expect(data?.[1]).toMatchObject({ signedUrl: null, error: expect.stringContaining("does not exist") });
  });

  test("a signed upload needs no account, serves once, and keeps its owner", async () => {
    const path = `${annasId}/handed/over.txt`;
    const { data } = await own().createSignedUploadUrl(path);
    const stranger = own(nobody);
    const first = await stranger.uploadToSignedUrl(path, data?.token ?? "", new Blob(["by hand"]));
    expect(first.error).toBeNull();
    expect(first.data?.fullPath).toBe(`own/${path}`);
    expect(await text(await own().download(path))).toBe("by hand");
    const owner = await db.query("select owner_id from storage.objects where name = $1", [path]);
    expect(owner.rows[0].owner_id).toBe(annasId);
    const second = await stranger.uploadToSignedUrl(path, data?.token ?? "", "again");
    expect(second.error).toMatchObject({ statusCode: "409" });
    const elsewhere = await stranger.uploadToSignedUrl(`${annasId}/else.txt`, data?.token ?? "", "x");
    expect(elsewhere.error).toMatchObject({ code: "InvalidJWT" });
    const big = await own().createSignedUploadUrl(`${annasId}/handed/big.bin`);
    const tooBig = await stranger.uploadToSignedUrl(
      big.data?.path ?? "",
      big.data?.token ?? "",
      Buffer.alloc(30_000),
    );
    expect(tooBig.error).toMatchObject({ statusCode: "413" });
  });

  test("tokens are good for their purpose only", async () => {
    const path = `${annasId}/purpose.txt`;
    await own().upload(path, "x");
    const signed = await own().createSignedUrl(path, 60);
    const token = new URL(signed.data?.signedUrl ?? "").searchParams.get("token") ?? "";
    expect((await own(nobody).uploadToSignedUrl(path, token, "y")).error).toMatchObject({
      code: "InvalidJWT",
    });
    const asLogin = await fetch(`${stack.apiUrl}/rest/v1/anything`, {
      headers: { apikey: stack.publishableKey, authorization: `Bearer ${token}` },
    });
    expect(asLogin.status).toBe(401);
    const session = (await anna.auth.getSession()).data.session;
    const asAddress = `${stack.apiUrl}/storage/v1/object/sign/own/${path}?token=${session?.access_token}`;
    expect((await fetch(asAddress)).status).toBe(400);
  });

  test("a public address works for a public bucket only", async () => {
    const path = `${annasId}/poster.txt`;
    await anna.storage.from("open").upload(path, "seen by all");
    const url = anna.storage.from("open").getPublicUrl(path).data.publicUrl;
    expect(await (await fetch(url)).text()).toBe("seen by all");
    await own().upload(path, "not for all");
    const closed = own().getPublicUrl(path).data.publicUrl;
    expect(await (await fetch(closed)).json()).toMatchObject({
      statusCode: "404",
      message: "Bucket not found",
    });
  });

  test("transformations say that they are not here", async () => {
    const { error } = await own().download(`${annasId}/x.png`, { transform: { width: 10 } });
    expect(error).toMatchObject({ code: "NotSupported" });
  });
});

describe("downloads", () => {
  test("give ranges, and nothing to those who have it already", async () => {
    const path = `${annasId}/ranges.txt`;
    await own().upload(path, "0123456789", { contentType: "text/plain", cacheControl: "3600" });
    const url = (await own().createSignedUrl(path, 60)).data?.signedUrl ?? "";
    const get = (headers: Record<string, string>) => fetch(url, { headers });
    const part = await get({ range: "bytes=2-4" });
    expect([part.status, await part.text(), part.headers.get("content-range")]).toEqual([
      206,
      "234",
      "bytes 2-4/10",
    ]);
    expect(await (await get({ range: "bytes=-3" })).text()).toBe("789");
    expect(await (await get({ range: "bytes=7-" })).text()).toBe("789");
    expect((await get({ range: "bytes=10-" })).status).toBe(416);
    const whole = await get({});
    expect(whole.headers.get("content-type")).toBe("text/plain");
    expect(whole.headers.get("cache-control")).toBe("max-age=3600");
    const etag = whole.headers.get("etag") ?? "";
    expect((await get({ "if-none-match": etag })).status).toBe(304);
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "10"]);
  });
});

describe("buckets", () => {
  test("are made, read, changed, emptied and deleted by the service", async () => {
    const { storage } = service;
    const made = await storage.createBucket("temporary", {
      public: false,
      fileSizeLimit: "1KB",
      allowedMimeTypes: ["image/png"],
    });
    expect(made).toMatchObject({ data: { name: "temporary" }, error: null });
    expect((await storage.createBucket("temporary")).error).toMatchObject({ statusCode: "409" });
    expect((await storage.getBucket("temporary")).data).toMatchObject({
      file_size_limit: 1000,
      public: false,
    });
    expect((await storage.listBuckets()).data?.map((bucket) => bucket.id)).toContain("temporary");
    await storage.updateBucket("temporary", { public: true, fileSizeLimit: null, allowedMimeTypes: null });
    expect((await storage.getBucket("temporary")).data).toMatchObject({
      file_size_limit: null,
      public: true,
    });
    await storage.from("temporary").upload("x.txt", "x");
    expect((await storage.deleteBucket("temporary")).error).toMatchObject({ statusCode: "409" });
    expect((await storage.emptyBucket("temporary")).error).toBeNull();
    expect((await storage.deleteBucket("temporary")).error).toBeNull();
    expect((await storage.getBucket("temporary")).error).toMatchObject({
      statusCode: "404",
      message: "Bucket not found",
    });
    expect((await storage.from("temporary").upload("x.txt", "x")).error).toMatchObject({ statusCode: "404" });
  });

  test("have sensible names", async () => {
    expect((await service.storage.createBucket("a/b")).error).toMatchObject({ code: "InvalidBucketName" });
  });
});
