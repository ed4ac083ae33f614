import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let ada: TestUser;
let viewer: TestUser;
beforeEach(async () => {
  await db.query(clearJobs);
  [ada, viewer] = (await Promise.all([db.createUser(), db.createUser()])) as [TestUser, TestUser];
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
    [ada.workspaceId, viewer.id],
  );
  await db.query(
    "insert into ops.job_kinds (kind, description) values ('test.work', 'Works.') on conflict (kind) do nothing",
  );
});

interface Running {
  job_id: number;
  state: string;
  parent_job_id: number | null;
  description: string;
  pending_children: number;
  age_seconds: number;
}
const add = async (parent_id?: number, workspace_id: string | null = ada.workspaceId) => {
  const job = await db.service.call("ops.enqueue_job", {
    kind: "test.work",
    payload: { secret: "hidden" },
    workspace_id,
    ...(parent_id !== undefined && { parent_id }),
  });
  return Number((job as { job_id: number }).job_id);
};
const list = (user: TestUser, more: Record<string, unknown> = {}) =>
  db.user(user.id).rpc<Running>("messaging.running_jobs", { workspace_id: ada.workspaceId, ...more });
const ids = (rows: Running[]) => rows.map(({ job_id }) => job_id);

test("members see the roots of their workspace's jobs, newest first and in pages, and the children of each", async () => {
  const roots = [await add(), await add(), await add()];
  const children = [await add(roots[0]), await add(roots[0])];
  await add(undefined, null);
  await add(undefined, viewer.workspaceId);
  const all = await list(viewer);
  expect(ids(all)).toEqual(roots.toReversed());
  expect(all.at(-1)).toMatchObject({ description: "Works.", pending_children: 2, parent_job_id: null });
  expect(ids(await list(viewer, { parent_id: roots[0] }))).toEqual(children.toReversed());
  expect(ids(await list(viewer, { most: 2 }))).toEqual([roots[2], roots[1]]);
  expect(ids(await list(viewer, { most: 2, before: roots[1] }))).toEqual([roots[0]]);
  expect(JSON.stringify(all)).not.toContain("hidden");
});

test("a job at work is running; one that has ended is gone", async () => {
  const id = await add();
  await db.service.rpc("ops.claim_jobs", { worker: "w1", max: 1 });
  expect(await list(ada)).toMatchObject([{ job_id: id, state: "running" }]);
  await db.query(clearJobs);
  expect(await list(ada)).toEqual([]);
});

test("strangers and visitors see nothing", async () => {
  const id = await add();
  const stranger = await db.createUser();
  await expectError(list(stranger), "unknown_workspace", "PT404");
  await expectError(db.anon.rpc("messaging.running_jobs", { workspace_id: ada.workspaceId }), "42501");
  // A job of another workspace is no way to its children.
  const child = await add(id);
  expect(
    ids(
      await db.user(stranger.id).rpc<Running>("messaging.running_jobs", {
        workspace_id: stranger.workspaceId,
        parent_id: id,
      }),
    ),
  ).not.toContain(child);
});

test("the list is served by its index, whatever else waits", async () => {
  const other = await db.createUser();
  await db.query(
    `select count(*) from ops.enqueue_jobs('test.work',
      (select array_agg('{}'::jsonb) from generate_series(1, 10000)), $1)`,
    [other.workspaceId],
  );
  await add();
  await db.query("analyze ops.live_jobs");
  const plan = await db.query(
    `explain select * from ops.live_jobs r where r.workspace_id = $1 and r.parent_id is null
      and r.id < 9223372036854775807 order by r.id desc limit 50`.replace("$1", `'${ada.workspaceId}'`),
  );
  expect(JSON.stringify(plan)).toContain("live_jobs_roots");
  expect(JSON.stringify(plan)).not.toContain("Sort");
});
