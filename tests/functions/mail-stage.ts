// What the tests of mail work with: mail servers on ports of their own, the function, and the worker.

import { randomUUID } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { createApp } from "../../functions/mail/app.ts";
import { mailHandlers } from "../../functions/worker/handlers/mail.ts";
import type { MailServers } from "../../functions/worker/mail/servers.ts";
import { startMail } from "../../supabase/local/standins/mail/start.ts";
import { openMailbox } from "../../supabase/local/standins/mail/state.ts";
import { createTestDatabase } from "../helpers/database.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

export const testDb = await createTestDatabase();
export const db = functionsDatabase(testDb);
export const vault = createVault({ k1: new Uint8Array(32).fill(7) });
export const { log } = keptLog();
const standIn = startMail({ path: join(mkdtempSync(join(tmpdir(), "mail-")), "mail.json") });
export const { data, control } = standIn;
let ports = { smtp: 0, imap: 0 };
const app = createApp({
  db,
  vault,
  log,
  backend: {
    mayChange: (authorization, account_id) =>
      testDb.user(authorization!).call("messaging.may_change_email_account", { account_id }),
  },
});

export async function work(servers: MailServers = { allowLocal: true }): Promise<void> {
  const handlers = mailHandlers({ vault, mailServers: servers });
  await workOnce({ db, handlers, log });
}
export let ada: TestUser;
export let address: string;
beforeAll(async () => {
  standIn.resume();
  ports = (await (await standIn.app.request("/_mail")).json()) as typeof ports;
});

afterAll(() => standIn.close());

beforeEach(async () => {
  control.reset();
  ada = await testDb.createUser();
  address = `ada-${randomUUID().slice(0, 8)}@shop.test`;
});

export const settings = (more: object = {}) => ({
  email: address,
  display_name: "Ada's shop",
  imap_host: "127.0.0.1",
  imap_port: ports.imap,
  imap_secure: false,
  smtp_host: "127.0.0.1",
  smtp_port: ports.smtp,
  smtp_secure: false,
  ...more,
});

export const rpc = <T = never>(user: TestUser, name: string, args: object) =>
  testDb.user(user.id).call(`messaging.${name}`, args as Record<string, unknown>) as Promise<T>;

export const putPassword = (account_id: string, password: string, user = ada) =>
  app.request("/mail/password", {
    method: "PUT",
    headers: { authorization: user.id },
    body: JSON.stringify({ account_id, password }),
  });

export interface Account {
  id: string;
  status: string;
  sync_error: string | null;
  last_uid: number;
}

export const find = async (id: string) => {
  const [account] = await testDb.query<Account>("select * from messaging.email_accounts where id = $1", [id]);
  return account!;
};

/** A mailbox at the server, and an account that works. */
export async function account(
  more: object = {},
  workspace_id: string | null = ada.workspaceId,
): Promise<string> {
  openMailbox(data, address, "a secret");
  const { id } = await rpc<Account>(ada, "save_email_account", { settings: settings(more), workspace_id });
  expect((await putPassword(id, "a secret")).status).toBe(200);
  await work();
  expect(await find(id)).toMatchObject({ status: "active", sync_error: null });
  return id;
}

export const send = (account_id: string, more: object = {}) =>
  rpc<{ id: string; status: string; message_id: string }>(ada, "send_email", {
    account_id,
    to_addresses: ["bob@example.com"],
    subject: "Grüße",
    text_body: "Hello Bob",
    ...more,
  });

export const mails = (id: string, direction = "in") =>
  testDb.query(
    "select * from messaging.email_messages where account_id = $1 and direction = $2 order by created_at, uid",
    [id, direction],
  );

export const raw = (subject: string, more: string[] = []) =>
  [
    "From: =?utf-8?Q?B=C3=B6b?= <bob@example.com>",
    `To: ${address}`,
    `Subject: ${subject}`,
    `Message-ID: <${randomUUID()}@example.com>`,
    "Content-Type: text/plain; charset=utf-8",
    ...more,
    "",
    `About ${subject}.`,
  ].join("\r\n");
