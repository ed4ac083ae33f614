import { beforeAll, describe, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { Row, Session } from "../helpers/session.ts";
import {
  authorize,
  billingDatabase,
  books,
  capture,
  expectSound,
  freshKey,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase();
  // charges are made at the time of the tests' clock
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
});

async function rich() {
  await db.setClock("2027-01-13T12:00:00Z");
  return newWorkspace(db, { prepaid: 1_000_000 });
}
const setBudget = (session: Session, workspace_id: string, limit_micro: number, more: Row = {}) =>
  session.call<Row>("billing.set_budget", { workspace_id, limit_micro, ...more });
const status = async (userId: string, workspaceId: string): Promise<Row> =>
  (
    await db.user(userId).query("select * from billing.budget_status where workspace_id = $1", [workspaceId])
  )[0]!;
const alerts = (budgetId: string) =>
  db.query(
    "select share, spent_micro from billing.budget_alerts where budget_id = $1 order by starts_at, share",
    [budgetId],
  );
const expectCounted = async () => expect(await db.service.rpc("billing.verify_budgets")).toEqual([]);

describe("a budget that stops", () => {
  test("lets work go to its limit, then refuses it with the facts, and leaves no trace of the refused", async () => {
    const { userId, workspaceId } = await rich();
    const budget = await setBudget(db.user(userId), workspaceId, 100);
    await record(db.service, workspaceId, 60);
    await authorize(db.service, workspaceId, 30);
    const before = await books(db);
    const { facts, hint, message } = await expectError(
      authorize(db.service, workspaceId, 11),
      "spend_cap_reached",
      "PT403",
    );
    expect(message).toBe("spend_cap_reached: This needs 11 micro-units and 10 of the month's 100 are left.");
    expect(facts).toMatchObject({
      budget_id: budget.id,
      user_id: null,
      period: "month",
      limit_micro: 100,
      spent_micro: 60,
      held_micro: 30,
      required_micro: 11,
      left_micro: 10,
    });
    expect(new Date(facts.period_ends_at)).toEqual(new Date("2027-02-01T00:00:00Z"));
    expect(hint).toContain("billing.set_budget");
    expect(await books(db)).toEqual(before);
    await authorize(db.service, workspaceId, 10);
    await expectError(record(db.service, workspaceId, 1), "spend_cap_reached");
    await expectCounted();
    await expectSound(db);
  });

  test("answers a repeat of what it let through, at its limit too", async () => {
    const { userId, workspaceId } = await rich();
    await setBudget(db.user(userId), workspaceId, 100);
    const key = freshKey();
    const first = await authorize(db.service, workspaceId, 100, { key });
    expect(await authorize(db.service, workspaceId, 100, { key })).toEqual({ ...first, created: false });
  });

  test("lets work that costs nothing go on", async () => {
    const { userId, workspaceId } = await rich();
    await setBudget(db.user(userId), workspaceId, 0);
    await record(db.service, workspaceId, 5, { meter: "free" });
    await expectError(record(db.service, workspaceId, 1), "spend_cap_reached");
  });

  test("takes back what is released, captured in part or refunded", async () => {
    const { userId, workspaceId } = await rich();
    await setBudget(db.user(userId), workspaceId, 100);
    const released = await authorize(db.service, workspaceId, 100);
    await release(db.service, released.usage_event_id);
    const part = await authorize(db.service, workspaceId, 100);
    await capture(db.service, part.usage_event_id, 40);
    const whole = await record(db.service, workspaceId, 60);
    await refund(db.service, whole.usage_event_id, "bad", 25);
    expect(await status(userId, workspaceId)).toMatchObject({
      spent_micro: 75,
      held_micro: 0,
      left_micro: 25,
    });
    await record(db.service, workspaceId, 25);
    await expectCounted();
  });

  test("lets work go on at once when it is raised or removed", async () => {
    const { userId, workspaceId } = await rich();
    const budget = await setBudget(db.user(userId), workspaceId, 10);
    await expectError(record(db.service, workspaceId, 11), "spend_cap_reached");
    const raised = await setBudget(db.user(userId), workspaceId, 11);
    expect(raised.id).toBe(budget.id);
    await record(db.service, workspaceId, 11);
    await expectError(record(db.service, workspaceId, 1), "spend_cap_reached");
    expect(await db.user(userId).call("billing.remove_budget", { budget_id: budget.id })).toBe(true);
    await record(db.service, workspaceId, 1);
  });

  test("begins anew with each period of its time zone, and a late refund belongs to the old one", async () => {
    const { userId, workspaceId } = await rich();
    const budget = await setBudget(db.user(userId), workspaceId, 100, {
      period: "day",
      timezone: "Asia/Kolkata",
    });
    await db.setClock("2027-01-13T18:29:59Z");
    const old = await record(db.service, workspaceId, 100);
    await expectError(record(db.service, workspaceId, 1), "spend_cap_reached");
    await db.setClock("2027-01-13T18:30:00Z");
    await record(db.service, workspaceId, 30);
    await refund(db.service, old.usage_event_id);
    expect(await status(userId, workspaceId)).toMatchObject({
      starts_at: new Date("2027-01-13T18:30:00Z"),
      ends_at: new Date("2027-01-14T18:30:00Z"),
      spent_micro: 30,
      left_micro: 70,
    });
    expect(
      await db.query(
        "select spent_micro from billing.budget_periods where budget_id = $1 order by starts_at",
        [budget.id],
      ),
    ).toEqual([{ spent_micro: 0 }, { spent_micro: 30 }]);
    await expectCounted();
  });

  test("counts what the running period has spent and holds already, and nothing of earlier ones", async () => {
    const { userId, workspaceId } = await rich();
    await db.setClock("2027-01-10T12:00:00Z");
    const earlier = await record(db.service, workspaceId, 500);
    await db.setClock("2027-01-13T12:00:00Z");
    await record(db.service, workspaceId, 30);
    await authorize(db.service, workspaceId, 20);
    await setBudget(db.user(userId), workspaceId, 100, { period: "week" });
    await refund(db.service, earlier.usage_event_id);
    expect(await status(userId, workspaceId)).toMatchObject({
      spent_micro: 30,
      held_micro: 20,
      left_micro: 50,
    });
    await expectError(record(db.service, workspaceId, 51), "spend_cap_reached");
    await expectCounted();
  });

  test("counts anew when its time zone changes", async () => {
    const { userId, workspaceId } = await rich();
    const owner = db.user(userId);
    await setBudget(owner, workspaceId, 100, { period: "day" });
    await db.setClock("2027-01-13T14:00:00Z");
    await record(db.service, workspaceId, 30);
    await db.setClock("2027-01-13T16:00:00Z");
    await record(db.service, workspaceId, 20);
    await setBudget(owner, workspaceId, 100, { period: "day", timezone: "Asia/Tokyo" });
    expect(await status(userId, workspaceId)).toMatchObject({ spent_micro: 20, timezone: "Asia/Tokyo" });
    await expectCounted();
  });
});

describe("a member's budget", () => {
  test("stops that member alone, beside the workspace's own", async () => {
    const { userId, workspaceId } = await rich();
    const other = await db.createUser();
    await db.query("insert into identity.workspace_members (workspace_id, user_id) values ($1, $2)", [
      workspaceId,
      other.id,
    ]);
    await setBudget(db.user(userId), workspaceId, 100);
    await setBudget(db.user(userId), workspaceId, 30, { user_id: other.id, period: "day" });
    const as = (user_id: string) => ({ metadata: { user_id } });
    await record(db.service, workspaceId, 30, as(other.id));
    const { facts, message } = await expectError(
      record(db.service, workspaceId, 1, as(other.id)),
      "spend_cap_reached",
    );
    expect(facts).toMatchObject({ user_id: other.id, period: "day", left_micro: 0 });
    expect(message).toMatch(/ for this member\.$/);
    await record(db.service, workspaceId, 60, as(userId));
    await record(db.service, workspaceId, 10);
    expect(
      (await expectError(record(db.service, workspaceId, 1), "spend_cap_reached")).facts.user_id,
    ).toBeNull();
    await expectCounted();
    await db.query("delete from auth.users where id = $1", [other.id]);
    await expectCounted();
    expect(
      await db.query("select user_id from billing.budgets where workspace_id = $1", [workspaceId]),
    ).toEqual([{ user_id: null }]);
  });
});

describe("alerts", () => {
  test("come at the shares that were asked for, once each in a period, when the money is spent", async () => {
    const { userId, workspaceId } = await rich();
    const { id } = await setBudget(db.user(userId), workspaceId, 100);
    const held = await authorize(db.service, workspaceId, 60);
    expect(await alerts(id)).toEqual([]);
    await capture(db.service, held.usage_event_id);
    expect(await alerts(id)).toEqual([{ share: 50, spent_micro: 60 }]);
    await refund(db.service, held.usage_event_id);
    await record(db.service, workspaceId, 90);
    expect(await alerts(id)).toEqual([
      { share: 50, spent_micro: 60 },
      { share: 80, spent_micro: 90 },
    ]);
    await record(db.service, workspaceId, 10);
    expect((await status(userId, workspaceId)).reached_share).toBe(100);
    await db.setClock("2027-02-01T00:00:00Z");
    await record(db.service, workspaceId, 50);
    expect((await alerts(id)).map(({ share }) => share)).toEqual([50, 80, 100, 50]);
  });

  test("of a budget that does not stop go on past its limit", async () => {
    const { userId, workspaceId } = await rich();
    const { id } = await setBudget(db.user(userId), workspaceId, 100, {
      stops: false,
      alert_shares: [100, 200],
    });
    await record(db.service, workspaceId, 250);
    expect((await alerts(id)).map(({ share }) => share)).toEqual([100, 200]);
    expect(await status(userId, workspaceId)).toMatchObject({ spent_micro: 250, left_micro: 0 });
  });

  test("come at once when the budget is lowered below what has been spent", async () => {
    const { userId, workspaceId } = await rich();
    await record(db.service, workspaceId, 60);
    const { id } = await setBudget(db.user(userId), workspaceId, 70);
    expect((await alerts(id)).map(({ share }) => share)).toEqual([50, 80]);
    await setBudget(db.user(userId), workspaceId, 60);
    expect((await alerts(id)).map(({ share }) => share)).toEqual([50, 80, 100]);
  });

  test("reach the admins and the member whose budget it is, once", async () => {
    const { userId, workspaceId } = await rich();
    const [member, admin] = [await db.createUser(), await db.createUser()];
    await db.query(
      `insert into identity.workspace_members (workspace_id, user_id, role)
      values ($1, $2, 'member'), ($1, $3, 'admin')`,
      [workspaceId, member.id, admin.id],
    );
    await db.service.call("billing.send_budget_alerts");
    await setBudget(db.user(userId), workspaceId, 100, { user_id: member.id });
    await setBudget(db.user(userId), workspaceId, 1000);
    await record(db.service, workspaceId, 100, { metadata: { user_id: member.id } });
    expect(await db.service.call("billing.send_budget_alerts")).toBe(3);
    expect(await db.service.call("billing.send_budget_alerts")).toBe(0);
    const told = await db.query(
      `select user_id, count(*)::int as told, max(description) as last from messaging.notifications
      where workspace_id = $1 and event_type = 'billing.budget_reached' group by 1`,
      [workspaceId],
    );
    expect(told.map((row) => [row.user_id, row.told]).sort()).toEqual(
      [userId, member.id, admin.id].map((id) => [id, 3]).sort(),
    );
  });
});

describe("who may", () => {
  test("set budgets: admins; read them: members; nothing: strangers and visitors", async () => {
    const { userId, workspaceId } = await rich();
    const [viewer, stranger] = [await db.createUser(), await db.createUser()];
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
      [workspaceId, viewer.id],
    );
    const { id } = await setBudget(db.user(userId), workspaceId, 100);
    await record(db.service, workspaceId, 60);
    for (const relation of ["budgets", "budget_periods", "budget_alerts", "budget_status"]) {
      const read = `select from billing.${relation}`;
      expect(await db.user(viewer.id).query(read), relation).toHaveLength(1);
      expect(await db.user(stranger.id).query(read), relation).toEqual([]);
      await expectError(db.anon.query(read), "42501");
      if (relation !== "budget_status")
        await expectError(db.service.query(`delete from billing.${relation}`), "42501");
    }
    await expectError(setBudget(db.user(viewer.id), workspaceId, 5), "role_too_low");
    await expectError(setBudget(db.user(stranger.id), workspaceId, 5), "unknown_workspace");
    await expectError(setBudget(db.anon, workspaceId, 5), "42501");
    const remove = (session: Session) => session.call("billing.remove_budget", { budget_id: id });
    await expectError(remove(db.user(viewer.id)), "role_too_low");
    await expectError(remove(db.user(stranger.id)), "unknown_budget");
    expect((await setBudget(db.service, workspaceId, 5)).limit_micro).toBe(5);
  });

  test("nobody can set one that makes no sense", async () => {
    const { userId, workspaceId } = await rich();
    const owner = db.user(userId);
    const stranger = await db.createUser();
    await expectError(setBudget(owner, workspaceId, -1), "invalid_argument");
    await expectError(setBudget(owner, workspaceId, 1, { period: "year" }), "invalid_argument");
    await expectError(setBudget(owner, workspaceId, 1, { alert_shares: [0] }), "invalid_argument");
    await expectError(setBudget(owner, workspaceId, 1, { alert_shares: [50, null] }), "invalid_argument");
    await expectError(setBudget(owner, workspaceId, 1, { timezone: "Nowhere/Town" }), "invalid_timezone");
    await expectError(setBudget(owner, workspaceId, 1, { user_id: stranger.id }), "unknown_member");
    expect(await db.query("select from billing.budgets where workspace_id = $1", [workspaceId])).toEqual([]);
  });
});
