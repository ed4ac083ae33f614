// Access tokens as the hosted platform gives them: with what the service and the person have said of themselves, which
// row security may go by. @supabase/lite leaves it out.

import { decodeJwt, SignJWT } from "jose";
import { z } from "zod";
import { jwtKey, type Keys } from "./keys.ts";

const metadata = z.record(z.string(), z.unknown()).default({});
const session = z.looseObject({
  access_token: z.string(),
  user: z.looseObject({
    phone: z.string().nullish(),
    is_anonymous: z.boolean().default(false),
    app_metadata: metadata,
    user_metadata: metadata,
  }),
});

/** An answer of the auth service; the token of a session in it is signed anew with the platform's claims. */
export async function withPlatformClaims(response: Response, keys: Keys): Promise<Response> {
  if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) return response;
  const parsed = session.safeParse(await response.clone().json());
  if (!parsed.success) return response;
  const { access_token, user } = parsed.data;
  const claims = {
    ...decodeJwt(access_token),
    phone: user.phone ?? "",
    app_metadata: user.app_metadata,
    user_metadata: user.user_metadata,
    is_anonymous: user.is_anonymous,
    aal: "aal1",
  };
  const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(jwtKey(keys));
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return Response.json({ ...parsed.data, access_token: token }, { status: response.status, headers });
}
