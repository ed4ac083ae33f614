import { randomUUID } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createVault } from "../../functions/_shared/encryption.ts";
import { type MailAccount, openPassword } from "../../functions/_shared/sql/mail.ts";
import { createApp } from "../../functions/mail/app.ts";
import { mailHandlers } from "../../functions/worker/handlers/mail.ts";
import { type MailServers, openSmtp } from "../../functions/worker/mail/servers.ts";
import { startMail } from "../../supabase/local/standins/mail/start.ts";
import { deliver, openMailbox, renumber } from "../../supabase/local/standins/mail/state.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import type { TestUser } from "../helpers/users.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const vault = createVault({ k1: new Uint8Array(32).fill(7) });
const { log } = keptLog();
const standIn = startMail({ path: join(mkdtempSync(join(tmpdir(), "mail-")), "mail.json") });
const { data, control } = standIn;
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
async function work(servers: MailServers = { allowLocal: true }): Promise<void> {
  const handlers = mailHandlers({ vault, mailServers: servers });
  await workOnce({ db, handlers, log });
}

let ada: TestUser;
let address: string;
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

const settings = (more: object = {}) => ({
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
const rpc = <T = never>(user: TestUser, name: string, args: object) =>
  testDb.user(user.id).call(`messaging.${name}`, args as Record<string, unknown>) as Promise<T>;
const putPassword = (account_id: string, password: string, user = ada) =>
  app.request("/mail/password", {
    method: "PUT",
    headers: { authorization: user.id },
    body: JSON.stringify({ account_id, password }),
  });
interface Account {
  id: string;
  status: string;
  sync_error: string | null;
  last_uid: number;
}
const find = async (id: string) => {
  const [account] = await testDb.query<Account>("select * from messaging.email_accounts where id = $1", [id]);
  return account!;
};
/** A mailbox at the server, and an account that works. */
async function account(more: object = {}, workspace_id: string | null = ada.workspaceId): Promise<string> {
  openMailbox(data, address, "a secret");
  const { id } = await rpc<Account>(ada, "save_email_account", { settings: settings(more), workspace_id });
  expect((await putPassword(id, "a secret")).status).toBe(200);
  await work();
  expect(await find(id)).toMatchObject({ status: "active", sync_error: null });
  return id;
}
const send = (account_id: string, more: object = {}) =>
  rpc<{ id: string; status: string; message_id: string }>(ada, "send_email", {
    account_id,
    to_addresses: ["bob@example.com"],
    subject: "Grüße",
    text_body: "Hello Bob",
    ...more,
  });
const mails = (id: string, direction = "in") =>
  testDb.query(
    "select * from messaging.email_messages where account_id = $1 and direction = $2 order by created_at, uid",
    [id, direction],
  );
const raw = (subject: string, more: string[] = []) =>
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

describe("a mail account", () => {
  test("works when both servers take its password, which is stored sealed", async () => {
    const id = await account();
    expect(await openPassword(db, vault, id)).toBe("a secret");
    const stored = await testDb.query("select ciphertext from messaging.email_account_secrets", []);
    expect(JSON.stringify(stored)).not.toContain(Buffer.from("a secret").toString("hex"));
    await expectError(testDb.user(ada.id).query("select 1 from messaging.email_account_secrets"), "42501");
  });

  test("says when the password is wrong, and works after the right one", async () => {
    openMailbox(data, address, "a secret");
    const { id } = await rpc<Account>(ada, "save_email_account", { settings: settings() });
    await putPassword(id, "another");
    await work();
    expect(await find(id)).toMatchObject({
      status: "error",
      sync_error: expect.stringMatching(/^mail_refused: /),
    });
    await putPassword(id, "a secret");
    await work();
    expect(await find(id)).toMatchObject({ status: "active" });
  });

  test("forgets its password when a server changes, so that it goes nowhere else", async () => {
    const id = await account();
    await rpc(ada, "save_email_account", { account_id: id, settings: { display_name: "Renamed" } });
    expect(await openPassword(db, vault, id)).toBe("a secret");
    await rpc(ada, "save_email_account", { account_id: id, settings: { smtp_host: "smtp.evil.test" } });
    expect(await openPassword(db, vault, id)).toBeNull();
    expect((await find(id)).status).toBe("no_password");
    await expectError(send(id), "mail_account_not_ready", "PT409");
    await expectError(rpc(ada, "test_email_account", { account_id: id }), "mail_account_not_ready");
  });

  test("takes its password from its admins alone", async () => {
    const id = await account();
    const stranger = await testDb.createUser();
    expect((await putPassword(id, "x", stranger)).status).toBe(404);
    await testDb.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')",
      [ada.workspaceId, stranger.id],
    );
    await rpc(ada, "set_email_account_role", { account_id: id, user_id: stranger.id, role: "member" });
    expect((await putPassword(id, "x", stranger)).status).toBe(403);
    expect(await openPassword(db, vault, id)).toBe("a secret");
  });

  test.each([
    ["a private address", { imap_host: "10.0.0.7", imap_port: 993 }],
    ["a name that leads inside", { imap_host: "mail.internal", imap_port: 993 }],
    ["a port of another service", { imap_host: "192.0.2.1", imap_port: 6379 }],
    ["a name that resolves to this machine", { imap_host: "rebound.example", imap_port: 993 }],
  ])("at %s is refused outside of the local stack", async (_, imap) => {
    const smtp = { smtp_host: imap.imap_host, smtp_port: imap.imap_port === 993 ? 465 : imap.imap_port };
    const { id } = await rpc<Account>(ada, "save_email_account", {
      settings: settings({ ...imap, ...smtp }),
    });
    await putPassword(id, "a secret");
    const before = control.counts();
    await work({ resolve: async () => [{ address: "127.0.0.1", family: 4 }] });
    expect(await find(id)).toMatchObject({
      status: "error",
      sync_error: expect.stringMatching(/^address_refused: /),
    });
    expect(control.counts()).toEqual(before);
  });

  test("is reached at the address that was checked, and encrypted before the password is sent", async () => {
    const resolve = async () => [{ address: "8.8.8.8", family: 4 }];
    const there = { smtp_host: "smtp.example.com", smtp_port: 587, smtp_secure: false, username: "ada" };
    const transport = await openSmtp(there as MailAccount, "a secret", { resolve });
    expect((transport as unknown as { options: object }).options).toMatchObject({
      host: "8.8.8.8",
      secure: false,
      requireTLS: true,
      tls: { servername: "smtp.example.com" },
      disableFileAccess: true,
      disableUrlAccess: true,
    });
  });
});

describe("a mail", () => {
  test("is sent once for a key, with its name, subject and Message-ID, and is in the log", async () => {
    const id = await account();
    const first = await send(id, { key: "k1", cc_addresses: ["carol@example.com"] });
    const again = await send(id, { key: "k1", cc_addresses: ["carol@example.com"] });
    expect(again.id).toBe(first.id);
    await expectError(send(id, { key: "k1", subject: "Other" }), "key_reused");
    await work();
    await work();
    const sent = data.sent.filter(({ from }) => from === address);
    expect(sent).toHaveLength(1);
    expect(sent[0]!.to).toEqual(["bob@example.com", "carol@example.com"]);
    expect(sent[0]!.raw).toContain(`Message-ID: ${first.message_id}`);
    expect(sent[0]!.raw).toMatch(/^From: "Ada's shop" <ada-/m);
    expect(sent[0]!.raw).toContain("Subject: =?UTF-8?");
    const [message] = await mails(id, "out");
    expect(message).toMatchObject({ status: "sent", error_message: null, sent_at: expect.any(Date) });
    expect(
      await testDb.query(
        "select sent_to, status, attempts from messaging.email_log where account_id = $1 order by sent_to",
        [id],
      ),
    ).toEqual([
      { sent_to: "bob@example.com", status: "sent", attempts: 1 },
      { sent_to: "carol@example.com", status: "sent", attempts: 1 },
    ]);
  });

  test("that the server cannot take now is tried again", async () => {
    const id = await account();
    control.add({ fail: "submit", times: 1 });
    await send(id);
    await work();
    expect(await mails(id, "out")).toMatchObject([{ status: "queued" }]);
    await testDb.query("update ops.live_jobs set run_at = now() where state = 'scheduled'");
    await testDb.call("ops.tick");
    await work();
    expect(await mails(id, "out")).toMatchObject([{ status: "sent" }]);
    expect(
      await testDb.query("select status, attempts from messaging.email_log where account_id = $1", [id]),
    ).toEqual([{ status: "sent", attempts: 2 }]);
  });

  test("that the server refuses fails at once and says why; of several recipients, the others get it", async () => {
    const id = await account();
    await send(id, { to_addresses: ["nobody@example.com"] });
    await send(id, { to_addresses: ["bob@example.com", "nobody@example.com"], key: "two" });
    await work();
    const [one, two] = await mails(id, "out");
    expect([one, two].map((mail) => mail?.status).sort()).toEqual(["failed", "sent"]);
    const log = await testDb.query(
      `select l.sent_to, l.status, l.error_message from messaging.email_log l
        join messaging.email_messages m on m.id = l.message_id where m.key = 'two' and m.account_id = $1 order by 1`,
      [id],
    );
    expect(log).toEqual([
      { sent_to: "bob@example.com", status: "sent", error_message: null },
      {
        sent_to: "nobody@example.com",
        status: "failed",
        error_message: expect.stringMatching(/^rejected: /),
      },
    ]);
  });

  test("with a password that has changed at the server puts the account in error", async () => {
    const id = await account();
    data.mailboxes[address]!.password = "changed";
    await send(id);
    await work();
    expect(await mails(id, "out")).toMatchObject([
      { status: "failed", error_message: expect.stringMatching(/^mail_refused: /) },
    ]);
    expect((await find(id)).status).toBe("error");
  });

  test.each([
    ["a subject of two lines", { subject: "a\r\nBcc: x@example.com" }, "invalid_argument"],
    ["an address with a line break", { to_addresses: ["a@example.com\r\nDATA"] }, "invalid_argument"],
    ["no recipient", { to_addresses: [] }, "invalid_argument"],
    ["fifty-one recipients", { to_addresses: Array(51).fill("a@example.com") }, "invalid_argument"],
    ["nothing to say", { text_body: null }, "invalid_argument"],
    ["a mail to answer that is not there", { reply_to_message: randomUUID() }, "unknown_mail"],
  ])("with %s is refused", async (_, more, error) => {
    const id = await account();
    await expectError(send(id, more), error);
  });
});

describe("an inbox", () => {
  const check = async (id: string) => {
    await testDb.advanceClock("11 seconds");
    await rpc(ada, "check_email", { account_id: id });
    await work();
  };

  test("is read from where it was left, once, and nothing there is marked read", async () => {
    const id = await account();
    const box = data.mailboxes[address]!;
    deliver(box, raw("First"), Date.now() - 60_000);
    deliver(box, raw("Second"));
    await check(id);
    expect(await mails(id)).toMatchObject([
      {
        subject: "First",
        from_address: "bob@example.com",
        from_name: "Böb",
        to_addresses: [address],
        snippet: "About First.",
        is_read: false,
        status: "received",
      },
      { subject: "Second" },
    ]);
    const fetched = control.counts().imap_commands;
    deliver(box, raw("Third"));
    await check(id);
    await check(id);
    expect((await mails(id)).map(({ subject }) => subject)).toEqual(["First", "Second", "Third"]);
    expect(box.messages.some(({ seen }) => seen)).toBe(false);
    expect(fetched).toBeDefined();
    expect((await find(id)).last_uid).toBe(3);
  });

  test("that the server counts anew is read anew, and no mail is there twice", async () => {
    const id = await account();
    const box = data.mailboxes[address]!;
    for (const subject of ["A", "B", "C"]) deliver(box, raw(subject));
    await check(id);
    box.messages.shift();
    renumber(box);
    deliver(box, raw("D"));
    await check(id);
    expect((await mails(id)).map(({ subject }) => subject).sort()).toEqual(["A", "B", "C", "D"]);
    expect((await find(id)).last_uid).toBe(3);
  });

  test("of many mails is read page by page, the newest two hundred of those that were there before", async () => {
    const id = await account();
    const box = data.mailboxes[address]!;
    for (let n = 1; n <= 230; n++) deliver(box, raw(`Mail ${n}`), Date.now() - (300 - n) * 1000);
    await check(id);
    const subjects = (await mails(id)).map(({ subject }) => subject);
    expect(subjects).toHaveLength(200);
    expect(subjects[0]).toBe("Mail 31");
    expect(subjects.at(-1)).toBe("Mail 230");
  });

  test("takes what is odd: HTML alone, files, a long mail, bytes that are no text", async () => {
    const id = await account();
    const box = data.mailboxes[address]!;
    deliver(
      box,
      [
        "From: x@example.com",
        "Subject: =?utf-8?B?8J+Ymg==?=",
        'Content-Type: multipart/mixed; boundary="b"',
        "",
        "--b",
        "Content-Type: text/html; charset=utf-8",
        "",
        "<style>p{}</style><p>Hi &amp; <b>bye</b></p>",
        "--b",
        'Content-Type: application/pdf; name="a.pdf"',
        'Content-Disposition: attachment; filename="a.pdf"',
        "Content-Transfer-Encoding: base64",
        "",
        "AAAA",
        "--b--",
      ].join("\r\n"),
    );
    deliver(box, `From: y@example.com\r\nSubject: Long\r\n\r\n${"word ".repeat(250_000)}`);
    deliver(box, "no headers at all \u0000");
    await check(id);
    expect(await mails(id)).toMatchObject([
      {
        subject: "😚",
        text_body: expect.stringContaining("Hi & bye"),
        attachments: [{ name: "a.pdf", type: "application/pdf", size: 3 }],
        is_truncated: false,
      },
      { subject: "Long", is_truncated: true },
      { subject: "" },
    ]);
  });

  test("is read every five minutes by itself, as long as the account is on", async () => {
    const id = await account();
    const due = async () => {
      await testDb.advanceClock("6 minutes");
      await testDb.call("private.check_due_mail");
      const [row] = await testDb.query(
        `select count(*)::int as jobs from ops.jobs
          where kind = 'mail.check' and payload ->> 'account_id' = $1 and state = 'queued'`,
        [id],
      );
      await work();
      return row?.jobs;
    };
    expect(await due()).toBe(1);
    expect(await due()).toBe(1);
    await testDb
      .user(ada.id)
      .query("update messaging.email_accounts set is_active = false where id = $1", [id]);
    expect(await due()).toBe(0);
    await testDb.setClock(null);
  });

  test("whose server is out of reach is read ever later, and not at all after two days", async () => {
    const id = await account();
    await testDb.query("update messaging.email_accounts set imap_port = 1 where id = $1", [id]);
    // The change has forgotten the password; this test is about the server alone.
    await putPassword(id, "a secret");
    await testDb.query("update ops.live_jobs set run_at = now() + interval '1 year', state = 'scheduled'");
    await testDb.query(
      "update messaging.email_accounts set status = 'active', sync_error = null where id = $1",
      [id],
    );
    const look = async () => {
      await rpc(ada, "check_email", { account_id: id });
      await work();
      const [row] = await testDb.query(
        `select status, sync_error, failed_checks, round(extract(epoch from next_check_at - private.now()) / 60)::int
          as minutes from messaging.email_accounts where id = $1`,
        [id],
      );
      await testDb.advanceClock("6 hours");
      return row!;
    };
    expect(await look()).toMatchObject({
      status: "active",
      sync_error: expect.stringMatching(/^unreachable: /),
      failed_checks: 1,
      minutes: 10,
    });
    expect(await look()).toMatchObject({ failed_checks: 2, minutes: 20 });
    for (let n = 3; n <= 11; n++) expect((await look()).status).toBe("active");
    expect(await look()).toMatchObject({ status: "error", failed_checks: 12, minutes: 360 });
    await expectError(rpc(ada, "check_email", { account_id: id }), "mail_account_not_ready");
    await testDb.setClock(null);
  });
});
