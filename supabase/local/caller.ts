// Who is calling: an API key says which application, a token which user. The same answer for every service
// behind the gateway.

import { errors, type JWTPayload, jwtVerify } from "jose";
import { jwtKey, type Keys } from "./keys.ts";

export type Caller = {
  role: string;
  claims: JWTPayload;
  /** The verified token, when the caller is a user (or holds an older kind of API key). */
  token?: string;
};

export type RefusalReason = "missing_key" | "invalid_key" | "invalid_token" | "expired_token";

export class Refusal extends Error {
  reason: RefusalReason;
  constructor(reason: RefusalReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

const anon: Caller = { role: "anon", claims: { role: "anon" } };
const service: Caller = { role: "service_role", claims: { role: "service_role" } };
const tokenRoles = new Set(["anon", "authenticated", "service_role"]);

export const bearerToken = (headers: Headers) =>
  /^Bearer\s+(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];

export async function verifyToken(token: string, keys: Keys): Promise<Caller> {
  try {
    const { payload } = await jwtVerify(token, jwtKey(keys), { algorithms: ["HS256"] });
    const role = payload.role;
    if (typeof role !== "string" || !tokenRoles.has(role)) {
      throw new Refusal("invalid_token", "The token names no role of this project.");
    }
    return { role, claims: payload, token };
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (error instanceof errors.JWTExpired) throw new Refusal("expired_token", "JWT expired");
    throw new Refusal("invalid_token", "Invalid JWT");
  }
}

async function callerOfKey(key: string, keys: Keys): Promise<Caller> {
  if (key === keys.publishableKey) return anon;
  if (key === keys.secretKey) return service;
  // An older kind of key is a token without a user.
  const legacy = key.startsWith("sb_") ? undefined : await verifyToken(key, keys).catch(() => undefined);
  if (!legacy || legacy.role === "authenticated") throw new Refusal("invalid_key", "Invalid API key");
  return legacy;
}

/**
 * The key is required (as header or query parameter) unless `keyOptional`. supabase-js repeats its key as the
 * bearer token when nobody is signed in, so only another token counts as a user's.
 */
export async function identify(
  request: Request,
  keys: Keys,
  options: { keyOptional?: boolean } = {},
): Promise<Caller> {
  const key = request.headers.get("apikey") ?? new URL(request.url).searchParams.get("apikey") ?? undefined;
  const token = bearerToken(request.headers);
  if (key === undefined) {
    if (!options.keyOptional) throw new Refusal("missing_key", "No API key found in request");
    if (token === undefined) return anon;
    return token.startsWith("sb_") ? callerOfKey(token, keys) : verifyToken(token, keys);
  }
  const base = await callerOfKey(key, keys);
  if (token === undefined || token === key || token.startsWith("sb_")) return base;
  return verifyToken(token, keys);
}
