// Signed addresses: whoever may read (or write) an object can hand that on for a limited time.

import { type Context, Hono } from "hono";
import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { notSupported, parse } from "./errors.ts";
import { locate } from "./names.ts";
import { putObject } from "./put.ts";
import type { CallerVariables } from "./router.ts";
import { findBucket, rehearseWrite, type Writer } from "./rows.ts";
import { findObject, serveObject } from "./serve.ts";

const seconds = z.number().int().min(1).max(31_536_000_000);
const one = z.object({
  expiresIn: seconds,
  transform: z.unknown().optional(),
  versionId: z.string().optional(),
});
const several = z.object({ expiresIn: seconds, paths: z.array(z.string()).min(1).max(500) });
const uploadSeconds = 2 * 3600;

const encodePath = (path: string) => path.split("/").map(encodeURIComponent).join("/");

export function signedRoutes(context: StorageContext): Hono<CallerVariables> {
  const { session, tokens } = context;
  const app = new Hono<CallerVariables>();
  const address = async (bucket: string, key: string, expiresIn: number) => {
    const token = await tokens.sign("download", { url: `${bucket}/${key}` }, expiresIn);
    // storage-js encodes what it gets once more, so the path goes out as it is.
    return `/object/sign/${bucket}/${key}?token=${token}`;
  };

  app.post("/object/upload/sign/*", async (c) => {
    const { bucket, key } = locate(c.req.raw, "/object/upload/sign/");
    await findBucket(context, bucket);
    const upsert = c.req.header("x-upsert") === "true";
    const owner = c.var.caller.claims.sub;
    const writer: Writer = {
      run: (work) => session.asCaller(c.var.caller, "storage.object.sign_upload_url", work),
      ownerId: owner,
    };
    await rehearseWrite(writer, upsert ? "upsert" : "create", { bucket, key });
    const claims = { url: `${bucket}/${key}`, upsert, ...(owner ? { owner } : {}) };
    const token = await tokens.sign("upload", claims, uploadSeconds);
    return c.json({ url: `/object/upload/sign/${encodePath(`${bucket}/${key}`)}?token=${token}`, token });
  });

  app.put("/object/upload/sign/*", async (c) => {
    const place = locate(c.req.raw, "/object/upload/sign/");
    const claims = await tokens.verify("upload", c.req.query("token"), `${place.bucket}/${place.key}`);
    const writer: Writer = { run: session.asOwner, ownerId: claims.owner };
    const mode = claims.upsert ? "upsert" : "create";
    const done = await putObject(context, { place, mode, writer, request: c.req.raw });
    return c.json({ Id: done.id, Key: done.path });
  });

  app.post("/object/sign/:bucket", async (c) => {
    const bucket = c.req.param("bucket");
    const { expiresIn, paths } = parse(several, await c.req.json());
    const readable = await session.asCaller(c.var.caller, "storage.object.sign_many", async (tx) => {
      const query = "select name from storage.objects where bucket_id = $1 and name = any ($2)";
      const found = await tx.query<{ name: string }>(query, [bucket, paths]);
      return new Set(found.rows.map((row) => row.name));
    });
    const sign = async (path: string) =>
      readable.has(path)
        ? { error: null, path, signedURL: await address(bucket, path, expiresIn) }
        : {
            error: "Either the object does not exist or you do not have access to it",
            path,
            signedURL: null,
          };
    return c.json(await Promise.all(paths.map(sign)));
  });

  app.post("/object/sign/:bucket/*", async (c) => {
    const { bucket, key } = locate(c.req.raw, "/object/sign/");
    const { expiresIn, transform, versionId } = parse(one, await c.req.json());
    if (transform !== undefined) throw notSupported("Image transformation");
    if (versionId !== undefined) throw notSupported("Reading older versions of an object");
    await session.asCaller(c.var.caller, "storage.object.sign", (tx) => findObject(tx, bucket, key));
    return c.json({ signedURL: await address(bucket, key, expiresIn) });
  });

  const download = async (c: Context<CallerVariables>) => {
    const { bucket, key } = locate(c.req.raw, "/object/sign/");
    await tokens.verify("download", c.req.query("token"), `${bucket}/${key}`);
    return serveObject(c, context, await session.asOwner((tx) => findObject(tx, bucket, key)));
  };
  app.get("/object/sign/:bucket/*", download);
  return app;
}
