// MediaMTX: the call of `authMethod: http` (JSON), which asks whether somebody may publish or read, and the commands of
// its hooks, which report by curl (form fields `hook`, `path`, `source_type`, `source_id`).
// Source: https://github.com/bluenviron/mediamtx, docs/2-features/06-authentication.md, 20-hooks.md.

import { z } from "zod";
import { ApiError } from "../../_shared/errors.ts";
import { admit, callOf } from "./media.ts";
import { matching, parseAs, type SubscribedProvider, textOf } from "./provider.ts";

const short = z.string().max(255);
const request = z.object({
  action: short.min(1),
  path: short,
  protocol: short.optional(),
  id: short.nullish(),
  ip: short.optional(),
  user: short.optional(),
  password: z.string().optional(),
  token: z.string().optional(),
});
const hook = z.object({
  hook: z.string().regex(/^[a-z_]{1,50}$/),
  path: short,
  source_type: short.optional(),
  source_id: short.optional(),
});
/** What is stored: neither password nor token, nor the query, which may hold them. */
export const mediamtxEvent = z.union([hook, request.omit({ password: true, token: true })]);

export const mediamtxWebhooks: SubscribedProvider = {
  name: "mediamtx",
  mostBytes: 64 * 1024,
  keptHeaders: ["user-agent"],
  verify: async (headers, raw, _now, subscription) => {
    if (headers.get("content-type")?.startsWith("application/x-www-form-urlencoded")) {
      const report = matching(hook, Object.fromEntries(new URLSearchParams(textOf(raw))));
      return { events: [callOf(report.hook, report)] };
    }
    const { password, token, ...facts } = parseAs(request, raw).body;
    // api, metrics and pprof: a stream key opens streams and nothing else.
    if (!["publish", "read", "playback"].includes(facts.action)) {
      throw new ApiError(403, "not_allowed", "Stream keys open streams only.");
    }
    await admit(password || token || null, subscription);
    const eventId = facts.id ? `${facts.id}:${facts.action}:${facts.path}` : undefined;
    return { events: [callOf(facts.action, facts, eventId)] };
  },
};
