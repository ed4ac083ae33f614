import { beforeEach, describe, expect, test } from "vitest";
import { createApp } from "../../functions/tryon/app.ts";
import type { Pictures } from "../../functions/tryon/pictures.ts";
import { errorEnvelope } from "../../types/contracts.ts";
import { vrPhoto, vrShopFront, vrTryon } from "../../types/contracts-tryon.ts";
import { createStudio, noon, price } from "../studio/studio.ts";
import { openShop, type Shop } from "../studio/vr.ts";
import { functionsDatabase, keptLog } from "./harness.ts";

const studio = await createStudio();
const db = functionsDatabase(studio, 10);
const ann = await studio.brand();

const stored: string[] = [];
const gone = new Set<string>();
const pictures: Pictures = {
  store: async (path, bytes, contentType) => {
    stored.push(path);
    expect(bytes.byteLength).toBeGreaterThan(0);
    await studio.upload(path.split("/")[0]!, { path, mimetype: contentType });
  },
  garmentUrls: async (paths) => paths.map((path) => `https://signed.test/${path}`),
  resultUrl: async (path) => (gone.has(path) ? null : `https://signed.test/${path}`),
  assetUrl: (path) => `https://public.test/${path}`,
};
const { log, lines } = keptLog();
const app = createApp({ db, log, pictures });

let shop: Shop;
let address = 0;
beforeEach(async () => {
  await studio.setClock(noon);
  shop = await openShop(studio, ann, { shop: { allowed_origins: "{https://brand.example}" } });
  address++;
});

const png = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0, 0]);
const call = (path: string, init: RequestInit = {}, headers: Record<string, string> = {}) =>
  app.request(`/tryon${path}`, {
    ...init,
    headers: { "x-shop-token": shop.token, "x-forwarded-for": `203.0.113.${address}`, ...headers },
  });
const send = (body: BodyInit = png, type = "image/png", more = {}) =>
  call("/photos", { method: "POST", body }, { "content-type": type, ...more });
const ask = (body: object) => call("/tryons", { method: "POST", body: JSON.stringify(body) });
async function refused(response: Response | Promise<Response>, status: number, code: string) {
  const answer = await response;
  const { error } = errorEnvelope.parse(await answer.json());
  expect([answer.status, error.code]).toEqual([status, code]);
  return { error, headers: answer.headers };
}

describe("a visitor", () => {
  test("sees what hangs in the shop", async () => {
    const front = vrShopFront.parse(await (await call("/shop")).json());
    expect(front).toMatchObject({ id: shop.id, retention_hours: 24, logo_url: null });
    expect(front.garments).toEqual([
      expect.objectContaining({
        id: shop.garmentId,
        category: "upper_body",
        model_glb_url: `https://public.test/${shop.workspaceId}/shirt.glb`,
        thumbnail_url: expect.stringMatching(/^https:\/\/signed\.test\//),
      }),
    ]);
  });

  test("sends a photo, asks for a try-on, and reads its picture", async () => {
    const answer = await send();
    expect(answer.status).toBe(201);
    const { photo_id } = vrPhoto.parse(await answer.json());
    expect(stored.at(-1)).toBe(`${shop.workspaceId}/visitors/${shop.id}/${photo_id}.png`);
    const asked = await ask({ photo_id, garment_id: shop.garmentId, key: "k" });
    expect(asked.status).toBe(202);
    const tryon = vrTryon.parse(await asked.json());
    expect(tryon).toMatchObject({ status: "pending", result_url: null, error: null });
    const again = await ask({ photo_id, garment_id: shop.garmentId, key: "k" });
    expect(vrTryon.parse(await again.json()).id).toBe(tryon.id);

    const [creation] = await studio.query(
      "select c.* from studio.creations c join studio.vr_tryons t on t.creation_id = c.id where t.id = $1",
      [tryon.id],
    );
    await studio.finish([creation!]);
    const read = await call(`/tryons/${tryon.id}`);
    expect(read.headers.get("cache-control")).toBe("no-store");
    expect(vrTryon.parse(await read.json())).toMatchObject({
      status: "completed",
      progress: 100,
      result_url: `https://signed.test/${shop.workspaceId}/${creation!.id}/1.png`,
    });
    gone.add(`${shop.workspaceId}/${creation!.id}/1.png`);
    const without = await call(`/tryons/${tryon.id}`);
    expect(vrTryon.parse(await without.json())).toMatchObject({ status: "completed", result_url: null });
    expect((await call(`/photos/${photo_id}`, { method: "DELETE" })).status).toBe(204);
    await refused(call(`/tryons/${tryon.id}`), 404, "unknown_vr_tryon");
  });
});

describe("a visitor is refused", () => {
  test("without a good token, and never told more", async () => {
    await refused(call("/shop", {}, { "x-shop-token": "" }), 401, "invalid_vr_token");
    await refused(call("/shop", {}, { "x-shop-token": "vrt_nonsense" }), 401, "invalid_vr_token");
    await studio.user(ann.id).call("studio.revoke_vr_token", { token_id: shop.tokenId });
    await refused(call("/shop"), 401, "invalid_vr_token");
  });

  test("when the shop has no credits, without hearing how many", async () => {
    const poor = await studio.brand(price - 1);
    shop = await openShop(studio, poor);
    const { photo_id } = vrPhoto.parse(await (await send()).json());
    const { error } = await refused(
      ask({ photo_id, garment_id: shop.garmentId }),
      402,
      "shop_out_of_credits",
    );
    expect(error.details).toEqual({});
    expect(JSON.stringify(error)).not.toMatch(/\d{3}/);
  });

  test.each([
    ["a text", "hello", "text/plain"],
    ["a text that says it is a picture", "hello", "image/png"],
    ["a form", "x", "multipart/form-data; boundary=x"],
    ["nothing", "", "image/png"],
  ])("when what comes is %s", async (_, body, type) => {
    await refused(send(body, type), 415, "unsupported_image_type");
  });

  test("when the photo is too large, announced or not", async () => {
    const large = new Uint8Array(10 * 1024 * 1024 + 1);
    large.set(png);
    await refused(
      send(large, "image/png", { "content-length": String(large.length) }),
      413,
      "payload_too_large",
    );
    const stream = new Blob([large]).stream();
    await refused(
      app.request("/tryon/photos", {
        method: "POST",
        body: stream,
        duplex: "half",
        headers: { "x-shop-token": shop.token, "content-type": "image/png", "transfer-encoding": "chunked" },
      } as RequestInit),
      413,
      "payload_too_large",
    );
  });

  test("with words for what is wrong in the body", async () => {
    const { error } = await refused(
      ask({ photo_id: "x", garment_id: shop.garmentId }),
      400,
      "invalid_argument",
    );
    expect(error.message).toMatch(/^photo_id: /);
    await refused(call("/tryons", { method: "POST", body: "{" }), 400, "invalid_json");
    await refused(call("/tryons/nonsense"), 400, "invalid_argument");
    await refused(call("/nowhere"), 404, "unknown_route");
  });

  test("beyond the token's limit, with the seconds to wait", async () => {
    shop = await openShop(studio, ann, { token: { rate_limit_per_minute: 5 } });
    const answers = await Promise.all(Array.from({ length: 20 }, () => call("/shop")));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    const late = answers.filter(({ status }) => status === 429);
    expect(late).toHaveLength(15);
    for (const { headers } of late) {
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      expect(Number(headers.get("retry-after"))).toBeLessThanOrEqual(108);
    }
    await refused(call("/shop"), 429, "rate_limited");
  });

  test("not for looking how far a try-on is, which counts for the address alone", async () => {
    shop = await openShop(studio, ann, { token: { rate_limit_per_minute: 3 } });
    const looks = await Promise.all(Array.from({ length: 30 }, () => call(`/tryons/${crypto.randomUUID()}`)));
    expect(looks.map(({ status }) => status)).toEqual(Array(30).fill(404));
    expect((await call("/shop")).status).toBe(200);
    await refused(call("/tryons/x", {}, { "x-shop-token": "vrt_guess" }), 401, "invalid_vr_token");
    const others = await Promise.all(
      Array.from({ length: 220 }, () => call(`/tryons/${crypto.randomUUID()}`)),
    );
    expect(others.filter(({ status }) => status === 429)).toHaveLength(30 + 1 + 1 + 220 - 240);
  });

  test("when the address guesses tokens, before any is looked at", async () => {
    const guess = () => call("/shop", {}, { "x-shop-token": "vrt_guess" });
    const answers = await Promise.all(Array.from({ length: 260 }, guess));
    const count = (status: number) => answers.filter((answer) => answer.status === status).length;
    expect([count(401), count(429)]).toEqual([240, 20]);
    expect(answers.find(({ status }) => status === 429)!.headers.get("retry-after")).toMatch(/^\d+$/);
  });
});

describe("a page in a browser", () => {
  const origin = "https://brand.example";

  test("may act when the shop allows its origin, and reads errors", async () => {
    const preflight = await app.request("/tryon/tryons", {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST" },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe(origin);
    expect(preflight.headers.get("access-control-allow-headers")).toContain("x-shop-token");
    const answer = await call("/shop", {}, { origin });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
    expect(answer.headers.get("vary")).toContain("origin");
    const { headers } = await refused(
      call("/shop", {}, { origin, "x-shop-token": "x" }),
      401,
      "invalid_vr_token",
    );
    expect(headers.get("access-control-allow-origin")).toBe(origin);
  });

  test("of another origin is refused and gets to read nothing", async () => {
    const { headers } = await refused(
      call("/shop", {}, { origin: "https://evil.example" }),
      403,
      "origin_not_allowed",
    );
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });
});

test("nothing of this was our fault", () => {
  expect(lines.filter(({ level }) => level === "error")).toEqual([]);
});
