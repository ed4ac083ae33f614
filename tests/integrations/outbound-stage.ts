// What the tests of outbound webhooks work with.

import { beforeAll, beforeEach } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { TestUser } from "../helpers/users.ts";

export const noon = "2026-11-21T12:00:00Z";
export let db: TestDatabase;
export let owner: TestUser;
beforeAll(async () => {
  db = await createTestDatabase();
});

beforeEach(async () => {
  await db.setClock(noon);
  await db.query(`${clearJobs}; delete from integrations.webhook_endpoints`);
  owner = await db.createUser();
});

// biome-ignore lint/suspicious/noExplicitAny: rows and composite results of every function of the API.
export type Row = any;

export const call = (name: string, args: Record<string, unknown>, who = owner): Promise<Row> =>
  db.user(who.id).call(`integrations.${name}`, args);

export const create = (more: Record<string, unknown> = {}) =>
  call("create_webhook_endpoint", {
    workspace_id: owner.workspaceId,
    url: "https://hooks.example.com/in",
    ...more,
  });

export const emit = (more: Record<string, unknown> = {}) =>
  db.service.call<string | null>("private.emit_event", {
    workspace_id: owner.workspaceId,
    type: "member.joined",
    data: {},
    ...more,
  });

export const deliveries = (): Promise<Row[]> =>
  db.query("select * from integrations.webhook_deliveries where workspace_id = $1 order by outbox_id", [
    owner.workspaceId,
  ]);

export const events = (): Promise<Row[]> =>
  db.query("select * from ops.outbox where workspace_id = $1 order by id", [owner.workspaceId]);

export const begin = ({ id, job_id }: Row): Promise<Row> =>
  db.service.call("ops.begin_webhook_attempt", { delivery_id: id, job_id });

export async function colleague(role: string): Promise<TestUser> {
  const user = await db.createUser();
  await db.query("insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)", [
    owner.workspaceId,
    user.id,
    role,
  ]);
  return user;
}
