import { randomUUID } from "node:crypto";
import type { Database } from "../../functions/_shared/db.ts";
import { createVault } from "../../functions/_shared/encryption.ts";
import { sealSecret } from "../../functions/_shared/sql/accounts.ts";
import { receiveWebhooks } from "../../functions/_shared/sql/inbox.ts";
import { metaWebhooks } from "../../functions/webhooks/providers/meta.ts";
import { socialHandlers } from "../../functions/worker/handlers/social.ts";
import { completed, JobError } from "../../functions/worker/job.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import { Control } from "../../supabase/local/standins/control.ts";
import { Delivery } from "../../supabase/local/standins/delivery.ts";
import { createMetaStandIn } from "../../supabase/local/standins/meta/app.ts";
import { People } from "../../supabase/local/standins/meta/people.ts";
import { signatureOf } from "../../supabase/local/standins/meta/start.ts";
import { type Account, emptyMetaData } from "../../supabase/local/standins/meta/state.ts";
import { keptLog } from "../functions/harness.ts";
import type { TestDatabase } from "../helpers/database.ts";

const begin = Date.parse("2029-06-05T10:00:00Z");
const allFields = ["comments", "messages", "message_reactions", "messaging_postbacks", "messaging_seen"];
export const jpeg = new Uint8Array([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3, 4]);

/** How the bot's outside world behaves; a test changes it between two runs of the worker. */
export interface Outside {
  photo: { status: number; bytes: Uint8Array<ArrayBuffer>; location?: string };
  size: { width: number; height: number };
  /** The error that every creation ends in; null: it completes. */
  creationFails: string | null;
}

/**
 * A brand whose Instagram account has a post with a garment behind it, the stand-in of Instagram in process, and a
 * worker. Time stands still until it is advanced.
 */
export async function createStage(testDb: TestDatabase, db: Database, credits = 1_000_000) {
  let clock = begin;
  await testDb.setClock(new Date(clock).toISOString());
  const owner = await testDb.createUser();
  const { workspaceId } = owner;
  if (credits > 0) {
    await testDb.service.call("billing.grant_credits", {
      workspace_id: workspaceId,
      amount_micro: credits,
      kind: "admin",
      key: randomUUID(),
    });
  }
  const data = emptyMetaData();
  data.lastId += Math.floor(Math.random() * 1e9) * 100;
  const nextId = () => {
    data.lastId += 1;
    return `17841${data.lastId}`;
  };
  const account: Account = {
    id: nextId(),
    username: "atelier",
    name: "Atelier",
    media: [],
    comments: {},
    threads: {},
    subscribedFields: [...allFields],
    messagesPerHour: null,
  };
  data.accounts[account.id] = account;
  data.tokens.token = { account: account.id, long: true, until: Number.POSITIVE_INFINITY };
  const control = new Control("answer");
  const meta = createMetaStandIn({
    data,
    changed: () => {},
    control,
    // What it tells is brought into the inbox by `tell`, echoes of what was sent when the test wants them.
    delivery: new Delivery({ control, pending: [], changed: () => {}, sign: () => ({}) }),
    webhookUrl: "http://127.0.0.1:1/webhooks/meta",
    baseUrl: () => "http://meta.test",
    now: () => clock,
  });
  const people = new People(account, nextId, () => clock);

  const [connected] = await testDb.query(
    `insert into integrations.connected_accounts (workspace_id, user_id, provider, external_account_id, status,
        connected_at)
      values ($1, $2, 'instagram', $3, 'active', '2029-01-01') returning id`,
    [workspaceId, owner.id, account.id],
  );
  const accountId: string = connected!.id;
  const vault = createVault({ k1: new Uint8Array(32) });
  const key = { workspace_id: workspaceId, provider: "instagram", external_account_id: account.id };
  const secret = await sealSecret(vault, key, "access_token", "token");
  await testDb.query(
    `insert into integrations.account_secrets (account_id, kind, key_id, nonce, ciphertext)
      values ($1, $2, $3, $4::bytea, $5::bytea)`,
    [accountId, secret.kind, secret.key_id, secret.nonce, secret.ciphertext],
  );
  const media = people.post({ caption: "Look" });
  await testDb.service.call("social.apply_posts", {
    account_id: accountId,
    posts: [{ platform_post_id: media.id, media_type: "image", posted_at: "2029-06-01T00:00:00Z" }],
    seen: new Date(clock).toISOString(),
  });
  const [post] = await testDb.query("select id from social.posts where connected_account_id = $1", [
    accountId,
  ]);
  const path = `${workspaceId}/tee.png`;
  const stored = (name: string) =>
    testDb.query(
      `insert into storage.objects (bucket_id, name, metadata)
        values ('studio-uploads', $1, '{"mimetype": "image/png"}') on conflict do nothing`,
      [name],
    );
  await stored(path);
  const [garment] = await testDb.query(
    `insert into studio.wardrobe_garments (workspace_id, storage_path, filename, name)
      values ($1, $2, 'tee.png', 'the tee') returning id`,
    [workspaceId, path],
  );

  const outside: Outside = {
    photo: { status: 200, bytes: jpeg },
    size: { width: 900, height: 1200 },
    creationFails: null,
  };
  const handlers = {
    ...socialHandlers({
      vault,
      instagramUrl: "http://meta.test",
      fetch: async (input, init) => meta.request(String(input).replace("http://meta.test", ""), init),
      storage: {
        signedUrl: async (bucket: string, name: string) => `data:image/png;name=${bucket}/${name},x`,
        upload: async (_bucket: string, name: string) => void (await stored(name)),
      },
      safeFetch: async () => {
        const { status, bytes, location } = outside.photo;
        return { status, headers: location ? { location } : {}, body: "", bytes };
      },
      pictures: { size: async () => outside.size },
    }),
    "studio.creation": async (job: { payload: { creation_id: string } }) => {
      if (outside.creationFails) throw new JobError(outside.creationFails, "It failed.", { retry: false });
      return completed({ result_paths: [`${workspaceId}/${job.payload.creation_id}/1.png`] });
    },
  };

  /** Runs the worker until nothing is left to be done now. */
  async function work(): Promise<void> {
    for (let round = 0; round < 10; round++) {
      const { log } = keptLog();
      const limits = { ...platformLimits, idleMs: 0, pollMs: 5 };
      const worker = new Worker({ db, handlers, log, limits, handOn: () => {} });
      await worker.begin();
      await worker.work();
      const [left] = await testDb.query(
        `select count(*)::int as n from ops.live_jobs where state = 'queued' and kind in (
          select jsonb_array_elements_text($1::jsonb)) and id not in (select job_id from ops.held_back)`,
        [JSON.stringify(Object.keys(handlers))],
      );
      if (left!.n === 0) return;
    }
    throw new Error("The work does not end.");
  }

  /** Brings what people did since into the inbox, as the webhooks route would; `times` over, last first if reversed. */
  async function tell({ times = 1, reversed = false } = {}): Promise<void> {
    const provider = metaWebhooks([data.clientSecret], data.verifyToken);
    if (!("verify" in provider)) throw new Error("No provider.");
    const bodies = people.take().map((event) => {
      const item =
        "change" in event
          ? { time: Math.floor(clock / 1000), changes: [{ field: event.field, value: event.change }] }
          : { time: clock, messaging: [event.messaging] };
      return JSON.stringify({ object: "instagram", entry: [{ id: account.id, ...item }] });
    });
    if (reversed) bodies.reverse();
    for (let time = 0; time < times; time++) {
      for (const body of bodies) {
        const raw = new TextEncoder().encode(body);
        const headers = new Headers({ "x-hub-signature-256": signatureOf(body, data.clientSecret) });
        const { events } = await provider.verify(headers, raw, clock);
        await receiveWebhooks(
          db,
          events.map((event) => ({ provider: "meta", ...event }) as never),
        );
      }
    }
  }

  /** People act, the platform tells, the bot works. */
  async function happens<T>(act: (people: People) => T, how?: { times?: number; reversed?: boolean }) {
    const result = act(people);
    await tell(how);
    await work();
    return result;
  }

  async function advance(seconds: number): Promise<void> {
    clock += seconds * 1000;
    await testDb.setClock(new Date(clock).toISOString());
    await testDb.service.call("ops.tick").catch(() => {});
  }

  const as = testDb.user(owner.id);
  const bind = (more: Record<string, unknown> = {}) =>
    as.call("social.bind_garment", { post_id: post!.id, garment_id: garment!.id, ...more });
  const settings = (values: Record<string, unknown>) =>
    testDb.query(
      `update social.bot_settings set ${Object.keys(values).map((name, i) => `${name} = $${i + 2}`)} where account_id = $1`,
      [
        accountId,
        ...Object.values(values).map((value) =>
          value !== null && typeof value === "object" && !Array.isArray(value)
            ? JSON.stringify(value)
            : value,
        ),
      ],
    );
  const conversation = async (username = "ada") =>
    (
      await testDb.query(
        "select * from social.conversations where connected_account_id = $1 and platform_user_id = $2",
        [accountId, people.thread(username).id],
      )
    )[0]!;
  /** What the bot and the account's people have said to somebody, by Instagram's account of it. */
  const said = (username = "ada") =>
    people
      .thread(username)
      .messages.filter(({ from }) => from === account.id)
      .map(({ text, attachments }) => text ?? attachments[0]!.type);
  const messages = (username = "ada") =>
    testDb.query(
      `select m.* from social.messages m join social.conversations c on c.id = m.conversation_id
        where c.connected_account_id = $1 and c.platform_user_id = $2 order by m.position`,
      [accountId, people.thread(username).id],
    );
  const steps = async () =>
    Object.fromEntries(
      (
        await testDb.query(
          "select kind, count(*)::int n from social.bot_interactions where account_id = $1 group by kind",
          [accountId],
        )
      ).map(({ kind, n }) => [kind, n]),
    );

  return {
    owner,
    as,
    workspaceId,
    accountId,
    account,
    post: { id: post!.id as string, platformId: media.id },
    garmentId: garment!.id as string,
    people,
    control,
    outside,
    now: () => clock,
    bind,
    settings,
    happens,
    tell,
    work,
    advance,
    conversation,
    said,
    messages,
    steps,
  };
}
export type Stage = Awaited<ReturnType<typeof createStage>>;
