// The calls that the tests of subscriptions make again and again.

import { expect } from "vitest";
import { planChangeAnswer, subscribeAnswer } from "../../types/contracts-subscriptions.ts";
import type { Stage } from "./subscription-stage.ts";

export const day = 24 * 60 * 60;

/** Status, code of the error and body. */
export async function answer(response: Response) {
  const body = (await response.json()) as { error?: { code: string; details?: unknown } };
  return { status: response.status, code: body.error?.code, body };
}

export function callsOf(s: Stage) {
  return {
    /** Starts a checkout that is not refused. */
    async begin(user: { id: string; workspaceId: string }, plan_price_id: string, more: object = {}) {
      const request = { workspace_id: user.workspaceId, plan_price_id, ...s.returns, ...more };
      const response = await s.post(user.id, "checkout", request);
      expect(response.status).toBe(200);
      return subscribeAnswer.parse(await response.json());
    },
    /** Asks for a change that is not refused. */
    async change(
      who: { userId: string; workspaceId: string },
      path: "change" | "cancel" | "resume",
      more: object = {},
    ) {
      // the record is in the order of time
      await s.pass(1);
      const request = { workspace_id: who.workspaceId, app: "spikeland", ...more };
      const response = await s.post(who.userId, path, request);
      expect(response.status, await response.clone().text()).toBe(200);
      return planChangeAnswer.parse(await response.json());
    },
    changesOf: (workspaceId: string) =>
      s.testDb.query(
        `select kind, source, status from billing.subscription_changes where workspace_id = $1
          order by created_at, kind = 'start' desc, id`,
        [workspaceId],
      ),
    useCard: (id: string, card: string) =>
      s.stripe.subscriptions.update(id, { default_payment_method: card }),
  };
}
