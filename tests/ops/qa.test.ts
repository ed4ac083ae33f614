import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

async function makeSpec(name: string): Promise<string> {
  const [row] = await db.service.query(
    "insert into ops.qa_test_specs (name, nl_spec) values ($1, 'Open the shop.') returning id",
    [name],
  );
  return row?.id;
}

async function startRun(): Promise<string> {
  const [row] = await db.service.query(
    "insert into ops.qa_test_runs (status, started_at) values ('running', now()) returning id",
  );
  return row?.id;
}

async function addResult(
  run: string,
  spec: string,
  status: string,
  attempt = 1,
  healed = false,
): Promise<void> {
  await db.service.query(
    `insert into ops.qa_test_results (run_id, spec_id, status, attempt_number, total_attempts, started_at, completed_at,
      error_message, was_healed, healed_code)
    values ($1, $2, $3, $4, $4, now(), case when $3 <> 'running' then now() end,
      case when $3 in ('failed', 'error') then 'no button' end, $5, case when $5 then 'click()' end)`,
    [run, spec, status, attempt, healed],
  );
}

const finish = (run_id: string) => db.service.call("ops.finish_qa_run", { run_id });
const specOf = async (id: string) =>
  (await db.query("select * from ops.qa_test_specs where id = $1", [id]))[0];

describe("ops.finish_qa_run", () => {
  test("the last attempt of each spec counts, in the run and in the spec", async () => {
    const [steady, flaky, broken, healed, skipped] = (await Promise.all(
      ["steady", "flaky", "broken", "healed", "skipped"].map(makeSpec),
    )) as [string, string, string, string, string];
    const run = await startRun();
    await addResult(run, steady, "passed");
    await addResult(run, flaky, "failed");
    await addResult(run, flaky, "passed", 2);
    await addResult(run, broken, "failed");
    await addResult(run, broken, "error", 2);
    await addResult(run, healed, "passed", 1, true);
    await addResult(run, skipped, "skipped");
    expect(await finish(run)).toMatchObject({
      status: "failed",
      total_specs: 5,
      passed_count: 3,
      failed_count: 1,
      skipped_count: 1,
      flaky_count: 1,
      healed_count: 1,
    });
    expect(await specOf(steady)).toMatchObject({
      consecutive_passes: 1,
      consecutive_fails: 0,
      flaky_score: 0,
    });
    expect(await specOf(flaky)).toMatchObject({ consecutive_passes: 1, flaky_score: 10 });
    expect(await specOf(broken)).toMatchObject({ consecutive_passes: 0, consecutive_fails: 1 });
    expect(await specOf(healed)).toMatchObject({ heal_count: 1, last_healed_at: expect.any(Date) });
    expect(await specOf(skipped)).toMatchObject({ consecutive_passes: 0, consecutive_fails: 0 });
  });

  test("called twice or at once it counts once", async () => {
    const spec = await makeSpec("once");
    const run = await startRun();
    await addResult(run, spec, "passed");
    const ends = await Promise.all([finish(run), finish(run), finish(run)]);
    expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(["passed"]));
    expect(await specOf(spec)).toMatchObject({ consecutive_passes: 1 });
  });

  test("a run that has not begun, has results to come or is unknown is refused", async () => {
    const [queued] = await db.service.query("insert into ops.qa_test_runs default values returning id");
    await expectError(finish(queued?.id), "qa_run_not_running", "PT409");
    const run = await startRun();
    await addResult(run, await makeSpec("slow"), "running");
    await expectError(finish(run), "qa_run_not_running");
    await expectError(finish(randomUUID()), "unknown_qa_run", "PT404");
  });
});

describe("illegal states are refused", () => {
  const spec = "insert into ops.qa_test_specs (name, nl_spec";
  const run = "insert into ops.qa_test_runs";
  test.each([
    [`${spec}, status) values ('n', 's', 'active')`, "qa_test_specs_active_has_code"],
    [`${spec}, generated_code) values ('n', 's', 'c')`, "qa_test_specs_generated_has_time"],
    [
      `${spec}, consecutive_passes, consecutive_fails) values ('n', 's', 1, 1)`,
      "qa_test_specs_streak_is_one",
    ],
    [`${run} (status) values ('running')`, "qa_test_runs_started_has_time"],
    [`${run} (started_at) values (now())`, "qa_test_runs_started_has_time"],
    [`${run} (status, started_at) values ('passed', now())`, "qa_test_runs_ended_has_time"],
    [`${run} (trigger_type) values ('push')`, "qa_test_runs_push_has_sha"],
    [`${run} (total_specs, passed_count, failed_count) values (1, 1, 1)`, "qa_test_runs_counts_in_range"],
  ])("%s", async (statement, constraint) => {
    const { message } = await expectError(db.service.query(statement), "23514");
    expect(message).toContain(`"${constraint}"`);
  });

  test("a failed result that does not say why, and two of one attempt", async () => {
    const run = await startRun();
    const id = await makeSpec("why");
    const failed = `insert into ops.qa_test_results (run_id, spec_id, status, started_at, completed_at)
      values ($1, $2, 'failed', now(), now())`;
    await expectError(db.service.query(failed, [run, id]), "23514");
    await addResult(run, id, "passed");
    await expectError(addResult(run, id, "passed"), "23505");
  });

  test("a spec that waits for itself", async () => {
    const id = await makeSpec("own");
    const set = (column: string) =>
      db.service.query(`update ops.qa_test_specs set ${column} where id = $1`, [id]);
    await expectError(set("setup_spec_id = id"), "23514");
    await expectError(set("depends_on = array[id]"), "23514");
  });
});
