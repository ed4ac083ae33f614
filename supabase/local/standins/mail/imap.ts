// The IMAP side: one folder, INBOX, to sign in to, look at, search by UID and read from. What else the protocol has is
// answered with BAD. Source: RFC 3501 (IMAP4rev1).

import { createServer, type Server, type Socket } from "node:net";
import type { Control } from "../control.ts";
import type { Mailbox, MailData, MailMessage } from "./state.ts";

const capabilities = "IMAP4rev1 AUTH=PLAIN SASL-IR";

export function createImap(data: MailData, changed: () => void, control: Control): Server {
  return createServer((socket) => {
    const session = new Session(socket, data, changed, control);
    socket.setEncoding("utf8");
    socket.on("error", () => socket.destroy());
    socket.write(`* OK [CAPABILITY ${capabilities}] ready\r\n`);
    let pending = "";
    socket.on("data", (text: string) => {
      pending += text;
      for (let end = pending.indexOf("\r\n"); end >= 0; end = pending.indexOf("\r\n")) {
        const line = pending.slice(0, end);
        pending = pending.slice(end + 2);
        session.take(line);
      }
    });
  });
}

class Session {
  #socket: Socket;
  #data: MailData;
  #changed: () => void;
  #control: Control;
  #user: string | undefined;
  #open: Mailbox | undefined;
  #readOnly = false;
  /** The tag of an AUTHENTICATE whose answer comes on the next line. */
  #authenticating: string | undefined;
  /** A command whose last argument is a literal that follows. */
  #literal: { before: string } | undefined;

  constructor(socket: Socket, data: MailData, changed: () => void, control: Control) {
    this.#socket = socket;
    this.#data = data;
    this.#changed = changed;
    this.#control = control;
  }

  take(line: string): unknown {
    if (this.#authenticating) {
      const tag = this.#authenticating;
      this.#authenticating = undefined;
      return this.#signIn(tag, ...plainOf(line));
    }
    const whole = this.#literal ? `${this.#literal.before}${quoted(line)}` : line;
    this.#literal = undefined;
    const [, before, size] = /^(.*)\{(\d+)\}$/.exec(whole) ?? [];
    if (before !== undefined && size !== undefined) {
      this.#literal = { before };
      this.#socket.write("+ go on\r\n");
      return;
    }
    const [tag = "*", name = "", ...rest] = whole.split(" ");
    this.#run(tag, name.toUpperCase(), rest.join(" "));
  }

  #say(...lines: string[]): boolean {
    return this.#socket.write(lines.map((line) => `${line}\r\n`).join(""));
  }

  #signIn(tag: string, user = "", password = ""): unknown {
    this.#control.count("imap_sign_ins");
    if (this.#data.mailboxes[user.toLowerCase()]?.password !== password) {
      return this.#say(`${tag} NO [AUTHENTICATIONFAILED] Authentication failed.`);
    }
    this.#user = user.toLowerCase();
    this.#say(`${tag} OK [CAPABILITY ${capabilities}] Logged in`);
  }

  #run(tag: string, name: string, rest: string): unknown {
    this.#control.count("imap_commands", name);
    const done = (...lines: string[]) => this.#say(...lines, `${tag} OK ${name} completed`);
    switch (name) {
      case "CAPABILITY":
        return done(`* CAPABILITY ${capabilities}`);
      case "NOOP":
      case "CHECK":
        return done();
      case "LOGOUT":
        this.#say("* BYE signing off", `${tag} OK LOGOUT completed`);
        this.#socket.end();
        return;
      case "LOGIN":
        return this.#signIn(tag, ...wordsOf(rest));
      case "AUTHENTICATE": {
        const [mechanism, initial] = rest.split(" ");
        if (mechanism?.toUpperCase() !== "PLAIN") return this.#say(`${tag} NO unknown mechanism`);
        if (initial) return this.#signIn(tag, ...plainOf(initial));
        this.#authenticating = tag;
        return this.#say("+ ");
      }
    }
    const mailbox = this.#user === undefined ? undefined : this.#data.mailboxes[this.#user];
    if (!mailbox) return this.#say(`${tag} NO sign in first`);
    switch (name) {
      case "LIST":
      case "LSUB":
        return done(`* ${name} (\\HasNoChildren) "/" "INBOX"`);
      case "SELECT":
      case "EXAMINE":
        if (wordsOf(rest)[0]?.toUpperCase() !== "INBOX") return this.#say(`${tag} NO no such folder`);
        this.#open = mailbox;
        this.#readOnly = name === "EXAMINE";
        return this.#say(
          "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
          `* ${mailbox.messages.length} EXISTS`,
          "* 0 RECENT",
          `* OK [UIDVALIDITY ${mailbox.uidValidity}] UIDs valid`,
          `* OK [UIDNEXT ${mailbox.uidNext}] Predicted next UID`,
          `${tag} OK [READ-${this.#readOnly ? "ONLY" : "WRITE"}] ${name} completed`,
        );
      case "CLOSE":
      case "UNSELECT":
        this.#open = undefined;
        return done();
      case "UID": {
        const [command = "", ...more] = rest.split(" ");
        if (!this.#open) return this.#say(`${tag} NO open a folder first`);
        if (command.toUpperCase() === "SEARCH") {
          return done(`* SEARCH ${search(this.#open, more).join(" ")}`.trimEnd());
        }
        if (command.toUpperCase() === "FETCH") {
          this.#fetch(this.#open, more[0] ?? "", more.slice(1).join(" "));
          return done();
        }
      }
    }
    this.#say(`${tag} BAD unknown command`);
  }

  #fetch(mailbox: Mailbox, set: string, items: string): void {
    const [, start, length] = /BODY(?:\.PEEK)?\[\](?:<(\d+)\.(\d+)>)?/i.exec(items) ?? [];
    const wantsBody = /BODY(\.PEEK)?\[\]/i.test(items);
    mailbox.messages.forEach((message, index) => {
      if (!inSet(set, message.uid, mailbox.uidNext - 1)) return;
      const body = Buffer.from(message.raw, "utf8");
      if (wantsBody && !/PEEK/i.test(items) && !this.#readOnly) {
        message.seen = true;
        this.#changed();
      }
      const facts = [
        `UID ${message.uid}`,
        `FLAGS (${message.seen ? "\\Seen" : ""})`,
        `INTERNALDATE "${internalDate(message)}"`,
        `RFC822.SIZE ${body.length}`,
      ];
      this.#socket.write(`* ${index + 1} FETCH (${facts.join(" ")}`);
      if (wantsBody) {
        const part =
          length === undefined ? body : body.subarray(Number(start), Number(start) + Number(length));
        this.#socket.write(` BODY[]${length === undefined ? "" : `<${start}>`} {${part.length}}\r\n`);
        this.#socket.write(part);
      }
      this.#socket.write(")\r\n");
    });
  }
}

/** SASL PLAIN: [authorize as] NUL user NUL password, in base64 (RFC 4616). */
function plainOf(base64: string): [string, string] {
  const [, user = "", password = ""] = Buffer.from(base64, "base64").toString("utf8").split("\0");
  return [user, password];
}

const quoted = (text: string) => `"${text.replace(/["\\]/g, "\\$&")}"`;

function wordsOf(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, inQuotes, plain]) =>
    inQuotes === undefined ? plain! : inQuotes.replace(/\\(.)/g, "$1"),
  );
}

/** "5:9", "3", "7:*", and lists of these. n:* always names the last one too. */
function inSet(set: string, value: number, last: number): boolean {
  return set.split(",").some((part) => {
    const [from = 0, to] = part.split(":").map((end) => (end === "*" ? last : Number(end)));
    return to === undefined ? value === from : value >= Math.min(from, to) && value <= Math.max(from, to);
  });
}

/** UIDs by UID or by place: "UID 5:*", "3:*", "ALL". */
function search({ messages, uidNext }: Mailbox, words: string[]): number[] {
  const [first = "ALL", second = ""] = words;
  if (first.toUpperCase() === "UID") {
    return messages.filter(({ uid }) => inSet(second, uid, uidNext - 1)).map(({ uid }) => uid);
  }
  const all = first.toUpperCase() === "ALL";
  return messages.filter((_, index) => all || inSet(first, index + 1, messages.length)).map(({ uid }) => uid);
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function internalDate({ at }: MailMessage): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  const time = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map(two).join(":");
  return `${two(date.getUTCDate())}-${months[date.getUTCMonth()]}-${date.getUTCFullYear()} ${time} +0000`;
}
