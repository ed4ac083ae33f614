import type { ImapFlow } from "imapflow";
import { z } from "zod";
import type { Vault } from "../../_shared/encryption.ts";
import {
  findMailAccount,
  findOutgoingMail,
  type MailAccount,
  noteFailedCheck,
  noteMailAccount,
  openPassword,
  storeMail,
} from "../../_shared/sql/mail.ts";
import {
  completed,
  type Handler,
  type Handlers,
  type JobContext,
  JobError,
  type Outcome,
  waiting,
} from "../job.ts";
import { openInbox, readMessages } from "../mail/inbox.ts";
import { imapFault, type MailServers, openImap, openSmtp, smtpFault } from "../mail/servers.ts";

export interface MailDeps {
  vault: Vault | undefined;
  mailServers: MailServers;
}

const ofAccount = z.object({ account_id: z.uuid() });
const ofMessage = z.object({ message_id: z.uuid() });
/** Messages that are read and stored at once. */
const pageSize = 25;
/** How long one attempt reads before it lets others work. */
const longestMs = 45_000;

/** Every kind of work on mail accounts. */
export function mailHandlers(deps: MailDeps): Handlers {
  return { "mail.test": testAccount(deps), "mail.check": checkInbox(deps), "mail.send": sendMail(deps) };
}

/** The account and its password; null when there is nothing to do with it. Errors: JobError not_configured. */
async function ready(
  { vault }: MailDeps,
  { db }: JobContext,
  id: string,
): Promise<{ account: MailAccount; password: string } | null> {
  const account = await findMailAccount(db, id);
  if (!account?.is_active || account.status === "no_password") return null;
  if (!vault) throw new JobError("not_configured", "There are no keys for passwords.", { retryIn: 600 });
  const password = await openPassword(db, vault, id);
  return password === null ? null : { account, password };
}

/**
 * What the person can mend is shown on the account; what may pass by itself is left to the next try. Nothing is to be
 * mended where another password, or none, has been entered since `used` was.
 */
async function refuse(
  { vault }: MailDeps,
  { db }: JobContext,
  accountId: string,
  used: string,
  fault: JobError,
): Promise<never> {
  if (["mail_refused", "address_refused", "not_encrypted"].includes(fault.code) && !fault.retry) {
    if ((await openPassword(db, vault!, accountId)) !== used) {
      throw new JobError("mail_account_changed", "The account has another password now.", { retryIn: 1 });
    }
    await noteMailAccount(db, accountId, `${fault.code}: ${fault.message}`);
  }
  throw fault;
}

/** mail.test: signs in at both servers and sends nothing. The account's status says what came of it. */
function testAccount(deps: MailDeps): Handler {
  return async (job, context) => {
    const { account_id } = ofAccount.parse(job.payload);
    const found = await ready(deps, context, account_id);
    if (!found) return completed({ ignored: true });
    const { account, password } = found;
    try {
      const smtp = await openSmtp(account, password, deps.mailServers);
      try {
        await smtp.verify();
      } catch (error) {
        throw smtpFault(error);
      } finally {
        smtp.close();
      }
      const imap = await openImap(account, password, deps.mailServers);
      await imap.logout().catch(() => imap.close());
    } catch (error) {
      // A test is asked for by somebody who waits for its answer: there is no later try.
      const fault = smtpFault(error);
      // Of another password, which has a test of its own, this one says nothing.
      if ((await openPassword(context.db, deps.vault!, account_id)) !== password) {
        return completed({ ignored: true });
      }
      await noteMailAccount(context.db, account_id, `${fault.code}: ${fault.message}`);
      return completed({ works: false, error: fault.code });
    }
    await noteMailAccount(context.db, account_id, null);
    return completed({ works: true });
  };
}

/** mail.check: what has come into the inbox since the last time, page by page. */
function checkInbox(deps: MailDeps): Handler {
  return async (job, context) => {
    const { account_id } = ofAccount.parse(job.payload);
    const found = await ready(deps, context, account_id);
    if (!found) return completed({ ignored: true });
    const { account, password } = found;
    const stopAt = context.now() + longestMs;
    /** A server that is out of reach is asked again by the clock: no job has to fail for it. */
    const later = async (error: unknown) => {
      const fault = imapFault(error);
      if (!fault.retry) return refuse(deps, context, account_id, password, fault);
      await noteFailedCheck(context.db, account_id, `${fault.code}: ${fault.message}`);
      return completed({ works: false, error: fault.code });
    };
    const client = await openImap(account, password, deps.mailServers).catch(later);
    if (!isClient(client)) return client;
    try {
      const { uid_validity: uidValidity, last_uid: lastUid } = account;
      const inbox = await openInbox(client, { uidValidity, lastUid }).catch(later);
      if ("outcome" in inbox) return inbox;
      let stored = 0;
      for (let at = 0; at === 0 || at < inbox.uids.length; at += pageSize) {
        const uids = inbox.uids.slice(at, at + pageSize);
        const messages = uids.length > 0 ? await readMessages(client, uids) : [];
        const upTo = uids.at(-1) ?? inbox.after;
        if (!(await storeMail(context.db, account_id, inbox.uidValidity, upTo, messages))) {
          return completed({ ignored: true });
        }
        stored += messages.length;
        const held = await context.checkpoint({ stage: "reading" });
        if (!held) return completed({ stored });
        if (context.now() >= stopAt && at + pageSize < inbox.uids.length) return waiting({ poll_in: 0 });
      }
      return completed({ stored });
    } finally {
      await client.logout().catch(() => client.close());
    }
  };
}

const isClient = (value: ImapFlow | Outcome): value is ImapFlow => !("outcome" in value);

/**
 * mail.send: hands a mail to the account's server. At least once: when the end of an attempt could not be noted it is
 * sent again, under the same Message-ID, by which receivers know it.
 */
function sendMail(deps: MailDeps): Handler {
  return async (job, context) => {
    const { message_id } = ofMessage.parse(job.payload);
    const message = await findOutgoingMail(context.db, message_id);
    if (message?.status !== "queued") return completed({ ignored: true });
    const found = await ready(deps, context, message.account_id);
    if (!found) {
      throw new JobError("mail_account_not_ready", "The mail account is switched off or has no password.", {
        retry: false,
      });
    }
    const { account, password } = found;
    const fail = (error: unknown) => refuse(deps, context, account.id, password, smtpFault(error));
    const smtp = await openSmtp(account, password, deps.mailServers).catch(fail);
    try {
      const { rejected, response } = await smtp
        .sendMail({
          messageId: message.message_id,
          from: { name: message.from_name ?? "", address: message.from_address },
          to: message.to_addresses,
          cc: message.cc_addresses,
          bcc: message.bcc_addresses,
          subject: message.subject,
          ...(message.text_body !== null && { text: message.text_body }),
          ...(message.html_body !== null && { html: message.html_body }),
          ...(message.in_reply_to && { inReplyTo: message.in_reply_to, references: message.in_reply_to }),
        })
        .catch(fail);
      return completed({
        rejected: (rejected as (string | { address: string })[]).map((to) =>
          typeof to === "string" ? to : to.address,
        ),
        response: String(response).slice(0, 200),
      });
    } finally {
      smtp.close();
    }
  };
}
