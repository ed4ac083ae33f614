import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { replicateWebhooks } from "../../functions/webhooks/providers/replicate.ts";
import { control, type Received, type Stage, startStage } from "./receiver.ts";

let stage: Stage;
let orders: ReturnType<typeof control>;
beforeAll(async () => {
  stage = await startStage();
  orders = control(stage.standIns.replicate.url);
});
afterAll(() => stage.close());
beforeEach(() => orders.reset());

// biome-ignore lint/suspicious/noExplicitAny: whatever the stand-in answers.
type Answer = { status: number; headers: Headers; body: any };
const tryOn = "0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985";

async function call(path: string, method = "GET", body?: unknown, token?: string): Promise<Answer> {
  const { url, env } = stage.standIns.replicate;
  const authorization = `Bearer ${token ?? env.REPLICATE_API_TOKEN}`;
  const response = await fetch(`${url}/v1${path}`, {
    method,
    headers: { authorization, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

const sample = (name: string) => `${stage.receiver.url}/samples/${name}`;
const draw = (more: object = {}, input: object = {}) =>
  call("/models/black-forest-labs/flux-schnell/predictions", "POST", {
    input: { prompt: "a red dress", output_format: "png", ...input },
    webhook: `${stage.receiver.url}/webhooks/replicate`,
    webhook_events_filter: ["completed"],
    ...more,
  });
const webhooks = ({ body }: Answer, count = 1) =>
  stage.receiver.until(count, (webhook) => webhook.body.includes(`"id":"${body.id}"`));
const ended = async ({ body }: Answer) => {
  await expect
    .poll(async () => (await call(`/predictions/${body.id}`)).body.completed_at, { timeout: 5000 })
    .not.toBeNull();
  return (await call(`/predictions/${body.id}`)).body;
};

describe("a prediction", () => {
  test("of an official model is created, runs, is announced and can be fetched", async () => {
    const created = await draw({}, { num_outputs: 2 });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
      id: expect.stringMatching(/^[0-9a-z]{26}$/),
      model: "black-forest-labs/flux-schnell",
      output: null,
      error: null,
      data_removed: false,
      urls: { get: expect.stringContaining(created.body.id), cancel: expect.stringMatching(/cancel$/) },
    });
    const [webhook] = (await webhooks(created)) as [Received];
    const told = JSON.parse(webhook.body);
    expect(told).toMatchObject({ id: created.body.id, status: "succeeded" });
    expect(told.output).toHaveLength(2);
    expect(await ended(created)).toEqual(told);
    const bytes = Buffer.from(await (await fetch(told.output[0])).arrayBuffer());
    expect(await sharp(bytes).metadata()).toMatchObject({ format: "png", width: 1024, height: 1024 });
  });

  test("is announced with a signature that our verifier takes, and no other body", async () => {
    const [webhook] = (await webhooks(await draw())) as [Received];
    const { verify } = replicateWebhooks([stage.standIns.env.REPLICATE_WEBHOOK_SECRETS as string]);
    const judge = (body: string) =>
      verify(new Headers(webhook.headers), new TextEncoder().encode(body), Date.now());
    expect(judge(webhook.body)).toMatchObject({ events: [{ eventType: "succeeded" }] });
    expect(() => judge(`${webhook.body} `)).toThrow();
    expect((await call("/webhooks/default/secret")).body).toEqual({
      key: stage.standIns.env.REPLICATE_WEBHOOK_SECRETS,
    });
  });

  test("of another model is created by its version, with one file for output", async () => {
    const input = {
      human_img: sample("person-ada.jpg"),
      garm_img: sample("garment-tee.png"),
      garment_des: "tee",
    };
    const created = await call("/predictions", "POST", { version: tryOn, input });
    expect(created).toMatchObject({ status: 201, body: { version: tryOn, model: "cuuupid/idm-vton" } });
    const { status, output } = await ended(created);
    expect([status, typeof output]).toEqual(["succeeded", "string"]);
  });

  test("says on the way how far it is, to whoever asked for its start", async () => {
    await orders.add({ delay_ms: 60, plain: true, times: 1 });
    const created = await draw({ webhook_events_filter: ["start", "completed"] });
    const seen = (await webhooks(created, 2)).map(({ body }) => JSON.parse(body));
    expect(seen.map(({ status }) => status)).toEqual(["processing", "succeeded"]);
    expect(seen[0].logs).toContain("50%");
  });

  test.each([
    ["a wrong token", () => call("/predictions/x", "GET", undefined, "r8_wrong"), 401],
    ["an unknown prediction", () => call("/predictions/none"), 404],
    ["an unknown model", () => call("/models/nobody/nothing/predictions", "POST", { input: {} }), 404],
    [
      "a model without its version",
      () => call("/models/cuuupid/idm-vton/predictions", "POST", { input: {} }),
      404,
    ],
    ["an unknown version", () => call("/predictions", "POST", { version: "f00", input: {} }), 422],
    ["no input", () => call("/predictions", "POST", { version: tryOn }), 422],
  ])("with %s is refused", async (_, send, status) => {
    expect((await send()).status).toBe(status);
  });

  test("with bad input is refused with its fields", async () => {
    const { status, body } = await draw({}, { num_outputs: 9, prompt: undefined });
    expect(status).toBe(422);
    expect(body).toMatchObject({ title: "Input validation failed", status: 422 });
    expect(body.invalid_fields.map(({ field }: { field: string }) => field).sort()).toEqual([
      "input",
      "input.num_outputs",
    ]);
  });

  test("with a file that cannot be fetched fails and says why", async () => {
    const input = { image: `${stage.receiver.url}/samples/none.png` };
    const version = "95fcc2a26d3899cd6c2691c900465aaeff466285a65c14638cc5f36f34befaf1";
    expect(await ended(await call("/predictions", "POST", { version, input }))).toMatchObject({
      status: "failed",
      output: null,
      error: expect.stringContaining("download"),
    });
  });

  test("loses its data and files when its time is over", async () => {
    await orders.add({ expire_ms: 0, plain: true, times: 1 });
    expect(await ended(await draw())).toMatchObject({
      status: "succeeded",
      output: null,
      input: {},
      data_removed: true,
    });
  });
});

describe("cancelling", () => {
  test("ends what waits at once, and a run soon", async () => {
    await orders.add({ queue_ms: 60_000, times: 1 });
    const waiting = await draw();
    expect((await call(`/predictions/${waiting.body.id}/cancel`, "POST")).body.status).toBe("canceled");
    await orders.add({ delay_ms: 60_000, times: 1 });
    const running = await draw();
    await call(`/predictions/${running.body.id}/cancel`, "POST");
    expect(JSON.parse((await webhooks(running))[0]?.body ?? "")).toMatchObject({
      status: "canceled",
      output: null,
    });
    const again = await call(`/predictions/${running.body.id}/cancel`, "POST");
    expect(again).toMatchObject({ status: 200, body: { status: "canceled" } });
  });

  test("may be ignored", async () => {
    await orders.add({ delay_ms: 80, ignore_cancel: true, plain: true, times: 1 });
    const stubborn = await draw();
    await expect
      .poll(async () => (await call(`/predictions/${stubborn.body.id}`)).body.status)
      .toBe("processing");
    await call(`/predictions/${stubborn.body.id}/cancel`, "POST");
    expect((await ended(stubborn)).status).toBe("succeeded");
  });
});

describe("misbehaving", () => {
  test("creations are throttled, fail, or are taken without an answer", async () => {
    await orders.add({ fail: "submit", http_status: 429, retry_after: 3, times: 1 });
    const throttled = await draw();
    expect(throttled).toMatchObject({ status: 429, body: { detail: expect.stringContaining("throttled") } });
    expect(throttled.headers.get("retry-after")).toBe("3");
    await orders.add({ fail: "answer", plain: true, times: 1 });
    expect((await draw()).status).toBe(500);
    await orders.add({ plain: true });
    await webhooks(await draw());
    await expect.poll(async () => (await orders.show()).counts.webhooks?.delivered).toBe(2);
    expect(Object.values((await orders.show()).counts.submits_by_input)).toEqual([2]);
    const { requests } = await orders.requests("method=POST");
    expect(JSON.stringify(requests)).not.toContain(stage.standIns.env.REPLICATE_API_TOKEN);
  });

  test("runs fail, and webhooks come twice or never", async () => {
    await orders.add({ fail: "run", times: 1 });
    expect(await ended(await draw())).toMatchObject({ status: "failed", error: expect.any(String) });
    await orders.add({ plain: true });
    await orders.add({ duplicate: 1, types: ["succeeded"], times: 1 });
    expect(await webhooks(await draw(), 2)).toHaveLength(2);
    await orders.add({ lose_webhook: true, times: 1 });
    const silent = await draw();
    expect((await ended(silent)).status).toBe("succeeded");
    expect((await orders.show()).counts.webhooks.lost).toBe(1);
  });
});
