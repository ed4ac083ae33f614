import { describe, expect, test } from "vitest";
import { newWorkspace, refund } from "../billing/money.ts";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { at, counted, db, misbehave, plan, reported, reports, send, stripe, use } from "./meter-stage.ts";

describe("usage", () => {
  test("is reported an hour at a time, when the hour is over, in whole numbers", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1.25);
    await use(workspaceId, -3, 2);
    await use(workspaceId, -2, 5);
    await use(workspaceId, -1, 7);
    expect(await plan()).toBe(2);
    expect(await send(workspaceId)).toEqual({ outcome: "completed", output: { sent: 2, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-3": 33, "-2": 50 });
    expect(await plan()).toBe(0);
    await db.setClock(at(0.1));
    expect(await plan()).toBe(1);
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 33, "-2": 50, "-1": 70 });
  });

  test("that is corrected later is reported by the difference, less than nothing too", async () => {
    const { workspaceId, customer } = await reported();
    const charge = await use(workspaceId, -3, 4);
    await plan();
    await send(workspaceId);
    await use(workspaceId, -3, 6);
    await plan();
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 100 });
    await refund(db.service, charge);
    await plan();
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-3": 60 });
    expect((await reports(workspaceId)).map(({ value }) => value).sort((a, b) => a - b)).toEqual([
      -40, 40, 60,
    ]);
  });

  test("of before reporting began, and of workspaces that are not reported, stays here", async () => {
    const { workspaceId } = await reported(-3);
    const other = await newWorkspace(db, { prepaid: 1000 });
    await use(workspaceId, -4, 1);
    await use(other.workspaceId, -3, 1);
    expect(await plan()).toBe(0);
  });

  test("since a day in the past is reported when reporting begins there", async () => {
    const { workspaceId, customer } = await reported(0);
    await use(workspaceId, -30, 1);
    await plan();
    const begin = (active: boolean, from_at: Date) =>
      db.service.call("billing.report_usage", { workspace_id: workspaceId, active, from_at });
    await begin(false, at(0));
    await begin(true, at(-34 * 24 + 1));
    expect(await plan()).toBe(1);
    await send(workspaceId);
    expect(await counted(customer)).toEqual({ "-30": 10 });
  });

  test("that has become too old for the provider is skipped, and said so", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await db.setClock(at(35 * 24));
    await use(workspaceId, -2, 1);
    await plan();
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
    expect(await counted(customer)).toEqual({});
    expect((await reports(workspaceId)).map(({ status }) => status)).toEqual(["skipped", "skipped"]);
  });
});

describe("a report", () => {
  test("whose answer was lost is sent again and counted once", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await use(workspaceId, -2, 2);
    await plan();
    // the client itself tries three times
    await misbehave({ fail: "answer", times: 3 });
    await expect(send(workspaceId)).rejects.toMatchObject({ code: "provider_unavailable", retry: true });
    expect((await reports(workspaceId)).map(({ status, attempts }) => [status, attempts])).toEqual([
      ["pending", 1],
      ["pending", 0],
    ]);
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 2, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-3": 10, "-2": 20 });
  });

  test("is counted once when two jobs send it at the same time", async () => {
    const { workspaceId, customer } = await reported();
    for (let n = 0; n < 5; n++) await use(workspaceId, -3, 2 ** n, "unit");
    await use(workspaceId, -2, 3);
    await plan();
    await Promise.all([send(workspaceId), send(workspaceId)]);
    expect(await counted(customer)).toEqual({ "-3": 310, "-2": 30 });
  });

  test("that was held back is certain not to count, and is no older for it", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await misbehave({ fail: "submit", http_status: 429, times: 1 });
    await expect(send(workspaceId)).rejects.toMatchObject({ code: "provider_unavailable" });
    await db.setClock(at(24));
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1 } });
    expect(await counted(customer)).toEqual({ "-3": 10 });
  });

  test("without an answer for a day is left to a person, who says whether it counts", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    await misbehave({ fail: "answer", times: 3 });
    await expect(send(workspaceId)).rejects.toThrow();
    await db.setClock(at(23));
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
    const [doubtful] = await db.query("select * from billing.meter_reports where workspace_id = $1", [
      workspaceId,
    ]);
    expect(doubtful).toMatchObject({ status: "uncertain", error: "no answer came within a day" });
    const decide = () =>
      db.service.call("billing.decide_meter_report", { report_id: doubtful!.id, counted: true });
    expect(await decide()).toMatchObject({ status: "sent" });
    await expectError(decide(), "unknown_meter_report");
    expect(await counted(customer)).toEqual({ "-3": 10 });
  });

  test("that the provider refuses waits for a person and stops no other", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1, "hundred");
    await use(workspaceId, -2, 1);
    await plan();
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1, refused: 1 } });
    const refused = (
      await db.query("select * from billing.meter_reports where workspace_id = $1 and status = 'refused'", [
        workspaceId,
      ])
    )[0]!;
    expect(refused).toMatchObject({ value: 100, error: expect.stringContaining("missing") });
    const formula = { default_aggregation: { formula: "sum" } } as const;
    await stripe.billing.meters.create({ display_name: "Cost", event_name: "missing", ...formula });
    await db.service.call("billing.decide_meter_report", { report_id: refused.id, counted: false });
    expect(await send(workspaceId)).toMatchObject({ output: { sent: 1, refused: 0 } });
    expect(await counted(customer)).toEqual({ "-2": 10 });
  });

  test("is not sent when the worker must end", async () => {
    const { workspaceId, customer } = await reported();
    await use(workspaceId, -3, 1);
    await plan();
    const end = new AbortController();
    end.abort(new Error("time is up"));
    await expect(send(workspaceId, end.signal)).rejects.toThrow("time is up");
    expect(await counted(customer)).toEqual({});
    expect(await reports(workspaceId)).toMatchObject([{ status: "pending", attempts: 0 }]);
  });
});

test("a workspace with reports has one job, and another when that has ended", async () => {
  const { workspaceId } = await reported();
  const jobs = () =>
    db.query(
      "select id, state from ops.jobs where workspace_id = $1 and kind = 'billing.report_usage' order by id",
      [workspaceId],
    );
  await use(workspaceId, -3, 1);
  await plan();
  await use(workspaceId, -2, 1);
  await plan();
  const [job] = await jobs();
  expect(await jobs()).toHaveLength(1);
  await db.service.call("ops.cancel_job", { id: job!.id });
  await plan();
  expect(await jobs()).toHaveLength(2);
});

test("reporting ends when it is switched off, and needs a customer and a time that the provider takes", async () => {
  const { workspaceId } = await reported();
  await use(workspaceId, -3, 1);
  await plan();
  const report = (more: Row) =>
    db.service.call("billing.report_usage", { workspace_id: workspaceId, active: true, ...more });
  await report({ active: false });
  expect(await send(workspaceId)).toMatchObject({ output: { sent: 0 } });
  await use(workspaceId, -2, 1);
  expect(await plan()).toBe(0);
  await expectError(report({ from_at: at(-34 * 24 - 1) }), "invalid_argument");
  await expectError(report({ from_at: at(1) }), "invalid_argument");
  const unknown = await newWorkspace(db);
  await expectError(report({ workspace_id: unknown.workspaceId }), "no_provider_customer", "PT409");
  await expectError(
    db.user(unknown.userId).call("billing.report_usage", { workspace_id: workspaceId, active: true }),
    "42501",
  );
  for (const table of ["reported_meters", "meter_reporting", "due_meter_reports", "meter_reports"]) {
    await expectError(db.user(unknown.userId).query(`select from billing.${table}`), "42501");
  }
});
