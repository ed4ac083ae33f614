// The keys of one local project: random for each data folder, readable by its owner only.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SignJWT } from "jose";
import { z } from "zod";

const keysSchema = z.object({
  publishableKey: z.string().startsWith("sb_publishable_"),
  secretKey: z.string().startsWith("sb_secret_"),
  /** Signs and verifies every token: HS256. */
  jwtSecret: z.string().min(32),
  /** What functions get as ENCRYPTION_KEYS: {key_id: base64 of 32 bytes}. */
  encryptionKeys: z.record(z.string(), z.string()),
});

export type Keys = z.infer<typeof keysSchema>;

function randomKeys(): Keys {
  return {
    publishableKey: `sb_publishable_${randomBytes(24).toString("base64url")}`,
    secretKey: `sb_secret_${randomBytes(24).toString("base64url")}`,
    jwtSecret: randomBytes(48).toString("base64url"),
    encryptionKeys: { local1: randomBytes(32).toString("base64") },
  };
}

export function loadKeys(dataDir: string): Keys {
  const file = path.join(dataDir, "keys.json");
  if (existsSync(file)) return keysSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  const keys = randomKeys();
  // Written beside and renamed, so that a crash cannot leave half a file.
  writeFileSync(`${file}.new`, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return keys;
}

export const jwtKey = (keys: Keys) => new TextEncoder().encode(keys.jwtSecret);

/** The older form of an API key, a token that names its role; the platform still hands them to functions. */
export function legacyApiKey(keys: Keys, role: "anon" | "service_role"): Promise<string> {
  return new SignJWT({ role, iss: "supabase", ref: "local" })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuedAt()
    .setExpirationTime("10y")
    .sign(jwtKey(keys));
}
