import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { erasePerson } from "../../functions/worker/handlers/erase-person.ts";
import { JobError } from "../../functions/worker/job.ts";
import { functionsDatabase, keptLog } from "../functions/harness.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { clearJobs } from "../helpers/jobs.ts";
import { createStage, type Stage } from "./stage.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
// The storage API's own way to its table, which no one else has.
const storageApi = await testDb.connect("service");
afterAll(() => storageApi.close());
await storageApi.query("select set_config('storage.allow_delete_query', 'true', false)");
let s: Stage;
beforeEach(async () => {
  await testDb.query(clearJobs);
  s = await createStage(testDb, db);
});

const image = { type: "image", url: "https://cdninstagram.example/photo.jpg" };
let asked = 0;
async function ask(personId: string, provider = "instagram") {
  asked += 1;
  const { id, confirmation_code } = await testDb.service.call("integrations.receive_data_request", {
    provider,
    kind: "deletion",
    user_id: personId,
    request_hash: `\\x${asked.toString(16).padStart(64, "0")}`,
    issued_at: new Date(s.now()).toISOString(),
  });
  return { id: id as string, code: confirmation_code as string };
}

/** The worker's part, by hand; storage deletes what `keeps` does not name. */
async function erase(
  id: string,
  keeps: (path: string) => boolean = () => false,
  crashAfter = Number.POSITIVE_INFINITY,
) {
  const removed: string[] = [];
  let steps = 0;
  const handler = erasePerson({
    storage: {
      remove: async (bucket, paths) => {
        for (const path of paths.filter((one) => !keeps(one))) {
          removed.push(path);
          await storageApi.query("delete from storage.objects where bucket_id = $1 and name = $2", [
            bucket,
            path,
          ]);
        }
      },
    },
  });
  const { log } = keptLog();
  const context = {
    db,
    log,
    now: s.now,
    signal: new AbortController().signal,
    checkpoint: async () => {
      steps += 1;
      if (steps > crashAfter) throw new Error("The worker crashed.");
      return true;
    },
  };
  const outcome = await handler({ payload: { request_id: id } } as never, context as never);
  return { outcome: outcome.outcome, removed };
}

/** A comment, an answer, a photo and its try-on. */
async function tryOn(username: string) {
  await s.happens((p) => p.comment(username, s.post.platformId, "tryon please, my size is M"));
  await s.happens((p) => p.say(username, `yes, this is ${username}`));
  await s.happens((p) => p.say(username, null, [image]));
}
/** Where a text stands in any table of the database that people's words can come to. */
async function traces(text: string): Promise<string[]> {
  const tables = await testDb.query(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname in ('social', 'studio', 'ai', 'messaging', 'integrations', 'ops', 'commerce', 'billing', 'storage')`,
  );
  const found: string[] = [];
  for (const { name } of tables) {
    const [row] = await testDb.query(
      `select count(*)::int as n from ${name} t where strpos(t::text, $1) > 0`,
      [text],
    );
    if (row!.n > 0) found.push(name);
  }
  return found;
}

describe("a person who asked for deletion", () => {
  test("is in no table and no file any more; others, the figures and the books are as before", async () => {
    await s.bind();
    await tryOn("ada");
    await tryOn("bob");
    const ada = s.people.thread("ada").id;
    const conversation = await s.conversation("ada");
    await testDb.service.call("ai.note_preference", {
      workspace_id: s.workspaceId,
      anonymous_id: `instagram:${ada}`,
      category: "style",
      preference_key: "colour",
      preference_value: "red",
    });
    const [creation] = await testDb.query(
      `select c.* from studio.creations c join social.tryons t on t.creation_id = c.id where t.conversation_id = $1`,
      [conversation.id],
    );
    const [photo] = await testDb.query("select photo_path from social.tryons where conversation_id = $1", [
      conversation.id,
    ]);
    await testDb.query("insert into storage.objects (bucket_id, name) values ('studio-results', $1)", [
      creation!.result_paths[0],
    ]);
    const before = await s.steps();
    const books = await testDb.query(
      "select count(*)::int n, sum(amount_micro)::int s from billing.ledger_entries",
    );
    const bob = await s.messages("bob");

    const { id } = await ask(ada);
    const { outcome, removed } = await erase(id);
    expect(outcome).toBe("completed");
    expect(removed).toContain(photo!.photo_path);
    expect(removed).toContain(creation!.result_paths[0]);
    expect(await traces(ada)).toEqual([]);
    expect(await traces("this is ada")).toEqual([]);
    // Our own id of the conversation is all that its work and its steps still know; the job in the queue finds the
    // file of that name gone.
    expect(await traces(conversation.id)).toEqual([
      "ops.live_jobs",
      "ops.finished_jobs",
      "ops.job_keys",
      "social.bot_interactions",
    ]);
    expect(await traces(creation!.id)).not.toContain("studio.creations");
    const names = await testDb.query(
      "select details ->> 'username' as name, dedupe_key from social.bot_interactions",
    );
    expect(names.some(({ name }) => name === "ada")).toBe(false);
    expect(await s.steps()).toEqual(before);
    await testDb.service.call("social.count_interactions");
    expect(await s.steps()).toEqual(before);
    expect(
      await testDb.query("select count(*)::int n, sum(amount_micro)::int s from billing.ledger_entries"),
    ).toEqual(books);
    expect(await testDb.query("select * from billing.verify_ledger()")).toEqual([]);
    expect(await s.messages("bob")).toEqual(bob);
    const [request] = await testDb.query("select * from integrations.data_requests where id = $1", [id]);
    expect(request).toMatchObject({
      status: "completed",
      external_user_id: null,
      files: [],
      erased: { conversations: 1, webhooks: 3 },
    });

    // What is told again of the person's old messages brings nothing back; a new comment begins anew.
    await testDb.query(
      "update ops.webhook_events set status = 'pending', processed_at = null where payload ? 'redacted_at'",
    );
    expect((await erase((await ask(ada)).id)).outcome).toBe("completed");
    expect(await traces(ada)).toEqual([]);
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon again"));
    expect(await s.conversation("ada")).toMatchObject({ message_count: 1 });
  });

  test("goes only where nothing is under way: what runs is cancelled and its charge released", async () => {
    await s.bind();
    await s.happens((p) => p.comment("ada", s.post.platformId, "tryon"));
    await s.happens((p) => p.say("ada", "yes"));
    await s.people.say("ada", null, [image]);
    await s.tell();
    // The photo is asked for and not yet fetched.
    const [webhook] = await testDb.query(
      "select id from ops.webhook_events where status = 'pending' order by id desc limit 1",
    );
    expect(await testDb.service.call("social.apply_meta_event", { webhook_event_id: webhook!.id })).toBe(
      "photo",
    );
    const { id } = await ask(s.people.thread("ada").id);
    expect((await erase(id)).outcome).toBe("waiting");
    const [tryon] = await testDb.query("select * from social.tryons where status = 'photo'");
    const path = `${s.workspaceId}/instagram/${tryon!.conversation_id}/${tryon!.id}.jpg`;
    await testDb.query(
      `insert into storage.objects (bucket_id, name, metadata) values ('studio-uploads', $1, '{"mimetype": "image/jpeg"}')`,
      [path],
    );
    await testDb.service.call("social.accept_photo", { tryon_id: tryon!.id, photo_path: path });
    const held = await testDb.service.call("billing.balance", { workspace_id: s.workspaceId });
    expect(held.held_micro).toBeGreaterThan(0);
    const { outcome, removed } = await erase(id);
    expect(outcome).toBe("completed");
    expect(removed).toContain(path);
    expect((await testDb.service.call("billing.balance", { workspace_id: s.workspaceId })).held_micro).toBe(
      0,
    );
    expect(await traces(s.people.thread("ada").id)).toEqual([]);
  });

  test("loses no file by a crash or by a storage that fails: the request is done when they are gone", async () => {
    await s.bind();
    await tryOn("ada");
    const { id, code } = await ask(s.people.thread("ada").id);
    const photo = (path: string) => path.includes("/instagram/");
    await expect(erase(id, photo)).rejects.toThrow(JobError);
    await expect(erase(id, () => false, 0)).rejects.toThrow("crashed");
    const status = async () =>
      (
        await testDb.query("select status from integrations.data_requests where confirmation_code = $1", [
          code,
        ])
      )[0]!.status;
    expect(await status()).toBe("pending");
    expect((await erase(id)).outcome).toBe("completed");
    expect(await status()).toBe("completed");
    expect(
      await testDb.query("select from storage.objects where name like $1", [`${s.workspaceId}/instagram/%`]),
    ).toEqual([]);
  });

  test("who only commented, or is known by another platform, is told apart", async () => {
    await s.happens((p) => p.comment("ada", s.post.platformId, "just nice"));
    const ada = s.people.thread("ada").id;
    expect((await erase((await ask(ada, "facebook")).id)).outcome).toBe("completed");
    expect(await traces("just nice")).not.toEqual([]);
    expect((await erase((await ask(ada)).id)).outcome).toBe("completed");
    expect(await traces("just nice")).toEqual([]);
    expect(await s.steps()).toEqual({ comment_received: 1 });
  });

  test("who connected an account takes it along with all that came by it; one connected since stays", async () => {
    await s.bind();
    await tryOn("ada");
    const { id } = await ask(s.account.id);
    const { outcome, removed } = await erase(id);
    expect(outcome).toBe("completed");
    expect(removed.length).toBeGreaterThan(0);
    expect(await traces(s.account.id)).toEqual([]);
    // Our own id of it is in the trail, which has lost the account's name and the address.
    expect(await traces(s.accountId)).not.toContain("integrations.connected_accounts");
    const trail = await testDb.query(
      `select external_account_id, ip_address, user_agent from integrations.oauth_audit_log where workspace_id = $1`,
      [s.workspaceId],
    );
    expect(new Set(trail.map((row) => JSON.stringify(row)))).toEqual(
      new Set(['{"external_account_id":null,"ip_address":null,"user_agent":null}']),
    );
    expect(await traces("this is ada")).toEqual([]);
    expect(await testDb.query("select title from messaging.notifications")).toContainEqual({
      title: "A connected account was deleted",
    });

    const later = await createStage(testDb, db);
    await testDb.query("update integrations.connected_accounts set connected_at = $2 where id = $1", [
      later.accountId,
      new Date(later.now() + 60_000),
    ]);
    expect((await erase((await ask(later.account.id)).id)).outcome).toBe("completed");
    expect(await traces(later.accountId)).toContain("integrations.connected_accounts");
  });
});
