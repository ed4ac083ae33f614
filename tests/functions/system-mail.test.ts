import { randomUUID } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { type Resend, resendOf } from "../../functions/_shared/resend.ts";
import { systemMailHandlers } from "../../functions/worker/handlers/system-mail.ts";
import { startMail } from "../../supabase/local/standins/mail/start.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { functionsDatabase, keptLog, workOnce } from "./harness.ts";

const testDb = await createTestDatabase();
const db = functionsDatabase(testDb);
const { log } = keptLog();
const standIn = startMail({ path: join(mkdtempSync(join(tmpdir(), "resend-")), "mail.json") });
const { data, control } = standIn;
const fetcher: typeof fetch = async (input, init) =>
  standIn.app.request(String(input).replace("http://resend.test", ""), init);
const config = {
  RESEND_API_URL: "http://resend.test",
  RESEND_API_KEY: data.resendKey,
  MAIL_FROM: "Backlot <hello@backlot.test>",
};

async function work(sender: Resend | null | undefined = resendOf(config, fetcher)): Promise<void> {
  const resend = sender ?? undefined;
  await workOnce({ db, handlers: systemMailHandlers({ resend }), log });
}
async function again(): Promise<void> {
  await testDb.advanceClock("2 hours");
  await testDb.call("ops.tick");
  await work();
}

let email: string;
beforeEach(async () => {
  control.reset();
  await testDb.advanceClock("2 hours");
  email = `${randomUUID()}@example.com`;
});
const write = () => testDb.anon.call("messaging.submit_contact", { name: "Bob", email, message: "Hello" });
const entry = async () => {
  const [row] = await testDb.query("select * from messaging.email_log where sent_to = $1", [email]);
  return row!;
};
const sent = () => data.resend.map(({ body }) => JSON.parse(body)).filter(({ to }) => to[0] === email);
async function tell(type: string, more: object = {}, created_at = "2026-11-21T10:00:00Z", id = randomUUID()) {
  await testDb.service.call("ops.receive_webhook", {
    provider: "resend",
    event_id: id,
    event_type: type,
    payload: { type, created_at, data: more },
    headers: {},
  });
  await work();
}

test("an answer to a form is sent once, and the form says so", async () => {
  await write();
  await work();
  expect(sent()).toMatchObject([
    {
      from: "Backlot <hello@backlot.test>",
      subject: "We have received your message",
      tags: [{ name: "email_log_id" }],
    },
  ]);
  const row = await entry();
  expect(row).toMatchObject({ status: "sent", attempts: 1, provider_id: expect.any(String) });
  expect(
    await testDb.query("select auto_response_sent_at from messaging.contact_submissions where email = $1", [
      email,
    ]),
  ).toEqual([{ auto_response_sent_at: row.sent_at }]);
});

test("a mail whose answer was lost is not sent twice", async () => {
  await write();
  const lossy: typeof fetch = async (input, init) => {
    await fetcher(input, init);
    throw new TypeError("the connection broke");
  };
  await work(resendOf(config, lossy));
  expect((await entry()).status).toBe("pending");
  await again();
  expect(sent()).toHaveLength(1);
  expect(await entry()).toMatchObject({ status: "sent", attempts: 2 });
});

test("a busy Resend is asked again, one that refuses is not", async () => {
  await write();
  control.add({ fail: "submit", http_status: 429, retry_after: 1, times: 1 });
  await work();
  expect((await entry()).status).toBe("pending");
  await again();
  expect((await entry()).status).toBe("sent");

  email = `${randomUUID()}@example.com`;
  await write();
  control.add({ fail: "submit", http_status: 422, times: 1 });
  await again();
  expect(await entry()).toMatchObject({
    status: "failed",
    error_message: expect.stringMatching(/^mail_rejected: /),
  });
});

test("what Resend tells of a mail is in the log, in whatever order it comes", async () => {
  await write();
  await work();
  const { id, provider_id } = await entry();
  const about = { email_id: provider_id, tags: { email_log_id: id } };
  await tell("email.opened", about, "2026-11-21T10:05:00Z");
  await tell("email.delivered", about, "2026-11-21T10:01:00Z");
  await tell("email.delivered", about, "2026-11-21T10:02:00Z");
  await tell("contact.created", {});
  expect(await entry()).toMatchObject({
    status: "opened",
    opened_at: new Date("2026-11-21T10:05:00Z"),
    delivered_at: new Date("2026-11-21T10:01:00Z"),
  });
  await tell("email.bounced", { ...about, bounce: { message: "No such mailbox" } });
  await tell("email.clicked", about);
  expect(await entry()).toMatchObject({ status: "bounced", error_message: "bounced: No such mailbox" });
});

test("news that come before the mail's job has ended are kept", async () => {
  await write();
  const { id } = await entry();
  await testDb.query(
    "update ops.live_jobs set run_at = now() + interval '1 hour', state = 'scheduled' where kind = 'mail.system'",
  );
  await tell("email.delivered", { email_id: "later", tags: { email_log_id: id } });
  expect((await entry()).status).toBe("delivered");
  await again();
  expect(await entry()).toMatchObject({ status: "delivered", provider_id: expect.any(String) });
});

test("without a sender mail waits", async () => {
  await write();
  expect(resendOf({ RESEND_API_URL: "http://resend.test" })).toBeUndefined();
  await work(null);
  expect((await entry()).status).toBe("pending");
});
