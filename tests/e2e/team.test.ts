import { randomUUID } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { describe, expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
type Row = { [name: string]: unknown };
const messaging = (person: Person) =>
  (person.client as unknown as SupabaseClient).schema("messaging" as never);

const servers = async (path: string, body?: unknown) => {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return (await fetch(`${s.stack.standins.mail}${path}`, init)).json();
};

/** Adds a mailbox at the servers and an account of it, and waits until it works. */
async function account(person: Person, email: string, workspace_id: string | null): Promise<string> {
  const { smtp, imap } = await servers("/_mail/mailboxes", { email, password: "pa55word" });
  const saved = must(
    await messaging(person).rpc("save_email_account", {
      workspace_id,
      settings: {
        email,
        display_name: "Atelier",
        imap_host: "127.0.0.1",
        imap_port: imap,
        imap_secure: false,
        smtp_host: "127.0.0.1",
        smtp_port: smtp,
        smtp_secure: false,
      },
    }),
  ) as unknown as Row;
  must(
    await person.client.functions.invoke("mail/password", {
      method: "PUT",
      body: { account_id: saved.id, password: "pa55word" },
    }),
  );
  await eventually("the test of the account", async () => {
    const { data } = await messaging(person).from("email_accounts").select("*").eq("id", saved.id).single();
    const { status, sync_error } = data as unknown as Row;
    if (status === "error") throw new Error(String(sync_error));
    return status === "active";
  });
  return String(saved.id);
}
const mails = async (person: Person, accountId: string, direction: string) =>
  must(
    await messaging(person)
      .from("email_messages")
      .select("id, subject, status, text_body, from_address, in_reply_to, message_id, is_read")
      .eq("account_id", accountId)
      .eq("direction", direction)
      .order("created_at", { ascending: false }),
  ) as unknown as Row[];

describe("a team", () => {
  test("shares a mailbox: sends, is answered, answers, and sees what became of it", async () => {
    const [ada, bob] = [await s.person(0), await s.person(0)];
    const name = randomUUID().slice(0, 8);
    const shared = await account(ada, `info-${name}@atelier.test`, ada.workspaceId);
    const own = await account(bob, `bob-${name}@home.test`, null);

    const asked = must(
      await messaging(ada).rpc("send_email", {
        account_id: shared,
        to_addresses: [`bob-${name}@home.test`],
        subject: "Grüße aus dem Atelier",
        text_body: "Would you like to see the new dress?",
        key: `first-${name}`,
      }),
    ) as unknown as Row;
    expect(asked.status).toBe("queued");
    await eventually("the mail sent", async () => (await mails(ada, shared, "out"))[0]?.status === "sent");

    must(await messaging(bob).rpc("check_email", { account_id: own }));
    const [came] = await eventually("the mail in the inbox", async () => {
      const rows = await mails(bob, own, "in");
      return rows.length > 0 ? rows : undefined;
    });
    expect(came).toMatchObject({
      subject: "Grüße aus dem Atelier",
      from_address: `info-${name}@atelier.test`,
      message_id: asked.message_id,
      is_read: false,
    });
    must(
      await messaging(bob).from("email_messages").update({ is_read: true }).eq("id", came!.id).select("id"),
    );
    must(
      await messaging(bob).rpc("send_email", {
        account_id: own,
        to_addresses: [`info-${name}@atelier.test`],
        subject: "Re: Grüße aus dem Atelier",
        text_body: "Yes!",
        reply_to_message: came!.id,
      }),
    );
    await eventually("the answer sent", async () => (await mails(bob, own, "out"))[0]?.status === "sent");
    must(await messaging(ada).rpc("check_email", { account_id: shared }));
    const [answer] = await eventually("the answer", async () => {
      const rows = await mails(ada, shared, "in");
      return rows.length > 0 ? rows : undefined;
    });
    expect(answer).toMatchObject({
      in_reply_to: asked.message_id,
      text_body: expect.stringContaining("Yes!"),
    });

    // Nobody reads another's mail, and no secret is anywhere.
    expect(await mails(bob, shared, "in")).toEqual([]);
    const log = must(await messaging(ada).from("email_log").select("sent_to, status")) as unknown as Row[];
    expect(log).toEqual([{ sent_to: `bob-${name}@home.test`, status: "sent" }]);
    const secrets = await s.sql<Row>("select ciphertext from messaging.email_account_secrets");
    expect(secrets.length).toBeGreaterThanOrEqual(2);
    expect(JSON.stringify(secrets)).not.toContain(Buffer.from("pa55word").toString("hex"));
  }, 120_000);

  test("is written to by a visitor, who is answered by mail", async () => {
    const visitor = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
    const email = `${randomUUID()}@visitor.test`;
    const form = {
      name: "Cleo",
      email,
      message: "Do you ship to India?",
      subject: "Shipping",
      source: "site",
    };
    expect(must(await visitor.schema("messaging").rpc("submit_contact", form))).toBe(true);
    const { resend } = await eventually("the answer", async () => {
      const state = await servers("/_mail");
      return state.resend.some(({ body }: { body: string }) => body.includes(email)) ? state : undefined;
    });
    const sent = JSON.parse(resend.find(({ body }: { body: string }) => body.includes(email)).body);
    expect(sent).toMatchObject({ to: [email], subject: "We have received your message" });
    expect(sent.text).not.toContain("India");
    await eventually("its note on the form", async () => {
      const [row] = await s.sql<Row>(
        "select auto_response_sent_at from messaging.contact_submissions where email = $1",
        [email],
      );
      return row?.auto_response_sent_at;
    });
    const { data, error } = await visitor.schema("messaging").from("contact_submissions").select("id");
    expect([data, error?.code]).toEqual([null, "42501"]);
  }, 60_000);

  test("sees the work under way for its workspace, and where it stands", async () => {
    const person = await s.person(10_000);
    await fetch(`${s.stack.standins.fal}/_control`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ delay_ms: 4000, times: 1 }),
    });
    const creation = await s.request(person);
    const jobs = async () =>
      must(
        await messaging(person).rpc("running_jobs", { workspace_id: person.workspaceId }),
      ) as unknown as Row[];
    // The person's garment may still be looked at, too.
    const job = await eventually("the job", async () =>
      (await jobs()).find((row) => row.kind === "studio.creation"),
    );
    expect(job).toMatchObject({ parent_job_id: null });
    expect(["queued", "running", "waiting"]).toContain(job.state);
    await s.ended(person, creation.id);
    await eventually("its end", async () => (await jobs()).length === 0);
  }, 60_000);
});
