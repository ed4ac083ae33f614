import { randomUUID } from "node:crypto";
import type { Session } from "./session.ts";

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

/** Signs users up as the auth server does: a row in auth.users, the rest is the trigger's work. */
export function makeUserFactory(superuser: Session): (options?: NewUser) => Promise<TestUser> {
  return async (options = {}) => {
    const id = randomUUID();
    const email = options.email ?? `user-${id.slice(0, 8)}@example.com`;
    await superuser.query(
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
    const [workspace] = await superuser.query(
      `select w.id from identity.workspaces w
      join identity.workspace_members m on m.workspace_id = w.id
      where m.user_id = $1 and m.role = 'owner' order by w.created_at, w.id limit 1`,
      [id],
    );
    return { id, email, workspaceId: workspace?.id };
  };
}
