import { beforeAll, describe, expect, test } from "vitest";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio, price, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
  ann = await db.brand();
});

const project = async () =>
  (
    await db
      .user(ann.id)
      .query("insert into studio.projects (workspace_id, name) values ($1, 'Autumn') returning id", [
        ann.workspaceId,
      ])
  )[0]!.id as string;
const totals = async (id: string) =>
  (await db.query("select total_creations, total_cost_micro from studio.projects where id = $1", [id]))[0];
const made = async (project_id: string | null, more: object = {}): Promise<Row> => {
  const creation = await db.request(ann, { project_id, ...more });
  await db.finish([creation]);
  return creation;
};
const move = (id: string, to: string | null) =>
  db.user(ann.id).query("update studio.creations set project_id = $1 where id = $2", [to, id]);

/** Projects whose totals are not those of what is in them; none when all is well. */
const wrong = () =>
  db.query(`select p.id from studio.projects p
    left join studio.creations c on c.project_id = p.id and c.status = 'completed'
    group by p.id having p.total_creations <> count(c.id) or p.total_cost_micro <> coalesce(sum(c.cost_micro), 0)`);

describe("the totals of a project", () => {
  test("count what has completed, not what is open, cancelled or failed", async () => {
    const id = await project();
    await db.request(ann, { project_id: id });
    const open = await db.request(ann, { project_id: id });
    await db.user(ann.id).rpc("studio.cancel_creation", { creation_id: open.id });
    expect(await totals(id)).toEqual({ total_creations: 0, total_cost_micro: 0 });
    await made(id, { num_outputs: 2 });
    expect(await totals(id)).toEqual({ total_creations: 1, total_cost_micro: 2 * price });
    expect(await wrong()).toEqual([]);
  });

  test("follow creations that are moved and deleted", async () => {
    const [from, to] = [await project(), await project()];
    const [one, two] = [await made(from), await made(from)];
    await move(one.id, to);
    expect([await totals(from), await totals(to)]).toEqual([
      { total_creations: 1, total_cost_micro: price },
      { total_creations: 1, total_cost_micro: price },
    ]);
    await move(one.id, null);
    expect(await totals(to)).toEqual({ total_creations: 0, total_cost_micro: 0 });
    await db.user(ann.id).query("delete from studio.creations where id = $1", [two.id]);
    expect(await totals(from)).toEqual({ total_creations: 0, total_cost_micro: 0 });
    expect(await wrong()).toEqual([]);
  });

  test("hold when all of that happens at once", async () => {
    const [from, to] = [await project(), await project()];
    const all: Row[] = [];
    for (let i = 0; i < 12; i++) all.push(await made(i % 2 ? from : null));
    await Promise.all(
      all.map((creation, i) =>
        i % 3 === 0
          ? db.user(ann.id).query("delete from studio.creations where id = $1", [creation.id])
          : move(creation.id, i % 3 === 1 ? to : from),
      ),
    );
    expect(await wrong()).toEqual([]);
    await db.user(ann.id).query("delete from studio.projects where id = $1", [to]);
    const left = await db.query("select project_id from studio.creations where id = any ($1)", [
      all.map(({ id }) => id),
    ]);
    expect(left.filter(({ project_id }) => project_id === to)).toEqual([]);
    expect(await wrong()).toEqual([]);
  });
});
