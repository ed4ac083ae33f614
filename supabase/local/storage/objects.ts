// /object: upload, update, download, info, list, move, copy, remove, each decided by row security.

import { type Context, Hono } from "hono";
import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { accessDenied, invalidRequest, noSuchBucket, noSuchKey, notSupported, parse } from "./errors.ts";
import { list, listV2 } from "./list.ts";
import { checkKey, locate } from "./names.ts";
import { putObject } from "./put.ts";
import type { CallerVariables } from "./router.ts";
import { checkFits, commitWrite, findBucket, rehearseWrite, type WriteMode, type Writer } from "./rows.ts";
import { describeObject, findObject, refuseVersions, serveObject } from "./serve.ts";

const transfer = z.object({
  bucketId: z.string(),
  sourceKey: z.string(),
  destinationKey: z.string(),
  destinationBucket: z.string().nullish(),
  sourceVersionId: z.string().nullish(),
  copyMetadata: z.boolean().nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
});
const removal = z.object({
  prefixes: z
    .array(z.union([z.string(), z.object({ name: z.string() })]))
    .min(1)
    .max(1000),
});

type Handler = Context<CallerVariables>;

function readTransfer(body: unknown) {
  const wanted = parse(transfer, body);
  if (wanted.sourceVersionId) throw notSupported("Reading older versions of an object");
  return {
    ...wanted,
    source: { bucket: wanted.bucketId, key: wanted.sourceKey },
    target: { bucket: wanted.destinationBucket ?? wanted.bucketId, key: checkKey(wanted.destinationKey) },
  };
}

export function objectRoutes(context: StorageContext): Hono<CallerVariables> {
  const { session, files } = context;
  const app = new Hono<CallerVariables>();
  const asCaller = <T>(c: Handler, operation: string, work: Parameters<typeof session.asCaller<T>>[2]) =>
    session.asCaller(c.var.caller, `storage.object.${operation}`, work);

  const writerFor = (c: Handler, operation: string): Writer => ({
    run: (work) => asCaller(c, operation, work),
    ownerId: c.var.caller.claims.sub,
  });
  async function upload(c: Handler, mode: WriteMode) {
    const place = locate(c.req.raw, "/object/");
    const done = await putObject(context, {
      place,
      mode,
      writer: writerFor(c, "upload"),
      request: c.req.raw,
    });
    return c.json({ Id: done.id, Key: done.path });
  }

  /** Reads without an account: the bucket's flag decides. */
  async function publicObject(c: Handler, prefix: string) {
    refuseVersions(c);
    const { bucket, key } = locate(c.req.raw, prefix);
    if (!(await findBucket(context, bucket)).public) throw noSuchBucket();
    return session.asOwner((tx) => findObject(tx, bucket, key));
  }
  const ownObject = (c: Handler, prefix: string, operation: string) => {
    refuseVersions(c);
    const { bucket, key } = locate(c.req.raw, prefix);
    return asCaller(c, operation, (tx) => findObject(tx, bucket, key));
  };

  app.get("/public/*", async (c) => serveObject(c, context, await publicObject(c, "/object/public/")));
  app.get("/info/public/*", async (c) =>
    c.json(describeObject(await publicObject(c, "/object/info/public/"))),
  );
  app.get("/info/authenticated/*", async (c) =>
    c.json(describeObject(await ownObject(c, "/object/info/authenticated/", "info"))),
  );
  app.get("/info/*", async (c) => c.json(describeObject(await ownObject(c, "/object/info/", "info"))));
  app.get("/authenticated/*", async (c) =>
    serveObject(c, context, await ownObject(c, "/object/authenticated/", "get")),
  );

  app.post("/list/:bucket", async (c) => {
    const body = await c.req.json();
    return c.json(await asCaller(c, "list", (tx) => list(tx, c.req.param("bucket"), body)));
  });
  app.post("/list-v2/:bucket", async (c) => {
    const body = await c.req.json();
    return c.json(await asCaller(c, "list_v2", (tx) => listV2(tx, c.req.param("bucket"), body)));
  });

  app.post("/move", async (c) => {
    const { source, target } = readTransfer(await c.req.json());
    const bucket = await findBucket(context, target.bucket);
    // The file is named by its version: moving changes the row only.
    await asCaller(c, "move", async (tx) => {
      const { metadata } = await findObject(tx, source.bucket, source.key);
      if (target.bucket !== source.bucket) {
        checkFits(context, bucket, metadata?.size ?? 0, metadata?.mimetype ?? "");
      }
      const moved = await tx.query(
        `update storage.objects set bucket_id = $3, name = $4, updated_at = now()
         where bucket_id = $1 and name = $2`,
        [source.bucket, source.key, target.bucket, target.key],
      );
      if (moved.rowCount === 0) throw accessDenied();
    });
    return c.json({ message: "Successfully moved" });
  });

  app.post("/copy", async (c) => {
    const { source, target, copyMetadata, metadata: ownMetadata } = readTransfer(await c.req.json());
    const bucket = await findBucket(context, target.bucket);
    const mode = c.req.header("x-upsert") === "true" ? "upsert" : "create";
    const object = await asCaller(c, "copy", (tx) => findObject(tx, source.bucket, source.key));
    if (target.bucket !== source.bucket) {
      checkFits(context, bucket, object.metadata?.size ?? 0, object.metadata?.mimetype ?? "");
    }
    const writer = writerFor(c, "copy");
    await rehearseWrite(writer, mode, target);
    const version = await files.copy(object.version).catch((error: NodeJS.ErrnoException) => {
      throw error.code === "ENOENT" ? noSuchKey() : error;
    });
    const done = await commitWrite(context, writer, mode, target, {
      version,
      metadata: { ...object.metadata, lastModified: new Date().toISOString() },
      userMetadata: copyMetadata === false ? (ownMetadata ?? null) : object.user_metadata,
    });
    return c.json({ Id: done.id, Key: done.path });
  });

  app.delete("/:bucket", async (c) => {
    const { prefixes } = parse(removal, await c.req.json());
    const names = prefixes.map((entry) => (typeof entry === "string" ? entry : entry.name));
    const removed = await asCaller(c, "delete_many", (tx) =>
      tx.query<{ version: string }>(
        "delete from storage.objects where bucket_id = $1 and name = any ($2) returning *",
        [c.req.param("bucket"), names],
      ),
    );
    await files.remove(removed.rows.map((row) => row.version));
    return c.json(removed.rows);
  });
  app.delete("/:bucket/*", async (c) => {
    const { bucket, key } = locate(c.req.raw, "/object/");
    const removed = await asCaller(c, "delete", (tx) =>
      tx.query<{ version: string }>(
        "delete from storage.objects where bucket_id = $1 and name = $2 returning version",
        [bucket, key],
      ),
    );
    if (removed.rowCount === 0) throw noSuchKey();
    await files.remove(removed.rows.map((row) => row.version));
    return c.json({ message: "Successfully deleted" });
  });

  app.post("/:bucket/*", (c) => upload(c, c.req.header("x-upsert") === "true" ? "upsert" : "create"));
  app.put("/:bucket/*", (c) => upload(c, "update"));
  app.get("/:bucket/*", async (c) => serveObject(c, context, await ownObject(c, "/object/", "get")));
  app.all("*", () => {
    throw invalidRequest("The storage API has no such address.");
  });
  return app;
}
