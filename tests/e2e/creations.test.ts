import type { SupabaseClient } from "@supabase/supabase-js";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Creation, eventually, must, type Person, useStack } from "./stack.ts";

// Pictures and a film of every kind, through supabase-js: asked for, watched, fetched; made elsewhere when the first
// maker fails; tried again; cancelled.

const price = 383 * 6;
const s = useStack();

const studio = (person: Person) => (person.client as unknown as SupabaseClient).schema("studio" as never);
const rpc = async (person: Person, name: string, args: Record<string, unknown>) =>
  must(await studio(person).rpc(name as never, args as never)) as never;
const ask = (person: Person, creation_type: string, more: Record<string, unknown> = {}): Promise<Creation> =>
  rpc(person, "request_creation", { workspace_id: person.workspaceId, creation_type, ...more });
const service = () => (s.service as unknown as SupabaseClient).schema("studio" as never);
const replicate = (path: string, body: unknown = {}) =>
  fetch(`${s.stack.standins.replicate}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
const bytesOf = async (person: Person, path: string): Promise<Buffer> => {
  const { signedUrl } = must(await person.client.storage.from("studio-results").createSignedUrl(path, 60));
  return Buffer.from(await (await fetch(signedUrl)).arrayBuffer());
};

beforeAll(async () => {
  must(await service().from("providers").update({ is_enabled: true }).eq("provider", "replicate").select());
});
afterEach(async () => {
  await s.calm();
  await replicate("/_control/reset");
  await s.sql("delete from ops.circuit_breakers");
  await s.sql("update ops.limit_keys set closed_until = null");
  expect(await s.faults()).toEqual([]);
});

describe("a person", () => {
  test("sees what can be made and what it costs, asks for a drawing and a film, and has them", async () => {
    const person = await s.person(200_000);
    const types = must(await studio(person).from("creation_types").select("creation_type, max_outputs"));
    expect(
      (types as unknown as { creation_type: string }[]).map(({ creation_type }) => creation_type),
    ).toEqual(
      expect.arrayContaining([
        "tryon",
        "bg_remove",
        "color_change",
        "text_to_image",
        "image_to_image",
        "upscale",
        "video",
      ]),
    );
    const wanted = { workspace_id: person.workspaceId, creation_type: "text_to_image", num_outputs: 2 };
    const [estimate] = (await rpc(person, "estimate_creation", wanted)) as unknown as Record<
      string,
      unknown
    >[];
    expect(estimate).toMatchObject({ amount_micro: 4 * price, affordable: true });

    const drawing = await ask(person, "text_to_image", {
      prompt: "a red dress on a chair",
      num_outputs: 2,
      key: "d",
    });
    const film = await ask(person, "video", { prompt: "she turns", input_path: person.personPath });
    const drawn = await s.ended(person, drawing.id);
    expect(drawn).toMatchObject({ status: "completed", progress: 100, cost_micro: 4 * price });
    expect((await bytesOf(person, drawn.result_paths[1]!)).subarray(1, 4).toString()).toBe("PNG");
    const filmed = await s.ended(person, film.id);
    expect(filmed).toMatchObject({ status: "completed", cost_micro: 45_000 });
    expect((await bytesOf(person, filmed.result_paths[0]!)).subarray(4, 8).toString()).toBe("ftyp");
    expect((await bytesOf(person, filmed.thumbnail_path!)).length).toBeGreaterThan(1000);
    expect(await s.balance(person)).toMatchObject({
      available_micro: 200_000 - 4 * price - 45_000,
      held_micro: 0,
    });
    const news = must(
      await person.client
        .schema("messaging")
        .from("notifications")
        .select("title, event_type")
        .order("title"),
    );
    expect(news).toEqual([
      { title: "Your picture is ready", event_type: "studio.creation_completed" },
      { title: "Your video is ready", event_type: "studio.creation_completed" },
    ]);
  });

  test("gets a try-on from the second maker when the first breaks, for the price that was shown", async () => {
    const person = await s.person();
    await s.order("fal", { fail: "run" });
    await replicate("/_control", { delay_ms: 1500 });
    const { id } = await ask(person, "tryon", {
      garment_id: person.garmentId,
      input_path: person.personPath,
    });
    const seen = new Set<string>();
    const creation = await eventually("the try-on", async () => {
      const row = must(
        await person.client.schema("studio").from("creations").select("*").eq("id", id).single(),
      );
      seen.add(`${row.provider} ${row.status}`);
      return row.completed_at && row;
    });
    expect(creation).toMatchObject({ status: "completed", provider: "replicate", cost_micro: price });
    expect([...seen]).toContain("replicate processing");
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000 - price, held_micro: 0 });
    const costs = await s.sql(
      "select provider, cost_micro from billing.provider_costs where workspace_id = $1 order by id",
      [person.workspaceId],
    );
    expect(costs).toMatchObject([
      { provider: "fal", cost_micro: "0" },
      { provider: "replicate", cost_micro: "2500" },
    ]);
  });

  test("tries again what nobody could make, and pays for the second time only", async () => {
    const person = await s.person();
    await s.order("fal", { fail: "run" });
    await replicate("/_control", { fail: "run" });
    const { id } = await ask(person, "color_change", {
      input_path: person.personPath,
      settings: { color: "blue" },
    });
    const failed = await s.ended(person, id);
    expect(failed).toMatchObject({ status: "failed", error_code: "provider_failed", cost_micro: null });
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000, held_micro: 0 });
    await s.calm();
    await replicate("/_control/reset");
    const again = (await rpc(person, "retry_creation", { creation_id: id })) as unknown as Creation;
    expect(again.id).not.toBe(id);
    expect(await s.ended(person, again.id)).toMatchObject({ status: "completed", cost_micro: 2 * price });
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000 - 2 * price, held_micro: 0 });
  });

  test("cancels what the second maker is at, and it is stopped there", async () => {
    const person = await s.person();
    await s.order("fal", { fail: "submit", http_status: 503 });
    await replicate("/_control", { delay_ms: 60_000 });
    const { id } = await ask(person, "upscale", { input_path: person.personPath });
    await eventually("the run", async () => {
      const row = must(
        await person.client.schema("studio").from("creations").select("*").eq("id", id).single(),
      );
      return row.provider === "replicate" && row.provider_request_id;
    });
    const cancelled = (await rpc(person, "cancel_creation", { creation_id: id })) as unknown as Creation;
    expect(cancelled.status).toBe("cancelled");
    await eventually("the cancelling", async () => {
      const answer = await fetch(`${s.stack.standins.replicate}/_requests?path=/cancel`);
      return ((await answer.json()) as { count: number }).count > 0;
    });
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000, held_micro: 0 });
  });
});
