import { expect, test } from "vitest";
import { prodigiWebhooks } from "../../functions/webhooks/providers/prodigi.ts";
import { createInbox, vectorBody } from "./inbox.ts";

const inbox = await createInbox({ subscribed: prodigiWebhooks });
const subscribe = () => inbox.subscribe({ status: "active" });
const stage = (id: string, name = "InProgress", time = "2023-11-14T22:13:20Z") => ({
  body: JSON.stringify({
    specversion: "1.0",
    type: `com.prodigi.order.status.stage.changed#${name}`,
    source: "http://api.prodigi.com/v4.0/Orders/",
    id,
    time,
    datacontenttype: "application/json",
    data: { order: { id: "ord_1", status: { stage: name } } },
    subject: "ord_1",
  }),
});

test("an event is stored once under its id, for the account of its address", async () => {
  const { id, path, connectedAccountId } = await subscribe();
  await inbox.expectStored(stage("evt_1"), true, path);
  await inbox.expectStored(stage("evt_1"), false, path);
  expect(await inbox.stored()).toMatchObject([
    {
      event_id: `${id}:evt_1`,
      event_type: "com.prodigi.order.status.stage.changed#InProgress",
      payload: JSON.parse(stage("evt_1").body),
      connected_account_id: connectedAccountId,
      subscription_id: id,
    },
  ]);
  expect(await inbox.work()).toMatchObject([inbox.ignored]);
});

test("events of the same second, late ones and types nobody knows are stored", async () => {
  const { path } = await subscribe();
  await inbox.expectStored(stage("evt_3", "Complete"), true, path);
  await inbox.expectStored(stage("evt_2", "InProgress"), true, path);
  await inbox.expectStored(stage("evt_4", "MoonLanded", "2020-01-01T00:00:00Z"), true, path);
  expect(await inbox.work()).toMatchObject(Array(3).fill(inbox.ignored));
});

test("who knows one address cannot take the ids of another", async () => {
  const [one, other] = [await subscribe(), await subscribe()];
  await inbox.expectStored(stage("evt_5"), true, other.path);
  await inbox.expectStored(stage("evt_5"), true, one.path);
});

test("an address nobody was given is unknown, and its attempt leaves no token in the log", async () => {
  const { path, token } = await subscribe();
  for (const wrong of [`${path}x`, path.slice(0, -1), `/webhooks/prodigi/whu_${"a".repeat(43)}`]) {
    await inbox.expectRefused(stage("evt_6"), 404, "unknown_subscription", wrong);
  }
  await inbox.expectRefused(stage("evt_6"), 404, "unknown_provider", "/webhooks/prodigi");
  await inbox.expectRefused({ ...stage("evt_6"), method: "PUT" }, 405, "method_not_allowed", path);
  await inbox.expectRefused({ method: "GET" }, 405, "method_not_allowed", path);
  expect(JSON.stringify(inbox.lines)).not.toContain(token);
});

test("what is no CloudEvent is 400, too large 413", async () => {
  const { path } = await subscribe();
  await inbox.expectRefused({ body: "{" }, 400, "invalid_json", path);
  await inbox.expectRefused({ body: vectorBody }, 400, "invalid_event", path);
  await inbox.expectRefused(stage("x".repeat(300)), 400, "invalid_event", path);
  await inbox.expectRefused(stage("evt_7", "x".repeat(1 << 20)), 413, "payload_too_large", path);
  await inbox.expectRefused({ body: stage("a\u0000").body }, 400, "invalid_json", path);
});
