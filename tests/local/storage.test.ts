// Objects through supabase-js: uploads, names, listing, moving, and what row security refuses.

import { beforeAll, describe, expect, test } from "vitest";
import { anna, annasId, bert, db, nobody, own, png, service, stack, text } from "./storage-stack.ts";

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
