// Connections to mail servers that customers choose: only to addresses of the public internet, encrypted before the
// password is sent, to the very address that was checked (a name that changes in between gains nothing). The hosted
// platform lets no connection out to the ports 25 and 587: there, 465 is the one to send by.
// The libraries are loaded when the first mail job needs them; a worker of other jobs starts without them.

import type { ImapFlow } from "imapflow";
import type { Transporter } from "nodemailer";
import {
  AddressRefused,
  checkedAddresses,
  checkName,
  type SafeFetchOptions,
} from "../../_shared/safe-fetch.ts";
import type { MailAccount } from "../../_shared/sql/mail.ts";
import { JobError } from "../job.ts";

export interface MailServers {
  /** Local stack only: private addresses, any port, no encryption. */
  allowLocal?: boolean;
  resolve?: SafeFetchOptions["resolve"];
}

const smtpPorts = new Set([465, 587, 2465, 2525, 2587]);
const imapPorts = new Set([143, 993]);
const timeoutMs = 20_000;

/** Where a server is. Errors: JobError address_refused, unreachable. */
async function addressOf(
  host: string,
  port: number,
  ports: Set<number>,
  options: MailServers,
): Promise<string> {
  try {
    if (!options.allowLocal) {
      checkName(host);
      if (!ports.has(port)) {
        throw new AddressRefused(`The port must be one of ${[...ports].join(", ")}.`);
      }
    }
    const [first] = await checkedAddresses(host, options);
    return first!.address;
  } catch (error) {
    if (error instanceof AddressRefused) {
      throw new JobError("address_refused", error.message, { retry: false, cause: error });
    }
    throw new JobError("unreachable", `The server ${host} could not be found.`, { cause: error });
  }
}

/** Sends through the account's server. Errors: JobError. */
export async function openSmtp(
  account: MailAccount,
  password: string,
  options: MailServers,
): Promise<Transporter> {
  const host = await addressOf(account.smtp_host, account.smtp_port, smtpPorts, options);
  const { createTransport } = await import("nodemailer");
  return createTransport({
    host,
    port: account.smtp_port,
    secure: account.smtp_secure,
    requireTLS: !account.smtp_secure && !options.allowLocal,
    tls: { servername: account.smtp_host },
    auth: { user: account.username, pass: password },
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs * 2,
    // What a message refers to is never fetched.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
}

/** Reads from the account's server; whoever opens it, closes it. Errors: JobError. */
export async function openImap(
  account: MailAccount,
  password: string,
  options: MailServers,
): Promise<ImapFlow> {
  const host = await addressOf(account.imap_host, account.imap_port, imapPorts, options);
  const libraries = await import("imapflow");
  const client = new libraries.ImapFlow({
    host,
    port: account.imap_port,
    servername: account.imap_host,
    secure: account.imap_secure,
    ...(!account.imap_secure && !options.allowLocal && { doSTARTTLS: true }),
    auth: { user: account.username, pass: password },
    logger: false,
    disableAutoIdle: true,
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs * 2,
  });
  // Of a connection that broke; what was under way fails by itself.
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (error) {
    client.close();
    throw imapFault(error);
  }
  return client;
}

interface SmtpFault extends Error {
  code?: string;
  responseCode?: number;
  response?: string;
}

/** What an SMTP error means for the job: 4yz may work later, 5yz never (RFC 5321, 4.2.1). */
export function smtpFault(error: unknown): JobError {
  if (error instanceof JobError) return error;
  const { code = "", responseCode = 0, response = "" } = error as SmtpFault;
  const answer = response.replace(/[\r\n]+/g, " ").slice(0, 200);
  if (code === "EAUTH") {
    return new JobError("mail_refused", "The server does not take the user or the password.", {
      retry: responseCode >= 400 && responseCode < 500,
      cause: error,
    });
  }
  if (code === "ETLS") {
    return new JobError("not_encrypted", "The server offers no encrypted connection.", {
      retry: false,
      cause: error,
    });
  }
  if (responseCode >= 500) {
    return new JobError("mail_rejected", `The server refused the mail: ${answer}`, {
      retry: false,
      cause: error,
    });
  }
  if (responseCode >= 400) {
    return new JobError("mail_deferred", `The server asks to try later: ${answer}`, { cause: error });
  }
  return new JobError("unreachable", "The server for sending could not be reached.", { cause: error });
}

interface ImapFault extends Error {
  code?: string;
  authenticationFailed?: boolean;
}

export function imapFault(error: unknown): JobError {
  if (error instanceof JobError) return error;
  const { authenticationFailed, code = "" } = error as ImapFault;
  if (authenticationFailed) {
    return new JobError("mail_refused", "The server does not take the user or the password.", {
      retry: false,
      cause: error,
    });
  }
  if (code === "TLSFailed" || /starttls/i.test((error as Error).message ?? "")) {
    return new JobError("not_encrypted", "The server offers no encrypted connection.", {
      retry: false,
      cause: error,
    });
  }
  return new JobError("unreachable", "The server for reading could not be reached.", { cause: error });
}
