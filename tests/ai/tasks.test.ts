import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { ada, as, sourceId, testDb, wallet, work } from "./assistant-stage.ts";

describe("a task", () => {
  const propose = (more: Record<string, unknown> = {}, who = ada.id) =>
    as(who).call("ai.propose_task", {
      workspace_id: ada.workspaceId,
      task_type: "analyze_brand",
      title: "Read our voice",
      ...more,
    });
  const task = async (id: string) =>
    (await as().query("select * from ai.autonomous_tasks where id = $1", [id]))[0]!;
  const limits = (auto_approve_micro: number, monthly_budget_micro: number | null = null) =>
    as().call("ai.set_task_limits", {
      workspace_id: ada.workspaceId,
      auto_approve_micro,
      monthly_budget_micro,
    });

  test("waits for an admin, who is told, unless the limits allow it", async () => {
    const member = await testDb.createUser();
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [ada.workspaceId, member.id],
    );
    const proposed = await propose({}, member.id);
    expect(proposed).toMatchObject({ status: "proposed", estimated_cost_micro: 900, approval: null });
    expect(
      await as().query(
        "select title from messaging.notifications where user_id = $1 and title like '%approval%'",
        [ada.id],
      ),
    ).toHaveLength(1);
    await expectError(
      as(member.id).call("ai.approve_task", { task_id: proposed.id }),
      "role_too_low",
      "PT403",
    );
    const approved = await as().call("ai.approve_task", { task_id: proposed.id });
    expect(approved).toMatchObject({ status: "approved", approval: "person", decided_by: ada.id });
    await expectError(as().call("ai.approve_task", { task_id: proposed.id }), "task_not_open", "PT409");
    await work();
    const done = await task(proposed.id);
    expect(done).toMatchObject({ status: "completed", items_succeeded: 1, result: { status: "ready" } });
    expect(done.cost_micro).toBeGreaterThan(0);
    expect(await wallet()).toMatchObject({ held_micro: 0 });

    await limits(900);
    expect(await propose()).toMatchObject({ status: "approved", approval: "automatic", decided_by: null });
  });

  test("never goes beyond the month's budget, whoever approves", async () => {
    await limits(1000, 1500);
    const [one, two] = await Promise.all([propose({ key: "a" }), propose({ key: "b" })]);
    expect([one.status, two.status].sort()).toEqual(["approved", "proposed"]);
    const open = one.status === "proposed" ? one : two;
    const error = await expectError(
      as().call("ai.approve_task", { task_id: open.id }),
      "task_budget_exceeded",
      "PT409",
    );
    expect(error.facts).toMatchObject({ left_micro: 600 });
    await limits(1000, 2000);
    expect(await as().call("ai.approve_task", { task_id: open.id })).toMatchObject({ status: "approved" });
  });

  test("asked for twice by one key is one, and can be rejected or cancelled", async () => {
    const first = await propose({ key: "k" });
    expect((await propose({ key: "k" })).id).toBe(first.id);
    await expectError(
      propose({ key: "k", task_type: "refresh_knowledge", config: { source_id: sourceId } }),
      "key_reused",
      "PT409",
    );
    expect(await as().call("ai.reject_task", { task_id: first.id, note: "not now" })).toMatchObject({
      status: "rejected",
      decision_note: "not now",
    });
    const later = await propose({ scheduled_at: "2030-01-01T00:00:00Z" });
    await as().call("ai.approve_task", { task_id: later.id });
    expect(await as().call("ai.cancel_task", { task_id: later.id })).toMatchObject({ status: "cancelled" });
    await expectError(as().call("ai.cancel_task", { task_id: first.id }), "task_not_open", "PT409");
    const eve = await testDb.createUser();
    await expectError(as(eve.id).call("ai.cancel_task", { task_id: later.id }), "unknown_task", "PT404");
  });

  test("of creations asks for them within what was approved, and says which could not be", async () => {
    const item = { creation_type: "tryon", garment_id: randomUUID(), input_path: `${ada.workspaceId}/x.jpg` };
    const proposed = await propose({ task_type: "creations", config: { items: [item, item] } });
    await as().call("ai.approve_task", { task_id: proposed.id });
    await work();
    expect(await task(proposed.id)).toMatchObject({
      status: "failed",
      items_failed: 2,
      error_message: expect.stringContaining("unknown_garment"),
      error_details: [{ item: 0 }, { item: 1 }],
    });
    await expectError(
      propose({ task_type: "creations", config: { items: [] } }),
      "invalid_argument",
      "PT400",
    );
    await expectError(propose({ task_type: "else" }), "invalid_argument", "PT400");
  });
});
