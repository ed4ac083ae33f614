// Ann's workspace with an admin, Bob, and staff of Backlot who suspend people.

import { beforeEach } from "vitest";
import type { TestUser } from "../helpers/users.ts";
import { type Brand, createStudio } from "../studio/studio.ts";

export const db = await createStudio();
export let ann: Brand;
export let bob: TestUser;
/** Of Backlot's own. */
export let staff: TestUser;
beforeEach(async () => {
  ann = await db.brand();
  bob = await db.join(ann.workspaceId, "admin");
  staff = await db.createUser();
  await db.query(`update auth.users set raw_app_meta_data = '{"staff": true}' where id = $1`, [staff.id]);
});

export const set = (what: "suspend_person" | "lift_suspension", { id }: TestUser, reason = "spam") =>
  db.service.call(`staff.${what}`, { user_id: id, reason });
export const suspend = (user: TestUser) => set("suspend_person", user);
export const lift = (user: TestUser) => set("lift_suspension", user);
export const asStaff = async (name: string, args: Record<string, unknown>) => {
  const connection = await db.connect({ user: staff.id });
  try {
    await connection.begin();
    await connection.query(
      `select set_config('request.jwt.claims', (auth.jwt() || '{"app_metadata": {"staff": true}}')::text, true)`,
    );
    const [row] = await connection.query(
      `select * from ${name}(user_id => $1, reason => $2)`,
      Object.values(args),
    );
    await connection.commit();
    return row;
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    await connection.close();
  }
};
export const sees = (user: TestUser) =>
  db
    .user(user.id)
    .query("select id from studio.wardrobe_garments where workspace_id = $1", [ann.workspaceId]);
