// Credits that pay for certain meters only do not keep a wallet from reloading.
import { beforeEach, describe, expect, test } from "vitest";
import { db } from "./auto-reload-stage.ts";
import { authorize, expectSound, grant, noon, record, release } from "./money.ts";
import { type Reload, reloadingWorkspace } from "./reloads.ts";

beforeEach(() => db.setClock(noon));

const scoped = (workspaceId: string, amount: number, expires_at?: string) =>
  grant(db.service, workspaceId, amount, "promotion", {
    meters: ["fraction"],
    ...(expires_at && { expires_at }),
  });
const reloads = (workspaceId: string) =>
  db.query("select id, status from billing.auto_reloads where workspace_id = $1 order by created_at", [
    workspaceId,
  ]);
const advance = (id: string) => db.service.call<Reload>("billing.advance_reload", { reload_id: id });

describe("a wallet with credits for certain meters", () => {
  // 5 USD are 500,000 micro-units
  test.each(["before", "after"])(
    "that came %s it was armed reloads when the others run low",
    async (when) => {
      const { workspaceId } = await reloadingWorkspace(db, 600_000, null);
      const arm = () =>
        db.service.call("billing.set_auto_reload", {
          workspace_id: workspaceId,
          enabled: true,
          threshold_minor: 500,
          amount_minor: 1500,
        });
      if (when === "after") await arm();
      await scoped(workspaceId, 9_000_000);
      if (when === "before") await arm();
      await record(db.service, workspaceId, 100_000);
      expect(await reloads(workspaceId)).toEqual([]);
      await record(db.service, workspaceId, 100_000);
      const [reload] = await reloads(workspaceId);
      expect(await advance(reload!.id)).toMatchObject({ status: "charging", amount_minor: 1500 });
      await expectSound(db);
    },
  );

  test("that are spent, given back or expire buys nothing while the others suffice", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 510_000);
    await scoped(workspaceId, 300_000, "2027-01-14T00:00:00Z");
    // a fraction costs 3
    const held = await authorize(db.service, workspaceId, 50_000, { meter: "fraction" });
    await record(db.service, workspaceId, 10_000, { meter: "fraction" });
    await release(db.service, held.usage_event_id);
    await db.setClock("2027-01-15T00:00:00Z");
    await db.service.call("billing.expire_lots");
    for (const { id, status } of await reloads(workspaceId))
      if (status === "queued") expect(await advance(id)).toMatchObject({ status: "skipped" });
    await record(db.service, workspaceId, 10_000);
    expect((await reloads(workspaceId)).filter(({ status }) => status !== "skipped")).toEqual([]);
    await record(db.service, workspaceId, 1);
    const open = (await reloads(workspaceId)).filter(({ status }) => status === "queued");
    expect(open).toHaveLength(1);
    expect(await advance(open[0]!.id)).toMatchObject({ status: "charging" });
  });

  test("that come back while it is armed is no better off for others", async () => {
    const { workspaceId } = await reloadingWorkspace(db, 600_000, null);
    await scoped(workspaceId, 300_000);
    const held = await authorize(db.service, workspaceId, 100_000, { meter: "fraction" });
    await db.service.call("billing.set_auto_reload", {
      workspace_id: workspaceId,
      enabled: true,
      threshold_minor: 500,
      amount_minor: 1500,
    });
    await release(db.service, held.usage_event_id);
    await record(db.service, workspaceId, 100_001);
    const [reload] = await reloads(workspaceId);
    expect(await advance(reload!.id)).toMatchObject({ status: "charging" });
  });
});
