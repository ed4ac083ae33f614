import { createClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { eventually, useStack } from "../e2e/stack.ts";
import { runPage, signUp, type Visitor } from "./selify.ts";

const s = useStack();

/** A client of a person of staff: the service says who is. */
async function staffOf({ email, password }: Visitor) {
  const [user] = await s.sql<{ id: string }>("select id from auth.users where email = $1", [email]);
  const { error: refused } = await s.service.auth.admin.updateUserById(user!.id, {
    app_metadata: { staff: true },
  });
  if (refused) throw refused;
  const client = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  const { error } = await client.auth.signInWithPassword({ email, password });
  if (error) throw error;
  return client;
}

test("members, mail, notifications, forms, running jobs and QA work as their page says", async () => {
  const person = await signUp(s, 100_000);
  const email = `info-${crypto.randomUUID().slice(0, 8)}@atelier.test`;
  const servers = await fetch(`${s.stack.standins.mail}/_mail/mailboxes`, {
    method: "POST",
    body: JSON.stringify({ email, password: "pa55word" }),
  });
  const { smtp, imap } = (await servers.json()) as { smtp: number; imap: number };
  await s.order("fal", { delay_ms: 4000, times: 1 });

  const staffClient = await staffOf(await signUp(s, 0));
  await runPage(
    s,
    "team.md",
    person,
    {
      members: ({ members, invited, open, revokeRefused }) => {
        expect(members).toMatchObject([{ role: "owner", person: { display_name: "Ada" } }]);
        expect(open).toMatchObject([{ id: invited.id, email: "ben@example.org", role: "editor" }]);
        expect(revokeRefused).toBeNull();
      },
      tested: ({ tested }) => expect(tested).toMatchObject({ status: "active", sync_error: null }),
      inbox: async ({ delivered, inbox }) => {
        expect(delivered.status).toBe("sent");
        const came = await eventually("the mail", async () => {
          const { data } = await inbox();
          return data.length > 0 ? data : undefined;
        });
        expect(came).toMatchObject([{ subject: "Hello", from_address: email, is_read: false }]);
      },
      bell: ({ bell, unread, marked }) => {
        expect(bell.bindings.postgres_changes).toHaveLength(1);
        expect(marked).toBe(unread);
      },
      received: ({ received, feedbackId }) =>
        expect([received, feedbackId]).toEqual([true, expect.stringMatching(/^[0-9a-f-]{36}$/)]),
      running: ({ running, olderJobs }) => {
        expect(running.map(({ kind }: { kind: string }) => kind)).toContain("studio.creation");
        expect(olderJobs).toEqual([]);
      },
      run: ({ run, runs, outcomes }) => {
        expect(run).toMatchObject({ status: "queued", total_specs: 1 });
        expect(runs).toMatchObject([{ id: run.id, name: "Before the release" }]);
        expect(outcomes).toEqual([]);
      },
    },
    {
      staffClient,
      mailPassword: "pa55word",
      mailSettings: {
        email,
        display_name: "Atelier",
        imap_host: "127.0.0.1",
        imap_port: imap,
        imap_secure: false,
        smtp_host: "127.0.0.1",
        smtp_port: smtp,
        smtp_secure: false,
      },
    },
  );
}, 180_000);
