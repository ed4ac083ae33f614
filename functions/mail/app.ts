import type { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { type MailPasswordKept, mailPassword } from "../../types/contracts-mail.ts";
import { createBase, crossOrigin, limitBody, parseBody } from "../_shared/app.ts";
import type { Database } from "../_shared/db.ts";
import type { Vault } from "../_shared/encryption.ts";
import type { Log } from "../_shared/log.ts";
import { keepPassword } from "../_shared/sql/mail.ts";
import type { Backend } from "./backend.ts";

export interface Deps {
  db: Database;
  vault: Vault;
  backend: Backend;
  log: Log;
}

/**
 * PUT /mail/password: takes the password of a mail account from one of its admins, seals it and has the account tested.
 * Errors: not_signed_in (401), unknown_mail_account (404), mail_role_too_low (403), invalid_json, invalid_argument (400).
 */
export function createApp({ db, vault, backend, log }: Deps): Hono {
  const app = createBase("mail", log);
  app.use(crossOrigin(["PUT"]), secureHeaders({ crossOriginResourcePolicy: "cross-origin" }));
  app.put("/password", limitBody(16 * 1024), async (c) => {
    const { account_id, password } = parseBody(mailPassword, await c.req.text());
    await backend.mayChange(c.req.header("authorization"), account_id);
    const { status } = await keepPassword(db, vault, account_id, password);
    return c.json({ account_id, status } satisfies MailPasswordKept);
  });
  return app;
}
