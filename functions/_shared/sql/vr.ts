// Visits to VR shops, as the tryon function lets them in.

import type { Database, Statement } from "../db.ts";

/** Whose visitor a request is of. */
export interface Entry {
  token_id: string;
  shop_id: string;
  workspace_id: string;
}

export interface Photo {
  id: string;
  storage_path: string;
  expires_at: Date;
}

export interface Tryon {
  id: string;
  status: "pending" | "processing" | "completed" | "failed" | "cancelled";
  progress: number;
  result_paths: string[];
  error_code: string | null;
  error_message: string | null;
  expires_at: Date;
}

export interface Shop {
  id: string;
  name: string;
  description: string | null;
  brand: string | null;
  logo_path: string | null;
  environment_glb_path: string | null;
  retention_hours: number;
}

export interface HungGarment {
  id: string;
  name: string;
  description: string | null;
  garment_type: string;
  category: "upper_body" | "lower_body" | "dresses";
  price_cents: number | null;
  polygon_count: number | null;
  texture_size: number | null;
  display_order: number;
  model_glb_path: string;
  storage_path: string;
}

const tryonColumns = "id, status, progress, result_paths, error_code, error_message, expires_at";
const statements = {
  count: { name: "count_vr_address", text: "select studio.count_vr_address($1)" },
  enter: {
    name: "enter_vr_shop",
    text: "select token_id, shop_id, workspace_id from studio.enter_vr_shop($1, $2, $3)",
  },
  shop: {
    name: "vr_shop",
    text: `select id, name, description, brand, logo_path, environment_glb_path, retention_hours
      from studio.vr_shops where id = $1`,
    repeatable: true,
  },
  garments: {
    name: "vr_garments",
    text: `select v.id, v.name, v.description, v.garment_type, v.category, v.price_cents, v.polygon_count,
        v.texture_size, v.display_order, v.model_glb_path, g.storage_path
      from studio.vr_garments v join studio.wardrobe_garments g on g.id = v.garment_id
      where v.shop_id = $1 and v.is_active order by v.display_order, v.created_at, v.id limit 500`,
    repeatable: true,
  },
  photo: {
    name: "begin_vr_photo",
    text: "select id, storage_path, expires_at from studio.begin_vr_photo($1, $2, $3, $4)",
  },
  request: {
    name: "request_vr_tryon",
    text: `select ${tryonColumns} from studio.request_vr_tryon($1, $2, $3, $4, $5)`,
  },
  read: {
    name: "read_vr_tryon",
    text: `select ${tryonColumns} from studio.read_vr_tryon($1, $2)`,
    repeatable: true,
  },
  withdraw: {
    name: "withdraw_vr_photo",
    text: "select studio.withdraw_vr_photo($1, $2)",
    repeatable: true,
  },
} satisfies Record<string, Statement>;

/** Counts a request by internet address. Error: rate_limited. */
export async function countAddress(db: Database, address: string | null): Promise<void> {
  await db.row(statements.count, [address]);
}

/**
 * Lets a token's bearer in; the use counts for the token's limits unless it is said not to. Errors: invalid_vr_token,
 * vr_shop_closed, origin_not_allowed, rate_limited.
 */
export function enterShop(
  db: Database,
  token: string,
  origin: string | null,
  isCounted = true,
): Promise<Entry> {
  return db.row<Entry>(statements.enter, [token, origin, isCounted]);
}

export async function readShop(db: Database, id: string): Promise<Shop & { garments: HungGarment[] }> {
  const shop = await db.row<Shop>(statements.shop, [id]);
  return { ...shop, garments: await db.rows<HungGarment>(statements.garments, [id]) };
}

/** Where a photo goes. Error: rate_limited. */
export function beginPhoto(
  db: Database,
  tokenId: string,
  photo: { type: string; size: number; address: string | null },
): Promise<Photo> {
  return db.row<Photo>(statements.photo, [tokenId, photo.type, photo.size, photo.address]);
}

/** Errors: unknown_photo, unknown_vr_garment, key_reused, rate_limited, shop_out_of_credits. */
export function requestTryon(
  db: Database,
  tokenId: string,
  request: { photo_id: string; garment_id: string; address: string | null; key: string | null },
): Promise<Tryon> {
  const { photo_id, garment_id, address, key } = request;
  return db.row<Tryon>(statements.request, [tokenId, photo_id, garment_id, address, key]);
}

/** Error: unknown_vr_tryon. */
export function readTryon(db: Database, tokenId: string, id: string): Promise<Tryon> {
  return db.row<Tryon>(statements.read, [tokenId, id]);
}

/** Error: unknown_photo. */
export async function withdrawPhoto(db: Database, tokenId: string, id: string): Promise<void> {
  await db.row(statements.withdraw, [tokenId, id]);
}
