// Workspaces and members for the tests of this folder.

import type { TestDatabase } from "../helpers/database.ts";
import type { TestUser } from "../helpers/users.ts";

export const roles = ["viewer", "member", "editor", "admin", "owner"] as const;
export type Role = (typeof roles)[number];
export type Team = Record<Role | "stranger", TestUser> & { id: string };

/** A workspace with one member of each role, and a stranger. */
export async function makeTeam(db: TestDatabase): Promise<Team> {
  const names = [...roles, "stranger"] as const;
  const users = await Promise.all(names.map(() => db.createUser()));
  const people = Object.fromEntries(names.map((name, i) => [name, users[i]])) as Omit<Team, "id">;
  const { id } = await db.user(people.owner.id).call("identity.create_workspace", { name: "Team" });
  for (const role of roles.filter((name) => name !== "owner")) await join(db, id, people[role], role);
  return { ...people, id };
}

export async function join(
  db: TestDatabase,
  workspaceId: string,
  user: TestUser,
  role: Role,
  expiresAt: string | null = null,
): Promise<void> {
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role, expires_at) values ($1, $2, $3, $4)",
    [workspaceId, user.id, role, expiresAt],
  );
}

export async function roleOf(db: TestDatabase, workspaceId: string, user: TestUser): Promise<string | null> {
  const [member] = await db.query(
    "select role from identity.workspace_members where workspace_id = $1 and user_id = $2",
    [workspaceId, user.id],
  );
  return member?.role ?? null;
}

/** Waits until a statement of this database waits for a lock, or the promise has settled. */
export async function untilBlocked(db: TestDatabase, promise: Promise<unknown>): Promise<void> {
  let settled = false;
  const settle = () => {
    settled = true;
  };
  promise.then(settle, settle);
  while (!settled) {
    const blocked = await db.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    if (blocked.length > 0) return;
  }
}
