import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { authorize, billingDatabase, expectSound, newWorkspace } from "./money.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});

describe("a dispute of what was paid for a plan", () => {
  const dispute = (id: string, status: string) =>
    db.service.call("billing.apply_dispute", {
      provider: "stripe",
      provider_payment_id: `pi_${id}`,
      provider_dispute_id: `du_${id}`,
      amount_minor: 2900,
      status,
    });
  async function paidPlans() {
    const { workspaceId } = await newWorkspace(db, { promotion: 1000 });
    const paid = () =>
      db.query(
        `insert into billing.payments (workspace_id, kind, provider, plan_id, amount_minor, currency, status,
          provider_payment_id, paid_at)
        select $1, 'subscription', 'stripe', p.id, 2900, 'USD', 'succeeded', 'pi_' || gen_random_uuid(), private.now()
        from billing.plans p limit 1 returning provider_payment_id`,
        [workspaceId],
      );
    const ids = [await paid(), await paid()].map(([row]) => String(row!.provider_payment_id).slice(3));
    const frozen = async () =>
      (await db.query("select frozen_reason from billing.wallets where workspace_id = $1", [workspaceId]))[0]!
        .frozen_reason;
    return { workspaceId, ids, frozen };
  }

  test("freezes the wallet until it is won, and the last of several thaws it", async () => {
    const { workspaceId, ids, frozen } = await paidPlans();
    await dispute(ids[0]!, "inquiry");
    expect(await frozen()).toBeNull();
    for (const id of ids) await dispute(id, "open");
    expect(await frozen()).toBe("dispute");
    await expectError(authorize(db.service, workspaceId, 1), "wallet_frozen", "PT403");
    await dispute(ids[0]!, "won");
    expect(await frozen()).toBe("dispute");
    await dispute(ids[1]!, "won");
    expect(await frozen()).toBeNull();
    await authorize(db.service, workspaceId, 1);
    await expectSound(db);
  });

  test("that is lost leaves it frozen", async () => {
    const { ids, frozen } = await paidPlans();
    for (const status of ["open", "lost"]) await dispute(ids[0]!, status);
    expect(await frozen()).toBe("dispute");
  });
});
