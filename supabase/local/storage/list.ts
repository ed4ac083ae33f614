// Listing a bucket: folders do not exist, they are what names have in common before a slash.

import { z } from "zod";
import { parse } from "./errors.ts";
import type { Transaction } from "./session.ts";

const order = z.enum(["asc", "desc"]).default("asc");

const listBody = z.object({
  prefix: z.string().default(""),
  limit: z.number().int().min(1).max(10_000).default(100),
  offset: z.number().int().min(0).default(0),
  search: z.string().optional(),
  sortBy: z
    .object({
      column: z.enum(["name", "updated_at", "created_at", "last_accessed_at"]).default("name"),
      order,
    })
    .default({ column: "name", order: "asc" }),
});

/** One level: its files, and its folders as entries without an id. */
export async function list(tx: Transaction, bucket: string, body: unknown) {
  const { prefix, limit, offset, search, sortBy } = parse(listBody, body);
  const folder = prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`;
  const { rows } = await tx.query(
    `with inside as (
       select *, substr(name, length($2) + 1) as rest from storage.objects
       where bucket_id = $1 and starts_with(name, $2)
     ), level as (
       select distinct split_part(rest, '/', 1) as name, null::uuid as id, null::timestamptz as updated_at,
         null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
       from inside where position('/' in rest) > 0
       union all
       select rest, id, updated_at, created_at, last_accessed_at, metadata
       from inside where position('/' in rest) = 0 and rest <> ''
     )
     select * from level where $3::text is null or starts_with(lower(name), lower($3))
     order by ${sortBy.column} ${sortBy.order} nulls first, name limit $4 offset $5`,
    [bucket, folder, search || null, limit, offset],
  );
  return rows;
}

const listV2Body = z.object({
  prefix: z.string().default(""),
  limit: z.number().int().min(1).max(1000).default(1000),
  cursor: z.string().optional(),
  with_delimiter: z.boolean().default(false),
  sortBy: z
    .object({ column: z.enum(["name", "updated_at", "created_at"]).default("name"), order })
    .default({ column: "name", order: "asc" }),
});

type V2Row = { key: string; folder: boolean; sorted: string } & Record<string, unknown>;

const encodeCursor = (row: V2Row) => Buffer.from(JSON.stringify([row.sorted, row.key])).toString("base64url");

function decodeCursor(cursor: string | undefined): [string | null, string | null] {
  if (cursor === undefined) return [null, null];
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  return parse(z.tuple([z.string(), z.string()]), JSON.parse(text.startsWith("[") ? text : "null"));
}

/** All names below a prefix, or one level of them, page by page. */
export async function listV2(tx: Transaction, bucket: string, body: unknown) {
  const { prefix, limit, cursor, with_delimiter, sortBy } = parse(listV2Body, body);
  const [sorted, key] = decodeCursor(cursor);
  // Times sort as text in this form; folders have none and come first.
  const sortText =
    sortBy.column === "name"
      ? "key"
      : `coalesce(to_char(${sortBy.column} at time zone 'utc', 'YYYYMMDDHH24MISSUS'), '')`;
  const after = sortBy.order === "asc" ? ">" : "<";
  const { rows } = await tx.query<V2Row>(
    `with inside as (
       select *, substr(name, length($2) + 1) as rest from storage.objects
       where bucket_id = $1 and starts_with(name, $2)
     ), entries as (
       select distinct $2 || split_part(rest, '/', 1) || '/' as key, true as folder, null::uuid as id,
         null::timestamptz as updated_at, null::timestamptz as created_at, null::timestamptz as last_accessed_at,
         null::jsonb as metadata
       from inside where $3::boolean and position('/' in rest) > 0
       union all
       select name, false, id, updated_at, created_at, last_accessed_at, metadata
       from inside where not $3::boolean or position('/' in rest) = 0
     ), sorted as (select *, (${sortText}) collate "C" as sorted from entries)
     select * from sorted
     where $4::text is null or (sorted, key collate "C") ${after} ($4::text collate "C", $5::text collate "C")
     order by sorted ${sortBy.order}, key collate "C" ${sortBy.order} limit $6`,
    [bucket, prefix, with_delimiter, sorted, key, limit + 1],
  );
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  const hasNext = rows.length > limit;
  return {
    hasNext,
    folders: page.filter((row) => row.folder).map((row) => ({ name: row.key, key: row.key })),
    objects: page
      .filter((row) => !row.folder)
      .map(({ folder: _folder, sorted: _sorted, ...object }) => ({ ...object, name: object.key })),
    ...(hasNext && last ? { nextCursor: encodeCursor(last) } : {}),
  };
}
