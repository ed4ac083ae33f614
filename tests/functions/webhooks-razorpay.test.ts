import { describe, expect, test } from "vitest";
import { razorpayWebhooks } from "../../functions/webhooks/providers/razorpay.ts";
import { createInbox, hmac, vectorBody } from "./inbox.ts";

const secret = "rzp_wh_secret";
const inbox = await createInbox({ shared: razorpayWebhooks([secret, "rzp_older"]) });

function paid(id = "pay_1", event = "payment.captured", notes: unknown = []) {
  const entity = { id, entity: "payment", amount: 50_000, currency: "INR", status: "captured", notes };
  return JSON.stringify({
    entity: "event",
    account_id: "acc_1",
    event,
    contains: ["payment"],
    payload: { payment: { entity } },
    created_at: 1_700_000_000,
  });
}
const signed = (body: string, id: string | null = "ev_1", key = secret) => ({
  body,
  headers: {
    "x-razorpay-signature": hmac(key, body),
    ...(id !== null && { "x-razorpay-event-id": id }),
  },
});

describe("a signed event", () => {
  test("is stored under the id of its header, once, with a job", async () => {
    await inbox.expectStored(signed(paid()));
    await inbox.expectStored(signed(paid()), false);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: "ev_1",
        event_type: "payment.captured",
        payload: JSON.parse(paid()),
        headers: { "x-razorpay-event-id": "ev_1" },
        status: "pending",
      },
    ]);
    expect(await inbox.work()).toEqual([
      { event_type: "payment.captured", ...inbox.ignored, result: { ignored: true } },
    ]);
  });

  test("that is older than another, or of the same second, is stored beside it", async () => {
    await inbox.expectStored(signed(paid("pay_1", "payment.captured"), "ev_2"));
    await inbox.expectStored(signed(paid("pay_1", "payment.authorized"), "ev_1"));
    expect((await inbox.stored()).map(({ event_id }) => event_id)).toEqual(["ev_2", "ev_1"]);
  });

  test("without an id is known by its content", async () => {
    await inbox.expectStored(signed(paid("pay_2"), null));
    await inbox.expectStored(signed(paid("pay_2"), null), false);
    await inbox.expectStored(signed(paid("pay_3"), null));
  });

  test("of a type nobody knows, with notes of either form, is stored", async () => {
    await inbox.expectStored(signed(paid("p", "moon.landed", { a: "b" }), "ev_3"));
    expect(await inbox.work()).toEqual([
      { event_type: "moon.landed", ...inbox.ignored, result: { ignored: true } },
    ]);
  });

  test("of a shape nobody knows is stored, and its job dies with the reason", async () => {
    await inbox.expectStored(signed('{"entity":"event","event":"order.paid"}', "ev_4"));
    expect(await inbox.work()).toMatchObject([
      { status: "dead", error: "invalid_event: The event is not of the shape we know: payload, created_at." },
    ]);
  });

  test("is taken with each live secret, because retries keep the old one for a day", async () => {
    await inbox.expectStored(signed(paid(), "ev_5", "rzp_older"));
    await inbox.expectRefused(signed(paid(), "ev_6", "rzp_gone"), 401, "invalid_signature");
  });
});

describe("a request that is not what it says", () => {
  test("the published vector verifies, and its event lacks a name", async () => {
    const expected = "99e2301895650c0cdb61363512adc8a5a1249028f0bab3523b5a1547d6e96f82";
    const headers = { "x-razorpay-signature": expected };
    await inbox.expectRefused({ body: vectorBody, headers }, 400, "invalid_event");
  });

  test("without a signature, wrongly signed or changed it is refused", async () => {
    const { body, headers } = signed(paid());
    await inbox.expectRefused({ body }, 400, "missing_signature");
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature");
    for (const signature of ["", "zz", headers["x-razorpay-signature"].slice(2)]) {
      const other = { ...headers, "x-razorpay-signature": signature };
      await inbox.expectRefused({ body, headers: other }, 401, "invalid_signature");
    }
  });

  test("signed but unfit for storing it is 400, too large 413", async () => {
    await inbox.expectRefused(signed("[]"), 400, "invalid_json");
    await inbox.expectRefused(signed(paid("a\u0000")), 400, "invalid_json");
    await inbox.expectRefused(signed(paid("x".repeat(1 << 20))), 413, "payload_too_large");
  });
});
