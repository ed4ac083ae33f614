// The HTTP side: Resend's sending, and what tests and developers look at. Source: resend-openapi, resend.yaml.

import { randomUUID } from "node:crypto";
import { type Context, Hono } from "hono";
import { z } from "zod";
import { type Control, controlRoutes } from "../control.ts";
import { deliver, type MailData, openMailbox, renumber } from "./state.ts";

export interface MailApp {
  data: MailData;
  changed: () => void;
  control: Control;
  /** Once both listen. */
  ports: () => Promise<{ smtp: number; imap: number }>;
}

const email = z.looseObject({
  from: z.string().min(1),
  to: z.union([z.string(), z.array(z.string()).max(50)]),
  subject: z.string().min(1),
});
const mailbox = z.object({ email: z.string(), password: z.string() });
const incoming = z.object({ to: z.string(), raw: z.string() });

export function createMailApp({ data, changed, control, ports }: MailApp): Hono {
  const app = new Hono();
  app.route("/", controlRoutes(control));

  app.post("/emails", async (c) => {
    const rule = control.take("api", { failures: ["submit", "answer", "status"] });
    const status = rule.fail ? (rule.http_status ?? 500) : undefined;
    if (status === 429) {
      c.header("retry-after", String(rule.retry_after ?? 1));
      return refuse(c, 429, "rate_limit_exceeded", "Too many requests.");
    }
    if (status) return refuse(c, status, "application_error", "An unexpected error occurred.");
    if (c.req.header("authorization") !== `Bearer ${data.resendKey}`) {
      return refuse(c, 401, "missing_api_key", "Missing API key in the authorization header.");
    }
    const body = await c.req.text();
    const parsed = email.safeParse(parseJson(body));
    if (!parsed.success) return refuse(c, 422, "validation_error", z.prettifyError(parsed.error));
    const key = c.req.header("idempotency-key") ?? null;
    const known = key === null ? undefined : data.resend.find((mail) => mail.key === key);
    if (known && known.body !== body) {
      return refuse(c, 409, "invalid_idempotent_request", "The key was used with another payload.");
    }
    if (known) return c.json({ id: known.id });
    const mail = { id: randomUUID(), at: Date.now(), key, body };
    data.resend.push(mail);
    control.count("resend_mails");
    changed();
    return c.json({ id: mail.id });
  });

  app.get("/_mail", async (c) =>
    c.json({ ...(await ports()), mailboxes: data.mailboxes, sent: data.sent, resend: data.resend }),
  );
  app.post("/_mail/mailboxes", async (c) => {
    const { email, password } = mailbox.parse(await c.req.json());
    openMailbox(data, email, password);
    changed();
    return c.json(await ports());
  });
  app.post("/_mail/deliver", async (c) => {
    const { to, raw } = incoming.parse(await c.req.json());
    const box = data.mailboxes[to.toLowerCase()];
    if (!box) return c.json({ error: "There is no such mailbox." }, 404);
    const { uid } = deliver(box, raw);
    changed();
    return c.json({ uid });
  });
  app.post("/_mail/renumber/:email", (c) => {
    renumber(data.mailboxes[c.req.param("email").toLowerCase()]!);
    changed();
    return c.json({ renumbered: true });
  });
  return app;
}

function refuse(c: Context, statusCode: number, name: string, message: string): Response {
  return c.json({ statusCode, name, message }, statusCode as 400);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
