import { access } from "node:fs/promises";
import { join } from "node:path";
import Stripe from "stripe";
import { expect, test } from "vitest";
import { startStandIns } from "../../supabase/local/standins/index.ts";
import { forStandIns } from "../../supabase/local/standins/names.ts";
import { control, startStage } from "./receiver.ts";

test("a restart keeps keys and sessions, sends what is pending and runs what was waiting", async () => {
  const { receiver, standIns, dataDir, close } = await startStage();
  const { env } = standIns;
  const { hostname, port } = new URL(standIns.stripe.url);
  const stripe = new Stripe(env.STRIPE_SECRET_KEY as string, { host: hostname, port, protocol: "http" });
  await control(standIns.stripe.url).add({ late_ms: 400 });
  const customer = await stripe.customers.create({ email: "pending@example.com" });
  await control(standIns.fal.url).add({ queue_ms: 300, plain: true });
  const submitted = await fetch(
    `${standIns.fal.url}/fal-ai/esrgan?fal_webhook=${receiver.url}/webhooks/fal`,
    {
      method: "POST",
      headers: { authorization: `Key ${env.FAL_KEY}` },
      body: JSON.stringify({ image_url: `${receiver.url}/samples/garment-tee.png` }),
    },
  );
  const { request_id } = (await submitted.json()) as { request_id: string };
  await standIns.close();
  expect(receiver.received).toEqual([]);
  await access(join(dataDir, "stripe.json"));

  const portOf = (url: string) => Number(new URL(url).port);
  const ports = forStandIns((name) => portOf(standIns[name].url));
  const again = await startStandIns({ apiUrl: receiver.url, functionsUrl: receiver.url, dataDir, ports });
  try {
    expect(again.env).toEqual(env);
    expect((await stripe.customers.retrieve(customer.id)).id).toBe(customer.id);
    await receiver.until(1, ({ body }) => body.includes("pending@example.com"));
    await receiver.until(1, ({ body }) => body.includes(request_id));
  } finally {
    await again.close();
    await close();
  }
});

test("a port that is taken is an error, and leaves nothing running", async () => {
  const { standIns, close, dataDir, receiver } = await startStage();
  const ports = { fal: Number(new URL(standIns.fal.url).port) };
  const urls = { apiUrl: receiver.url, functionsUrl: receiver.url, dataDir: join(dataDir, "second") };
  await expect(startStandIns({ ...urls, ports })).rejects.toThrow(/EADDRINUSE/);
  await close();
});
