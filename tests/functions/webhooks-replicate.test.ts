import { describe, expect, test } from "vitest";
import { replicateWebhooks } from "../../functions/webhooks/providers/replicate.ts";
import { createInbox, hmac, otherStandardSecret, signedAt, standardSecret, vectorBody } from "./inbox.ts";

const inbox = await createInbox({ shared: replicateWebhooks([standardSecret, otherStandardSecret]) });

function signed(body: string, { id = "msg_1", at = signedAt, secret = standardSecret } = {}) {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  return {
    body,
    headers: {
      "webhook-id": id,
      "webhook-timestamp": String(at),
      "webhook-signature": `v1,${hmac(key, `${id}.${at}.${body}`, "base64")}`,
    },
  };
}
const prediction = (id: string, status: string) =>
  JSON.stringify({ id, status, output: status === "succeeded" ? ["https://files.example/1.png"] : null });

describe("the end of a prediction", () => {
  test.each(["succeeded", "failed", "canceled", "aborted"])(
    "%s wakes the job that waits for it",
    async (status) => {
      await inbox.testDb.query(
        "insert into ops.job_kinds (kind, description) values ('test.wait', 'Waits.') on conflict do nothing",
      );
      const { job_id } = await inbox.testDb.service.call("ops.enqueue_job", {
        kind: "test.wait",
        payload: {},
      });
      await inbox.testDb.service.rpc("ops.claim_jobs", { worker: "w" });
      const results = [{ id: job_id, outcome: "waiting", wait_key: "replicate:p1", poll_in: 60 }];
      await inbox.testDb.service.rpc("ops.complete_jobs", { worker: "w", results });
      await inbox.expectStored(signed(prediction("p1", status)));
      const waited = "select state, callback ->> 'status' as status from ops.jobs where id = $1";
      expect(await inbox.testDb.query(waited, [job_id])).toEqual([{ state: "queued", status }]);
    },
  );

  test("is stored once, whatever follows", async () => {
    await inbox.expectStored(signed(prediction("p2", "succeeded")));
    await inbox.expectStored(signed(prediction("p2", "succeeded")), false);
    await inbox.expectStored(signed(prediction("p2", "canceled"), { id: "msg_2" }), false);
    expect(await inbox.stored()).toMatchObject([
      {
        event_id: "p2",
        event_type: "succeeded",
        headers: { "webhook-id": "msg_1", "webhook-timestamp": String(signedAt) },
      },
    ]);
  });

  test("is stored though what came before it arrives later", async () => {
    await inbox.expectStored(signed(prediction("p3", "succeeded"), { id: "msg_3" }));
    await inbox.expectStored(signed(prediction("p3", "processing"), { id: "msg_2" }), false);
    expect(await inbox.stored()).toMatchObject([{ event_type: "succeeded" }]);
  });
});

test.each(["starting", "processing", "a status nobody knows"])(
  "%s is answered and not stored",
  async (status) => {
    await inbox.expectStored(signed(prediction("p4", status)), false);
    expect(await inbox.stored()).toEqual([]);
  },
);

describe("the signature", () => {
  test("of the published vector verifies, and its body is no prediction", async () => {
    const sent = signed(vectorBody);
    expect(sent.headers["webhook-signature"]).toBe("v1,zZ/EaaSnZdUeeKbgUifU22UKcVy1IaUv/DfIPgIfIKs=");
    await inbox.expectRefused(sent, 400, "invalid_event");
  });

  test("may be any of several, with any live secret", async () => {
    const { body, headers } = signed(prediction("p5", "failed"), { secret: otherStandardSecret });
    const several = `v1,AAAA v1a,xyz ${headers["webhook-signature"]}`;
    await inbox.expectStored({ body, headers: { ...headers, "webhook-signature": several } });
  });

  test("binds id, time and body", async () => {
    const { body, headers } = signed(prediction("p6", "failed"));
    await inbox.expectRefused({ body: `${body} `, headers }, 401, "invalid_signature");
    const changes = {
      "webhook-id": "msg_9",
      "webhook-timestamp": String(signedAt + 1),
      "webhook-signature": "v1",
    };
    for (const [name, value] of Object.entries(changes)) {
      await inbox.expectRefused({ body, headers: { ...headers, [name]: value } }, 401, "invalid_signature");
    }
    const gone = `whsec_${Buffer.alloc(32, 9).toString("base64")}`;
    await inbox.expectRefused(signed(body, { secret: gone }), 401, "invalid_signature");
  });

  test.each(["webhook-id", "webhook-timestamp", "webhook-signature"])("needs the header %s", async (name) => {
    const { body, headers } = signed(prediction("p7", "failed"));
    await inbox.expectRefused({ body, headers: { ...headers, [name]: "" } }, 400, "missing_signature");
  });

  test("is stale after five minutes either way, and good until then", async () => {
    for (const at of [signedAt - 301, signedAt + 301]) {
      await inbox.expectRefused(signed(prediction("p8", "failed"), { at }), 401, "stale_signature");
    }
    await inbox.expectStored(signed(prediction("p8", "failed"), { at: signedAt - 300 }));
    await inbox.expectStored(signed(prediction("p9", "failed"), { at: signedAt + 300 }));
  });

  test("needs a secret of the right form, or the function does not start", () => {
    for (const secret of ["", "secret", "whsec_", "whsec_not base64"]) {
      expect(() => replicateWebhooks([secret])).toThrow("whsec_ and base64");
    }
  });
});

test("a body too large is 413, one that is no JSON 400", async () => {
  await inbox.expectRefused(signed(prediction("x".repeat(4 << 20), "failed")), 413, "payload_too_large");
  await inbox.expectRefused(signed("{"), 400, "invalid_json");
});
