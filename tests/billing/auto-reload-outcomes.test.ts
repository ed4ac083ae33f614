import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, toldTo } from "./auto-reload-stage.ts";
import { balance, expectSound, grant, noon, record } from "./money.ts";
import {
  advance,
  armedBelow,
  card,
  declinedWith,
  intentOf,
  openReload,
  reloadingWorkspace,
  reloadsOf,
  setReload,
  settingsOf,
  settleIntent,
} from "./reloads.ts";

describe("when Stripe says it is paid", () => {
  test("the credits arrive, the reload ends, the wallet is armed again, and the admin is told", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 0);
    const [admin, member] = [await db.createUser(), await db.createUser()];
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'admin'), ($1, $3, 'member')",
      [workspaceId, admin.id, member.id],
    );
    const reload = await openReload(db, workspaceId);
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await settleIntent(db, intentOf(reload, "processing"));
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
    await settleIntent(db, intentOf(reload, "succeeded"));
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(1_500_000);
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "succeeded" }]);
    expect(await settingsOf(db, workspaceId)).toMatchObject({ last_reload_status: "succeeded" });
    expect(await armedBelow(db, workspaceId)).toBe(500_000);
    for (const id of [userId, admin.id]) expect(await toldTo(id)).toEqual(["Credits reloaded"]);
    expect(await toldTo(member.id)).toEqual([]);
    const [invoice] = await db.query("select * from billing.invoices where workspace_id = $1", [workspaceId]);
    expect(invoice).toMatchObject({ total_minor: 1500, currency: "USD", credits_micro: 1_500_000 });
    await expectSound(db);
  });

  test("but too little was spent for it to suffice, the next crossing follows at once", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 2_100_000, { threshold_minor: 2_000 });
    await record(db.service, workspaceId, 200_000);
    const reload = await openReload(db, workspaceId);
    await record(db.service, workspaceId, 1_900_000);
    await settleIntent(db, intentOf(reload, "succeeded"));
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "succeeded" }, { status: "queued" }]);
  });

  test("less than was asked for, nothing is booked", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    await expectError(
      settleIntent(db, intentOf(reload, "succeeded", { amount_received: 1 })),
      "payment_mismatch",
      "PT409",
    );
    expect(await settleIntent(db, { id: "pi_foreign", status: "succeeded", metadata: {} })).toMatchObject({
      id: null,
    });
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
  });
});

describe("a card that is declined", () => {
  test("is tried again after 1, 6 and 24 hours, then the reload is off; the same news counts once", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    const hours: number[] = [];
    for (let i = 1; i <= 4; i++) {
      const intent = intentOf(reload, "requires_payment_method", declinedWith("generic_decline"));
      await settleIntent(db, intent);
      await settleIntent(db, intent);
      const [now] = await reloadsOf(db, workspaceId);
      expect(now!.attempts).toBe(i);
      if (now!.next_attempt_at) hours.push((now!.next_attempt_at.getTime() - Date.parse(noon)) / 3_600_000);
    }
    expect(hours).toEqual([1, 6, 24]);
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: false,
      failed_attempts: 4,
      disabled_reason: "generic_decline",
      last_reload_status: "failed",
    });
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "failed" }]);
    expect(await toldTo(userId)).toEqual([
      ...Array.from({ length: 3 }, () => "Automatic reload failed"),
      "Automatic reload is off",
    ]);
    expect(await armedBelow(db, workspaceId)).toBeNull();
    expect((await balance(db.service, workspaceId)).available_micro).toBe(0);
  });

  test("for good switches the reload off at once", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    await settleIntent(db, intentOf(reload, "requires_payment_method", declinedWith("stolen_card")));
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: false,
      disabled_reason: "stolen_card",
    });
  });

  test("and succeeds later brings the credits once and forgets the failures", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    const declined = intentOf(reload, "requires_payment_method", declinedWith("insufficient_funds"));
    await settleIntent(db, declined);
    await settleIntent(db, intentOf(reload, "succeeded"));
    await settleIntent(db, declined);
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "succeeded", attempts: 1 }]);
    expect(await settingsOf(db, workspaceId)).toMatchObject({ enabled: true, failed_attempts: 0 });
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(1_500_000);
    const [payment] = await db.query("select * from billing.payments where id = $1", [reload.payment_id]);
    expect(payment).toMatchObject({ status: "succeeded", error: null, error_code: null });
  });

  test("is not tried again when credits came meanwhile", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    await settleIntent(db, intentOf(reload, "requires_payment_method", declinedWith("generic_decline")));
    await grant(db.service, workspaceId, 900_000);
    expect(await advance(db, reload.reload_id)).toMatchObject({ status: "skipped" });
    expect(await armedBelow(db, workspaceId)).toBe(500_000);
  });

  test("is replaced by new settings: the old reload ends, the new crossing is one of its own", async () => {
    const { workspaceId, userId, customer } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    await settleIntent(db, intentOf(reload, "requires_payment_method", declinedWith("generic_decline")));
    await db.service.call("billing.record_payment_method", { method: card(`pm_2_${workspaceId}`, customer) });
    await setReload(db.user(userId), workspaceId);
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "skipped" }, { status: "queued" }]);
    expect(await openReload(db, workspaceId)).toMatchObject({ status: "charging" });
  });
});

describe("a bank that wants a confirmation", () => {
  const unauthenticated = {
    last_payment_error: { type: "card_error", code: "authentication_required", charge: "ch_1" },
  };

  test("makes the reload wait; the customer is told, and his confirmation brings the credits", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    for (let i = 0; i < 2; i++)
      await settleIntent(db, intentOf(reload, "requires_payment_method", unauthenticated));
    await settleIntent(db, intentOf(reload, "requires_action"));
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "requires_action", attempts: 0 }]);
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: true,
      last_reload_status: "requires_action",
    });
    expect(await toldTo(userId)).toEqual(["Confirm the automatic reload"]);
    await settleIntent(db, intentOf(reload, "succeeded"));
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "succeeded" }]);
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(1_500_000);
  });

  test("and is not given one switches the reload off when the intent is cancelled", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    await settleIntent(db, intentOf(reload, "requires_payment_method", unauthenticated));
    await settleIntent(db, intentOf(reload, "canceled"));
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "failed" }]);
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: false,
      disabled_reason: "authentication_required",
    });
  });
});
