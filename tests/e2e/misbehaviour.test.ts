import { beforeEach, describe, expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const price = 383 * 6;
const s = useStack();
beforeEach(() => s.calm());

async function finish(rule: Record<string, unknown>) {
  const person = await s.person();
  await s.order("fal", rule);
  const { id } = await s.request(person);
  const creation = await s.ended(person, id);
  return { person, creation, balance: await s.balance(person) };
}

describe("a provider that misbehaves", () => {
  test.each([
    ["is slow", { delay_ms: 1500 }],
    ["answers twice", { duplicate: 2 }],
    ["answers late", { late_ms: 1000 }],
    ["answers out of order", { reorder: true }],
    ["refuses the first submit", { fail: "submit", http_status: 503, times: 1 }],
    ["is too busy for the first submit", { fail: "submit", http_status: 429, retry_after: 1, times: 1 }],
  ])("one that %s still ends in one picture and one charge", async (_, rule) => {
    const { creation, balance } = await finish(rule);
    expect(creation).toMatchObject({ status: "completed", cost_micro: price });
    expect(balance).toMatchObject({ available_micro: 100_000 - price, held_micro: 0 });
    expect(await s.faults()).toEqual([]);
  });

  test("one that loses the webhook is asked, and the picture is there", async () => {
    const person = await s.person();
    await s.order("fal", { lose_webhook: true });
    const { id } = await s.request(person);
    await eventually("waiting for the callback", async () => {
      const [job] = await s.sql(
        "select from ops.jobs where state = 'waiting' and payload ->> 'creation_id' = $1",
        [id],
      );
      return job;
    });
    await eventually("the provider has finished", async () => {
      await s.hurry();
      const { data } = await person.client
        .schema("studio")
        .from("creations")
        .select("status")
        .eq("id", id)
        .single();
      return data?.status === "completed";
    });
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000 - price, held_micro: 0 });
  });

  test("one that fails leaves a creation that says why, and nothing charged", async () => {
    const { person, creation, balance } = await finish({ fail: "run" });
    expect(creation.status).toBe("failed");
    expect(creation.error_message).toMatch(/^provider_failed: /);
    expect(creation.error_code).toBe("provider_failed");
    expect(balance).toMatchObject({ available_micro: 100_000, held_micro: 0 });
    const news = must(await person.client.schema("messaging").from("notifications").select("title"));
    expect(news.map((n) => n.title)).toContain("Your picture could not be made");
  });

  test("one that never answers runs out of time, and the charge is released", async () => {
    const person = await s.person();
    await s.order("fal", { lose_webhook: true, delay_ms: 600_000 });
    const { id } = await s.request(person);
    await eventually("waiting for the callback", async () => {
      const [job] = await s.sql(
        "select from ops.jobs where state = 'waiting' and payload ->> 'creation_id' = $1",
        [id],
      );
      return job;
    });
    await s.sql(
      "update ops.live_jobs set deadline_at = now() where payload ->> 'creation_id' = $1 and kind = 'studio.creation'",
      [id],
    );
    const creation = await s.ended(person, id);
    expect(creation).toMatchObject({ status: "failed", error_code: "timed_out" });
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000, held_micro: 0 });
  });
});

describe("cancelling", () => {
  test("work at the provider is cancelled there, and the charge is released at once", async () => {
    const person = await s.person();
    await s.order("fal", { delay_ms: 5_000 });
    const { id } = await s.request(person);
    await eventually("submitted", async () => {
      const { data } = await person.client
        .schema("studio")
        .from("creations")
        .select("*")
        .eq("id", id)
        .single();
      return data?.provider_request_id;
    });
    const cancelled = must(await person.client.schema("studio").rpc("cancel_creation", { creation_id: id }));
    expect(cancelled.status).toBe("cancelled");
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000, held_micro: 0 });
    await eventually("the provider was told", async () => {
      const answer = await fetch(`${s.stack.standins.fal}/_requests?method=PUT&path=/cancel`);
      return ((await answer.json()) as { count: number }).count > 0;
    });
    expect(await s.faults()).toEqual([]);
  });
});
