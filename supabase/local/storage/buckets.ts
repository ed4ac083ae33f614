// /bucket: made, listed, changed, emptied, deleted under row security on storage.buckets.

import { Hono } from "hono";
import { z } from "zod";
import { parseSize } from "../config.ts";
import type { StorageContext } from "./context.ts";
import { accessDenied, bucketNotEmpty, invalidRequest, noSuchBucket, parse } from "./errors.ts";
import { checkBucketName } from "./names.ts";
import type { CallerVariables } from "./router.ts";

function toBytes(limit: string | number): number {
  try {
    return parseSize(String(limit));
  } catch {
    throw invalidRequest("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B");
  }
}

const settings = {
  public: z.boolean(),
  file_size_limit: z.union([z.number().int().min(0), z.string()]).nullable(),
  allowed_mime_types: z.array(z.string()).nullable(),
};
const createBody = z.object({
  id: z.string().optional(),
  name: z.string(),
  public: settings.public.default(false),
  file_size_limit: settings.file_size_limit.optional(),
  allowed_mime_types: settings.allowed_mime_types.optional(),
});
const updateBody = z.object(settings).partial();
const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(1000),
  offset: z.coerce.number().int().min(0).default(0),
  sortColumn: z.enum(["id", "name", "created_at", "updated_at"]).default("name"),
  sortOrder: z.enum(["asc", "desc"]).default("asc"),
  search: z.string().optional(),
});

const columns = `id, name, coalesce(owner_id, owner::text, '') as owner, public, 'STANDARD' as type,
  file_size_limit::float8 as file_size_limit, allowed_mime_types, created_at, updated_at`;

const uuid = z.uuid();

export function bucketRoutes({ session, files }: StorageContext): Hono<CallerVariables> {
  const app = new Hono<CallerVariables>();
  app.post("/", async (c) => {
    const body = parse(createBody, await c.req.json());
    const id = checkBucketName(body.id ?? body.name);
    const owner = c.var.caller.claims.sub;
    const ownerUuid = uuid.safeParse(owner).success ? owner : null;
    const limit = body.file_size_limit == null ? null : toBytes(body.file_size_limit);
    await session.asCaller(c.var.caller, "storage.bucket.create", (tx) =>
      tx.query(
        `insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
         values ($1, $2, $3, $4, $5, $6, $7)`,
        [id, body.name, ownerUuid, owner ?? null, body.public, limit, body.allowed_mime_types ?? null],
      ),
    );
    return c.json({ name: id });
  });
  app.get("/", async (c) => {
    const { limit, offset, sortColumn, sortOrder, search } = parse(listQuery, c.req.query());
    const found = await session.asCaller(c.var.caller, "storage.bucket.list", (tx) =>
      tx.query(
        `select ${columns} from storage.buckets where $3::text is null or position(lower($3) in lower(name)) > 0
         order by ${sortColumn} ${sortOrder} limit $1 offset $2`,
        [limit, offset, search ?? null],
      ),
    );
    return c.json(found.rows);
  });
  app.get("/:id", async (c) => {
    const found = await session.asCaller(c.var.caller, "storage.bucket.get", (tx) =>
      tx.query(`select ${columns} from storage.buckets where id = $1`, [c.req.param("id")]),
    );
    if (!found.rows[0]) throw noSuchBucket();
    return c.json(found.rows[0]);
  });
  app.put("/:id", async (c) => {
    const body = parse(updateBody, await c.req.json());
    const limit = body.file_size_limit == null ? null : toBytes(body.file_size_limit);
    await session.asCaller(c.var.caller, "storage.bucket.update", async (tx) => {
      const updated = await tx.query(
        `update storage.buckets set public = coalesce($2, public),
           file_size_limit = case when $3 then $4 else file_size_limit end,
           allowed_mime_types = case when $5 then $6 else allowed_mime_types end, updated_at = now()
         where id = $1`,
        [
          c.req.param("id"),
          body.public ?? null,
          body.file_size_limit !== undefined,
          limit,
          body.allowed_mime_types !== undefined,
          body.allowed_mime_types ?? null,
        ],
      );
      if (updated.rowCount === 0) throw noSuchBucket();
    });
    return c.json({ message: "Successfully updated" });
  });
  app.post("/:id/empty", async (c) => {
    const removed = await session.asCaller(c.var.caller, "storage.bucket.empty", async (tx) => {
      const bucket = await tx.query("select from storage.buckets where id = $1", [c.req.param("id")]);
      if (bucket.rowCount === 0) throw noSuchBucket();
      return tx.query<{ version: string }>(
        "delete from storage.objects where bucket_id = $1 returning version",
        [c.req.param("id")],
      );
    });
    await files.remove(removed.rows.map((row) => row.version));
    return c.json({ message: "Successfully emptied" });
  });
  app.delete("/:id", async (c) => {
    const id = c.req.param("id");
    await session.asCaller(c.var.caller, "storage.bucket.delete", async (tx) => {
      const bucket = await tx.query("select from storage.buckets where id = $1", [id]);
      if (bucket.rowCount === 0) throw noSuchBucket();
      // Objects the caller cannot see keep a bucket too.
      const inside = () => tx.query("select from storage.objects where bucket_id = $1 limit 1", [id]);
      if ((await tx.withOwnRights(inside)).rowCount !== 0) throw bucketNotEmpty();
      const deleted = await tx.query("delete from storage.buckets where id = $1", [id]);
      if (deleted.rowCount === 0) throw accessDenied("The bucket may not be deleted.");
    });
    return c.json({ message: "Successfully deleted" });
  });
  return app;
}
