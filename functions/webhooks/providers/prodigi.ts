// Prodigi's callbacks: CloudEvents, not signed. The token in the address proves the sender, and the event is only a
// hint: whoever works on it fetches the order before acting. Source: https://www.prodigi.com/print-api/docs/reference/.

import { z } from "zod";
import { parseAs, type SubscribedProvider } from "./provider.ts";

const text = z.string().min(1).max(255);
/** What is stored. The type ends in `#` and the stage; `subject` is the order's id. */
export const prodigiEvent = z.looseObject({
  specversion: z.string(),
  type: text,
  id: text,
  time: z.string().optional(),
  subject: z.string().optional(),
  data: z.looseObject({ order: z.looseObject({ id: z.string() }).optional() }),
});

export const prodigiWebhooks: SubscribedProvider = {
  name: "prodigi",
  keptHeaders: ["user-agent"],
  verify: (_headers, raw) => {
    const { text: payload, body } = parseAs(prodigiEvent, raw);
    return { events: [{ eventId: body.id, eventType: body.type, payload }] };
  },
};
