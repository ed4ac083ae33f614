// What an attacker at the API has: fetch, supabase-js, and tokens that are not what they say.

import { createHmac } from "node:crypto";
import { expect } from "vitest";
import { type Client, must, type Person, type TestStack } from "../e2e/stack.ts";

export interface Answer {
  status: number;
  text: string;
  headers: Headers;
}

export interface Attacker extends Person {
  token: string;
  /** A request with the publishable key and the attacker's token, unless headers say otherwise. */
  send(path: string, init?: RequestInit & { headers?: Record<string, string> }): Promise<Answer>;
}

export async function attackerOf(s: TestStack, person: Person): Promise<Attacker> {
  const { data } = await person.client.auth.getSession();
  const token = data.session!.access_token;
  return {
    ...person,
    token,
    send: async (path, { headers = {}, ...init } = {}) => {
      const mine = { apikey: s.stack.publishableKey, authorization: `Bearer ${token}` };
      const response = await fetch(`${s.stack.apiUrl}${path}`, { ...init, headers: { ...mine, ...headers } });
      return { status: response.status, text: await response.text(), headers: response.headers };
    },
  };
}

const encode = (content: object) => Buffer.from(JSON.stringify(content)).toString("base64url");

/** Tokens that claim more than their maker may: unsigned, signed with what is public, cut from others. */
export function forgedTokens(token: string, publishableKey: string, victimId: string): [string, string][] {
  const [head, content, signature] = token.split(".") as [string, string, string];
  const claims = JSON.parse(Buffer.from(content, "base64url").toString());
  const service = { role: "service_role", exp: claims.exp };
  const signed = (key: string, header: object = { alg: "HS256", typ: "JWT" }) => {
    const text = `${encode(header)}.${encode(service)}`;
    return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
  };
  return [
    ["unsigned", `${encode({ alg: "none", typ: "JWT" })}.${encode(service)}.`],
    ["unsigned in another spelling", `${encode({ alg: "nOnE" })}.${encode(service)}.${signature}`],
    ["signed with an empty key", signed("")],
    ["signed with the publishable key", signed(publishableKey)],
    ["that brings its own key", signed("k", { alg: "HS256", jwk: { kty: "oct", k: "aw" } })],
    ["with another's role", `${head}.${encode({ ...claims, role: "service_role" })}.${signature}`],
    ["with another's id", `${head}.${encode({ ...claims, sub: victimId })}.${signature}`],
    ["that lives longer", `${head}.${encode({ ...claims, exp: claims.exp + 9999 })}.${signature}`],
  ];
}

/** Everything of the victim that an answer must never hold. */
export async function secretsOf(s: TestStack, victim: Person): Promise<string[]> {
  const identity = (victim.client as Client).schema("identity");
  const key = must(await identity.rpc("create_api_key", { workspace_id: victim.workspaceId, name: "k" }));
  const invited = { workspace_id: victim.workspaceId, email: "guest@example.com", role: "member" };
  must(await identity.rpc("invite_member", invited));
  const rows = await s.sql<{ secret: string }>(
    `select encode(key_hash, 'hex') as secret from identity.api_keys where workspace_id = $1
    union all select encode(token_hash, 'hex') from identity.workspace_invitations where workspace_id = $1
    union all select d.email from identity.personal_details d where d.user_id = $2
    union all select d.referral_code from identity.personal_details d where d.user_id = $2`,
    [victim.workspaceId, victim.userId],
  );
  return [victim.workspaceId, (key as { key: string }).key, ...rows.map(({ secret }) => secret)];
}

/** The answer holds none of the secrets and is no failure of ours. */
export function expectNothing({ status, text }: Answer, secrets: string[], what: string): void {
  for (const secret of secrets) expect(text, what).not.toContain(secret);
  expect(status, `${what}: ${text}`).toBeLessThan(500);
}
/** Headers that choose a schema. */
export const profile = (schema: string) => ({ "accept-profile": schema, "content-profile": schema });
/** A POST of JSON to a schema. */
export const json = (body: unknown, schema: string, more: Record<string, string> = {}) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "content-type": "application/json", ...profile(schema), ...more },
});
