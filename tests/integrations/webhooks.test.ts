import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let owner: TestUser;
let account: string;

beforeEach(async () => {
  owner = await db.createUser();
  account = await connect(owner);
});

async function connect(user: TestUser): Promise<string> {
  const [row] = await db.service.query(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, connected_at)
    values ($1, 'twitch', $2, now()) returning id`,
    [user.workspaceId, randomUUID()],
  );
  return row!.id;
}

const hex = (byte: number, length: number) => `\\x${Buffer.alloc(length, byte).toString("hex")}`;
const secret = (kind = "signing_secret", more: object = {}) => ({
  id: randomUUID(),
  kind,
  key_id: "k1",
  nonce: hex(1, 12),
  ciphertext: hex(2, 40),
  token_hash: kind === "url_token" ? `\\x${randomUUID().replaceAll("-", "").repeat(2)}` : null,
  ...more,
});
async function open(more: Record<string, unknown> = {}): Promise<string> {
  const id = randomUUID();
  await db.service.call("integrations.open_webhook_subscription", {
    id,
    provider: "twitch",
    secrets: [secret("url_token"), secret()],
    connected_account_id: account,
    topic: "stream.online",
    ...more,
  });
  return id;
}
const kinds = async (id: string) =>
  (
    await db.query("select kind from integrations.webhook_secrets where subscription_id = $1 order by kind", [
      id,
    ])
  ).map(({ kind }) => kind);
const statusOf = async (id: string) =>
  (
    await db.query("select status, last_error from integrations.webhook_subscriptions where id = $1", [id])
  )[0];

test("members see the subscriptions of their workspaces' accounts, nobody else does, and nobody the platform's", async () => {
  const id = await open();
  await open({ connected_account_id: null, provider: "srs", topic: randomUUID() });
  const stranger = await db.createUser();
  const look = "select id from integrations.webhook_subscriptions";
  expect(await db.user(owner.id).query(look)).toEqual([{ id }]);
  expect(await db.user(stranger.id).query(look)).toEqual([]);
  await expectError(db.anon.query(look), "42501");
});

test("no client reads a secret or changes a subscription, not even the owner", async () => {
  const id = await open();
  const mine = db.user(owner.id);
  await expectError(mine.query("select id from integrations.webhook_secrets"), "42501");
  await expectError(mine.query("update integrations.webhook_subscriptions set status = 'active'"), "42501");
  await expectError(mine.call("integrations.end_webhook_subscription", { id }), "42501");
  await expectError(mine.call("integrations.confirm_webhook_subscription", { id }), "42501");
  await expectError(
    mine.call("integrations.add_webhook_secret", { subscription_id: id, secret: secret() }),
    "42501",
  );
  await expectError(
    mine.call("ops.receive_webhooks", { events: [{ provider: "twitch", subscription_id: id }] }),
    "42501",
  );
});

test("an account has one live subscription to a topic, also when two are opened at once", async () => {
  const both = await Promise.allSettled([open(), open()]);
  expect(both.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  await open({ topic: "stream.offline" });
  const { value } = both.find((one) => one.status === "fulfilled") as PromiseFulfilledResult<string>;
  await db.service.call("integrations.end_webhook_subscription", { id: value, reason: "renewed" });
  await open();
});

test("confirming and ending are done once, and an end is final", async () => {
  const id = await open();
  for (let times = 0; times < 2; times++) {
    await db.service.call("integrations.confirm_webhook_subscription", { id, external_id: "s1" });
  }
  await db.service.call("integrations.confirm_webhook_subscription", { id });
  expect(
    await db.query("select status, external_id from integrations.webhook_subscriptions where id = $1", [id]),
  ).toEqual([{ status: "active", external_id: "s1" }]);
  await db.service.call("integrations.end_webhook_subscription", { id, reason: "user_removed" });
  await db.service.call("integrations.end_webhook_subscription", { id, reason: "again" });
  await db.service.call("integrations.confirm_webhook_subscription", { id });
  expect(await statusOf(id)).toEqual({ status: "ended", last_error: "user_removed" });
  await expectError(
    db.service.call("integrations.add_webhook_secret", { subscription_id: id, secret: secret() }),
    "unknown_subscription",
    "PT404",
  );
});

test("disconnecting the account ends its subscriptions and drops their secrets, but for the address", async () => {
  const id = await open();
  const kept = await open({ connected_account_id: await connect(owner) });
  await db.user(owner.id).call("integrations.disconnect_account", { id: account });
  expect(await statusOf(id)).toEqual({ status: "ended", last_error: "account disconnected" });
  expect(await kinds(id)).toEqual(["url_token"]);
  expect(await statusOf(kept)).toMatchObject({ status: "pending" });
  expect(await kinds(kept)).toEqual(["signing_secret", "url_token"]);
});

test("a secret has the nonce and tag of AES-256-GCM, and only an address has a hash, once", async () => {
  const id = await open();
  const add = (more: object) =>
    db.service.call("integrations.add_webhook_secret", { subscription_id: id, secret: more });
  await add(secret("stream_key"));
  await expectError(add(secret("diary")), "23514");
  await expectError(add(secret("signing_secret", { nonce: hex(1, 16) })), "23514");
  await expectError(add(secret("signing_secret", { ciphertext: hex(1, 16) })), "23514");
  await expectError(add(secret("signing_secret", { token_hash: hex(1, 32) })), "23514");
  await expectError(add(secret("url_token", { token_hash: null })), "23514");
  await expectError(add(secret("url_token", { token_hash: hex(1, 31) })), "23514");
  const address = secret("url_token");
  await add(address);
  await expectError(add({ ...address, id: randomUUID() }), "23505");
});

test("a new secret ends older ones of its kind only, and without an overlap none", async () => {
  const id = await open();
  await db.setClock("2030-01-01T00:00:00Z");
  const add = (overlap: string | null) =>
    db.service.call("integrations.add_webhook_secret", { subscription_id: id, secret: secret(), overlap });
  await add(null);
  expect(await ends(id)).toEqual(["signing_secret null", "signing_secret null", "url_token null"]);
  await add("1 hour");
  await db.setClock(null);
  expect(await ends(id)).toEqual([
    "signing_secret 2030-01-01T01:00:00.000Z",
    "signing_secret 2030-01-01T01:00:00.000Z",
    "signing_secret null",
    "url_token null",
  ]);
});

async function ends(id: string): Promise<string[]> {
  const rows = await db.query(
    "select kind, expires_at from integrations.webhook_secrets where subscription_id = $1",
    [id],
  );
  return rows.map(({ kind, expires_at }) => `${kind} ${expires_at?.toISOString() ?? null}`).toSorted();
}
