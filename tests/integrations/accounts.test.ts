import { randomUUID } from "node:crypto";
import { beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";

const db = await createTestDatabase();
let owner: TestUser;
let viewer: TestUser;
let stranger: TestUser;

beforeEach(async () => {
  [owner, viewer, stranger] = (await Promise.all([1, 2, 3].map(() => db.createUser()))) as [
    TestUser,
    TestUser,
    TestUser,
  ];
  await db.query(
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'viewer')",
    [owner.workspaceId, viewer.id],
  );
});

async function connect(provider = "instagram", external: string | null = randomUUID(), workspace?: string) {
  const [account] = await db.service.query<{ id: string }>(
    `insert into integrations.connected_accounts (workspace_id, provider, external_account_id, connected_at)
    values ($1, $2, $3, now()) returning id`,
    [workspace ?? owner.workspaceId, provider, external],
  );
  return account!.id;
}
async function keepSecret(accountId: string, kind = "access_token") {
  await db.service.query(
    `insert into integrations.account_secrets (account_id, kind, key_id, nonce, ciphertext)
    values ($1, $2, 'k1', $3, $4)`,
    [accountId, kind, Buffer.alloc(12, 1), Buffer.alloc(40, 2)],
  );
}
const disconnect = (user: TestUser, id: string) =>
  db.user(user.id).call("integrations.disconnect_account", { id });

test("members see the accounts of their workspaces, strangers and visitors do not", async () => {
  const id = await connect();
  const look = "select id from integrations.connected_accounts";
  expect(await db.user(viewer.id).query(look)).toEqual([{ id }]);
  expect(await db.user(stranger.id).query(look)).toEqual([]);
  await expectError(db.anon.query(look), "42501");
});

test("no client reads a secret, not even the owner, and no client writes an account", async () => {
  const id = await connect();
  await keepSecret(id);
  const mine = db.user(owner.id);
  await expectError(mine.query("select id from integrations.account_secrets"), "42501");
  await expectError(mine.query("update integrations.connected_accounts set status = 'error'"), "42501");
  await expectError(mine.query("delete from integrations.connected_accounts"), "42501");
  await expectError(
    mine.query(
      "insert into integrations.connected_accounts (workspace_id, provider) values ($1, 'shopify')",
      [owner.workspaceId],
    ),
    "42501",
  );
});

test("an outside account whose webhooks must find one workspace is live in one only", async () => {
  await connect("shopify", "store.example.com");
  await expectError(connect("shopify", "store.example.com", stranger.workspaceId), "23505");
  await connect("youtube", "channel-1");
  await connect("youtube", "channel-1", stranger.workspaceId);
});

test("a disconnected shop can be connected by another workspace", async () => {
  const id = await connect("shopify", "moved.example.com");
  await disconnect(owner, id);
  await connect("shopify", "moved.example.com", stranger.workspaceId);
});

test("a workspace has one account of each cloud storage", async () => {
  await connect("dropbox", "a");
  await expectError(connect("dropbox", "b"), "23505");
});

test("a secret has the nonce and tag of AES-256-GCM, and there is one of a kind", async () => {
  const id = await connect();
  await keepSecret(id);
  await expectError(keepSecret(id), "23505");
  await expectError(keepSecret(id, "diary"), "23514");
  await expectError(
    db.service.query("update integrations.account_secrets set nonce = $1", [Buffer.alloc(16)]),
    "23514",
  );
  await expectError(
    db.service.query("update integrations.account_secrets set ciphertext = $1", [Buffer.alloc(16)]),
    "23514",
  );
});

test("disconnecting drops the tokens at once, says when, and is done once", async () => {
  const id = await connect();
  await keepSecret(id);
  await keepSecret(id, "refresh_token");
  await db.setClock("2027-03-01T00:00:00Z");
  const first = await disconnect(owner, id);
  expect(first).toMatchObject({ id, status: "disconnected" });
  await db.advanceClock("1 day");
  expect((await disconnect(owner, id)).disconnected_at).toEqual(first.disconnected_at);
  await db.setClock(null);
  expect(await db.query("select id from integrations.account_secrets where account_id = $1", [id])).toEqual(
    [],
  );
});

test("two admins who disconnect at once both get the same answer", async () => {
  const id = await connect();
  const [one, two] = await Promise.all([disconnect(owner, id), disconnect(owner, id)]);
  expect(one).toEqual(two);
});

test("a viewer may not disconnect, and for a stranger the account does not exist", async () => {
  const id = await connect();
  await expectError(disconnect(viewer, id), "role_too_low", "PT403");
  await expectError(disconnect(stranger, id), "unknown_account", "PT404");
  await expectError(disconnect(owner, randomUUID()), "unknown_account", "PT404");
  await expectError(db.anon.call("integrations.disconnect_account", { id }), "42501");
  expect(await db.service.call("integrations.disconnect_account", { id })).toMatchObject({
    status: "disconnected",
  });
});

test("an account goes 90 days after it was disconnected, not before", async () => {
  await db.setClock("2027-05-01T00:00:00Z");
  const id = await connect();
  const kept = await connect("youtube");
  await disconnect(owner, id);
  const left = () =>
    db.query("select id from integrations.connected_accounts where id = any ($1)", [[id, kept]]);
  await db.advanceClock("89 days 23 hours");
  await db.service.call("private.purge_disconnected_accounts");
  expect(await left()).toHaveLength(2);
  await db.advanceClock("1 hour");
  expect(await db.service.call("private.purge_disconnected_accounts")).toBe(1);
  await db.setClock(null);
  expect(await left()).toEqual([{ id: kept }]);
});

test("an account that is disconnected says when, and one that is live has an outside id", async () => {
  const id = await connect();
  await expectError(
    db.service.query("update integrations.connected_accounts set status = 'disconnected' where id = $1", [
      id,
    ]),
    "23514",
  );
  await expectError(connect("instagram", null), "23514");
});
