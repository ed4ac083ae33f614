// nginx-rtmp with `notify_method post`: form fields of the server, then the arguments of the stream as the publisher
// wrote them. The first digit of the answer's status decides.
// Source: https://github.com/arut/nginx-rtmp-module, ngx_rtmp_notify_module.c.

import { z } from "zod";
import { admit, callOf, withoutQuery } from "./media.ts";
import { matching, type SubscribedProvider, textOf } from "./provider.ts";

const short = z.string().max(255).optional();
const url = z.string().max(2000).transform(withoutQuery).optional();
/** What is stored: no argument of the stream, because the key is one of them. */
export const nginxRtmpEvent = z.object({
  call: z.string().regex(/^[a-z_]{1,50}$/),
  app: short,
  name: short,
  type: short,
  addr: short,
  clientid: short,
  flashver: short,
  tcurl: url,
  pageurl: url,
  swfurl: url,
  recorder: short,
  path: short,
});
const fields = Object.keys(nginxRtmpEvent.shape);

export const nginxRtmpWebhooks: SubscribedProvider = {
  name: "nginx_rtmp",
  mostBytes: 64 * 1024,
  keptHeaders: ["user-agent"],
  verify: async (_headers, raw, _now, subscription) => {
    const form = new URLSearchParams(textOf(raw));
    // get() takes the first value: a publisher's own `name` or `addr` comes after the server's.
    const given = fields.flatMap((field) => (form.has(field) ? [[field, form.get(field)]] : []));
    const facts = matching(nginxRtmpEvent, Object.fromEntries(given));
    if (/^(update_)?(publish|play)$/.test(facts.call)) await admit(form.get("key"), subscription);
    // A running stream is asked for every few seconds (on_update): its key must still be good, no more.
    return { events: facts.call.startsWith("update_") ? [] : [callOf(facts.call, facts)] };
  },
};
