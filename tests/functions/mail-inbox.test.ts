import { describe, expect, test } from "vitest";
import { deliver, renumber } from "../../supabase/local/standins/mail/state.ts";
import { expectError } from "../helpers/errors.ts";
import {
  account,
  ada,
  address,
  control,
  data,
  find,
  mails,
  putPassword,
  raw,
  rpc,
  testDb,
  work,
} from "./mail-stage.ts";

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
