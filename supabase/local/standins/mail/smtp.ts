// The SMTP side: takes mail from those who sign in, keeps it, and puts it into the mailboxes that are here.

import { SMTPServer } from "smtp-server";
import type { Control } from "../control.ts";
import { deliver, type MailData } from "./state.ts";

/** A recipient whose name begins with this does not exist. */
export const unknownRecipient = "nobody";

export function createSmtp(data: MailData, changed: () => void, control: Control): SMTPServer {
  return new SMTPServer({
    authMethods: ["PLAIN", "LOGIN"],
    allowInsecureAuth: true,
    disabledCommands: ["STARTTLS"],
    logger: false,
    onAuth: ({ username = "", password = "" }, _session, answer) => {
      control.count("smtp_sign_ins");
      if (data.mailboxes[username.toLowerCase()]?.password === password) {
        return answer(null, { user: username.toLowerCase() });
      }
      answer(fault(535, "5.7.8 Authentication credentials invalid"));
    },
    onMailFrom: (_address, _session, answer) => {
      const rule = control.take("api", { failures: ["submit", "answer", "status"] });
      if (rule.fail) return answer(fault(rule.http_status === 550 ? 550 : 451, "4.3.0 Try again later"));
      answer();
    },
    onRcptTo: ({ address }, _session, answer) =>
      address.startsWith(unknownRecipient) ? answer(fault(550, "5.1.1 No such user here")) : answer(),
    onData: (stream, session, answer) => {
      const chunks: Uint8Array[] = [];
      stream.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      stream.on("end", () => {
        const raw = Buffer.concat(chunks).toString("utf8");
        const from = session.envelope.mailFrom ? session.envelope.mailFrom.address : "";
        const to = session.envelope.rcptTo.map(({ address }) => address.toLowerCase());
        data.sent.push({ from, to, raw, at: Date.now() });
        for (const address of to) {
          const mailbox = data.mailboxes[address];
          if (mailbox) deliver(mailbox, raw);
        }
        control.count("smtp_mails");
        changed();
        answer(null, "2.0.0 Ok: queued");
      });
    },
  });
}

function fault(responseCode: number, message: string): Error {
  return Object.assign(new Error(message), { responseCode });
}
