import { describe, expect, test } from "vitest";
import { mediamtxWebhooks } from "../../functions/webhooks/providers/mediamtx.ts";
import { nginxRtmpWebhooks } from "../../functions/webhooks/providers/nginx-rtmp.ts";
import { srsWebhooks } from "../../functions/webhooks/providers/srs.ts";
import { createInbox } from "./inbox.ts";

const key = "stream-key-1";
const json = (body: object) => ({
  body: JSON.stringify(body),
  headers: { "content-type": "application/json" },
});
const form = (body: Record<string, string> | string) => ({
  body: new URLSearchParams(body).toString(),
  headers: { "content-type": "application/x-www-form-urlencoded" },
});

describe("MediaMTX", async () => {
  const inbox = await createInbox({ subscribed: mediamtxWebhooks });
  const subscribe = () => inbox.subscribe({ topic: "edge-1", streamKeys: [key, "stream-key-2"] });
  const asks = (more: object = {}) => ({
    user: "",
    password: "",
    token: key,
    ip: "203.0.113.7",
    action: "publish",
    path: "live/ada",
    protocol: "rtmp",
    id: "4d2c1a52-0000-4000-8000-000000000001",
    query: `token=${key}`,
    userAgent: "OBS",
    ...more,
  });

  test("lets a person with a stream key publish, and keeps no key", async () => {
    const { id, path } = await subscribe();
    await inbox.expectStored(json(asks()), true, path);
    await inbox.expectStored(json(asks()), false, path);
    const [event] = await inbox.stored();
    expect(event).toMatchObject({
      event_id: `${id}:${asks().id}:publish:live/ada`,
      event_type: "publish",
      payload: { action: "publish", path: "live/ada", protocol: "rtmp", ip: "203.0.113.7" },
    });
    expect(JSON.stringify(event)).not.toContain(key);
    expect(await inbox.work()).toEqual([{ event_type: "publish", ...inbox.ignored }]);
  });

  test("takes the key as password, too, and for reading; calls without a session are all stored", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(json(asks({ token: "", password: "stream-key-2" })), true, path);
    const reads = json(asks({ action: "read", protocol: "hls", id: null }));
    await inbox.expectStored(reads, true, path);
    await inbox.expectStored(reads, true, path);
  });

  test("answers 401 without credentials, so that RTSP clients send them, and with wrong ones", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(json(asks({ token: "" })), 401, "invalid_stream_key", path);
    await inbox.expectRefused(json(asks({ token: "wrong" })), 401, "invalid_stream_key", path);
    const { path: keyless } = await inbox.subscribe();
    await inbox.expectRefused(json(asks()), 401, "invalid_stream_key", keyless);
  });

  test.each(["api", "metrics", "pprof"])("opens no %s with a stream key", async (action) => {
    const { path } = await subscribe();
    await inbox.expectRefused(json(asks({ action })), 403, "not_allowed", path);
  });

  test("reports what its hooks say, each call by itself", async () => {
    const { path } = await subscribe();
    const report = form({
      hook: "unavailable",
      path: "live/ada",
      source_type: "rtmpConn",
      source_id: "s1",
      query: key,
    });
    await inbox.expectStored(report, true, path);
    await inbox.expectStored(report, true, path);
    expect(await inbox.stored()).toMatchObject([
      {
        event_type: "unavailable",
        payload: { hook: "unavailable", path: "live/ada", source_type: "rtmpConn", source_id: "s1" },
      },
      { event_type: "unavailable" },
    ]);
    expect(JSON.stringify(await inbox.stored())).not.toContain(key);
    expect(await inbox.work()).toMatchObject([inbox.ignored, inbox.ignored]);
  });

  test("is refused at an unknown address, with a body nobody knows, and too large", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(json(asks()), 404, "unknown_subscription", `${path}x`);
    await inbox.expectRefused(json({}), 400, "invalid_event", path);
    await inbox.expectRefused(form({ hook: "DROP TABLE", path: "a" }), 400, "invalid_event", path);
    await inbox.expectRefused(json(asks({ user: "x".repeat(1 << 16) })), 413, "payload_too_large", path);
  });
});

describe("nginx-rtmp", async () => {
  const inbox = await createInbox({ subscribed: nginxRtmpWebhooks });
  const subscribe = () => inbox.subscribe({ topic: "origin", streamKeys: [key] });
  const asks = (more: Record<string, string> = {}) => ({
    app: "live",
    flashver: "FMLE/3.0",
    swfurl: "",
    tcurl: `rtmp://media.example.com/live?key=${key}`,
    pageurl: "",
    addr: "203.0.113.7",
    clientid: "1",
    call: "publish",
    name: "ada",
    type: "live",
    ...more,
  });

  test("lets a person with a stream key publish and play, and keeps no key", async () => {
    const { path } = await subscribe();
    await inbox.expectStored(form(asks({ key })), true, path);
    await inbox.expectStored(form(asks({ call: "play", key })), true, path);
    expect(await inbox.stored()).toMatchObject([
      {
        event_type: "publish",
        payload: {
          call: "publish",
          app: "live",
          name: "ada",
          clientid: "1",
          tcurl: "rtmp://media.example.com/live",
        },
      },
      { event_type: "play" },
    ]);
    expect(JSON.stringify(await inbox.stored())).not.toContain(key);
    expect(await inbox.work()).toMatchObject([inbox.ignored, inbox.ignored]);
  });

  test("takes the server's value and not what the publisher adds under the same name", async () => {
    const { path } = await subscribe();
    const body = `${new URLSearchParams(asks())}&name=somebody-else&addr=127.0.0.1&key=${key}&key=wrong`;
    await inbox.expectStored(form(body), true, path);
    expect(await inbox.stored()).toMatchObject([{ payload: { name: "ada", addr: "203.0.113.7" } }]);
  });

  test("refuses without a key and with a wrong one, also while the stream runs", async () => {
    const { path } = await subscribe();
    for (const call of ["publish", "play", "update_publish", "update_play"]) {
      await inbox.expectRefused(form(asks({ call })), 401, "invalid_stream_key", path);
      await inbox.expectRefused(form(asks({ call, key: "wrong" })), 401, "invalid_stream_key", path);
    }
    await inbox.expectStored(form(asks({ call: "update_publish", key })), false, path);
    expect(await inbox.stored()).toEqual([]);
  });

  test("reports ends and anything else without a key; the numbers of a restarted server count anew", async () => {
    const { path } = await subscribe();
    for (const call of ["publish_done", "publish_done", "connect", "moon_landed"]) {
      await inbox.expectStored(
        form({ app: "live", name: "ada", addr: "203.0.113.7", clientid: "1", call }),
        true,
        path,
      );
    }
    expect(await inbox.work()).toMatchObject(Array(4).fill(inbox.ignored));
  });

  test("is refused at an unknown address, with a body nobody knows, and too large", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(form(asks({ key })), 404, "unknown_subscription", `${path}1`);
    await inbox.expectRefused({ body: "{}" }, 400, "invalid_event", path);
    await inbox.expectRefused(form(asks({ filler: "x".repeat(1 << 16) })), 413, "payload_too_large", path);
  });
});

describe("SRS", async () => {
  const inbox = await createInbox({ subscribed: srsWebhooks });
  const subscribe = () => inbox.subscribe({ topic: "srs-1", streamKeys: [key] });
  const asks = (more: object = {}) => ({
    server_id: "vid-1",
    service_id: "svc-1",
    action: "on_publish",
    client_id: "9308h583",
    ip: "203.0.113.7",
    vhost: "__defaultVhost__",
    app: "live",
    tcUrl: `rtmp://media.example.com/live?token=${key}`,
    stream: "ada",
    param: `?token=${key}`,
    stream_url: "/live/ada",
    ...more,
  });
  const allowed = async (sent: ReturnType<typeof json>, path: string) => {
    const answer = await inbox.send(sent, path);
    expect([answer.status, await answer.text()]).toEqual([200, "0"]);
  };

  test("lets a person with a stream key publish and play, answers 0, and keeps no key", async () => {
    const { path } = await subscribe();
    await allowed(json(asks()), path);
    await allowed(json(asks({ action: "on_play", param: `?vhost=a&key=${key}` })), path);
    expect(await inbox.stored()).toMatchObject([
      {
        event_type: "on_publish",
        payload: { client_id: "9308h583", stream: "ada", tcUrl: "rtmp://media.example.com/live" },
      },
      { event_type: "on_play" },
    ]);
    expect(JSON.stringify(await inbox.stored())).not.toContain(key);
    expect(await inbox.work()).toMatchObject([inbox.ignored, inbox.ignored]);
  });

  test("refuses without a key and with a wrong one, with an answer that SRS takes as no", async () => {
    const { path } = await subscribe();
    for (const param of [undefined, "", "?token=wrong", "?other=1"]) {
      await inbox.expectRefused(json(asks({ param })), 401, "invalid_stream_key", path);
    }
  });

  test("reports ends, recordings and actions nobody knows", async () => {
    const { path } = await subscribe();
    const reports = [
      asks({ action: "on_unpublish" }),
      asks({ action: "on_dvr", file: "/dvr/ada.flv" }),
      asks({ action: "on_hls", seq_no: 1, duration: 9.3, m3u8_url: "live/ada.m3u8" }),
      asks({ action: "on_moon" }),
    ];
    for (const report of reports) await allowed(json(report), path);
    expect(await inbox.stored()).toMatchObject([{}, { payload: { file: "/dvr/ada.flv" } }, {}, {}]);
    expect(await inbox.work()).toMatchObject(Array(4).fill(inbox.ignored));
  });

  test("is refused at an unknown address, with a body nobody knows, and too large", async () => {
    const { path } = await subscribe();
    await inbox.expectRefused(json(asks()), 404, "unknown_subscription", `${path}x`);
    await inbox.expectRefused(json({ action: "publish" }), 400, "invalid_event", path);
    await inbox.expectRefused(json(asks({ filler: "x".repeat(1 << 16) })), 413, "payload_too_large", path);
  });
});
