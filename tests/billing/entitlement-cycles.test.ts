import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { consume, type Entitlement, entitlement, subscribe } from "./entitled.ts";
import { ask, change, db, on } from "./entitlements-stage.ts";
import { noon } from "./money.ts";

describe("the cycle", () => {
  const periods = async (workspaceId: string, moments: string[]) => {
    const found: (string | undefined)[][] = [];
    for (const moment of moments) {
      await db.setClock(moment);
      const { period_start, period_end } = await ask(workspaceId, "videos");
      found.push([period_start?.toISOString().slice(0, 13), period_end?.toISOString().slice(0, 13)]);
    }
    return found;
  };

  test("is the subscription's: months from the 31st, also before the anchor", async () => {
    const workspaceId = await on("small");
    await change(workspaceId, "allowance_anchor_at = '2027-01-31T10:00:00Z'");
    expect(
      await periods(workspaceId, [
        "2026-12-05T00:00:00Z",
        "2027-01-31T09:59:59Z",
        "2027-01-31T10:00:00Z",
        "2027-03-01T00:00:00Z",
        "2028-02-29T10:00:00Z",
      ]),
    ).toEqual([
      ["2026-11-30T10", "2026-12-31T10"],
      ["2026-12-31T10", "2027-01-31T10"],
      ["2027-01-31T10", "2027-02-28T10"],
      ["2027-02-28T10", "2027-03-31T10"],
      ["2028-02-29T10", "2028-03-31T10"],
    ]);
  });

  test("has weeks and years", async () => {
    const weekly = await on("weekly");
    expect(await periods(weekly, [noon, "2027-03-18T11:59:59Z", "2027-03-24T12:00:00Z"])).toEqual([
      ["2027-01-13T12", "2027-01-20T12"],
      ["2027-03-17T12", "2027-03-24T12"],
      ["2027-03-24T12", "2027-03-31T12"],
    ]);
    await db.setClock("2028-02-29T06:00:00Z");
    const yearly = await on("yearly");
    expect(
      await periods(yearly, ["2029-02-28T05:00:00Z", "2029-02-28T06:00:00Z", "2032-02-29T06:00:00Z"]),
    ).toEqual([
      ["2028-02-29T06", "2029-02-28T06"],
      ["2029-02-28T06", "2030-02-28T06"],
      ["2032-02-29T06", "2033-02-28T06"],
    ]);
  });

  test("begins anew when it ends, and a new anchor gives no quota early", async () => {
    const workspaceId = await on("small");
    await consume(db.service, workspaceId, "videos", 9, "first");
    await db.setClock("2027-01-25T00:00:00Z");
    await change(workspaceId, "allowance_anchor_at = '2027-01-25T00:00:00Z'");
    expect(await ask(workspaceId, "videos")).toMatchObject({
      remaining: 1,
      period_end: new Date("2027-02-13T12:00:00Z"),
    });
    await db.setClock("2027-02-13T12:00:00Z");
    expect(await ask(workspaceId, "videos")).toMatchObject({
      remaining: 10,
      used_value: 0,
      period_end: new Date("2027-02-25T00:00:00Z"),
    });
  });
});

describe("the question", () => {
  test("is for members about their workspace, and for the service", async () => {
    const { id, workspaceId } = await db.createUser();
    const stranger = await db.createUser();
    await subscribe(db, workspaceId, "large");
    expect(await entitlement(db.user(id), workspaceId, "white_label")).toMatchObject({ allowed: true });
    await expectError(entitlement(db.user(stranger.id), workspaceId, "videos"), "unknown_workspace", "PT404");
    await expectError(entitlement(db.anon, workspaceId, "videos"), "42501");
    for (const name of ["billing.entitlements", "private.entitlements"]) {
      await expectError(db.user(stranger.id).rpc(name, { workspace_id: workspaceId }), "unknown_workspace");
      await expectError(db.anon.rpc(name, { workspace_id: workspaceId }), "42501");
    }
    await expectError(
      db.user(id).rpc("private.entitlements_of", { workspace_id: workspaceId, features: ["videos"] }),
      "42501",
    );
  });

  test("is answered to a viewer, and no more to who has left", async () => {
    const owner = await db.createUser();
    const viewer = await db.createUser();
    const { id } = await db.user(owner.id).call("identity.create_workspace", { name: "Shared" });
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [id, viewer.id],
    );
    expect(await entitlement(db.user(viewer.id), id, "videos")).toMatchObject({ allowed: false });
    await db.query("delete from identity.workspace_members where user_id = $1 and workspace_id = $2", [
      viewer.id,
      id,
    ]);
    await expectError(entitlement(db.user(viewer.id), id, "videos"), "unknown_workspace");
  });

  test("about what there is not is an error", async () => {
    const { id, workspaceId } = await db.createUser();
    await expectError(entitlement(db.user(id), workspaceId, "vidoes"), "unknown_feature", "PT404");
    await expectError(ask("00000000-0000-0000-0000-000000000000", "videos"), "unknown_workspace", "PT404");
  });

  test("for all features gives what it gives for each", async () => {
    const { id, workspaceId } = await db.createUser();
    await subscribe(db, workspaceId, "small");
    const all = await db.user(id).rpc<Entitlement>("billing.entitlements", { workspace_id: workspaceId });
    const [{ count } = { count: 0 }] = await db.query("select count(*) from billing.features");
    expect(all).toHaveLength(count as number);
    for (const answer of all) expect(await ask(workspaceId, answer.feature)).toEqual(answer);
  });

  test("that must be yes raises what is missing", async () => {
    const { id, workspaceId } = await db.createUser();
    await subscribe(db, workspaceId, "small");
    const require = (feature: string) =>
      db.user(id).call("billing.require_entitlement", { workspace_id: workspaceId, feature });
    expect(await require("quiz_access")).toMatchObject({ allowed: true });
    const refused = await expectError(require("white_label"), "not_entitled", "PT403");
    expect(refused.facts).toMatchObject({ feature: "white_label", plan: "small", source: "plan" });
    expect(refused.hint).toMatch(/plan/);
    await consume(db.service, workspaceId, "videos", 10, "all");
    const used = await expectError(require("videos"), "quota_exceeded", "PT402");
    expect(used.facts).toMatchObject({ limit_value: 10, used_value: 10, remaining: 0 });
  });
});
