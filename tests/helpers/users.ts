import { randomUUID } from "node:crypto";
import type pg from "pg";

export interface NewUser {
  email?: string;
  /** Whether the e-mail address is confirmed; true unless told otherwise. */
  confirmed?: boolean;
  app_metadata?: Record<string, unknown>;
  user_metadata?: Record<string, unknown>;
}

export interface TestUser {
  id: string;
  email: string;
  /** The personal workspace that the sign-up made. */
  workspaceId: string;
}

/** Signs users up as the auth server does: its role writes auth.users, the rest is the trigger's work. */
export function makeUserFactory(pool: pg.Pool): (options?: NewUser) => Promise<TestUser> {
  return async (options = {}) => {
    const id = randomUUID();
    const email = options.email ?? `user-${id.slice(0, 8)}@example.com`;
    const client = await pool.connect();
    try {
      await client.query("set role supabase_auth_admin");
      await client.query(
        `insert into auth.users
          (id, aud, role, email, email_confirmed_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
        values ($1, 'authenticated', 'authenticated', $2, case when $3 then now() end, $4, $5, now(), now())`,
        [
          id,
          email,
          options.confirmed ?? true,
          JSON.stringify({ provider: "email", providers: ["email"], ...options.app_metadata }),
          JSON.stringify(options.user_metadata ?? {}),
        ],
      );
    } finally {
      await client.query("reset role").finally(() => client.release());
    }
    const { rows } = await pool.query<{ id: string }>(
      "select id from identity.workspaces where created_by = $1 and type = 'person'",
      [id],
    );
    const [workspace] = rows;
    if (!workspace) throw new Error(`The sign-up of ${email} made no personal workspace.`);
    return { id, email, workspaceId: workspace.id };
  };
}
