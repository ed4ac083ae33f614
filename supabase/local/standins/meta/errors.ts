// Errors as the Graph API answers them. Source: https://developers.facebook.com/docs/graph-api/guides/error-handling.

import { randomBytes } from "node:crypto";
import type { Context } from "hono";

export type GraphError = {
  code: number;
  message: string;
  subcode?: number;
  status?: number;
  transient?: boolean;
};

export function refuse(c: Context, { code, message, subcode, status = 400, transient }: GraphError) {
  const error = {
    message: `(#${code}) ${message}`,
    type: code === 190 ? "OAuthException" : "IGApiException",
    code,
    ...(subcode !== undefined && { error_subcode: subcode }),
    ...(transient && { is_transient: true }),
    fbtrace_id: `A${randomBytes(12).toString("base64url")}`,
  };
  return c.json({ error }, status as 400);
}
