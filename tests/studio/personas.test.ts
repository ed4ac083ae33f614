import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { untilBlocked } from "../identity/people.ts";
import { type Brand, createStudio, noon, type Studio } from "./studio.ts";

let db: Studio;
let ann: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  await db.setClock(noon);
  await db.query("delete from studio.creations");
  await db.query(clearJobs);
  ann = await db.brand(10_000_000);
  return async () => {
    expect(await db.service.rpc("billing.verify_ledger")).toEqual([]);
  };
});

async function persona(more: Record<string, unknown> = {}): Promise<Row> {
  const columns = {
    workspace_id: ann.workspaceId,
    name: "Mia",
    face_prompt: "a woman with freckles",
    ...more,
  };
  const names = Object.keys(columns);
  const [row] = await db
    .user(ann.id)
    .query(
      `insert into studio.personas (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")}) returning *`,
      Object.values(columns),
    );
  return row!;
}
const read = async ({ id }: Row) => (await db.query("select * from studio.personas where id = $1", [id]))[0]!;
const call = (name: string, args: Record<string, unknown>, by: { id: string } = ann) =>
  db.user(by.id).call(`studio.${name}`, args);

describe("one default persona a role", () => {
  test("is switched by one call, and another role's stays", async () => {
    const [mia, zoe, bot] = [
      await persona(),
      await persona({ name: "Zoe" }),
      await persona({ role: "support" }),
    ];
    for (const { id } of [mia, bot, zoe]) await call("set_default_persona", { persona_id: id });
    expect((await read(mia)).is_default).toBe(false);
    expect((await read(zoe)).is_default).toBe(true);
    expect((await read(bot)).is_default).toBe(true);
    await expectError(
      db.query("update studio.personas set is_default = true where id = $1", [mia.id]),
      "23505",
    );
  });

  test("is one however many are made it at once", async () => {
    const all = await Promise.all(Array.from({ length: 8 }, (_, i) => persona({ name: `P${i}` })));
    await Promise.all(all.map(({ id }) => call("set_default_persona", { persona_id: id })));
    const now = await Promise.all(all.map(read));
    expect(now.filter(({ is_default }) => is_default)).toHaveLength(1);
  });

  test("stays when the one that was to take its place is deleted at that moment", async () => {
    const [mia, zoe] = [await persona(), await persona({ name: "Zoe" })];
    await call("set_default_persona", { persona_id: mia.id });
    const other = await db.connect({ user: ann.id });
    await other.begin();
    await other.query("delete from studio.personas where id = $1", [zoe.id]);
    const chosen = expectError(
      call("set_default_persona", { persona_id: zoe.id }),
      "unknown_persona",
      "PT404",
    );
    await untilBlocked(db, chosen);
    await other.commit();
    await other.close();
    await chosen;
    expect((await read(mia)).is_default).toBe(true);
  });

  test("that changes its role takes no default away, and is the new role's where that has none", async () => {
    const [mia, bot] = [await persona(), await persona({ role: "support" })];
    for (const { id } of [mia, bot]) await call("set_default_persona", { persona_id: id });
    const give = (role: string) =>
      db.user(ann.id).query("update studio.personas set role = $2 where id = $1", [mia.id, role]);
    await give("concierge");
    expect((await read(mia)).is_default).toBe(true);
    await give("support");
    expect((await read(mia)).is_default).toBe(false);
    expect((await read(bot)).is_default).toBe(true);
  });

  test("is an editor's to say, and nobody sets it by hand", async () => {
    const mia = await persona();
    const member = await db.join(ann.workspaceId, "member");
    const args = { persona_id: mia.id };
    await expectError(call("set_default_persona", args, member), "role_too_low", "PT403");
    await expectError(call("set_default_persona", args, await db.createUser()), "unknown_persona", "PT404");
    await expectError(
      db.user(ann.id).query("update studio.personas set is_default = true where id = $1", [mia.id]),
      "42501",
    );
    await expectError(
      db.user(ann.id).query("update studio.personas set lora_status = 'ready' where id = $1", [mia.id]),
      "42501",
    );
  });
});

describe("faces", () => {
  test("are a creation whose pictures join the persona's, and one of them is chosen", async () => {
    const mia = await persona({ face_seed: 7, gender: "female", skin_tone: "olive" });
    const creation = await call("generate_persona_faces", { persona_id: mia.id, num_faces: 3, key: "faces" });
    expect(creation).toMatchObject({
      creation_type: "text_to_image",
      num_outputs: 3,
      prompt: expect.stringContaining("a woman with freckles, female, olive skin"),
      settings: { seed: 7, persona_id: mia.id },
    });
    const again = await call("generate_persona_faces", { persona_id: mia.id, num_faces: 3, key: "faces" });
    expect(again.id).toBe(creation.id);
    await db.finish([creation]);
    const made = (await db.creation(creation.id)).result_paths;
    expect(await read(mia)).toMatchObject({ face_paths: made, selected_face_index: null });

    const chosen = await call("choose_persona_face", { persona_id: mia.id, face_index: 1 });
    expect(chosen).toMatchObject({ selected_face_index: 1 });
    const more = await call("generate_persona_faces", { persona_id: mia.id, num_faces: 1 });
    await db.finish([more]);
    expect(await read(mia)).toMatchObject({ selected_face_index: 1, usage_count: 0 });
    const left = await call("drop_persona_face", { persona_id: mia.id, face_index: 0 });
    expect(left).toMatchObject({
      selected_face_index: 0,
      face_paths: [made[1], made[2], expect.any(String)],
    });
    expect(await call("drop_persona_face", { persona_id: mia.id, face_index: 0 })).toMatchObject({
      selected_face_index: null,
    });
  });

  test.each([-1, 2, 2 ** 31 - 1])("there is no face %i of two", async (face_index) => {
    const mia = await persona();
    const creation = await call("generate_persona_faces", { persona_id: mia.id, num_faces: 2 });
    await db.finish([creation]);
    const args = { persona_id: mia.id, face_index };
    await expectError(call("choose_persona_face", args), "unknown_face", "PT404");
    await expectError(call("drop_persona_face", args), "unknown_face", "PT404");
  });

  test("are bounded, and asked for by members who can pay", async () => {
    const mia = await persona();
    await db.query("update studio.personas set face_paths = array_fill('x'::text, array[22]) where id = $1", [
      mia.id,
    ]);
    const args = { persona_id: mia.id, num_faces: 3 };
    await expectError(call("generate_persona_faces", args), "too_many_faces", "PT409");
    await expectError(call("generate_persona_faces", { ...args, num_faces: 5 }), "invalid_argument", "PT400");
    const viewer = await db.join(ann.workspaceId, "viewer");
    await expectError(call("generate_persona_faces", args, viewer), "role_too_low", "PT403");
    await db.query("update studio.personas set face_paths = '{}' where id = $1", [mia.id]);
    ann = { ...ann, ...(await db.brand(0)) };
    const poor = await persona();
    await expectError(
      call("generate_persona_faces", { persona_id: poor.id, num_faces: 1 }),
      "insufficient_credits",
      "PT402",
    );
    expect(await db.query("select from studio.persona_creations where persona_id = $1", [poor.id])).toEqual(
      [],
    );
  });

  test("are never more than can be kept: those that are being made count, and a key still answers", async () => {
    const mia = await persona();
    const ask = (num_faces: number, key?: string) =>
      call("generate_persona_faces", { persona_id: mia.id, num_faces, key });
    const asked = await Promise.allSettled(Array.from({ length: 8 }, () => ask(4)));
    const made = asked.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    expect(made).toHaveLength(6);
    await expectError(ask(1), "too_many_faces", "PT409");
    const [first, ...others] = made;
    await db.user(ann.id).rpc("studio.cancel_creation", { creation_id: first.id });
    const keyed = await ask(3, "k");
    await db.finish([...others, keyed]);
    expect((await read(mia)).face_paths).toHaveLength(23);
    expect((await ask(3, "k")).id).toBe(keyed.id);
    const retry = db.user(ann.id).call("studio.retry_creation", { creation_id: first.id });
    await expectError(retry, "too_many_faces", "PT409");
  });

  test("of a creation that failed are none, and its retry brings them", async () => {
    const mia = await persona();
    const creation = await call("generate_persona_faces", {
      persona_id: mia.id,
      num_faces: 1,
      key: randomUUID(),
    });
    await call("cancel_creation", { creation_id: creation.id });
    expect((await read(mia)).face_paths).toEqual([]);
    const retry = await call("retry_creation", { creation_id: creation.id });
    await db.finish([retry]);
    expect((await read(mia)).face_paths).toHaveLength(1);
  });
});
