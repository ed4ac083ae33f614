// What the tryon function takes and answers. Every request carries a shop's token as x-shop-token.

import { z } from "zod";

const category = z.enum(["upper_body", "lower_body", "dresses"]);

/** What hangs in the shop. Addresses of models are lasting, those of pictures good for an hour. */
export const vrGarment = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  garment_type: z.string(),
  category,
  price_cents: z.number().int().nullable(),
  polygon_count: z.number().int().nullable(),
  texture_size: z.number().int().nullable(),
  display_order: z.number().int(),
  model_glb_url: z.string(),
  thumbnail_url: z.string().nullable(),
});
export type VrGarment = z.infer<typeof vrGarment>;

/** Answer of `GET /tryon/shop`. */
export const vrShopFront = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  brand: z.string().nullable(),
  logo_url: z.string().nullable(),
  environment_glb_url: z.string().nullable(),
  /** So many hours are photos and results kept. */
  retention_hours: z.number().int(),
  garments: z.array(vrGarment),
});
export type VrShopFront = z.infer<typeof vrShopFront>;

/** Answer of `POST /tryon/photos`, whose body is the picture itself. */
export const vrPhoto = z.object({ photo_id: z.string(), expires_at: z.string() });
export type VrPhoto = z.infer<typeof vrPhoto>;

/** Body of `POST /tryon/tryons`. Sent again with the same photo and key, it is made and charged once. */
export const vrTryonRequest = z.object({
  photo_id: z.uuid(),
  garment_id: z.uuid(),
  key: z.string().min(1).max(255).optional(),
});

/** Answer of `POST /tryon/tryons` (202) and of `GET /tryon/tryons/<id>`. */
export const vrTryon = z.object({
  id: z.string(),
  status: z.enum(["pending", "processing", "completed", "failed", "cancelled"]),
  progress: z.number().int(),
  /** Good for ten minutes; asking again gives another. */
  result_url: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  /** When photo and result are deleted. */
  expires_at: z.string(),
});
export type VrTryon = z.infer<typeof vrTryon>;
