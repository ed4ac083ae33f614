import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { db, toldTo } from "./auto-reload-stage.ts";
import { authorize, balance, capture, expectSound, grant, newWorkspace, noon, record } from "./money.ts";
import {
  advance,
  armedBelow,
  card,
  intentOf,
  openReload,
  reloadingWorkspace,
  reloadsOf,
  setReload,
  settingsOf,
  settleIntent,
} from "./reloads.ts";

const jobsOf = (workspaceId: string) =>
  db.query("select payload from ops.jobs where kind = 'billing.auto_reload' and workspace_id = $1", [
    workspaceId,
  ]);

describe("crossing the threshold", () => {
  test("happens when a charge leaves less than it, and once", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 600_000);
    await record(db.service, workspaceId, 100_000);
    expect(await reloadsOf(db, workspaceId)).toEqual([]);
    expect(await armedBelow(db, workspaceId)).toBe(500_000);
    await record(db.service, workspaceId, 1);
    await record(db.service, workspaceId, 200_000);
    expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "queued", payment_id: null }]);
    expect(await jobsOf(workspaceId)).toHaveLength(1);
    expect(await armedBelow(db, workspaceId)).toBeNull();
  });

  test("is one reload under a thousand concurrent debits", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 1_400_000);
    const charges = await Promise.all(
      Array.from({ length: 1000 }, () => record(db.service, workspaceId, 1_000)),
    );
    expect(charges.every(({ created }) => created)).toBe(true);
    expect(await reloadsOf(db, workspaceId)).toHaveLength(1);
    expect(await jobsOf(workspaceId)).toHaveLength(1);
    const reload = await openReload(db, workspaceId);
    expect(reload).toMatchObject({ status: "charging", amount_minor: 1500, payment_status: "pending" });
    await Promise.all(Array.from({ length: 8 }, () => settleIntent(db, intentOf(reload, "succeeded"))));
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(400_000 + 1_500_000);
    expect(await reloadsOf(db, workspaceId)).toHaveLength(1);
    await expectSound(db);
  });

  test("by a hold counts too, and one that is below when it is switched on begins at once", async () => {
    const held = await reloadingWorkspace(db, 600_000);
    await authorize(db.service, held.workspaceId, 150_000);
    expect(await reloadsOf(db, held.workspaceId)).toHaveLength(1);
    const low = await reloadingWorkspace(db, 0);
    expect(await reloadsOf(db, low.workspaceId)).toHaveLength(1);
  });

  test("is undone with the charge that is rolled back", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 600_000);
    const connection = await db.connect("service");
    await connection.begin();
    await record(connection, workspaceId, 300_000);
    await connection.rollback();
    await connection.close();
    expect(await reloadsOf(db, workspaceId)).toEqual([]);
    expect(await armedBelow(db, workspaceId)).toBe(500_000);
  });
});

describe("the amount", () => {
  test("clears the whole shortfall when the one that was set does not", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 5_100_000, { threshold_minor: 5_000 });
    await record(db.service, workspaceId, 5_050_500);
    expect(await openReload(db, workspaceId)).toMatchObject({ amount_minor: 5_000 - 49 });
  });

  test("is fixed by the balance when it is charged, and never changes for that reload", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 2_100_000, { threshold_minor: 2_000 });
    await record(db.service, workspaceId, 200_000);
    await record(db.service, workspaceId, 1_900_000);
    const first = await openReload(db, workspaceId);
    expect(first.amount_minor).toBe(2_000);
    await grant(db.service, workspaceId, 1_000_000);
    expect(await advance(db, first.reload_id)).toEqual(first);
  });

  test("what an admin needs for a charge is part of it", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 600_000);
    const ask = (required_micro: number) =>
      db.user(userId).call("billing.request_reload", { workspace_id: workspaceId, required_micro });
    expect(await ask(4_000_000)).toMatchObject({ status: "queued" });
    const reload = await openReload(db, workspaceId);
    expect(reload.amount_minor).toBe(3_400);
    expect(await ask(9_000_000)).toMatchObject({ id: reload.reload_id });
    await expectError(ask(0), "invalid_argument", "PT400");
    const off = await reloadingWorkspace(db, 600_000, { enabled: false });
    await expectError(
      db
        .user(off.userId)
        .call("billing.request_reload", { workspace_id: off.workspaceId, required_micro: 1 }),
      "auto_reload_off",
      "PT409",
    );
  });

  test("stays below the cap of the month, which then pauses the reload until the next", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 600_000, {
      amount_minor: 2_000,
      monthly_cap_minor: 3_600,
    });
    const spend = async () =>
      record(db.service, workspaceId, (await balance(db.service, workspaceId)).available_micro - 1_000);
    const amounts: number[] = [];
    for (let i = 0; i < 2; i++) {
      await spend();
      const reload = await openReload(db, workspaceId);
      amounts.push(reload.amount_minor);
      await settleIntent(db, intentOf(reload, "succeeded"));
    }
    expect(amounts).toEqual([2_000, 1_600]);
    await spend();
    expect(await openReload(db, workspaceId)).toMatchObject({ status: "capped", payment_id: null });
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: true,
      last_reload_status: "capped",
      paused_until: new Date("2027-02-01T00:00:00Z"),
    });
    expect(await toldTo(userId)).toEqual(["Credits reloaded", "Credits reloaded", "Monthly cap reached"]);
    await record(db.service, workspaceId, 500);
    expect(await reloadsOf(db, workspaceId)).toHaveLength(3);
    expect(await db.service.call("billing.resume_auto_reloads")).toBe(0);
    await db.setClock("2027-02-01T00:00:00Z");
    expect(await db.service.call("billing.resume_auto_reloads")).toBe(1);
    expect(await openReload(db, workspaceId)).toMatchObject({ status: "charging", amount_minor: 2_000 });
    await db.setClock(noon);
  });

  test("is not charged when credits came meanwhile, or the reload was switched off", async () => {
    for (const change of ["credits", "off", "frozen"]) {
      const { workspaceId, userId } = await reloadingWorkspace(db, 0);
      if (change === "credits") await grant(db.service, workspaceId, 700_000);
      else if (change === "off") await setReload(db.user(userId), workspaceId, { enabled: false });
      else
        await db.service.call("billing.set_wallet_status", {
          workspace_id: workspaceId,
          status: "frozen",
          reason: "a test",
        });
      const [reload] = await reloadsOf(db, workspaceId);
      expect(await advance(db, reload!.id)).toMatchObject({ status: "skipped", payment_id: null });
      expect(await armedBelow(db, workspaceId)).toBe(change === "credits" ? 500_000 : null);
      expect(await reloadsOf(db, workspaceId)).toHaveLength(1);
      if (change !== "frozen") continue;
      const thaw = { workspace_id: workspaceId, status: "active", reason: null };
      await db.service.call("billing.set_wallet_status", thaw);
      expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "skipped" }, { status: "queued" }]);
    }
  });

  test("is not charged for money that went back: a refund or a dispute switches the reload off", async () => {
    for (const way of ["refund", "dispute", "small refund"]) {
      const { workspaceId, userId } = await reloadingWorkspace(db, 0);
      const reload = await openReload(db, workspaceId);
      await settleIntent(db, intentOf(reload, "succeeded"));
      const at = { provider: "stripe", provider_payment_id: `pi_${reload.payment_id}` };
      if (way === "dispute")
        await db.service.call("billing.apply_dispute", {
          ...at,
          provider_dispute_id: `du_${workspaceId}`,
          amount_minor: 500,
          status: "open",
        });
      else
        await db.user(userId).call("billing.request_payment_refund", {
          payment_id: reload.payment_id,
          amount_minor: way === "refund" ? 1_400 : 100,
          reason: "r",
          key: "k",
        });
      const small = way === "small refund";
      expect(await settingsOf(db, workspaceId)).toMatchObject({
        enabled: small,
        disabled_reason: small ? null : way === "refund" ? "refunded" : "disputed",
      });
      expect(await armedBelow(db, workspaceId)).toBe(small ? 500_000 : null);
      expect(await reloadsOf(db, workspaceId)).toMatchObject([{ status: "succeeded" }]);
    }
  });
});

describe("the settings", () => {
  test("keep the threshold at 5 USD or more, the amount at 15, the cap at the amount", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 1_000_000);
    for (const [settings, argument] of [
      [{ threshold_minor: 499 }, "threshold_minor"],
      [{ threshold_minor: null }, "threshold_minor"],
      [{ amount_minor: 1499 }, "amount_minor"],
      [{ amount_minor: 1_000_001 }, "amount_minor"],
      [{ monthly_cap_minor: 1499 }, "monthly_cap_minor"],
    ] as const) {
      const { facts } = await expectError(
        setReload(db.user(userId), workspaceId, settings as object),
        "invalid_argument",
        "PT400",
      );
      expect(facts).toEqual({ argument });
    }
  });

  test("are changed by admins only, read by members, and name the workspace's own cards", async () => {
    const { workspaceId, userId } = await reloadingWorkspace(db, 1_000_000);
    const other = await reloadingWorkspace(db, 1_000_000);
    const editor = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [workspaceId, editor.id],
    );
    await expectError(setReload(db.user(editor.id), workspaceId), "role_too_low", "PT403");
    await expectError(setReload(db.user(other.userId), workspaceId), "unknown_workspace", "PT404");
    await expectError(setReload(db.anon, workspaceId), "42501");
    const seen = (session: typeof db.anon) =>
      session.query("select workspace_id from billing.auto_reload_settings where workspace_id = $1", [
        workspaceId,
      ]);
    expect(await seen(db.user(editor.id))).toHaveLength(1);
    expect(await seen(db.user(other.userId))).toEqual([]);
    const cards = "select id from billing.payment_methods where workspace_id = $1";
    expect(await db.user(editor.id).query(cards, [workspaceId])).toEqual([]);
    const [own] = await db.user(userId).query(cards, [workspaceId]);
    await expectError(
      setReload(db.user(other.userId), other.workspaceId, { payment_method_id: own!.id }),
      "unknown_payment_method",
      "PT404",
    );
    const bare = await newWorkspace(db);
    await expectError(setReload(db.user(bare.userId), bare.workspaceId), "unknown_payment_method", "PT404");
  });

  test("are off when the card is removed; older news does not bring it back", async () => {
    const { workspaceId, method, customer } = await reloadingWorkspace(db, 1_000_000);
    const tell = (removed: boolean) =>
      db.service.call("billing.record_payment_method", { method: card(method, removed ? null : customer) });
    expect(await tell(true)).toBe(true);
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: false,
      disabled_reason: "payment_method_removed",
    });
    await tell(false);
    const [kept] = await db.query(
      "select removed_at from billing.payment_methods where provider_payment_method_id = $1",
      [method],
    );
    expect(kept!.removed_at).not.toBeNull();
    expect(
      await db.service.call("billing.record_payment_method", { method: card("pm_x", "cus_foreign") }),
    ).toBe(false);
  });

  test("of a job that gave up are off, and its payment may still arrive", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 0);
    const reload = await openReload(db, workspaceId);
    const [job] = await db.query(
      "select id from ops.jobs where kind = 'billing.auto_reload' and workspace_id = $1",
      [workspaceId],
    );
    await db.service.call("ops.cancel_job", { id: job!.id });
    expect(await settingsOf(db, workspaceId)).toMatchObject({
      enabled: false,
      disabled_reason: "provider_unavailable",
    });
    await settleIntent(db, intentOf(reload, "succeeded"));
    expect((await balance(db.service, workspaceId)).prepaid_micro).toBe(1_500_000);
    await expectSound(db);
  });
});

test("a hold that is captured after the crossing changes nothing of it", async () => {
  const { workspaceId } = await reloadingWorkspace(db, 600_000);
  const held = await authorize(db.service, workspaceId, 150_000);
  await capture(db.service, held.usage_event_id);
  expect(await reloadsOf(db, workspaceId)).toHaveLength(1);
});
