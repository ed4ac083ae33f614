import { randomUUID } from "node:crypto";
import type { Row } from "../helpers/session.ts";
import type { Brand, Studio } from "./studio.ts";

export interface Shop {
  id: string;
  workspaceId: string;
  /** A garment that hangs in it. */
  garmentId: string;
  tokenId: string;
  token: string;
}

/** A shop with one garment and one token, whose limits may be given. */
export async function openShop(
  db: Studio,
  brand: Brand,
  { shop = {}, token = {} }: { shop?: Record<string, unknown>; token?: Record<string, unknown> } = {},
): Promise<Shop> {
  const columns = { workspace_id: brand.workspaceId, name: `Shop ${randomUUID()}`, ...shop };
  const names = Object.keys(columns);
  const by = db.user(brand.id);
  const [{ id }] = (await by.query(
    `insert into studio.vr_shops (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")}) returning id`,
    Object.values(columns),
  )) as [Row];
  const [garment] = await by.query(
    `insert into studio.vr_garments (workspace_id, shop_id, garment_id, name, garment_type, model_glb_path)
    values ($1, $2, $3, 'Shirt', 'shirt', $4) returning id`,
    [brand.workspaceId, id, brand.garmentId, `${brand.workspaceId}/shirt.glb`],
  );
  const made = await by.call("studio.create_vr_token", { shop_id: id, ...token });
  return { id, workspaceId: brand.workspaceId, garmentId: garment!.id, tokenId: made.id, token: made.token };
}

/** What the edge function does, as the service. */
export function visits(db: Studio) {
  const { service } = db;
  return {
    enter: (token: string, origin?: string) => service.call("studio.enter_vr_shop", { token, origin }),
    count: (address: string | null) => service.call("studio.count_vr_address", { address }),
    /** A photo with its file. */
    photo: async (shop: Shop, address?: string): Promise<Row> => {
      const photo = await service.call("studio.begin_vr_photo", {
        token_id: shop.tokenId,
        mime_type: "image/jpeg",
        size_bytes: 1000,
        address,
      });
      await db.upload(shop.workspaceId, { path: photo.storage_path, mimetype: "image/jpeg" });
      return photo;
    },
    tryon: (shop: Shop, photo: Row, more: Record<string, unknown> = {}): Promise<Row> =>
      service.call("studio.request_vr_tryon", {
        token_id: shop.tokenId,
        photo_id: photo.id,
        garment_id: shop.garmentId,
        ...more,
      }),
    read: (shop: Shop, { id }: Row) =>
      service.call("studio.read_vr_tryon", { token_id: shop.tokenId, tryon_id: id }),
    withdraw: (shop: Shop, { id }: Row) =>
      service.call("studio.withdraw_vr_photo", { token_id: shop.tokenId, photo_id: id }),
  };
}
