import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Vault } from "../../functions/_shared/encryption.ts";
import { mailHandlers } from "../../functions/worker/handlers/mail.ts";
import { expectError } from "../helpers/errors.ts";
import { workOnce } from "./harness.ts";
import {
  account,
  ada,
  address,
  control,
  data,
  db,
  find,
  log,
  mails,
  rpc,
  send,
  testDb,
  vault,
  work,
} from "./mail-stage.ts";

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

  test("with a password that is entered anew meanwhile is tried again with that, and the account goes on", async () => {
    const id = await account();
    await send(id);
    let reads = 0;
    const open: Vault["open"] = async (...sealed) => (reads++ === 0 ? "older" : vault.open(...sealed));
    const handlers = mailHandlers({ vault: { ...vault, open }, mailServers: { allowLocal: true } });
    await workOnce({ db, handlers, log });
    expect(await find(id)).toMatchObject({ status: "active", sync_error: null });
    expect(await mails(id, "out")).toMatchObject([{ status: "queued" }]);
    reads = 0;
    await rpc(ada, "test_email_account", { account_id: id });
    await workOnce({ db, handlers, log });
    expect(await find(id)).toMatchObject({ status: "untested", sync_error: null });
    await testDb.query("update ops.live_jobs set run_at = now() where state = 'scheduled'");
    await testDb.call("ops.tick");
    await work();
    expect(await mails(id, "out")).toMatchObject([{ status: "sent" }]);
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
