import { createHmac } from "node:crypto";
import { type Deps, type Dispute, newId, type Order, type Payment, type Refund, seconds } from "./state.ts";

type Entities = { payment?: Payment; order?: Order; refund?: Refund; dispute?: Dispute };
export type Happening = { event: string; entities: Entities };

/** Makes the events of one happening and sends them in this order; the entities are as they are now. */
export function emit(deps: Deps, happenings: Happening[]): void {
  const webhooks = happenings.map(({ event, entities }) => {
    const payload = Object.fromEntries(
      Object.entries(entities).map(([name, entity]) => [name, { entity: structuredClone(entity) }]),
    );
    const body = {
      entity: "event",
      account_id: "acc_standin",
      event,
      contains: Object.keys(entities),
      payload,
      created_at: seconds(),
    };
    return { id: newId("evt"), type: event, url: deps.webhookUrl, body: JSON.stringify(body) };
  });
  deps.changed();
  void deps.delivery.send(webhooks);
}

export function signatureOf(secret: string, text: string): string {
  return createHmac("sha256", secret).update(text).digest("hex");
}
