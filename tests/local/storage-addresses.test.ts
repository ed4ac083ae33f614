// Addresses of objects through supabase-js: signed and public, downloads; and buckets.

import { describe, expect, test } from "vitest";
import { Tokens } from "../../supabase/local/storage/tokens.ts";
import { anna, annasId, db, nobody, own, service, stack, text } from "./storage-stack.ts";

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
