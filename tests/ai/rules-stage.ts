// What the tests of the rules work with: a person with a viewer beside her, on a day that stands still.

import { beforeEach } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";

export const db = await createTestDatabase();
export interface Person {
  id: string;
  workspaceId: string;
}
export let ada: Person;
export let viewer: Person;
beforeEach(async () => {
  await db.setClock("2026-11-20T12:00:00Z");
  ada = await db.createUser();
  viewer = await db.createUser();
  await join(viewer, "viewer");
});

const join = (person: Person, role: string) =>
  db.query("insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)", [
    ada.workspaceId,
    person.id,
    role,
  ]);
export const as = (person: Person) => db.user(person.id);
