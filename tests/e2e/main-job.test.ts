import sharp from "sharp";
import { beforeEach, describe, expect, test } from "vitest";
import { eventually, must, useStack } from "./stack.ts";

const price = 383 * 6;
const s = useStack();
beforeEach(() => s.calm());

async function buy(person: Awaited<ReturnType<typeof s.person>>, outcome: string) {
  const checkout = must(
    await person.client.functions.invoke("billing/top-up", {
      body: {
        workspace_id: person.workspaceId,
        package: "starter",
        success_url: "https://example.com/thanks",
        cancel_url: "https://example.com/credits",
      },
    }),
  );
  await fetch(checkout.checkout_url, {
    method: "POST",
    body: new URLSearchParams({ outcome }),
    redirect: "manual",
  });
  return checkout;
}

const payment = (id: string) => async () => {
  const [row] = await s.sql<{ status: string }>("select status from billing.payments where id = $1", [id]);
  return row && !["pending", "processing"].includes(row.status) ? row.status : undefined;
};

describe("the main job", () => {
  test("a person signs up, buys credits, asks for a try-on and gets a picture that is paid for once", async () => {
    const person = await s.person(0);
    const checkout = await buy(person, "success");
    expect(await eventually("payment", payment(checkout.payment_id))).toBe("succeeded");
    expect(await s.balance(person)).toMatchObject({ prepaid_micro: 500_000, held_micro: 0 });

    const requested = await s.request(person, { key: "one" });
    expect(requested.status).toBe("pending");
    expect(await s.balance(person)).toMatchObject({ held_micro: price, available_micro: 500_000 - price });

    const creation = await s.ended(person, requested.id);
    expect(creation).toMatchObject({
      status: "completed",
      progress: 100,
      cost_micro: price,
      provider: "fal",
    });
    expect(await s.balance(person)).toMatchObject({ held_micro: 0, available_micro: 500_000 - price });

    const { signedUrl } = must(
      await person.client.storage.from("studio-results").createSignedUrl(creation.result_paths[0]!, 60),
    );
    const picture = await sharp(Buffer.from(await (await fetch(signedUrl)).arrayBuffer())).metadata();
    expect(picture.width).toBeGreaterThan(300);

    const news = must(
      await person.client.schema("messaging").from("notifications").select("title, metadata"),
    );
    expect(news.map((n) => n.title)).toContain("Your picture is ready");
    expect(await s.faults()).toEqual([]);
  });

  test("the same key asks once, and its charge is one", async () => {
    const person = await s.person();
    const [first, second] = await Promise.all([
      s.request(person, { key: "same" }),
      s.request(person, { key: "same" }),
    ]);
    expect(second!.id).toBe(first!.id);
    await s.ended(person, first!.id);
    expect(await s.balance(person)).toMatchObject({ available_micro: 100_000 - price });
  });

  test("four outputs are four pictures and four charges", async () => {
    const person = await s.person();
    const creation = await s.ended(person, (await s.request(person, { num_outputs: 4 })).id);
    expect(creation.result_paths).toHaveLength(4);
    expect(creation.cost_micro).toBe(4 * price);
  });

  test("a background is removed and a picture is enlarged by the same way", async () => {
    const person = await s.person();
    const [cut, large] = await Promise.all([
      s.request(person, { creation_type: "bg_remove", garment_id: undefined }),
      s.request(person, { creation_type: "upscale", garment_id: undefined }),
    ]);
    expect((await s.ended(person, cut!.id)).status).toBe("completed");
    expect((await s.ended(person, large!.id)).status).toBe("completed");
  });
});

describe("what clients are told", () => {
  test("without credits the request is refused with 402 and says what is missing", async () => {
    const person = await s.person(0);
    const { error, status } = await person.client.schema("studio").rpc("request_creation", {
      workspace_id: person.workspaceId,
      creation_type: "tryon",
      garment_id: person.garmentId,
      input_path: person.personPath,
    });
    expect(status).toBe(402);
    expect(error?.message).toMatch(/^insufficient_credits: /);
    expect(JSON.parse(error!.details)).toMatchObject({ required_micro: price, missing_micro: price });
    expect(error?.hint).toMatch(/credits/);
    expect(must(await person.client.schema("studio").from("creations").select("id"))).toEqual([]);
  });

  test("a stranger's workspace is unknown, and its garments are too", async () => {
    const [person, stranger] = [await s.person(), await s.person()];
    const foreign = await stranger.client.schema("studio").rpc("request_creation", {
      workspace_id: person.workspaceId,
      creation_type: "tryon",
      garment_id: person.garmentId,
      input_path: person.personPath,
    });
    expect(foreign.status).toBe(404);
    const garment = await stranger.client.schema("studio").rpc("request_creation", {
      workspace_id: stranger.workspaceId,
      creation_type: "tryon",
      garment_id: person.garmentId,
      input_path: stranger.personPath,
    });
    expect(garment.error?.message).toMatch(/^unknown_garment: /);
    expect(await s.balance(stranger)).toMatchObject({ held_micro: 0 });
  });

  test("a text file is not taken for a picture", async () => {
    const person = await s.person();
    const { error } = await person.client.storage
      .from("studio-uploads")
      .upload(`${person.workspaceId}/a.txt`, "hello", { contentType: "text/plain" });
    expect(error?.message).toMatch(/mime|type/i);
  });
});

describe("payments that go wrong", () => {
  test("a declined card brings no credits", async () => {
    const person = await s.person(0);
    await buy(person, "decline");
    expect(await s.balance(person)).toMatchObject({ available_micro: 0 });
  });

  test("a lost webhook is found by asking", async () => {
    const person = await s.person(0);
    await s.order("stripe", { lose_webhook: true });
    const checkout = await buy(person, "success");
    await s.hurry();
    expect(await eventually("payment", payment(checkout.payment_id))).toBe("succeeded");
    expect(await s.balance(person)).toMatchObject({ available_micro: 500_000 });
  });

  test.each([{ duplicate: 3 }, { reorder: true }, { late_ms: 500 }])(
    "credits arrive once with %o",
    async (rule) => {
      const person = await s.person(0);
      await s.order("stripe", rule);
      const checkout = await buy(person, "success");
      expect(await eventually("payment", payment(checkout.payment_id))).toBe("succeeded");
      expect(await s.balance(person)).toMatchObject({ available_micro: 500_000 });
      expect(await s.faults()).toEqual([]);
    },
  );
});
