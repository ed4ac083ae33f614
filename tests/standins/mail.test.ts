import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startMail } from "../../supabase/local/standins/mail/start.ts";

const standIn = startMail({ path: join(mkdtempSync(join(tmpdir(), "mail-")), "mail.json") });
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  standIn.app.request(path, { method: "POST", headers, body: JSON.stringify(body) });
let ports: { smtp: number; imap: number };
beforeAll(async () => {
  standIn.resume();
  ports = (await (
    await post("/_mail/mailboxes", { email: "ada@local.test", password: 'a "quoted\\ pass' })
  ).json()) as typeof ports;
});
afterAll(() => standIn.close());

const auth = { user: "ada@local.test", pass: 'a "quoted\\ pass' };
const smtp = (pass = auth.pass) =>
  createTransport({ host: "127.0.0.1", port: ports.smtp, secure: false, auth: { ...auth, pass } });
const imap = (pass = auth.pass) =>
  new ImapFlow({
    host: "127.0.0.1",
    port: ports.imap,
    secure: false,
    auth: { ...auth, pass },
    logger: false,
  });

test("mail that comes by SMTP is in the mailbox that IMAP shows, whole or in part", async () => {
  await smtp().sendMail({ from: auth.user, to: auth.user, subject: "Hello", text: "x".repeat(2000) });
  const client = imap();
  await client.connect();
  const box = await client.mailboxOpen("INBOX");
  expect([box.exists, box.uidNext]).toEqual([1, 2]);
  const whole = await client.fetchOne("1", { source: true, size: true }, { uid: true });
  const part = await client.fetchOne("1", { source: { start: 0, maxLength: 100 } }, { uid: true });
  if (!whole || !part) throw new Error("The message is not there.");
  expect(whole.source!.toString()).toContain("Subject: Hello");
  expect(whole.size).toBe(whole.source!.length);
  expect(part.source!.toString()).toBe(whole.source!.toString().slice(0, 100));
  expect(await client.search({ uid: "5:*" }, { uid: true })).toEqual([1]);
  await client.logout();
});

test("a wrong password opens neither", async () => {
  await expect(smtp("wrong").verify()).rejects.toMatchObject({ code: "EAUTH", responseCode: 535 });
  await expect(imap("wrong").connect()).rejects.toMatchObject({ authenticationFailed: true });
});

test("Resend takes a mail once for its key, and no other mail under it", async () => {
  const headers = { authorization: `Bearer ${standIn.data.resendKey}`, "idempotency-key": "k1" };
  const mail = { from: "a@b.co", to: ["c@d.co"], subject: "Hi", text: "Hi" };
  const answers = [await post("/emails", mail, headers), await post("/emails", mail, headers)];
  const [first, second] = (await Promise.all(answers.map((answer) => answer.json()))) as { id: string }[];
  expect(first!.id).toBe(second!.id);
  expect((await post("/emails", { ...mail, subject: "Other" }, headers)).status).toBe(409);
  expect((await post("/emails", mail)).status).toBe(401);
  expect((await post("/emails", { to: "x" }, headers)).status).toBe(422);
});
