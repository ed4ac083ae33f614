// What the mail servers know: mailboxes with their passwords and messages, and what Resend was given to send.

export interface MailMessage {
  uid: number;
  /** RFC 5322, lines ending in CRLF. */
  raw: string;
  /** Milliseconds. */
  at: number;
  seen: boolean;
}

export interface Mailbox {
  password: string;
  uidValidity: number;
  uidNext: number;
  messages: MailMessage[];
}

export interface ResendMail {
  id: string;
  at: number;
  key: string | null;
  /** Of the body, by which a repeated key is compared. */
  body: string;
}

export interface MailData {
  mailboxes: Record<string, Mailbox>;
  /** Every mail that was sent through SMTP. */
  sent: { from: string; to: string[]; raw: string; at: number }[];
  resend: ResendMail[];
  resendKey: string;
}

export const emptyMailData = (): MailData => ({
  mailboxes: {},
  sent: [],
  resend: [],
  resendKey: `re_${crypto.randomUUID().replaceAll("-", "")}`,
});

export function openMailbox(data: MailData, email: string, password: string): Mailbox {
  const address = email.toLowerCase();
  data.mailboxes[address] ??= {
    password,
    uidValidity: Math.floor(Date.now() / 1000),
    uidNext: 1,
    messages: [],
  };
  data.mailboxes[address].password = password;
  return data.mailboxes[address];
}

export function deliver(mailbox: Mailbox, raw: string, at = Date.now()): MailMessage {
  const message = { uid: mailbox.uidNext++, raw: raw.replace(/\r?\n/g, "\r\n"), at, seen: false };
  mailbox.messages.push(message);
  return message;
}

/** The server counts its messages anew, as after a restore. */
export function renumber(mailbox: Mailbox): void {
  mailbox.uidValidity++;
  mailbox.messages.forEach((message, index) => {
    message.uid = index + 1;
  });
  mailbox.uidNext = mailbox.messages.length + 1;
}
