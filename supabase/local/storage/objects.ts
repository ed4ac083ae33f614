// /object: upload, update, download, info, list, move, copy, remove, each decided by row security.

import { type Context, Hono } from "hono";
import { z } from "zod";
import type { StorageContext } from "./context.ts";
import { accessDenied, invalidRequest, noSuchBucket, noSuchKey, notSupported, parse } from "./errors.ts";
import { list, listV2 } from "./list.ts";
import { checkKey, locate } from "./names.ts";
import { findBucket, type PutMode, putObject, type Uploader } from "./put.ts";
import type { CallerVariables } from "./router.ts";
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

  async function upload(c: Handler, mode: PutMode) {
    const { bucket, key } = locate(c.req.raw, "/object/");
    const uploader: Uploader = {
      run: (work) => asCaller(c, "upload", work),
      ownerId: c.var.caller.claims.sub,
    };
    const done = await putObject(context, { bucket, key, mode, uploader, request: c.req.raw });
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
    await findBucket(context, target.bucket);
    // The file is named by its version: moving changes the row only.
    await asCaller(c, "move", async (tx) => {
      await findObject(tx, source.bucket, source.key);
      const moved = await tx.query(
        "update storage.objects set bucket_id = $3, name = $4, updated_at = now() where bucket_id = $1 and name = $2",
        [source.bucket, source.key, target.bucket, target.key],
      );
      if (moved.rowCount === 0) throw accessDenied();
    });
    return c.json({ message: "Successfully moved" });
  });

  app.post("/copy", async (c) => {
    const wanted = readTransfer(await c.req.json());
    const { source, target } = wanted;
    await findBucket(context, target.bucket);
    const owner = c.var.caller.claims.sub ?? null;
    const upsert = c.req.header("x-upsert") === "true";
    const object = await asCaller(c, "copy", (tx) => findObject(tx, source.bucket, source.key));
    const version = await files.copy(object.version).catch((error: NodeJS.ErrnoException) => {
      throw error.code === "ENOENT" ? noSuchKey() : error;
    });
    try {
      const metadata = { ...object.metadata, lastModified: new Date().toISOString() };
      const userMetadata = wanted.copyMetadata === false ? (wanted.metadata ?? null) : object.user_metadata;
      const replaced = await asCaller(c, "copy", async (tx) => {
        const at = [target.bucket, target.key];
        const before = await tx.withOwnRights(() =>
          tx.query<{ version: string }>(
            "select version from storage.objects where bucket_id = $1 and name = $2 for update",
            at,
          ),
        );
        await tx.query(
          `insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
           values ($1, $2, case when $3 ~ '^[0-9a-f-]{36}$' then $3::uuid end, $3, $4, $5, $6)
           ${upsert ? "on conflict (bucket_id, name) do update set owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version, metadata = excluded.metadata, user_metadata = excluded.user_metadata, updated_at = now()" : ""}`,
          [...at, owner, version, metadata, userMetadata],
        );
        return before.rows.map((row) => row.version);
      });
      await files.remove(replaced);
    } catch (error) {
      await files.remove([version]);
      throw error;
    }
    return c.json({ Key: `${target.bucket}/${target.key}` });
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
