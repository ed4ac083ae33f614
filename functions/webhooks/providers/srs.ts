// SRS: JSON calls of http_hooks. It goes on only when it reads `0`. Source: https://github.com/ossrs/srs,
// trunk/src/app/srs_app_http_hooks.cpp.

import { z } from "zod";
import { admit, callOf, withoutQuery } from "./media.ts";
import { parseAs, type SubscribedProvider } from "./provider.ts";

const url = z.string().transform(withoutQuery).optional();
const call = z.looseObject({
  action: z.string().regex(/^on_[a-z_]{1,50}$/),
  param: z.string().optional(),
  tcUrl: url,
  pageUrl: url,
  stream_url: url,
  url,
});
/** What is stored: without `param`, which holds the stream key. */
export const srsEvent = call.omit({ param: true });

export const srsWebhooks: SubscribedProvider = {
  name: "srs",
  mostBytes: 64 * 1024,
  keptHeaders: ["user-agent"],
  verify: async (_headers, raw, _now, subscription) => {
    const { param = "", ...facts } = parseAs(call, raw).body;
    const { action } = facts;
    // param is `?token=...`, as the publisher or player wrote it.
    const shown = new URLSearchParams(param);
    if (["on_publish", "on_play"].includes(action))
      await admit(shown.get("token") ?? shown.get("key"), subscription);
    return { events: [callOf(action, facts)], answer: "0" };
  },
};
