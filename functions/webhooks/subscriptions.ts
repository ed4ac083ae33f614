// The subscriptions whose secrets are in the database, as the routes use them.

import type { Database } from "../_shared/db.ts";
import type { Vault } from "../_shared/encryption.ts";
import { ApiError } from "../_shared/errors.ts";
import {
  confirmSubscription,
  endSubscription,
  findSubscription,
  type Subscription,
} from "../_shared/sql/subscriptions.ts";
import type { Verdict } from "./providers/provider.ts";

export interface Subscriptions {
  /** Errors: unknown_subscription (404). */
  find(provider: string, token: string): Promise<Subscription>;
  /** Keeps what the sender said of the subscription itself; saying it again changes nothing. */
  apply(subscription: Subscription, change: Verdict["change"]): Promise<void>;
}

export function createSubscriptions(db: Database, vault: Vault): Subscriptions {
  return {
    find: async (provider, token) => {
      const found = await findSubscription(db, vault, provider, token);
      if (!found) {
        throw new ApiError(404, "unknown_subscription", "No webhooks are taken at this address.");
      }
      return found;
    },
    apply: async ({ id }, change) => {
      if (!change) return;
      if ("ended" in change) await endSubscription(db, id, change.ended);
      else await confirmSubscription(db, id, change.confirmed);
    },
  };
}
