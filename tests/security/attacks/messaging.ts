import { type Attack, add, has, type Scene, there } from "./attack.ts";

const servers = { imap_host: "imap.example.com", smtp_host: "smtp.example.com" };

export async function ownMessaging(scene: Scene): Promise<void> {
  const { ids, db, victim } = scene;
  const settings = { email: "info@example.com", ...servers };
  ids.mailAccount = (await has(scene, "messaging.save_email_account", { ...there(scene), settings })).id;
  const [mail] = await db.query(
    `insert into messaging.email_messages (account_id, direction, status, to_addresses, subject)
      values ($1, 'out', 'queued', '{a@b.example}', 'Hello') returning id`,
    [ids.mailAccount],
  );
  ids.mail = mail!.id;
  ids.form = await add(
    scene,
    `insert into messaging.contact_submissions (name, email, message, user_id) select 'Vi', 'vi@example.com', 'Hello', $2
      where $1::uuid is not null`,
    [victim.id],
  );
}

const account = ({ ids }: Scene) => ({ account_id: ids.mailAccount });

export const messaging: Attack[] = [
  ["private.cancel_email", ({ ids }) => ({ message_id: ids.mail }), "unknown_mail"],
  ["private.check_email", account, "unknown_mail_account"],
  ["private.may_change_email_account", account, "unknown_mail_account"],
  [
    "private.save_email_account",
    (s) => ({ ...account(s), workspace_id: null, settings: { smtp_host: "smtp.thief.example" } }),
    "unknown_mail_account",
  ],
  [
    "private.save_email_account",
    (s) => ({ ...there(s), account_id: null, settings: { email: "thief@example.com", ...servers } }),
    "unknown_workspace",
  ],
  [
    "private.send_email",
    (s) => ({
      ...account(s),
      to_addresses: [s.thief.email],
      subject: "Hello",
      text_body: "x",
      html_body: null,
      cc_addresses: [],
      bcc_addresses: [],
      reply_to_message: null,
      key: null,
    }),
    "unknown_mail_account",
  ],
  [
    "private.set_email_account_role",
    (s) => ({ ...account(s), user_id: s.thief.id, role: "owner" }),
    "unknown_mail_account",
  ],
  ["private.test_email_account", account, "unknown_mail_account"],
  [
    "private.answer_contact",
    ({ ids }) => ({ submission_id: ids.form, response: "x", response_type: "email" }),
    "unknown_submission",
  ],
];
