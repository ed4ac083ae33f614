// What the mail function takes and answers.

import { z } from "zod";

/**
 * Body of `PUT /mail/password`: the password of a mail account, for its servers alone. It is sealed at once, and the
 * account is tested; its `status` says what came of it.
 */
export const mailPassword = z.object({ account_id: z.uuid(), password: z.string().min(1).max(1000) });
export type MailPassword = z.infer<typeof mailPassword>;

/** Its answer. */
export const mailPasswordKept = z.object({ account_id: z.string(), status: z.string() });
export type MailPasswordKept = z.infer<typeof mailPasswordKept>;
