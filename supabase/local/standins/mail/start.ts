import { once } from "node:events";
import type { AddressInfo, Server, Socket } from "node:net";
import { Control } from "../control.ts";
import type { Started } from "../stand-in.ts";
import { Store } from "../store.ts";
import { createMailApp } from "./app.ts";
import { createImap } from "./imap.ts";
import { createSmtp } from "./smtp.ts";
import { emptyMailData, type MailData } from "./state.ts";

type MailStandIn = Started<MailData> & { control: Control; resume(): void };

/** Resend over HTTP; SMTP and IMAP on free ports of their own, which GET /_mail tells. */
export function startMail({ path }: { path: string }): MailStandIn {
  const store = new Store(path, emptyMailData);
  const { data } = store;
  const control = new Control("answer");
  const changed = () => store.changed();
  const smtp = createSmtp(data, changed, control);
  const imap = createImap(data, changed, control);
  // A client that never says goodbye must not keep a stop waiting.
  const open = new Set<Socket>();
  for (const server of [smtp.server, imap]) {
    server.on("connection", (socket: Socket) => {
      open.add(socket);
      socket.once("close", () => open.delete(socket));
    });
  }
  const listening = Promise.all([once(smtp.server, "listening"), once(imap, "listening")]);
  return {
    app: createMailApp({
      data,
      changed,
      control,
      ports: async () => {
        await listening;
        return { smtp: portOf(smtp.server), imap: portOf(imap) };
      },
    }),
    data,
    control,
    env: (url) => ({
      RESEND_API_URL: url,
      RESEND_API_KEY: data.resendKey,
      MAIL_FROM: "Backlot <hello@backlot.test>",
      MAIL_ALLOW_LOCAL: "true",
    }),
    resume: () => {
      smtp.listen(0, "127.0.0.1");
      imap.listen(0, "127.0.0.1");
    },
    close: async () => {
      const closed = Promise.all([
        new Promise<void>((resolve) => (smtp.server.listening ? smtp.close(() => resolve()) : resolve())),
        new Promise<void>((resolve) => (imap.listening ? imap.close(() => resolve()) : resolve())),
      ]);
      for (const socket of open) socket.destroy();
      await closed;
      store.flush();
    },
  };
}

const portOf = (server: Server) => (server.address() as AddressInfo | null)?.port ?? 0;
