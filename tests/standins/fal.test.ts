import { createHash, createPublicKey, type JsonWebKey, verify } from "node:crypto";
import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { control, type Received, type Stage, startStage } from "./receiver.ts";

let stage: Stage;
let orders: ReturnType<typeof control>;

beforeAll(async () => {
  stage = await startStage();
  orders = control(stage.standIns.fal.url);
});
afterAll(() => stage.close());
beforeEach(() => orders.reset());

type Answer = { status: number; headers: Headers; body: Record<string, never> & { [key: string]: unknown } };

async function call(url: string, method = "GET", body?: unknown): Promise<Answer> {
  const headers = { authorization: `Key ${stage.standIns.env.FAL_KEY}`, "content-type": "application/json" };
  const response = await fetch(url, {
    method,
    headers,
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Answer["body"],
  };
}

const sample = (name: string) => `${stage.receiver.url}/samples/${name}`;
const person = () => ({ model_image: sample("person-ada.jpg"), garment_image: sample("garment-tee.png") });

function submit(input: object, model = "fal-ai/fashn/tryon/v1.6", name = "fal"): Promise<Answer> {
  const webhook = encodeURIComponent(`${stage.receiver.url}/webhooks/${name}`);
  return call(`${stage.standIns.fal.url}/${model}?fal_webhook=${webhook}`, "POST", input);
}

async function webhooks(
  { body }: Answer,
  count = 1,
): Promise<(Received & { json: Record<string, never> })[]> {
  const found = await stage.receiver.until(count, (webhook) =>
    webhook.body.includes(String(body.request_id)),
  );
  return found.map((webhook) => ({ ...webhook, json: JSON.parse(webhook.body) }));
}

async function isSigned({ headers, body }: Received): Promise<boolean> {
  const { keys } = (await (await fetch(stage.standIns.env.FAL_JWKS_URL as string)).json()) as {
    keys: JsonWebKey[];
  };
  const digest = createHash("sha256").update(body).digest("hex");
  const parts = ["request-id", "user-id", "timestamp"].map((name) => headers[`x-fal-webhook-${name}`]);
  const message = Buffer.from([...parts, digest].join("\n"));
  const signature = Buffer.from(headers["x-fal-webhook-signature"] as string, "hex");
  return keys.some((key) => verify(null, message, createPublicKey({ key, format: "jwk" }), signature));
}

describe("queue", () => {
  test("a try-on is accepted, runs, is announced and can be fetched", async () => {
    const submitted = await submit({ ...person(), category: "tops", num_samples: 2 });
    expect(submitted.status).toBe(200);
    expect(submitted.body.status_url).toContain("/fal-ai/fashn/requests/");
    const [webhook] = await webhooks(submitted);
    expect(webhook?.json).toMatchObject({ request_id: submitted.body.request_id, status: "OK" });
    expect(await isSigned(webhook as Received)).toBe(true);
    expect(await isSigned({ ...(webhook as Received), body: `${webhook?.body} ` })).toBe(false);
    const status = await call(`${submitted.body.status_url}?logs=1`);
    expect(status).toMatchObject({
      status: 200,
      body: { status: "COMPLETED", metrics: {}, logs: expect.any(Array) },
    });
    const { body } = await call(String(submitted.body.response_url));
    expect(body).toEqual(webhook?.json.payload);
    const images = body.images as unknown as { url: string; width: number; file_size: number }[];
    expect(images).toHaveLength(2);
    for (const { url, width, file_size } of images) {
      const bytes = Buffer.from(await (await fetch(url)).arrayBuffer());
      expect(bytes.length).toBe(file_size);
      expect((await sharp(bytes).metadata()).width).toBe(width);
    }
  });

  test("the background is removed and a picture is enlarged", async () => {
    const cut = await submit({ image_url: sample("garment-sweater.jpg") }, "fal-ai/birefnet/v2");
    const [removed] = await webhooks(cut);
    const { image } = JSON.parse(removed?.body ?? "").payload;
    const { channels } = await sharp(Buffer.from(await (await fetch(image.url)).arrayBuffer())).stats();
    expect(channels[3]?.min).toBe(0);
    expect(channels[3]?.max).toBe(255);
    const scaled = await submit({ image_url: sample("garment-tee.png"), scale: 1.5 }, "fal-ai/esrgan");
    const [enlarged] = await webhooks(scaled);
    expect(enlarged?.json).toMatchObject({ payload: { image: { width: 900, height: 975 } } });
  });

  test.each([
    [
      "fal-ai/flux/schnell",
      { prompt: "a red dress", num_images: 2, image_size: "portrait_4_3" },
      2,
      [768, 1024],
    ],
    ["fal-ai/flux-pro/kontext", { prompt: "make it blue", image_url: "garment-tee.png" }, 1, null],
    ["fal-ai/flux/dev/image-to-image", { prompt: "oil painting", image_url: "garment-tee.png" }, 1, null],
  ] as const)("%s makes pictures that follow from their input", async (model, input, count, size) => {
    const url = "image_url" in input ? { image_url: sample(input.image_url) } : {};
    const [webhook] = await webhooks(await submit({ ...input, ...url }, model));
    const { images } = JSON.parse(webhook?.body ?? "").payload;
    expect(images).toHaveLength(count);
    const bytes = Buffer.from(await (await fetch(images[0].url)).arrayBuffer());
    const { width, height, format } = await sharp(bytes).metadata();
    expect(format).toBe("png");
    if (size) expect([width, height]).toEqual(size);
    const again = await webhooks(await submit({ ...input, ...url, seed: 77 }, model));
    const other = JSON.parse(again[0]?.body ?? "").payload.images[0];
    expect(Buffer.from(await (await fetch(other.url)).arrayBuffer()).equals(bytes)).toBe(
      input.prompt === "make it blue",
    );
  });

  test("a film begins with its picture", async () => {
    const model = "fal-ai/kling-video/v1.6/standard/image-to-video";
    const input = { prompt: "she turns", image_url: sample("person-ada.jpg"), duration: "5" };
    const [webhook] = await webhooks(await submit(input, model));
    const { video } = JSON.parse(webhook?.body ?? "").payload;
    expect(video).toMatchObject({ content_type: "video/mp4", file_name: "output.mp4" });
    const bytes = Buffer.from(await (await fetch(video.url)).arrayBuffer());
    expect(bytes.subarray(4, 8).toString()).toBe("ftyp");
    const frame = bytes.subarray(bytes.indexOf(Buffer.from([0xff, 0xd8, 0xff])));
    expect((await sharp(frame).metadata()).format).toBe("jpeg");
  });

  test.each([
    ["no key", () => fetch(`${stage.standIns.fal.url}/fal-ai/esrgan`, { method: "POST", body: "{}" }), 401],
    ["an unknown model", () => submit({}, "fal-ai/nothing"), 404],
    ["an unknown request", () => call(`${stage.standIns.fal.url}/fal-ai/fashn/requests/none/status`), 404],
    [
      "cancelling an unknown request",
      () => call(`${stage.standIns.fal.url}/fal-ai/fashn/requests/none/cancel`, "PUT"),
      404,
    ],
  ])("%s is refused", async (_, send, status) => {
    expect((await send()).status).toBe(status);
  });

  test("bad input answers 422 with its details", async () => {
    const { status, body } = await submit({ garment_image: "no url", category: "hats" });
    expect(status).toBe(422);
    expect(body.detail).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ loc: ["body", "model_image"], type: "missing" }),
        expect.objectContaining({ loc: ["body", "garment_image"], type: "url_parsing" }),
        expect.objectContaining({ loc: ["body", "category"] }),
      ]),
    );
  });

  test.each([
    ["cannot be fetched", "/samples/none.png", "file_download_error"],
    ["is no picture", "/text", "image_load_error"],
    ["shows no garment", "/blank", "image_load_error"],
  ])("a file that %s fails the run", async (_, path, type) => {
    const submitted = await submit({ ...person(), garment_image: stage.receiver.url + path });
    expect(submitted.status).toBe(200);
    const [webhook] = await webhooks(submitted);
    const detail = [expect.objectContaining({ loc: ["body", "garment_image"], type })];
    expect(webhook?.json).toMatchObject({ status: "ERROR", payload: { detail } });
    expect((await call(String(submitted.body.status_url))).body.status).toBe("COMPLETED");
    expect(await call(String(submitted.body.response_url))).toMatchObject({ status: 422, body: { detail } });
  });
});

describe("cancelling", () => {
  test("a waiting request is taken out and stays silent", async () => {
    await orders.add({ queue_ms: 60_000, times: 1 });
    const { body } = await submit(person());
    expect((await call(String(body.status_url))).body).toMatchObject({
      status: "IN_QUEUE",
      queue_position: 0,
    });
    expect(await call(String(body.cancel_url), "PUT")).toMatchObject({ status: 202, body: { status: "OK" } });
    expect((await call(String(body.status_url))).body.status).toBe("COMPLETED");
    expect(await call(String(body.cancel_url), "PUT")).toMatchObject({
      status: 400,
      body: { status: "ALREADY_COMPLETED" },
    });
    expect((await orders.show()).counts.webhooks).toBeUndefined();
  });

  test("a running request gets a signal, and may complete nevertheless", async () => {
    await orders.add({ delay_ms: 60_000, times: 1 });
    const obedient = await submit(person());
    expect((await call(String(obedient.body.status_url))).body.status).toBe("IN_PROGRESS");
    const cancelled = await call(String(obedient.body.cancel_url), "PUT");
    expect(cancelled).toMatchObject({ status: 202, body: { status: "CANCELLATION_REQUESTED" } });
    expect((await webhooks(obedient))[0]?.json).toMatchObject({ status: "ERROR" });
    await orders.add({ delay_ms: 100, ignore_cancel: true, plain: true, times: 1 });
    const stubborn = await submit(person());
    await call(String(stubborn.body.cancel_url), "PUT");
    expect((await webhooks(stubborn))[0]?.json).toMatchObject({ status: "OK" });
  });
});

describe("misbehaving", () => {
  test("each third question fails, twice", async () => {
    const run = await submit(person());
    await webhooks(run);
    await orders.add({ fail: "status", http_status: 503, every: 3, times: 2 });
    const seen: boolean[] = [];
    for (let n = 0; n < 9; n++) seen.push((await call(String(run.body.status_url))).status === 503);
    expect(seen).toEqual([false, false, true, false, false, true, false, false, false]);
  });

  test("submissions fail, or are accepted without an answer", async () => {
    await orders.add({ fail: "submit", http_status: 429, retry_after: 2, times: 1 });
    const refused = await submit(person());
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("2");
    await orders.add({ fail: "answer", plain: true, times: 1 });
    expect((await submit(person())).status).toBe(500);
    await orders.add({ plain: true });
    await submit(person());
    // Also the run whose submission was not answered is announced, and no later test finds its webhook.
    await expect.poll(async () => (await orders.show()).counts.webhooks?.delivered).toBe(2);
    const { counts } = await orders.show();
    expect(Object.values(counts.submits_by_input)).toEqual([2]);
    const { requests } = await orders.requests("method=POST");
    expect(requests.map(({ status }: { status: number }) => status)).toEqual([429, 500, 200]);
    expect(JSON.stringify(requests)).not.toContain(stage.standIns.env.FAL_KEY);
  });

  test("a run fails with a signed error", async () => {
    await orders.add({ fail: "run", http_status: 503, times: 1 });
    const submitted = await submit(person());
    const [webhook] = await webhooks(submitted);
    expect(webhook?.json).toMatchObject({ status: "ERROR", error: expect.any(String) });
    expect(await isSigned(webhook as Received)).toBe(true);
    expect((await call(String(submitted.body.response_url))).status).toBe(503);
  });

  test("webhooks come twice, late, again after a refusal, or never", async () => {
    await orders.add({ plain: true });
    await orders.add({ duplicate: 1, times: 1 });
    expect(await webhooks(await submit(person()), 2)).toHaveLength(2);
    await orders.add({ late_ms: 80, times: 1 });
    const started = Date.now();
    const [late] = await webhooks(await submit(person()));
    expect((late?.at as number) - started).toBeGreaterThanOrEqual(78);
    stage.receiver.refuse("/webhooks/refusing", [500, 404]);
    expect(await webhooks(await submit(person(), undefined, "refusing"), 3)).toHaveLength(3);
    await orders.add({ lose_webhook: true, times: 1 });
    const silent = await submit(person());
    await expect.poll(async () => (await call(String(silent.body.status_url))).body.status).toBe("COMPLETED");
    expect((await orders.show()).counts.webhooks.lost).toBe(1);
    expect(stage.receiver.received.some(({ body }) => body.includes(String(silent.body.request_id)))).toBe(
      false,
    );
  });

  test("the webhook of the first request comes after that of the second", async () => {
    await orders.add({ plain: true });
    await orders.add({ reorder: true, times: 1 });
    const first = await submit(person());
    await expect.poll(async () => (await call(String(first.body.status_url))).body.status).toBe("COMPLETED");
    const second = await submit(person());
    const [later, earlier] = [await webhooks(first), await webhooks(second)];
    const order = stage.receiver.received.map(({ body }) => body);
    expect(order.indexOf(earlier[0]?.body as string)).toBeLessThan(order.indexOf(later[0]?.body as string));
  });
});
