import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let person: TestUser;
beforeEach(async () => {
  person = await db.createUser();
  await db.query(
    "update ops.qa_test_runs set status = 'cancelled', completed_at = now() where status = 'queued'",
  );
  await db.query("update ops.qa_test_specs set status = 'archived'");
});

async function desk() {
  const connection = await db.connect({ user: person.id });
  const claims = { sub: person.id, role: "authenticated", app_metadata: { staff: true } };
  await connection.query("select set_config('request.jwt.claims', $1, false)", [JSON.stringify(claims)]);
  return connection;
}
interface Row {
  id: string;
  status: string;
  total_specs: number;
  [name: string]: unknown;
}
const spec = (name: string, more: object = {}) => ({
  spec: {
    name,
    nl_spec: `Open ${name} and see it.`,
    target_app: "studio.example.com",
    generated_code: "await page.goto('/')",
    status: "active",
    retries: 1,
    ...more,
  },
});
const one = async (rows: Promise<Row[]>) => (await rows)[0]!;

test("staff write tests, ask for a run, and see what became of it; the runner takes it once", async () => {
  const staff = await desk();
  const home = await one(staff.rpc<Row>("staff.save_qa_spec", spec("home", { tags: ["smoke"] })));
  const cart = await one(staff.rpc<Row>("staff.save_qa_spec", spec("cart")));
  await staff.rpc("staff.save_qa_spec", spec("other", { target_app: "other.example.com" }));
  await staff.rpc("staff.save_qa_spec", spec("draft", { status: "draft", generated_code: null }));
  expect(home.generated_at).not.toBeNull();

  const run = await one(staff.rpc<Row>("staff.request_qa_run", { target_app: "studio.example.com" }));
  expect(run).toMatchObject({
    status: "queued",
    total_specs: 2,
    triggered_by: person.id,
    trigger_type: "manual",
  });

  const taken = await Promise.all([1, 2, 3].map(() => db.service.call("ops.begin_qa_run")));
  expect((taken as (Row | null)[]).filter((row) => row?.id)).toMatchObject([
    { id: run.id, status: "running" },
  ]);
  const record = (spec_id: string, attempt_number: number, result: object) =>
    db.service.call("ops.record_qa_result", { run_id: run.id, spec_id, attempt_number, result });
  await record(home.id, 1, { status: "passed" });
  await record(home.id, 1, { status: "passed" });
  await record(cart.id, 1, { status: "failed", error_message: "no button" });
  await record(cart.id, 2, {
    status: "passed",
    healed_code: "await page.click('#b')",
    heal_reason: "renamed",
  });
  await db.service.call("ops.finish_qa_run", { run_id: run.id });
  expect(
    await staff.query(
      "select status, passed_count, flaky_count, healed_count from staff.qa_runs where id = $1",
      [run.id],
    ),
  ).toEqual([{ status: "passed", passed_count: 2, flaky_count: 1, healed_count: 1 }]);
  expect(
    await staff.query("select attempt_number, status from staff.qa_results where spec_id = $1 order by 1", [
      cart.id,
    ]),
  ).toEqual([
    { attempt_number: 1, status: "failed" },
    { attempt_number: 2, status: "passed" },
  ]);
  await expectError(record(home.id, 1, { status: "passed" }), "qa_run_not_running");

  await staff.rpc("staff.save_qa_spec", { id: home.id, spec: { name: "front page" } });
  const [changed] = await staff.query<Row>(
    "select name, nl_spec, generated_at from staff.qa_specs where id = $1",
    [home.id],
  );
  expect(changed).toEqual({
    name: "front page",
    nl_spec: "Open home and see it.",
    generated_at: home.generated_at ? new Date(home.generated_at as string) : null,
  });
  await staff.rpc("staff.delete_qa_spec", { id: home.id });
  expect(await staff.query("select 1 from staff.qa_specs where id = $1", [home.id])).toEqual([]);
  await expectError(staff.rpc("staff.delete_qa_spec", { id: home.id }), "unknown_qa_spec", "PT404");
  await staff.close();
});

test("nobody else sees or writes any of it", async () => {
  const staff = await desk();
  await staff.rpc("staff.save_qa_spec", spec("home"));
  await staff.close();
  const other = db.user(person.id);
  for (const view of ["qa_specs", "qa_runs", "qa_results"]) {
    expect(await other.query(`select 1 from staff.${view}`)).toEqual([]);
    await expectError(db.anon.query(`select 1 from staff.${view}`), "42501");
  }
  await expectError(other.rpc("staff.save_qa_spec", spec("mine")), "not_staff", "PT403");
  await expectError(other.rpc("staff.request_qa_run", {}), "not_staff");
  await expectError(other.query("select 1 from ops.qa_test_specs"), "42501");
  await expectError(other.rpc("ops.begin_qa_run", {}), "42501");
});

test.each([
  ["no words", { nl_spec: null }],
  ["an unknown browser", { browser: "netscape" }],
  ["code but not active without it", { generated_code: null, status: "active" }],
  ["a number for a name of a state", { status: "done" }],
])("a test with %s is refused", async (_, more) => {
  const staff = await desk();
  await expectError(staff.rpc("staff.save_qa_spec", spec("x", more)), "invalid_argument");
  await staff.close();
});

test("a run without a test that matches is not begun", async () => {
  const staff = await desk();
  await expectError(staff.rpc("staff.request_qa_run", { tags: ["nothing"] }), "no_qa_specs", "PT409");
  await expectError(staff.rpc("staff.request_qa_run", { environment: "moon" }), "invalid_argument");
  await staff.close();
});

test("a push is followed by one run of the tests that wait for its repository", async () => {
  const staff = await desk();
  await staff.rpc(
    "staff.save_qa_spec",
    spec("pushed", { run_on_push: true, trigger_on_repos: ["acme/studio"] }),
  );
  await staff.rpc("staff.save_qa_spec", spec("not pushed"));
  await staff.close();
  const push = (sha: string, repo = "acme/studio") =>
    db.service.call("ops.request_qa_run_for_push", { repo, sha, branch: "main" }) as Promise<Row>;
  const runs = await Promise.all([push("abc"), push("abc"), push("abc")]);
  expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
  expect(runs[0]).toMatchObject({
    status: "queued",
    total_specs: 1,
    git_push_sha: "abc",
    git_branch: "main",
  });
  expect((await push("def")).id).not.toBe(runs[0]!.id);
  expect((await push("abc", "acme/other"))?.id ?? null).toBeNull();
});
