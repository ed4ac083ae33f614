import { describe, expect, test } from "vitest";
import { type MailAccount, openPassword } from "../../functions/_shared/sql/mail.ts";
import { openSmtp } from "../../functions/worker/mail/servers.ts";
import { openMailbox } from "../../supabase/local/standins/mail/state.ts";
import { expectError } from "../helpers/errors.ts";
import {
  type Account,
  account,
  ada,
  address,
  control,
  data,
  db,
  find,
  putPassword,
  rpc,
  send,
  settings,
  testDb,
  vault,
  work,
} from "./mail-stage.ts";

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
