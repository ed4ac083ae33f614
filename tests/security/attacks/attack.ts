import type { Row } from "../../helpers/session.ts";
import type { TestUser } from "../../helpers/users.ts";
import type { Brand, Studio } from "../../studio/studio.ts";

/** A brand with rows of every kind, and a stranger who knows all of their ids. */
export interface Scene {
  db: Studio;
  victim: Brand;
  thief: TestUser;
  ids: Record<string, string>;
}

/** A function, called with the victim's ids, and the error that the thief gets; 404 unless told otherwise. */
export type Attack = [
  name: string,
  args: (scene: Scene) => Record<string, unknown>,
  error: string,
  sqlstate?: string,
];

/** The victim's workspace. */
export const there = ({ victim }: Scene) => ({ workspace_id: victim.workspaceId });

/** The ids of the rows that a statement writes; `$1` is the victim's workspace. */
export async function add({ db, victim }: Scene, sql: string, params: unknown[] = []): Promise<string> {
  const [row] = await db.query(`${sql} returning id`, [victim.workspaceId, ...params]);
  return row!.id;
}

/** What a function gives the victim. */
export const has = ({ db, victim }: Scene, name: string, args: Record<string, unknown>): Promise<Row> =>
  db.user(victim.id).call(name, args);

export const connect = (scene: Scene, provider: string): Promise<string> =>
  add(
    scene,
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, status, connected_at)
      values ($1, $2, $3, 'active', now())`,
    [provider, crypto.randomUUID()],
  );
