import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { newAffiliate, newCustomer, paidTopUp, sweepGrowth } from "./growth.ts";
import { billingDatabase, noon } from "./money.ts";
import { owedOrganizer } from "./payouts.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await billingDatabase();
});
beforeEach(async () => {
  await db.setClock(noon);
});

describe("what a workspace brings and costs", () => {
  test("is in one row, and a provider's cost counts once", async () => {
    const affiliate = await newAffiliate(db);
    const customer = await newCustomer(db, affiliate);
    await paidTopUp(db, customer);
    await sweepGrowth(db);
    const charge = await db.service.call("billing.record_usage", {
      workspace_id: customer.workspaceId,
      meter: "unit",
      quantity: 30_000,
      key: "work",
    });
    const cost = (cost_micro: number) =>
      db.service.call<boolean>("billing.record_provider_cost", {
        provider: "fal",
        cost_micro,
        key: "request-1",
        usage_event_id: charge.usage_event_id,
        model: "fal-ai/fashn/tryon/v1.6",
      });
    expect([await cost(7500), await cost(7500)]).toEqual([true, false]);
    await expectError(cost(7501), "key_reused", "PT409");
    const read = "select * from billing.workspace_margin where workspace_id = $1";
    expect(await db.service.query(read, [customer.workspaceId])).toEqual([
      {
        workspace_id: customer.workspaceId,
        usage_micro: 30_000,
        payments_micro: 500_000,
        cost_micro: 7500,
        commissions_micro: 100_000,
        margin_micro: 392_500,
        usage_margin_micro: 22_500,
      },
    ]);
    await expectError(db.user(customer.userId).query(read, [customer.workspaceId]), "42501");
    await expectError(db.anon.query(read, [customer.workspaceId]), "42501");
  });

  test("the proof sees a balance that was changed", async () => {
    const { workspaceId } = await owedOrganizer(db, 500);
    await db.query(
      "update billing.payable_balances set payable_micro = payable_micro + 1 where workspace_id = $1",
      [workspaceId],
    );
    expect(await db.service.rpc("billing.verify_growth")).toMatchObject([
      { fault: "payable balance differs", workspace_id: workspaceId, expected: 500_000, actual: 500_001 },
    ]);
    expect(await db.service.call("billing.prove_growth")).toBe(1);
    const [entry] = await db.query(
      "select risk_level, metadata -> 'first' ->> 'fault' as fault from ops.audit_log where action = 'billing.growth.fault'",
    );
    expect(entry).toEqual({ risk_level: "critical", fault: "payable balance differs" });
    await db.query(
      "update billing.payable_balances set payable_micro = payable_micro - 1 where workspace_id = $1",
      [workspaceId],
    );
  });
});
