import type { Context, Hono, MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { z } from "zod";
import { type VrPhoto, type VrShopFront, type VrTryon, vrTryonRequest } from "../../types/contracts-tryon.ts";
import { createBase, limitBody, parseBody, parseInput } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import { ApiError, answerErrors, publicError } from "../_shared/errors.ts";
import type { Log } from "../_shared/log.ts";
import {
  beginPhoto,
  countAddress,
  type Entry,
  enterShop,
  readShop,
  readTryon,
  requestTryon,
  type Tryon,
  withdrawPhoto,
} from "../_shared/sql/vr.ts";
import { typeOf } from "../worker/pictures/format.ts";
import type { Pictures } from "./pictures.ts";

export interface Deps {
  db: Database;
  log: Log;
  pictures: Pictures;
}

type Visit = Entry & { address: string | null };
type Variables = { Variables: { visit: Visit } };

const mostPhotoBytes = 10 * 1024 * 1024;
const byId = z.object({ id: z.uuid() });

/**
 * What visitors of a VR shop do without an account: GET /tryon/shop, POST /tryon/photos, POST /tryon/tryons,
 * GET /tryon/tryons/<id>, DELETE /tryon/photos/<id>. Each request carries the shop's token as x-shop-token.
 * Errors: invalid_vr_token (401), shop_out_of_credits (402), origin_not_allowed and vr_shop_closed (403), unknown_photo,
 * unknown_vr_garment and unknown_vr_tryon (404), key_reused (409), payload_too_large (413), unsupported_image_type
 * (415), creation_type_unavailable (422), rate_limited (429, with Retry-After).
 */
export function createApp({ db, log, pictures }: Deps): Hono<Variables> {
  const app = createBase("tryon", log) as unknown as Hono<Variables>;
  app.onError(withRetryAfter(answerErrors(log)));
  app.use(secureHeaders({ crossOriginResourcePolicy: "cross-origin", referrerPolicy: "no-referrer" }));
  app.use(crossOrigin, visited(db));

  app.get("/shop", async (c) => {
    const { garments, ...shop } = await readShop(db, c.var.visit.shop_id);
    const thumbnails = await pictures.garmentUrls(garments.map(({ storage_path }) => storage_path));
    const { logo_path, environment_glb_path, ...front } = shop;
    return c.json({
      ...front,
      logo_url: logo_path && pictures.assetUrl(logo_path),
      environment_glb_url: environment_glb_path && pictures.assetUrl(environment_glb_path),
      garments: garments.map(({ model_glb_path, storage_path: _, ...garment }, i) => ({
        ...garment,
        model_glb_url: pictures.assetUrl(model_glb_path),
        thumbnail_url: thumbnails[i] ?? null,
      })),
    } satisfies VrShopFront);
  });

  app.post("/photos", limitBody(mostPhotoBytes), async (c) => {
    const { token_id, address } = c.var.visit;
    const bytes = await c.req.arrayBuffer();
    const type = pictureType(c, bytes);
    const photo = await beginPhoto(db, token_id, { type, size: bytes.byteLength, address });
    await pictures.store(photo.storage_path, bytes, type);
    return c.json({ photo_id: photo.id, expires_at: photo.expires_at.toISOString() } satisfies VrPhoto, 201);
  });

  app.delete("/photos/:id", async (c) => {
    const { id } = parseInput(byId, c.req.param());
    await withdrawPhoto(db, c.var.visit.token_id, id);
    return c.body(null, 204);
  });

  app.post("/tryons", limitBody(16 * 1024), async (c) => {
    const { token_id, address } = c.var.visit;
    const { key = null, ...request } = parseBody(vrTryonRequest, await c.req.text());
    return c.json(await shown(await requestTryon(db, token_id, { ...request, key, address })), 202);
  });

  app.get("/tryons/:id", async (c) => {
    const { id } = parseInput(byId, c.req.param());
    return c.json(await shown(await readTryon(db, c.var.visit.token_id, id)));
  });
  return app;

  async function shown(tryon: Tryon): Promise<VrTryon> {
    const { id, status, progress, result_paths, error_code: code, error_message, expires_at } = tryon;
    const [path] = result_paths;
    return {
      id,
      status,
      progress,
      result_url: path ? await pictures.resultUrl(path) : null,
      error: code ? { code, message: (error_message ?? "").replace(/^[a-z_]+: /, "") } : null,
      expires_at: expires_at.toISOString(),
    };
  }
}

/** Counts the request by where it comes from, then lets the token's bearer in. Looks at a try-on count no further. */
function visited(db: Database): MiddlewareHandler<Variables> {
  return async (c, next) => {
    const address = addressOf(c);
    await countAddress(db, address);
    const token = c.req.header("x-shop-token");
    if (!token) {
      throw new ApiError(401, "invalid_vr_token", "The request carries no token of a shop.", {
        hint: "Send the shop's token as x-shop-token.",
      });
    }
    const isLook = c.req.method === "GET" && c.req.path.startsWith("/tryon/tryons/");
    c.set("visit", { ...(await enterShop(db, token, c.req.header("origin") ?? null, !isLook)), address });
    await next();
  };
}

/**
 * A preflight carries no token, so what it asks is allowed to any page; the request that follows is let in or refused
 * by the shop's own origins. Every answer can be read by the page, errors too, but for the one that its origin is not
 * allowed.
 */
const crossOrigin: MiddlewareHandler = async (c, next) => {
  const origin = c.req.header("origin");
  c.header("vary", "origin");
  c.header("cache-control", "no-store");
  if (origin !== undefined) {
    c.header("access-control-allow-origin", origin);
    c.header("access-control-expose-headers", "retry-after, x-request-id");
  }
  if (c.req.method !== "OPTIONS") return next();
  c.header("access-control-allow-methods", "GET, POST, DELETE");
  c.header(
    "access-control-allow-headers",
    "x-shop-token, content-type, authorization, apikey, x-client-info",
  );
  c.header("access-control-max-age", "86400");
  return c.body(null, 204);
};

function withRetryAfter(answer: ReturnType<typeof answerErrors>): typeof answer {
  return async (error, c) => {
    const { code, details } = publicError(error);
    const seconds = (details as { retry_after?: unknown } | undefined)?.retry_after;
    if (typeof seconds === "number") c.header("retry-after", String(seconds));
    const response = await answer(error, c);
    if (code === "origin_not_allowed") response.headers.delete("access-control-allow-origin");
    return response;
  };
}

/** As the platform's edge tells it; what a caller writes itself is bounded by the token's limits all the same. */
function addressOf(c: Context): string | null {
  const address = c.req.header("cf-connecting-ip") ?? c.req.header("x-forwarded-for")?.split(",")[0];
  return address?.trim() || null;
}

const pictureTypes = new Set(["image/png", "image/jpeg", "image/webp", "application/octet-stream"]);

/** What the picture is by its bytes, whatever it is called. Error: unsupported_image_type (415). */
function pictureType(c: Context, bytes: ArrayBuffer): string {
  const announced = c.req.header("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
  const type = pictureTypes.has(announced) ? typeOf(new Uint8Array(bytes)) : null;
  if (type) return type;
  throw new ApiError(415, "unsupported_image_type", "The body is no PNG, JPEG or WebP picture.", {
    details: { content_type: announced },
    hint: "Send the picture itself as the body, with its type as content-type.",
  });
}
